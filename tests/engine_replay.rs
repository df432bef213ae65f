//! Traces through the real scheduler and cache on a virtual clock: times and hits that can be worked out by hand.
#![cfg(feature = "engine")]
use kvick::engine::replay::{ReplayConfig, Replayed, replay};
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
