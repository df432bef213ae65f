//! `kvick replay --engine`: a request trace through the real scheduler, cache and tiers on a virtual clock.
use super::output;
use anyhow::Context;
use kvick::engine::replay::{ReplayConfig, Replayed, VirtualTier, replay};
use kvick::kv::chart::{self, Spread};
use kvick::kv::trace::Trace;
use std::path::Path;

/// The machine that is imagined. Without numbers: 16 tokens a page of 2 MiB, as of a model of 8 billion parameters.
#[derive(Debug, clap::Args)]
pub struct Machine {
    /// KV pages of the device
    #[arg(long, value_name = "N", requires = "engine", default_value_t = ReplayConfig::default().device_pages)]
    device_pages: usize,
    /// KV pages of the host tier; 0 for none
    #[arg(long, value_name = "N", requires = "engine", default_value_t = 100_000)]
    host_pages: usize,
    /// KV pages of the disk tier; 0 for none
    #[arg(long, value_name = "N", requires = "engine", default_value_t = 1_000_000)]
    disk_pages: usize,
    /// Tokens of a page
    #[arg(long, value_name = "N", requires = "engine", default_value_t = ReplayConfig::default().page_tokens)]
    page_tokens: usize,
    /// Bytes of a page, by which copies and stores take time
    #[arg(long, value_name = "BYTES", requires = "engine", default_value_t = ReplayConfig::default().page_bytes)]
    page_bytes: u64,
    /// Prompt tokens that the device computes in a second
    #[arg(long, value_name = "X", requires = "engine", default_value_t = ReplayConfig::default().prefill_tokens_per_s)]
    prefill_tokens_per_s: f64,
    /// Tokens that each answer is given in a second while no prompt is computed
    #[arg(long, value_name = "Y", requires = "engine", default_value_t = ReplayConfig::default().decode_tokens_per_s)]
    decode_tokens_per_s: f64,
    /// Bytes copied between the device and host memory in a second, in each direction
    #[arg(long, value_name = "Z", requires = "engine", default_value_t = ReplayConfig::default().copy_bytes_per_s)]
    copy_bytes_per_s: f64,
    /// Bytes that the disk reads or writes in a second
    #[arg(long, value_name = "Z", requires = "engine", default_value_t = 6e9)]
    disk_bytes_per_s: f64,
    /// Bytes that the shared store reads or writes in a second
    #[arg(long, value_name = "Z", requires = "engine", default_value_t = 3e9)]
    store_bytes_per_s: f64,
    /// Milliseconds that a call to the shared store takes beside that
    #[arg(long, value_name = "MS", requires = "engine", default_value_t = 1.0)]
    store_latency_ms: f64,
    /// Requests come so many times as fast as the trace says
    #[arg(long, value_name = "TIMES", requires = "engine", default_value_t = 1.0)]
    speed: f64,
}

#[derive(serde::Serialize)]
struct Row {
    /// Where KV is kept.
    cache: &'static str,
    #[serde(flatten)]
    replayed: Replayed,
}

impl Machine {
    /// Without a cache, with the device's, and with each further tier.
    fn configs(&self, curve: bool) -> Vec<(&'static str, ReplayConfig)> {
        let mut config = ReplayConfig {
            device_pages: self.device_pages,
            page_tokens: self.page_tokens,
            page_bytes: self.page_bytes,
            prefill_tokens_per_s: self.prefill_tokens_per_s,
            decode_tokens_per_s: self.decode_tokens_per_s,
            copy_bytes_per_s: self.copy_bytes_per_s,
            speed: self.speed,
            curve,
            ..ReplayConfig::default()
        };
        let blank = ReplayConfig { prefix_cache: false, curve: false, ..config.clone() };
        let mut configs = vec![("none", blank), ("device", config.clone())];
        for tier in self.tiers() {
            config.tiers.push(tier);
            configs.push((tier.name, config.clone()));
        }
        configs
    }

    fn tiers(&self) -> impl Iterator<Item = VirtualTier> {
        let host =
            VirtualTier { name: "host", pages: Some(self.host_pages), bytes_per_s: f64::INFINITY, latency_s: 0.0 };
        let disk = VirtualTier {
            name: "disk",
            pages: Some(self.disk_pages),
            bytes_per_s: self.disk_bytes_per_s,
            latency_s: 0.0,
        };
        let store = VirtualTier {
            name: "store",
            pages: None,
            bytes_per_s: self.store_bytes_per_s,
            latency_s: self.store_latency_ms / 1000.0,
        };
        [host, disk, store].into_iter().filter(|tier| tier.pages != Some(0))
    }
}

/// Replays without a cache and with each further tier. `curve`: the cache on the device estimates others. `svg` gets a picture
/// of the times to the first token.
pub fn run(path: &Path, machine: &Machine, curve: bool, json: bool, svg: Option<&Path>) -> anyhow::Result<()> {
    let trace = Trace::open(path)?;
    if !json {
        output::line(HEAD)?;
    }
    let mut rows = Vec::new();
    for (cache, config) in machine.configs(curve) {
        let replayed = replay(&trace, &config)?;
        if !json {
            output::line(text(cache, &replayed))?;
        }
        rows.push(Row { cache, replayed });
    }
    if let Some(file) = svg {
        let of = |row: &Row| {
            let ttft = row.replayed.ttft;
            let name =
                if matches!(row.cache, "none" | "device") { row.cache.into() } else { format!("+ {}", row.cache) };
            Spread { name, values: [ttft.p1, ttft.p10, ttft.p50, ttft.p90, ttft.p99] }
        };
        let rows: Vec<Spread> = rows.iter().map(of).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let title = format!("Seconds to the first token, {name}");
        std::fs::write(file, chart::spreads(&title, &rows)).with_context(|| file.display().to_string())?;
    }
    if json {
        output::json(&serde_json::json!({ "trace": path.display().to_string(), "engine": rows }))?;
    }
    Ok(())
}

const HEAD: &str = "\
cache     hits %  TTFT s: p50     p90     p99  answer tokens/s: p50    p10  tokens/s  computed M  GB down      up  tokens M by tier";

fn text(cache: &str, replayed: &Replayed) -> String {
    let Replayed { ttft, answer_tokens_per_s: speed, tokens_per_s, hit_percent, prefill_tokens, copied_bytes, .. } =
        replayed;
    let name = if matches!(cache, "none" | "device") { cache.into() } else { format!("+ {cache}") };
    let tiers: Vec<String> =
        replayed.tiers.iter().map(|tier| format!("{} {:.2}", tier.name, tier.hit_tokens as f64 / 1e6)).collect();
    let [down, up] = copied_bytes.map(|bytes| bytes as f64 / 1e9);
    format!(
        "{name:<8} {hit_percent:>7.2} {:>12.2} {:>7.2} {:>7.2} {:>21.1} {:>6.1} {tokens_per_s:>9.0} {:>11.1} {down:>8.0} {up:>7.0}  {}",
        ttft.p50,
        ttft.p90,
        ttft.p99,
        speed.p50,
        speed.p10,
        *prefill_tokens as f64 / 1e6,
        tiers.join(", ")
    )
}
