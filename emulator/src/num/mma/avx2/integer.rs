//! `mma.sync` of 8-bit integers: pairs of widened elements, multiplied and added by `vpmaddwd`, which is exact.

use super::super::super::Lanes;
use super::super::{Element, Fragments, Mma};
use super::{columns, high_bytes, load, load_row, store};
use std::arch::x86_64::*;

/// Rows of A as pairs of 16-bit elements, 16 elements to a register.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Pairs([[i32; 8]; 16]);

/// `T` registers of 16 columns for all of `k`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<const T: usize>(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) {
    let mut a = [Pairs([[0; 8]; 16]); T];
    let mut b = [[_mm256_setzero_si256(); 8]; T];
    for t in 0..T {
        for row in 0..16 {
            let x = load_row(f.a[2 * t + row / 8], row % 8);
            let wide = if mma.a == Element::S8 { _mm256_cvtepi8_epi16(x) } else { _mm256_cvtepu8_epi16(x) };
            // SAFETY: 32 writable bytes; the store does not ask for alignment.
            unsafe { _mm256_storeu_si256(a[t].0[row].as_mut_ptr().cast(), wide) }
        }
        let words = columns(f.b[t]);
        for i in 0..4 {
            let (low, high) = (high_bytes::<0>(words[i]), high_bytes::<1>(words[i]));
            (b[t][2 * i], b[t][2 * i + 1]) = match mma.b {
                Element::S8 => (_mm256_srai_epi16(low, 8), _mm256_srai_epi16(high, 8)),
                _ => (_mm256_srli_epi16(low, 8), _mm256_srli_epi16(high, 8)),
            };
        }
    }
    sum_s32(mma.saturate, &a, &b, f, d);
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_s32<const T: usize>(saturate: bool, a: &[Pairs; T], b: &[[__m256i; 8]; T], f: &Fragments, d: &mut [Lanes; 4]) {
    for block in 0..2 {
        let mut s = [_mm256_setzero_si256(); 8];
        for t in 0..T {
            for k in 0..8 {
                for i in 0..8 {
                    let row = 4 * block + i % 4 + 8 * (i / 4);
                    let product = _mm256_madd_epi16(_mm256_set1_epi32(a[t].0[row][k]), b[t][k]);
                    s[i] = _mm256_add_epi32(s[i], product);
                }
            }
        }
        for i in 0..4 {
            let (pair, at) = (i / 2 * 2, 2 * block + i % 2);
            let even = _mm256_permute2x128_si256(s[2 * i], s[2 * i + 1], 0x20);
            let odd = _mm256_permute2x128_si256(s[2 * i], s[2 * i + 1], 0x31);
            store(&mut d[pair], at, add(saturate, load(f.c[pair], at), even));
            store(&mut d[pair + 1], at, add(saturate, load(f.c[pair + 1], at), odd));
        }
    }
}

/// Sum of integers, clamped if `saturate`.
#[inline]
#[target_feature(enable = "avx2")]
fn add(saturate: bool, x: __m256i, y: __m256i) -> __m256i {
    let sum = _mm256_add_epi32(x, y);
    if !saturate {
        return sum;
    }
    // Overflow: both terms have the sign that the sum has not; the bound is that of `x`'s sign.
    let overflow = _mm256_and_si256(_mm256_xor_si256(x, sum), _mm256_xor_si256(y, sum));
    let bound = _mm256_xor_si256(_mm256_srai_epi32(x, 31), _mm256_set1_epi32(i32::MAX));
    let blend = _mm256_blendv_ps(_mm256_castsi256_ps(sum), _mm256_castsi256_ps(bound), _mm256_castsi256_ps(overflow));
    _mm256_castps_si256(blend)
}
