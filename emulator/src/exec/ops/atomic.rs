//! `atom` and `red` on global and shared memory: lane after lane, each a compare-and-swap loop on a host atomic.
use super::access::{self, Kind, Space};
use super::control::PATIENCE;
use crate::exec::cx::{Cx, lanes};
use crate::exec::lane::{LANES, Store};
use crate::exec::op::{Flow, Op, Stop};
use crate::num::half::{Bf16, F16, Half};
use crate::num::{Rn, float, packed};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Operations by number, the immediate of [`run`].
pub const OPERATIONS: [&str; 20] = [
    "add",
    "add.f32",
    "add.f64",
    "add.f16x2",
    "add.bf16x2",
    "add.f16",
    "add.bf16",
    "min.u",
    "min.s",
    "max.u",
    "max.s",
    "and",
    "or",
    "xor",
    "exch",
    "cas",
    "inc",
    "dec",
    "add.ftz.f32",
    "none",
];

/// A word that atomics work on.
pub trait Word: Copy + PartialEq {
    /// Register element.
    type In: Store + PartialEq;
    /// From a register.
    fn narrow(x: Self::In) -> Self;
    /// To a register.
    fn widen(self) -> Self::In;
    /// The value after operation `kind` on `old`.
    fn apply(kind: i64, old: Self, b: Self, c: Self) -> Self;
    /// Replaces the word at `at` by `f` of it; returns the old and the new one.
    ///
    /// # Safety
    /// `at` is valid and aligned.
    unsafe fn update(at: usize, f: impl Fn(Self) -> Self) -> (Self, Self);
}

macro_rules! word {
    ($t:ty, $signed:ty, $in:ty, $atomic:ty, |$kind:ident, $a:ident, $b:ident| $other:expr) => {
        impl Word for $t {
            type In = $in;
            #[inline(always)]
            fn narrow(x: $in) -> $t {
                x as $t
            }
            #[inline(always)]
            fn widen(self) -> $in {
                self as $in
            }
            #[inline(always)]
            fn apply($kind: i64, $a: $t, $b: $t, c: $t) -> $t {
                match $kind {
                    0 => $a.wrapping_add($b),
                    7 => $a.min($b),
                    8 => ($a as $signed).min($b as $signed) as $t,
                    9 => $a.max($b),
                    10 => ($a as $signed).max($b as $signed) as $t,
                    11 => $a & $b,
                    12 => $a | $b,
                    13 => $a ^ $b,
                    14 => $b,
                    15 => {
                        if $a == $b {
                            c
                        } else {
                            $a
                        }
                    }
                    16 => {
                        if $a >= $b {
                            0
                        } else {
                            $a + 1
                        }
                    }
                    17 => {
                        if $a == 0 || $a > $b {
                            $b
                        } else {
                            $a - 1
                        }
                    }
                    _ => $other,
                }
            }
            #[inline(always)]
            unsafe fn update(at: usize, f: impl Fn($t) -> $t) -> ($t, $t) {
                // SAFETY: the caller gives a valid, aligned address; only atomics and volatile accesses touch it.
                let word = unsafe { <$atomic>::from_ptr(at as *mut $t) };
                let mut old = word.load(Ordering::Relaxed);
                loop {
                    let new = f(old);
                    match word.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                        Ok(_) => return (old, new),
                        Err(now) => old = now,
                    }
                }
            }
        }
    };
}

fn half_add<H: Half>(a: u16, b: u16) -> u16 {
    packed::add::<H, false, false>(a, b)
}

word!(u16, i16, u32, AtomicU16, |kind, a, b| if kind == 5 { half_add::<F16>(a, b) } else { half_add::<Bf16>(a, b) });
word!(u32, i32, u32, AtomicU32, |kind, a, b| match kind {
    3 => packed::map2(a, b, half_add::<F16>),
    4 => packed::map2(a, b, half_add::<Bf16>),
    18 => float::add_f32::<Rn, true, false>(f32::from_bits(a), f32::from_bits(b)).to_bits(),
    _ => float::add_f32::<Rn, false, false>(f32::from_bits(a), f32::from_bits(b)).to_bits(),
});
word!(u64, i64, u64, AtomicU64, |_kind, a, b| float::add_f64::<Rn>(f64::from_bits(a), f64::from_bits(b)).to_bits());

/// An atomic operation: destination old value, sources address, b, c.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn run<S: Space, T: Word>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let size = size_of::<T>();
    let mut at = [0; LANES];
    // SAFETY: `locate` checked the addresses; registers of these kinds by lowering.
    unsafe {
        let Some(pattern) = access::locate::<S>(cx, op, (op.a, op.imm >> 8), mask, size, &mut at) else {
            return Flow::Stop;
        };
        match pattern {
            access::Pattern::Contiguous => at = std::array::from_fn(|l| at[0] + l * size),
            access::Pattern::Uniform => at = [at[0]; LANES],
            access::Pattern::Scattered => {}
        }
        let (b, c) = (*cx.reg::<T::In>(op.b), *cx.reg::<T::In>(op.c));
        let d = cx.reg::<T::In>(op.d);
        let mut changed = false;
        for l in lanes(mask) {
            let (old, new) = T::update(at[l], |old| T::apply(op.imm & 255, old, T::narrow(b[l]), T::narrow(c[l])));
            changed |= old != new;
            (*d)[l] = old.widen();
        }
        if S::KIND == Kind::Global {
            cx.count.global_atomics += u64::from(mask.count_ones());
        } else {
            cx.count.shared_accesses += 1;
            cx.count.shared_wavefronts += access::cost::<S>(cx, op, mask, size, access::Pattern::Scattered, &at);
        }
        if changed {
            cx.progress += 1;
            return Flow::Next;
        }
    }
    cx.polls += 1;
    if cx.polls < PATIENCE {
        return Flow::Next;
    }
    cx.stop = Stop::Yield;
    Flow::Stop
}
