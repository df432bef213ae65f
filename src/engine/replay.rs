//! A request trace through the real scheduler and the real cache, on a device that only keeps time.
//!
//! Each block of the trace becomes 512 tokens that depend on its id alone, so that equal blocks after equal prefixes are equal
//! prompts. Requests arrive when the trace says; a step takes as long as its prompt tokens at the prefill speed, and at least one
//! token at the decode speed. Tiers below the device are the real ones over stores that take time on the same clock, and
//! whether they are asked is decided as in life. Deterministic: two runs differ in [`Replayed::seconds`] and
//! [`Replayed::curve_seconds`] only.
use super::config::pages_of_two_steps;
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
use crate::kv::curve::CurveConfig;
use crate::kv::policy::Kind;
use crate::kv::tier::{Clock, ManagerConfig, Tiers, VirtualClock};
use crate::kv::trace::{BLOCK_TOKENS, Request, Trace};
use crate::kv::{Fingerprint, GroupConfig};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

mod report;
mod tiers;

pub use report::{Quantiles, Replayed, TierUse};

use report::report;
use tiers::{HALF, Moved, TimedIo, TimedStore};

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
    /// Bytes of a page, by which copies and stores take time.
    pub page_bytes: u64,
    /// Bytes that are copied between the device and host memory in a second, in each direction.
    pub copy_bytes_per_s: f64,
    /// What is below the device, nearest first.
    pub tiers: Vec<VirtualTier>,
    /// Requests come so many times as fast as the trace says.
    pub speed: f64,
}

/// A tier of an imagined machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VirtualTier {
    /// For reports.
    pub name: &'static str,
    /// Pages that it holds; `None` for a store that others use too, which holds all.
    pub pages: Option<usize>,
    /// Bytes that it reads or writes in a second; may be infinite.
    pub bytes_per_s: f64,
    /// Seconds that a call takes beside that.
    pub latency_s: f64,
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
            page_bytes: 2 << 20,
            copy_bytes_per_s: 25e9,
            tiers: Vec::new(),
            speed: 1.0,
        }
    }
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
    let (mut core, below) = core(trace.len(), config)?;
    let (mut arrived, mut refused, mut idle) = (0, 0, 0);
    loop {
        while let Some(request) = trace.get(arrived).filter(|r| seconds(r, config) <= core.runner.now) {
            refused += usize::from(submit(&mut core, arrived as u64, &request).is_err());
            arrived += 1;
        }
        if arrived == trace.len() && core.is_idle() {
            break;
        }
        below.reach(core.runner.now);
        core.step((core.runner.now * 1000.0) as u64);
        idle = if core.stalled { idle + 1 } else { 0 };
        if core.stalled {
            let arrival = trace.get(arrived).map_or(f64::INFINITY, |request| seconds(&request, config));
            let look = if core.is_idle() { f64::INFINITY } else { core.runner.now + PAUSE };
            core.runner.now = arrival.min(look).min(below.next().unwrap_or(f64::INFINITY));
        }
        if idle > PATIENCE {
            return Err(Error::Device("the replay came to a halt; give the device more pages".into()));
        }
    }
    let mut replayed = report(trace, config, &mut core, &below);
    replayed.refused = refused;
    replayed.seconds = start.elapsed().as_secs_f64();
    replayed.curve_seconds = core.scheduler.pages.cache.curve_spent().as_secs_f64();
    Ok(replayed)
}

/// Seconds until an engine that waits for pages looks again, and how often it does so in vain.
const PAUSE: f64 = 2.5e-4;
const PATIENCE: usize = 1_000_000;

/// When a request arrives.
fn seconds(request: &Request<'_>, config: &ReplayConfig) -> f64 {
    request.timestamp as f64 / 1000.0 / config.speed
}

/// What is below the device as the clock sees it.
#[derive(Default)]
struct Below {
    clock: Arc<VirtualClock>,
    /// Of each tier.
    clocks: Vec<Arc<VirtualClock>>,
    stores: Vec<Arc<Moved>>,
    link: Arc<Moved>,
    /// When the next copy ends.
    copy: Arc<Mutex<Option<Duration>>>,
}

impl Below {
    /// Lets the clock of all come to a time in seconds.
    fn reach(&self, now: f64) {
        self.clock.sleep(Duration::from_secs_f64(now).saturating_sub(self.clock.now()));
    }

    /// When the next thing ends that is on its way, in seconds.
    fn next(&self) -> Option<f64> {
        let now = self.clock.now();
        let copy = *self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = self.clocks.iter().map(|clock| clock.now()).chain(copy);
        // Rounded up, so that it is over then.
        ends.filter(|end| *end > now).min().map(|end| (end + Duration::from_nanos(2)).as_secs_f64())
    }
}

fn check(config: &ReplayConfig) -> Result<()> {
    let positive = |number: f64| number.is_finite() && number > 0.0;
    if !positive(config.prefill_tokens_per_s) || !positive(config.decode_tokens_per_s) {
        return Err(Error::Request("speeds must be more than 0 tokens a second".into()));
    }
    let tiers = config.tiers.iter().all(|tier| tier.bytes_per_s > 0.0 && tier.latency_s >= 0.0);
    if !positive(config.speed) || !positive(config.copy_bytes_per_s) || config.page_bytes == 0 || !tiers {
        return Err(Error::Request("bytes of a page, bytes a second and the trace's speed must be more than 0".into()));
    }
    if config.device_pages == 0 || config.page_tokens == 0 || config.max_seqs == 0 || config.step_tokens == 0 {
        return Err(Error::Request("pages, their tokens, sequences and tokens of a step must be at least 1".into()));
    }
    Ok(())
}

fn core(requests: usize, config: &ReplayConfig) -> Result<(Core<VirtualDevice>, Below)> {
    check(config)?;
    let groups = [GroupConfig { pages: config.device_pages, window: None }];
    let fingerprint = Fingerprint::new([("replay", b"".as_slice())]);
    let mut pages = Pages::new(fingerprint, config.page_tokens, config.step_tokens, &groups, config.prefix_cache);
    if config.curve {
        pages.cache.watch(CurveConfig::new(Kind::Kvick, config.device_pages, config.page_tokens));
    }
    let (pages, below) = put_below(pages, fingerprint, config)?;
    let scheduler = Scheduler::new(pages, config.step_tokens, config.max_seqs);
    let [prefill_s, decode_s] = [config.prefill_tokens_per_s, config.decode_tokens_per_s].map(|speed| 1.0 / speed);
    let runner = VirtualDevice { prefill_s, decode_s, now: 0.0, took: 0.0, given: vec![Given::default(); requests] };
    let stats = Stats { copied_pages: vec![0], ..Stats::default() };
    Ok((Core { scheduler, runner, tokenizer: None, stats, stalled: false }, below))
}

/// Puts the tiers below the pages, with the engine's own choices of how much is in flight.
fn put_below(pages: Pages, fingerprint: Fingerprint, config: &ReplayConfig) -> Result<(Pages, Below)> {
    let mut below = Below::default();
    if config.tiers.is_empty() {
        return Ok((pages, below));
    }
    let mut tiers = Tiers::new(fingerprint, None, below.clock.clone());
    for tier in &config.tiers {
        let clock = Arc::new(VirtualClock::default());
        let store = TimedStore::new(*tier, config.page_bytes, Arc::clone(&clock));
        below.stores.push(Arc::clone(&store.moved));
        tiers.push_on(Box::new(store), Arc::clone(&clock) as _);
        below.clocks.push(clock);
    }
    let two_steps = pages_of_two_steps(config.step_tokens, config.page_tokens, 1);
    let room = two_steps as u64 * config.page_bytes;
    let (io, copy) = TimedIo::new(Arc::clone(&below.clock), config.copy_bytes_per_s, config.page_bytes, room);
    (below.link, below.copy) = (Arc::clone(&io.moved), copy);
    let usual = ManagerConfig::new(vec![[(1, HALF); 2]]);
    let queued = (usual.queued / config.page_bytes).max(1) * 2 * HALF as u64;
    let manager =
        ManagerConfig { queued, copying: usual.copying.max(two_steps), calls_in_poll: Some(usize::MAX), ..usual };
    let failed = |e| Error::Device(format!("no thread for a tier: {e}"));
    Ok((pages.with_tiers(Box::new(io), tiers, manager).map_err(failed)?, below))
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
