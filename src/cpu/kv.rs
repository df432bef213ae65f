//! One token's head in the pages: rounded to the compute type, or quantised with a scale per 32 dims.
//!
//! The codes are those of the kernels (`kernels/kv.cuh`) for equal values: the same f32 operations in the same order.
use super::float::{round, to_bits, widen};
use crate::backend::{Float, KvGroup, KvHalf, KvLayout, KvType, SCALE_GROUP};
use crate::error::{Error, Result};
use half::f16;
use std::ops::Range;

/// Bytes of what a head of a layer has in a page, checked against the pool.
pub fn head_range(kv: &KvGroup, page: u32, half: KvHalf, layer: usize, head: usize) -> Result<Range<usize>> {
    if page as usize >= kv.pages {
        return Err(Error::Device(format!("KV page {page} is read or written, the pool has {}", kv.pages)));
    }
    let at = page as usize * kv.layout.page_bytes() + kv.layout.head_offset(half, layer, head);
    Ok(at..at + kv.layout.head_bytes(half))
}

/// Stores token `offset` of a page; `head`: as [`head_range`] has it.
pub fn store(float: Float, l: &KvLayout, half: KvHalf, head: &mut [u8], offset: usize, values: &[f32]) {
    let kind = l.types.of(half);
    if !kind.is_quantised() {
        let row: &mut [u16] = bytemuck::cast_slice_mut(&mut head[offset * l.head_dim * 2..][..l.head_dim * 2]);
        return to_bits(float, values, row);
    }
    for (group, values) in values.chunks_exact(SCALE_GROUP).enumerate() {
        let scale = scale(kind, values);
        head[scale_at(l, offset, group)..][..2].copy_from_slice(&scale.to_le_bytes());
        let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
        for (i, x) in values.iter().enumerate() {
            let y = x * inverse;
            head[code_at(l, offset, group * SCALE_GROUP + i)] = match kind {
                KvType::Fp8 => to_e4m3(y),
                _ => (y.round_ties_even().clamp(-127.0, 127.0) + 128.0) as u8,
            };
        }
    }
}

/// Loads token `offset` of a page. Elements with scales are rounded to the compute type, in which attention takes them.
pub fn load(float: Float, l: &KvLayout, half: KvHalf, head: &[u8], offset: usize, values: &mut [f64]) {
    let kind = l.types.of(half);
    if !kind.is_quantised() {
        return widen(float, bytemuck::cast_slice(&head[offset * l.head_dim * 2..][..l.head_dim * 2]), values);
    }
    let mut row = vec![0.0f32; l.head_dim];
    for (dim, x) in row.iter_mut().enumerate() {
        let at = scale_at(l, offset, dim / SCALE_GROUP);
        let code = head[code_at(l, offset, dim)];
        let code = if kind == KvType::Fp8 { from_e4m3(code) } else { f32::from(code) - 128.0 };
        *x = code * f16::from_le_bytes([head[at], head[at + 1]]).to_f32();
    }
    round(float, &mut row);
    values.iter_mut().zip(row).for_each(|(wide, x)| *wide = x.into());
}

/// Bytes of eight tokens: codes, then scales.
fn run_bytes(l: &KvLayout) -> usize {
    8 * l.head_dim + 8 * l.head_dim / SCALE_GROUP * 2
}

/// From the head's start to an element.
fn code_at(l: &KvLayout, token: usize, dim: usize) -> usize {
    token / 8 * run_bytes(l) + token % 8 / 2 * 2 * l.head_dim + dim / 8 * 16 + token % 2 * 8 + dim % 8
}

/// From the head's start to a group's scale.
fn scale_at(l: &KvLayout, token: usize, group: usize) -> usize {
    let pair = token % 8 / 2 * (l.head_dim / SCALE_GROUP) + group;
    token / 8 * run_bytes(l) + 8 * l.head_dim + (2 * pair + token % 2) * 2
}

/// What makes the largest element the largest code, rounded up to 7 bits, so that kernels' products with it are exact.
fn scale(kind: KvType, values: &[f32]) -> f16 {
    let top = values.iter().fold(0.0f32, |top, x| top.max(x.abs()));
    let scale = f16::from_f32(top * if kind == KvType::Fp8 { 1.0 / 448.0 } else { 1.0 / 127.0 });
    f16::from_bits((scale.to_bits() + 15) & 0xfff0)
}

/// To nearest even; what is beyond 448 becomes 448.
fn to_e4m3(x: f32) -> u8 {
    let size = x.abs().min(448.0);
    let code = if size < 1.0 / 64.0 {
        (size * 512.0).round_ties_even() as u32
    } else {
        // Three bits of the mantissa stay; the exponent's bias goes from 127 to 7.
        let bits = size.to_bits();
        ((bits + 0x7_ffff + (bits >> 20 & 1)) >> 20) - (120 << 3)
    };
    code as u8 | if x.is_sign_negative() { 0x80 } else { 0 }
}

fn from_e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let size = if exponent == 0 { fraction / 512.0 } else { (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7) };
    if code & 0x80 != 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::KvTypes;

    /// Every finite code is its own nearest, and halfway values go to the even one.
    #[test]
    fn e4m3_rounds_to_nearest_even() {
        for code in (0..=0x7eu8).chain(0x80..=0xfe) {
            assert_eq!(to_e4m3(from_e4m3(code)), code, "{code:#x}");
        }
        for code in 0..0x7eu8 {
            let middle = (from_e4m3(code) + from_e4m3(code + 1)) / 2.0;
            assert_eq!(to_e4m3(middle), code + code % 2, "between {code:#x} and the next");
            assert_eq!(to_e4m3(middle.next_up()), code + 1);
            assert_eq!(to_e4m3(-middle.next_down()), code | 0x80);
        }
        assert_eq!((to_e4m3(1e9), to_e4m3(-500.0)), (0x7e, 0xfe));
    }

    /// What is stored comes back within half a step, and touches no other token.
    #[test]
    fn tokens_do_not_touch_each_other() {
        for kind in [KvType::F16, KvType::Int8, KvType::Fp8] {
            let l = KvLayout { layers: 1, kv_heads: 1, head_dim: 96, page_tokens: 8, types: KvTypes::both(kind) };
            let value = |token: usize, dim: usize| ((token * 96 + dim) as f32 * 0.7).sin() * (1 + dim / 32) as f32;
            let mut head = vec![0; l.head_bytes(KvHalf::K)];
            for token in [3, 0, 7, 2, 1, 6, 5, 4] {
                let row: Vec<f32> = (0..96).map(|dim| value(token, dim)).collect();
                store(Float::F16, &l, KvHalf::K, &mut head, token, &row);
            }
            let mut row = vec![0.0; 96];
            for token in 0..8 {
                load(Float::F16, &l, KvHalf::K, &head, token, &mut row);
                for (dim, x) in row.iter().enumerate() {
                    let (right, top) = (f64::from(value(token, dim)), (1 + dim / 32) as f64);
                    let allowed = match kind {
                        KvType::Fp8 => right.abs() / 15.9 + top / 448.0 / 1000.0,
                        // A scale is up to 1/64 larger than it must be, and the product is rounded to f16.
                        _ => top / 127.0 * (1.0 + 1.0 / 64.0) / 2.0 + right.abs() / 2048.0,
                    };
                    assert!((x - right).abs() <= allowed, "{kind:?} token {token} dim {dim}: {x} for {right}");
                }
            }
        }
    }
}
