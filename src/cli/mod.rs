//! The command line.
//!
//! Exit codes: 0, 1 for a job that failed (its reason on stderr), 2 for wrong usage, 130 after Ctrl-C. When stdout is closed
//! by its reader the program ends quietly with 0. With `--json` stdout has one JSON object, or one a line, and nothing else.
mod bench;
mod cache_report;
mod evaluate;
mod generate;
mod inspect;
mod model;
mod models;
mod output;
mod replay;
mod replay_engine;
mod tokenize;
mod turns;

use clap::{Parser, Subcommand};
use output::Closed;
use std::process::ExitCode;

/// An LLM inference engine with hand-written CUDA kernels, built around its KV cache.
#[derive(Debug, Parser)]
#[command(name = "kvick", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Continue one or several texts
    Generate(generate::Args),
    /// Show the token ids of a text
    Tokenize(tokenize::Args),
    /// Show the largest logits at each position of a text
    Logits(evaluate::LogitsArgs),
    /// Measure how well a model predicts a text
    Perplexity(evaluate::PerplexityArgs),
    /// Show what is in a model file and what it needs
    Inspect(inspect::Args),
    /// Measure the speed and the work of prefill and decode
    Bench(bench::Args),
    /// Fetch a model into the cache folder
    Pull(models::PullArgs),
    /// List the models that are fetched by name
    Models(models::ListArgs),
    /// Replay a request trace through the KV cache and its policies
    Replay(replay::Args),
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Generate(args) => generate::run(args),
            Command::Tokenize(args) => tokenize::run(args),
            Command::Logits(args) => evaluate::logits(args),
            Command::Perplexity(args) => evaluate::perplexity(args),
            Command::Inspect(args) => inspect::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Pull(args) => models::pull(args),
            Command::Models(args) => models::list(args),
            Command::Replay(args) => replay::run(args),
        }
    }
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    // Nothing needs to be saved: text is flushed as it comes, and a fetch goes on where it stopped.
    let handler = ctrlc::set_handler(|| std::process::exit(130));
    let result = handler.map_err(Into::into).and_then(|()| Cli::parse().command.run());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is::<Closed>() => ExitCode::SUCCESS,
        Err(e) => {
            output::note(&format!("kvick: {e:#}"));
            if e.is::<output::Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
