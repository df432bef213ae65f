//! Comparisons, selections and predicate logic.
use crate::exec::cx::Cx;
use crate::exec::lane::{LANES, Lane, Store, compare, test};
use crate::exec::op::{Flow, Op};
use crate::num::float::{self, Class};
use crate::num::half::Half;
use crate::num::packed;
use std::marker::PhantomData;

/// Comparison operators by number, the immediate of the `Setp` operations.
pub const OPERATORS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "lo", "ls", "hi", "hs",
];

/// `setp` of integers (operators 0 to 5).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn integer<T: Lane + Ord>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: passed on.
    unsafe {
        match op.imm {
            0 => compare::<T>(cx, op, mask, |a, b| a == b),
            1 => compare::<T>(cx, op, mask, |a, b| a != b),
            2 => compare::<T>(cx, op, mask, |a, b| a < b),
            3 => compare::<T>(cx, op, mask, |a, b| a <= b),
            4 => compare::<T>(cx, op, mask, |a, b| a > b),
            _ => compare::<T>(cx, op, mask, |a, b| a >= b),
        }
    }
}

/// `setp` of floats (operators 0 to 13).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn float<T: Lane + PartialOrd>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // A NaN is the value that does not equal itself.
    let nan = |a: T, b: T| (a != a) | (b != b);
    // SAFETY: passed on.
    unsafe {
        match op.imm {
            0 => compare::<T>(cx, op, mask, |a, b| a == b),
            1 => compare::<T>(cx, op, mask, |a, b| !nan(a, b) & (a != b)),
            2 => compare::<T>(cx, op, mask, |a, b| a < b),
            3 => compare::<T>(cx, op, mask, |a, b| a <= b),
            4 => compare::<T>(cx, op, mask, |a, b| a > b),
            5 => compare::<T>(cx, op, mask, |a, b| a >= b),
            6 => compare::<T>(cx, op, mask, |a, b| nan(a, b) | (a == b)),
            7 => compare::<T>(cx, op, mask, |a, b| a != b),
            8 => compare::<T>(cx, op, mask, |a, b| nan(a, b) | (a < b)),
            9 => compare::<T>(cx, op, mask, |a, b| nan(a, b) | (a <= b)),
            10 => compare::<T>(cx, op, mask, |a, b| nan(a, b) | (a > b)),
            11 => compare::<T>(cx, op, mask, |a, b| nan(a, b) | (a >= b)),
            12 => compare::<T>(cx, op, mask, |a, b| !nan(a, b)),
            _ => compare::<T>(cx, op, mask, nan),
        }
    }
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

/// `testp.f32`
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn class_f32(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let class = class(op.imm);
    // SAFETY: passed on.
    unsafe { test::<f32>(cx, op, mask, |a| float::testp_f32(class, a)) }
}

/// `testp.f64`
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn class_f64(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let class = class(op.imm);
    // SAFETY: passed on.
    unsafe { test::<f64>(cx, op, mask, |a| float::testp_f64(class, a)) }
}

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
