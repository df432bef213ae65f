//! [`Mma::run`] for AVX2, FMA and F16C, with the rounding of the portable form.
//!
//! A is unpacked once to rows of `f32` in memory, from which single elements are broadcast. B becomes one vector of eight
//! columns for each `k`, in the order 0 2 4 6 1 3 5 7: that is how both halves of two registers of C lie, so neither C nor
//! D is shuffled by element. Eight rows are summed at a time, which hides the latency of the multiply-adds.

use super::super::Lanes;
use super::{Fragments, Mma};

/// Runs `mma` if this host has the instructions.
#[inline]
pub(super) fn run(mma: &Mma, fragments: &Fragments, d: &mut [Lanes; 4]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if mma.m == 16
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
    {
        // SAFETY: the three features were just seen.
        unsafe { x86::run(mma, fragments, d) };
        return true;
    }
    let _ = (mma, fragments, d);
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::super::Lanes;
    use super::super::{Element, Fragments, Mma, Sum};
    use std::arch::x86_64::*;

    /// Rows of A, unpacked.
    #[repr(align(32))]
    struct RowsF32<const K: usize>([[f32; K]; 16]);
    /// Rows of A for integers: pairs of 16-bit elements.
    #[repr(align(32))]
    struct RowsI16<const PAIRS: usize>([[i32; PAIRS]; 16]);

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn run(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) {
        match (mma.a, mma.k) {
            (Element::S8 | Element::U8, 16) => integer::<8>(mma, f, d),
            (Element::S8 | Element::U8, _) => integer::<16>(mma, f, d),
            (_, 4) => float::<4>(mma, f, d),
            (_, 8) => float::<8>(mma, f, d),
            (_, 16) => float::<16>(mma, f, d),
            _ => float::<32>(mma, f, d),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn float<const K: usize>(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) {
        let mut a = RowsF32([[0.0; K]; 16]);
        let mut b = [_mm256_setzero_ps(); K];
        let width = 4 * mma.a.per_register();
        for (i, columns) in (0..K).step_by(width).enumerate() {
            for half in 0..2 {
                unpack_a(mma.a, f.a[2 * i + half], &mut a.0[8 * half..8 * half + 8], columns);
            }
            unpack_b(mma.b, f.b[i], &mut b[columns..columns + width]);
        }
        match mma.sum {
            Sum::F16 => sum_f16(&a, &b, f, d),
            _ => sum_f32(&a, &b, f, d),
        }
    }

    /// 8 lanes of a register from `lane`, as two rows of an 8-row tile.
    #[target_feature(enable = "avx2")]
    fn load(register: &Lanes, lane: usize) -> __m256i {
        let lanes: &[u32; 8] = register[lane..lane + 8].try_into().expect("eight lanes");
        // SAFETY: 32 readable bytes; the load does not ask for alignment.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    fn store(register: &mut Lanes, lane: usize, x: __m256i) {
        let lanes: &mut [u32; 8] = (&mut register[lane..lane + 8]).try_into().expect("eight lanes");
        // SAFETY: 32 writable bytes; the store does not ask for alignment.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), x) }
    }

    #[target_feature(enable = "avx2")]
    fn store_row(row: &mut [f32], at: usize, x: __m256) {
        let row: &mut [f32; 8] = (&mut row[at..at + 8]).try_into().expect("eight elements");
        // SAFETY: 32 writable bytes; the store does not ask for alignment.
        unsafe { _mm256_storeu_ps(row.as_mut_ptr(), x) }
    }

    /// One register of A into columns `at..` of its eight rows.
    #[target_feature(enable = "avx2,fma,f16c")]
    fn unpack_a<const K: usize>(element: Element, register: &Lanes, rows: &mut [[f32; K]], at: usize) {
        for r in (0..8).step_by(2) {
            let two = load(register, 4 * r);
            let both = [_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1)];
            for (row, x) in rows[r..r + 2].iter_mut().zip(both) {
                match element {
                    Element::Bf16 => store_row(row, at, widen_bf16(x)),
                    Element::F16 => store_row(row, at, _mm256_cvtph_ps(x)),
                    Element::E4m3 | Element::E5m2 => {
                        let (low, high) = widen_fp8(element, x);
                        store_row(row, at, low);
                        store_row(row, at + 8, high);
                    }
                    _ => {
                        let masked = _mm_and_si128(x, _mm_set1_epi32(!0x1fff));
                        let row: &mut [f32; 4] = (&mut row[at..at + 4]).try_into().expect("four elements");
                        // SAFETY: 16 writable bytes; the store does not ask for alignment.
                        unsafe { _mm_storeu_ps(row.as_mut_ptr(), _mm_castsi128_ps(masked)) }
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    fn widen_bf16(x: __m128i) -> __m256 {
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16))
    }

    /// Sixteen fp8 values as two vectors.
    #[target_feature(enable = "avx2,f16c")]
    fn widen_fp8(element: Element, x: __m128i) -> (__m256, __m256) {
        let shifted = _mm256_slli_epi16(_mm256_cvtepu8_epi16(x), 8);
        let (halves, scale) = fp8_as_f16(element, shifted);
        let scale = _mm256_set1_ps(scale);
        let low = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
        let high = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
        (_mm256_mul_ps(low, scale), _mm256_mul_ps(high, scale))
    }

    /// fp8 values in the upper bytes of 16-bit elements as `f16`, and what to multiply the `f16`s with. An `e4m3` shifted
    /// into the fields of an `f16` is 2^8 too small, subnormals too.
    #[target_feature(enable = "avx2")]
    fn fp8_as_f16(element: Element, shifted: __m256i) -> (__m256i, f32) {
        if element == Element::E5m2 {
            return (shifted, 1.0);
        }
        let magnitude = _mm256_and_si256(shifted, _mm256_set1_epi16(0x7f00));
        let nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f00));
        let sign = _mm256_and_si256(shifted, _mm256_set1_epi16(i16::MIN));
        (_mm256_or_si256(_mm256_or_si256(_mm256_srli_epi16(magnitude, 1), sign), nan), 256.0)
    }

    /// The four words of each of eight columns, as four vectors over the columns 0 2 4 6 1 3 5 7.
    #[target_feature(enable = "avx2")]
    fn columns(register: &Lanes) -> [__m256i; 4] {
        let rows = [load(register, 0), load(register, 8), load(register, 16), load(register, 24)];
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
    #[target_feature(enable = "avx2,fma,f16c")]
    fn unpack_b(element: Element, register: &Lanes, b: &mut [__m256]) {
        for (word, x) in columns(register).into_iter().enumerate() {
            match element {
                Element::Bf16 => {
                    b[2 * word] = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
                    b[2 * word + 1] = _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(!0xffff)));
                }
                Element::F16 => (b[2 * word], b[2 * word + 1]) = split_f16(x),
                Element::E4m3 | Element::E5m2 => {
                    for pair in 0..2 {
                        let (halves, scale) = fp8_as_f16(element, high_bytes(x, pair));
                        let (even, odd) = split_f16(halves);
                        let at = 4 * word + 2 * pair as usize;
                        b[at] = _mm256_mul_ps(even, _mm256_set1_ps(scale));
                        b[at + 1] = _mm256_mul_ps(odd, _mm256_set1_ps(scale));
                    }
                }
                _ => b[word] = _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(!0x1fff))),
            }
        }
    }

    /// Lower and upper `f16` of each word.
    #[target_feature(enable = "avx2,f16c")]
    fn split_f16(x: __m256i) -> (__m256, __m256) {
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
        let halves = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(x, order), 0b11_01_10_00);
        (_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)))
    }

    /// Bytes `2 * pair` and `2 * pair + 1` of each word in the upper bytes of its two halves, the lower ones zero.
    #[target_feature(enable = "avx2")]
    fn high_bytes(x: __m256i, pair: i32) -> __m256i {
        let order = _mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
        let order =
            _mm_add_epi8(order, _mm_and_si128(_mm_set1_epi8(2 * pair as i8), _mm_cmpgt_epi8(order, _mm_set1_epi8(-1))));
        _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order))
    }

    /// Adds the products of rows `first..first + 4` and `first + 8..first + 12` to `sums`.
    #[target_feature(enable = "avx2,fma")]
    fn accumulate<const K: usize>(a: &RowsF32<K>, b: &[__m256; K], first: usize, sums: &mut [__m256; 8]) {
        for k in 0..K {
            for (i, sum) in sums.iter_mut().enumerate() {
                let row = first + i % 4 + 8 * (i / 4);
                *sum = _mm256_fmadd_ps(_mm256_set1_ps(a.0[row][k]), b[k], *sum);
            }
        }
    }

    /// Any NaN becomes the canonical one.
    #[target_feature(enable = "avx2")]
    fn canonical(x: __m256) -> __m256 {
        let nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
        _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q))
    }

    #[target_feature(enable = "avx2,fma")]
    fn sum_f32<const K: usize>(a: &RowsF32<K>, b: &[__m256; K], f: &Fragments, d: &mut [Lanes; 4]) {
        for first in [0, 4] {
            let mut sums = [_mm256_setzero_ps(); 8];
            for (i, two) in sums.chunks_exact_mut(2).enumerate() {
                let (half, lane) = (i / 2, 4 * first + 8 * (i % 2));
                let even = _mm256_castsi256_ps(load(f.c[2 * half], lane));
                let odd = _mm256_castsi256_ps(load(f.c[2 * half + 1], lane));
                two[0] = _mm256_permute2f128_ps(even, odd, 0x20);
                two[1] = _mm256_permute2f128_ps(even, odd, 0x31);
            }
            accumulate(a, b, first, &mut sums);
            for (i, two) in sums.chunks_exact(2).enumerate() {
                let (half, lane) = (i / 2, 4 * first + 8 * (i % 2));
                let (upper, lower) = (canonical(two[0]), canonical(two[1]));
                store(&mut d[2 * half], lane, _mm256_castps_si256(_mm256_permute2f128_ps(upper, lower, 0x20)));
                store(&mut d[2 * half + 1], lane, _mm256_castps_si256(_mm256_permute2f128_ps(upper, lower, 0x31)));
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn sum_f16<const K: usize>(a: &RowsF32<K>, b: &[__m256; K], f: &Fragments, d: &mut [Lanes; 4]) {
        let to_halves = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        let to_columns = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for first in [0, 4] {
            let mut sums = [_mm256_setzero_ps(); 8];
            for (i, two) in sums.chunks_exact_mut(2).enumerate() {
                let c = load(f.c[i / 2], 4 * first + 8 * (i % 2));
                let upper = _mm256_cvtph_ps(_mm256_castsi256_si128(c));
                let lower = _mm256_cvtph_ps(_mm256_extracti128_si256(c, 1));
                two[0] = _mm256_permutevar8x32_ps(upper, to_halves);
                two[1] = _mm256_permutevar8x32_ps(lower, to_halves);
            }
            accumulate(a, b, first, &mut sums);
            for (i, two) in sums.chunks_exact(2).enumerate() {
                let [upper, lower] = [two[0], two[1]].map(|sum| {
                    let columns = _mm256_permutevar8x32_ps(canonical(sum), to_columns);
                    _mm256_cvtps_ph(columns, _MM_FROUND_TO_NEAREST_INT)
                });
                store(&mut d[i / 2], 4 * first + 8 * (i % 2), _mm256_set_m128i(lower, upper));
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn integer<const PAIRS: usize>(mma: &Mma, f: &Fragments, d: &mut [Lanes; 4]) {
        let mut a = RowsI16([[0; PAIRS]; 16]);
        let mut b = [_mm256_setzero_si256(); PAIRS];
        for i in 0..PAIRS / 8 {
            for row in 0..16 {
                let register = f.a[2 * i + row / 8];
                let two = load(register, 8 * (row % 8 / 2));
                let x = if row % 2 == 0 { _mm256_castsi256_si128(two) } else { _mm256_extracti128_si256(two, 1) };
                let wide = if mma.a == Element::S8 { _mm256_cvtepi8_epi16(x) } else { _mm256_cvtepu8_epi16(x) };
                let pairs: &mut [i32; 8] = (&mut a.0[row][8 * i..8 * i + 8]).try_into().expect("eight pairs");
                // SAFETY: 32 writable bytes; the store does not ask for alignment.
                unsafe { _mm256_storeu_si256(pairs.as_mut_ptr().cast(), wide) }
            }
            for (word, x) in columns(f.b[i]).into_iter().enumerate() {
                for pair in 0..2 {
                    let high = high_bytes(x, pair);
                    let signed = mma.b == Element::S8;
                    b[8 * i + 2 * word + pair as usize] =
                        if signed { _mm256_srai_epi16(high, 8) } else { _mm256_srli_epi16(high, 8) };
                }
            }
        }
        for (row, elements) in a.0.iter().enumerate() {
            sum_s32(mma, elements, &b, row, f, d);
        }
    }

    /// One row of integer sums.
    #[target_feature(enable = "avx2")]
    fn sum_s32<const PAIRS: usize>(
        mma: &Mma,
        a: &[i32; PAIRS],
        b: &[__m256i; PAIRS],
        row: usize,
        f: &Fragments,
        d: &mut [Lanes; 4],
    ) {
        let mut sums = [_mm256_setzero_si256(); 2];
        for pair in 0..PAIRS {
            let product = _mm256_madd_epi16(_mm256_set1_epi32(a[pair]), b[pair]);
            sums[pair % 2] = _mm256_add_epi32(sums[pair % 2], product);
        }
        let mut total = [0i32; 8];
        // SAFETY: 32 writable bytes; the store does not ask for alignment.
        unsafe { _mm256_storeu_si256(total.as_mut_ptr().cast(), _mm256_add_epi32(sums[0], sums[1])) };
        for (i, sum) in total.into_iter().enumerate() {
            let (register, lane) = (2 * (row / 8) + i / 4, 4 * (row % 8) + i % 4);
            let c = f.c[register][lane] as i32;
            d[register][lane] = (if mma.saturate { c.saturating_add(sum) } else { c.wrapping_add(sum) }) as u32;
        }
    }
}
