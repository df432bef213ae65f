//! `f32` and `f64` arithmetic with PTX's modifiers: flush to zero, saturation, directed rounding, NaN rules.

use super::{Mode, Round, soft};

/// The canonical NaN of `f32`.
pub const NAN32: u32 = 0x7fff_ffff;

/// `.ftz`: a subnormal becomes zero of its sign.
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

/// [`flush`] if `FTZ`.
#[inline(always)]
pub fn ftz<const FTZ: bool>(x: f32) -> f32 {
    if FTZ { flush(x) } else { x }
}

/// Any NaN becomes the canonical one.
///
/// By bits: the compiler takes the NaN of an operation for any NaN, and may drop a choice made by a float comparison.
#[inline(always)]
pub fn canon(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { NAN32 } else { bits })
}

/// `.sat`: clamped to [+0.0, 1.0], NaN gives +0.0.
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    // Comparisons with NaN are false, and -0.0 is not above zero.
    let x = if x > 0.0 { x } else { 0.0 };
    if x < 1.0 { x } else { 1.0 }
}

/// What follows every f32 operation: canonical NaN, then `.ftz` and `.sat`.
#[inline(always)]
pub fn finish<const FTZ: bool, const SAT: bool>(x: f32) -> f32 {
    if SAT { saturate(ftz::<FTZ>(x)) } else { ftz::<FTZ>(canon(x)) }
}

/// `add{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn add_f32<R: Round, const FTZ: bool, const SAT: bool>(a: f32, b: f32) -> f32 {
    let (a, b) = (ftz::<FTZ>(a), ftz::<FTZ>(b));
    finish::<FTZ, SAT>(match R::MODE {
        Mode::Nearest => a + b,
        mode => soft::fma(f64::from(a), 1.0, f64::from(b), soft::F32, mode) as f32,
    })
}

/// `sub{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn sub_f32<R: Round, const FTZ: bool, const SAT: bool>(a: f32, b: f32) -> f32 {
    add_f32::<R, FTZ, SAT>(a, -b)
}

/// `mul{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn mul_f32<R: Round, const FTZ: bool, const SAT: bool>(a: f32, b: f32) -> f32 {
    let (a, b) = (ftz::<FTZ>(a), ftz::<FTZ>(b));
    finish::<FTZ, SAT>(match R::MODE {
        Mode::Nearest => a * b,
        mode => soft::mul(f64::from(a), f64::from(b), soft::F32, mode) as f32,
    })
}

/// `fma.rnd{.ftz}{.sat}.f32`, also `mad`: one rounding.
#[inline(always)]
pub fn fma_f32<R: Round, const FTZ: bool, const SAT: bool>(a: f32, b: f32, c: f32) -> f32 {
    let (a, b, c) = (ftz::<FTZ>(a), ftz::<FTZ>(b), ftz::<FTZ>(c));
    finish::<FTZ, SAT>(match R::MODE {
        Mode::Nearest => a.mul_add(b, c),
        mode => soft::fma(f64::from(a), f64::from(b), f64::from(c), soft::F32, mode) as f32,
    })
}

/// `div.rnd{.ftz}.f32`, also `div.full` (whose two ulp it keeps).
#[inline(always)]
pub fn div_f32<R: Round, const FTZ: bool>(a: f32, b: f32) -> f32 {
    let (a, b) = (ftz::<FTZ>(a), ftz::<FTZ>(b));
    finish::<FTZ, false>(match R::MODE {
        Mode::Nearest => a / b,
        mode => soft::div(f64::from(a), f64::from(b), soft::F32, mode) as f32,
    })
}

/// `rcp.rnd{.ftz}.f32`.
#[inline(always)]
pub fn rcp_f32<R: Round, const FTZ: bool>(a: f32) -> f32 {
    div_f32::<R, FTZ>(1.0, a)
}

/// `sqrt.rnd{.ftz}.f32`, also `sqrt.approx`.
#[inline(always)]
pub fn sqrt_f32<R: Round, const FTZ: bool>(a: f32) -> f32 {
    let a = ftz::<FTZ>(a);
    finish::<FTZ, false>(match R::MODE {
        Mode::Nearest => a.sqrt(),
        mode => soft::sqrt(f64::from(a), soft::F32, mode) as f32,
    })
}

/// `add.rnd.f64`.
#[inline(always)]
pub fn add_f64<R: Round>(a: f64, b: f64) -> f64 {
    match R::MODE {
        Mode::Nearest => a + b,
        mode => soft::fma(a, 1.0, b, soft::F64, mode),
    }
}

/// `mul.rnd.f64`.
#[inline(always)]
pub fn mul_f64<R: Round>(a: f64, b: f64) -> f64 {
    match R::MODE {
        Mode::Nearest => a * b,
        mode => soft::mul(a, b, soft::F64, mode),
    }
}

/// `fma.rnd.f64`, also `mad`.
#[inline(always)]
pub fn fma_f64<R: Round>(a: f64, b: f64, c: f64) -> f64 {
    match R::MODE {
        Mode::Nearest => a.mul_add(b, c),
        mode => soft::fma(a, b, c, soft::F64, mode),
    }
}

/// `div.rnd.f64` and `rcp.rnd.f64` (`a` = 1).
#[inline(always)]
pub fn div_f64<R: Round>(a: f64, b: f64) -> f64 {
    match R::MODE {
        Mode::Nearest => a / b,
        mode => soft::div(a, b, soft::F64, mode),
    }
}

/// `sqrt.rnd.f64`.
#[inline(always)]
pub fn sqrt_f64<R: Round>(a: f64) -> f64 {
    match R::MODE {
        Mode::Nearest => a.sqrt(),
        mode => soft::sqrt(a, soft::F64, mode),
    }
}

/// `min{.ftz}{.NaN}.f32`: the other operand of a NaN (with `.NaN`: NaN); -0.0 is below +0.0.
#[inline(always)]
pub fn min_f32<const FTZ: bool, const NAN: bool>(a: f32, b: f32) -> f32 {
    let (a, b) = (ftz::<FTZ>(a), ftz::<FTZ>(b));
    let lower = if ordered(a) < ordered(b) { a } else { b };
    select_number::<NAN>(a, b, lower)
}

/// `max{.ftz}{.NaN}.f32`.
#[inline(always)]
pub fn max_f32<const FTZ: bool, const NAN: bool>(a: f32, b: f32) -> f32 {
    let (a, b) = (ftz::<FTZ>(a), ftz::<FTZ>(b));
    let higher = if ordered(a) > ordered(b) { a } else { b };
    select_number::<NAN>(a, b, higher)
}

/// Bits that order as the values do, -0.0 below +0.0.
#[inline(always)]
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

#[inline(always)]
fn select_number<const NAN: bool>(a: f32, b: f32, chosen: f32) -> f32 {
    let canonical = f32::from_bits(NAN32);
    if NAN {
        return if a.is_nan() | b.is_nan() { canonical } else { chosen };
    }
    let r = if a.is_nan() { b } else { chosen };
    canon(if b.is_nan() { a } else { r })
}

/// `.xorsign.abs` of min and max: the magnitude chosen from `|a|`, `|b|`, the sign of `a` xor that of `b`.
#[inline(always)]
pub fn xorsign_f32(a: f32, b: f32, chosen: f32) -> f32 {
    let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
    if chosen.is_nan() { chosen } else { f32::from_bits(chosen.to_bits() & 0x7fff_ffff | sign) }
}

/// `min.f64`.
#[inline(always)]
pub fn min_f64(a: f64, b: f64) -> f64 {
    pick_f64(a, b, ordered64(a) < ordered64(b))
}

/// `max.f64`.
#[inline(always)]
pub fn max_f64(a: f64, b: f64) -> f64 {
    pick_f64(a, b, ordered64(a) > ordered64(b))
}

#[inline(always)]
fn ordered64(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[inline(always)]
fn pick_f64(a: f64, b: f64, first: bool) -> f64 {
    let r = if first { a } else { b };
    let r = if a.is_nan() { b } else { r };
    if b.is_nan() { a } else { r }
}

/// `copysign`: magnitude of `b` with the sign of `a` (PTX's order of operands).
#[inline(always)]
pub fn copysign_f32(a: f32, b: f32) -> f32 {
    f32::from_bits(b.to_bits() & 0x7fff_ffff | a.to_bits() & 0x8000_0000)
}

/// `copysign.f64`.
#[inline(always)]
pub fn copysign_f64(a: f64, b: f64) -> f64 {
    b.copysign(a)
}

/// `cvt.R.f32.f64`, without `.ftz` and `.sat`.
#[inline(always)]
pub fn to_f32<R: Round>(x: f64) -> f32 {
    let f = x as f32;
    let wide = f64::from(f);
    let step = match R::MODE {
        Mode::Nearest => 0,
        Mode::Zero => -i32::from(wide.abs() > x.abs()),
        Mode::Down => toward(f, wide > x, false),
        Mode::Up => toward(f, wide < x, true),
    };
    canon(f32::from_bits(f.to_bits().wrapping_add(step as u32)))
}

/// Step of the magnitude bits that moves `f` up or down if `needed`.
#[inline(always)]
fn toward(f: f32, needed: bool, up: bool) -> i32 {
    if !needed {
        return 0;
    }
    if f.is_sign_positive() == up { 1 } else { -1 }
}

/// Nearest `f32` whose last bit is odd where the conversion is not exact: rounding it again, to a format at least two
/// bits narrower and in any mode, gives what rounding `x` once would.
#[inline(always)]
pub fn to_f32_odd(x: f64) -> f32 {
    let f = x as f32;
    let wide = f64::from(f);
    let bits = f.to_bits();
    let step = if wide.abs() > x.abs() { u32::MAX } else { 1 };
    let inexact = (wide < x) | (wide > x);
    f32::from_bits(if inexact & (bits & 1 == 0) { bits.wrapping_add(step) } else { bits })
}

macro_rules! sum_odd {
    ($name:ident, $t:ty) => {
        /// `a + b` rounded to odd, as [`to_f32_odd`].
        #[inline(always)]
        pub fn $name(a: $t, b: $t) -> $t {
            let sum = a + b;
            // Knuth's two-sum: the exact error of the addition; NaN for infinities, which are left alone.
            let virtual_b = sum - a;
            let error = (a - (sum - virtual_b)) + (b - virtual_b);
            let inexact = (error < 0.0) | (error > 0.0);
            let bits = sum.to_bits();
            let step = if (error > 0.0) == (sum > 0.0) { 1 } else { !0 };
            <$t>::from_bits(if inexact & (bits & 1 == 0) { bits.wrapping_add(step) } else { bits })
        }
    };
}
sum_odd!(sum_odd_f32, f32);
sum_odd!(sum_odd_f64, f64);

/// `testp`: classes of floating-point values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Neither infinite nor NaN.
    Finite,
    /// Infinite.
    Infinite,
    /// Not NaN.
    Number,
    /// NaN.
    NotANumber,
    /// Neither subnormal, infinite nor NaN; zero is normal.
    Normal,
    /// Subnormal and not zero.
    Subnormal,
}

/// `testp` for an `f32` or, widened, for its class in `f64`.
#[inline(always)]
pub fn testp(class: Class, exponent_zero: bool, exponent_ones: bool, fraction_zero: bool) -> bool {
    match class {
        Class::Finite => !exponent_ones,
        Class::Infinite => exponent_ones & fraction_zero,
        Class::Number => !exponent_ones | fraction_zero,
        Class::NotANumber => exponent_ones & !fraction_zero,
        Class::Normal => !exponent_ones & (!exponent_zero | fraction_zero),
        Class::Subnormal => exponent_zero & !fraction_zero,
    }
}

/// `testp.CLASS.f32`.
#[inline(always)]
pub fn testp_f32(class: Class, x: f32) -> bool {
    let bits = x.to_bits();
    testp(class, bits & 0x7f80_0000 == 0, bits & 0x7f80_0000 == 0x7f80_0000, bits & 0x7f_ffff == 0)
}

/// `testp.CLASS.f64`.
#[inline(always)]
pub fn testp_f64(class: Class, x: f64) -> bool {
    let exponent = x.to_bits() >> 52 & 0x7ff;
    testp(class, exponent == 0, exponent == 0x7ff, x.to_bits() << 12 == 0)
}
