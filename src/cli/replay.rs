//! `kvick replay`: a request trace through the real cache and its policies.
use super::{output, replay_engine};
use anyhow::Context;
use kvick::kv::chart;
use kvick::kv::curve::{CurveConfig, CurveReport, WhatIf};
use kvick::kv::policy::Kind;
use kvick::kv::replay::{Row, replay, replay_watched};
use kvick::kv::trace::{BLOCK_TOKENS, Trace};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A trace in Mooncake's format: JSON lines with timestamp, input_length, output_length and hash_ids
    trace: PathBuf,
    /// Blocks that the cache may hold
    #[arg(long, value_delimiter = ',', default_value = "1000,3000,10000,30000")]
    capacity: Vec<usize>,
    /// Which policies, of lru, lfu, perfect-lfu, arc, s3-fifo, belady and kvick
    #[arg(long, value_delimiter = ',', default_value = "lru,lfu,perfect-lfu,arc,s3-fifo,belady,kvick")]
    policy: Vec<Kind>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Draw hit rate over capacity, or with --engine the times to the first token, into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also replay one cache of our policy and so many blocks that estimates, while it serves, what the other capacities and
    /// policies would find [without a number: the middle one of the capacities]
    #[arg(long, value_name = "BLOCKS", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    curve: Option<usize>,
    /// Serve the requests with the real scheduler on a device that only keeps time, without a cache and with each further tier
    #[arg(long, conflicts_with_all = ["capacity", "policy"])]
    engine: bool,
    #[command(flatten)]
    machine: replay_engine::Machine,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if args.engine {
        let (curve, svg) = (args.curve.is_some(), args.svg.as_deref());
        return replay_engine::run(&args.trace, &args.machine, curve, args.json, svg);
    }
    let trace = Trace::open(&args.trace)?;
    let mut rows = Vec::new();
    if !args.json {
        let (requests, references, distinct) = (trace.len(), trace.references(), trace.distinct());
        output::line(format_args!("{requests} requests, {references} block references, {distinct} blocks"))?;
        output::line(format_args!("policy       capacity   hits %   first half  second half   seconds"))?;
    }
    for &policy in &args.policy {
        for &capacity in &args.capacity {
            let row = replay(&trace, policy, capacity);
            if !args.json {
                output::line(text(&row))?;
            }
            rows.push(row);
        }
    }
    let curve = args.curve.map(|blocks| {
        let mut sorted = args.capacity.clone();
        sorted.sort_unstable();
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(10_000);
        let config = CurveConfig::new(Kind::Kvick, if blocks == 0 { middle } else { blocks }, BLOCK_TOKENS);
        replay_watched(&trace, CurveConfig { others: args.capacity.clone(), ..config }).1
    });
    if let (Some(curve), false) = (&curve, args.json) {
        show(curve, &rows)?;
    }
    if let Some(path) = &args.svg {
        let name = args.trace.file_name().unwrap_or_default().to_string_lossy();
        std::fs::write(path, chart::svg(&name, &rows, curve.as_ref())).with_context(|| path.display().to_string())?;
    }
    if args.json {
        let mut object = serde_json::json!({ "trace": args.trace.display().to_string(), "rows": rows });
        if let Some(curve) = curve {
            object["curve"] = serde_json::json!(curve);
        }
        output::json(&object)?;
    }
    Ok(())
}

fn show(curve: &CurveReport, rows: &[Row]) -> anyhow::Result<()> {
    let CurveReport { actual, references, sampled, .. } = curve;
    let share = 100.0 * *sampled as f64 / (*references).max(1) as f64;
    output::line(format_args!(
        "\nlive curve of kvick with {} blocks, which found {:.2} %; {share:.1} % of the references sampled",
        actual.pages, actual.hit_percent
    ))?;
    output::line("policy       capacity  would be   replayed   error")?;
    for WhatIf { policy, pages, hit_percent } in &curve.points {
        let row = rows.iter().find(|row| row.policy == *policy && row.capacity == *pages);
        let known = row.map(|row| format!("{:>10.2} {:>7.2}", row.hit_percent, hit_percent - row.hit_percent));
        output::line(format_args!("{policy:<12} {pages:>8} {hit_percent:>9.2} {}", known.unwrap_or_default()))?;
    }
    let regret: Vec<String> = curve.regret.iter().map(|(policy, points)| format!("{policy} {points:+.2}")).collect();
    output::line(format_args!("with another policy, points more or less: {}", regret.join(", ")))
}

fn text(row: &Row) -> String {
    let Row { policy, capacity, hit_percent, half_percent: [first, second], seconds } = row;
    format!("{policy:<12} {capacity:>8} {hit_percent:>8.2} {first:>12.2} {second:>12.2} {seconds:>9.3}")
}
