//! Embedding, projections and what is fused with them, on every backend against the oracle: every storage type, both compute
//! types, few rows and many, shapes that fill no tile.
mod common;

use common::batch::{Seq, Shape, Step};
use common::device::{Device, all, from_bits};
use common::rng::Rng;
use common::tensors::weight;
use common::tolerance::{Bound, EXACT, assert_close, bound, product_bound};
use kvick::backend::{
    Activation, DType, Embed, Float, Fuse, HostWeight, KvGroup, KvLayout, LinearResidual, NormGateUp, NormLmHead,
    PostNorm, QkNorm, Qkv, Rope,
};
use kvick::error::Error;

/// Tokens of a step: both ways, and both sides of every tile.
const TOKENS: [usize; 12] = [1, 2, 3, 5, 8, 9, 17, 32, 33, 64, 129, 150];

/// Columns that `dtype` can have, near `about`.
fn cols(rng: &mut Rng, dtype: DType, about: usize) -> usize {
    let block = dtype.block().0.max(8);
    block * (1 + rng.below(about.div_ceil(block)))
}

fn shape(width: usize) -> Shape {
    Shape { width, ff: 64, heads: 2, kv_heads: 1, head_dim: 64, vocab: 100 }
}

/// A step of `tokens` tokens: some decodes and one or two prompts.
fn step(rng: &mut Rng, shape: Shape, tokens: usize) -> Step {
    let mut seqs = Vec::new();
    let mut left = tokens;
    while left > 0 {
        let new = if rng.below(2) == 0 { 1 } else { 1 + rng.below(left) };
        seqs.push(Seq { new, cached: rng.below(20) });
        left -= new;
    }
    Step::random(rng, shape, &seqs, 16, &[None])
}

fn done(device: &Device, what: &str, result: kvick::Result<()>) {
    result.and_then(|()| device.backend.finish()).unwrap_or_else(|e| panic!("{what} on {}: {e}", device.name));
}

/// Runs every case on all devices and compares what `run` returns with the oracle's.
fn compare(devices: &[Device], what: &str, bound: Bound, run: impl Fn(&Device) -> Vec<Vec<f32>>) {
    let expected = run(&devices[0]);
    for device in &devices[1..] {
        for (i, (actual, expected)) in run(device).iter().zip(&expected).enumerate() {
            let what = format!("{} {what}, output {i}", device.name);
            assert_close(&what, actual, expected, bound);
        }
    }
}

fn both() -> [Vec<Device>; 2] {
    [Float::F16, Float::BF16].map(all)
}

#[test]
fn embed_is_exact() {
    for devices in both() {
        let float = devices[0].float();
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            let seed = 100 + i as u64;
            let mut rng = Rng::new(seed);
            let width = cols(&mut rng, dtype, 300);
            let shape = Shape { vocab: 37, ..shape(width) };
            let step = step(&mut rng, shape, 11);
            let table = weight(&mut rng, "embedding", dtype, shape.vocab, width);
            let run = |device: &Device| {
                let batch = step.load(device);
                let out = device.poisoned(step.tokens() * width * 4);
                let table = device.weight(std::slice::from_ref(&table), Fuse::Concat);
                let op = Embed { batch: &batch, table: &table, scale: 3.3, out: &out };
                done(device, "embed", device.backend.embed(&op));
                device.download::<f32>(&out, step.tokens() * width)
            };
            let expected = run(&devices[0]);
            // Floats are stored in the compute type.
            let stored = matches!((dtype, float), (DType::F16, Float::F16) | (DType::BF16, Float::BF16));
            let exact = dtype.block().0 > 1 || stored;
            for device in &devices[1..] {
                let what = format!("{} seed {seed}: {dtype:?} {float:?}, width {width}", device.name);
                assert_close(&what, &run(device), &expected, if exact { EXACT } else { bound(float, 1) });
            }
        }
    }
}

/// Output or down projection.
fn linear(devices: &[Device], seed: u64, dtype: DType, tokens: usize) {
    let mut rng = Rng::new(seed);
    let (inputs, width) = (cols(&mut rng, dtype, 800), 8 * (1 + rng.below(30)));
    let (bias, post) = (rng.below(3) == 0, rng.below(2) == 0);
    let step = step(&mut rng, shape(width), tokens);
    let matrix = weight(&mut rng, "projection", dtype, width, inputs);
    let input = rng.normals(tokens * inputs, 1.0);
    let (x, b) = (rng.normals(tokens * width, 2.0), rng.normals(width, 1.0));
    let norm: Vec<f32> = rng.normals(width, 0.3).iter().map(|w| 1.0 + w).collect();
    let what = format!("seed {seed}: linear_residual {dtype:?} {tokens} x {inputs} -> {width}, {bias}, {post}");
    let bound = product_bound(devices[0].float(), dtype, inputs);
    compare(devices, &what, bound, |device| {
        let (batch, x) = (step.load(device), device.upload(&x));
        let (b, norm) = (device.upload(&b), device.upload(&norm));
        let op = LinearResidual {
            batch: &batch,
            input: &device.upload_floats(&input),
            weight: &device.weight(std::slice::from_ref(&matrix), Fuse::Concat),
            bias: bias.then_some(&b),
            post_norm: post.then_some(PostNorm { weight: &norm, eps: 1e-6 }),
            x: &x,
        };
        done(device, &what, device.backend.linear_residual(&op));
        // Twice: counters of the first launch must be as before it.
        done(device, &what, device.backend.linear_residual(&op));
        vec![device.download(&x, tokens * width)]
    });
}

#[test]
fn linear_residual() {
    for devices in both() {
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            for (j, tokens) in TOKENS.into_iter().enumerate().filter(|(j, _)| (i + j) % 3 == 0) {
                linear(&devices, 1000 + 100 * i as u64 + j as u64, dtype, tokens);
            }
        }
    }
}

fn gate_up(devices: &[Device], seed: u64, dtype: DType, tokens: usize) {
    let mut rng = Rng::new(seed);
    let (width, ff) = (cols(&mut rng, dtype, 700), 8 * (1 + rng.below(30)));
    let activation = rng.pick(&[Activation::Silu, Activation::GeluTanh]);
    let step = step(&mut rng, shape(width), tokens);
    let parts = ["gate", "up"].map(|name| weight(&mut rng, name, dtype, ff, width));
    let (x, norm) = (rng.normals(tokens * width, 30.0), rng.normals(width, 1.5));
    let what = format!("seed {seed}: norm_gate_up {dtype:?} {tokens} x {width} -> {ff}, {activation:?}");
    let bound = product_bound(devices[0].float(), dtype, width);
    compare(devices, &what, bound, |device| {
        let (batch, out) = (step.load(device), device.poisoned(tokens * ff * 2));
        let op = NormGateUp {
            batch: &batch,
            x: &device.upload(&x),
            norm: &device.upload(&norm),
            eps: 1e-5,
            weight: &device.weight(&parts, Fuse::Interleave),
            activation,
            out: &out,
        };
        done(device, &what, device.backend.norm_gate_up(&op));
        vec![device.download_floats(&out, tokens * ff)]
    });
}

#[test]
fn norm_gate_up() {
    for devices in both() {
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            for (j, tokens) in TOKENS.into_iter().enumerate().filter(|(j, _)| (i + j) % 4 == 1) {
                gate_up(&devices, 3000 + 100 * i as u64 + j as u64, dtype, tokens);
            }
        }
    }
}

fn lm_head(devices: &[Device], seed: u64, dtype: DType, sequences: usize) {
    let mut rng = Rng::new(seed);
    let (width, vocab) = (cols(&mut rng, dtype, 500), 1 + rng.below(300));
    let softcap = rng.pick(&[None, Some(30.0)]);
    let seqs: Vec<Seq> = (0..sequences).map(|_| Seq { new: 1 + rng.below(3), cached: 5 }).collect();
    let step = Step::random(&mut rng, Shape { vocab, ..shape(width) }, &seqs, 16, &[None]);
    let (tokens, rows) = (step.tokens(), step.host.logit_rows.len());
    let matrix = weight(&mut rng, "head", dtype, vocab, width);
    let (x, norm) = (rng.normals(tokens * width, 5.0), rng.normals(width, 1.0));
    let what = format!("seed {seed}: norm_lm_head {dtype:?} {rows} of {tokens} x {width} -> {vocab}, {softcap:?}");
    let bound = product_bound(devices[0].float(), dtype, width);
    compare(devices, &what, bound, |device| {
        let (batch, logits) = (step.load(device), device.poisoned(rows * vocab * 4));
        let op = NormLmHead {
            batch: &batch,
            x: &device.upload(&x),
            norm: &device.upload(&norm),
            eps: 1e-5,
            weight: &device.weight(std::slice::from_ref(&matrix), Fuse::Concat),
            softcap,
            logits: &logits,
        };
        done(device, &what, device.backend.norm_lm_head(&op));
        vec![device.download(&logits, rows * vocab)]
    });
}

#[test]
fn norm_lm_head() {
    for devices in both() {
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            for (j, sequences) in [1, 4, 8, 20, 40].into_iter().enumerate().filter(|(j, _)| (i + j) % 2 == 0) {
                lm_head(&devices, 5000 + 100 * i as u64 + j as u64, dtype, sequences);
            }
        }
    }
}

/// A fused projection with types that differ between Q, K and V.
struct QkvCase {
    what: String,
    shape: Shape,
    step: Step,
    layout: KvLayout,
    parts: [HostWeight<'static>; 3],
    rope_dims: usize,
    x: Vec<f32>,
    norm: Vec<f32>,
    bias: Option<Vec<f32>>,
    qk_norm: Option<[Vec<f32>; 2]>,
    rope: Vec<f32>,
}

impl QkvCase {
    fn new(seed: u64, float: Float, dtypes: [DType; 3], tokens: usize, with_qk_norm: bool) -> Self {
        let mut rng = Rng::new(seed);
        let widest = dtypes.into_iter().max_by_key(|d| d.block().0).unwrap();
        let head_dim = rng.pick(&[64, 96, 128, 256]);
        let (heads, kv_heads) = (1 + rng.below(3), 1 + rng.below(2));
        let width = cols(&mut rng, widest, 400);
        let shape = Shape { width, ff: 64, heads, kv_heads, head_dim, vocab: 100 };
        let step = step(&mut rng, shape, tokens);
        let layout = KvLayout { layers: 3, kv_heads, head_dim, page_tokens: 16, float };
        let rows = [heads, kv_heads, kv_heads].map(|n| n * head_dim);
        let parts = [0, 1, 2].map(|i| weight(&mut rng, ["q", "k", "v"][i], dtypes[i], rows[i], width));
        let rope_dims = if rng.below(3) == 0 { head_dim / 2 } else { head_dim };
        let angle =
            |i: usize| (i / rope_dims) as f64 * 1e4f64.powf(-((i % rope_dims / 2 * 2) as f64) / rope_dims as f64);
        let trig = |i: usize| if i.is_multiple_of(2) { angle(i).cos() as f32 } else { angle(i).sin() as f32 };
        let positions = step.host.kv_len.iter().max().map_or(1, |&n| n as usize);
        QkvCase {
            what: format!("seed {seed}: qkv {dtypes:?} {tokens} x {width} -> {heads} + 2 x {kv_heads} of {head_dim}"),
            x: rng.normals(tokens * width, 8.0),
            norm: rng.normals(width, 1.2),
            bias: (rng.below(2) == 0).then(|| rng.normals((heads + 2 * kv_heads) * head_dim, 1.0)),
            qk_norm: with_qk_norm.then(|| [rng.normals(head_dim, 1.0), rng.normals(head_dim, 1.0)]),
            rope: (0..positions * rope_dims).map(trig).collect(),
            shape,
            step,
            layout,
            parts,
            rope_dims,
        }
    }

    /// Q, and what was appended, in the order of the pages.
    fn run(&self, device: &Device) -> Vec<Vec<f32>> {
        let Shape { heads, head_dim, .. } = self.shape;
        let (batch, q_elements) = (self.step.load(device), self.step.tokens() * heads * head_dim);
        let (q, pages) = (device.poisoned(q_elements * 2), device.poisoned(self.step.pages * self.layout.page_bytes()));
        let bias = self.bias.as_ref().map(|b| device.upload(b));
        let norms = self.qk_norm.as_ref().map(|[q, k]| [device.upload(q), device.upload(k)]);
        let positions = self.rope.len() / self.rope_dims;
        let op = Qkv {
            batch: &batch,
            x: &device.upload(&self.x),
            norm: &device.upload(&self.norm),
            eps: 1e-5,
            weight: &device.weight(&self.parts, Fuse::Concat),
            bias: bias.as_ref(),
            qk_norm: norms.as_ref().map(|[q, k]| QkNorm { q, k, eps: 1e-6 }),
            rope: &Rope { table: device.upload(&self.rope), dims: self.rope_dims, positions },
            heads,
            kv: &KvGroup { layout: self.layout, pages: self.step.pages, data: pages.clone() },
            group: 0,
            layer: 1,
            q: &q,
        };
        done(device, &self.what, device.backend.qkv(&op));
        let bits: Vec<u16> = device.download(&pages, self.step.pages * self.layout.page_stride());
        // What no token owns must still be the poison.
        let kept = bits.iter().filter(|&&b| b == 0xffff).count();
        let written = 2 * self.step.tokens() * self.layout.kv_heads * head_dim;
        assert_eq!(bits.len() - kept, written, "{} on {}: elements written to pages", self.what, device.name);
        let appended: Vec<u16> = bits.into_iter().filter(|&b| b != 0xffff).collect();
        vec![device.download_floats(&q, q_elements), from_bits(device.float(), &appended)]
    }
}

#[test]
fn qkv() {
    use DType::*;
    let mixes = [[F32; 3], [Q4_1; 3], [Q5_0, Q5_0, Q8_0], [Q4_K, Q4_K, Q6_K], [Q8_0, F16, Q4_0], [BF16, Q6_K, F32]];
    for devices in both() {
        for (i, dtypes) in mixes.into_iter().enumerate() {
            for (j, tokens) in TOKENS.into_iter().enumerate().filter(|(j, _)| (i + j) % 4 == 0) {
                let seed = 7000 + 100 * i as u64 + j as u64;
                let case = QkvCase::new(seed, devices[0].float(), dtypes, tokens, (i + j) % 8 == 0);
                let widest = dtypes.into_iter().max_by_key(|d| d.block().0).unwrap();
                let bound = product_bound(devices[0].float(), widest, case.shape.width);
                compare(&devices, &case.what, bound, |device| case.run(device));
            }
        }
    }
}

/// Up to eight rows, a token's bits are the same alone as among others.
#[test]
fn few_rows_do_not_touch_each_other() {
    let devices = all(Float::F16);
    let mut rng = Rng::new(9000);
    let (width, ff, tokens) = (576, 80, 7);
    let parts = ["gate", "up"].map(|name| weight(&mut rng, name, DType::Q4_1, ff, width));
    let (x, norm) = (rng.normals(tokens * width, 3.0), rng.normals(width, 1.0));
    for device in &devices {
        let matrix = device.weight(&parts, Fuse::Interleave);
        let mut run = |x: &[f32]| -> Vec<u16> {
            let count = x.len() / width;
            let step = step(&mut rng, shape(width), count);
            let (batch, out) = (step.load(device), device.poisoned(count * ff * 2));
            let (x, norm) = (device.upload(x), device.upload(&norm));
            let activation = Activation::Silu;
            let op =
                NormGateUp { batch: &batch, x: &x, norm: &norm, eps: 1e-5, weight: &matrix, activation, out: &out };
            done(device, "norm_gate_up", device.backend.norm_gate_up(&op));
            device.download(&out, count * ff)
        };
        let together = run(&x);
        for t in 0..tokens {
            let alone = run(&x[t * width..][..width]);
            assert_eq!(alone, together[t * ff..][..ff], "{}: token {t}", device.name);
        }
    }
}

/// A product beyond f16 is named once, and the next step starts clean.
#[test]
fn an_overflow_of_f16_is_reported() {
    for (device, tokens) in all(Float::F16).iter().flat_map(|d| [(d, 2), (d, 40)]) {
        let mut rng = Rng::new(9100);
        let (width, ff) = (64, 16);
        let step = step(&mut rng, shape(width), tokens);
        let batch = step.load(device);
        let parts = ["gate", "up"].map(|name| weight(&mut rng, name, DType::F16, ff, width));
        let matrix = device.weight(&parts, Fuse::Interleave);
        let x = device.upload(&rng.normals(tokens * width, 1.0));
        let out = device.poisoned(tokens * ff * 2);
        let mut run = |scale: f32| {
            let norm = device.upload(&rng.normals(width, scale));
            let activation = Activation::Silu;
            let op =
                NormGateUp { batch: &batch, x: &x, norm: &norm, eps: 1e-5, weight: &matrix, activation, out: &out };
            device.backend.norm_gate_up(&op).and_then(|()| device.backend.finish())
        };
        assert!(matches!(run(2000.0), Err(Error::Overflow(_))), "{}: {tokens} tokens", device.name);
        assert!(run(1.0).is_ok(), "{}: {tokens} tokens", device.name);
    }
}

/// What kernels cannot do is refused in words when the model is loaded.
#[test]
fn unfit_matrices_are_refused() {
    for device in &all(Float::F16)[1..] {
        let mut rng = Rng::new(9200);
        let narrow = weight(&mut rng, "narrow", DType::F16, 16, 12);
        assert!(matches!(device.backend.load_weight(&[narrow], Fuse::Concat), Err(Error::Unsupported(_))));
        let a = weight(&mut rng, "a", DType::F16, 16, 64);
        let b = weight(&mut rng, "b", DType::Q8_0, 16, 64);
        assert!(matches!(device.backend.load_weight(&[a, b], Fuse::Interleave), Err(Error::Shape { .. })));
        assert!(matches!(device.backend.load_weight(&[], Fuse::Concat), Err(Error::Shape { .. })));
    }
}
