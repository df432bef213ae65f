//! The `.approx` functions: deterministic on every host and within the error that PTX documents for them.
//!
//! Each is a short polynomial after range reduction, in `f32` where speed matters (`ex2`, `tanh`) and in `f64` elsewhere,
//! so that a loop over lanes vectorises. A GPU's results differ from these in the last bits. Largest errors, measured by
//! the tests below against `f64`: ex2 1 ulp, lg2 1 ulp, sin and cos 2^-23 absolute, tanh 2^-20 relative, rcp and sqrt
//! correctly rounded, rsqrt 1.5 ulp.

use super::float::{NAN32, canon, finish, ftz};
use std::f64::consts::{LN_2, TAU};

/// `ex2.approx{.ftz}.f32`: `2^x`.
#[inline(always)]
pub fn ex2<const FTZ: bool>(x: f32) -> f32 {
    // Coefficients of the Taylor series of 2^f: ln(2)^k / k!.
    const C: [f32; 8] = taylor_of_ex2();
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let clamped = x.clamp(-152.0, 130.0);
    let rounded = clamped + MAGIC;
    let n = rounded.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let f = clamped - (rounded - MAGIC);
    let mut p = C[7];
    p = p.mul_add(f, C[6]);
    p = p.mul_add(f, C[5]);
    p = p.mul_add(f, C[4]);
    p = p.mul_add(f, C[3]);
    p = p.mul_add(f, C[2]);
    p = p.mul_add(f, C[1]);
    p = p.mul_add(f, C[0]);
    // Two steps, so that a subnormal result is rounded once and neither factor is out of range.
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let y = p * power(half) * power(n.wrapping_sub(half));
    finish::<FTZ, false>(if x.is_nan() { x } else { y })
}

const fn taylor_of_ex2() -> [f32; 8] {
    let mut c = [0.0; 8];
    let (mut term, mut k) = (1.0f64, 0);
    while k < 8 {
        c[k] = term as f32;
        k += 1;
        term *= LN_2 / k as f64;
    }
    c
}

/// `lg2.approx{.ftz}.f32`: `log2(x)`; NaN below zero, `-inf` at either zero.
#[inline(always)]
pub fn lg2<const FTZ: bool>(x: f32) -> f32 {
    let x = ftz::<FTZ>(x);
    let bits = f64::from(x).to_bits();
    let fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let high = fraction > std::f64::consts::SQRT_2;
    let m = if high { fraction * 0.5 } else { fraction };
    let exponent = ((bits >> 52) as i32 & 0x7ff) - 1023 + i32::from(high);
    // log2(m) = 2 / ln(2) * atanh(s), and |s| < 0.172.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let mut series = 1.0 / 11.0;
    series = q.mul_add(series, 1.0 / 9.0);
    series = q.mul_add(series, 1.0 / 7.0);
    series = q.mul_add(series, 1.0 / 5.0);
    series = q.mul_add(series, 1.0 / 3.0);
    series = q.mul_add(series, 1.0);
    let y = (s * (2.0 / LN_2)).mul_add(series, f64::from(exponent)) as f32;
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x < 0.0 || x.is_nan() { f32::from_bits(NAN32) } else { y };
    ftz::<FTZ>(y)
}

/// `rcp.approx{.ftz}.f32`.
#[inline(always)]
pub fn rcp<const FTZ: bool>(x: f32) -> f32 {
    finish::<FTZ, false>(1.0 / ftz::<FTZ>(x))
}

/// `rsqrt.approx{.ftz}.f32`.
#[inline(always)]
pub fn rsqrt<const FTZ: bool>(x: f32) -> f32 {
    finish::<FTZ, false>(1.0 / ftz::<FTZ>(x).sqrt())
}

/// `div.approx{.ftz}.f32`: for `2^126 < |b| < 2^128` the reciprocal underflows and the result is zero, or NaN for an
/// infinite `a`.
#[inline(always)]
pub fn div<const FTZ: bool>(a: f32, b: f32) -> f32 {
    const LIMIT: f32 = f32::from_bits(0x7e80_0000);
    let (a, b) = (ftz::<FTZ>(a), ftz::<FTZ>(b));
    let huge = (b.abs() > LIMIT) & (b.abs() < f32::INFINITY);
    finish::<FTZ, false>(if huge { a * 0.0f32.copysign(b) } else { a / b })
}

/// `rcp.approx.ftz.f64`: from the upper half of `x`, into the upper half of the result.
#[inline(always)]
pub fn rcp_f64(x: f64) -> f64 {
    upper_half(1.0 / upper_half(x))
}

/// `rsqrt.approx{.ftz}.f64`.
#[inline(always)]
pub fn rsqrt_f64(x: f64) -> f64 {
    upper_half(1.0 / upper_half(x).sqrt())
}

/// Upper 32 bits, a subnormal as zero of its sign.
#[inline(always)]
fn upper_half(x: f64) -> f64 {
    let bits = x.to_bits();
    let kept = if bits >> 52 & 0x7ff == 0 { 1 << 63 } else { !0 << 32 };
    let nan = 0x7fff_ffff_0000_0000;
    f64::from_bits(if x.is_nan() { nan } else { bits & kept })
}

/// `sin.approx{.ftz}.f32`; the argument in radians.
#[inline(always)]
pub fn sin<const FTZ: bool>(x: f32) -> f32 {
    quarter_wave::<FTZ>(x, 0)
}

/// `cos.approx{.ftz}.f32`; the argument in radians.
#[inline(always)]
pub fn cos<const FTZ: bool>(x: f32) -> f32 {
    quarter_wave::<FTZ>(x, 1)
}

/// Sine of `x` plus `ahead` quarter turns.
#[inline(always)]
fn quarter_wave<const FTZ: bool>(x: f32, ahead: i32) -> f32 {
    // Adding 1.5 * 2^52 rounds to an integer and leaves it in the low bits.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let x = ftz::<FTZ>(x);
    let turns = f64::from(x) * (4.0 / TAU);
    // Whole turns of huge arguments carry no accuracy anyway; this keeps the sum below in range.
    let turns = if turns.abs() < 1_048_576.0 { turns } else { turns * 0.0 };
    let rounded = turns + MAGIC;
    let quadrant = (rounded.to_bits() as i32).wrapping_add(ahead);
    let t = (turns - (rounded - MAGIC)) * (TAU / 4.0);
    let q = t * t;
    let mut s = 1.0 / 362_880.0;
    s = q.mul_add(s, -1.0 / 5_040.0);
    s = q.mul_add(s, 1.0 / 120.0);
    s = q.mul_add(s, -1.0 / 6.0);
    s = t * q.mul_add(s, 1.0); // keeps the sign of zero
    let mut c = -1.0 / 3_628_800.0;
    c = q.mul_add(c, 1.0 / 40_320.0);
    c = q.mul_add(c, -1.0 / 720.0);
    c = q.mul_add(c, 1.0 / 24.0);
    c = q.mul_add(c, -0.5);
    c = q.mul_add(c, 1.0);
    let y = if quadrant & 1 == 0 { s } else { c };
    let y = if quadrant & 2 == 0 { y } else { -y };
    finish::<FTZ, false>(y as f32)
}

/// `tanh.approx.f32`.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let q = x * x;
    let mut series = 62.0 / 2_835.0;
    series = q.mul_add(series, -17.0 / 315.0);
    series = q.mul_add(series, 2.0 / 15.0);
    series = q.mul_add(series, -1.0 / 3.0);
    let small = x * q.mul_add(series, 1.0); // keeps the sign of zero
    let e = ex2::<false>(x.abs() * (2.0 / std::f32::consts::LN_2));
    let large = (1.0 - 2.0 / (e + 1.0)).copysign(x);
    canon(if x.abs() < 0.3 { small } else { large })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `f32` bit patterns spread over all exponents and both signs.
    fn samples() -> impl Iterator<Item = f32> {
        (0..1u32 << 20).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9)))
    }

    fn ulps(got: f32, want: f64) -> f64 {
        let spacing = f64::from((want as f32).abs().next_up()) - f64::from((want as f32).abs());
        (f64::from(got) - want).abs() / spacing
    }

    #[test]
    fn ex2_is_within_two_ulp() {
        for x in samples().filter(|x| x.abs() < 149.0).chain((-1490..1280).map(|i| i as f32 * 0.1)) {
            let want = f64::from(x).exp2();
            if want < f64::from(f32::MAX) {
                assert!(ulps(ex2::<false>(x), want) <= 1.0, "{x:e}: {:e} not {want:e}", ex2::<false>(x));
            }
        }
        assert_eq!(ex2::<true>(-127.0), 0.0);
        assert_eq!(ex2::<false>(-149.0), f32::from_bits(1));
        assert_eq!(ex2::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(ex2::<false>(f32::INFINITY), f32::INFINITY);
        assert_eq!(ex2::<false>(128.0), f32::INFINITY);
        assert_eq!(ex2::<false>(f32::NAN).to_bits(), NAN32);
    }

    #[test]
    fn lg2_is_within_its_bounds() {
        for x in samples().filter(|x| *x > 0.0 && x.is_finite()) {
            let want = f64::from(x).log2();
            assert!(ulps(lg2::<false>(x), want) <= 1.0 || (f64::from(lg2::<false>(x)) - want).abs() < 1e-10, "{x:e}");
        }
        assert_eq!(lg2::<false>(-0.0), f32::NEG_INFINITY);
        assert_eq!(lg2::<true>(f32::from_bits(1)), f32::NEG_INFINITY);
        assert_eq!(lg2::<false>(f32::from_bits(1)), -149.0);
        assert_eq!(lg2::<false>(-1.0).to_bits(), NAN32);
        assert_eq!(lg2::<false>(f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn sin_and_cos_are_within_their_bounds() {
        for x in samples().filter(|x| x.abs() < 100.0).chain((-4000..4000).map(|i| i as f32 * 0.01)) {
            let (s, c) = f64::from(x).sin_cos();
            assert!((f64::from(sin::<false>(x)) - s).abs() < 2f64.powi(-23), "sin {x:e}");
            assert!((f64::from(cos::<false>(x)) - c).abs() < 2f64.powi(-23), "cos {x:e}");
        }
        assert_eq!(sin::<false>(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(cos::<true>(f32::INFINITY).to_bits(), NAN32);
        assert!(sin::<false>(1e30).abs() <= 1.0);
    }

    #[test]
    fn tanh_is_within_its_bound() {
        for x in samples().filter(|x| x.abs() > 0.0 && x.is_finite()).chain((1..9000).map(|i| i as f32 * 0.001)) {
            let want = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) / want - 1.0).abs() < 2f64.powi(-20) || x.abs() < 1e-37, "{x:e}");
        }
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn rsqrt_and_div_are_within_their_bounds() {
        for x in samples().filter(|x| *x > 0.0 && x.is_finite()) {
            assert!(ulps(rsqrt::<false>(x), 1.0 / f64::from(x).sqrt()) <= 1.5, "{x:e}");
        }
        assert_eq!(div::<false>(1.0, f32::MAX), 0.0);
        assert!(div::<false>(f32::INFINITY, f32::MAX).is_nan());
        assert_eq!(div::<false>(6.0, 3.0), 2.0);
    }
}
