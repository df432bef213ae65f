//! Requests that give their pages up and come back answer as if nothing had happened, to the bit on `cpu`: where their pages are
//! computed again, where a tier gives them back, and where found pages are checked meanwhile.
#![cfg(feature = "engine")]
mod common;
use common::conversations::{engine, pages, request, same};
use kvick::engine::Comebacks;
use kvick::{Completion, Engine, EngineConfig};

const TOKENS: usize = 50;

fn prompts() -> Vec<Vec<u32>> {
    (0..4u32).map(|seed| (0..30).map(|i| (i * 31 + seed * 101) % 250 + 2).collect()).collect()
}

/// Answers to all prompts at once on a device of 16 pages, and how what was given up came back.
fn crowd(model: &str, alone: &Engine, tiers: &[&str]) -> (Vec<Completion>, Comebacks) {
    let memory = pages(alone, 16);
    let shared = engine(model, "cpu", |config: &mut EngineConfig| {
        config.kv_memory = Some(memory);
        config.tiers = tiers.iter().map(|tier| tier.parse().unwrap()).collect();
        (config.verify, config.verify_every) = (true, 2);
    });
    let streams: Vec<_> = prompts().iter().map(|ids| shared.submit(request(ids, TOKENS)).unwrap()).collect();
    let answers = streams.into_iter().map(|stream| stream.wait().unwrap()).collect();
    let stats = shared.stats();
    assert!(stats.preemptions > 0 && stats.verified.differed == 0, "{model}, {tiers:?}: {stats:?}");
    assert_eq!(stats.cache.hit_tokens, 0, "{model}, {tiers:?}: its own pages are no hits");
    (answers, stats.comebacks)
}

#[test]
fn who_gave_way_goes_on_to_the_bit() {
    for model in ["llama", "gemma3"] {
        let alone = engine(model, "cpu", |config| (config.max_seqs, config.prefix_cache) = (1, false));
        let expected: Vec<_> = prompts().iter().map(|ids| alone.complete(request(ids, TOKENS)).unwrap()).collect();
        for tiers in [&[][..], &["host=64MB"]] {
            let (answers, back) = crowd(model, &alone, tiers);
            for (seed, (expected, actual)) in expected.iter().zip(&answers).enumerate() {
                same(&format!("{model}, {tiers:?}, prompt {seed}, {back:?}"), true, expected, actual);
            }
            match tiers.len() {
                0 => assert!(back.computed > 0 && back.loaded == 0, "{model}: {back:?}"),
                _ => assert!(back.loaded > 0, "{model}: {back:?}"),
            }
        }
    }
}
