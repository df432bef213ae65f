//! Exact arithmetic on 128-bit significands for what the host's float unit cannot do without changing its state:
//! directed rounding of `f64` and `f32` operations. Slow and rare.
//!
//! A finite value is `significand * 2^exponent`. A bit that falls off the low end of a shift is kept as a sticky bit, so
//! that the one rounding at the end sees an exact tie or an inexact result as such.

use super::Mode;

/// Precision in bits and the exponent of the lowest bit and of the largest finite value's leading bit.
#[derive(Clone, Copy)]
pub(super) struct Format {
    precision: i32,
    lowest: i32,
    highest: i32,
}

/// Results as `f32` values.
pub(super) const F32: Format = Format { precision: 24, lowest: -149, highest: 127 };
/// Results as `f64` values.
pub(super) const F64: Format = Format { precision: 53, lowest: -1074, highest: 1023 };

#[derive(Clone, Copy)]
struct Exact {
    negative: bool,
    exponent: i32,
    significand: u128,
}

impl Exact {
    fn new(x: f64) -> Exact {
        let bits = x.to_bits();
        let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, u128::from(bits & ((1 << 52) - 1)));
        let significand = if field == 0 { fraction } else { fraction | 1 << 52 };
        Exact { negative: x.is_sign_negative(), exponent: field.max(1) - 1075, significand }
    }

    /// The same value with its leading bit at bit 124.
    fn normalized(self) -> Exact {
        let shift = self.significand.leading_zeros() as i32 - 3;
        Exact { exponent: self.exponent - shift, significand: self.significand << shift, ..self }
    }

    /// Rounded once into `format`, held exactly in an `f64`.
    fn round(self, format: Format, mode: Mode) -> f64 {
        let sign = if self.negative { -1.0 } else { 1.0 };
        let top = 127 - self.significand.leading_zeros() as i32;
        let shift = (top + 1 - format.precision).max(format.lowest - self.exponent);
        if shift <= 0 {
            return sign * scale(self.significand as f64, self.exponent);
        }
        let kept = if shift < 128 { self.significand >> shift } else { 0 };
        let lost = self.significand - if shift < 128 { kept << shift } else { 0 };
        let half = if shift <= 128 { 1u128 << (shift - 1) } else { u128::MAX };
        let up = match mode {
            Mode::Nearest => lost > half || (lost == half && kept & 1 == 1),
            Mode::Zero => false,
            Mode::Down => lost > 0 && self.negative,
            Mode::Up => lost > 0 && !self.negative,
        };
        let kept = kept + u128::from(up);
        let leading = 127 - kept.leading_zeros() as i32 + self.exponent + shift;
        if kept > 0 && leading > format.highest {
            return sign * overflow(format, mode, self.negative);
        }
        sign * scale(kept as f64, self.exponent + shift)
    }
}

/// Magnitude of a result above the largest finite one.
fn overflow(format: Format, mode: Mode, negative: bool) -> f64 {
    let infinite = match mode {
        Mode::Nearest => true,
        Mode::Zero => false,
        Mode::Down => negative,
        Mode::Up => !negative,
    };
    let largest = scale(((1u64 << format.precision) - 1) as f64, format.highest + 1 - format.precision);
    if infinite { f64::INFINITY } else { largest }
}

/// `x * 2^n` where the result is representable.
fn scale(x: f64, n: i32) -> f64 {
    let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    let first = n.clamp(-1000, 1000);
    x * power(first) * power(n - first)
}

fn shift_sticky(x: u128, n: u32) -> u128 {
    match n {
        0 => x,
        1..128 => x >> n | u128::from(x << (128 - n) != 0),
        _ => u128::from(x != 0),
    }
}

/// `a * b + c` rounded once.
pub(super) fn fma(a: f64, b: f64, c: f64, format: Format, mode: Mode) -> f64 {
    let native = a.mul_add(b, c);
    if !(a.is_finite() && b.is_finite() && c.is_finite()) {
        return native;
    }
    if a == 0.0 || b == 0.0 {
        return if c == 0.0 { zero_sum(a * b, c, mode) } else { Exact::new(c).round(format, mode) };
    }
    let (x, y) = (Exact::new(a), Exact::new(b));
    let product = Exact {
        negative: x.negative != y.negative,
        exponent: x.exponent + y.exponent,
        significand: x.significand * y.significand,
    };
    if c == 0.0 {
        return product.round(format, mode);
    }
    let (x, y) = (product.normalized(), Exact::new(c).normalized());
    let (large, small) = if (x.exponent, x.significand) >= (y.exponent, y.significand) { (x, y) } else { (y, x) };
    let aligned = shift_sticky(small.significand, (large.exponent - small.exponent) as u32);
    let significand = match large.negative == small.negative {
        true => large.significand + aligned,
        false => large.significand - aligned,
    };
    if significand == 0 {
        return if mode == Mode::Down { -0.0 } else { 0.0 };
    }
    Exact { significand, ..large }.round(format, mode)
}

/// Sum of two zeros.
fn zero_sum(a: f64, b: f64, mode: Mode) -> f64 {
    if a.is_sign_negative() != b.is_sign_negative() && mode == Mode::Down { -0.0 } else { a + b }
}

/// `a * b` rounded once.
pub(super) fn mul(a: f64, b: f64, format: Format, mode: Mode) -> f64 {
    if a == 0.0 || b == 0.0 || !a.is_finite() || !b.is_finite() {
        return a * b;
    }
    let (x, y) = (Exact::new(a), Exact::new(b));
    let exact = Exact {
        negative: x.negative != y.negative,
        exponent: x.exponent + y.exponent,
        significand: x.significand * y.significand,
    };
    exact.round(format, mode)
}

/// `a / b` rounded once.
pub(super) fn div(a: f64, b: f64, format: Format, mode: Mode) -> f64 {
    if a == 0.0 || b == 0.0 || !a.is_finite() || !b.is_finite() {
        return a / b;
    }
    let (x, y) = (Exact::new(a).normalized(), Exact::new(b));
    let remainder = x.significand % y.significand != 0;
    let exact = Exact {
        negative: x.negative != y.negative,
        // One more low bit for the sticky one.
        exponent: x.exponent - y.exponent - 1,
        significand: (x.significand / y.significand) << 1 | u128::from(remainder),
    };
    exact.round(format, mode)
}

/// `sqrt(a)` rounded once.
pub(super) fn sqrt(a: f64, format: Format, mode: Mode) -> f64 {
    if a == 0.0 || a.is_sign_negative() || !a.is_finite() {
        return a.sqrt();
    }
    let mut x = Exact::new(a).normalized();
    if x.exponent & 1 != 0 {
        x = Exact { exponent: x.exponent - 1, significand: x.significand << 1, ..x };
    }
    let root = x.significand.isqrt();
    let exact = Exact {
        negative: false,
        exponent: x.exponent / 2 - 1,
        significand: root << 1 | u128::from(root * root != x.significand),
    };
    exact.round(format, mode)
}

/// An integer rounded once.
pub(super) fn from_int(negative: bool, magnitude: u64, format: Format, mode: Mode) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    Exact { negative, exponent: 0, significand: u128::from(magnitude) }.round(format, mode)
}
