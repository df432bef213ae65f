//! `cvt` between integers and floats, and rounding to integral values.
//!
//! Halves convert through [`half`](super::half): widen exactly, then as here; narrow by its `f64_to_*` functions.

use super::{Mode, Round, float, soft};

/// `cvt.{rni,rzi,rmi,rpi}.f32.f32`: nearest integral value, sign of zero kept.
#[inline(always)]
pub fn round_f32<R: Round>(x: f32) -> f32 {
    float::canon(match R::MODE {
        Mode::Nearest => x.round_ties_even(),
        Mode::Zero => x.trunc(),
        Mode::Down => x.floor(),
        Mode::Up => x.ceil(),
    })
}

/// `cvt.{rni,rzi,rmi,rpi}.f64.f64`.
#[inline(always)]
pub fn round_f64<R: Round>(x: f64) -> f64 {
    match R::MODE {
        Mode::Nearest => x.round_ties_even(),
        Mode::Zero => x.trunc(),
        Mode::Down => x.floor(),
        Mode::Up => x.ceil(),
    }
}

/// An integer type that floats convert to.
pub trait Int: Copy {
    /// `cvt.Ri.INT.f32`: rounded, clamped to the type's range; NaN gives 0, or the top bit alone for 64-bit types.
    fn from_f32<R: Round>(x: f32) -> Self;
    /// `cvt.Ri.INT.f64`: the same; NaN gives the top bit alone for every type.
    fn from_f64<R: Round>(x: f64) -> Self;
}

macro_rules! ints {
    ($($t:ty, $nan:expr;)*) => {$(
        impl Int for $t {
            #[inline(always)]
            fn from_f32<R: Round>(x: f32) -> $t {
                let y = round_f32::<R>(x) as $t;
                // Rust's cast clamps and maps NaN to 0.
                const NAN: $t = $nan;
                if NAN != 0 && x.is_nan() { NAN } else { y }
            }
            #[inline(always)]
            fn from_f64<R: Round>(x: f64) -> $t {
                let y = round_f64::<R>(x) as $t;
                if x.is_nan() { 1 << (<$t>::BITS - 1) } else { y }
            }
        }
    )*};
}
ints! {
    u8, 0;
    i8, 0;
    u16, 0;
    i16, 0;
    u32, 0;
    i32, 0;
    u64, 1 << 63;
    i64, i64::MIN;
}

/// `cvt.R.f32.{s8,s16,s32}`.
#[inline(always)]
pub fn i32_to_f32<R: Round>(x: i32) -> f32 {
    match R::MODE {
        Mode::Nearest => x as f32,
        _ => float::to_f32::<R>(f64::from(x)),
    }
}

/// `cvt.R.f32.{u8,u16,u32}`.
#[inline(always)]
pub fn u32_to_f32<R: Round>(x: u32) -> f32 {
    match R::MODE {
        Mode::Nearest => x as f32,
        _ => float::to_f32::<R>(f64::from(x)),
    }
}

/// `cvt.R.f32.s64`.
#[inline(always)]
pub fn i64_to_f32<R: Round>(x: i64) -> f32 {
    match R::MODE {
        Mode::Nearest => x as f32,
        mode => soft::from_int(x < 0, x.unsigned_abs(), soft::F32, mode) as f32,
    }
}

/// `cvt.R.f32.u64`.
#[inline(always)]
pub fn u64_to_f32<R: Round>(x: u64) -> f32 {
    match R::MODE {
        Mode::Nearest => x as f32,
        mode => soft::from_int(false, x, soft::F32, mode) as f32,
    }
}

/// `cvt.R.f64.s64` (narrower integers are exact).
#[inline(always)]
pub fn i64_to_f64<R: Round>(x: i64) -> f64 {
    match R::MODE {
        Mode::Nearest => x as f64,
        mode => soft::from_int(x < 0, x.unsigned_abs(), soft::F64, mode),
    }
}

/// `cvt.R.f64.u64`.
#[inline(always)]
pub fn u64_to_f64<R: Round>(x: u64) -> f64 {
    match R::MODE {
        Mode::Nearest => x as f64,
        mode => soft::from_int(false, x, soft::F64, mode),
    }
}

/// A 64-bit integer as an `f64` that still rounds rightly to a half: its low bits only as a sticky one.
#[inline(always)]
pub fn i64_to_f64_sticky(x: i64) -> f64 {
    let magnitude = u64_to_f64_sticky(x.unsigned_abs());
    if x < 0 { -magnitude } else { magnitude }
}

/// As [`i64_to_f64_sticky`].
#[inline(always)]
pub fn u64_to_f64_sticky(x: u64) -> f64 {
    let low = x & 0xfff;
    let kept = (x & !0xfff) | u64::from(low != 0) << 12;
    // Above 2^53 at least 40 leading bits remain; below, the value is exact.
    if x >> 53 == 0 { x as f64 } else { kept as f64 }
}
