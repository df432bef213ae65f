//! The engine gives a prompt the same distributions alone, among other requests, in pieces of any size and after a
//! preemption: bit-equal on `cpu`, within the project's bound on a device whose kernels choose their shapes by the batch.
#![cfg(feature = "engine")]
mod common;
use common::reference::{divergence, text, tiny};
use kvick::backend::Float;
use kvick::{Completion, Engine, EngineConfig, Prompt, Request, Sampling, TokenLogits};
use std::path::{Path, PathBuf};

const PAGE: usize = 8;
const PROMPT: usize = 70;
const ANSWER: usize = 8;

/// A model on a device, loaded anew with each choice of limits.
struct Subject {
    device: String,
    model: PathBuf,
    /// Token ids that prompts are cut from.
    ids: Vec<u32>,
}

impl Subject {
    fn new(device: &str, model: &Path) -> Self {
        let tokenizer = kvick::text::Tokenizer::open(model).unwrap();
        let text: String = text().chars().take(4000).collect();
        let ids = tokenizer.encode(&text, kvick::text::Spelling::Text).unwrap();
        Subject { device: device.into(), model: model.to_path_buf(), ids }
    }

    /// Room for `pages` pages in each group.
    fn engine(&self, step_tokens: usize, pages: usize) -> Engine {
        let model = kvick::models::read_config(&kvick::weights::open(&self.model).unwrap()).unwrap();
        let page: usize = model.kv_layouts(PAGE, Float::F16.into()).iter().map(|layout| layout.page_bytes()).sum();
        let config = EngineConfig {
            device: self.device.clone(),
            page_tokens: PAGE,
            step_tokens,
            max_seqs: step_tokens.min(8),
            context: Some(256),
            kv_memory: Some((pages * page) as u64),
            ..EngineConfig::default()
        };
        Engine::load_path(&self.model, &config).unwrap()
    }

    fn request(&self, from: usize, tokens: usize, answer: usize) -> Request {
        let prompt = Prompt::Ids(self.ids[from..from + tokens].to_vec());
        Request { max_tokens: answer, ignore_eos: true, ..Request::new(prompt) }
    }

    /// The request whose answers are compared.
    fn asked(&self, engine: &Engine) -> Request {
        Request { top_logits: engine.model().vocab, ..self.request(0, PROMPT, ANSWER) }
    }

    fn alone(&self, step_tokens: usize) -> Completion {
        let engine = self.engine(step_tokens, 32);
        let done = engine.complete(self.asked(&engine)).unwrap();
        // The step that ended the request may not be counted yet.
        assert!(engine.stats().steps as usize >= PROMPT.div_ceil(step_tokens) + ANSWER - 2);
        done
    }

    /// As the sixth of eight requests of many kinds.
    fn in_a_batch(&self) -> Completion {
        let engine = self.engine(96, 128);
        let others = (1..8).map(|i| Request {
            sampling: Sampling { temperature: 0.3 * i as f32, top_k: 10 * i, seed: Some(7), ..Sampling::default() },
            ..self.request(60 * i as usize, [1, 30, 9, 17, 3, 40, 24][i as usize - 1], 12)
        });
        let mut requests: Vec<Request> = others.collect();
        requests.insert(5, self.asked(&engine));
        let streams: Vec<_> = requests.into_iter().map(|r| engine.submit(r).unwrap()).collect();
        let done: Vec<_> = streams.into_iter().map(|stream| stream.wait().unwrap()).collect();
        let (steps, one_by_one) = (engine.stats().steps, 7 * 12 + ANSWER as u64);
        assert!(steps < one_by_one / 3, "{steps} steps: the requests did not run together");
        done.into_iter().nth(5).unwrap()
    }

    /// An older request takes its pages in the middle of the answer.
    fn preempted(&self) -> Completion {
        let engine = self.engine(96, 14);
        for _ in 0..10 {
            let older = engine.submit(self.request(200, 29, 10)).unwrap();
            let done = engine.complete(self.asked(&engine)).unwrap();
            older.wait().unwrap();
            if engine.stats().preemptions > 0 {
                return done;
            }
        }
        panic!("nothing was preempted: {:?}", engine.stats());
    }

    fn check(&self) {
        let alone = self.alone(96);
        assert_eq!(alone.logits.len(), ANSWER);
        self.compare("in pieces of 7", &alone, &self.alone(7));
        self.compare("in pieces of 64", &alone, &self.alone(64));
        self.compare("in a batch of 8", &alone, &self.in_a_batch());
        self.compare("after a preemption", &alone, &self.preempted());
    }

    fn compare(&self, how: &str, alone: &Completion, other: &Completion) {
        let what = format!("{} on {}, {how}", self.model.display(), self.device);
        if self.device == "cpu" {
            assert_eq!(alone.ids, other.ids, "{what}");
            assert!(alone.logits == other.logits, "{what}: the bits differ");
            return;
        }
        let mut kl = Vec::new();
        for (i, (expected, actual)) in alone.logits.iter().zip(&other.logits).enumerate() {
            kl.push(divergence(&dense(expected), &dense(actual)));
            if alone.ids[i] != other.ids[i] {
                let margin = expected.top[0].1 - expected.top[1].1;
                assert!(margin <= 0.25, "{what}: token {i} differs at a margin of {margin}");
                // From here on they continue different texts.
                break;
            }
        }
        let (mean, worst) = (kl.iter().sum::<f64>() / kl.len() as f64, kl.iter().copied().fold(0.0, f64::max));
        assert!(kl.len() > ANSWER / 2, "{what}: only {} positions have the same text before them", kl.len());
        assert!(mean <= 1e-4 && worst <= 1e-3, "{what}: KL mean {mean:.2e}, worst {worst:.2e}");
    }
}

/// All logits by token id.
fn dense(logits: &TokenLogits) -> Vec<f32> {
    let mut row = vec![f32::NAN; logits.top.len()];
    logits.top.iter().for_each(|&(id, logit)| row[id as usize] = logit);
    row
}

#[test]
fn tiny_models_are_bit_equal_on_the_oracle() {
    for name in ["llama", "gemma3"] {
        Subject::new("cpu", &tiny(name).folder).check();
    }
}

#[test]
fn smollm2() {
    let device = std::env::var("KVICK_TEST_DEVICE").unwrap_or_else(|_| "emulator".into());
    Subject::new(&device, &common::models::path("smollm2")).check();
}
