//! The 8-bit floats `e4m3` (largest 448, no infinity) and `e5m2` (a short `f16`), as bits; narrowing saturates.

use super::half::{F16, Half, NAN16, f16_to_f32};

/// An 8-bit float format.
pub trait Fp8 {
    /// `cvt.rn.satfinite{.relu}`: nearest value, ties to even; beyond the largest value, and for infinities, that value;
    /// NaN becomes `0x7f`.
    fn from_f32<const RELU: bool>(x: f32) -> u8;
    /// Exact value as the bits of an `f16`.
    fn to_f16(x: u8) -> u16;
}

/// 4 exponent bits (bias 7), 3 fraction bits; all ones is NaN.
pub struct E4m3;
/// 5 exponent bits (bias 15), 2 fraction bits; infinities and NaN as in `f16`.
pub struct E5m2;

/// Magnitude of `x` rounded to `FRACTION` bits with exponent bias `BIAS`, at most `largest`.
#[inline(always)]
fn narrow<const FRACTION: u32, const BIAS: u32, const RELU: bool>(x: f32, largest: u32) -> u8 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let cut = 23 - FRACTION;
    let least_normal = (128 - BIAS) << 23;
    let normal =
        magnitude.wrapping_sub((127 - BIAS) << 23).wrapping_add((1 << (cut - 1)) - 1 + (magnitude >> cut & 1)) >> cut;
    // A power of two whose ulp is the spacing of the subnormals: the addition rounds.
    let magic = (127 + 23 + 1 - BIAS - FRACTION) << 23;
    let subnormal = (f32::from_bits(magnitude.min(least_normal)) + f32::from_bits(magic)).to_bits().wrapping_sub(magic);
    let rounded = if magnitude < least_normal { subnormal } else { normal.min(largest) };
    let negative = bits >> 31 == 1;
    let signed = if RELU && negative { 0 } else { (bits >> 24 & 0x80) | rounded };
    (if magnitude > 0x7f80_0000 { 0x7f } else { signed }) as u8
}

impl Fp8 for E4m3 {
    #[inline(always)]
    fn from_f32<const RELU: bool>(x: f32) -> u8 {
        narrow::<3, 7, RELU>(x, 0x7e)
    }

    #[inline(always)]
    fn to_f16(x: u8) -> u16 {
        let sign = u16::from(x & 0x80) << 8;
        let magnitude = u16::from(x & 0x7f);
        let normal = (magnitude << 7) + (8 << 10);
        // Subnormals are multiples of 2^-9, all normal in f16.
        let subnormal = F16::from_f32::<super::Rn>(f32::from(magnitude) * (1.0 / 512.0));
        match magnitude {
            0x7f => NAN16,
            0..8 => sign | subnormal,
            _ => sign | normal,
        }
    }
}

impl Fp8 for E5m2 {
    #[inline(always)]
    fn from_f32<const RELU: bool>(x: f32) -> u8 {
        narrow::<2, 15, RELU>(x, 0x7b)
    }

    #[inline(always)]
    fn to_f16(x: u8) -> u16 {
        if x & 0x7f > 0x7c { NAN16 } else { u16::from(x) << 8 }
    }
}

/// `cvt.rn.satfinite{.relu}.F.f32 d, high, low`.
#[inline(always)]
pub fn pack<F: Fp8, const RELU: bool>(high: f32, low: f32) -> u16 {
    u16::from(F::from_f32::<RELU>(high)) << 8 | u16::from(F::from_f32::<RELU>(low))
}

/// `cvt.rn.satfinite{.relu}.F.f16x2` (or of `bf16x2`, by `H`).
#[inline(always)]
pub fn pack_halves<F: Fp8, H: Half, const RELU: bool>(x: u32) -> u16 {
    pack::<F, RELU>(H::to_f32((x >> 16) as u16), H::to_f32(x as u16))
}

/// `cvt.rn{.relu}.f16x2.F`.
#[inline(always)]
pub fn unpack<F: Fp8, const RELU: bool>(x: u16) -> u32 {
    let half = |x: u8| {
        let h = F::to_f16(x);
        if RELU && h >> 15 == 1 { 0 } else { h }
    };
    u32::from(half((x >> 8) as u8)) << 16 | u32::from(half(x as u8))
}

/// Value of an fp8 number.
#[inline(always)]
pub fn to_f32<F: Fp8>(x: u8) -> f32 {
    f16_to_f32(F::to_f16(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: value of a magnitude with `fraction` bits and `bias`.
    fn value(magnitude: u32, fraction: u32, bias: i32) -> f64 {
        let (e, f) = ((magnitude >> fraction) as i32, f64::from(magnitude & ((1 << fraction) - 1)));
        let f = f / f64::from(1 << fraction);
        if e == 0 { f * 2f64.powi(1 - bias) } else { (1.0 + f) * 2f64.powi(e - bias) }
    }

    /// Nearest by search over all finite magnitudes, ties to the even one, the largest for everything above.
    fn nearest(x: f64, fraction: u32, bias: i32, largest: u32) -> u8 {
        let best = (0..=largest).min_by(|&a, &b| {
            let (da, db) = ((value(a, fraction, bias) - x).abs(), (value(b, fraction, bias) - x).abs());
            da.total_cmp(&db).then((a & 1).cmp(&(b & 1)))
        });
        best.unwrap_or(0) as u8
    }

    #[test]
    fn widening_follows_the_definition() {
        for x in 0..=0xffu8 {
            let sign = if x & 0x80 != 0 { -1.0 } else { 1.0 };
            let m = u32::from(x & 0x7f);
            let got = to_f32::<E4m3>(x);
            if m == 0x7f {
                assert!(got.is_nan());
            } else {
                assert_eq!(f64::from(got), sign * value(m, 3, 7), "e4m3 {x:#x}");
                assert_eq!(E4m3::from_f32::<false>(got), x);
            }
            let got = to_f32::<E5m2>(x);
            match m {
                0x7c => assert!(got.is_infinite()),
                0x7d.. => assert!(got.is_nan()),
                _ => {
                    assert_eq!(f64::from(got), sign * value(m, 2, 15), "e5m2 {x:#x}");
                    assert_eq!(E5m2::from_f32::<false>(got), x);
                }
            }
        }
    }

    #[test]
    fn narrowing_takes_the_nearest() {
        for i in 0..1u32 << 14 {
            let x = f32::from_bits((i << 15).wrapping_add(0x3000_0000) & 0x7fff_ffff | (i & 3) << 19);
            if !x.is_finite() {
                continue;
            }
            assert_eq!(E4m3::from_f32::<false>(x), nearest(f64::from(x), 3, 7, 0x7e), "e4m3 {x:e}");
            assert_eq!(E5m2::from_f32::<false>(x), nearest(f64::from(x), 2, 15, 0x7b), "e5m2 {x:e}");
            assert_eq!(E4m3::from_f32::<true>(-x), 0);
        }
        assert_eq!(E5m2::from_f32::<false>(f32::NEG_INFINITY), 0xfb);
        assert_eq!(E4m3::from_f32::<true>(f32::NAN), 0x7f);
        assert_eq!(pack::<E4m3, false>(1.0, -2.0), 0x38c0);
    }
}
