//! Replays a trace and holds our policy and the live curve to their bounds: `cargo run --release --no-default-features --features kv --example
//! hit_rates -- TRACE.jsonl`. Fails if a bound is missed.
use kvick::kv::curve::{CurveConfig, WhatIf};
use kvick::kv::policy::Kind;
use kvick::kv::replay::{replay, replay_watched};
use kvick::kv::trace::{BLOCK_TOKENS, Trace};
use std::collections::HashMap;
use std::process::ExitCode;

/// Blocks, and the least hits in % on the published conversation trace.
const BOUNDS: [(usize, f64); 4] = [(1000, 7.5), (3000, 13.0), (10_000, 22.3), (30_000, 32.8)];
const CLASSICS: [Kind; 4] = [Kind::Lru, Kind::Lfu, Kind::Arc, Kind::S3Fifo];
const CAPACITIES: [usize; 16] = [
    500, 1000, 2000, 3000, 5000, 7500, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 60_000, 80_000, 100_000,
];

/// Blocks of caches with a live curve, which says what the others would find, within so many points.
const LIVE: [usize; 3] = [3000, 10_000, 30_000];
const LIVE_POINTS: f64 = 1.5;
/// Samples of pages, each by another seed.
const SAMPLES: u64 = 20;

/// Whether the live curve of one cache is right about the others and about the baselines, whichever pages it samples.
fn live(trace: &Trace, capacity: usize, exact: &mut HashMap<(&'static str, usize), f64>) -> bool {
    let mut worst = (0.0f64, WhatIf::default(), 0);
    let mut estimates = 0;
    for seed in 0..SAMPLES {
        let config = CurveConfig::new(Kind::Kvick, capacity, BLOCK_TOKENS);
        let (_, report) = replay_watched(trace, CurveConfig { others: LIVE.to_vec(), seed, ..config });
        estimates += report.points.len();
        for what in report.points {
            let percent = || replay(trace, what.policy.parse().expect("a policy"), what.pages).hit_percent;
            let error = what.hit_percent - *exact.entry((what.policy, what.pages)).or_insert_with(percent);
            if error.abs() > worst.0.abs() {
                worst = (error, what, seed);
            }
        }
    }
    let (error, what, seed) = worst;
    let met = error.abs() <= LIVE_POINTS;
    let missed = if met { "" } else { "   MISSED" };
    println!(
        "live at {capacity:>5} blocks: {estimates} estimates, the worst {error:+.2} points ({} at {}, sample {seed}), bound {LIVE_POINTS}{missed}",
        what.policy, what.pages
    );
    met
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: hit_rates TRACE.jsonl");
        return ExitCode::from(2);
    };
    let trace = match Trace::open(path.as_ref()) {
        Ok(trace) => trace,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut good = true;
    for capacity in CAPACITIES {
        let ours = replay(&trace, Kind::Kvick, capacity).hit_percent;
        let best = CLASSICS.map(|kind| replay(&trace, kind, capacity).hit_percent).into_iter().fold(0.0, f64::max);
        let bound = BOUNDS.iter().find(|(c, _)| *c == capacity).map_or(0.0, |(_, b)| *b);
        let met = ours >= bound && ours >= best - 0.3;
        let missed = if met { "" } else { "   MISSED" };
        println!("{capacity:>7} blocks: kvick {ours:>6.2} %, best classic {best:>6.2} %, bound {bound:>5.1} %{missed}");
        good &= met;
    }
    let mut exact = HashMap::new();
    for capacity in LIVE {
        good &= live(&trace, capacity, &mut exact);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
