//! Conversations that share beginnings and go on, and the comparison of their answers with those of an engine that computes
//! every prompt whole and alone.
use super::reference::{divergence, tiny};
use super::rng::Rng;
use kvick::{Completion, Engine, EngineConfig, Prompt, Request};

pub const PAGE_TOKENS: usize = 8;
const VOCAB: usize = 256;
/// Longest text, so that few of them fill the cache.
const CONTEXT: usize = 96;

/// An engine of a tiny model.
pub fn engine(model: &str, device: &str, change: impl FnOnce(&mut EngineConfig)) -> Engine {
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
pub fn pages(engine: &Engine, pages: u64) -> u64 {
    let layouts = engine.model().kv_layouts(PAGE_TOKENS, EngineConfig::default().kv_types());
    pages * layouts.iter().map(|layout| layout.page_bytes() as u64).sum::<u64>()
}

/// A request of all logits.
pub fn request(ids: &[u32], tokens: usize) -> Request {
    Request { max_tokens: tokens, top_logits: VOCAB, ignore_eos: true, ..Request::new(Prompt::Ids(ids.to_vec())) }
}

/// Logits of an answer's token by id.
pub fn row(completion: &Completion, token: usize) -> Vec<f32> {
    let mut row = vec![0.0; VOCAB];
    completion.logits[token].top.iter().for_each(|&(id, logit)| row[id as usize] = logit);
    row
}

/// Answers must agree up to a token whose choice was close; `exact`: to the bit.
pub fn same(what: &str, exact: bool, expected: &Completion, actual: &Completion) {
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

/// Texts of a load: each new, or one that was answered before, up to somewhere, and something new.
pub struct Load {
    /// For failure messages.
    pub what: String,
    rng: Rng,
    texts: Vec<Vec<u32>>,
    exact: bool,
    alone: Engine,
}

impl Load {
    pub fn new(model: &str, device: &str, seed: u64) -> Self {
        let alone = engine(model, device, |config| (config.max_seqs, config.prefix_cache) = (1, false));
        let what = format!("{model} on {device}, seed {seed}");
        Load { what, rng: Rng::new(seed), texts: Vec::new(), exact: device == "cpu", alone }
    }

    /// The engine without a cache.
    pub fn alone(&self) -> &Engine {
        &self.alone
    }

    /// A text of the load.
    pub fn text(&mut self) -> Vec<u32> {
        let rng = &mut self.rng;
        let mut ids = match self.texts.len() {
            0 => Vec::new(),
            n => {
                let before = &self.texts[rng.below(n)];
                let whole = rng.below(2) == 0;
                before[..if whole { before.len() } else { rng.below(before.len() + 1) }].to_vec()
            }
        };
        ids.extend((0..1 + rng.below(20)).map(|_| rng.below(VOCAB) as u32));
        ids.truncate(CONTEXT - 8);
        ids
    }

    /// A text that others may go on with.
    pub fn keep(&mut self, text: Vec<u32>) {
        self.texts.push(text);
    }

    /// A random number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.rng.below(n)
    }

    /// Sends up to four requests at once, each to one of `engines`, and compares their answers.
    pub fn round(&mut self, round: usize, engines: &[&Engine]) {
        let count = 1 + self.rng.below(4);
        let prompts: Vec<_> =
            (0..count).map(|_| (self.text(), 1 + self.rng.below(7), self.rng.below(engines.len()))).collect();
        let submit = |(ids, n, engine): &(Vec<u32>, usize, usize)| engines[*engine].submit(request(ids, *n)).unwrap();
        let streams: Vec<_> = prompts.iter().map(submit).collect();
        for (i, (stream, (ids, n, _))) in streams.into_iter().zip(&prompts).enumerate() {
            let (actual, expected) = (stream.wait().unwrap(), self.alone.complete(request(ids, *n)).unwrap());
            same(
                &format!("{}, round {round}, request {i} of {} tokens", self.what, ids.len()),
                self.exact,
                &expected,
                &actual,
            );
            self.texts.push([&ids[..], &actual.ids].concat());
        }
    }
}

/// The device under test.
pub fn device() -> String {
    std::env::var("KVICK_TEST_DEVICE").unwrap_or_else(|_| "emulator".into())
}
