//! What a prompt finds in the cache does not change its answer: conversations that share beginnings, go on, are evicted and
//! preempted, against an engine that computes every prompt whole and alone. Bit-equal on `cpu`; on a device whose kernels
//! choose their shapes by the batch, within the project's bound.
mod common;
use common::reference::{divergence, tiny};
use common::rng::Rng;
use kvick::engine::Stats;
use kvick::{Completion, Engine, EngineConfig, Prompt, Request};

const PAGE_TOKENS: usize = 8;
const VOCAB: usize = 256;
/// Longest text, so that few of them fill the cache.
const CONTEXT: usize = 96;

fn engine(model: &str, device: &str, change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = EngineConfig {
        device: device.into(),
        page_tokens: PAGE_TOKENS,
        context: Some(CONTEXT),
        step_tokens: 40,
        max_seqs: 4,
        ..EngineConfig::default()
    };
    change(&mut config);
    Engine::load_path(&tiny(model).folder, &config).unwrap()
}

/// Bytes of this many pages of each group.
fn pages(engine: &Engine, pages: u64) -> u64 {
    let layouts = engine.model().kv_layouts(PAGE_TOKENS, EngineConfig::default().kv_types());
    pages * layouts.iter().map(|layout| layout.page_bytes() as u64).sum::<u64>()
}

fn request(ids: &[u32], tokens: usize) -> Request {
    Request { max_tokens: tokens, top_logits: VOCAB, ignore_eos: true, ..Request::new(Prompt::Ids(ids.to_vec())) }
}

/// Logits of an answer's token by id.
fn row(completion: &Completion, token: usize) -> Vec<f32> {
    let mut row = vec![0.0; VOCAB];
    completion.logits[token].top.iter().for_each(|&(id, logit)| row[id as usize] = logit);
    row
}

/// Answers must agree up to a token whose choice was close.
fn same(what: &str, exact: bool, expected: &Completion, actual: &Completion) {
    if exact {
        assert_eq!(actual.ids, expected.ids, "{what}");
        assert!(actual.logits == expected.logits, "{what}: the bits differ");
    }
    for token in 0..expected.ids.len() {
        let (p, q) = (row(expected, token), row(actual, token));
        let kl = divergence(&p, &q);
        assert!(kl <= 1e-3, "{what}, token {token}: KL {kl:.2e}");
        if expected.ids[token] != actual.ids[token] {
            let margin = p[expected.ids[token] as usize] - p[actual.ids[token] as usize];
            assert!(margin <= 0.25, "{what}, token {token}: another choice in spite of a margin of {margin}");
            return;
        }
    }
}

/// The next text of a load: new, or one that was answered before, up to somewhere, and something new.
fn text(rng: &mut Rng, texts: &[Vec<u32>]) -> Vec<u32> {
    let mut ids = match texts.len() {
        0 => Vec::new(),
        n => {
            let before = &texts[rng.below(n)];
            let whole = rng.below(2) == 0;
            before[..if whole { before.len() } else { rng.below(before.len() + 1) }].to_vec()
        }
    };
    ids.extend((0..1 + rng.below(20)).map(|_| rng.below(VOCAB) as u32));
    ids.truncate(CONTEXT - 8);
    ids
}

/// Serves a random load, `rounds` of up to four requests at once; returns what the engine counted.
fn serve(model: &str, device: &str, seed: u64, rounds: usize, held: u64) -> Stats {
    let mut rng = Rng::new(seed);
    let alone = engine(model, device, |config| (config.max_seqs, config.prefix_cache) = (1, false));
    let memory = pages(&alone, held);
    let shared = engine(model, device, |config| config.kv_memory = Some(memory));
    let mut texts = Vec::new();
    for round in 0..rounds {
        let prompts: Vec<_> = (0..1 + rng.below(4)).map(|_| (text(&mut rng, &texts), 1 + rng.below(7))).collect();
        let streams: Vec<_> = prompts.iter().map(|(ids, n)| shared.submit(request(ids, *n)).unwrap()).collect();
        for (i, (stream, (ids, n))) in streams.into_iter().zip(&prompts).enumerate() {
            let (actual, expected) = (stream.wait().unwrap(), alone.complete(request(ids, *n)).unwrap());
            let what = format!("{model} on {device}, seed {seed}, round {round}, request {i} of {} tokens", ids.len());
            same(&what, device == "cpu", &expected, &actual);
            texts.push([&ids[..], &actual.ids].concat());
        }
    }
    assert_eq!(alone.stats().cache.hit_tokens, 0);
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
    let device = std::env::var("KVICK_TEST_DEVICE").unwrap_or_else(|_| "emulator".into());
    for model in ["llama", "gemma3"] {
        let cache = serve(model, &device, 13, 6, 30).cache;
        assert!(cache.hit_tokens > 0 && cache.copied_tokens > 0, "{model}: {cache:?}");
    }
}
