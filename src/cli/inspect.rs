//! `kvick inspect`: what is in a model file, and the device memory that it would need.
use super::model::{EngineArgs, open_file};
use super::output;
use kvick::backend::DType;
use kvick::models::{self, ModelConfig};
use kvick::weights::ModelFile;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file, a checkpoint folder, or the name of a model
    file: Option<String>,
    #[command(flatten)]
    engine: EngineArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Count and bytes of the tensors of each type.
type Types = BTreeMap<DType, (usize, u64)>;

pub fn run(mut args: Args) -> anyhow::Result<()> {
    if let Some(file) = args.file.take() {
        args.engine.model.model = file;
    }
    let path = args.engine.model.path()?;
    let file = open_file(&path)?;
    let mut types = Types::new();
    for tensor in file.tensors() {
        let entry = types.entry(tensor.dtype).or_default();
        *entry = (entry.0 + 1, entry.1 + tensor.bytes.len() as u64);
    }
    let config = models::read_config(&file)?;
    let memory = memory(&args, &file, &config)?;
    if args.json {
        return output::json(&json!({
            "file": path.display().to_string(),
            "architecture": config.architecture,
            "layers": config.layers, "width": config.width, "ff": config.ff, "heads": config.heads,
            "kv_heads": config.kv_heads, "head_dim": config.head_dim, "vocab": config.vocab, "context": config.context,
            "groups": config.groups.iter().map(|g| json!({ "layers": g.layers.len(), "window": g.window })).collect::<Vec<_>>(),
            "tensors": types.iter().map(|(t, (n, bytes))| json!({ "type": format!("{t:?}"), "count": n, "bytes": bytes }))
                .collect::<Vec<_>>(),
            "memory": memory,
        }));
    }
    output::print(&text(&config, &types, &memory))
}

/// Device memory in bytes, by purpose.
fn memory(args: &Args, file: &ModelFile, config: &ModelConfig) -> anyhow::Result<Value> {
    let backend = args.engine.device.open()?;
    let engine = args.engine.config()?;
    let step = engine.step_limits(config);
    let plan = engine.plan_memory(&*backend, file, config, &step);
    let kv = engine.plan_kv(&*backend, config, &plan, &step)?;
    Ok(json!({
        "device": backend.name(),
        "weights": plan.weights, "rope": plan.rope, "workspace": plan.workspace, "batch": plan.batch,
        "scratch": plan.scratch, "transfers": plan.transfers, "kv": kv.bytes, "kv_dtype": engine.kv_types().to_string(), "total": plan.fixed() + kv.bytes,
        "kv_pages": kv.pages, "page_tokens": step.page_tokens, "context": step.context,
        "kv_per_sequence": plan.kv_per_sequence(),
    }))
}

fn text(config: &ModelConfig, types: &Types, memory: &Value) -> String {
    let mut out = format!(
        "{}: {} layers, width {}, feed-forward {}, {} heads, {} KV heads of {}, vocabulary {}, context {}\n",
        config.architecture,
        config.layers,
        config.width,
        config.ff,
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.vocab,
        config.context
    );
    for group in &config.groups {
        let kind = group.window.map_or("full attention".to_string(), |w| format!("a window of {w}"));
        out.push_str(&format!("  {} layers with {kind}\n", group.layers.len()));
    }
    out.push_str("tensors\n");
    for (dtype, (count, bytes)) in types {
        out.push_str(&format!("  {:<5} {count:>5}  {:>10.1} MB\n", format!("{dtype:?}"), *bytes as f64 / 1e6));
    }
    out.push_str(&format!("memory on {}\n", memory["device"].as_str().unwrap_or_default()));
    for part in ["weights", "rope", "workspace", "batch", "scratch", "transfers", "kv", "total"] {
        out.push_str(&format!("  {part:<10} {:>12.1} MB\n", memory[part].as_u64().unwrap_or(0) as f64 / 1e6));
    }
    let per_sequence = memory["kv_per_sequence"].as_u64().unwrap_or(0) as f64 / 1e6;
    let (context, dtype) = (&memory["context"], memory["kv_dtype"].as_str().unwrap_or_default());
    out.push_str(&format!("  a sequence of {context} tokens takes {per_sequence:.1} MB of KV pages in {dtype}\n"));
    out
}
