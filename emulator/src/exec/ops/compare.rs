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
        let (x, y) = (&*$cx.reg::<<$t>::In>($op.a), &*$cx.reg::<<$t>::In>($op.b));
        let mut bits = [0u32; LANES];
        for l in 0..LANES {
            let ($a, $b) = (<$t>::get(x[l]), <$t>::get(y[l]));
            bits[l] = u32::from($e) << l;
        }
        $cx.set_pred($op.d, $mask, bits.iter().fold(0, |x, y| x | y));
    }};
}

/// `setp` of integers (operators 0 to 5).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn integer<T: Lane + Ord>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
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
pub unsafe fn float<T: Lane + PartialOrd>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
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
