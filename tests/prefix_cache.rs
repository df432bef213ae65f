//! What a prompt finds in the cache does not change its answer: conversations that share beginnings, go on, are evicted and
//! preempted, against an engine that computes every prompt whole and alone. Bit-equal on `cpu`; on a device whose kernels
//! choose their shapes by the batch, within the project's bound.
#![cfg(feature = "engine")]
mod common;
use common::conversations::{Load, device, engine, pages};
use kvick::engine::Stats;

/// Serves a random load; returns what the engine counted.
fn serve(model: &str, device: &str, seed: u64, rounds: usize, held: u64) -> Stats {
    let mut load = Load::new(model, device, seed);
    let memory = pages(load.alone(), held);
    let shared = engine(model, device, |config| config.kv_memory = Some(memory));
    (0..rounds).for_each(|round| load.round(round, &[&shared]));
    assert_eq!(load.alone().stats().cache.hit_tokens, 0);
    shared.stats()
}

#[test]
fn answers_do_not_depend_on_what_is_cached() {
    for model in ["llama", "gemma3"] {
        // Fifteen pages: one long text fits, four do not.
        let few = serve(model, "cpu", 11, 60, 15);
        let cache = few.cache;
        assert!(cache.hit_tokens > 0 && cache.copied_tokens > 0 && cache.evicted > 0, "{model}: {few:?}");
        assert_eq!(cache.hit_tokens + cache.missed.tokens(), cache.tokens, "{model}: {cache:?}");
        let many = serve(model, "cpu", 12, 40, 2000).cache;
        assert!(many.hit_tokens > many.tokens / 2 && many.evicted == 0, "{model}: {many:?}");
    }
}

#[test]
fn nor_on_the_device() {
    for model in ["llama", "gemma3"] {
        let cache = serve(model, &device(), 13, 6, 30).cache;
        assert!(cache.hit_tokens > 0 && cache.copied_tokens > 0, "{model}: {cache:?}");
    }
}
