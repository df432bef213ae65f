//! Sampling of random rows, and a scalar reference of its own.
use super::device::Device;
use super::rng::Rng;
use kvick::backend::{BatchLimits, DeviceBatch, GroupBatch, HostBatch, Sample, SampleParams};
use std::collections::BTreeSet;

/// Rows of logits and how each is sampled.
pub struct Rows {
    pub vocab: usize,
    pub logits: Vec<f32>,
    pub params: Vec<SampleParams>,
    pub recent: Vec<Vec<u32>>,
}

impl Rows {
    pub fn run(&self, device: &Device) -> Vec<u32> {
        self.run_twice(device, &self.logits).0
    }

    /// And again over other logits: the second launch must find the words that blocks share as the first did.
    pub fn run_twice(&self, device: &Device, second: &[f32]) -> (Vec<u32>, Vec<u32>) {
        let rows = self.params.len();
        let limits = BatchLimits {
            tokens: rows,
            seqs: rows,
            logit_rows: rows,
            pages_per_seq: 1,
            groups: 1,
            recent: self.recent.iter().map(Vec::len).sum(),
            width: 64,
            ff: 64,
            heads: 1,
            kv_heads: 1,
            head_dim: 64,
            vocab: self.vocab,
        };
        let ids: Vec<u32> = (0..rows as u32).collect();
        let group = GroupBatch { slot_mapping: ids.clone(), page_tables: vec![vec![0]; rows] };
        let host = HostBatch {
            tokens: vec![0; rows],
            positions: vec![0; rows],
            query_start: (0..=rows as u32).collect(),
            kv_len: vec![1; rows],
            decodes: rows,
            groups: vec![group],
            logit_rows: ids,
            sample: self.params.clone(),
            recent: self.recent.clone(),
        };
        let backend = &*device.backend;
        backend.reserve(&limits).unwrap();
        let mut batch = DeviceBatch::new(backend, limits).unwrap();
        batch.load(backend, &host).unwrap();
        let out = device.poisoned(4 * rows);
        let logits = device.upload(&self.logits);
        let op = Sample { batch: &batch, logits: &logits, vocab: self.vocab, out: &out };
        let once = || {
            let done = backend.sample(&op).and_then(|()| backend.finish());
            done.unwrap_or_else(|e| panic!("{}: {e}", device.name));
            device.download(&out, rows)
        };
        let first = once();
        backend.upload(&out, 0, &vec![0xff; 4 * rows]).unwrap();
        backend.upload(&logits, 0, bytemuck::cast_slice(second)).unwrap();
        (first, once())
    }

    pub fn row(&self, r: usize) -> &[f32] {
        &self.logits[r * self.vocab..][..self.vocab]
    }

    /// The ids that row `r` may draw: more than one only where the exact answer lies on an edge of f32.
    fn allowed(&self, r: usize) -> BTreeSet<u32> {
        let p = &self.params[r];
        let logits = penalised(self.row(r), &self.recent[r], p.repeat_penalty);
        if p.temperature == 0.0 {
            return BTreeSet::from([largest(&logits)]);
        }
        let edges = [-1e-5, 0.0, 1e-5];
        let mut allowed = BTreeSet::new();
        for top_p in edges {
            for min_p in edges {
                for u in edges {
                    let min = (f64::from(p.min_p) * (1.0 + min_p)).min(1.0);
                    let kept = kept(&logits, p, f64::from(p.top_p) * (1.0 + top_p), min);
                    allowed.insert(draw(&kept, (uniform(p) + u).clamp(0.0, 1.0 - 1e-12)));
                }
            }
        }
        allowed
    }
}

fn penalised(row: &[f32], recent: &[u32], penalty: f32) -> Vec<f32> {
    let mut row = row.to_vec();
    for &id in &recent.iter().copied().collect::<BTreeSet<_>>() {
        let x = &mut row[id as usize];
        *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
    }
    row
}

pub fn largest(row: &[f32]) -> u32 {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32
}

/// Kept ids in rising order, with weights.
pub fn kept(row: &[f32], p: &SampleParams, top_p: f64, min_p: f64) -> Vec<(u32, f64)> {
    let max = f64::from(row[largest(row) as usize]);
    let weight = |id: &u32| ((f64::from(row[*id as usize]) - max) / f64::from(p.temperature)).exp();
    let mut ranks: Vec<u32> = (0..row.len() as u32).collect();
    // Stable: equal logits, zeros of both signs among them, stay in the order of their ids.
    ranks.sort_by(|&a, &b| row[b as usize].partial_cmp(&row[a as usize]).expect("no NaN"));
    if p.top_k > 0 {
        ranks.truncate(p.top_k as usize);
    }
    if p.top_p < 1.0 {
        let target = top_p * ranks.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let mut short = 0;
        while short < ranks.len() && sum < target {
            sum += weight(&ranks[short]);
            short += 1;
        }
        ranks.truncate(short.max(1));
    }
    ranks.retain(|id| weight(id) >= min_p);
    ranks.sort_unstable();
    ranks.iter().map(|&id| (id, weight(&id))).collect()
}

fn draw(kept: &[(u32, f64)], u: f64) -> u32 {
    let target = u * kept.iter().map(|k| k.1).sum::<f64>();
    let mut sum = 0.0;
    let passed = kept.iter().find(|k| {
        sum += k.1;
        sum > target
    });
    passed.or(kept.last()).expect("the largest logit is always kept").0
}

/// The row's number in [0, 1): Philox4x32-10.
fn uniform(p: &SampleParams) -> f64 {
    let (mut c, mut k) = ([p.step, 0, 0, 0], [p.seed as u32, (p.seed >> 32) as u32]);
    for _ in 0..10 {
        let (a, b) = (u64::from(c[0]) * 0xD251_1F53, u64::from(c[2]) * 0xCD9E_8D57);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    (f64::from(c[0]) + f64::from(c[1]) / 4_294_967_296.0) / 4_294_967_296.0
}

pub fn random_params(rng: &mut Rng, vocab: usize) -> SampleParams {
    SampleParams {
        temperature: rng.pick(&[0.0, 0.01, 0.7, 1.0, 1.0, 3.0]),
        top_k: rng.pick(&[0, 0, 1, 2, 5, 40, vocab as u32, vocab as u32 + 7]),
        top_p: rng.pick(&[1.0, 1.0, 0.0, 0.1, 0.5, 0.9, 0.999]),
        min_p: rng.pick(&[0.0, 0.0, 0.02, 0.3, 1.0]),
        repeat_penalty: rng.pick(&[1.0, 1.0, 1.1, 1.8, 0.8]),
        seed: rng.bits(),
        step: rng.below(1000) as u32,
    }
}

/// Plain rows, rows of few distinct values (many ties at every cut), of values that differ in their last bits, with
/// infinities and zeros of both signs.
pub fn random_row(rng: &mut Rng, vocab: usize) -> Vec<f32> {
    let mut row = rng.normals(vocab, 3.0);
    match rng.below(6) {
        0 => row.iter_mut().for_each(|x| *x = x.round() * 0.5),
        1 => row.iter_mut().for_each(|x| *x = rng.pick(&[*x, f32::NEG_INFINITY, 0.0, -0.0])),
        2 => row.iter_mut().for_each(|x| *x = rng.pick(&[0.0, -0.0, 1.0])),
        3 => row.iter_mut().for_each(|x| *x = 2.0 + rng.below(40) as f32 / 4_194_304.0),
        _ => {}
    }
    let id = rng.below(vocab);
    row[id] = row[id].max(-5.0);
    row
}

/// Each draw of random rows is that of the reference.
pub fn against_reference(devices: &[Device], seed: u64) {
    let mut rng = Rng::new(seed);
    let vocab = rng.pick(&[1, 2, 7, 8, 31, 31, 100, 257, 1028, 5003]);
    let rows = 1 + rng.below(24);
    let params: Vec<_> = (0..rows).map(|_| random_params(&mut rng, vocab)).collect();
    let logits = (0..rows).flat_map(|_| random_row(&mut rng, vocab)).collect();
    let recent = (0..rows).map(|_| (0..rng.below(30)).map(|_| rng.below(vocab) as u32).collect()).collect();
    let rows = Rows { vocab, logits, params, recent };
    for device in devices {
        for (r, id) in rows.run(device).into_iter().enumerate() {
            let (allowed, params) = (rows.allowed(r), &rows.params[r]);
            let what = format!("{} seed {seed} row {r}, vocab {vocab}, {params:?}", device.name);
            assert!(allowed.contains(&id), "{what}: drew {id} instead of {allowed:?}");
        }
    }
}

/// The lowest id of the largest logit, by every launch.
pub fn greedy(device: &Device, seed: u64) {
    let mut rng = Rng::new(seed);
    let (vocab, count) = (rng.pick(&[1, 33, 9000, 20_001]), 1 + rng.below(4));
    let coarse = rng.pick(&[1.0, 0.0]);
    let logits: Vec<f32> = (0..count * vocab).map(|_| (rng.normal() * coarse).round()).collect();
    let rows = Rows { vocab, logits, params: vec![SampleParams::default(); count], recent: vec![vec![]; count] };
    let lower: Vec<f32> = rows.logits.iter().rev().map(|x| x - 10.0).collect();
    let expected = |logits: &[f32]| -> Vec<u32> { logits.chunks(vocab).map(largest).collect() };
    let both = (expected(&rows.logits), expected(&lower));
    assert_eq!(rows.run_twice(device, &lower), both, "{} seed {seed}", device.name);
}
