//! `kvick generate`: continues texts. One streams as it comes; several run as one batch and are printed whole, in order.
use super::cache_report;
use super::model::{EngineArgs, read_text, spelling};
use super::output::{self, Usage, note};
use anyhow::Context;
use kvick::text::Message;
use kvick::{Completion, Engine, Prompt, Request, Sampling, Stream};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Texts to continue
    #[arg(value_name = "PROMPT")]
    prompts: Vec<String>,
    /// A file with one prompt a line (- is stdin); blank lines are skipped
    #[arg(long = "prompts", value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Tokens at most, of each text
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// End a text before this one (may be given several times)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Treat each prompt as a user's message, by the model's chat template
    #[arg(long, conflicts_with = "special")]
    chat: bool,
    /// Read the spellings of control tokens in prompts as these tokens
    #[arg(long)]
    special: bool,
    /// Go on past the token with which the model ends a text
    #[arg(long)]
    ignore_eos: bool,
    /// Answers to each prompt, which is computed once for all of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    samples: usize,
    /// Share KV pages only with requests of the same salt
    #[arg(long, value_name = "TEXT", default_value = "")]
    salt: String,
    /// Take no KV pages that a tier restored from quantised copies: the answer is what computing from scratch gives
    #[arg(long = "kv-exact")]
    exact: bool,
    /// Say what was found in the KV cache, what was not and why: a table on stderr, or with --json one more object
    #[arg(long)]
    cache_report: bool,
    /// One JSON object for each answer
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SamplingArgs {
    /// 0 takes the most likely token
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Draw from this many best tokens; 0 is all
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Draw from the best tokens that have this probability together
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Draw from tokens with at least this part of the best one's probability
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Divide the logits of recent tokens by this
    #[arg(long, default_value_t = 1.0)]
    repeat_penalty: f32,
    /// The same seed gives the same text
    #[arg(long)]
    seed: Option<u64>,
}

/// One line of `--json`.
#[derive(serde::Serialize)]
struct Answer<'a> {
    /// Of the prompt.
    index: usize,
    sample: usize,
    text: &'a str,
    ids: &'a [u32],
    finish_reason: &'a str,
    prompt_tokens: usize,
    cached_tokens: usize,
    tokens: usize,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let mut prompts = args.prompts.clone();
    if let Some(file) = &args.file {
        let text = read_text(file)?;
        prompts.extend(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_string));
    }
    if prompts.is_empty() {
        return Err(Usage("give a prompt, or a file of prompts with --prompts FILE".into()).into());
    }
    let engine = args.engine.load()?;
    let start = Instant::now();
    let submit = |(i, prompt): (usize, &String)| {
        let streams = engine.submit_samples(args.request(prompt), args.samples);
        streams.with_context(|| if prompts.len() > 1 { format!("prompt {i}") } else { "cannot generate".into() })
    };
    let streams = prompts.iter().enumerate().map(submit).collect::<anyhow::Result<Vec<_>>>()?;
    let streaming = streams.len() == 1 && args.samples == 1 && !args.json;
    let streams = streams.into_iter().enumerate();
    let streams = streams.flat_map(|(i, samples)| samples.into_iter().enumerate().map(move |(n, s)| (i, n, s)));
    let (mut tokens, mut failure) = (0, None);
    for (index, sample, stream) in streams {
        match receive(stream, streaming) {
            Ok(done) => {
                tokens += done.ids.len();
                print(&args, (index, sample), &done, streaming)?;
            }
            Err(e) if e.is::<output::Closed>() => return Err(e),
            Err(e) => failure = Some(e.context(format!("prompt {index}"))),
        }
    }
    report(&engine, tokens, start);
    if args.cache_report {
        cache_report::print(&engine.cache_stats()?, args.json)?;
    }
    failure.map_or(Ok(()), Err)
}

impl Args {
    fn request(&self, prompt: &str) -> Request {
        let s = &self.sampling;
        let prompt = match self.chat {
            true => Prompt::Chat(vec![Message::new("user", prompt)]),
            false => Prompt::Text(prompt.into(), spelling(self.special)),
        };
        Request {
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: s.temperature,
                top_k: s.top_k,
                top_p: s.top_p,
                min_p: s.min_p,
                repeat_penalty: s.repeat_penalty,
                seed: s.seed,
            },
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            salt: self.salt.clone().into_bytes(),
            exact: self.exact,
            ..Request::new(prompt)
        }
    }
}

fn receive(mut stream: Stream, streaming: bool) -> anyhow::Result<Completion> {
    while let Some(text) = stream.next_text()? {
        if streaming {
            output::print(&text)?;
        }
    }
    Ok(stream.wait()?)
}

fn print(args: &Args, (index, sample): (usize, usize), done: &Completion, streamed: bool) -> anyhow::Result<()> {
    if args.json {
        return output::json(&Answer {
            index,
            sample,
            text: &done.text,
            ids: &done.ids,
            finish_reason: done.reason.as_str(),
            prompt_tokens: done.prompt_tokens,
            cached_tokens: done.cached_tokens,
            tokens: done.ids.len(),
        });
    }
    output::line(if streamed { "" } else { &done.text })
}

fn report(engine: &Engine, tokens: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    note(&format!("{tokens} tokens, {:.1} tokens/s, {}", tokens as f64 / seconds, engine.device()));
}
