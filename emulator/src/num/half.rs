//! `f16` and `bf16` as bits: conversions to and from `f32` and `f64` in every rounding mode.
//!
//! Branch-free integer code: it vectorises eight lanes wide where F16C intrinsics in a scalar function would not, and it
//! gives the canonical NaN that PTX wants. Subnormals of both formats are kept.

use super::{Mode, Rn, Round, float};

/// The canonical NaN of both 16-bit formats.
pub const NAN16: u16 = 0x7fff;

/// A 16-bit float format, so that one generic function serves `f16` and `bf16`.
pub trait Half {
    /// Exact value; NaN becomes canonical.
    fn to_f32(h: u16) -> f32;
    /// Nearest value in mode `R`; overflow gives infinity or the largest finite value as the mode says.
    fn from_f32<R: Round>(x: f32) -> u16;
    /// `a * b` of two widened halves, exact or rounded to odd: rounding it with [`Half::from_f32`] is the one rounding.
    fn product(a: f32, b: f32) -> f32;
    /// `a * b + c` in the same way.
    fn fused(a: f32, b: f32, c: f32) -> f32;
    /// Bits of 1.0.
    const ONE: u16;
    /// Bits of infinity; everything above it is a NaN.
    const INF: u16;
}

/// IEEE binary16: 5 exponent bits, 10 fraction bits.
pub struct F16;
/// bfloat16: 8 exponent bits, 7 fraction bits.
pub struct Bf16;

impl Half for F16 {
    #[inline(always)]
    fn to_f32(h: u16) -> f32 {
        f16_to_f32(h)
    }
    #[inline(always)]
    fn from_f32<R: Round>(x: f32) -> u16 {
        f32_to_f16::<R>(x)
    }
    #[inline(always)]
    fn product(a: f32, b: f32) -> f32 {
        a * b // 22 bits, and no exponent leaves the range of f32: exact
    }
    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        float::sum_odd_f32(a * b, c)
    }
    const ONE: u16 = 0x3c00;
    const INF: u16 = 0x7c00;
}

impl Half for Bf16 {
    #[inline(always)]
    fn to_f32(h: u16) -> f32 {
        bf16_to_f32(h)
    }
    #[inline(always)]
    fn from_f32<R: Round>(x: f32) -> u16 {
        f32_to_bf16::<R>(x)
    }
    #[inline(always)]
    fn product(a: f32, b: f32) -> f32 {
        float::to_f32_odd(f64::from(a) * f64::from(b))
    }
    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        // The product may leave the range of f32, never that of f64.
        float::to_f32_odd(float::sum_odd_f64(f64::from(a) * f64::from(b), f64::from(c)))
    }
    const ONE: u16 = 0x3f80;
    const INF: u16 = 0x7f80;
}

/// `cvt.f32.f16`.
#[inline(always)]
pub fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let magnitude = u32::from(h & 0x7fff);
    let normal = (magnitude << 13) + (112 << 23);
    let subnormal = (magnitude as i32 as f32 * f32::from_bits(0x3380_0000)).to_bits(); // times 2^-24, exact
    let finite = if magnitude < 0x400 { subnormal } else { normal };
    let special = if magnitude > 0x7c00 { 0x7fff_ffff } else { sign | 0x7f80_0000 };
    f32::from_bits(if magnitude < 0x7c00 { sign | finite } else { special })
}

/// `cvt.f32.bf16`.
#[inline(always)]
pub fn bf16_to_f32(h: u16) -> f32 {
    float::canon(f32::from_bits(u32::from(h) << 16))
}

/// `cvt.R.f16.f32`.
#[inline(always)]
pub fn f32_to_f16<R: Round>(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let x = bits & 0x7fff_ffff;
    let h = match R::MODE {
        Mode::Nearest => {
            let normal = x.wrapping_sub(112 << 23).wrapping_add(0xfff + (x >> 13 & 1)) >> 13;
            // 0.5 has ulp 2^-24, the spacing of the subnormals: the addition rounds.
            let subnormal = (f32::from_bits(x) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
            let h = if x < 0x3880_0000 { subnormal } else { normal };
            if x < 0x4780_0000 { h } else { 0x7c00 }
        }
        _ => {
            let down = f32_to_f16_truncated(x);
            let away = x < 0x7f80_0000 && away::<R>(bits) && f16_to_f32(down as u16).to_bits() != x;
            down + u32::from(away)
        }
    };
    if x > 0x7f80_0000 { NAN16 } else { sign | h as u16 }
}

/// Magnitude bits of an f32 cut to f16; overflow gives the largest finite value.
#[inline(always)]
fn f32_to_f16_truncated(x: u32) -> u32 {
    let normal = x.wrapping_sub(112 << 23) >> 13;
    let subnormal = (f32::from_bits(x.min(0x3880_0000)) * 16_777_216.0) as i32 as u32;
    let h = if x < 0x3880_0000 { subnormal } else { normal.min(0x7bff) };
    match x {
        0x7f80_0000 => 0x7c00,
        0x4780_0000.. => 0x7bff,
        _ => h,
    }
}

/// `cvt.R.bf16.f32`.
#[inline(always)]
pub fn f32_to_bf16<R: Round>(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = match R::MODE {
        Mode::Nearest => bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16,
        _ => (bits >> 16) + u32::from(away::<R>(bits) && bits & 0xffff != 0),
    };
    if bits & 0x7fff_ffff > 0x7f80_0000 { NAN16 } else { rounded as u16 }
}

/// Does the directed mode `R` round a value with this sign away from zero?
#[inline(always)]
fn away<R: Round>(bits: u32) -> bool {
    match R::MODE {
        Mode::Up => bits >> 31 == 0,
        Mode::Down => bits >> 31 == 1,
        Mode::Nearest | Mode::Zero => false,
    }
}

/// `cvt.R.f16.f64`: rounded once.
#[inline(always)]
pub fn f64_to_f16<R: Round>(x: f64) -> u16 {
    f32_to_f16::<R>(float::to_f32_odd(x))
}

/// `cvt.R.bf16.f64`: rounded once.
#[inline(always)]
pub fn f64_to_bf16<R: Round>(x: f64) -> u16 {
    f32_to_bf16::<R>(float::to_f32_odd(x))
}

/// `cvt.rna.tf32.f32`: to 10 fraction bits, ties away from zero; the rest of the word is zero.
#[inline(always)]
pub fn f32_to_tf32_away(x: f32) -> u32 {
    let bits = x.to_bits();
    match bits & 0x7fff_ffff {
        0x7f80_0001.. => 0x7fff_ffff,
        0x7f80_0000 => bits,
        _ => bits.wrapping_add(0x1000) & !0x1fff,
    }
}

/// `cvt.rn.tf32.f32` and `cvt.rz.tf32.f32`.
#[inline(always)]
pub fn f32_to_tf32<R: Round>(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = match R::MODE {
        Mode::Nearest => bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff,
        _ => bits & !0x1fff,
    };
    match bits & 0x7fff_ffff {
        0x7f80_0001.. => 0x7fff_ffff,
        0x7f80_0000 => bits,
        _ => rounded,
    }
}

/// `cvt.rn.f16x2.f32` and `cvt.rn.bf16x2.f32`: `high` and `low` rounded and packed.
#[inline(always)]
pub fn pack<H: Half>(high: f32, low: f32) -> u32 {
    u32::from(H::from_f32::<Rn>(high)) << 16 | u32::from(H::from_f32::<Rn>(low))
}

#[cfg(test)]
mod tests {
    use super::super::{Rm, Rp, Rz};
    use super::*;

    #[test]
    fn every_f16_and_bf16_round_trips() {
        for h in 0..=u16::MAX {
            let (f, b) = (::half::f16::from_bits(h), ::half::bf16::from_bits(h));
            let expect = |nan: bool| if nan { NAN16 } else { h };
            assert_eq!(f32_to_f16::<Rn>(f16_to_f32(h)), expect(f.is_nan()), "{h:#06x}");
            assert_eq!(f32_to_bf16::<Rn>(bf16_to_f32(h)), expect(b.is_nan()), "{h:#06x}");
            if !f.is_nan() {
                assert_eq!(f16_to_f32(h).to_bits(), f.to_f32().to_bits(), "{h:#06x}");
            }
        }
    }

    #[test]
    fn rounds_to_nearest_as_the_half_crate_does() {
        for i in 0..1u32 << 20 {
            let x = f32::from_bits(i.wrapping_mul(4099).wrapping_add(i << 29));
            if x.is_nan() {
                assert_eq!(f32_to_f16::<Rn>(x), NAN16);
                continue;
            }
            assert_eq!(f32_to_f16::<Rn>(x), ::half::f16::from_f32(x).to_bits(), "{x:e}");
            assert_eq!(f32_to_bf16::<Rn>(x), ::half::bf16::from_f32(x).to_bits(), "{x:e}");
        }
    }

    #[test]
    fn f64_is_rounded_once() {
        // Just above and below the middle of two neighbours, where f32 would have made a tie of it.
        let (one, next) = (0x3c00, 0x3c01);
        let middle = 1.0 + 0.5f64.powi(11);
        assert_eq!(f64_to_f16::<Rn>(middle), one);
        assert_eq!(f64_to_f16::<Rn>(middle + 1e-12), next);
        assert_eq!(f64_to_f16::<Rn>(middle - 1e-12), one);
        assert_eq!(f64_to_f16::<Rp>(1.0 + 1e-15), next);
        assert_eq!(f64_to_bf16::<Rn>(1.0 + 0.5f64.powi(8) + 1e-12), 0x3f81);
        assert_eq!(f64_to_f16::<Rz>(1e300), 0x7bff);
        assert_eq!(f64_to_bf16::<Rn>(1e300), 0x7f80);
    }

    #[test]
    fn directed_modes_bracket_the_value() {
        for i in 0..1u32 << 18 {
            let x = f32::from_bits(i.wrapping_mul(16411).wrapping_add(i << 29));
            if x.is_nan() {
                continue;
            }
            let (down, up) = (f16_to_f32(f32_to_f16::<Rm>(x)), f16_to_f32(f32_to_f16::<Rp>(x)));
            assert!(down <= x && x <= up, "{x:e}: {down:e} {up:e}");
            let zero = f16_to_f32(f32_to_f16::<Rz>(x));
            assert_eq!(zero.to_bits(), if x.is_sign_negative() { up } else { down }.to_bits(), "{x:e}");
            let (down, up) = (bf16_to_f32(f32_to_bf16::<Rm>(x)), bf16_to_f32(f32_to_bf16::<Rp>(x)));
            assert!(down <= x && x <= up, "{x:e}: {down:e} {up:e}");
        }
    }
}
