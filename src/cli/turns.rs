//! `kvick bench --turns N`: what the turns of a chat cost, each of which goes on where the last one ended.
//!
//! A turn is the text so far and some new tokens; its prefill is measured, then an answer is generated and joins the text.
//! Beside it stands the least that it can cost: the same new tokens where the device has all that was known before, which a
//! second engine without tiers computes afterwards. Between turns the device keeps its pages, loses them (`--evict`), or each
//! turn runs in a process of its own (`--restart`), which finds them on tiers or computes them.
use super::bench::{Args, Cost, draw};
use super::output;
use anyhow::{Context, ensure};
use kvick::{Engine, EngineConfig, Prompt, Request};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Pages of the device beyond those of the chat, with `--evict`.
const SPARE: usize = 2;

/// How long pages of a turn may be on their way to the tiers.
const PATIENCE: Duration = Duration::from_secs(60);

/// One turn as it was played.
#[derive(serde::Serialize, serde::Deserialize)]
struct Turn {
    /// Tokens of the prompt.
    prompt_tokens: usize,
    /// Of these, in no earlier turn.
    new_tokens: usize,
    /// Of these, found by the engine.
    cached_tokens: usize,
    cost: Cost,
    answer: Vec<u32>,
}

pub fn run(args: &mut Args) -> anyhow::Result<()> {
    ensure!(args.turns > 0 && args.new_tokens > 0 && args.tokens > 0, "nothing to measure: a count is 0");
    let longest = args.prompt_tokens() + args.turns * (args.new_tokens + args.tokens);
    args.engine.context.get_or_insert(longest + 1);
    // Pages that are computed again to compare are no part of a turn.
    args.engine.tiers.verify_every = u64::MAX;
    if args.evict {
        args.engine.kv_memory.get_or_insert(args.engine.model.kv_bytes(longest + 1, SPARE, args.engine.config()?)?);
    }
    if let Some(file) = args.continue_from.take() {
        return continue_from(args, &file);
    }
    let (text, turns) = play(args)?;
    let resident = resident(args, &text, &turns)?;
    let result = result(args, &turns, &resident)?;
    if args.json { output::json(&result) } else { output::print(&table(&result)) }
}

/// The part of a process of `--restart`: one turn, whose text is in a file.
fn continue_from(args: &Args, file: &Path) -> anyhow::Result<()> {
    let (known, text): (usize, Vec<u32>) = serde_json::from_slice(&std::fs::read(file)?)?;
    let engine = args.engine.load()?;
    let turn = turn(&engine, args, &text, known)?;
    output::json(&turn)
}

/// Plays all turns; the whole text and what each cost.
fn play(args: &Args) -> anyhow::Result<(Vec<u32>, Vec<Turn>)> {
    let engine = if args.restart { None } else { Some(args.engine.load()?) };
    let vocab = match &engine {
        Some(engine) => engine.model().vocab,
        None => args.engine.model.shape()?.vocab,
    };
    let (mut text, mut turns, mut known) = (draw(args.prompt_tokens(), vocab, 1, 0), Vec::new(), 0);
    for number in 0..args.turns {
        if number > 0 {
            text.extend(draw(args.new_tokens, vocab, 2, number));
        }
        let played = match &engine {
            Some(engine) => turn(engine, args, &text, known)?,
            None => elsewhere(&text, known)?,
        };
        text.extend(&played.answer);
        // The last token of an answer is drawn and not computed.
        known = text.len() - 1;
        turns.push(played);
        if let Some(engine) = engine.as_ref().filter(|_| args.evict) {
            evict(engine, args, &text)?;
        }
    }
    Ok((text, turns))
}

fn first_token(engine: &Engine, ids: &[u32]) -> anyhow::Result<kvick::Completion> {
    let request = Request { max_tokens: 1, ignore_eos: true, ..Request::new(Prompt::Ids(ids.to_vec())) };
    Ok(engine.complete(request)?)
}

/// Measures the prefill of a turn, then generates its answer.
fn turn(engine: &Engine, args: &Args, text: &[u32], known: usize) -> anyhow::Result<Turn> {
    let mut first = None;
    let cost = Cost::of(|| {
        first = Some(first_token(engine, text)?);
        Ok(())
    })?;
    let first = first.context("no answer")?;
    let mut answer = first.ids.clone();
    if args.tokens > 1 {
        let ids = [text, &answer].concat();
        let request = Request { max_tokens: args.tokens - 1, ignore_eos: true, ..Request::new(Prompt::Ids(ids)) };
        answer.extend(engine.complete(request)?.ids);
    }
    ensure!(engine.settle(PATIENCE)?, "the tiers do not take the pages of a turn");
    let (prompt_tokens, cached_tokens) = (text.len(), first.cached_tokens);
    Ok(Turn { prompt_tokens, new_tokens: text.len() - known, cached_tokens, cost, answer })
}

/// A turn in a process of its own: this program with the same arguments.
fn elsewhere(text: &[u32], known: usize) -> anyhow::Result<Turn> {
    let mut file = tempfile()?;
    std::io::Write::write_all(&mut file.1, &serde_json::to_vec(&(known, text))?)?;
    let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
    command.args(std::env::args_os().skip(1)).arg("--continue-from").arg(&file.0);
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let removed = std::fs::remove_file(&file.0);
    let done = done.context("starting a process for a turn")?;
    removed.with_context(|| file.0.display().to_string())?;
    ensure!(done.status.success(), "the process of a turn failed");
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// A new file of this process.
fn tempfile() -> anyhow::Result<(std::path::PathBuf, std::fs::File)> {
    let path = std::env::temp_dir().join(format!("kvick-turn-{}.json", std::process::id()));
    let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
    Ok((path, file))
}

/// Runs other texts until the device has next to nothing left of this one.
fn evict(engine: &Engine, args: &Args, text: &[u32]) -> anyhow::Result<()> {
    let mut chat = engine.session([]);
    chat.extend(&Prompt::Ids(text.to_vec()))?;
    // One that needs as many pages leaves none to others but the spare ones, whatever the policy would keep.
    let left = SPARE * args.engine.config()?.page_tokens;
    for round in 0..4 {
        if chat.cached()? <= left {
            return Ok(());
        }
        first_token(engine, &draw(engine.longest_prompt(), engine.model().vocab, 3, text.len() + round))?;
    }
    anyhow::bail!("the device keeps {} tokens of the chat; give it less --kv-memory", chat.cached()?)
}

/// What each turn costs where the device has all that was known before it.
fn resident(args: &Args, text: &[u32], turns: &[Turn]) -> anyhow::Result<Vec<Cost>> {
    let path = args.engine.model.path()?;
    let config = EngineConfig {
        tiers: Vec::new(),
        store_secret: None,
        verify: false,
        kv_memory: if args.evict { None } else { args.engine.kv_memory },
        ..args.engine.config()?
    };
    let engine = Engine::load_path(&path, &config)?;
    let measure = |turn: &Turn| {
        let known = turn.prompt_tokens - turn.new_tokens;
        if known > 0 {
            first_token(&engine, &text[..known])?;
        }
        Cost::of(|| first_token(&engine, &text[..turn.prompt_tokens]).map(drop))
    };
    turns.iter().map(measure).collect()
}

fn result(args: &Args, turns: &[Turn], resident: &[Cost]) -> anyhow::Result<Value> {
    let line = |(number, (turn, resident)): (usize, (&Turn, &Cost))| {
        let (work, least) = (turn.cost.instructions(), resident.instructions());
        json!({
            "turn": number + 1,
            "prompt_tokens": turn.prompt_tokens,
            "new_tokens": turn.new_tokens,
            "cached_tokens": turn.cached_tokens,
            "seconds": turn.cost.seconds,
            "resident_seconds": resident.seconds,
            "warp_instructions": work,
            "resident_warp_instructions": least,
            "ratio": work.zip(least).map(|(work, least)| work / least),
        })
    };
    let between = if args.restart {
        "restart"
    } else if args.evict {
        "evict"
    } else {
        "nothing"
    };
    let config = args.engine.config()?;
    let tiers: Vec<&str> = config.tiers.iter().map(|tier| tier.name()).collect();
    Ok(json!({
        "between_turns": between,
        "tiers": tiers,
        "emulated": turns.iter().any(|turn| turn.cost.work.is_some()),
        "turns": turns.iter().zip(resident).enumerate().map(line).collect::<Vec<_>>(),
    }))
}

fn table(result: &Value) -> String {
    let mut out = format!(
        "{:>4} {:>8} {:>6} {:>8} {:>10} {:>20} {:>20} {:>7}\n",
        "turn", "prompt", "new", "cached", "seconds", "warp instructions", "of new tokens alone", "ratio"
    );
    for turn in result["turns"].as_array().into_iter().flatten() {
        let number = |key: &str, digits: usize| match turn[key].as_f64() {
            Some(n) => format!("{n:.digits$}"),
            None => "-".into(),
        };
        out.push_str(&format!(
            "{:>4} {:>8} {:>6} {:>8} {:>10} {:>20} {:>20} {:>7}\n",
            number("turn", 0),
            number("prompt_tokens", 0),
            number("new_tokens", 0),
            number("cached_tokens", 0),
            number("seconds", 2),
            number("warp_instructions", 0),
            number("resident_warp_instructions", 0),
            number("ratio", 3)
        ));
    }
    out
}
