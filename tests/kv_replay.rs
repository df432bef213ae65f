//! Policies in replay: known answers on a trace small enough to follow by hand, order between policies on generated ones.
#![cfg(feature = "kv")]
use kvick::kv::curve::{CurveConfig, WhatIf};
use kvick::kv::policy::Kind;
use kvick::kv::replay::{replay, replay_watched};
use kvick::kv::trace::{BLOCK_TOKENS, Trace};
use kvick::kv::workload::{chat, documents, scans, surges};
use std::collections::HashMap;

fn trace(requests: &[&[u64]]) -> Trace {
    let lines: Vec<String> = requests
        .iter()
        .enumerate()
        .map(|(at, blocks)| {
            let length = 512 * blocks.len();
            format!(r#"{{"timestamp":{},"input_length":{length},"output_length":1,"hash_ids":{blocks:?}}}"#, at * 1000)
        })
        .collect();
    Trace::read(lines.join("\n").as_bytes()).expect("a good trace")
}

/// Hits of 100 references, as a whole number.
fn hits(trace: &Trace, kind: Kind, capacity: usize) -> usize {
    (replay(trace, kind, capacity).hit_percent * trace.references() as f64 / 100.0).round() as usize
}

#[test]
fn counts_a_prefix_and_nothing_after_a_gap() {
    let trace = trace(&[&[1, 2, 3], &[1, 2, 3], &[1, 4], &[1, 2, 3]]);
    for kind in Kind::ALL {
        assert_eq!(hits(&trace, kind, 100), 3 + 1 + 3, "{}", kind.name());
        assert_eq!(hits(&trace, kind, 0), 0, "{}", kind.name());
    }
    // With two blocks, LRU has [1 2] after the first request, and after [1 4] only those.
    assert_eq!(hits(&trace, Kind::Lru, 2), 2 + 1 + 1);
    assert_eq!(hits(&trace, Kind::Belady, 2), 2 + 1 + 2);
}

#[test]
fn frequency_outlasts_a_scan_where_recency_does_not() {
    let mut requests: Vec<Vec<u64>> = vec![vec![1, 2], vec![1, 2], vec![1, 2]];
    requests.extend((0..6).map(|scan| vec![10 + scan]));
    requests.push(vec![1, 2]);
    let requests: Vec<&[u64]> = requests.iter().map(Vec::as_slice).collect();
    let trace = trace(&requests);
    for (kind, expected) in
        [(Kind::Lru, 4), (Kind::Lfu, 6), (Kind::PerfectLfu, 6), (Kind::Arc, 6), (Kind::S3Fifo, 6), (Kind::Kvick, 6)]
    {
        assert_eq!(hits(&trace, kind, 4), expected, "{}", kind.name());
    }
}

#[test]
fn is_deterministic() {
    let trace = chat(11, 1500);
    for kind in Kind::ALL {
        let (a, b) = (replay(&trace, kind, 1000), replay(&trace, kind, 1000));
        assert_eq!((a.hit_percent, a.half_percent), (b.hit_percent, b.half_percent), "{}", kind.name());
    }
}

/// The same run twice says the same, and watching changes nothing.
#[test]
fn the_live_curve_only_watches() {
    const CAPACITIES: [usize; 3] = [1500, 5000, 15_000];
    for seed in [31, 32] {
        let trace = chat(seed, 6000);
        for capacity in CAPACITIES {
            let config = CurveConfig::new(Kind::Kvick, capacity, BLOCK_TOKENS);
            let config = CurveConfig { others: CAPACITIES.to_vec(), seed, ..config };
            let (row, report) = replay_watched(&trace, config.clone());
            assert_eq!(row.hit_percent, replay(&trace, Kind::Kvick, capacity).hit_percent, "seed {seed}");
            assert_eq!(report, replay_watched(&trace, config).1, "seed {seed}");
            assert_eq!((report.references, report.actual.hit_percent), (trace.references() as u64, row.hit_percent));
            assert_eq!((report.points.len(), report.regret.len()), (3 + 3 + 4, 5));
            assert!(report.sampled * 8 < report.references, "{} of {}", report.sampled, report.references);
        }
    }
}

/// Whichever pages are in the sample.
#[test]
fn the_live_curve_is_right_with_any_sample() {
    const CAPACITIES: [usize; 3] = [3000, 7000, 15_000];
    let trace = chat(33, 6000);
    let mut exact = HashMap::new();
    for (capacity, seed) in CAPACITIES.into_iter().flat_map(|capacity| (0..4).map(move |seed| (capacity, seed))) {
        let config = CurveConfig::new(Kind::Kvick, capacity, BLOCK_TOKENS);
        let (_, report) = replay_watched(&trace, CurveConfig { others: CAPACITIES.to_vec(), seed, ..config });
        for WhatIf { policy, pages, hit_percent } in report.points {
            let percent = || replay(&trace, policy.parse().expect("a policy"), pages).hit_percent;
            let found = *exact.entry((policy, pages)).or_insert_with(percent);
            let error = (hit_percent - found).abs();
            assert!(error <= 1.5, "seed {seed}, live at {capacity}: {policy} at {pages} {hit_percent} for {found}");
        }
    }
}

/// Where ours follows a classic policy, others are compared with that one.
#[test]
fn the_live_curve_knows_whom_ours_follows() {
    let trace = surges(51, 30_000);
    let exact = Kind::CLASSICS.map(|kind| replay(&trace, kind, 2000).hit_percent);
    for seed in 0..4 {
        let config = CurveConfig { seed, ..CurveConfig::new(Kind::Kvick, 2000, BLOCK_TOKENS) };
        let (row, report) = replay_watched(&trace, config);
        for (exact, (policy, regret)) in exact.into_iter().zip(report.regret) {
            let error = (row.hit_percent + regret - exact).abs();
            assert!(error <= 1.5, "seed {seed}: {policy} {regret} more than {}, for {exact}", row.hit_percent);
        }
    }
}

/// On loads it was not made for, ours is never more than a point below the best classic, and on chat it is above. Belady's is
/// above all.
#[test]
fn ours_against_the_classics() {
    const CLASSICS: [Kind; 4] = [Kind::Lru, Kind::Lfu, Kind::Arc, Kind::S3Fifo];
    type Make = fn(u64, usize) -> Trace;
    for (name, make, margin) in [("chat", chat as Make, 0.3), ("scans", scans, 0.3), ("documents", documents, -1.0)] {
        for seed in [21, 22] {
            let trace = make(seed, 6000);
            for capacity in [700, 3000, 10_000] {
                let percent = |kind| replay(&trace, kind, capacity).hit_percent;
                let (ours, bound) = (percent(Kind::Kvick), percent(Kind::Belady));
                let classic = CLASSICS.map(percent).into_iter().fold(0.0, f64::max);
                let report = format!(
                    "{name} seed {seed}, {capacity} blocks: ours {ours}, best classic {classic}, bound {bound}"
                );
                assert!(ours >= classic + margin, "{report}");
                assert!(bound >= ours && bound >= classic, "{report}");
            }
        }
    }
}
