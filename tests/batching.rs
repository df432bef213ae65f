//! A sequence's logits do not depend on what else is in the batch, how its prompt was cut, or where its pages are: bit-equal
//! on `cpu`, within the project's bound on a device whose kernels choose their shapes by the batch.
#![cfg(feature = "engine")]
mod common;
use common::device::{self, Device};
use common::reference::{divergence, tiny};
use common::rng::Rng;
use kvick::backend::{DeviceBatch, Float, GroupBatch, HostBatch, KvGroup};
use kvick::models::{LoadOptions, Model, StepLimits, Workspace, load};

const PAGE_TOKENS: usize = 8;
const CONTEXT: usize = 40;
const SEQS: usize = 8;

/// Several sequences on one model, stepped by hand.
struct Runner<'a> {
    device: &'a Device,
    model: Model,
    batch: DeviceBatch,
    kv: Vec<KvGroup>,
    workspace: Workspace,
    /// Page tables of each sequence, the same in all groups.
    tables: Vec<Vec<u32>>,
    texts: Vec<Vec<u32>>,
    done: Vec<usize>,
    /// Logits after each position of each sequence.
    logits: Vec<Vec<Vec<f32>>>,
}

impl<'a> Runner<'a> {
    fn new(device: &'a Device, name: &str, rng: &mut Rng, texts: Vec<Vec<u32>>) -> Self {
        let backend = &*device.backend;
        let model = load(&tiny(name).folder, &device.backend, &LoadOptions::default()).unwrap();
        let step = StepLimits {
            tokens: SEQS * CONTEXT,
            seqs: SEQS,
            logit_rows: SEQS * CONTEXT,
            context: CONTEXT,
            page_tokens: PAGE_TOKENS,
            recent: 0,
        };
        let limits = model.config().limits(&step);
        backend.reserve(&limits).unwrap();
        let pages = SEQS * limits.pages_per_seq;
        let kv = model.config().kv_layouts(PAGE_TOKENS, Float::F16.into()).into_iter().map(|layout| {
            let data = device.poisoned(pages * layout.page_bytes());
            KvGroup { layout, pages, data }
        });
        let mut free: Vec<u32> = (0..pages as u32).collect();
        rng.shuffle(&mut free);
        Runner {
            kv: kv.collect(),
            batch: DeviceBatch::new(backend, limits).unwrap(),
            workspace: Workspace::new(backend, model.config(), &limits).unwrap(),
            tables: free.chunks(limits.pages_per_seq).map(<[u32]>::to_vec).collect(),
            done: vec![0; texts.len()],
            logits: vec![Vec::new(); texts.len()],
            texts,
            device,
            model,
        }
    }

    /// Runs `count` further tokens of each named sequence in one batch.
    fn step(&mut self, parts: &[(usize, usize)]) {
        let mut parts = parts.to_vec();
        parts.sort_by_key(|&(_, count)| count != 1);
        let decodes = parts.iter().filter(|&&(_, count)| count == 1).count();
        let mut host = HostBatch { query_start: vec![0], decodes, ..HostBatch::default() };
        let mut group = GroupBatch::default();
        for &(s, count) in &parts {
            let positions = self.done[s]..self.done[s] + count;
            host.tokens.extend(&self.texts[s][positions.clone()]);
            host.positions.extend(positions.clone().map(|p| p as u32));
            host.query_start.push(host.tokens.len() as u32);
            host.kv_len.push(positions.end as u32);
            let slot = |p: usize| self.tables[s][p / PAGE_TOKENS] * PAGE_TOKENS as u32 + (p % PAGE_TOKENS) as u32;
            group.slot_mapping.extend(positions.clone().map(slot));
            group.page_tables.push(self.tables[s][..positions.end.div_ceil(PAGE_TOKENS)].to_vec());
        }
        host.groups = vec![group; self.kv.len()];
        host.logit_rows = (0..host.tokens.len() as u32).collect();
        let backend = &*self.device.backend;
        self.batch.load(backend, &host).unwrap();
        self.model.forward(&self.batch, &self.kv, &self.workspace).unwrap();
        backend.finish().unwrap();
        let vocab = self.model.config().vocab;
        let all: Vec<f32> = self.device.download(&self.workspace.logits, host.tokens.len() * vocab);
        let mut rows = all.chunks_exact(vocab).map(<[f32]>::to_vec);
        for (s, count) in parts {
            self.logits[s].extend(rows.by_ref().take(count));
            self.done[s] += count;
        }
    }
}

/// Logits of a sequence computed in one piece, alone.
fn alone(device: &Device, name: &str, text: &[u32]) -> Vec<Vec<f32>> {
    let mut runner = Runner::new(device, name, &mut Rng::new(0), vec![text.to_vec()]);
    runner.step(&[(0, text.len())]);
    runner.logits.remove(0)
}

fn same(device: &Device, what: &str, actual: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    if device.name == "cpu" {
        assert!(actual == expected, "{what}: the bits differ");
    }
    let kl: Vec<f64> = expected.iter().zip(actual).map(|(e, a)| divergence(e, a)).collect();
    let (mean, worst) = (kl.iter().sum::<f64>() / kl.len() as f64, kl.iter().copied().fold(0.0, f64::max));
    assert!(mean <= 1e-4 && worst <= 1e-3, "{what}: KL mean {mean:.2e}, worst {worst:.2e}");
}

fn check(name: &str) {
    for device in device::all(Float::F16) {
        let seed = 5;
        let mut rng = Rng::new(seed);
        let texts = (0..SEQS).map(|_| (0..20 + rng.below(21)).map(|_| rng.below(256) as u32).collect());
        let texts: Vec<Vec<u32>> = texts.collect();
        let expected: Vec<_> = texts.iter().map(|text| alone(&device, name, text)).collect();
        let mut runner = Runner::new(&device, name, &mut rng, texts.clone());
        // Random mixes of decodes and chunks until all are done.
        while runner.done.iter().zip(&texts).any(|(&done, text)| done < text.len()) {
            let left = |s: usize| texts[s].len() - runner.done[s];
            let mut parts = Vec::new();
            for s in (0..SEQS).filter(|&s| left(s) > 0) {
                match rng.below(4) {
                    0 => {}
                    1 => parts.push((s, 1)),
                    2 => parts.push((s, left(s).min(7))),
                    _ => parts.push((s, 1 + rng.below(left(s)))),
                }
            }
            if !parts.is_empty() {
                runner.step(&parts);
            }
        }
        for (s, expected) in expected.iter().enumerate() {
            let what = format!("{name} on {}, seed {seed}, sequence {s} in a mixed batch", device.name);
            same(&device, &what, &runner.logits[s], expected);
        }
    }
}

#[test]
fn llama() {
    check("llama");
}

#[test]
fn gemma3() {
    check("gemma3");
}
