//! Where elements of K and V lie in what a head has in a page, and what they are: written from `KvLayout`'s description alone.
use super::device::{from_bits, to_bits};
use half::f16;
use kvick::backend::{Float, KvHalf, KvLayout, KvType, Packing, SCALE_GROUP};

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

/// The half page that packed bytes stand for, as bits of the compute type: written from the description of packings alone.
pub fn unpacked(float: Float, l: &KvLayout, half: KvHalf, packing: Packing, packed: &[u8]) -> Vec<u16> {
    let heads = packed.chunks_exact(l.packed_head_bytes(half, packing));
    let tokens = |head| (0..l.page_tokens).map(move |token| (head, token));
    let row = |(head, token)| match l.packed_as_pages(packing) {
        Some(pages) => elements(float, &pages, half, head, token),
        None => (0..l.head_dim).map(|dim| element4(l, half, head, token, dim).0).collect(),
    };
    heads.flat_map(tokens).flat_map(|at| to_bits(float, &row(at))).collect()
}

/// An element of int4, and the step to the next.
pub fn element4(l: &KvLayout, half: KvHalf, head: &[u8], token: usize, dim: usize) -> (f32, f32) {
    let (byte, range) = match half {
        KvHalf::K => (dim / 2 * l.page_tokens + token, dim),
        KvHalf::V => (token * l.head_dim / 2 + dim / 2, token * (l.head_dim / SCALE_GROUP) + dim / SCALE_GROUP),
    };
    let at = l.page_tokens * l.head_dim / 2 + 4 * range;
    let number = |at: usize| f16::from_le_bytes([head[at], head[at + 1]]).to_f32();
    let code = if dim.is_multiple_of(2) { head[byte] & 15 } else { head[byte] >> 4 };
    (number(at + 2) + f32::from(code) * number(at), number(at))
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
