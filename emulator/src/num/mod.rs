//! Pure arithmetic of PTX, one lane at a time: no registers, no memory, no state.
//!
//! Invariants: every function is deterministic on every host (no libm, no host rounding mode); a NaN result of 16 or 32
//! bits is canonical (`0x7fff`, `0x7fffffff`); `f16`, `bf16` and fp8 values travel as their bits (`u16`, `u8`), packed
//! pairs as `u32` with the first element in the low half. Scalars are branch-free and `#[inline(always)]`, so that a loop
//! over 32 lanes inside a `#[target_feature]` function becomes vector code. [`lanes`] and [`mma`] hold the routines that
//! need explicit AVX2.
//!
//! Modifiers are types and constants where they decide code ([`Round`], `FTZ`), so that handlers monomorphise.

pub mod approx;
pub mod bits;
pub mod cvt;
pub mod float;
pub mod fp8;
pub mod half;
pub mod int;
pub mod lanes;
pub mod matrix;
pub mod mma;
pub mod packed;
mod soft;

/// One 32-bit register of a warp: the value of each lane.
pub type Lanes = [u32; 32];

/// Rounding modes of PTX arithmetic and conversions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `.rn`, `.rni`: to nearest, ties to even.
    Nearest,
    /// `.rz`, `.rzi`: towards zero.
    Zero,
    /// `.rm`, `.rmi`: towards negative infinity.
    Down,
    /// `.rp`, `.rpi`: towards positive infinity.
    Up,
}

/// A rounding mode as a type, for monomorphised handlers.
pub trait Round {
    /// The mode.
    const MODE: Mode;
}

/// `.rn`
pub struct Rn;
/// `.rz`
pub struct Rz;
/// `.rm`
pub struct Rm;
/// `.rp`
pub struct Rp;

impl Round for Rn {
    const MODE: Mode = Mode::Nearest;
}
impl Round for Rz {
    const MODE: Mode = Mode::Zero;
}
impl Round for Rm {
    const MODE: Mode = Mode::Down;
}
impl Round for Rp {
    const MODE: Mode = Mode::Up;
}
