//! `f16`, `bf16`, `f16x2` and `bf16x2` arithmetic: each element rounded once, subnormals kept unless `.ftz`.
//!
//! The scalar functions take one element; [`map1`], [`map2`] and [`map3`] apply them to both elements of a word.
//! add and sub run in `f32`, whose 24 bits make a second rounding harmless; mul and fma round to odd first where inexact.

use super::Rn;
use super::float::{max_f32, min_f32, saturate};
use super::half::{Half, NAN16};

/// Applies `f` to both elements.
#[inline(always)]
pub fn map1(a: u32, f: impl Fn(u16) -> u16) -> u32 {
    u32::from(f((a >> 16) as u16)) << 16 | u32::from(f(a as u16))
}

/// Applies `f` to both pairs of elements.
#[inline(always)]
pub fn map2(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16 | u32::from(f(a as u16, b as u16))
}

/// Applies `f` to both triples of elements.
#[inline(always)]
pub fn map3(a: u32, b: u32, c: u32, f: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let high = f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16);
    u32::from(high) << 16 | u32::from(f(a as u16, b as u16, c as u16))
}

/// `.ftz` of an element: a subnormal becomes zero of its sign.
#[inline(always)]
pub fn flush<H: Half, const FTZ: bool>(h: u16) -> u16 {
    if FTZ && h & H::INF == 0 { h & 0x8000 } else { h }
}

#[inline(always)]
fn widen<H: Half, const FTZ: bool>(h: u16) -> f32 {
    H::to_f32(flush::<H, FTZ>(h))
}

#[inline(always)]
fn finish<H: Half, const FTZ: bool, const SAT: bool>(x: f32) -> u16 {
    flush::<H, FTZ>(H::from_f32::<Rn>(if SAT { saturate(x) } else { x }))
}

/// `add{.ftz}{.sat}`.
#[inline(always)]
pub fn add<H: Half, const FTZ: bool, const SAT: bool>(a: u16, b: u16) -> u16 {
    finish::<H, FTZ, SAT>(widen::<H, FTZ>(a) + widen::<H, FTZ>(b))
}

/// `sub{.ftz}{.sat}`.
#[inline(always)]
pub fn sub<H: Half, const FTZ: bool, const SAT: bool>(a: u16, b: u16) -> u16 {
    finish::<H, FTZ, SAT>(widen::<H, FTZ>(a) - widen::<H, FTZ>(b))
}

/// `mul{.ftz}{.sat}`.
#[inline(always)]
pub fn mul<H: Half, const FTZ: bool, const SAT: bool>(a: u16, b: u16) -> u16 {
    finish::<H, FTZ, SAT>(H::product(widen::<H, FTZ>(a), widen::<H, FTZ>(b)))
}

/// `fma.rn{.ftz}{.sat}{.relu}`: one rounding; `.relu` turns negative results into +0.
#[inline(always)]
pub fn fma<H: Half, const FTZ: bool, const SAT: bool, const RELU: bool>(a: u16, b: u16, c: u16) -> u16 {
    let h = finish::<H, FTZ, SAT>(H::fused(widen::<H, FTZ>(a), widen::<H, FTZ>(b), widen::<H, FTZ>(c)));
    if RELU { relu(h) } else { h }
}

/// Negative values, and -0, become +0; NaN stays canonical.
#[inline(always)]
pub fn relu(h: u16) -> u16 {
    if h >> 15 == 1 { 0 } else { h }
}

/// `min{.ftz}{.NaN}`.
#[inline(always)]
pub fn min<H: Half, const FTZ: bool, const NAN: bool>(a: u16, b: u16) -> u16 {
    H::from_f32::<Rn>(min_f32::<false, NAN>(widen::<H, FTZ>(a), widen::<H, FTZ>(b)))
}

/// `max{.ftz}{.NaN}`.
#[inline(always)]
pub fn max<H: Half, const FTZ: bool, const NAN: bool>(a: u16, b: u16) -> u16 {
    H::from_f32::<Rn>(max_f32::<false, NAN>(widen::<H, FTZ>(a), widen::<H, FTZ>(b)))
}

/// `.xorsign.abs` of min and max: `chosen` from the magnitudes, its sign that of `a` xor that of `b`.
#[inline(always)]
pub fn xorsign(a: u16, b: u16, chosen: u16) -> u16 {
    if chosen == NAN16 { chosen } else { chosen & 0x7fff | (a ^ b) & 0x8000 }
}

/// `neg{.ftz}`.
#[inline(always)]
pub fn neg<H: Half, const FTZ: bool>(a: u16) -> u16 {
    flush::<H, FTZ>(a) ^ 0x8000
}

/// `abs{.ftz}`.
#[inline(always)]
pub fn abs<H: Half, const FTZ: bool>(a: u16) -> u16 {
    flush::<H, FTZ>(a) & 0x7fff
}

/// `cvt.R` between the two 16-bit formats.
#[inline(always)]
pub fn convert<From: Half, To: Half, R: super::Round>(a: u16) -> u16 {
    To::from_f32::<R>(From::to_f32(a))
}

/// `.satfinite` of a conversion's result: infinity, which overflow gives, becomes the largest finite value.
#[inline(always)]
pub fn finite<H: Half>(a: u16) -> u16 {
    if a & 0x7fff == H::INF { a - 1 } else { a }
}

/// `cvt.{rni,rzi,rmi,rpi}.f16.f16`.
#[inline(always)]
pub fn round<H: Half, R: super::Round>(a: u16) -> u16 {
    H::from_f32::<Rn>(super::cvt::round_f32::<R>(H::to_f32(a)))
}

/// The operand of a half comparison (`setp`, `set`) as an `f32`.
#[inline(always)]
pub fn comparand<H: Half, const FTZ: bool>(a: u16) -> f32 {
    widen::<H, FTZ>(a)
}

/// `ex2.approx` and `tanh.approx` of a half: the `f32` function `f`, rounded.
#[inline(always)]
pub fn apply<H: Half, const FTZ: bool>(a: u16, f: impl Fn(f32) -> f32) -> u16 {
    finish::<H, FTZ, false>(f(widen::<H, FTZ>(a)))
}
