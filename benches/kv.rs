//! Figures of the KV cache, each with its bound; fails if one is missed.
//!
//! `cargo bench --no-default-features --features kv --bench kv [-- --trace FILE]`. With a trace, the hit rates and replay speeds
//! of the policies over sixteen capacities too. Times are the least of several rounds, CPU time of the thread where it is
//! said, so that other programs disturb little.
use kvick::kv::cache::SharedCache;
use kvick::kv::policy::Kind;
use kvick::kv::replay::replay;
use kvick::kv::trace::Trace;
use kvick::kv::{Cache, Fingerprint, GroupConfig, Keys};
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::Instant;

const PAGE_TOKENS: usize = 16;
const PROMPT_PAGES: usize = 750;
const POOL_PAGES: usize = 100_000;
/// Of threads on one cache.
const ROUNDS: usize = 61;

struct Report(bool);

impl Report {
    fn line(&mut self, what: &str, value: f64, unit: &str, bound: f64, least: bool) {
        let met = if least { value >= bound } else { value <= bound };
        let sign = if least { ">=" } else { "<=" };
        let missed = if met { "" } else { "   MISSED" };
        println!("{what:<58} {value:>9.2} {unit:<8} {sign} {bound}{missed}");
        self.0 &= met;
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let mut report = Report(true);
    hashing(&mut report);
    requests(&mut report);
    threads(&mut report);
    isolation(&mut report);
    if let Some(path) = args.iter().position(|arg| arg == "--trace").and_then(|at| args.get(at + 1)) {
        match Trace::open(path.as_ref()) {
            Ok(trace) => policies(&mut report, &trace),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if report.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Least seconds of `rounds` runs.
fn least(rounds: usize, mut run: impl FnMut()) -> f64 {
    let seconds = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(|_| seconds(&mut run)).fold(f64::MAX, f64::min)
}

fn cache(pages: usize) -> Cache {
    let kind = Kind::Kvick;
    let fingerprint = Fingerprint::new([("bench", b"".as_slice())]);
    Cache::new(fingerprint, PAGE_TOKENS, &[GroupConfig { pages, window: None }], kind.ghosts(pages), || {
        kind.build(pages, None)
    })
}

fn prompt(cache: &Cache, number: usize, pages: usize) -> Keys {
    let tokens: Vec<u32> = (0..pages * PAGE_TOKENS).map(|at| (at * 7 + number * 1_000_003) as u32).collect();
    cache.keys(b"", &tokens)
}

/// One request: found or given room, computed, and let go.
fn serve(cache: &mut Cache, keys: &Keys, now: u64) {
    let tokens = keys.tokens().len();
    let mut lease = cache.start(keys, tokens, now);
    assert!(cache.grow(&mut lease, tokens));
    cache.finish(lease, keys, tokens, now);
}

fn hashing(report: &mut Report) {
    let cache = cache(1);
    let tokens: Vec<u32> = (0..(1000 * PAGE_TOKENS) as u32).collect();
    let root = cache.root(b"");
    let seconds = least(50, || {
        std::hint::black_box(Keys::new(root, PAGE_TOKENS, std::hint::black_box(&tokens)));
    });
    report.line("hashing a page of 16 tokens", seconds / 1000.0 * 1e9, "ns", 100.0, false);
}

fn requests(report: &mut Report) {
    let mut cache = cache(POOL_PAGES);
    let fill = POOL_PAGES / PROMPT_PAGES + 1;
    let mut now = 0;
    for number in 0..fill {
        now += 100;
        let keys = prompt(&cache, number, PROMPT_PAGES);
        serve(&mut cache, &keys, now);
    }
    let hot = prompt(&cache, fill - 1, PROMPT_PAGES);
    let hit = least(200, || {
        now += 100;
        serve(&mut cache, &hot, now);
    });
    report.line("match + allocate + free, 750 pages found", hit * 1e6, "us", 150.0, false);
    let mut number = fill;
    let misses: Vec<Keys> = (0..100).map(|at| prompt(&cache, number + at, PROMPT_PAGES)).collect();
    let miss = least(misses.len(), || {
        now += 100;
        serve(&mut cache, &misses[number - fill], now);
        number += 1;
    });
    report.line("match + allocate + free, 750 pages evicted", miss * 1e6, "us", 150.0, false);
    let long: Vec<Keys> = (0..30).map(|at| prompt(&cache, 1000 + at, 4 * PROMPT_PAGES)).collect();
    let mut at = 0;
    let four = least(long.len(), || {
        now += 100;
        serve(&mut cache, &long[at], now);
        at += 1;
    });
    report.line("four times the pages, time against one", four / miss, "x", 5.0, false);
}

/// CPU nanoseconds of this thread.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0)
}

/// What threads ask one cache for.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    /// All the same prompt, again and again.
    One,
    /// Each a prompt of its own, again and again.
    Distinct,
    /// Each always a new prompt, for which others are evicted.
    New,
}

/// CPU us a request of one round of requests by `threads` threads; `shared` is whether they use one cache.
fn contend(threads: usize, shared: bool, load: Load) -> f64 {
    let pages = POOL_PAGES / 10;
    let requests = if load == Load::New { 100 } else { 500 };
    let caches: Vec<SharedCache> = (0..threads).map(|_| SharedCache::new(cache(pages))).collect();
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        let cache = &caches[if shared { 0 } else { thread }];
        let keys = |number: usize| cache.with(|cache| prompt(cache, number, PROMPT_PAGES));
        let (first, prompts) = match load {
            Load::One => (0, 1),
            Load::Distinct => (thread, 1),
            // The first ones fill the cache.
            Load::New => (1000 * thread, requests + 2 * pages / PROMPT_PAGES),
        };
        let prompts: Vec<Keys> = (0..prompts).map(|number| keys(first + number)).collect();
        let request = |number: usize| {
            let keys = &prompts[number % prompts.len()];
            let tokens = keys.tokens().len();
            let mut lease = cache.start(keys, tokens, 0);
            assert!(cache.grow(&mut lease, tokens, |_| {}));
            cache.finish(lease, keys, tokens, 0);
        };
        let warm = prompts.len().saturating_sub(requests).max(1);
        (0..warm).for_each(request);
        barrier.wait();
        let start = cpu();
        (warm..warm + requests).for_each(request);
        (cpu() - start) / requests as f64 / 1e3
    };
    let run = &run;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let all: Vec<f64> = handles.into_iter().map(|handle| handle.join().expect("no panic")).collect();
        all.iter().sum::<f64>() / all.len() as f64
    })
}

fn threads(report: &mut Report) {
    for (what, load) in [("one prompt", Load::One), ("distinct prompts", Load::Distinct), ("new prompts", Load::New)] {
        // The three kinds take turns, and each round is compared with itself: what else runs disturbs them alike. The median of
        // many short rounds leaves out those in which it did not.
        let mut rounds: Vec<[f64; 3]> = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push([contend(1, true, load), contend(2, false, load), contend(2, true, load)]);
        }
        let [alone, control, shared] = [0, 1, 2].map(|kind| median(rounds.iter().map(|round| round[kind]).collect()));
        println!(
            "{what}: CPU us a request: one thread {alone:.1}, two with a cache each {control:.1}, two with one {shared:.1}"
        );
        let against = |&[alone, control, shared]: &[f64; 3]| shared / alone.max(control);
        let ratio = median(rounds.iter().map(against).collect());
        report.line(&format!("{what}: two threads, CPU against one and control"), ratio, "x", 1.1, false);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Whether the time of a tenant's lookups tells what another tenant has cached: the same tokens or others, in random turns.
fn isolation(report: &mut Report) {
    const LOOKUPS: usize = 10_000;
    const PAGES: usize = 32;
    let mut cache = cache(4 * PAGES * 64);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut times = [Vec::new(), Vec::new()];
    for lookup in 0..LOOKUPS + 100 {
        let asked: Vec<u32> = (0..PAGES * PAGE_TOKENS).map(|_| draw() as u32).collect();
        let other: Vec<u32> = (0..PAGES * PAGE_TOKENS).map(|_| draw() as u32).collect();
        let same = draw() >> 33 & 1;
        // Copied in both cases, so that what was touched last does not differ.
        let held = [other, asked.clone()][same as usize].clone();
        let now = 100 * lookup as u64;
        let keys = cache.keys(b"A", &held);
        serve(&mut cache, &keys, now);
        let start = Instant::now();
        let keys = cache.keys(b"B", &asked);
        let lease = cache.start(&keys, asked.len(), now);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(lease.filled(), 0, "nothing of another tenant is found");
        cache.cancel(lease);
        // The first ones find an empty cache.
        if lookup >= 100 {
            times[same as usize].push(seconds);
        }
    }
    let [other, same] = times.map(moments);
    println!(
        "a lookup with another tenant holding other tokens {:.2} us, the same {:.2} us",
        other.0 * 1e6,
        same.0 * 1e6
    );
    let t = (same.0 - other.0) / (same.1 + other.1).sqrt();
    report.line("isolation: Welch's |t| over 10,000 lookups", t.abs(), "", 4.5, false);
}

/// Mean, and variance of the mean, of all but the slowest twentieth, which other programs have disturbed.
fn moments(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    times.truncate(times.len() - times.len() / 20);
    let n = times.len() as f64;
    let mean = times.iter().sum::<f64>() / n;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance / n)
}

fn policies(report: &mut Report, trace: &Trace) {
    const CAPACITIES: [usize; 16] =
        [500, 700, 1000, 1400, 2000, 3000, 4000, 6000, 8000, 10_000, 14_000, 20_000, 30_000, 45_000, 65_000, 100_000];
    let wanted = [(1000, 7.5), (3000, 13.0), (10_000, 22.3), (30_000, 32.8)];
    for capacity in CAPACITIES {
        let classics = [Kind::Lru, Kind::Lfu, Kind::Arc, Kind::S3Fifo].map(|kind| replay(trace, kind, capacity));
        let rounds = || (0..3).map(|_| replay(trace, Kind::Kvick, capacity));
        let seconds = rounds().map(|row| row.seconds).fold(f64::MAX, f64::min);
        let ours = replay(trace, Kind::Kvick, capacity);
        let best = classics.iter().max_by(|a, b| a.hit_percent.total_cmp(&b.hit_percent)).expect("four");
        let [first, second] = ours.half_percent;
        println!(
            "{capacity} blocks: halves {first:.2} and {second:.2}; best classic {} {:.2}",
            best.policy, best.hit_percent
        );
        report.line("  hit %, against the best classic less 0.3", ours.hit_percent, "%", best.hit_percent - 0.3, true);
        if let Some(&(_, bound)) = wanted.iter().find(|(at, _)| *at == capacity) {
            report.line("  hit %", ours.hit_percent, "%", bound, true);
            let speed = |seconds: f64| trace.references() as f64 / seconds / 1e6;
            report.line("  replay of ours", speed(seconds), "M/s", 1.0, true);
            let lru = (0..3).map(|_| replay(trace, Kind::Lru, capacity).seconds).fold(f64::MAX, f64::min);
            report.line("  replay of LRU", speed(lru), "M/s", 5.0, true);
        }
    }
}
