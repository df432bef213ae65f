//! A product whose eight columns are alike, as they are where one row of activations is repeated to fill B: computed once,
//! over rows instead of columns, with the same operations in the same order for every element.
use super::{Fragments, Lanes, canonical, load, load_row, store, unpack_b};
use std::arch::x86_64::*;

/// Ones wherever a column of a register of B differs from the first.
#[inline]
#[target_feature(enable = "avx2")]
fn differing_b(register: &Lanes) -> __m256i {
    let first = _mm256_broadcastsi128_si256(load_row(register, 0));
    let differ = |i| _mm256_xor_si256(load(register, i), first);
    _mm256_or_si256(_mm256_or_si256(differ(0), differ(1)), _mm256_or_si256(differ(2), differ(3)))
}

/// Ones wherever a column of a pair of registers of C differs from the first of its row.
#[inline]
#[target_feature(enable = "avx2")]
fn differing_c(even: &Lanes, odd: &Lanes) -> __m256i {
    let differ = |i| {
        let (even, odd) = (load(even, i), load(odd, i));
        let first = _mm256_shuffle_epi32(even, 0);
        _mm256_or_si256(_mm256_xor_si256(even, first), _mm256_xor_si256(odd, first))
    };
    _mm256_or_si256(_mm256_or_si256(differ(0), differ(1)), _mm256_or_si256(differ(2), differ(3)))
}

/// Computes `d` of halves with `f32` sums if all columns are alike; false, and nothing written, if they are not.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<const E: u8, const T: usize>(f: &Fragments, d: &mut [Lanes; 4]) -> bool {
    let zero = |x| _mm256_testz_si256(x, x) == 1;
    for t in 0..T {
        if !zero(differing_b(f.b[t])) {
            return false;
        }
    }
    if !zero(_mm256_or_si256(differing_c(f.c[0], f.c[1]), differing_c(f.c[2], f.c[3]))) {
        return false;
    }
    let column = |register: &Lanes| unpack_b::<E, 8>(register);
    // Of the first column of C, each row's word; rows in the order of `unpack_b`.
    let words = |register: &Lanes| _mm256_castsi256_ps(super::columns(register)[0]);
    let (mut upper, mut lower) = (words(f.c[0]), words(f.c[2]));
    for t in 0..T {
        let mut b = [0f32; 8];
        let first = load_row(f.b[t], 0);
        let wide = match E {
            super::F16 => _mm256_cvtph_ps(first),
            _ => _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(first), 16)),
        };
        // SAFETY: eight floats are written.
        unsafe { _mm256_storeu_ps(b.as_mut_ptr(), wide) };
        let (a_upper, a_lower) = (column(f.a[2 * t]), column(f.a[2 * t + 1]));
        for k in 0..8 {
            let x = _mm256_set1_ps(b[k]);
            upper = _mm256_fmadd_ps(a_upper[k], x, upper);
            lower = _mm256_fmadd_ps(a_lower[k], x, lower);
        }
    }
    for (i, sums) in [canonical(upper), canonical(lower)].into_iter().enumerate() {
        // Rows 2j and 2j + 1 are elements j of the two halves.
        let rows = [
            _mm256_permute_ps(sums, 0b00_00_00_00),
            _mm256_permute_ps(sums, 0b01_01_01_01),
            _mm256_permute_ps(sums, 0b10_10_10_10),
            _mm256_permute_ps(sums, 0b11_11_11_11),
        ];
        for j in 0..4 {
            store(&mut d[2 * i], j, _mm256_castps_si256(rows[j]));
            store(&mut d[2 * i + 1], j, _mm256_castps_si256(rows[j]));
        }
    }
    true
}
