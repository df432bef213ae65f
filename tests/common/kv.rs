//! Where elements of K and V lie in what a head has in a page, and what they are: written from `KvLayout`'s description alone.
use super::device::from_bits;
use half::f16;
use kvick::backend::{Float, KvHalf, KvLayout, KvType, SCALE_GROUP};

/// Bytes of an element, or of its code, from the head's start.
pub fn element_at(l: &KvLayout, half: KvHalf, token: usize, dim: usize) -> usize {
    if !l.types.of(half).is_quantised() {
        return (token * l.head_dim + dim) * 2;
    }
    run_at(l, token) + token % 8 / 2 * 2 * l.head_dim + dim / 8 * 16 + token % 2 * 8 + dim % 8
}

/// Of the scale of a dim.
pub fn scale_at(l: &KvLayout, token: usize, dim: usize) -> usize {
    let pair = token % 8 / 2 * (l.head_dim / SCALE_GROUP) + dim / SCALE_GROUP;
    run_at(l, token) + 8 * l.head_dim + (2 * pair + token % 2) * 2
}

fn run_at(l: &KvLayout, token: usize) -> usize {
    token / 8 * 8 * (l.head_dim + 2 * l.head_dim / SCALE_GROUP)
}

/// All elements of a token. `head`: what the head has in the page.
pub fn elements(float: Float, l: &KvLayout, half: KvHalf, head: &[u8], token: usize) -> Vec<f32> {
    let two = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let scale = |dim: usize| f16::from_bits(two(scale_at(l, token, dim))).to_f32();
    let element = |dim: usize| {
        let at = element_at(l, half, token, dim);
        match l.types.of(half) {
            KvType::F16 | KvType::BF16 => from_bits(float, &[two(at)])[0],
            KvType::Int8 => (f32::from(head[at]) - 128.0) * scale(dim),
            KvType::Fp8 => e4m3(head[at]) * scale(dim),
        }
    };
    (0..l.head_dim).map(element).collect()
}

/// Marks the bytes of a token.
pub fn mark(l: &KvLayout, half: KvHalf, head: &mut [bool], token: usize) {
    for dim in 0..l.head_dim {
        let at = element_at(l, half, token, dim);
        head[at..at + l.types.of(half).bytes()].fill(true);
        if l.types.of(half).is_quantised() {
            head[scale_at(l, token, dim)..][..2].fill(true);
        }
    }
}

/// By the definition: sign, four bits of exponent less 7, three of fraction, no infinities.
fn e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7) / 8.0);
    let size = if exponent == 0 { fraction * 2f32.powi(-6) } else { (1.0 + fraction) * 2f32.powi(exponent - 7) };
    if code < 128 { size } else { -size }
}
