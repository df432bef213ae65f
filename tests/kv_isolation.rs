//! The work of a tenant's request on the emulated GPU does not depend on what another tenant has in the cache: the same tokens
//! or others of equal length. One test, since a process has one set of counters.
#![cfg(feature = "engine")]
mod common;
use common::reference::tiny;
use kvick::device::{self, KernelWork};
use kvick::engine::Stats;
use kvick::{Completion, Engine, EngineConfig, Prompt, Request};

fn ids(seed: u32, tokens: usize) -> Vec<u32> {
    (0..tokens as u32).map(|i| (i * 31 + seed * 101) % 250 + 2).collect()
}

fn request(salt: &str, ids: Vec<u32>) -> Request {
    let prompt = Prompt::Ids(ids);
    Request { max_tokens: 3, ignore_eos: true, top_logits: 4, salt: salt.into(), ..Request::new(prompt) }
}

/// What tenant B's two requests took, and their answers.
fn work(model: &str, held: &[u32]) -> (Vec<KernelWork>, Stats, Vec<Completion>) {
    let config = EngineConfig {
        device: "emulator".into(),
        page_tokens: 8,
        context: Some(96),
        step_tokens: 32,
        max_seqs: 2,
        ..EngineConfig::default()
    };
    let engine = Engine::load_path(&tiny(model).folder, &config).unwrap();
    engine.complete(request("A", held.to_vec())).unwrap();
    // Counts of a step are published after its answer.
    engine.cache_stats().unwrap();
    device::reset_work();
    let turns = [ids(1, 45), [ids(1, 45), ids(3, 9)].concat()];
    let done = turns.map(|turn| engine.complete(request("B", turn)).unwrap()).to_vec();
    engine.cache_stats().unwrap();
    let mut work = device::work().unwrap();
    work.sort_by(|a, b| a.name.cmp(&b.name));
    (work, Stats { prompt_step_micros: 0, ..engine.stats() }, done)
}

#[test]
fn work_does_not_tell_what_others_have_cached() {
    for model in ["llama", "gemma3"] {
        let same = work(model, &ids(1, 45));
        let other = work(model, &ids(2, 45));
        assert!(same.0.iter().map(|kernel| kernel.warp_instructions).sum::<u64>() > 1000);
        assert_eq!(same.2.iter().map(|done| done.cached_tokens).collect::<Vec<_>>(), [0, 45]);
        for (same, other) in same.0.iter().zip(&other.0) {
            assert_eq!(same, other, "{model}");
        }
        assert_eq!(same.1, other.1, "{model}");
        assert!(same.2 == other.2, "{model}: the answers differ");
    }
}
