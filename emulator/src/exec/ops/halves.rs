//! Half precision: lane functions with their modifiers, packed pairs over whole registers, conversions to and from fp8.
use crate::exec::cx::Cx;
use crate::exec::lane::LANES;
use crate::exec::op::{Flow, Op};
use crate::num::fp8::{self, Fp8};
use crate::num::half::{Bf16, F16, Half};
use crate::num::{Lanes, Rn, Rz, float, lanes as lanes_of, packed};

/// Bits of the immediate of half-precision operations.
pub mod flag {
    /// `.ftz`
    pub const FTZ: i64 = 1;
    /// `.sat`
    pub const SAT: i64 = 2;
    /// `.relu`
    pub const RELU: i64 = 4;
    /// `.NaN`
    pub const NAN: i64 = 8;
    /// `.xorsign.abs`
    pub const XORSIGN: i64 = 16;
    /// max instead of min
    pub const MAX: i64 = 32;
}

macro_rules! half_binary {
    ($name:ident, $f:ident) => {
        /// The operation with the immediate's `.ftz` and `.sat`.
        #[inline(always)]
        pub fn $name<H: Half>(a: u16, b: u16, imm: i64) -> u16 {
            match imm & 3 {
                0 => packed::$f::<H, false, false>(a, b),
                1 => packed::$f::<H, true, false>(a, b),
                2 => packed::$f::<H, false, true>(a, b),
                _ => packed::$f::<H, true, true>(a, b),
            }
        }
    };
}
half_binary!(hadd, add);
half_binary!(hsub, sub);
half_binary!(hmul, mul);

/// `fma` with the immediate's `.ftz`, `.sat` and `.relu`.
#[inline(always)]
pub fn hfma<H: Half>(a: u16, b: u16, c: u16, imm: i64) -> u16 {
    match imm & 7 {
        0 => packed::fma::<H, false, false, false>(a, b, c),
        1 => packed::fma::<H, true, false, false>(a, b, c),
        2 => packed::fma::<H, false, true, false>(a, b, c),
        3 => packed::fma::<H, true, true, false>(a, b, c),
        4 => packed::fma::<H, false, false, true>(a, b, c),
        _ => packed::fma::<H, true, false, true>(a, b, c),
    }
}

/// A half format with whole-register arithmetic.
pub trait Packed: Half {
    /// Two ones.
    const ONES: u32 = (Self::ONE as u32) << 16 | Self::ONE as u32;
    /// `fma.rn` of packed pairs.
    fn fma(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes;
    /// `add.rn` of packed pairs.
    #[inline(always)]
    fn sum(a: &Lanes, b: &Lanes) -> Lanes {
        Self::fma(a, &[Self::ONES; LANES], b)
    }
    /// `sub.rn` of packed pairs.
    #[inline(always)]
    fn difference(a: &Lanes, b: &Lanes) -> Lanes {
        Self::fma(b, &[Self::ONES ^ 0x8000_8000; LANES], a)
    }
    /// `mul.rn` of packed pairs.
    #[inline(always)]
    fn products(a: &Lanes, b: &Lanes) -> Lanes {
        Self::fma(a, b, &[0x8000_8000; LANES])
    }
}

impl Packed for F16 {
    #[inline(always)]
    fn fma(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
        lanes_of::fma_f16x2(a, b, c)
    }
    #[inline(always)]
    fn sum(a: &Lanes, b: &Lanes) -> Lanes {
        lanes_of::add_f16x2(a, b)
    }
    #[inline(always)]
    fn difference(a: &Lanes, b: &Lanes) -> Lanes {
        lanes_of::sub_f16x2(a, b)
    }
    #[inline(always)]
    fn products(a: &Lanes, b: &Lanes) -> Lanes {
        lanes_of::mul_f16x2(a, b)
    }
}

impl Packed for Bf16 {
    #[inline(always)]
    fn fma(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
        lanes_of::fma_bf16x2(a, b, c)
    }
}

/// `fma` of packed pairs, with the immediate's `.ftz`, `.sat` and `.relu`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn packed_fma<H: Packed>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: 32-bit registers by lowering.
    unsafe {
        let (a, b, c) = (&*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b), &*cx.reg::<u32>(op.c));
        let out = match op.imm {
            0 => H::fma(a, b, c),
            imm => std::array::from_fn(|l| packed::map3(a[l], b[l], c[l], |a, b, c| hfma::<H>(a, b, c, imm))),
        };
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

macro_rules! packed_binary {
    ($name:ident, $scalar:ident, $whole:ident) => {
        /// The operation on packed pairs, with the immediate's `.ftz` and `.sat`.
        ///
        /// # Safety
        /// As [`crate::exec::op::Handler`].
        #[inline(always)]
        pub unsafe fn $name<H: Packed>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
            // SAFETY: 32-bit registers by lowering.
            unsafe {
                let (a, b) = (&*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b));
                let out = match op.imm {
                    0 => H::$whole(a, b),
                    imm => std::array::from_fn(|l| packed::map2(a[l], b[l], |a, b| $scalar::<H>(a, b, imm))),
                };
                cx.set(op.d, mask, &out);
            }
            Flow::Next
        }
    };
}
packed_binary!(packed_add, hadd, sum);
packed_binary!(packed_sub, hsub, difference);
packed_binary!(packed_mul, hmul, products);

macro_rules! half_min_max {
    ($name:ident, $f:ident) => {
        /// With the immediate's `.ftz`, `.NaN` and `.xorsign.abs`.
        #[inline(always)]
        pub fn $name<H: Half>(a: u16, b: u16, imm: i64) -> u16 {
            let (x, y) = if imm & flag::XORSIGN != 0 { (a & 0x7fff, b & 0x7fff) } else { (a, b) };
            let chosen = match imm & (flag::FTZ | flag::NAN) {
                0 => packed::$f::<H, false, false>(x, y),
                flag::FTZ => packed::$f::<H, true, false>(x, y),
                flag::NAN => packed::$f::<H, false, true>(x, y),
                _ => packed::$f::<H, true, true>(x, y),
            };
            if imm & flag::XORSIGN != 0 { packed::xorsign(a, b, chosen) } else { chosen }
        }
    };
}
half_min_max!(hmin, min);
half_min_max!(hmax, max);

/// `min` and `max` with any of `.ftz`, `.NaN`, `.xorsign.abs`.
#[inline(always)]
pub fn min_max_f32(a: f32, b: f32, imm: i64) -> f32 {
    let (x, y) = if imm & flag::XORSIGN != 0 { (a.abs(), b.abs()) } else { (a, b) };
    let (ftz, nan, max) = (imm & flag::FTZ != 0, imm & flag::NAN != 0, imm & flag::MAX != 0);
    let chosen = match (max, ftz, nan) {
        (false, false, false) => float::min_f32::<false, false>(x, y),
        (false, false, true) => float::min_f32::<false, true>(x, y),
        (false, true, false) => float::min_f32::<true, false>(x, y),
        (false, true, true) => float::min_f32::<true, true>(x, y),
        (true, false, false) => float::max_f32::<false, false>(x, y),
        (true, false, true) => float::max_f32::<false, true>(x, y),
        (true, true, false) => float::max_f32::<true, false>(x, y),
        (true, true, true) => float::max_f32::<true, true>(x, y),
    };
    if imm & flag::XORSIGN != 0 { float::xorsign_f32(a, b, chosen) } else { chosen }
}

/// `ex2.approx` of a half.
#[inline(always)]
pub fn hex2<H: Half>(a: u16, imm: i64) -> u16 {
    use crate::num::approx::ex2;
    if imm != 0 { packed::apply::<H, true>(a, ex2::<false>) } else { packed::apply::<H, false>(a, ex2::<false>) }
}

/// Two f32 to a packed pair: immediate bit 0 is `.rz`, bit 2 `.relu`.
#[inline(always)]
pub fn pack_halves<H: Half>(high: f32, low: f32, imm: i64) -> u32 {
    let one = |x: f32| {
        let h = if imm & 1 != 0 { H::from_f32::<Rz>(x) } else { H::from_f32::<Rn>(x) };
        if imm & flag::RELU != 0 { packed::relu(h) } else { h }
    };
    u32::from(one(high)) << 16 | u32::from(one(low))
}

/// Two f32 to two fp8.
#[inline(always)]
pub fn fp8_pack<F: Fp8>(high: f32, low: f32, imm: i64) -> u16 {
    if imm != 0 { fp8::pack::<F, true>(high, low) } else { fp8::pack::<F, false>(high, low) }
}

/// Two halves to two fp8.
#[inline(always)]
pub fn fp8_pack_halves<F: Fp8, H: Half>(a: u32, imm: i64) -> u16 {
    if imm != 0 { fp8::pack_halves::<F, H, true>(a) } else { fp8::pack_halves::<F, H, false>(a) }
}

/// Two fp8 to two f16.
#[inline(always)]
pub fn fp8_unpack<F: Fp8>(a: u16, imm: i64) -> u32 {
    if imm != 0 { fp8::unpack::<F, true>(a) } else { fp8::unpack::<F, false>(a) }
}
