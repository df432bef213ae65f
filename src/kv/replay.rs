//! Replay of a trace through the real cache and policies: deterministic, with the time of the trace.
//!
//! How hits are counted: a request's hits are its longest prefix of cached blocks, the partly filled last one included; then
//! all its blocks are cached, and the policy evicts down to the capacity, so that newcomers may go first.
use super::cache::{Cache, GroupConfig};
use super::curve::{CurveConfig, CurveReport};
use super::key::{Fingerprint, Keys};
use super::policy::{Kind, Policy};
use super::trace::Trace;
use std::time::Instant;

/// What a policy reached with a capacity.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    /// The policy.
    pub policy: &'static str,
    /// Blocks.
    pub capacity: usize,
    /// Hits per 100 block references.
    pub hit_percent: f64,
    /// The same for the first and the second half of the requests.
    pub half_percent: [f64; 2],
    /// Of the replay alone.
    pub seconds: f64,
}

/// Replays all requests of a trace.
pub fn replay(trace: &Trace, policy: Kind, capacity: usize) -> Row {
    run(trace, policy, capacity, None).0
}

/// Replays all requests of a trace through a policy that is not among the [`Kind`]s.
#[cfg(test)]
pub(in crate::kv) fn replay_with(trace: &Trace, capacity: usize, policy: impl Fn() -> Box<dyn Policy>) -> Row {
    serve(trace, capacity, cache(trace, Kind::Kvick, capacity, policy), Kind::Kvick).0
}

/// Replays all requests of a trace with the live curve on: the policy and the blocks of `config`.
pub fn replay_watched(trace: &Trace, config: CurveConfig) -> (Row, CurveReport) {
    let (row, report) = run(trace, config.policy, config.pages, Some(config));
    (row, report.unwrap_or_default())
}

fn run(trace: &Trace, policy: Kind, capacity: usize, watch: Option<CurveConfig>) -> (Row, Option<CurveReport>) {
    let mut cache = cache(trace, policy, capacity, || policy.build(capacity, Some(trace)));
    if let Some(config) = watch {
        cache.watch(config);
    }
    serve(trace, capacity, cache, policy)
}

fn cache(trace: &Trace, kind: Kind, capacity: usize, policy: impl Fn() -> Box<dyn Policy>) -> Cache {
    let fingerprint = Fingerprint::new([("trace", b"".as_slice())]);
    let group = GroupConfig { pages: capacity + trace.longest(), window: None };
    Cache::new(fingerprint, 2, &[group], kind.ghosts(capacity), policy)
}

fn serve(trace: &Trace, capacity: usize, mut cache: Cache, policy: Kind) -> (Row, Option<CurveReport>) {
    let start = Instant::now();
    let root = cache.root(b"");
    let mut halves = [(0, 0); 2];
    for (index, request) in trace.requests().enumerate() {
        let keys = Keys::from_ids(root, request.blocks, request.partial);
        let before = cache.counters().hits;
        let mut lease = cache.start(&keys, usize::MAX, request.timestamp);
        let grown = cache.grow(&mut lease, keys.tokens().len());
        debug_assert!(grown, "the pool has room for the capacity and the longest request");
        lease.take_copies();
        cache.finish(lease, &keys, keys.tokens().len(), request.timestamp);
        cache.trim(0, capacity);
        let half = &mut halves[index * 2 / trace.len()];
        half.0 += cache.counters().hits - before;
        half.1 += request.blocks.len() as u64;
    }
    let seconds = start.elapsed().as_secs_f64();
    let [(a, all_a), (b, all_b)] = halves;
    let percent = |hits: u64, all: u64| if all == 0 { 0.0 } else { 100.0 * hits as f64 / all as f64 };
    let row = Row {
        policy: policy.name(),
        capacity,
        hit_percent: percent(a + b, all_a + all_b),
        half_percent: [percent(a, all_a), percent(b, all_b)],
        seconds,
    };
    (row, cache.curve())
}
