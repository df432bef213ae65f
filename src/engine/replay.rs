//! A request trace through the real scheduler and the real cache, on a device that only keeps time.
//!
//! Each block of the trace becomes 512 tokens that depend on its id alone, so that equal blocks after equal prefixes are equal
//! prompts. Requests arrive when the trace says; a step takes as long as its prompt tokens at the prefill speed, and at least one
//! token at the decode speed. Deterministic: two runs differ in [`Replayed::seconds`] and [`Replayed::curve_seconds`] only.
use super::core::{Core, validate};
use super::output::Output;
use super::pages::Pages;
use super::runner::{Drawn, Runner};
use super::scheduler::Scheduler;
use super::sequence::Submission;
use super::session::Stats;
use super::verify::Pair;
use crate::backend::{HostBatch, SampleParams};
use crate::error::{Error, Result};
use crate::kv::cache::PageCopy;
use crate::kv::curve::{CurveConfig, CurveReport};
use crate::kv::policy::Kind;
use crate::kv::trace::{BLOCK_TOKENS, Request, Trace};
use crate::kv::{Fingerprint, GroupConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The machine that a trace is replayed on.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayConfig {
    /// KV pages of the device.
    pub device_pages: usize,
    /// Tokens of a page.
    pub page_tokens: usize,
    /// Sequences that run at once.
    pub max_seqs: usize,
    /// Tokens of a step.
    pub step_tokens: usize,
    /// Prompt tokens that the device computes in a second.
    pub prefill_tokens_per_s: f64,
    /// Tokens that each running sequence is given in a second while no prompt is computed.
    pub decode_tokens_per_s: f64,
    /// Whether requests find what others computed.
    pub prefix_cache: bool,
    /// Whether the cache also estimates what others would find.
    pub curve: bool,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        ReplayConfig {
            device_pages: 100_000,
            page_tokens: 16,
            max_seqs: 256,
            step_tokens: 2048,
            prefill_tokens_per_s: 60_000.0,
            decode_tokens_per_s: 40.0,
            prefix_cache: true,
            curve: false,
        }
    }
}

/// A distribution over requests, by the nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
#[allow(missing_docs)]
pub struct Quantiles {
    pub p1: f64,
    pub p10: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

/// What became of a trace.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Replayed {
    /// Requests that were served.
    pub requests: usize,
    /// Requests that would not fit alone.
    pub refused: usize,
    /// Seconds from arrival to the first token.
    pub ttft: Quantiles,
    /// Tokens a second of each answer after its first token.
    pub answer_tokens_per_s: Quantiles,
    /// Prompt and answer tokens served, over the time from the first arrival to the last token.
    pub tokens_per_s: f64,
    /// That time in seconds.
    pub virtual_seconds: f64,
    /// Of 100 prompt tokens, found in the cache.
    pub hit_percent: f64,
    /// Tokens that were computed in place of being found.
    pub prefill_tokens: u64,
    /// Sequences that gave up their pages for a while.
    pub preemptions: u64,
    /// Steps.
    pub steps: u64,
    /// What the cache estimated.
    pub curve: Option<CurveReport>,
    /// Of real time, in the scheduler and the cache: the device takes none.
    pub seconds: f64,
    /// Of these, for the curve.
    pub curve_seconds: f64,
}

/// Takes time and gives tokens that depend on the request and their place only.
struct VirtualDevice {
    prefill_s: f64,
    decode_s: f64,
    now: f64,
    /// Seconds of the last step.
    took: f64,
    /// Of each request; its seed is its number.
    given: Vec<Given>,
}

/// Tokens that a request was given, and when the first and the latest.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    tokens: usize,
    first: f64,
    last: f64,
}

impl Runner for VirtualDevice {
    fn run(&mut self, _copies: &[PageCopy], batch: &HostBatch, _top: &[usize]) -> Result<Vec<Drawn>> {
        let prompts = batch.tokens.len() - batch.decodes;
        self.took = (prompts as f64 * self.prefill_s).max(self.decode_s);
        self.now += self.took;
        let mut draw = |sample: &SampleParams| {
            let given = &mut self.given[sample.seed as usize];
            let first = if given.tokens == 0 { self.now } else { given.first };
            *given = Given { tokens: given.tokens + 1, first, last: self.now };
            Drawn { id: mix(!sample.seed << 24 | u64::from(sample.step)), logits: None }
        };
        Ok(batch.sample.iter().map(&mut draw).collect())
    }

    fn same(&mut self, _pairs: &[Pair]) -> Result<bool> {
        // Its pages hold nothing.
        Ok(true)
    }

    fn took(&self) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.took))
    }
}

/// 32 bits of SplitMix64.
fn mix(bits: u64) -> u32 {
    let mut bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (bits ^ (bits >> 27)) as u32
}

/// The tokens of a request: those of its blocks, of which the last may be partly filled.
fn prompt(request: &Request<'_>) -> Vec<u32> {
    let tokens = |&block: &u32| (0..BLOCK_TOKENS as u64).map(move |at| mix(u64::from(block) << 16 | at));
    request.blocks.iter().flat_map(tokens).take(request.input_length).collect()
}

/// Serves all requests of a trace.
///
/// # Errors
/// A configuration that cannot serve anything.
pub fn replay(trace: &Trace, config: &ReplayConfig) -> Result<Replayed> {
    let start = Instant::now();
    let mut core = core(trace.len(), config)?;
    let (mut arrived, mut refused) = (0, 0);
    while arrived < trace.len() || !core.is_idle() {
        while let Some(request) = trace.get(arrived).filter(|r| core.is_idle() || seconds(r) <= core.runner.now) {
            core.runner.now = core.runner.now.max(seconds(&request));
            refused += usize::from(submit(&mut core, arrived as u64, &request).is_err());
            arrived += 1;
        }
        core.step((core.runner.now * 1000.0) as u64);
    }
    let mut replayed = report(trace, &mut core);
    replayed.refused = refused;
    replayed.seconds = start.elapsed().as_secs_f64();
    replayed.curve_seconds = core.scheduler.pages.cache.curve_spent().as_secs_f64();
    Ok(replayed)
}

fn seconds(request: &Request<'_>) -> f64 {
    request.timestamp as f64 / 1000.0
}

fn core(requests: usize, config: &ReplayConfig) -> Result<Core<VirtualDevice>> {
    let speeds = [config.prefill_tokens_per_s, config.decode_tokens_per_s];
    if speeds.iter().any(|speed| !(speed.is_finite() && *speed > 0.0)) {
        return Err(Error::Request("speeds must be more than 0 tokens a second".into()));
    }
    if config.device_pages == 0 || config.page_tokens == 0 || config.max_seqs == 0 || config.step_tokens == 0 {
        return Err(Error::Request("pages, their tokens, sequences and tokens of a step must be at least 1".into()));
    }
    let groups = [GroupConfig { pages: config.device_pages, window: None }];
    let fingerprint = Fingerprint::new([("replay", b"".as_slice())]);
    let mut pages = Pages::new(fingerprint, config.page_tokens, config.step_tokens, &groups, config.prefix_cache);
    if config.curve {
        pages.cache.watch(CurveConfig::new(Kind::Kvick, config.device_pages, config.page_tokens));
    }
    let scheduler = Scheduler::new(pages, config.step_tokens, config.max_seqs);
    let [prefill_s, decode_s] = speeds.map(|speed| 1.0 / speed);
    let runner = VirtualDevice { prefill_s, decode_s, now: 0.0, took: 0.0, given: vec![Given::default(); requests] };
    let stats = Stats { copied_pages: vec![0], ..Stats::default() };
    Ok(Core { scheduler, runner, tokenizer: None, stats, stalled: false })
}

fn submit(core: &mut Core<VirtualDevice>, number: u64, request: &Request<'_>) -> Result<()> {
    let prompt = prompt(request);
    let capacity = core.scheduler.pages.capacity();
    validate(prompt.len(), capacity, usize::MAX)?;
    // Nobody listens: the device notes when tokens are given.
    let output = Output::new(std::sync::mpsc::channel().0, Arc::default());
    let limit = (prompt.len() + request.output_length.max(1)).min(capacity);
    let sampling = SampleParams { seed: number, ..SampleParams::default() };
    core.submit(Submission {
        prompt,
        salt: Vec::new(),
        exact: false,
        priority: 0,
        limit,
        sampling,
        output,
        twins: Vec::new(),
    });
    Ok(())
}

fn report(trace: &Trace, core: &mut Core<VirtualDevice>) -> Replayed {
    let served = || trace.requests().zip(&core.runner.given).filter(|(_, given)| given.tokens > 0);
    let ttft = served().map(|(request, given)| given.first - seconds(&request)).collect();
    let long = served().filter(|(_, given)| given.last > given.first);
    let speeds = long.map(|(_, given)| (given.tokens - 1) as f64 / (given.last - given.first)).collect();
    let tokens: usize = served().map(|(request, given)| request.input_length + given.tokens).sum();
    let began = trace.get(0).map_or(0.0, |request| seconds(&request));
    let virtual_seconds = served().map(|(_, given)| given.last).fold(began, f64::max) - began;
    let requests = served().count();
    core.observe();
    let Stats { steps, prefill_tokens, preemptions, cache, .. } = &core.stats;
    Replayed {
        requests,
        refused: 0,
        ttft: quantiles(ttft),
        answer_tokens_per_s: quantiles(speeds),
        tokens_per_s: tokens as f64 / virtual_seconds.max(1e-9),
        virtual_seconds,
        hit_percent: 100.0 * cache.hit_tokens as f64 / cache.tokens.max(1) as f64,
        prefill_tokens: *prefill_tokens,
        preemptions: *preemptions,
        steps: *steps,
        curve: core.scheduler.pages.cache.curve(),
        seconds: 0.0,
        curve_seconds: 0.0,
    }
}

fn quantiles(mut values: Vec<f64>) -> Quantiles {
    values.sort_by(f64::total_cmp);
    let rank = |share: f64| ((values.len() as f64 * share).ceil() as usize).saturating_sub(1);
    let at = |share: f64| values.get(rank(share)).copied().unwrap_or(0.0);
    Quantiles { p1: at(0.01), p10: at(0.1), p50: at(0.5), p90: at(0.9), p99: at(0.99) }
}
