//! Floating point by `rustc_apfloat`: every format, every rounding mode, one rounding.

use rustc_apfloat::ieee::{BFloat, Double, Half, Quad, Single};
use rustc_apfloat::{Float, FloatConvert, Round};

/// A format by the name of its PTX type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    F16,
    Bf16,
    F32,
    F64,
}

pub use Format::{Bf16, F16, F32, F64};

/// PTX's rounding modifiers.
pub const ROUNDS: [(&str, Round); 4] = [
    ("rn", Round::NearestTiesToEven),
    ("rz", Round::TowardZero),
    ("rm", Round::TowardNegative),
    ("rp", Round::TowardPositive),
];

/// Evaluates `$e` with `$t` as the format's type.
macro_rules! with {
    ($format:expr, $t:ident => $e:expr) => {
        match $format {
            F16 => {
                type $t = Half;
                $e
            }
            Bf16 => {
                type $t = BFloat;
                $e
            }
            F32 => {
                type $t = Single;
                $e
            }
            F64 => {
                type $t = Double;
                $e
            }
        }
    };
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            F16 => "f16",
            Bf16 => "bf16",
            F32 => "f32",
            F64 => "f64",
        }
    }

    pub fn kind(self) -> crate::harness::Kind {
        match self {
            F16 => crate::harness::Kind::F16,
            Bf16 => crate::harness::Kind::Bf16,
            F32 => crate::harness::Kind::F32,
            F64 => crate::harness::Kind::F64,
        }
    }

    fn sign(self) -> u64 {
        match self {
            F16 | Bf16 => 1 << 15,
            F32 => 1 << 31,
            F64 => 1 << 63,
        }
    }

    pub fn infinity(self) -> u64 {
        match self {
            F16 => 0x7c00,
            Bf16 => 0x7f80,
            F32 => 0x7f80_0000,
            F64 => 0x7ff0_0000_0000_0000,
        }
    }

    pub fn is_nan(self, x: u64) -> bool {
        x & !self.sign() > self.infinity()
    }

    /// A result as PTX gives it: the canonical NaN (`f64`: marked by `!0`).
    pub fn canon(self, x: u64) -> u64 {
        match self {
            _ if !self.is_nan(x) => x,
            F16 | Bf16 => 0x7fff,
            F32 => 0x7fff_ffff,
            F64 => !0,
        }
    }

    /// `.ftz`
    pub fn flush(self, x: u64) -> u64 {
        if x & self.infinity() == 0 { x & self.sign() } else { x }
    }

    /// `.sat`: to [+0, 1], NaN to +0.
    pub fn saturate(self, x: u64) -> u64 {
        let one = match self {
            F16 => 0x3c00,
            Bf16 => 0x3f80,
            F32 => 0x3f80_0000,
            F64 => 0x3ff0_0000_0000_0000,
        };
        if self.is_nan(x) || x & self.sign() != 0 { 0 } else { x.min(one) }
    }

    pub fn fma(self, a: u64, b: u64, c: u64, round: Round) -> u64 {
        let x = |x: u64| u128::from(x);
        with!(self, T => T::from_bits(x(a)).mul_add_r(T::from_bits(x(b)), T::from_bits(x(c)), round).value.to_bits() as u64)
    }

    pub fn add(self, a: u64, b: u64, round: Round) -> u64 {
        with!(self, T => T::from_bits(u128::from(a)).add_r(T::from_bits(u128::from(b)), round).value.to_bits() as u64)
    }

    pub fn sub(self, a: u64, b: u64, round: Round) -> u64 {
        with!(self, T => T::from_bits(u128::from(a)).sub_r(T::from_bits(u128::from(b)), round).value.to_bits() as u64)
    }

    pub fn mul(self, a: u64, b: u64, round: Round) -> u64 {
        with!(self, T => T::from_bits(u128::from(a)).mul_r(T::from_bits(u128::from(b)), round).value.to_bits() as u64)
    }

    pub fn div(self, a: u64, b: u64, round: Round) -> u64 {
        with!(self, T => T::from_bits(u128::from(a)).div_r(T::from_bits(u128::from(b)), round).value.to_bits() as u64)
    }

    /// Square root by search: the largest float whose square, exact in binary128, is not above `x`; then rounded.
    pub fn sqrt(self, x: u64, round: Round) -> u64 {
        if self.is_nan(x) || x & !self.sign() == 0 || x == self.infinity() {
            return x;
        }
        if x & self.sign() != 0 {
            return !0;
        }
        let target = self.quad(x);
        let square_at_most = |root: Quad| (root * root).value <= target;
        let (mut low, mut high) = (0, self.infinity());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if square_at_most(self.quad(middle)) { low = middle } else { high = middle }
        }
        let exact = (self.quad(low) * self.quad(low)).value == target;
        let sum = (self.quad(low) + self.quad(low + 1)).value;
        let half = (sum * Quad::from_bits(0x3ffe << 112)).value;
        let up = match round {
            Round::NearestTiesToEven => square_at_most(half),
            Round::TowardPositive => !exact,
            _ => false,
        };
        if up { low + 1 } else { low }
    }

    fn quad(self, x: u64) -> Quad {
        with!(self, T => T::from_bits(u128::from(x)).convert_r(Round::TowardZero, &mut false).value)
    }

    /// The same value in another format.
    pub fn convert(self, x: u64, to: Format, round: Round) -> u64 {
        let wide = self.quad(x);
        with!(to, T => {
            let narrow: T = wide.convert_r(round, &mut false).value;
            narrow.to_bits() as u64
        })
    }

    /// The nearest integral value.
    pub fn integral(self, x: u64, round: Round) -> u64 {
        with!(self, T => T::from_bits(u128::from(x)).round_to_integral(round).value.to_bits() as u64)
    }

    /// The integer a value rounds to, far outside of 64 bits for infinities; `None` for NaN.
    pub fn to_int(self, x: u64, round: Round) -> Option<i128> {
        if self.is_nan(x) {
            return None;
        }
        let wide = self.quad(x);
        if !wide.is_finite() || wide.ilogb() > 100 {
            return Some(if x & self.sign() != 0 { -(1 << 100) } else { 1 << 100 });
        }
        Some(wide.to_i128_r(128, round, &mut false).value)
    }

    /// An integer as a float.
    pub fn of_int(self, x: i128, round: Round) -> u64 {
        with!(self, T => T::from_i128_r(x, round).value.to_bits() as u64)
    }

    /// `None`: unordered.
    pub fn compare(self, a: u64, b: u64) -> Option<std::cmp::Ordering> {
        self.quad(a).partial_cmp(&self.quad(b))
    }

    /// `min` or `max`: -0 below +0; a NaN loses, or with `nan` wins.
    pub fn extreme(self, a: u64, b: u64, max: bool, nan: bool) -> u64 {
        match (self.is_nan(a), self.is_nan(b)) {
            (true, true) => self.canon(a),
            (true, false) | (false, true) if nan => self.canon(if self.is_nan(a) { a } else { b }),
            (true, false) => b,
            (false, true) => a,
            _ => {
                // As integers that order as the values do.
                let key = |x: u64| if x & self.sign() != 0 { -((x ^ self.sign()) as i128) - 1 } else { x as i128 };
                let first = if max { key(a) >= key(b) } else { key(a) <= key(b) };
                if first { a } else { b }
            }
        }
    }

    pub fn value(self, x: u64) -> f64 {
        f64::from_bits(self.convert(x, F64, Round::NearestTiesToEven))
    }

    pub fn negate(self, x: u64) -> u64 {
        x ^ self.sign()
    }

    pub fn magnitude(self, x: u64) -> u64 {
        x & !self.sign()
    }

    pub fn sign_of(self, x: u64) -> u64 {
        x & self.sign()
    }
}
