//! What the live curve costs beside the scheduler, with its bound; fails if it is missed.
//!
//! `cargo bench --bench curve [-- --trace FILE]`: requests through the real scheduler and cache, on a device that takes no time.
//! The curve's own time and all of a round are taken in the same round, so that what else the machine does weighs on both; the
//! median of the rounds counts.
use kvick::engine::replay::{ReplayConfig, replay};
use kvick::kv::trace::Trace;
use kvick::kv::workload::chat;
use std::process::ExitCode;

const ROUNDS: usize = 9;
const MOST_PERCENT: f64 = 1.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let trace = match args.iter().position(|arg| arg == "--trace").and_then(|at| args.get(at + 1)) {
        None => chat(1, 1500),
        Some(path) => match Trace::open(path.as_ref()) {
            Ok(trace) => trace,
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    let mut percents = Vec::new();
    for round in 0..ROUNDS {
        match replay(&trace, &ReplayConfig { curve: true, ..ReplayConfig::default() }) {
            Ok(replayed) => {
                let rest = replayed.seconds - replayed.curve_seconds;
                let sampled = replayed.curve.as_ref().map_or(0, |curve| curve.sampled);
                let each = replayed.curve_seconds / trace.len() as f64 * 1e6;
                percents.push(100.0 * replayed.curve_seconds / rest);
                println!("round {round}: {rest:.3} s, {each:.1} us a request for the curve, {sampled} pages sampled");
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    percents.sort_by(f64::total_cmp);
    let (least, percent, most) = (percents[0], percents[ROUNDS / 2], percents[ROUNDS - 1]);
    println!(
        "the live curve: {percent:.2} % of the scheduler's time ({least:.2} to {most:.2}), bound {MOST_PERCENT} %"
    );
    if percent <= MOST_PERCENT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
