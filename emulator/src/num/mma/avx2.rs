//! [`Mma::run`](super::Mma::run) for AVX2, FMA and F16C, with the rounding of the portable form.
//!
//! A is unpacked once to rows of `f32` in memory, from which single elements are broadcast. B becomes one vector of eight
//! columns for each `k`, in the order 0 2 4 6 1 3 5 7: that is how both halves of two registers of C lie, so neither C nor
//! D is shuffled by element. Eight rows are summed at a time, which hides the latency of the multiply-adds.

#![allow(clippy::needless_range_loop, reason = "rows, columns and registers are indexed by the same numbers")]

mod alike;
mod integer;

use super::super::Lanes;
use super::{Element, Fragments, Mma, Sum};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Runs `mma` if this host has the instructions.
#[inline]
pub(super) fn run(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) -> bool {
    let able = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    if able && mma.m == 16 {
        // SAFETY: the three features were just seen.
        unsafe { dispatch(mma, f, d) };
    }
    able && mma.m == 16
}

// Elements as constants, so that each combination is compiled apart.
const F16: u8 = Element::F16 as u8;
const BF16: u8 = Element::Bf16 as u8;
const TF32: u8 = Element::Tf32 as u8;
const E4M3: u8 = Element::E4m3 as u8;
const E5M2: u8 = Element::E5m2 as u8;

#[target_feature(enable = "avx2,fma,f16c")]
fn dispatch(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) {
    match (mma.a as u8, mma.b as u8, mma.k) {
        (F16, _, 8) => float::<F16, F16, 8, 1>(mma, f, d),
        (F16, ..) => float::<F16, F16, 8, 2>(mma, f, d),
        (BF16, _, 8) => float::<BF16, BF16, 8, 1>(mma, f, d),
        (BF16, ..) => float::<BF16, BF16, 8, 2>(mma, f, d),
        (TF32, _, 4) => float::<TF32, TF32, 4, 1>(mma, f, d),
        (TF32, ..) => float::<TF32, TF32, 4, 2>(mma, f, d),
        (E4M3, E4M3, _) => fp8::<E4M3, E4M3>(mma, f, d),
        (E4M3, ..) => fp8::<E4M3, E5M2>(mma, f, d),
        (E5M2, E4M3, _) => fp8::<E5M2, E4M3>(mma, f, d),
        (E5M2, ..) => fp8::<E5M2, E5M2>(mma, f, d),
        (_, _, 16) => integer::run::<1>(mma, f, d),
        _ => integer::run::<2>(mma, f, d),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fp8<const A: u8, const B: u8>(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) {
    if mma.k == 16 { float::<A, B, 16, 1>(mma, f, d) } else { float::<A, B, 16, 2>(mma, f, d) }
}

/// 16 rows of A, `W` columns: as many as a register is wide.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Tile<const W: usize>([[f32; W]; 16]);

/// `W` columns of A in a register, `T` registers for all of `k`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn float<const A: u8, const B: u8, const W: usize, const T: usize>(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) {
    if W == 8 && mma.sum == Sum::F32 && alike::run::<A, T>(f, d) {
        return;
    }
    let mut a = [const { MaybeUninit::uninit() }; T];
    let mut b = [[_mm256_setzero_ps(); W]; T];
    for i in 0..T {
        unpack_a::<A, W>(f.a[2 * i], f.a[2 * i + 1], &mut a[i]);
        b[i] = unpack_b::<B, W>(f.b[i]);
    }
    // SAFETY: every element of every tile was written above.
    let a = unsafe { &*(&raw const a).cast::<[Tile<W>; T]>() };
    match mma.sum {
        Sum::F16 => sum_f16(a, &b, f, d),
        _ => sum_f32(a, &b, f, d),
    }
}

/// Lanes `8 * i` to `8 * i + 7` of a register: two rows of an 8-row tile.
#[inline]
#[target_feature(enable = "avx2")]
fn load(register: &Lanes, i: usize) -> __m256i {
    debug_assert!(i < 4);
    // SAFETY: `i` is below 4 in all calls here, so 32 bytes are readable; the load does not ask for alignment.
    unsafe { _mm256_loadu_si256(register.as_ptr().add(8 * i).cast()) }
}

/// Row `i` of an 8-row tile.
#[inline]
#[target_feature(enable = "avx2")]
fn load_row(register: &Lanes, i: usize) -> __m128i {
    debug_assert!(i < 8);
    // SAFETY: `i` is below 8 in all calls here, so 16 bytes are readable; the load does not ask for alignment.
    unsafe { _mm_loadu_si128(register.as_ptr().add(4 * i).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(register: &mut Lanes, i: usize, x: __m256i) {
    debug_assert!(i < 4);
    // SAFETY: `i` is below 4 in all calls here, so 32 bytes are writable; the store does not ask for alignment.
    unsafe { _mm256_storeu_si256(register.as_mut_ptr().add(8 * i).cast(), x) }
}

/// The upper and the lower 8 rows of A from their registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_a<const A: u8, const W: usize>(upper: &Lanes, lower: &Lanes, tile: &mut MaybeUninit<Tile<W>>) {
    for row in 0..16 {
        let register = if row < 8 { upper } else { lower };
        let x = load_row(register, row % 8);
        // SAFETY: the row is `W` elements wide, 4 for tf32, 8 for halves, 16 for fp8: as many as are written.
        unsafe {
            let to = tile.as_mut_ptr().cast::<f32>().add(W * row);
            match A {
                F16 => _mm256_storeu_ps(to, _mm256_cvtph_ps(x)),
                BF16 => {
                    let wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16);
                    _mm256_storeu_ps(to, _mm256_castsi256_ps(wide));
                }
                TF32 => _mm_storeu_ps(to, _mm_castsi128_ps(_mm_and_si128(x, _mm_set1_epi32(!0x1fff)))),
                _ => {
                    let halves = fp8_as_f16::<A>(_mm256_slli_epi16(_mm256_cvtepu8_epi16(x), 8));
                    let (low, high) = (_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
                    _mm256_storeu_ps(to, scaled::<A>(_mm256_cvtph_ps(low)));
                    _mm256_storeu_ps(to.add(8), scaled::<A>(_mm256_cvtph_ps(high)));
                }
            }
        }
    }
}

/// fp8 values in the upper bytes of 16-bit elements as `f16`, to be [`scaled`] once widened.
#[inline]
#[target_feature(enable = "avx2")]
fn fp8_as_f16<const E: u8>(shifted: __m256i) -> __m256i {
    if E == E5M2 {
        return shifted;
    }
    let magnitude = _mm256_and_si256(shifted, _mm256_set1_epi16(0x7f00));
    let nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f00));
    let sign = _mm256_and_si256(shifted, _mm256_set1_epi16(i16::MIN));
    _mm256_or_si256(_mm256_or_si256(_mm256_srli_epi16(magnitude, 1), sign), nan)
}

/// An `e4m3` shifted into the fields of an `f16` is 2^8 too small, subnormals too.
#[inline]
#[target_feature(enable = "avx2")]
fn scaled<const E: u8>(x: __m256) -> __m256 {
    if E == E4M3 { _mm256_mul_ps(x, _mm256_set1_ps(256.0)) } else { x }
}

/// The four words of each of eight columns, as four vectors over the columns 0 2 4 6 1 3 5 7.
#[inline]
#[target_feature(enable = "avx2")]
fn columns(register: &Lanes) -> [__m256i; 4] {
    let rows = [load(register, 0), load(register, 1), load(register, 2), load(register, 3)];
    let low = [_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpacklo_epi32(rows[2], rows[3])];
    let high = [_mm256_unpackhi_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[2], rows[3])];
    [
        _mm256_unpacklo_epi64(low[0], low[1]),
        _mm256_unpackhi_epi64(low[0], low[1]),
        _mm256_unpacklo_epi64(high[0], high[1]),
        _mm256_unpackhi_epi64(high[0], high[1]),
    ]
}

/// One register of B into vectors over the columns, one for each `k`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_b<const B: u8, const W: usize>(register: &Lanes) -> [__m256; W] {
    let words = columns(register);
    let mut b = [_mm256_setzero_ps(); W];
    for i in 0..4 {
        let x = words[i];
        match B {
            F16 => (b[2 * i], b[2 * i + 1]) = split_f16(x),
            BF16 => {
                b[2 * i] = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
                b[2 * i + 1] = _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(!0xffff)));
            }
            TF32 => b[i] = _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(!0x1fff))),
            _ => {
                let (even, odd) = split_f16(fp8_as_f16::<B>(high_bytes::<0>(x)));
                (b[4 * i], b[4 * i + 1]) = (scaled::<B>(even), scaled::<B>(odd));
                let (even, odd) = split_f16(fp8_as_f16::<B>(high_bytes::<1>(x)));
                (b[4 * i + 2], b[4 * i + 3]) = (scaled::<B>(even), scaled::<B>(odd));
            }
        }
    }
    b
}

/// Lower and upper `f16` of each word.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn split_f16(x: __m256i) -> (__m256, __m256) {
    let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    let halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(x, order), 0b11_01_10_00);
    (_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)))
}

/// Bytes `2 * PAIR` and `2 * PAIR + 1` of each word in the upper bytes of its two halves, the lower ones zero.
#[inline]
#[target_feature(enable = "avx2")]
fn high_bytes<const PAIR: i8>(x: __m256i) -> __m256i {
    let p = 2 * PAIR;
    #[rustfmt::skip]
    let order = _mm_setr_epi8(-1, p, -1, p + 1, -1, p + 4, -1, p + 5, -1, p + 8, -1, p + 9, -1, p + 12, -1, p + 13);
    _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order))
}

/// Adds the products of rows `first..first + 4` and `first + 8..first + 12` to `sums`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn accumulate<const W: usize, const T: usize>(
    a: &[Tile<W>; T],
    b: &[[__m256; W]; T],
    first: usize,
    sums: &mut [__m256; 8],
) {
    let mut s = *sums;
    for t in 0..T {
        for k in 0..W {
            for i in 0..8 {
                let row = first + i % 4 + 8 * (i / 4);
                s[i] = _mm256_fmadd_ps(_mm256_set1_ps(a[t].0[row][k]), b[t][k], s[i]);
            }
        }
    }
    *sums = s;
}

/// Any NaN becomes the canonical one.
#[inline]
#[target_feature(enable = "avx2")]
fn canonical(x: __m256) -> __m256 {
    let nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
    _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_f32<const W: usize, const T: usize>(a: &[Tile<W>; T], b: &[[__m256; W]; T], f: &Fragments, d: &mut [Lanes; 4]) {
    for block in 0..2 {
        let mut sums = [_mm256_setzero_ps(); 8];
        for i in 0..4 {
            let (pair, at) = (i / 2 * 2, 2 * block + i % 2);
            let even = _mm256_castsi256_ps(load(f.c[pair], at));
            let odd = _mm256_castsi256_ps(load(f.c[pair + 1], at));
            sums[2 * i] = _mm256_permute2f128_ps(even, odd, 0x20);
            sums[2 * i + 1] = _mm256_permute2f128_ps(even, odd, 0x31);
        }
        accumulate(a, b, 4 * block, &mut sums);
        for i in 0..4 {
            let (pair, at) = (i / 2 * 2, 2 * block + i % 2);
            let (upper, lower) = (canonical(sums[2 * i]), canonical(sums[2 * i + 1]));
            store(&mut d[pair], at, _mm256_castps_si256(_mm256_permute2f128_ps(upper, lower, 0x20)));
            store(&mut d[pair + 1], at, _mm256_castps_si256(_mm256_permute2f128_ps(upper, lower, 0x31)));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_f16<const W: usize, const T: usize>(a: &[Tile<W>; T], b: &[[__m256; W]; T], f: &Fragments, d: &mut [Lanes; 4]) {
    let to_halves = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    for block in 0..2 {
        let mut sums = [_mm256_setzero_ps(); 8];
        for i in 0..4 {
            let c = load(f.c[i / 2], 2 * block + i % 2);
            let (upper, lower) = (_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
            sums[2 * i] = _mm256_permutevar8x32_ps(_mm256_cvtph_ps(upper), to_halves);
            sums[2 * i + 1] = _mm256_permutevar8x32_ps(_mm256_cvtph_ps(lower), to_halves);
        }
        accumulate(a, b, 4 * block, &mut sums);
        for i in 0..4 {
            let (upper, lower) = (narrow(sums[2 * i]), narrow(sums[2 * i + 1]));
            store(&mut d[i / 2], 2 * block + i % 2, _mm256_set_m128i(lower, upper));
        }
    }
}

/// A row of sums as `f16` in the order of the columns.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn narrow(sums: __m256) -> __m128i {
    let to_columns = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let columns = _mm256_permutevar8x32_ps(canonical(sums), to_columns);
    _mm256_cvtps_ph(columns, _MM_FROUND_TO_NEAREST_INT)
}
