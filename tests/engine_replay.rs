//! Traces through the real scheduler and cache on a virtual clock: times and hits that can be worked out by hand.
#![cfg(feature = "engine")]
use kvick::engine::replay::{ReplayConfig, Replayed, VirtualTier, replay};
use kvick::kv::trace::{BLOCK_TOKENS, Trace};
use kvick::kv::workload::chat;
use std::collections::HashMap;

fn trace(lines: &[(u64, usize, usize, &[u64])]) -> Trace {
    let line = |&(timestamp, input, output, ids): &(u64, usize, usize, &[u64])| {
        format!(r#"{{"timestamp":{timestamp},"input_length":{input},"output_length":{output},"hash_ids":{ids:?}}}"#)
    };
    Trace::read(lines.iter().map(line).collect::<Vec<_>>().join("\n").as_bytes()).expect("a good trace")
}

fn slow() -> ReplayConfig {
    ReplayConfig {
        device_pages: 1000,
        max_seqs: 4,
        step_tokens: 512,
        prefill_tokens_per_s: 512.0,
        decode_tokens_per_s: 8.0,
        ..ReplayConfig::default()
    }
}

#[test]
fn times_are_those_of_the_steps() {
    let requests = [(0, 1024, 3, &[1u64, 2][..]), (10_000, 1024, 2, &[1, 2]), (20_000, 1500, 1, &[1, 3, 4])];
    let cached = replay(&trace(&requests), &slow()).unwrap();
    // 1024 tokens in two steps; one token of the second prompt; 988 of the third, in a step of 512 and one of 476.
    assert_eq!((cached.requests, cached.refused, cached.prefill_tokens), (3, 0, 1024 + 988));
    assert_eq!((cached.ttft.p1, cached.ttft.p50, cached.ttft.p99), (0.125, 1.0 + 476.0 / 512.0, 2.0));
    assert_eq!((cached.answer_tokens_per_s.p1, cached.answer_tokens_per_s.p99), (8.0, 8.0));
    assert_eq!(cached.virtual_seconds, 20.0 + cached.ttft.p50);
    assert_eq!(cached.hit_percent, 100.0 * (1023 + 512) as f64 / 3548.0);
    assert_eq!(cached.tokens_per_s, (3548 + 6) as f64 / cached.virtual_seconds);
    assert_eq!(cached.steps, 2 + 2 + 2 + 2);

    let blank = replay(&trace(&requests), &ReplayConfig { prefix_cache: false, ..slow() }).unwrap();
    assert_eq!((blank.hit_percent, blank.prefill_tokens), (0.0, 3548));
    assert_eq!((blank.ttft.p1, blank.ttft.p99), (2.0, 2.0 + 476.0 / 512.0));
}

#[test]
fn who_waits_is_timed_from_arrival_and_what_never_fits_is_refused() {
    let requests =
        [(1000, 512, 1, &[1u64][..]), (1000, 512, 1, &[2]), (1000, 20_000, 1, &[3; 40]), (90_000, 512, 1, &[1])];
    let replayed = replay(&trace(&requests), &ReplayConfig { max_seqs: 1, ..slow() }).unwrap();
    assert_eq!((replayed.requests, replayed.refused), (3, 1));
    assert_eq!((replayed.ttft.p99, replayed.ttft.p50, replayed.ttft.p1), (2.0, 1.0, 0.125));
    assert_eq!(replayed.virtual_seconds, 89.125);
    let error = replay(&trace(&requests), &ReplayConfig { decode_tokens_per_s: 0.0, ..slow() }).unwrap_err();
    assert!(error.to_string().contains("more than 0"), "{error}");
}

/// With room for all, and each request served before the next comes, a prompt finds what any prompt before it begins with.
#[test]
fn finds_all_that_came_before_where_there_is_room() {
    let trace = chat(41, 300);
    let quick = ReplayConfig {
        device_pages: 400_000,
        prefill_tokens_per_s: 1e12,
        decode_tokens_per_s: 1e12,
        curve: true,
        ..ReplayConfig::default()
    };
    let (mut known, mut found, mut asked) = (HashMap::new(), 0, 0);
    for request in trace.requests() {
        let shared = request.blocks.iter().take_while(|&&block| known.contains_key(&block)).count();
        found += (shared * BLOCK_TOKENS).min(request.input_length - 1);
        asked += request.input_length;
        known.extend(request.blocks.iter().map(|&block| (block, ())));
    }
    let replayed = replay(&trace, &quick).unwrap();
    assert_eq!(replayed.hit_percent, 100.0 * found as f64 / asked as f64);
    assert_eq!(replayed.requests, 300);
    let again = replay(&trace, &quick).unwrap();
    let timeless = |replayed: &Replayed| Replayed { seconds: 0.0, curve_seconds: 0.0, ..replayed.clone() };
    assert_eq!(timeless(&again), timeless(&replayed));
    let unseen = replay(&trace, &ReplayConfig { curve: false, ..quick }).unwrap();
    let curve = replayed.curve.as_ref().expect("was on");
    assert!(curve.sampled > 0 && curve.sampled * 256 < curve.references, "{} of {}", curve.sampled, curve.references);
    assert_eq!(Replayed { curve: None, ..timeless(&replayed) }, timeless(&unseen));
}

/// A device that holds one of two prompts, which come in turn, over a link that copies a page in a millisecond.
fn alternating(turns: u64, tiers: Vec<VirtualTier>) -> Replayed {
    let blocks = [[1u64, 2], [3, 4]];
    let requests: Vec<_> = (0..turns).map(|n| (20_000 * n, 1024, 3, &blocks[n as usize % 2][..])).collect();
    let page_bytes = 2 << 20;
    let config =
        ReplayConfig { device_pages: 66, page_bytes, copy_bytes_per_s: page_bytes as f64 * 1000.0, tiers, ..slow() };
    replay(&trace(&requests), &config).unwrap()
}

fn tier(name: &'static str, pages: Option<usize>, pages_per_s: f64) -> VirtualTier {
    VirtualTier { name, pages, bytes_per_s: pages_per_s * (2 << 20) as f64, latency_s: 0.0 }
}

#[test]
fn a_prompt_comes_back_from_the_host_in_the_time_of_its_copy() {
    let alone = alternating(3, Vec::new());
    let host = alternating(3, vec![tier("host", Some(1000), f64::INFINITY)]);
    // The root's page stays on the device, and more never.
    assert!((3 * 1024 - 32..=3 * 1024).contains(&alone.prefill_tokens), "{alone:?}");
    assert_eq!((alone.copied_bytes, alone.tiers.len()), ([0, 0], 0));
    // All but the last page, whose last token's logits are wanted.
    assert_eq!(host.prefill_tokens, 2 * 1024 + 16, "{host:?}");
    let loaded = host.tiers[0].hit_tokens;
    assert!((1008 - 32..=1008).contains(&loaded), "{host:?}");
    // A step of the last 16 tokens, a millisecond for each page, and what it takes to see that they are there.
    let copying = loaded as f64 / 16.0 / 1000.0;
    assert!(host.ttft.p1 >= 0.125 + copying && host.ttft.p1 <= 0.125 + copying + 0.02, "{host:?}");
    assert_eq!(host.copied_bytes[1], loaded / 16 * (2 << 20));
    // Each page of the two prompts, of which the last has two tokens of the answer, goes down once.
    assert_eq!((host.copied_bytes[0], host.tiers[0].busy), (2 * 65 * (2 << 20), 0), "{host:?}");
    assert_eq!(host.tiers[0].written_bytes, host.copied_bytes[0]);
    assert_eq!(host.tiers[0].read_bytes, host.copied_bytes[1]);
}

/// How fast a store is must be found out, by one load.
#[test]
fn a_store_that_is_slower_than_computing_is_left_alone() {
    let fast = alternating(8, vec![tier("disk", Some(1000), 2000.0)]);
    assert!(fast.tiers[0].slower == 0 && fast.prefill_tokens <= 2 * 1024 + 6 * 16, "{fast:?}");
    let slow = alternating(8, vec![tier("disk", Some(1000), 10.0)]);
    assert!(slow.tiers[0].slower >= 5 && slow.tiers[0].hit_tokens <= 1008, "{slow:?}");
    // The first page stays on the device.
    assert_eq!((slow.ttft.p50, fast.ttft.p50 < 0.5), (2.0 - 16.0 / 512.0, true), "{slow:?}, {fast:?}");
}

#[test]
fn more_tiers_compute_less_and_equal_runs_are_equal() {
    let trace = chat(43, 200);
    let all = [
        tier("host", Some(60_000), f64::INFINITY),
        tier("disk", Some(100_000), 1e5),
        VirtualTier { latency_s: 1e-5, ..tier("store", None, 1e6) },
    ];
    let with = |tiers: usize| {
        let tiers = all[..tiers].to_vec();
        let config =
            ReplayConfig { device_pages: 9000, copy_bytes_per_s: 1e12, speed: 0.2, tiers, ..ReplayConfig::default() };
        replay(&trace, &config).unwrap()
    };
    let runs: Vec<Replayed> = (0..=3).map(with).collect();
    let computed: Vec<u64> = runs.iter().map(|run| run.prefill_tokens).collect();
    assert!(computed.is_sorted_by(|a, b| a >= b) && computed[2] < computed[0], "{computed:?}");
    assert!(runs.iter().all(|run| run.requests == 200), "{runs:?}");
    let hits: Vec<u64> = runs[2].tiers.iter().map(|tier| tier.hit_tokens).collect();
    assert!(hits.iter().all(|&tokens| tokens > 0), "{hits:?}");
    assert_eq!(Replayed { seconds: 0.0, ..with(3) }, Replayed { seconds: 0.0, ..runs[3].clone() });
}
