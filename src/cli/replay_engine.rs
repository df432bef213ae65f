//! `kvick replay --engine`: a request trace through the real scheduler and cache on a virtual clock.
use super::output;
use kvick::engine::replay::{ReplayConfig, Replayed, replay};
use kvick::kv::trace::Trace;
use std::path::Path;

/// The machine that is imagined.
#[derive(Debug, clap::Args)]
pub struct Machine {
    /// KV pages of the device, 16 tokens each
    #[arg(long, value_name = "N", requires = "engine", default_value_t = ReplayConfig::default().device_pages)]
    device_pages: usize,
    /// Prompt tokens that the device computes in a second
    #[arg(long, value_name = "X", requires = "engine", default_value_t = ReplayConfig::default().prefill_tokens_per_s)]
    prefill_tokens_per_s: f64,
    /// Tokens that each answer is given in a second while no prompt is computed
    #[arg(long, value_name = "Y", requires = "engine", default_value_t = ReplayConfig::default().decode_tokens_per_s)]
    decode_tokens_per_s: f64,
}

#[derive(serde::Serialize)]
struct Row {
    /// Where KV is kept.
    tiers: &'static str,
    #[serde(flatten)]
    replayed: Replayed,
}

/// Replays without a cache and with each further tier. `curve`: the cache on the device estimates others.
pub fn run(path: &Path, machine: &Machine, curve: bool, json: bool) -> anyhow::Result<()> {
    let trace = Trace::open(path)?;
    let device = ReplayConfig {
        device_pages: machine.device_pages,
        prefill_tokens_per_s: machine.prefill_tokens_per_s,
        decode_tokens_per_s: machine.decode_tokens_per_s,
        curve,
        ..ReplayConfig::default()
    };
    let none = ReplayConfig { prefix_cache: false, curve: false, ..device.clone() };
    if !json {
        output::line(
            "cache          requests  hits %   TTFT s: p50     p90     p99   answer tokens/s: p50    p10     p1   tokens/s   seconds",
        )?;
    }
    let mut rows = Vec::new();
    for (tiers, config) in [("none", none), ("device", device)] {
        let replayed = replay(&trace, &config)?;
        if !json {
            output::line(text(tiers, &replayed))?;
        }
        rows.push(Row { tiers, replayed });
    }
    if json {
        output::json(&serde_json::json!({ "trace": path.display().to_string(), "engine": rows }))?;
    }
    Ok(())
}

fn text(tiers: &str, replayed: &Replayed) -> String {
    let Replayed { requests, ttft, answer_tokens_per_s: speed, tokens_per_s, hit_percent, seconds, .. } = replayed;
    format!(
        "{tiers:<14} {requests:>8} {hit_percent:>7.2} {:>13.2} {:>7.2} {:>7.2} {:>23.1} {:>6.1} {:>6.1} {tokens_per_s:>10.0} {seconds:>9.2}",
        ttft.p50, ttft.p90, ttft.p99, speed.p50, speed.p10, speed.p1
    )
}
