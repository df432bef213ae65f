//! Whole-register forms of what a loop over lanes would make slow: packed half arithmetic and byte permutation.
//!
//! Results have the same bits as the scalar functions of [`packed`] and [`bits`], which serve hosts without AVX2.
//! One fused multiply-add carries all packed arithmetic: `a + b` is `a * 1 + b`, `a * b` is `a * b + -0`.

use super::half::{Bf16, F16};
use super::{Lanes, bits, packed};

/// `fma.rn.f16x2`.
#[inline(always)]
pub fn fma_f16x2(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) {
    #[cfg(target_arch = "x86_64")]
    if able() {
        // SAFETY: the features were just seen.
        unsafe {
            if !x86::fma_f16x2_exact(a, b, c, d) && !x86::fma_f16x2(a, b, c, d) {
                x86::fma_f16x2_odd(a, b, c, d);
            }
        }
        return;
    }
    *d = each(a, b, c, |a, b, c| packed::map3(a, b, c, packed::fma::<F16, false, false, false>));
}

/// `fma.rn.bf16x2`.
#[inline(always)]
pub fn fma_bf16x2(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) {
    #[cfg(target_arch = "x86_64")]
    if able() {
        // SAFETY: the features were just seen.
        if unsafe { x86::fma_bf16x2(a, b, c, d) } {
            return;
        }
    }
    *d = each(a, b, c, |a, b, c| packed::map3(a, b, c, packed::fma::<Bf16, false, false, false>));
}

/// `prmt.b32` in index mode.
#[inline]
pub fn prmt(a: &Lanes, b: &Lanes, selector: &Lanes) -> Lanes {
    #[cfg(target_arch = "x86_64")]
    if able() {
        // SAFETY: the features were just seen.
        return unsafe { x86::prmt(a, b, selector) };
    }
    each(a, b, selector, bits::prmt)
}

fn each(a: &Lanes, b: &Lanes, c: &Lanes, f: impl Fn(u32, u32, u32) -> u32) -> Lanes {
    std::array::from_fn(|l| f(a[l], b[l], c[l]))
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn able() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
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

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(register: &mut Lanes, i: usize, x: __m256i) {
        debug_assert!(i < 4);
        // SAFETY: `i` is below 4 in all calls here, so 32 bytes are writable; the store does not ask for alignment.
        unsafe { _mm256_storeu_si256(register.as_mut_ptr().add(8 * i).cast(), x) }
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

    /// Through `f32` where that is exact before the one rounding to `f16`, as it is for codes of a few bits times a scale:
    /// the product always is, and the sum if nothing is left over. False if something is, or a value is not finite.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn fma_f16x2_exact(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) -> bool {
        let mut left = _mm256_setzero_ps();
        for i in 0..4 {
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
            let high =
                half(_mm256_extracti128_si256(x, 1), _mm256_extracti128_si256(y, 1), _mm256_extracti128_si256(z, 1));
            store(d, i, _mm256_set_m128i(high, low));
        }
        // The rest may be -0; of anything not finite it is NaN.
        let nothing = _mm256_cmp_ps(left, _mm256_setzero_ps(), _CMP_EQ_OQ);
        _mm256_movemask_ps(nothing) == 0xff
    }

    /// Through `f32` with two roundings, which give the same as one unless the first lands halfway between two `f16`.
    /// False if one may have, if a result is subnormal in `f16`, where other bits decide, or not finite.
    #[target_feature(enable = "avx2,f16c,fma")]
    pub(super) fn fma_f16x2(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) -> bool {
        let mut doubtful = _mm256_setzero_si256();
        for i in 0..4 {
            let (x, y, z) = (load(a, i), load(b, i), load(c, i));
            let wide = |x: __m128i, y: __m128i, z: __m128i| {
                _mm256_fmadd_ps(_mm256_cvtph_ps(x), _mm256_cvtph_ps(y), _mm256_cvtph_ps(z))
            };
            let low = wide(_mm256_castsi256_si128(x), _mm256_castsi256_si128(y), _mm256_castsi256_si128(z));
            let high =
                wide(_mm256_extracti128_si256(x, 1), _mm256_extracti128_si256(y, 1), _mm256_extracti128_si256(z, 1));
            doubtful = _mm256_or_si256(doubtful, _mm256_or_si256(doubts(low), doubts(high)));
            let round = |x: __m256| _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
            store(d, i, _mm256_set_m128i(round(high), round(low)));
        }
        _mm256_testz_si256(doubtful, doubtful) == 1
    }

    /// Ones where [`fma_f16x2`] cannot be sure: neither zero nor within [2^-14, 2^16), or halfway.
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

    /// As [`fma_f16x2`], of any operands.
    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn fma_f16x2_odd(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) {
        for i in 0..4 {
            let (x, y, z) = (load(a, i), load(b, i), load(c, i));
            let low = fused_f16(_mm256_castsi256_si128(x), _mm256_castsi256_si128(y), _mm256_castsi256_si128(z));
            let high = fused_f16(
                _mm256_extracti128_si256(x, 1),
                _mm256_extracti128_si256(y, 1),
                _mm256_extracti128_si256(z, 1),
            );
            store(d, i, _mm256_set_m128i(high, low));
        }
    }

    /// False if a product leaves the range where it is exact in `f32`.
    #[target_feature(enable = "avx2")]
    pub(super) fn fma_bf16x2(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) -> bool {
        let mut inexact = _mm256_setzero_ps();
        for i in 0..4 {
            let (x, y, z) = (load(a, i), load(b, i), load(c, i));
            let (low, bad) = fused_bf16(_mm256_slli_epi32(x, 16), _mm256_slli_epi32(y, 16), _mm256_slli_epi32(z, 16));
            inexact = _mm256_or_ps(inexact, bad);
            let upper = _mm256_set1_epi32(!0xffff);
            let (x, y, z) = (_mm256_and_si256(x, upper), _mm256_and_si256(y, upper), _mm256_and_si256(z, upper));
            let (high, bad) = fused_bf16(x, y, z);
            inexact = _mm256_or_ps(inexact, bad);
            store(d, i, _mm256_or_si256(_mm256_srli_epi32(low, 16), _mm256_and_si256(high, upper)));
        }
        _mm256_movemask_ps(inexact) == 0
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

    #[target_feature(enable = "avx2")]
    pub(super) fn prmt(a: &Lanes, b: &Lanes, selector: &Lanes) -> Lanes {
        let mut d = [0; 32];
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
            store(&mut d, i, _mm256_blendv_epi8(byte, sign, _mm256_slli_epi16(s, 4)));
        }
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: &mut u64) -> Lanes {
        std::array::from_fn(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 32) as u32
        })
    }

    fn check_f16x2(a: &Lanes, b: &Lanes, c: &Lanes, seed: u64) {
        let want = each(a, b, c, |a, b, c| packed::map3(a, b, c, packed::fma::<F16, false, false, false>));
        let mut got = [0; 32];
        fma_f16x2(a, b, c, &mut got);
        assert_eq!(got, want, "f16x2, seed {seed}");
    }

    #[test]
    fn codes_times_a_scale_are_exact_before_they_are_rounded() {
        for start in 0..5000u64 {
            let mut seed = start;
            // Integers of four bits, any scale and minimum, subnormal ones and zeros included.
            let codes: Lanes = random(&mut seed)
                .map(|x| packed::map2(x & 0x000f_000f, 0, |x, _| half::f16::from_f32(f32::from(x)).to_bits()));
            let (scales, minima) =
                (random(&mut seed).map(|x| x & 0xbbff_bbff), random(&mut seed).map(|x| x & 0xbbff_bbff));
            check_f16x2(&codes, &scales, &minima, start);
        }
    }

    #[test]
    fn halves_near_one_are_rounded_once() {
        for start in 0..20_000u64 {
            let mut seed = start;
            // Exponents of 2^-7 to 2^8, so that the short way is taken unless a sum is halfway.
            let [a, b, c] = [(); 3].map(|()| random(&mut seed).map(|x| x & 0x9fff_9fff | 0x2000_2000));
            check_f16x2(&a, &b, &c, start);
        }
    }

    #[test]
    fn vector_forms_give_the_bits_of_the_scalar_ones() {
        for start in 0..5000u64 {
            let mut seed = start;
            let (mut a, mut b, mut c) = (random(&mut seed), random(&mut seed), random(&mut seed));
            assert_eq!(prmt(&a, &b, &c), each(&a, &b, &c, bits::prmt), "prmt, seed {start}");
            check_f16x2(&a, &b, &c, start);
            if start % 2 == 0 {
                // Near 1.0, where the short way is taken; the last bits make ties.
                for x in [&mut a, &mut b, &mut c] {
                    x.iter_mut().for_each(|x| *x = *x & 0x81ff_8187 | 0x3e00_3e00);
                }
            }
            let want = each(&a, &b, &c, |a, b, c| packed::map3(a, b, c, packed::fma::<Bf16, false, false, false>));
            let mut got = [0; 32];
            fma_bf16x2(&a, &b, &c, &mut got);
            assert_eq!(got, want, "bf16x2, seed {start}");
        }
    }
}
