//! `kvick logits` and `kvick perplexity`: what a model says of given tokens.
use super::model::{DeviceArgs, ModelArgs, read_text, spelling};
use super::output::{self, Usage, note};
use kvick::TokenLogits;
use kvick::backend::Packings;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct LogitsArgs {
    /// The text
    prompt: Option<String>,
    /// Token ids in place of a text, separated by commas
    #[arg(long, value_delimiter = ',', conflicts_with = "prompt")]
    ids: Vec<u32>,
    /// Only the last positions
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// How many of the largest logits
    #[arg(long, value_name = "N", default_value_t = 64)]
    top: usize,
    /// Read the spellings of control tokens as these tokens
    #[arg(long)]
    special: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// One JSON object for each position
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct PerplexityArgs {
    /// The text
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens of a chunk; its second half is scored
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    chunk: usize,
    /// Only the first chunks
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Pack and unpack each page of the KV cache once it is full, as a tier with this packing would: int8, fp8 or int4, or
    /// k=PACKING,v=PACKING
    #[arg(long, value_name = "PACKING")]
    kv_packing: Option<Packings>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// {"perplexity":x,"scored":n,"chunks":n}, with --kv-packing also {"k_loss":{"overall":x,"worst_page":x},"v_loss":..}
    #[arg(long)]
    json: bool,
}

/// One line of `logits --json`.
#[derive(serde::Serialize)]
struct Position {
    position: usize,
    top: Vec<(u32, f32)>,
    logsumexp: f64,
}

pub fn logits(args: LogitsArgs) -> anyhow::Result<()> {
    let path = args.model.path()?;
    let tokenizer = kvick::text::Tokenizer::open(&path)?;
    let ids = match &args.prompt {
        Some(prompt) => tokenizer.encode(prompt, spelling(args.special))?,
        None if !args.ids.is_empty() => args.ids.clone(),
        None => return Err(Usage("give a prompt, or token ids with --ids 1,2,3".into()).into()),
    };
    anyhow::ensure!(!ids.is_empty(), "the prompt has no token; give it some text");
    let first = ids.len() - args.last.unwrap_or(ids.len()).min(ids.len());
    let mut evaluator = args.device.evaluator(&path, ids.len())?;
    let mut failed = None;
    evaluator
        .logits(&ids, first, |position, row| {
            let TokenLogits { top, logsumexp } = TokenLogits::of(row, args.top);
            let printed = match args.json {
                true => output::json(&Position { position, top, logsumexp }),
                false => output::line(table_row(&tokenizer, position, &top, logsumexp)),
            };
            printed.map_err(|e| {
                failed = Some(e);
                kvick::Error::Cancelled
            })
        })
        .map_err(|e| failed.take().unwrap_or(e.into()))
}

fn table_row(tokenizer: &kvick::text::Tokenizer, position: usize, top: &[(u32, f32)], logsumexp: f64) -> String {
    let token = |&(id, logit): &(u32, f32)| {
        format!("{:?} {:.1}%", tokenizer.show(id), 100.0 * (f64::from(logit) - logsumexp).exp())
    };
    format!("{position:>6}  {}", top.iter().take(6).map(token).collect::<Vec<_>>().join("  "))
}

pub fn perplexity(args: PerplexityArgs) -> anyhow::Result<()> {
    let text = read_text(&args.text)?;
    let path = args.model.path()?;
    let tokenizer = kvick::text::Tokenizer::open(&path)?;
    let ids = tokenizer.encode(&text, Default::default())?;
    let mut evaluator = args.device.evaluator(&path, args.chunk.max(1))?;
    if let Some(packings) = args.kv_packing {
        evaluator = evaluator.packing(packings)?;
    }
    let all = (ids.len() / args.chunk.max(1)).min(args.chunks.unwrap_or(usize::MAX));
    let told = |p: kvick::models::Perplexity| note(&format!("chunk {} of {all}: {:.4}", p.chunks, p.perplexity));
    let p = evaluator.perplexity(&ids, tokenizer.bos_rule(), args.chunk, args.chunks, told)?;
    let lost = evaluator.losses();
    if args.json {
        let mut all = serde_json::json!({ "perplexity": p.perplexity, "scored": p.scored, "chunks": p.chunks });
        if let Some([k, v]) = lost {
            all["k_loss"] = serde_json::json!({ "overall": k.overall(), "worst_page": k.worst });
            all["v_loss"] = serde_json::json!({ "overall": v.overall(), "worst_page": v.worst });
        }
        return output::json(&all);
    }
    output::line(format!("perplexity {:.4}, {} tokens scored in {} chunks", p.perplexity, p.scored, p.chunks))?;
    if let Some(losses) = lost {
        let [k, v] =
            losses.map(|l| format!("{:.2} % ({:.2} % of the worst page)", 100.0 * l.overall(), 100.0 * l.worst));
        output::line(format!("packing lost {k} of K and {v} of V, as root mean squares"))?;
    }
    Ok(())
}
