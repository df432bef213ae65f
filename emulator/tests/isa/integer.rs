//! Integer arithmetic, in `i128`.

use crate::harness::{Case, Kind, Reg, Want, case, lines};

/// An integer type of PTX.
#[derive(Clone, Copy)]
pub struct Int {
    pub name: &'static str,
    pub bits: u32,
    pub signed: bool,
}

const fn int(name: &'static str, bits: u32, signed: bool) -> Int {
    Int { name, bits, signed }
}

pub const INTS: [Int; 6] = [
    int("u16", 16, false),
    int("s16", 16, true),
    int("u32", 32, false),
    int("s32", 32, true),
    int("u64", 64, false),
    int("s64", 64, true),
];

impl Int {
    pub fn kind(self) -> Kind {
        match self.bits {
            16 => Kind::I16,
            32 => Kind::I32,
            _ => Kind::I64,
        }
    }

    /// The number that the low bits of `x` are.
    pub fn value(self, x: u64) -> i128 {
        let low = i128::from(x) & ((1 << self.bits) - 1);
        if self.signed && low >> (self.bits - 1) == 1 { low - (1 << self.bits) } else { low }
    }

    /// The low bits of a number.
    pub fn wrap(self, x: i128) -> u64 {
        (x & ((1 << self.bits) - 1)) as u64
    }

    /// The nearest number that the type holds, in its bits.
    pub fn clamp(self, x: i128) -> u64 {
        let (low, high) = match self.signed {
            true => (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1),
            false => (0, (1i128 << self.bits) - 1),
        };
        self.wrap(x.clamp(low, high))
    }

    /// Does `other` hold every value of this type?
    pub fn within(self, other: Int) -> bool {
        match (self.signed, other.signed) {
            (true, false) => false,
            (false, true) => self.bits < other.bits,
            _ => self.bits <= other.bits,
        }
    }

    /// Twice as wide, for the results of `.wide`.
    fn twice(self) -> Int {
        Int { bits: 2 * self.bits, ..self }
    }
}

/// A case over one type whose model works on numbers.
fn numbers(op: &str, t: Int, operands: usize, model: impl Fn(&[i128]) -> u64 + 'static) -> Case {
    case(op, t.kind().reg(), &vec![t.kind(); operands], move |x| {
        model(&x.iter().map(|&x| t.value(x)).collect::<Vec<_>>())
    })
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for t in INTS {
        plain(&mut all, t);
        if t.bits < 64 {
            widening(&mut all, t);
        }
    }
    saturating(&mut all);
    products24(&mut all);
    dot_products(&mut all);
    carries(&mut all);
    all
}

fn plain(all: &mut Vec<Case>, t: Int) {
    let n = t.name;
    all.push(numbers(&format!("add.{n}"), t, 2, move |x| t.wrap(x[0] + x[1])));
    all.push(numbers(&format!("sub.{n}"), t, 2, move |x| t.wrap(x[0] - x[1])));
    all.push(numbers(&format!("mul.lo.{n}"), t, 2, move |x| t.wrap(x[0].wrapping_mul(x[1]))));
    all.push(numbers(&format!("mad.lo.{n}"), t, 3, move |x| t.wrap(x[0].wrapping_mul(x[1]).wrapping_add(x[2]))));
    all.push(numbers(&format!("mul.hi.{n}"), t, 2, move |x| t.wrap(high(t, x[0], x[1]))));
    all.push(numbers(&format!("mad.hi.{n}"), t, 3, move |x| t.wrap(high(t, x[0], x[1]) + x[2])));
    all.push(numbers(&format!("sad.{n}"), t, 3, move |x| t.wrap(x[2] + (x[0] - x[1]).abs())));
    all.push(numbers(&format!("min.{n}"), t, 2, move |x| t.wrap(x[0].min(x[1]))));
    all.push(numbers(&format!("max.{n}"), t, 2, move |x| t.wrap(x[0].max(x[1]))));
    // Division by zero is unspecified in PTX; the emulator does as GPUs do.
    all.push(numbers(&format!("div.{n}"), t, 2, move |x| t.wrap(if x[1] == 0 { -1 } else { x[0] / x[1] })));
    all.push(numbers(&format!("rem.{n}"), t, 2, move |x| t.wrap(if x[1] == 0 { x[0] } else { x[0] % x[1] })));
    if t.signed {
        all.push(numbers(&format!("abs.{n}"), t, 1, move |x| t.wrap(x[0].abs())));
        all.push(numbers(&format!("neg.{n}"), t, 1, move |x| t.wrap(-x[0])));
    }
}

/// The upper half of a product, exact in 256 bits where 128 are too few.
fn high(t: Int, a: i128, b: i128) -> i128 {
    if t.bits < 64 || t.signed {
        return (a * b) >> t.bits;
    }
    ((a as u128 * b as u128) >> 64) as i128
}

fn widening(all: &mut Vec<Case>, t: Int) {
    let w = t.twice();
    let n = t.name;
    all.push(case(&format!("mul.wide.{n}"), w.kind().reg(), &[t.kind(); 2], move |x| {
        w.wrap(t.value(x[0]) * t.value(x[1]))
    }));
    all.push(case(&format!("mad.wide.{n}"), w.kind().reg(), &[t.kind(), t.kind(), w.kind()], move |x| {
        w.wrap(t.value(x[0]) * t.value(x[1]) + w.value(x[2]))
    }));
}

fn saturating(all: &mut Vec<Case>) {
    let t = INTS[3];
    all.push(numbers("add.sat.s32", t, 2, move |x| t.clamp(x[0] + x[1])));
    all.push(numbers("sub.sat.s32", t, 2, move |x| t.clamp(x[0] - x[1])));
    all.push(numbers("mad.hi.sat.s32", t, 3, move |x| t.clamp(high(t, x[0], x[1]) + x[2])));
    all.push(numbers("min.relu.s32", t, 2, move |x| t.wrap(x[0].min(x[1]).max(0))));
    all.push(numbers("max.relu.s32", t, 2, move |x| t.wrap(x[0].max(x[1]).max(0))));
}

fn products24(all: &mut Vec<Case>) {
    for t in [INTS[2], INTS[3]] {
        let n = t.name;
        let narrow = Int { bits: 24, ..t };
        let product = move |x: &[i128]| narrow.value(x[0] as u64) * narrow.value(x[1] as u64);
        all.push(numbers(&format!("mul24.lo.{n}"), t, 2, move |x| t.wrap(product(x))));
        all.push(numbers(&format!("mul24.hi.{n}"), t, 2, move |x| t.wrap(product(x) >> 16)));
        all.push(numbers(&format!("mad24.lo.{n}"), t, 3, move |x| t.wrap(product(x) + x[2])));
        all.push(numbers(&format!("mad24.hi.{n}"), t, 3, move |x| t.wrap((product(x) >> 16) + x[2])));
        if t.signed {
            all.push(numbers("mad24.hi.sat.s32", t, 3, move |x| t.clamp((product(x) >> 16) + x[2])));
        }
    }
}

fn dot_products(all: &mut Vec<Case>) {
    let word = INTS[2];
    for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
        let name = |signed| if signed { "s32" } else { "u32" };
        let types = format!("{}.{}", name(a), name(b));
        let part = |x: u64, i: u32, bits: u32, signed: bool| Int { name: "", bits, signed }.value(x >> (bits * i));
        all.push(case(&format!("dp4a.{types}"), Reg::B32, &[Kind::Bytes, Kind::Bytes, Kind::I32], move |x| {
            let sum: i128 = (0..4).map(|i| part(x[0], i, 8, a) * part(x[1], i, 8, b)).sum();
            word.wrap(sum + i128::from(x[2]))
        }));
        for (half, first) in [("lo", 0), ("hi", 2)] {
            let op = format!("dp2a.{half}.{types}");
            all.push(case(&op, Reg::B32, &[Kind::Bytes, Kind::Bytes, Kind::I32], move |x| {
                let sum: i128 = (0..2).map(|i| part(x[0], i, 16, a) * part(x[1], first + i, 8, b)).sum();
                word.wrap(sum + i128::from(x[2]))
            }));
        }
    }
}

/// Chains through the carry flag.
fn carries(all: &mut Vec<Case>) {
    for t in [INTS[2], INTS[3], INTS[4], INTS[5]] {
        let n = t.name;
        let (k, r) = (t.kind(), t.kind().reg());
        let number = Int { signed: false, ..t };
        let chain = [
            format!("add.cc.{n} {{d0}}, {{a0}}, {{a2}};"),
            format!("addc.cc.{n} {{d1}}, {{a1}}, {{a3}};"),
            format!("addc.{n} {{d2}}, 0, 0;"),
        ];
        let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
        all.push(lines(&format!("add.cc addc.cc addc.{n}"), &chain, &[r; 3], &[k; 4], move |x| {
            let low = number.value(x[0]) + number.value(x[2]);
            let high = number.value(x[1]) + number.value(x[3]) + (low >> t.bits);
            vec![Want::Bits(number.wrap(low)), Want::Bits(number.wrap(high)), Want::Bits((high >> t.bits) as u64)]
        }));
        let chain = [
            format!("sub.cc.{n} {{d0}}, {{a0}}, {{a2}};"),
            format!("subc.cc.{n} {{d1}}, {{a1}}, {{a3}};"),
            format!("subc.{n} {{d2}}, 0, 0;"),
        ];
        let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
        all.push(lines(&format!("sub.cc subc.cc subc.{n}"), &chain, &[r; 3], &[k; 4], move |x| {
            let low = number.value(x[0]) - number.value(x[2]);
            let high = number.value(x[1]) - number.value(x[3]) + (low >> t.bits);
            vec![Want::Bits(number.wrap(low)), Want::Bits(number.wrap(high)), Want::Bits(number.wrap(high >> t.bits))]
        }));
        let chain = [
            format!("mad.lo.cc.{n} {{d0}}, {{a0}}, {{a1}}, {{a2}};"),
            format!("madc.hi.{n} {{d1}}, {{a0}}, {{a1}}, {{a3}};"),
        ];
        let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
        all.push(lines(&format!("mad.lo.cc madc.hi.{n}"), &chain, &[r; 2], &[k; 4], move |x| {
            let (a, b) = (t.value(x[0]), t.value(x[1]));
            let low = number.value(t.wrap(a.wrapping_mul(b))) + number.value(x[2]);
            let high = high(t, a, b) + t.value(x[3]) + (low >> t.bits);
            vec![Want::Bits(number.wrap(low)), Want::Bits(number.wrap(high))]
        }));
    }
}
