//! GGUF blocks to f32, written for reading: the meaning of each format in one place.
//!
//! Every other decoder (kernels, repacking) is tested against these.
use crate::backend::DType;
use half::{bf16, f16};

/// Dequantises whole blocks: `bytes.len() / block bytes * block elements == out.len()`. Bytes or elements beyond the
/// shorter of the two are left alone.
pub fn dequantise(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    let (elements, size) = dtype.block();
    let blocks = bytes.chunks_exact(size).zip(out.chunks_exact_mut(elements));
    match dtype {
        DType::F32 => blocks.for_each(|(b, y)| y[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        DType::F16 => blocks.for_each(|(b, y)| y[0] = half_at(b, 0)),
        DType::BF16 => blocks.for_each(|(b, y)| y[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        DType::Q8_0 => blocks.for_each(|(b, y)| q8_0(b, y)),
        DType::Q4_0 => blocks.for_each(|(b, y)| q4_0(b, y)),
        DType::Q4_1 => blocks.for_each(|(b, y)| q4_1(b, y)),
        DType::Q5_0 => blocks.for_each(|(b, y)| q5_0(b, y)),
        DType::Q4_K => blocks.for_each(|(b, y)| q4_k(b, y)),
        DType::Q6_K => blocks.for_each(|(b, y)| q6_k(b, y)),
    }
}

fn half_at(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// scale f16, 32 x i8.
fn q8_0(b: &[u8], y: &mut [f32]) {
    let d = half_at(b, 0);
    for (y, &q) in y.iter_mut().zip(&b[2..34]) {
        *y = f32::from(q as i8) * d;
    }
}

/// scale f16, 16 bytes: elements 0..16 in the low nibbles, 16..32 in the high ones, offset 8.
fn q4_0(b: &[u8], y: &mut [f32]) {
    let d = half_at(b, 0);
    let (low, high) = y.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(&b[2..18]) {
        *low = (f32::from(q & 15) - 8.0) * d;
        *high = (f32::from(q >> 4) - 8.0) * d;
    }
}

/// scale f16, minimum f16, nibbles as in Q4_0.
fn q4_1(b: &[u8], y: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    let (low, high) = y.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(&b[4..20]) {
        *low = f32::from(q & 15) * d + m;
        *high = f32::from(q >> 4) * d + m;
    }
}

/// scale f16, the fifth bits of all elements as u32, nibbles as in Q4_0, offset 16.
fn q5_0(b: &[u8], y: &mut [f32]) {
    let d = half_at(b, 0);
    let fifth = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
    let (low, high) = y.split_at_mut(16);
    for (i, ((low, high), &q)) in low.iter_mut().zip(high).zip(&b[6..22]).enumerate() {
        let bit = |n: usize| (fifth >> n & 1) as u8 * 16;
        *low = (f32::from(q & 15 | bit(i)) - 16.0) * d;
        *high = (f32::from(q >> 4 | bit(i + 16)) - 16.0) * d;
    }
}

/// scale f16, scale of minima f16, eight 6-bit (scale, minimum) pairs in 12 bytes, 128 bytes of nibbles: four runs of 32
/// bytes, each holding one sub-block in its low nibbles and the next in its high ones.
fn q4_k(b: &[u8], y: &mut [f32]) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    let scales = &b[4..16];
    for (sub, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, min) = q4_k_scale(scales, sub);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let nibbles = &b[16 + sub / 2 * 32..][..32];
        for (y, &q) in y.iter_mut().zip(nibbles) {
            *y = f32::from(q >> (sub % 2 * 4) & 15) * scale - min;
        }
    }
}

/// The 6-bit scale and minimum of a sub-block of Q4_K.
pub fn q4_k_scale(s: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        (s[sub] & 63, s[sub + 4] & 63)
    } else {
        (s[sub + 4] & 15 | s[sub - 4] >> 6 << 4, s[sub + 4] >> 4 | s[sub] >> 6 << 4)
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 x i8 scales (one per 16 elements), scale f16, offset 32.
/// Half h of the block: element l of quarter k has its nibble in byte `l + 32 * (k % 2)` (high for k >= 2) and its bits
/// in byte l at `2 * k`.
fn q6_k(b: &[u8], y: &mut [f32]) {
    let d = half_at(b, 208);
    for (h, y) in y.chunks_exact_mut(128).enumerate() {
        let (ql, qh, scales) = (&b[h * 64..][..64], &b[128 + h * 32..][..32], &b[192 + h * 8..][..8]);
        for (i, y) in y.iter_mut().enumerate() {
            let (k, l) = (i / 32, i % 32);
            let low = ql[l + 32 * (k % 2)] >> (k / 2 * 4) & 15;
            let high = qh[l] >> (2 * k) & 3;
            let scale = d * f32::from(scales[i / 16] as i8);
            *y = scale * (f32::from(low | high << 4) - 32.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each format against a value worked out by hand from its definition.
    #[test]
    fn by_hand() {
        let two = f16::from_f32(2.0).to_le_bytes();
        let half = f16::from_f32(0.5).to_le_bytes();
        let one = |dtype: DType, bytes: &[u8], at: usize| {
            let mut out = vec![f32::NAN; dtype.block().0];
            dequantise(dtype, bytes, &mut out);
            assert!(out.iter().all(|y| y.is_finite()), "{dtype:?} left elements unset");
            out[at]
        };
        let with = |size: usize, sets: &[(usize, u8)]| {
            let mut b = vec![0u8; size];
            sets.iter().for_each(|&(at, v)| b[at] = v);
            b
        };
        let scale2 = [(0, two[0]), (1, two[1])];
        assert_eq!(one(DType::F32, &1.5f32.to_le_bytes(), 0), 1.5);
        assert_eq!(one(DType::F16, &half, 0), 0.5);
        assert_eq!(one(DType::BF16, &bf16::from_f32(-3.0).to_le_bytes(), 0), -3.0);
        let q8 = with(34, &[scale2[0], scale2[1], (2 + 31, (-7i8) as u8)]);
        assert_eq!(one(DType::Q8_0, &q8, 31), -14.0);
        let q4 = with(18, &[scale2[0], scale2[1], (2 + 3, 0xA5)]);
        assert_eq!((one(DType::Q4_0, &q4, 3), one(DType::Q4_0, &q4, 19)), (-6.0, 4.0));
        let q41 = with(20, &[scale2[0], scale2[1], (2, half[0]), (3, half[1]), (4 + 15, 0x9F)]);
        assert_eq!((one(DType::Q4_1, &q41, 15), one(DType::Q4_1, &q41, 31)), (30.5, 18.5));
        let q5 = with(22, &[scale2[0], scale2[1], (2, 0b10), (5, 0x80), (6 + 1, 0x03), (6 + 15, 0x70)]);
        assert_eq!((one(DType::Q5_0, &q5, 1), one(DType::Q5_0, &q5, 31)), (6.0, 14.0));
        assert_eq!(one(DType::Q5_0, &q5, 17), -32.0);
    }

    #[test]
    fn q4_k_by_hand() {
        let mut b = vec![0u8; 144];
        b[..2].copy_from_slice(&f16::from_f32(2.0).to_le_bytes());
        b[2..4].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        // Sub-block 5: scale = 0b10_0011 (35), minimum = 0b01_0110 (22).
        b[4 + 9] = 0x63;
        b[4 + 1] = 0b1000_0000;
        b[4 + 5] = 0b0100_0000;
        assert_eq!(q4_k_scale(&b[4..16], 5), (35, 22));
        b[16 + 64 + 7] = 0xC0;
        let mut y = vec![0.0; 256];
        dequantise(DType::Q4_K, &b, &mut y);
        assert_eq!(y[5 * 32 + 7], 2.0 * 35.0 * 12.0 - 0.5 * 22.0);
        assert_eq!(y[4 * 32 + 7], 0.0);
    }

    #[test]
    fn q6_k_by_hand() {
        let mut b = vec![0u8; 210];
        b[208..].copy_from_slice(&f16::from_f32(0.25).to_le_bytes());
        // Half 1, quarter 3, element 20: nibble in the high half of ql[64 + 52], bits 6..8 of qh[32 + 20].
        b[64 + 52] = 0x90;
        b[128 + 32 + 20] = 0b1000_0000;
        b[192 + 8 + 7] = (-3i8) as u8;
        let mut y = vec![0.0; 256];
        dequantise(DType::Q6_K, &b, &mut y);
        assert_eq!(y[128 + 96 + 20], 0.25 * -3.0 * (0x29 as f32 - 32.0));
        assert_eq!(y[0], 0.0);
    }
}
