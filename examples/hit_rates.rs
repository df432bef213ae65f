//! Replays a trace and holds our policy to its bounds: `cargo run --release --no-default-features --features kv --example
//! hit_rates -- TRACE.jsonl`. Fails if a bound is missed.
use kvick::kv::policy::Kind;
use kvick::kv::replay::replay;
use kvick::kv::trace::Trace;
use std::process::ExitCode;

/// Blocks, and the least hits in % on the published conversation trace.
const BOUNDS: [(usize, f64); 4] = [(1000, 7.5), (3000, 13.0), (10_000, 22.3), (30_000, 32.8)];
const CLASSICS: [Kind; 4] = [Kind::Lru, Kind::Lfu, Kind::Arc, Kind::S3Fifo];
const CAPACITIES: [usize; 16] = [
    500, 1000, 2000, 3000, 5000, 7500, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 60_000, 80_000, 100_000,
];

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
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
