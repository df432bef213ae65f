//! The op table: every warp operation there is, its class, and the code that executes it.
//!
//! The rows are in [`rows`]. An entry is a lane function (`(a: f32, b: f32) -> f32 { .. }`; `imm` is the operation's immediate; `-> bool` gives a
//! predicate) or a handler (`raw path`). From the entries come the enum [`Code`], the names for reports, and for each
//! entry a portable handler and one compiled for AVX2, FMA and F16C. Lowering chooses the entry; a handler column of
//! another kind needs only another field of [`Entry`].
mod rows;

use super::class::Class;
use super::cx::Cx;
use super::lane;
use super::op::{Flow, Handler, Op};
use super::ops::{
    access, atomic, barrier, bulk, compare, control, copy, halves, host, matrix, mbarrier, shared, special, warp,
    watch, words,
};
use crate::num::half::{Bf16, F16, Half};
use crate::num::{Rm, Rn, Rp, Rz, approx, bits, cvt, float, fp8, half, int, packed};

/// What the table knows of an operation.
pub struct Entry {
    /// Name for reports and listings.
    pub name: &'static str,
    /// How it is counted.
    pub class: Class,
    portable: Handler,
    vector: Handler,
}

/// Names of all rows of the table.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.name)
}

impl Code {
    /// Its entry.
    pub fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// The handler for this CPU.
    pub fn handler(self) -> Handler {
        if vector_cpu() { self.entry().vector } else { self.entry().portable }
    }
}

/// Has this CPU what the vector handlers are compiled for?
pub fn vector_cpu() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Evaluates an expression with the rounding mode of an immediate (0 rn, 1 rz, 2 rm, 3 rp) as the type `$r`.
macro_rules! rounded {
    ($imm:expr, $r:ident => $e:expr) => {
        match $imm & 3 {
            0 => {
                type $r = Rn;
                $e
            }
            1 => {
                type $r = Rz;
                $e
            }
            2 => {
                type $r = Rm;
                $e
            }
            _ => {
                type $r = Rp;
                $e
            }
        }
    };
}

/// Defines `body`, the handler's code, to be compiled once portably and once for vectors.
macro_rules! body {
    ({ raw (|$cx:ident, $op:ident $(: &Op)?, $mask:ident| $e:expr) }) => {
        #[inline(always)]
        unsafe fn body($cx: &mut Cx<'_>, $op: &Op, $mask: u32) -> Flow {
            // SAFETY: the caller keeps the contract of `Handler`; lowering gives operands of these types.
            unsafe { $e }
        }
    };
    ({ raw $path:expr }) => {
        #[inline(always)]
        unsafe fn body(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
            // SAFETY: the caller keeps the contract of `Handler`.
            unsafe { $path(cx, op, mask) }
        }
    };
    ({ ($a:ident: $ta:ty) -> bool $e:block }) => {
        struct L;
        impl lane::Test for L {
            type A = $ta;
            #[inline(always)]
            fn f(&self, $a: $ta) -> bool $e
        }
        body!({ raw (|cx, op, mask| lane::test(cx, op, mask, L)) });
    };
    ({ ($a:ident: $ta:ty $(; $imm:ident)?) -> $r:ty $e:block }) => {
        body!(@fn unary Unary { A = $ta, D = $r } ($a: $ta) -> $r $e, $($imm)?);
    };
    ({ ($a:ident: $ta:ty, $b:ident: $tb:ty $(; $imm:ident)?) -> $r:ty $e:block }) => {
        body!(@fn binary Binary { A = $ta, B = $tb, D = $r } ($a: $ta, $b: $tb) -> $r $e, $($imm)?);
    };
    ({ ($a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty $(; $imm:ident)?) -> $r:ty $e:block }) => {
        body!(@fn ternary Ternary { A = $ta, B = $tb, C = $tc, D = $r }
            ($a: $ta, $b: $tb, $c: $tc) -> $r $e, $($imm)?);
    };
    (@fn $shape:ident $t:ident { $($n:ident = $ty:ty),* } ($($x:ident: $tx:ty),*) -> $r:ty $e:block,) => {
        struct L;
        impl lane::$t for L {
            $(type $n = $ty;)*
            #[inline(always)]
            fn f(&self, $($x: $tx),*) -> $r $e
        }
        body!({ raw (|cx, op, mask| lane::$shape(cx, op, mask, L)) });
    };
    (@fn $shape:ident $t:ident { $($n:ident = $ty:ty),* } ($($x:ident: $tx:ty),*) -> $r:ty $e:block, $imm:ident) => {
        struct L(i64);
        impl lane::$t for L {
            $(type $n = $ty;)*
            #[inline(always)]
            fn f(&self, $($x: $tx),*) -> $r {
                let $imm = self.0;
                $e
            }
        }
        // The usual immediates as constants, so that their loops have no branches.
        body!({ raw (|cx, op: &Op, mask| match op.imm {
            0 => lane::$shape(cx, op, mask, L(0)),
            1 => lane::$shape(cx, op, mask, L(1)),
            imm => lane::$shape(cx, op, mask, L(imm)),
        }) });
    };
}

macro_rules! ops {
    ($($class:ident { $($name:ident $body:tt)* })*) => {
        /// The operations, named after the PTX instruction and its type.
        #[allow(missing_docs, reason = "the names are those of the PTX instructions")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Code { $($($name,)*)* }

        #[allow(non_snake_case, reason = "one module per entry, named like it")]
        #[allow(unused_imports, reason = "every entry sees the same names")]
        mod handlers {
            $($(pub mod $name {
                use super::super::*;
                body!($body);
                pub unsafe extern "C" fn portable(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
                    // SAFETY: passed on to the caller.
                    unsafe { body(cx, op, mask) }
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                pub unsafe extern "C" fn vector(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
                    // SAFETY: passed on to the caller.
                    unsafe { body(cx, op, mask) }
                }
                #[cfg(not(target_arch = "x86_64"))]
                pub use portable as vector;
            })*)*
        }

        static TABLE: &[Entry] = &[$($(
            Entry {
                name: stringify!($name),
                class: Class::$class,
                portable: handlers::$name::portable,
                vector: handlers::$name::vector,
            },
        )*)*];
    };
}

rows::rows!(ops);
