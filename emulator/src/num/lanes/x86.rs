//! The forms of AVX2, FMA and F16C.
use super::Lanes;
use std::arch::x86_64::*;

/// Lanes `8 * i` to `8 * i + 7`.
#[inline]
#[target_feature(enable = "avx2")]
fn load(register: &Lanes, i: usize) -> __m256i {
    debug_assert!(i < 4);
    // SAFETY: `i` is below 4 in all calls here, so 32 bytes are readable; the load does not ask for alignment.
    unsafe { _mm256_loadu_si256(register.as_ptr().add(8 * i).cast()) }
}

/// A register in four vectors.
type Vectors = [__m256i; 4];

#[inline(always)]
pub(super) fn lanes(x: Vectors) -> Lanes {
    // SAFETY: both are 128 bytes without padding, of which every pattern is valid.
    unsafe { std::mem::transmute(x) }
}

/// Two halves of a vector, joined in a register: a compiler that stored them one by one would make the next
/// operation, which loads the whole, wait until they have left the store buffer.
#[inline]
#[target_feature(enable = "avx2")]
fn join(low: __m128i, high: __m128i) -> __m256i {
    let mut x = _mm256_set_m128i(high, low);
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {x} */", x = inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

/// `f` of both elements of every word, in `f32`, then rounded to `f16`; any NaN canonical.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn binary_f16(a: &Lanes, b: &Lanes, f: impl Fn(__m256, __m256) -> __m256) -> Lanes {
    let mut d = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let (x, y) = (load(a, i), load(b, i));
        let half = |x: __m128i, y: __m128i| {
            _mm256_cvtps_ph(f(_mm256_cvtph_ps(x), _mm256_cvtph_ps(y)), _MM_FROUND_TO_NEAREST_INT)
        };
        let low = half(_mm256_castsi256_si128(x), _mm256_castsi256_si128(y));
        let high = half(_mm256_extracti128_si256(x, 1), _mm256_extracti128_si256(y, 1));
        let z = join(low, high);
        let magnitude = _mm256_and_si256(z, _mm256_set1_epi16(0x7fff));
        let nan = _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(0x7c00));
        d[i] = _mm256_blendv_epi8(z, _mm256_srli_epi16(nan, 1), nan);
    }
    lanes(d)
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn add_f16x2(a: &Lanes, b: &Lanes) -> Lanes {
    binary_f16(a, b, |x, y| _mm256_add_ps(x, y))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn sub_f16x2(a: &Lanes, b: &Lanes) -> Lanes {
    binary_f16(a, b, |x, y| _mm256_sub_ps(x, y))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn mul_f16x2(a: &Lanes, b: &Lanes) -> Lanes {
    binary_f16(a, b, |x, y| _mm256_mul_ps(x, y))
}

/// `product + c` rounded to odd, any NaN canonical; `product` is exact.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_odd(product: __m256, c: __m256) -> __m256 {
    let sum = _mm256_add_ps(product, c);
    // Knuth's two-sum: the exact error of the addition; NaN for infinities, which are left alone.
    let virtual_c = _mm256_sub_ps(sum, product);
    let error = _mm256_add_ps(_mm256_sub_ps(product, _mm256_sub_ps(sum, virtual_c)), _mm256_sub_ps(c, virtual_c));
    let inexact = _mm256_castps_si256(_mm256_cmp_ps(error, _mm256_setzero_ps(), _CMP_NEQ_OQ));
    let one = _mm256_set1_epi32(1);
    let bits = _mm256_castps_si256(sum);
    let even = _mm256_cmpeq_epi32(_mm256_and_si256(bits, one), _mm256_setzero_si256());
    let inward = _mm256_srai_epi32(_mm256_castps_si256(_mm256_xor_ps(sum, error)), 31);
    let step = _mm256_and_si256(_mm256_or_si256(inward, one), _mm256_and_si256(inexact, even));
    let odd = _mm256_castsi256_ps(_mm256_add_epi32(bits, step));
    let nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
    _mm256_blendv_ps(odd, nan, _mm256_cmp_ps(sum, sum, _CMP_UNORD_Q))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn fused_f16(a: __m128i, b: __m128i, c: __m128i) -> __m128i {
    let product = _mm256_mul_ps(_mm256_cvtph_ps(a), _mm256_cvtph_ps(b));
    _mm256_cvtps_ph(sum_odd(product, _mm256_cvtph_ps(c)), _MM_FROUND_TO_NEAREST_INT)
}

/// Lanes `8 * i` to `8 * i + 7` through `f32`, which is right where that is exact before the one rounding to `f16`, as
/// it is for codes of a few bits times a scale: the product always is, and the sum if nothing is left over. The
/// second result is what is left, 0 or -0 if the first is right; NaN of anything not finite.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn fma_f16x2_exact(a: &Lanes, b: &Lanes, c: &Lanes, i: usize) -> (__m256i, __m256) {
    let mut left = _mm256_setzero_ps();
    let (x, y, z) = (load(a, i), load(b, i), load(c, i));
    let mut half = |x: __m128i, y: __m128i, z: __m128i| {
        let (product, z) = (_mm256_mul_ps(_mm256_cvtph_ps(x), _mm256_cvtph_ps(y)), _mm256_cvtph_ps(z));
        let sum = _mm256_add_ps(product, z);
        let z_part = _mm256_sub_ps(sum, product);
        let product_part = _mm256_sub_ps(sum, z_part);
        let rest = _mm256_add_ps(_mm256_sub_ps(product, product_part), _mm256_sub_ps(z, z_part));
        left = _mm256_or_ps(left, rest);
        _mm256_cvtps_ph(sum, _MM_FROUND_TO_NEAREST_INT)
    };
    let low = half(_mm256_castsi256_si128(x), _mm256_castsi256_si128(y), _mm256_castsi256_si128(z));
    let high = half(_mm256_extracti128_si256(x, 1), _mm256_extracti128_si256(y, 1), _mm256_extracti128_si256(z, 1));
    (join(low, high), left)
}

/// Are all elements 0 or -0?
#[inline]
#[target_feature(enable = "avx")]
pub(super) fn nothing_left(left: [__m256; 4]) -> bool {
    let all = _mm256_or_ps(_mm256_or_ps(left[0], left[1]), _mm256_or_ps(left[2], left[3]));
    _mm256_movemask_ps(_mm256_cmp_ps(all, _mm256_setzero_ps(), _CMP_EQ_OQ)) == 0xff
}

/// Of any operands.
#[inline(never)]
#[target_feature(enable = "avx2,f16c,fma")]
pub(super) fn fma_f16x2_rounded(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    fma_f16x2_twice(a, b, c).unwrap_or_else(|| fma_f16x2_odd(a, b, c))
}

/// Through `f32` with two roundings, which give the same as one unless the first lands halfway between two `f16`.
/// `None` if one may have, if a result is subnormal in `f16`, where other bits decide, or not finite.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn fma_f16x2_twice(a: &Lanes, b: &Lanes, c: &Lanes) -> Option<Lanes> {
    let mut d = [_mm256_setzero_si256(); 4];
    let mut doubtful = _mm256_setzero_si256();
    for i in 0..4 {
        let (x, y, z) = (load(a, i), load(b, i), load(c, i));
        let wide = |x: __m128i, y: __m128i, z: __m128i| {
            _mm256_fmadd_ps(_mm256_cvtph_ps(x), _mm256_cvtph_ps(y), _mm256_cvtph_ps(z))
        };
        let low = wide(_mm256_castsi256_si128(x), _mm256_castsi256_si128(y), _mm256_castsi256_si128(z));
        let high = wide(_mm256_extracti128_si256(x, 1), _mm256_extracti128_si256(y, 1), _mm256_extracti128_si256(z, 1));
        doubtful = _mm256_or_si256(doubtful, _mm256_or_si256(doubts(low), doubts(high)));
        let round = |x: __m256| _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
        d[i] = join(round(low), round(high));
    }
    (_mm256_testz_si256(doubtful, doubtful) == 1).then(|| lanes(d))
}

/// Ones where [`fma_f16x2_twice`] cannot be sure: neither zero nor within [2^-14, 2^16), or halfway.
#[inline]
#[target_feature(enable = "avx2")]
fn doubts(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fff_ffff));
    let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3880_0000), magnitude);
    let small = _mm256_andnot_si256(_mm256_cmpeq_epi32(magnitude, _mm256_setzero_si256()), below);
    let large = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x477f_ffff));
    let cut = _mm256_and_si256(bits, _mm256_set1_epi32(0x1fff));
    let halfway = _mm256_cmpeq_epi32(cut, _mm256_set1_epi32(0x1000));
    _mm256_or_si256(_mm256_or_si256(small, large), halfway)
}

/// As [`fma_f16x2_twice`], of any operands.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn fma_f16x2_odd(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    let mut d = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let (x, y, z) = (load(a, i), load(b, i), load(c, i));
        let low = fused_f16(_mm256_castsi256_si128(x), _mm256_castsi256_si128(y), _mm256_castsi256_si128(z));
        let high =
            fused_f16(_mm256_extracti128_si256(x, 1), _mm256_extracti128_si256(y, 1), _mm256_extracti128_si256(z, 1));
        d[i] = join(low, high);
    }
    lanes(d)
}

/// `None` if a product leaves the range where it is exact in `f32`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn fma_bf16x2(a: &Lanes, b: &Lanes, c: &Lanes) -> Option<Lanes> {
    let mut d = [_mm256_setzero_si256(); 4];
    let mut inexact = _mm256_setzero_ps();
    for i in 0..4 {
        let (x, y, z) = (load(a, i), load(b, i), load(c, i));
        let (low, bad) = fused_bf16(_mm256_slli_epi32(x, 16), _mm256_slli_epi32(y, 16), _mm256_slli_epi32(z, 16));
        inexact = _mm256_or_ps(inexact, bad);
        let upper = _mm256_set1_epi32(!0xffff);
        let (x, y, z) = (_mm256_and_si256(x, upper), _mm256_and_si256(y, upper), _mm256_and_si256(z, upper));
        let (high, bad) = fused_bf16(x, y, z);
        inexact = _mm256_or_ps(inexact, bad);
        d[i] = _mm256_or_si256(_mm256_srli_epi32(low, 16), _mm256_and_si256(high, upper));
    }
    (_mm256_movemask_ps(inexact) == 0).then(|| lanes(d))
}

/// Results in the upper halves of the words, and a mask of the products that are not known to be exact.
#[inline]
#[target_feature(enable = "avx2")]
fn fused_bf16(a: __m256i, b: __m256i, c: __m256i) -> (__m256i, __m256) {
    let (a, b) = (_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
    let product = _mm256_mul_ps(a, b);
    let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), product);
    // 16 bits of product above 2^-110, and below 2^127 so that nothing overflowed.
    let small = _mm256_cmp_ps(magnitude, _mm256_set1_ps(f32::from_bits(17 << 23)), _CMP_NGE_UQ);
    let large = _mm256_cmp_ps(magnitude, _mm256_set1_ps(f32::from_bits(254 << 23)), _CMP_NLT_UQ);
    let zero = _mm256_setzero_ps();
    let zeros = _mm256_or_ps(_mm256_cmp_ps(a, zero, _CMP_EQ_OQ), _mm256_cmp_ps(b, zero, _CMP_EQ_OQ));
    let exact_zero = _mm256_and_ps(zeros, _mm256_cmp_ps(product, zero, _CMP_EQ_OQ));
    let inexact = _mm256_andnot_ps(exact_zero, _mm256_or_ps(small, large));
    let bits = _mm256_castps_si256(sum_odd(product, _mm256_castsi256_ps(c)));
    let even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), even));
    let nan = _mm256_cmpeq_epi32(bits, _mm256_set1_epi32(0x7fff_ffff));
    (_mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fff_0000), nan), inexact)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shuffle_bytes(a: &Lanes, from_a: u32, b: &Lanes, from_b: u32) -> Lanes {
    let mut d = [_mm256_setzero_si256(); 4];
    // The first byte of each word of 16 bytes; 0x80 stays above 0x7f, which gives zero.
    let word = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
    let from_a = _mm256_or_si256(_mm256_set1_epi32(from_a as i32), word);
    let from_b = _mm256_or_si256(_mm256_set1_epi32(from_b as i32), word);
    for i in 0..4 {
        let (x, y) = (_mm256_shuffle_epi8(load(a, i), from_a), _mm256_shuffle_epi8(load(b, i), from_b));
        d[i] = _mm256_or_si256(x, y);
    }
    lanes(d)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn prmt(a: &Lanes, b: &Lanes, selector: &Lanes) -> Lanes {
    let mut d = [_mm256_setzero_si256(); 4];
    let word = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
    for i in 0..4 {
        // One selector nibble to each byte.
        let s = _mm256_and_si256(load(selector, i), _mm256_set1_epi32(0xffff));
        let s = _mm256_and_si256(_mm256_or_si256(s, _mm256_slli_epi32(s, 8)), _mm256_set1_epi32(0x00ff_00ff));
        let s = _mm256_and_si256(_mm256_or_si256(s, _mm256_slli_epi32(s, 4)), _mm256_set1_epi8(15));
        let index = _mm256_or_si256(_mm256_and_si256(s, _mm256_set1_epi8(3)), word);
        let (x, y) = (_mm256_shuffle_epi8(load(a, i), index), _mm256_shuffle_epi8(load(b, i), index));
        // Bits 2 and 3 of the nibble, moved to the top bit of the byte.
        let byte = _mm256_blendv_epi8(x, y, _mm256_slli_epi16(s, 5));
        let sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), byte);
        d[i] = _mm256_blendv_epi8(byte, sign, _mm256_slli_epi16(s, 4));
    }
    lanes(d)
}
