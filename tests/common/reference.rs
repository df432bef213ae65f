//! What fp32 transformers say of the real models (`fixtures/reference`), and how far logits are from it.
use super::device::Device;
use kvick::backend::Float;
use kvick::models::{Evaluator, LoadOptions, Model, load, log_sum_exp};
use safetensors::SafeTensors;
use std::path::PathBuf;
use std::sync::Arc;

/// Logits of one case at its stored positions.
pub struct Case {
    pub name: String,
    pub ids: Vec<u32>,
    positions: Vec<usize>,
    top_ids: Vec<u32>,
    top_logits: Vec<f32>,
    log_sum_exp: Vec<f32>,
}

const TOP: usize = 64;
/// The first token must agree where fp32 puts the best this much above the next.
const MARGIN: f32 = 0.25;

fn words(tensors: &SafeTensors<'_>, name: &str) -> Vec<[u8; 4]> {
    let view = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    view.data().chunks_exact(4).map(|b| b.try_into().unwrap()).collect()
}

/// Reads cases of a model.
pub fn cases(model: &str, names: &[&str]) -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference");
    let bytes = std::fs::read(folder.join(format!("{model}.safetensors"))).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let case = |name: &&str| {
        let ints = |part: &str| words(&tensors, &format!("{name}.{part}")).into_iter().map(u32::from_le_bytes);
        let floats = |part: &str| words(&tensors, &format!("{name}.{part}")).into_iter().map(f32::from_le_bytes);
        Case {
            name: (*name).into(),
            ids: ints("ids").collect(),
            positions: ints("positions").map(|p| p as usize).collect(),
            top_ids: ints("top_ids").collect(),
            top_logits: floats("top_logits").collect(),
            log_sum_exp: floats("logsumexp").collect(),
        }
    };
    // Gemma 3 270M is a base model: it has no chat case.
    let stored = |name: &&&str| tensors.tensor(&format!("{name}.ids")).is_ok() || **name != "chat";
    names.iter().filter(stored).map(case).collect()
}

/// Distances over all positions of a model's cases.
#[derive(Default, Debug)]
pub struct Distance {
    /// KL divergence of each position: over the stored tokens, and one bucket for the rest.
    pub kl: Vec<f64>,
    pub largest_logit_difference: f32,
    /// Places where the first token differs though the margin is wide.
    pub disagreements: Vec<String>,
}

impl Distance {
    pub fn mean(&self) -> f64 {
        self.kl.iter().sum::<f64>() / self.kl.len() as f64
    }

    pub fn percentile(&self, p: f64) -> f64 {
        let mut sorted = self.kl.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * p).ceil() as usize]
    }

    /// Runs a case.
    pub fn add(&mut self, case: &Case, evaluator: &mut Evaluator) {
        let mut stored = 0;
        evaluator
            .logits(&case.ids, case.positions[0], |position, logits| {
                assert_eq!(position, case.positions[stored], "{}: positions", case.name);
                self.compare(case, stored, logits);
                stored += 1;
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(stored, case.positions.len(), "{}: positions", case.name);
    }

    fn compare(&mut self, case: &Case, at: usize, logits: &[f32]) {
        assert!(logits.iter().all(|x| x.is_finite()), "{} {at}: a logit is not finite", case.name);
        let ids = &case.top_ids[at * TOP..][..TOP];
        let expected = &case.top_logits[at * TOP..][..TOP];
        let (norm_p, norm_q) = (f64::from(case.log_sum_exp[at]), log_sum_exp(logits));
        let (mut kl, mut rest_p, mut rest_q) = (0.0, 1.0, 1.0);
        for (&id, &logit) in ids.iter().zip(expected) {
            let (p, q) = (f64::from(logit) - norm_p, f64::from(logits[id as usize]) - norm_q);
            kl += p.exp() * (p - q);
            rest_p -= p.exp();
            rest_q -= q.exp();
            self.largest_logit_difference = self.largest_logit_difference.max((logit - logits[id as usize]).abs());
        }
        // What f32 of the stored values leaves of the rest may be a little below zero.
        if rest_p > 1e-6 && rest_q > 1e-6 {
            kl += rest_p * (rest_p / rest_q).ln();
        }
        self.kl.push(kl.max(0.0));
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        if expected[0] - expected[1] > MARGIN && best != ids[0] as usize {
            let message = format!("{} position {}: {best} instead of {}", case.name, case.positions[at], ids[0]);
            self.disagreements.push(message);
        }
    }

    /// Within the bounds of the compute type.
    pub fn assert_close(&self, what: &str, float: Float) {
        assert!(self.disagreements.is_empty(), "{what}: first tokens differ: {:?}", self.disagreements);
        let (mean, p99) = (self.mean(), self.percentile(0.99));
        let (mean_bound, p99_bound) = bounds(float);
        let positions = self.kl.len();
        assert!(
            mean <= mean_bound,
            "{what}: mean KL {mean:.2e} over {positions} positions, {mean_bound:.0e} is allowed"
        );
        assert!(p99 <= p99_bound, "{what}: 99th percentile of KL {p99:.2e}, {p99_bound:.0e} is allowed");
    }
}

/// The project's bounds of the KL divergence from fp32: mean, and 99th percentile.
pub fn bounds(float: Float) -> (f64, f64) {
    match float {
        Float::F16 => (1e-4, 1e-3),
        Float::BF16 => (2e-3, 2e-2),
    }
}

/// A tiny random checkpoint (`fixtures/tiny`) with all its logits.
pub struct Tiny {
    pub folder: PathBuf,
    pub ids: Vec<u32>,
    /// `[T, vocab]`.
    pub logits: Vec<f32>,
}

/// `llama` or `gemma3`.
pub fn tiny(name: &str) -> Tiny {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    let bytes = std::fs::read(fixtures.join(format!("{name}.reference.safetensors"))).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    Tiny {
        folder: fixtures.join(name),
        ids: words(&tensors, "ids").into_iter().map(u32::from_le_bytes).collect(),
        logits: words(&tensors, "logits").into_iter().map(f32::from_le_bytes).collect(),
    }
}

impl Tiny {
    /// Mean and largest KL divergence of a model, computed in pieces that cross pages and the window.
    pub fn distance(&self, model: Model) -> (f64, f64) {
        let float = model.backend().float();
        let mut evaluator = Evaluator::new(Arc::new(model), float, self.ids.len(), 7).unwrap();
        let mut kl = Vec::new();
        let vocab = self.logits.len() / self.ids.len();
        evaluator
            .logits(&self.ids, 0, |position, logits| {
                kl.push(divergence(&self.logits[position * vocab..][..vocab], logits));
                Ok(())
            })
            .unwrap();
        assert_eq!(kl.len(), self.ids.len());
        (kl.iter().sum::<f64>() / kl.len() as f64, kl.iter().copied().fold(0.0, f64::max))
    }

    /// Loads the model on a device and compares it.
    pub fn assert_close(&self, device: &Device) {
        let model = load(&self.folder, &device.backend, &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let (mean, worst) = self.distance(model);
        let what = format!("{} on {}", self.folder.display(), device.name);
        let (mean_bound, worst_bound) = bounds(device.float());
        assert!(mean <= mean_bound && worst <= worst_bound, "{what}: KL mean {mean:.2e}, worst {worst:.2e}");
    }
}

/// KL divergence of two rows of logits.
pub fn divergence(expected: &[f32], actual: &[f32]) -> f64 {
    let (norm_p, norm_q) = (log_sum_exp(expected), log_sum_exp(actual));
    let terms = expected.iter().zip(actual).map(|(&p, &q)| {
        let (p, q) = (f64::from(p) - norm_p, f64::from(q) - norm_q);
        p.exp() * (p - q)
    });
    terms.sum()
}

/// The text whose perplexity is known.
pub fn text() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/kjv24k.txt");
    std::fs::read_to_string(path).unwrap()
}
