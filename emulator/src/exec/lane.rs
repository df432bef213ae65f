//! The register file as handlers see it, and the shapes of lane-wise handlers.
//!
//! Invariants: a 32-bit (or narrower) register is 32 consecutive `u32`, a 64-bit one 32 consecutive `u64`, a predicate
//! one `u32` with a bit per lane; offsets come from lowering, which aligns them and keeps them inside the file; two
//! registers are the same one or do not overlap. Values narrower than 32 bits are read from the low bits, whatever lies
//! above. Lanes without a thread, or whose thread has ended, may be overwritten with anything.
use super::cx::Cx;
use super::op::{Flow, Op};

/// Lanes of a warp.
pub const LANES: usize = 32;

/// What a register slot holds of one lane.
pub trait Store: Copy + Default {
    /// All ones for a set bit, else zero.
    fn spread(bit: u32) -> Self;
    /// `self` where `mask` is ones, else `other`.
    fn blend(self, mask: Self, other: Self) -> Self;
}

macro_rules! store {
    ($t:ty) => {
        impl Store for $t {
            #[inline(always)]
            fn spread(bit: u32) -> Self {
                (0 as $t).wrapping_sub(bit as $t)
            }
            #[inline(always)]
            fn blend(self, mask: Self, other: Self) -> Self {
                (self & mask) | (other & !mask)
            }
        }
    };
}
store!(u32);
store!(u64);

/// A type that an operation computes with, and how a register holds it.
pub trait Lane: Copy {
    /// The slot's element.
    type In: Store;
    /// From a register.
    fn get(bits: Self::In) -> Self;
    /// To a register.
    fn put(self) -> Self::In;
}

macro_rules! lane {
    ($t:ty, $store:ty, $bits:ident => $get:expr, $value:ident => $put:expr) => {
        impl Lane for $t {
            type In = $store;
            #[inline(always)]
            fn get($bits: $store) -> Self {
                $get
            }
            #[inline(always)]
            fn put(self) -> $store {
                let $value = self;
                $put
            }
        }
    };
}
lane!(u8, u32, x => x as u8, x => x as u32);
lane!(i8, u32, x => x as i8, x => x as i32 as u32);
lane!(u16, u32, x => x as u16, x => x as u32);
lane!(i16, u32, x => x as i16, x => x as u16 as u32);
lane!(u32, u32, x => x, x => x);
lane!(i32, u32, x => x as i32, x => x as u32);
lane!(f32, u32, x => f32::from_bits(x), x => x.to_bits());
lane!(u64, u64, x => x, x => x);
lane!(i64, u64, x => x as i64, x => x as u64);
lane!(f64, u64, x => f64::from_bits(x), x => x.to_bits());

impl Cx<'_> {
    /// The register at `offset` as an array of lanes.
    ///
    /// # Safety
    /// `offset` is a register of `T`'s width of the running kernel.
    #[inline(always)]
    pub unsafe fn reg<T>(&self, offset: u32) -> *mut [T; LANES] {
        // SAFETY: the caller gives an offset inside the file.
        unsafe { self.regs.add(offset as usize).cast() }
    }

    /// The predicate at `offset`, a bit per lane.
    ///
    /// # Safety
    /// `offset` is a predicate register of the running kernel.
    #[inline(always)]
    pub unsafe fn pred(&self, offset: u32) -> u32 {
        // SAFETY: the caller gives an offset inside the file.
        unsafe { *self.regs.add(offset as usize).cast() }
    }

    /// Sets the predicate's bits in `mask` to those of `value`.
    ///
    /// # Safety
    /// `offset` is a predicate register of the running kernel, and not a constant.
    #[inline(always)]
    pub unsafe fn set_pred(&mut self, offset: u32, mask: u32, value: u32) {
        // SAFETY: the caller gives an offset inside the file.
        unsafe {
            let p = self.regs.add(offset as usize).cast::<u32>();
            *p = (*p & !mask) | (value & mask);
        }
    }

    /// May every lane be written? True if all lanes that have a living thread are in `mask`.
    #[inline(always)]
    pub fn dense(&self, mask: u32) -> bool {
        mask | self.dead == !0
    }

    /// Writes the lanes of `mask`.
    ///
    /// # Safety
    /// `offset` is a register of `T`'s width of the running kernel, and not a constant.
    #[inline(always)]
    pub unsafe fn set<T: Store>(&mut self, offset: u32, mask: u32, values: &[T; LANES]) {
        // SAFETY: the caller gives an offset inside the file.
        unsafe {
            let d = &mut *self.reg::<T>(offset);
            if self.dense(mask) {
                *d = *values;
            } else {
                for l in 0..LANES {
                    d[l] = values[l].blend(T::spread(mask >> l & 1), d[l]);
                }
            }
        }
    }
}

/// A function of one lane. A trait and not a closure, because only a method can be `#[inline(always)]`: it has to become
/// part of the handler to be compiled with the handler's CPU features.
pub trait Unary {
    /// Source.
    type A: Lane;
    /// Result.
    type D: Lane;
    /// The function.
    fn f(&self, a: Self::A) -> Self::D;
}

/// A function of two values of a lane.
pub trait Binary {
    /// First source.
    type A: Lane;
    /// Second source.
    type B: Lane;
    /// Result.
    type D: Lane;
    /// The function.
    fn f(&self, a: Self::A, b: Self::B) -> Self::D;
}

/// A function of three values of a lane.
pub trait Ternary {
    /// First source.
    type A: Lane;
    /// Second source.
    type B: Lane;
    /// Third source.
    type C: Lane;
    /// Result.
    type D: Lane;
    /// The function.
    fn f(&self, a: Self::A, b: Self::B, c: Self::C) -> Self::D;
}

/// A predicate of one value of a lane.
pub trait Test {
    /// Source.
    type A: Lane;
    /// The predicate.
    fn f(&self, a: Self::A) -> bool;
}

/// `d = f(a)` in every lane.
///
/// # Safety
/// As [`super::op::Handler`].
#[inline(always)]
pub unsafe fn unary<F: Unary>(cx: &mut Cx<'_>, op: &Op, mask: u32, f: F) -> Flow {
    // SAFETY: the operands are registers of these types by lowering.
    unsafe {
        let a = &*cx.reg::<<F::A as Lane>::In>(op.a);
        let mut out = [<F::D as Lane>::In::default(); LANES];
        for l in 0..LANES {
            out[l] = f.f(F::A::get(a[l])).put();
        }
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// `d = f(a, b)` in every lane.
///
/// # Safety
/// As [`super::op::Handler`].
#[inline(always)]
pub unsafe fn binary<F: Binary>(cx: &mut Cx<'_>, op: &Op, mask: u32, f: F) -> Flow {
    // SAFETY: the operands are registers of these types by lowering.
    unsafe {
        let a = &*cx.reg::<<F::A as Lane>::In>(op.a);
        let b = &*cx.reg::<<F::B as Lane>::In>(op.b);
        let mut out = [<F::D as Lane>::In::default(); LANES];
        for l in 0..LANES {
            out[l] = f.f(F::A::get(a[l]), F::B::get(b[l])).put();
        }
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// `d = f(a, b, c)` in every lane.
///
/// # Safety
/// As [`super::op::Handler`].
#[inline(always)]
pub unsafe fn ternary<F: Ternary>(cx: &mut Cx<'_>, op: &Op, mask: u32, f: F) -> Flow {
    // SAFETY: the operands are registers of these types by lowering.
    unsafe {
        let a = &*cx.reg::<<F::A as Lane>::In>(op.a);
        let b = &*cx.reg::<<F::B as Lane>::In>(op.b);
        let c = &*cx.reg::<<F::C as Lane>::In>(op.c);
        let mut out = [<F::D as Lane>::In::default(); LANES];
        for l in 0..LANES {
            out[l] = f.f(F::A::get(a[l]), F::B::get(b[l]), F::C::get(c[l])).put();
        }
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// A predicate from each lane: `d = f(a)`.
///
/// # Safety
/// As [`super::op::Handler`].
#[inline(always)]
pub unsafe fn test<F: Test>(cx: &mut Cx<'_>, op: &Op, mask: u32, f: F) -> Flow {
    // SAFETY: the operand is a register of this type by lowering.
    unsafe {
        let a = &*cx.reg::<<F::A as Lane>::In>(op.a);
        let mut bits = [0u32; LANES];
        for l in 0..LANES {
            bits[l] = u32::from(f.f(F::A::get(a[l]))) << l;
        }
        cx.set_pred(op.d, mask, bits.iter().fold(0, |x, y| x | y));
    }
    Flow::Next
}
