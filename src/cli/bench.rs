//! `kvick bench`: speed and work of prefill and decode.
//!
//! Two runs on prompts of the same length: one that ends with its first token (prefill), and one that goes on for the asked
//! number of tokens; their difference is decode. With `--kv-cache off` each further token is the first token of a request
//! with the whole text before it, as an engine without a KV cache would compute it. `--turns` is a chat (`turns.rs`).
use super::model::EngineArgs;
use super::{output, turns};
use clap::ValueEnum;
use kvick::device::{self, KernelWork};
use kvick::{Engine, Prompt, Request};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tokens of each prompt [default: 128, or 1500 with --turns]
    #[arg(long, value_name = "N")]
    prompt_tokens: Option<usize>,
    /// Tokens to decode after the first one; with --turns, of each answer
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub tokens: usize,
    /// Sequences at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// off: compute the whole text again for each token
    #[arg(long, value_enum, default_value_t = KvCache::On)]
    kv_cache: KvCache,
    /// Measure a chat of so many turns, each of which extends the last: its prefill against that of the new tokens alone
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["batch", "kv_cache"])]
    pub turns: usize,
    /// New tokens of each turn but the first
    #[arg(long, value_name = "N", default_value_t = 64, requires = "turns")]
    pub new_tokens: usize,
    /// Between turns, run other texts until the device has next to nothing left of the chat
    #[arg(long, requires = "turns")]
    pub evict: bool,
    /// Run each turn in a process of its own
    #[arg(long, requires = "turns", conflicts_with = "evict")]
    pub restart: bool,
    /// One turn, whose text is in this file
    #[arg(long, value_name = "FILE", hide = true)]
    pub continue_from: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KvCache {
    On,
    Off,
}

/// Time and work of a part of the benchmark.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    pub seconds: f64,
    /// Where the device counts.
    pub work: Option<Vec<KernelWork>>,
}

impl Cost {
    /// Runs `job` and measures it.
    pub fn of(job: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        device::reset_work();
        let start = Instant::now();
        job()?;
        Ok(Cost { seconds: start.elapsed().as_secs_f64(), work: device::work() })
    }

    /// What this cost more than `other`.
    fn minus(mut self, other: &Cost) -> Self {
        self.seconds = (self.seconds - other.seconds).max(0.0);
        for kernel in self.work.iter_mut().flatten() {
            if let Some(k) = other.work.iter().flatten().find(|k| k.name == kernel.name) {
                kernel.launches = kernel.launches.saturating_sub(k.launches);
                kernel.warp_instructions = kernel.warp_instructions.saturating_sub(k.warp_instructions);
                kernel.bytes = kernel.bytes.saturating_sub(k.bytes);
                kernel.sectors = kernel.sectors.saturating_sub(k.sectors);
            }
        }
        self
    }

    /// Warp instructions of all kernels.
    pub fn instructions(&self) -> Option<f64> {
        self.sum(|k| k.warp_instructions)
    }

    /// A count of all kernels.
    fn sum(&self, count: impl Fn(&KernelWork) -> u64) -> Option<f64> {
        self.work.as_ref().map(|work| work.iter().map(count).sum::<u64>() as f64)
    }
}

pub fn run(mut args: Args) -> anyhow::Result<()> {
    if args.turns > 0 {
        return turns::run(&mut args);
    }
    anyhow::ensure!(args.prompt_tokens() > 0 && args.tokens > 0 && args.batch > 0, "nothing to measure: a count is 0");
    args.engine.max_seqs = args.batch;
    args.engine.no_prefix_cache |= args.kv_cache == KvCache::Off;
    args.engine.step_tokens = args.engine.step_tokens.max(args.batch);
    let longest = args.prompt_tokens() + args.tokens + 2;
    args.engine.context.get_or_insert(longest);
    let engine = args.engine.load()?;
    // Kernels are compiled or translated at their first launch.
    generate(&engine, &args, 0, 2)?;
    let prefill = Cost::of(|| generate(&engine, &args, 1, 1))?;
    let decode = match args.kv_cache {
        KvCache::On => Cost::of(|| generate(&engine, &args, 2, 1 + args.tokens))?.minus(&prefill),
        KvCache::Off => Cost::of(|| recompute(&engine, &args))?,
    };
    let result = result(&args, &engine, &prefill, &decode);
    if args.json { output::json(&result) } else { output::print(&text(&result)) }
}

impl Args {
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens.unwrap_or(if self.turns > 0 { 1500 } else { 128 })
    }
}

/// Token ids that no other run has, drawn by a fixed rule.
pub fn draw(count: usize, vocab: usize, run: usize, seq: usize) -> Vec<u32> {
    let mut state = (run * 1000 + seq) as u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % vocab
    };
    (0..count).map(|_| draw() as u32).collect()
}

/// Runs the whole batch for `tokens` tokens.
fn generate(engine: &Engine, args: &Args, run: usize, tokens: usize) -> anyhow::Result<()> {
    let request = |seq| {
        let ids = draw(args.prompt_tokens(), engine.model().vocab, run, seq);
        Request { max_tokens: tokens, ignore_eos: true, ..Request::new(Prompt::Ids(ids)) }
    };
    let streams = (0..args.batch).map(|seq| engine.submit(request(seq))).collect::<kvick::Result<Vec<_>>>()?;
    streams.into_iter().try_for_each(|stream| stream.wait().map(drop))?;
    Ok(())
}

/// The same tokens without what was computed before: each is the first one after the whole text.
fn recompute(engine: &Engine, args: &Args) -> anyhow::Result<()> {
    let mut texts: Vec<Vec<u32>> =
        (0..args.batch).map(|seq| draw(args.prompt_tokens(), engine.model().vocab, 2, seq)).collect();
    for _ in 0..args.tokens {
        let request =
            |ids: &Vec<u32>| Request { max_tokens: 1, ignore_eos: true, ..Request::new(Prompt::Ids(ids.clone())) };
        let streams = texts.iter().map(|ids| engine.submit(request(ids))).collect::<kvick::Result<Vec<_>>>()?;
        for (text, stream) in texts.iter_mut().zip(streams) {
            text.extend(stream.wait()?.ids);
        }
    }
    Ok(())
}

fn result(args: &Args, engine: &Engine, prefill: &Cost, decode: &Cost) -> Value {
    let tokens = (args.tokens * args.batch) as f64;
    let rate = |count: f64, seconds: f64| if seconds > 0.0 { Some(count / seconds) } else { None };
    let all = prefill.instructions().zip(decode.instructions()).map(|(p, d)| p + d);
    json!({
        "device": engine.device(),
        "emulated": decode.work.is_some(),
        "kv_cache": args.kv_cache == KvCache::On,
        "prompt_tokens": args.prompt_tokens(),
        "tokens": args.tokens,
        "batch": args.batch,
        "prefill_tokens_per_s": rate((args.prompt_tokens() * args.batch) as f64, prefill.seconds),
        "decode_tokens_per_s": rate(tokens, decode.seconds),
        "launches_per_token": decode.sum(|k| k.launches).map(|n| n / tokens),
        "warp_instructions_per_token": decode.instructions().map(|n| n / tokens),
        "bytes_per_token": decode.sum(|k| k.bytes).map(|n| n / tokens),
        "warp_instructions_per_s": all.and_then(|n| rate(n, prefill.seconds + decode.seconds)),
        "prefill_warp_instructions": prefill.instructions(),
        "peak_rss_bytes": peak_rss(),
        "kernels": decode.work.iter().flatten().filter(|k| k.launches > 0).collect::<Vec<_>>(),
    })
}

/// Most memory that the process held at one time, where the system says it.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

fn text(result: &Value) -> String {
    let number = |key: &str| result[key].as_f64();
    let emulated = if result["emulated"] == true { " (emulated)" } else { "" };
    let mut out = format!("{}\n", result["device"].as_str().unwrap_or_default());
    for (name, key, unit) in [
        ("prefill", "prefill_tokens_per_s", "tokens/s"),
        ("decode", "decode_tokens_per_s", "tokens/s"),
        ("emulator", "warp_instructions_per_s", "warp instructions/s"),
    ] {
        if let Some(n) = number(key) {
            out.push_str(&format!("{name:<10} {n:>14.1} {unit}{emulated}\n"));
        }
    }
    for (name, key) in [
        ("launches", "launches_per_token"),
        ("warp instructions", "warp_instructions_per_token"),
        ("bytes", "bytes_per_token"),
    ] {
        if let Some(n) = number(key) {
            out.push_str(&format!("{n:>14.0} {name} a decoded token\n"));
        }
    }
    if let Some(n) = number("peak_rss_bytes") {
        out.push_str(&format!("{:>14.0} MB of memory at most\n", n / 1e6));
    }
    for k in result["kernels"].as_array().into_iter().flatten() {
        let name = k["name"].as_str().unwrap_or_default();
        out.push_str(&format!(
            "{:>10} launches {:>14} warp instructions  {name}\n",
            k["launches"], k["warp_instructions"]
        ));
    }
    out
}
