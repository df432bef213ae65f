//! Cases of the projections and what is fused with them: random shapes and inputs of one seed, run on every device and compared
//! with the oracle.
use super::batch::{Seq, Shape, Step};
use super::device::Device;
use super::kv;
use super::rng::Rng;
use super::tensors::weight;
use super::tolerance::{Bound, EXACT, assert_close, bound, product_bound, stored_bound};
use kvick::backend::{
    Activation, DType, Embed, Float, Fuse, HostWeight, KvGroup, KvHalf, KvLayout, KvTypes, LinearResidual, NormGateUp,
    NormLmHead, PostNorm, QkNorm, Qkv, Rope,
};

/// Columns that `dtype` can have, near `about`.
fn cols(rng: &mut Rng, dtype: DType, about: usize) -> usize {
    let block = dtype.block().0.max(8);
    block * (1 + rng.below(about.div_ceil(block)))
}

/// A small one, as models have it, or one that a kernel cannot leave out unseen.
fn eps(rng: &mut Rng) -> f32 {
    rng.pick(&[1e-6, 0.5])
}

/// Of a step whose heads do not matter.
pub fn shape(width: usize) -> Shape {
    Shape { width, ff: 64, heads: 2, kv_heads: 1, head_dim: 64, vocab: 100 }
}

/// A step of `tokens` tokens: some decodes and one or two prompts.
pub fn step(rng: &mut Rng, shape: Shape, tokens: usize) -> Step {
    let mut seqs = Vec::new();
    let mut left = tokens;
    while left > 0 {
        let new = if rng.below(2) == 0 { 1 } else { 1 + rng.below(left) };
        seqs.push(Seq { new, cached: rng.below(20) });
        left -= new;
    }
    Step::random(rng, shape, &seqs, 16, &[None])
}

/// Waits; panics where the operation failed.
pub fn done(device: &Device, what: &str, result: kvick::Result<()>) {
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

/// Embedding.
pub fn embed(devices: &[Device], seed: u64, dtype: DType) {
    let float = devices[0].float();
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

/// Output or down projection.
pub fn linear_residual(devices: &[Device], seed: u64, dtype: DType, tokens: usize) {
    let mut rng = Rng::new(seed);
    // A tall matrix gives a block several tile-rows, a wide one a warp more column tiles than it prefetches.
    let (about, rows) = match rng.below(6) {
        0 => (200, 2400 + rng.below(5000)),
        1 => (3000, 1760 + rng.below(200)),
        _ => (800, rng.below(240)),
    };
    let inputs = cols(&mut rng, dtype, about);
    let width = rows / 8 * 8 + 8;
    let (bias, post, eps) = (rng.below(3) == 0, rng.below(2) == 0, eps(&mut rng));
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
            post_norm: post.then_some(PostNorm { weight: &norm, eps }),
            x: &x,
        };
        done(device, &what, device.backend.linear_residual(&op));
        // Twice: counters of the first launch must be as before it.
        done(device, &what, device.backend.linear_residual(&op));
        vec![device.download(&x, tokens * width)]
    });
}

/// Gate and up projection.
pub fn norm_gate_up(devices: &[Device], seed: u64, dtype: DType, tokens: usize) {
    let mut rng = Rng::new(seed);
    let (width, ff) = (cols(&mut rng, dtype, 700), 8 * (1 + rng.below(30)));
    let activation = rng.pick(&[Activation::Silu, Activation::GeluTanh]);
    let step = step(&mut rng, shape(width), tokens);
    let parts = ["gate", "up"].map(|name| weight(&mut rng, name, dtype, ff, width));
    let (x, norm, eps) = (rng.normals(tokens * width, 30.0), rng.normals(width, 1.5), 1e3 * eps(&mut rng));
    let what = format!("seed {seed}: norm_gate_up {dtype:?} {tokens} x {width} -> {ff}, {activation:?}");
    let bound = product_bound(devices[0].float(), dtype, width);
    compare(devices, &what, bound, |device| {
        let (batch, out) = (step.load(device), device.poisoned(tokens * ff * 2));
        let op = NormGateUp {
            batch: &batch,
            x: &device.upload(&x),
            norm: &device.upload(&norm),
            eps,
            weight: &device.weight(&parts, Fuse::Interleave),
            activation,
            out: &out,
        };
        done(device, &what, device.backend.norm_gate_up(&op));
        vec![device.download_floats(&out, tokens * ff)]
    });
}

/// Final norm and LM head.
pub fn norm_lm_head(devices: &[Device], seed: u64, dtype: DType, sequences: usize) {
    let mut rng = Rng::new(seed);
    let (width, vocab) = (cols(&mut rng, dtype, 500), 1 + rng.below(300));
    let softcap = rng.pick(&[None, Some(30.0)]);
    let seqs: Vec<Seq> = (0..sequences).map(|_| Seq { new: 1 + rng.below(3), cached: 5 }).collect();
    let step = Step::random(&mut rng, Shape { vocab, ..shape(width) }, &seqs, 16, &[None]);
    let (tokens, rows) = (step.tokens(), step.host.logit_rows.len());
    let matrix = weight(&mut rng, "head", dtype, vocab, width);
    let (x, norm, eps) = (rng.normals(tokens * width, 5.0), rng.normals(width, 1.0), 30.0 * eps(&mut rng));
    let what = format!("seed {seed}: norm_lm_head {dtype:?} {rows} of {tokens} x {width} -> {vocab}, {softcap:?}");
    let bound = product_bound(devices[0].float(), dtype, width);
    compare(devices, &what, bound, |device| {
        let (batch, logits) = (step.load(device), device.poisoned(rows * vocab * 4));
        let op = NormLmHead {
            batch: &batch,
            x: &device.upload(&x),
            norm: &device.upload(&norm),
            eps,
            weight: &device.weight(std::slice::from_ref(&matrix), Fuse::Concat),
            softcap,
            logits: &logits,
        };
        done(device, &what, device.backend.norm_lm_head(&op));
        vec![device.download(&logits, rows * vocab)]
    });
}

const HEAD_DIMS: [usize; 4] = [64, 96, 128, 256];

/// The head size of the case of this seed.
pub fn head_dim(seed: u64) -> usize {
    Rng::new(seed).pick(&HEAD_DIMS)
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
    eps: f32,
    rope: Vec<f32>,
}

impl QkvCase {
    fn new(seed: u64, types: KvTypes, dtypes: [DType; 3], tokens: usize, with_qk_norm: bool) -> Self {
        let mut rng = Rng::new(seed);
        let widest = dtypes.into_iter().max_by_key(|d| d.block().0).unwrap();
        let head_dim = rng.pick(&HEAD_DIMS);
        let (heads, kv_heads) = (1 + rng.below(3), 1 + rng.below(2));
        let width = cols(&mut rng, widest, 400);
        let shape = Shape { width, ff: 64, heads, kv_heads, head_dim, vocab: 100 };
        let step = step(&mut rng, shape, tokens);
        let layout = KvLayout { layers: 3, kv_heads, head_dim, page_tokens: 16, types };
        let rows = [heads, kv_heads, kv_heads].map(|n| n * head_dim);
        let parts = [0, 1, 2].map(|i| weight(&mut rng, ["q", "k", "v"][i], dtypes[i], rows[i], width));
        // Zeros are numbers too: in every storage type they are zero bytes.
        let parts = parts.map(|mut part| {
            let bytes = part.bytes.len() / part.rows;
            part.bytes.to_mut()[rng.below(part.rows) * bytes..][..bytes].fill(0);
            part
        });
        let rope_dims = if rng.below(3) == 0 { head_dim / 2 } else { head_dim };
        let angle =
            |i: usize| (i / rope_dims) as f64 * 1e4f64.powf(-((i % rope_dims / 2 * 2) as f64) / rope_dims as f64);
        let trig = |i: usize| if i.is_multiple_of(2) { angle(i).cos() as f32 } else { angle(i).sin() as f32 };
        let positions = step.host.kv_len.iter().max().map_or(1, |&n| n as usize);
        QkvCase {
            what: format!(
                "seed {seed}: qkv {dtypes:?} {tokens} x {width} -> {heads} + 2 x {kv_heads} of {head_dim} in {types}"
            ),
            x: rng.normals(tokens * width, 8.0),
            norm: rng.normals(width, 1.2),
            bias: (rng.below(2) == 0).then(|| rng.normals((heads + 2 * kv_heads) * head_dim, 1.0)),
            qk_norm: with_qk_norm.then(|| [rng.normals(head_dim, 1.0), rng.normals(head_dim, 1.0)]),
            eps: eps(&mut rng),
            rope: (0..positions * rope_dims).map(trig).collect(),
            shape,
            step,
            layout,
            parts,
            rope_dims,
        }
    }

    /// Q, and what was appended to K and to V, token by token.
    fn run(&self, device: &Device) -> [Vec<f32>; 3] {
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
            eps: 30.0 * self.eps,
            weight: &device.weight(&self.parts, Fuse::Concat),
            bias: bias.as_ref(),
            qk_norm: norms.as_ref().map(|[q, k]| QkNorm { q, k, eps: self.eps }),
            rope: &Rope { table: device.upload(&self.rope), dims: self.rope_dims, positions },
            heads,
            kv: &KvGroup { layout: self.layout, pages: self.step.pages, data: pages.clone() },
            group: 0,
            layer: 1,
            q: &q,
        };
        done(device, &self.what, device.backend.qkv(&op));
        let bytes: Vec<u8> = device.download(&pages, self.step.pages * self.layout.page_bytes());
        let [k, v] =
            self.appended(device.float(), &bytes).unwrap_or_else(|e| panic!("{} on {}: {e}", self.what, device.name));
        [device.download_floats(&q, q_elements), k, v]
    }

    /// K and V of the step's tokens. What no token owns must still be the poison.
    fn appended(&self, float: Float, pages: &[u8]) -> Result<[Vec<f32>; 2], String> {
        let l = &self.layout;
        let mut owned = vec![false; pages.len()];
        let appended = KvHalf::BOTH.map(|half| {
            let mut values = Vec::new();
            for &slot in &self.step.host.groups[0].slot_mapping {
                let (page, offset) = (slot as usize / l.page_tokens, slot as usize % l.page_tokens);
                for head in 0..l.kv_heads {
                    let at = page * l.page_bytes() + l.head_offset(half, 1, head);
                    let range = at..at + l.head_bytes(half);
                    kv::mark(l, half, &mut owned[range.clone()], offset);
                    values.extend(kv::elements(float, l, half, &pages[range], offset));
                }
            }
            values
        });
        match pages.iter().zip(owned).position(|(&byte, owned)| !owned && byte != 0xff) {
            Some(at) => Err(format!("byte {at} of the pages was written, and no token lies there")),
            None => Ok(appended),
        }
    }
}

/// Norm, projection, bias, QK-norm, RoPE and append to pages of these types.
pub fn qkv(devices: &[Device], seed: u64, dtypes: [DType; 3], tokens: usize, with_qk_norm: bool, types: KvTypes) {
    let case = QkvCase::new(seed, types, dtypes, tokens, with_qk_norm);
    let widest = dtypes.into_iter().max_by_key(|d| d.block().0).unwrap();
    let computed = product_bound(devices[0].float(), widest, case.shape.width);
    let bounds = [computed, stored_bound(types.k, computed), stored_bound(types.v, computed)];
    let expected = case.run(&devices[0]);
    for device in &devices[1..] {
        for (i, actual) in case.run(device).iter().enumerate() {
            let what = format!("{} {}: {}", device.name, case.what, ["Q", "K", "V"][i]);
            assert_close(&what, actual, &expected[i], bounds[i]);
        }
    }
}
