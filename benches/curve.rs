//! What the live curve costs beside the scheduler, with its bound; fails if it is missed.
//!
//! `cargo bench --bench curve [-- --trace FILE]`: the same requests through the real scheduler and cache, by turns with and
//! without the curve, on a device that takes no time. CPU time of the thread, the least of several rounds.
use kvick::engine::replay::{ReplayConfig, replay};
use kvick::kv::trace::Trace;
use kvick::kv::workload::chat;
use std::process::ExitCode;

const ROUNDS: usize = 9;
const MOST_PERCENT: f64 = 1.0;

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

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
    let mut least = [f64::MAX; 2];
    for round in 0..ROUNDS {
        for curve in [false, true] {
            let start = cpu();
            if let Err(error) = replay(&trace, &ReplayConfig { curve, ..ReplayConfig::default() }) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
            let seconds = cpu() - start;
            println!("round {round}, curve {curve}: {seconds:.3} s");
            least[usize::from(curve)] = least[usize::from(curve)].min(seconds);
        }
    }
    let [without, with] = least;
    let (percent, each) = (100.0 * (with / without - 1.0), (with - without) / trace.len() as f64 * 1e6);
    println!("the live curve: {percent:+.2} % of the scheduler's CPU, {each:.1} us a request, bound {MOST_PERCENT} %");
    if percent <= MOST_PERCENT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
