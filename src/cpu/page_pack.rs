//! Half pages into packed bytes and back ([`crate::backend::Packing`]): the meaning of each packing in one place.
//!
//! Bytes are those of the kernels (`kernels/page_pack.cu`): the same f32 operations in the same order. Only sums of losses are
//! more exact.
use super::float::{from_bits, to_bits};
use super::kv;
use crate::backend::{Float, KvHalf, KvLayout, Loss, Packing, SCALE_GROUP};
use half::f16;

/// Bytes of a packed half, and what they lose of `page`, a half in the compute type.
pub fn pack(float: Float, l: &KvLayout, half: KvHalf, packing: Packing, page: &[u8]) -> (Vec<u8>, Loss) {
    let mut packed = vec![0; l.packed_half_bytes(half, packing)];
    let heads = page.chunks_exact(l.head_bytes(half)).zip(packed.chunks_exact_mut(l.packed_head_bytes(half, packing)));
    let mut values = vec![0.0; l.page_tokens * l.head_dim];
    let loss = heads.map(|(head, packed)| {
        from_bits(float, bytemuck::cast_slice(head), &mut values);
        pack_head(float, l, half, packing, &values, packed);
        loss(&values, &unpack_head(float, l, half, packing, packed))
    });
    let loss = loss.sum();
    (packed, loss)
}

/// The half in the compute type that packed bytes stand for.
pub fn unpack(float: Float, l: &KvLayout, half: KvHalf, packing: Packing, packed: &[u8], page: &mut [u8]) {
    let heads = packed.chunks_exact(l.packed_head_bytes(half, packing)).zip(page.chunks_exact_mut(l.head_bytes(half)));
    for (packed, head) in heads {
        to_bits(float, &unpack_head(float, l, half, packing, packed), bytemuck::cast_slice_mut(head));
    }
}

fn loss(values: &[f32], unpacked: &[f32]) -> Loss {
    let pairs = values.iter().zip(unpacked).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    pairs.map(|(x, y)| Loss { error: (x - y) * (x - y), square: x * x }).sum()
}

/// `values`: f32 `[token][dim]`.
fn pack_head(float: Float, l: &KvLayout, half: KvHalf, packing: Packing, values: &[f32], packed: &mut [u8]) {
    if let Some(pages) = l.packed_as_pages(packing) {
        let rows = values.chunks_exact(l.head_dim).enumerate();
        return rows.for_each(|(token, row)| kv::store(float, &pages, half, packed, token, row));
    }
    for run in runs(l, half) {
        let elements = || run.elements.iter().map(|&(token, dim)| values[token * l.head_dim + dim]);
        let range = Range4::of(elements());
        packed[run.range_at..][..2].copy_from_slice(&range.step.to_le_bytes());
        packed[run.range_at + 2..][..2].copy_from_slice(&range.least.to_le_bytes());
        for (x, &(token, dim)) in elements().zip(&run.elements) {
            let (at, shift) = nibble(l, half, token, dim);
            packed[at] |= range.code(x) << shift;
        }
    }
}

/// f32 `[token][dim]`, rounded to the compute type.
fn unpack_head(float: Float, l: &KvLayout, half: KvHalf, packing: Packing, packed: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0f32; l.page_tokens * l.head_dim];
    if let Some(pages) = l.packed_as_pages(packing) {
        let mut wide = vec![0.0f64; l.head_dim];
        for (token, row) in values.chunks_exact_mut(l.head_dim).enumerate() {
            kv::load(float, &pages, half, packed, token, &mut wide);
            row.iter_mut().zip(&wide).for_each(|(x, &wide)| *x = wide as f32);
        }
        return values;
    }
    for run in runs(l, half) {
        let number = |at: usize| f16::from_le_bytes([packed[at], packed[at + 1]]);
        let range = Range4 { step: number(run.range_at), least: number(run.range_at + 2) };
        for (token, dim) in run.elements {
            let (at, shift) = nibble(l, half, token, dim);
            values[token * l.head_dim + dim] = range.value(packed[at] >> shift & 15);
        }
    }
    super::float::round(float, &mut values);
    values
}

/// Elements of int4 that share a step and a least value, and where those are: `(token, dim)`, bytes from the head's start.
struct Run {
    elements: Vec<(usize, usize)>,
    range_at: usize,
}

fn runs(l: &KvLayout, half: KvHalf) -> Vec<Run> {
    let (tokens, dims, codes) = (l.page_tokens, l.head_dim, l.page_tokens * l.head_dim / 2);
    match half {
        KvHalf::K => {
            let run = |dim| Run { elements: (0..tokens).map(|t| (t, dim)).collect(), range_at: codes + 4 * dim };
            (0..dims).map(run).collect()
        }
        KvHalf::V => {
            let groups = dims / SCALE_GROUP;
            let run = |i: usize| {
                let (token, first) = (i / groups, i % groups * SCALE_GROUP);
                Run { elements: (first..first + SCALE_GROUP).map(|d| (token, d)).collect(), range_at: codes + 4 * i }
            };
            (0..tokens * groups).map(run).collect()
        }
    }
}

/// From the head's start to the byte of an int4 code, and the code's place in it.
fn nibble(l: &KvLayout, half: KvHalf, token: usize, dim: usize) -> (usize, usize) {
    let at = match half {
        KvHalf::K => dim / 2 * l.page_tokens + token,
        KvHalf::V => (token * l.head_dim + dim) / 2,
    };
    (at, dim % 2 * 4)
}

/// What int4 codes mean: `least + code * step`.
struct Range4 {
    step: f16,
    least: f16,
}

impl Range4 {
    /// That reaches from the least value to the largest.
    fn of(values: impl Iterator<Item = f32>) -> Self {
        let (least, most) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        // -0 becomes 0, so that the order of zeros does not matter.
        Range4 { step: f16::from_f32((most - least) * (1.0 / 15.0)), least: f16::from_f32(least + 0.0) }
    }

    fn code(&self, x: f32) -> u8 {
        let step = self.step.to_f32();
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        ((x - self.least.to_f32()) * inverse).round_ties_even().clamp(0.0, 15.0) as u8
    }

    fn value(&self, code: u8) -> f32 {
        f32::from(code) * self.step.to_f32() + self.least.to_f32()
    }
}
