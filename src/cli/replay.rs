//! `kvick replay`: a request trace through the real cache and its policies.
use super::output;
use anyhow::Context;
use kvick::kv::policy::Kind;
use kvick::kv::replay::{Row, replay};
use kvick::kv::{chart, trace::Trace};
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
    /// Draw hit rate over capacity into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
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
    if let Some(path) = &args.svg {
        let name = args.trace.file_name().unwrap_or_default().to_string_lossy();
        std::fs::write(path, chart::svg(&name, &rows)).with_context(|| path.display().to_string())?;
    }
    if args.json {
        output::json(&serde_json::json!({ "trace": args.trace.display().to_string(), "rows": rows }))?;
    }
    Ok(())
}

fn text(row: &Row) -> String {
    let Row { policy, capacity, hit_percent, half_percent: [first, second], seconds } = row;
    format!("{policy:<12} {capacity:>8} {hit_percent:>8.2} {first:>12.2} {second:>12.2} {seconds:>9.3}")
}
