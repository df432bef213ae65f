//! What became of a trace: times of requests, and what the cache and each tier did for them.
use super::tiers::Moved;
use super::{Below, ReplayConfig, VirtualDevice, VirtualTier, seconds};
use crate::engine::core::Core;
use crate::engine::session::Stats;
use crate::kv::curve::CurveReport;
use crate::kv::tier::TierReport;
use crate::kv::trace::Trace;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    /// Bytes copied from the device to host memory, and back.
    pub copied_bytes: [u64; 2],
    /// What each tier below the device did, nearest first.
    pub tiers: Vec<TierUse>,
    /// What the cache estimated.
    pub curve: Option<CurveReport>,
    /// Of real time, in the scheduler and the cache: the device takes none.
    pub seconds: f64,
    /// Of these, for the curve.
    pub curve_seconds: f64,
}

/// What a tier did.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TierUse {
    /// Its name.
    pub name: &'static str,
    /// Prompt tokens that were loaded from it in place of being computed.
    pub hit_tokens: u64,
    /// Bytes of pages written to it and read from it.
    pub written_bytes: u64,
    /// See `written_bytes`.
    pub read_bytes: u64,
    /// Pages that were not kept because too much was in flight.
    pub busy: u64,
    /// Loads that were not made because computing was faster.
    pub slower: u64,
}

pub(super) fn report(trace: &Trace, config: &ReplayConfig, core: &mut Core<VirtualDevice>, below: &Below) -> Replayed {
    let served = || trace.requests().zip(&core.runner.given).filter(|(_, given)| given.tokens > 0);
    let ttft = served().map(|(request, given)| given.first - seconds(&request, config)).collect();
    let long = served().filter(|(_, given)| given.last > given.first);
    let speeds = long.map(|(_, given)| (given.tokens - 1) as f64 / (given.last - given.first)).collect();
    let tokens: usize = served().map(|(request, given)| request.input_length + given.tokens).sum();
    let began = trace.get(0).map_or(0.0, |request| seconds(&request, config));
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
        copied_bytes: read(&below.link),
        tiers: uses(config, &core.stats, below),
        curve: core.scheduler.pages.cache.curve(),
        seconds: 0.0,
        curve_seconds: 0.0,
    }
}

fn read(moved: &Moved) -> [u64; 2] {
    [&moved.down, &moved.up].map(|bytes| bytes.load(Ordering::Relaxed))
}

fn uses(config: &ReplayConfig, stats: &Stats, below: &Below) -> Vec<TierUse> {
    let tiers = config.tiers.iter().zip(&stats.tiers).zip(&below.stores);
    let of = |((tier, report), moved): ((&VirtualTier, &TierReport), &Arc<Moved>)| {
        let [written_bytes, read_bytes] = read(moved);
        let TierReport { hit_tokens, busy, slower, .. } = *report;
        TierUse { name: tier.name, hit_tokens, written_bytes, read_bytes, busy, slower }
    };
    tiers.map(of).collect()
}

fn quantiles(mut values: Vec<f64>) -> Quantiles {
    values.sort_by(f64::total_cmp);
    let rank = |share: f64| ((values.len() as f64 * share).ceil() as usize).saturating_sub(1);
    let at = |share: f64| values.get(rank(share)).copied().unwrap_or(0.0);
    Quantiles { p1: at(0.01), p10: at(0.1), p50: at(0.5), p90: at(0.9), p99: at(0.99) }
}
