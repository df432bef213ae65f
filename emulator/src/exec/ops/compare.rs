//! Comparisons, selections and predicate logic.
use crate::exec::cx::Cx;
use crate::exec::lane::{LANES, Lane, Store};
use crate::exec::op::{Flow, Op};
use crate::num::float::{self, Class};
use crate::num::half::Half;
use crate::num::packed;
use std::marker::PhantomData;

/// Comparison operators by number, the immediate of the `Setp` operations.
pub const OPERATORS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "lo", "ls", "hi", "hs",
];

/// Sets the predicate `d` from a comparison in every lane.
macro_rules! compare {
    ($cx:ident, $op:ident, $mask:ident, $t:ty, |$a:ident, $b:ident| $e:expr) => {{
        let (x, y) = (&*$cx.reg::<<$t as Lane>::In>($op.a), &*$cx.reg::<<$t as Lane>::In>($op.b));
        let mut bits = [0u32; LANES];
        for l in 0..LANES {
            let ($a, $b) = (<$t>::get(x[l]), <$t>::get(y[l]));
            bits[l] = u32::from($e) << l;
        }
        $cx.set_pred($op.d, $mask, bits.iter().fold(0, |x, y| x | y));
    }};
}

/// A type that `setp` compares.
pub trait Compared: Lane {
    /// The result of an operator as a bit for each lane, by vector comparisons; `None` if there is no such form.
    ///
    /// # Safety
    /// Only on a CPU with AVX2.
    #[inline(always)]
    unsafe fn vector(_operator: i64, _x: &[Self::In; LANES], _y: &[Self::In; LANES]) -> Option<u32> {
        None
    }
}

/// [`Compared::vector`] for the operation, if there is one.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
unsafe fn compare_wide<T: Compared>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> bool {
    // SAFETY: registers of these kinds by lowering; `wide` says what the CPU has.
    unsafe {
        let bits = if cx.wide { T::vector(op.imm, &*cx.reg(op.a), &*cx.reg(op.b)) } else { None };
        bits.map(|bits| cx.set_pred(op.d, mask, bits)).is_some()
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! by_vectors {
    ($lanes:literal, $x:ident, $y:ident, |$a:ident, $b:ident| $sign:expr) => {{
        let mut bits = 0;
        for i in 0..LANES / $lanes {
            // SAFETY: 32 bytes of each array.
            let sign = unsafe {
                let $a = _mm256_loadu_si256($x.as_ptr().add($lanes * i).cast());
                let $b = _mm256_loadu_si256($y.as_ptr().add($lanes * i).cast());
                $sign
            };
            bits |= (sign as u32) << ($lanes * i);
        }
        bits
    }};
}

#[cfg(target_arch = "x86_64")]
macro_rules! compared_integer {
    ($t:ty, $bias:expr, $lanes:literal, $set1:ident, $eq:ident, $gt:ident, $cast:ident, $mask:ident) => {
        impl Compared for $t {
            #[inline(always)]
            unsafe fn vector(operator: i64, x: &[Self::In; LANES], y: &[Self::In; LANES]) -> Option<u32> {
                use std::arch::x86_64::*;
                // SAFETY: the caller vouches for AVX2.
                let bias = unsafe { $set1($bias as _) };
                let bits = match operator {
                    0 | 1 => by_vectors!($lanes, x, y, |a, b| $mask($cast($eq(a, b)))),
                    2 | 5 => by_vectors!($lanes, x, y, |a, b| $mask($cast($gt(
                        _mm256_xor_si256(b, bias),
                        _mm256_xor_si256(a, bias)
                    )))),
                    _ => by_vectors!($lanes, x, y, |a, b| $mask($cast($gt(
                        _mm256_xor_si256(a, bias),
                        _mm256_xor_si256(b, bias)
                    )))),
                };
                // ne, le and ge are the contrary of eq, gt and lt.
                Some(if operator & 1 != 0 { !bits } else { bits })
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
mod integers {
    use super::*;
    compared_integer!(
        u32,
        i32::MIN,
        8,
        _mm256_set1_epi32,
        _mm256_cmpeq_epi32,
        _mm256_cmpgt_epi32,
        _mm256_castsi256_ps,
        _mm256_movemask_ps
    );
    compared_integer!(
        i32,
        0,
        8,
        _mm256_set1_epi32,
        _mm256_cmpeq_epi32,
        _mm256_cmpgt_epi32,
        _mm256_castsi256_ps,
        _mm256_movemask_ps
    );
    compared_integer!(
        u64,
        i64::MIN,
        4,
        _mm256_set1_epi64x,
        _mm256_cmpeq_epi64,
        _mm256_cmpgt_epi64,
        _mm256_castsi256_pd,
        _mm256_movemask_pd
    );
    compared_integer!(
        i64,
        0,
        4,
        _mm256_set1_epi64x,
        _mm256_cmpeq_epi64,
        _mm256_cmpgt_epi64,
        _mm256_castsi256_pd,
        _mm256_movemask_pd
    );
}

#[cfg(target_arch = "x86_64")]
impl Compared for f32 {
    #[inline(always)]
    unsafe fn vector(operator: i64, x: &[u32; LANES], y: &[u32; LANES]) -> Option<u32> {
        use std::arch::x86_64::*;
        macro_rules! with {
            ($p:ident) => {
                by_vectors!(8, x, y, |a, b| _mm256_movemask_ps(_mm256_cmp_ps::<$p>(
                    _mm256_castsi256_ps(a),
                    _mm256_castsi256_ps(b)
                )))
            };
        }
        Some(match operator {
            0 => with!(_CMP_EQ_OQ),
            1 => with!(_CMP_NEQ_OQ),
            2 => with!(_CMP_LT_OQ),
            3 => with!(_CMP_LE_OQ),
            4 => with!(_CMP_GT_OQ),
            5 => with!(_CMP_GE_OQ),
            6 => with!(_CMP_EQ_UQ),
            7 => with!(_CMP_NEQ_UQ),
            8 => with!(_CMP_NGE_UQ),
            9 => with!(_CMP_NGT_UQ),
            10 => with!(_CMP_NLE_UQ),
            11 => with!(_CMP_NLT_UQ),
            12 => with!(_CMP_ORD_Q),
            _ => with!(_CMP_UNORD_Q),
        })
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod integers {
    use super::*;
    impl Compared for u32 {}
    impl Compared for i32 {}
    impl Compared for u64 {}
    impl Compared for i64 {}
    impl Compared for f32 {}
}
impl Compared for u16 {}
impl Compared for i16 {}
impl Compared for f64 {}
impl Compared for Flushed {}
impl<H: Half, const FTZ: bool> Compared for Widened<H, FTZ> {}

/// `setp` of integers (operators 0 to 5).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn integer<T: Compared + Ord>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        if compare_wide::<T>(cx, op, mask) {
            return Flow::Next;
        }
        match op.imm {
            0 => compare!(cx, op, mask, T, |a, b| a == b),
            1 => compare!(cx, op, mask, T, |a, b| a != b),
            2 => compare!(cx, op, mask, T, |a, b| a < b),
            3 => compare!(cx, op, mask, T, |a, b| a <= b),
            4 => compare!(cx, op, mask, T, |a, b| a > b),
            _ => compare!(cx, op, mask, T, |a, b| a >= b),
        }
    }
    Flow::Next
}

/// Is one of the two no number? A NaN is the value that does not equal itself.
#[inline(always)]
#[allow(clippy::eq_op, reason = "that is the test")]
fn unordered<T: PartialEq>(a: T, b: T) -> bool {
    (a != a) | (b != b)
}

/// `setp` of floats (operators 0 to 13).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn float<T: Compared + PartialOrd>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        if compare_wide::<T>(cx, op, mask) {
            return Flow::Next;
        }
        match op.imm {
            0 => compare!(cx, op, mask, T, |a, b| a == b),
            1 => compare!(cx, op, mask, T, |a, b| !unordered(a, b) & (a != b)),
            2 => compare!(cx, op, mask, T, |a, b| a < b),
            3 => compare!(cx, op, mask, T, |a, b| a <= b),
            4 => compare!(cx, op, mask, T, |a, b| a > b),
            5 => compare!(cx, op, mask, T, |a, b| a >= b),
            6 => compare!(cx, op, mask, T, |a, b| unordered(a, b) | (a == b)),
            7 => compare!(cx, op, mask, T, |a, b| a != b),
            8 => compare!(cx, op, mask, T, |a, b| unordered(a, b) | (a < b)),
            9 => compare!(cx, op, mask, T, |a, b| unordered(a, b) | (a <= b)),
            10 => compare!(cx, op, mask, T, |a, b| unordered(a, b) | (a > b)),
            11 => compare!(cx, op, mask, T, |a, b| unordered(a, b) | (a >= b)),
            12 => compare!(cx, op, mask, T, |a, b| !unordered(a, b)),
            _ => compare!(cx, op, mask, T, |a, b| unordered(a, b)),
        }
    }
    Flow::Next
}

/// An f32 whose subnormals compare as zero.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Flushed(f32);

impl Lane for Flushed {
    type In = u32;
    #[inline(always)]
    fn get(bits: u32) -> Self {
        Flushed(float::flush(f32::from_bits(bits)))
    }
    #[inline(always)]
    fn put(self) -> u32 {
        self.0.to_bits()
    }
}

/// A half, compared as the f32 of its value; with `FTZ`, subnormals as zero.
pub struct Widened<H, const FTZ: bool>(f32, PhantomData<H>);

impl<H, const FTZ: bool> Clone for Widened<H, FTZ> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<H, const FTZ: bool> Copy for Widened<H, FTZ> {}
impl<H, const FTZ: bool> PartialEq for Widened<H, FTZ> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<H, const FTZ: bool> PartialOrd for Widened<H, FTZ> {
    #[inline(always)]
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

impl<H: Half, const FTZ: bool> Lane for Widened<H, FTZ> {
    type In = u32;
    #[inline(always)]
    fn get(bits: u32) -> Self {
        Widened(packed::comparand::<H, FTZ>(bits as u16), PhantomData)
    }
    #[inline(always)]
    fn put(self) -> u32 {
        self.0.to_bits()
    }
}

/// `testp` classes by number.
pub const CLASSES: [&str; 6] = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];

fn class(imm: i64) -> Class {
    [Class::Finite, Class::Infinite, Class::Number, Class::NotANumber, Class::Normal, Class::Subnormal]
        [imm as usize % CLASSES.len()]
}

macro_rules! class_of {
    ($name:ident, $t:ty, $test:path) => {
        /// `testp`
        ///
        /// # Safety
        /// As [`crate::exec::op::Handler`].
        pub unsafe fn $name(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
            let class = class(op.imm);
            // SAFETY: registers of these kinds by lowering.
            unsafe {
                let a = &*cx.reg::<<$t as Lane>::In>(op.a);
                let bits = (0..LANES).map(|l| u32::from($test(class, <$t>::get(a[l]))) << l);
                cx.set_pred(op.d, mask, bits.fold(0, |x, y| x | y));
            }
            Flow::Next
        }
    };
}
class_of!(class_f32, f32, float::testp_f32);
class_of!(class_f64, f64, float::testp_f64);

macro_rules! predicate {
    ($name:ident, |$a:ident, $b:ident| $e:expr) => {
        /// The operation on whole predicates.
        ///
        /// # Safety
        /// As [`crate::exec::op::Handler`].
        #[inline(always)]
        pub unsafe fn $name(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
            // SAFETY: predicate registers by lowering; a one-operand form names its operand twice.
            unsafe {
                let ($a, $b) = (cx.pred(op.a), cx.pred(op.b));
                cx.set_pred(op.d, mask, $e);
            }
            Flow::Next
        }
    };
}
predicate!(pred_mov, |a, _b| a);
predicate!(pred_not, |a, _b| !a);
predicate!(pred_and, |a, b| a & b);
predicate!(pred_or, |a, b| a | b);
predicate!(pred_xor, |a, b| a ^ b);

/// `selp`: `d = c ? a : b`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn select<T: Store>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let (a, b, c) = (&*cx.reg::<T>(op.a), &*cx.reg::<T>(op.b), cx.pred(op.c));
        let mut out = *b;
        for l in 0..LANES {
            out[l] = a[l].blend(T::spread(c >> l & 1), b[l]);
        }
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}
