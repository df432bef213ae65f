//! `mma.sync`: matrix products of a warp over fragments in registers.
//!
//! A is M x K by rows, B is K x N by columns, C and D are M x N. With group `g = lane / 4` and `t = lane % 4`, a register
//! of A holds the `32 / bits` elements of row `g` (or `g + 8`) from column `t * 32 / bits`, a register of B the same of
//! column `g`, and registers `2i` and `2i + 1` of C and D the columns `2t` and `2t + 1` of row `g + 8i` (`f16`: both in
//! register `i`). So a register of A is an 8-row tile in memory order, and one of B its transpose.
//!
//! Rounding, `f32` results: C is loaded, then `k` = 0, 1, ... K-1 are added by fused multiply-adds, each rounded to
//! nearest. A tensor core instead adds blocks of exact products (8 or 16 long) at once, aligned to the largest exponent
//! and truncated to about 24 bits, so results differ in the last bits; products of finite inputs are exact in both. `f16`
//! results are the `f32` sums rounded once at the end. `tf32` inputs lose their low 13 bits. Integer results wrap, or
//! with `.satfinite` the exact sum is clamped.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use super::Lanes;

/// Element types of A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// `.f16`
    F16,
    /// `.bf16`
    Bf16,
    /// `.tf32`
    Tf32,
    /// `.e4m3`
    E4m3,
    /// `.e5m2`
    E5m2,
    /// `.s8`
    S8,
    /// `.u8`
    U8,
}

impl Element {
    fn parse(name: &str) -> Option<Element> {
        Some(match name {
            "f16" => Element::F16,
            "bf16" => Element::Bf16,
            "tf32" => Element::Tf32,
            "e4m3" => Element::E4m3,
            "e5m2" => Element::E5m2,
            "s8" => Element::S8,
            "u8" => Element::U8,
            _ => return None,
        })
    }

    /// Elements in a 32-bit register.
    fn per_register(self) -> usize {
        match self {
            Element::Tf32 => 1,
            Element::F16 | Element::Bf16 => 2,
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 4,
        }
    }
}

/// Types of C and D.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sum {
    /// `.f32`
    F32,
    /// `.f16`
    F16,
    /// `.s32`
    S32,
}

/// One form of `mma.sync` over 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mma {
    /// Rows of A and D: 16, or 8 for `m8n8k16`.
    pub m: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Type of A.
    pub a: Element,
    /// Type of B.
    pub b: Element,
    /// Type of C and D.
    pub sum: Sum,
    /// `.satfinite`: clamp integer sums.
    pub saturate: bool,
}

/// Registers of the operands, as many as [`Mma::registers`] says; the others are ignored.
#[derive(Clone, Copy)]
pub struct Fragments<'a> {
    /// A.
    pub a: [&'a Lanes; 4],
    /// B.
    pub b: [&'a Lanes; 2],
    /// C.
    pub c: [&'a Lanes; 4],
}

impl Mma {
    /// Reads the dotted parts after `mma.sync.aligned`: shape, `row.col`, `satfinite`, then the types of D, A, B and C.
    pub fn parse(parts: &[&str]) -> Option<Mma> {
        let (shape, rest) = parts.split_first()?;
        let rest = rest.strip_prefix(&["row", "col"])?;
        let (saturate, rest) = match rest.strip_prefix(&["satfinite"]) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let [d, a, b, c] = rest else { return None };
        let (m, k) = match *shape {
            "m16n8k4" => (16, 4),
            "m16n8k8" => (16, 8),
            "m16n8k16" => (16, 16),
            "m16n8k32" => (16, 32),
            "m8n8k16" => (8, 16),
            _ => return None,
        };
        let (a, b) = (Element::parse(a)?, Element::parse(b)?);
        let sum = match *d {
            "f32" => Sum::F32,
            "f16" => Sum::F16,
            "s32" => Sum::S32,
            _ => return None,
        };
        let mma = Mma { m, k, a, b, sum, saturate };
        (d == c && mma.exists()).then_some(mma)
    }

    /// Is this one of PTX's combinations?
    fn exists(&self) -> bool {
        use Element::{Bf16, E4m3, E5m2, F16, S8, Tf32, U8};
        let integers = matches!((self.a, self.b), (S8 | U8, S8 | U8));
        let shape = match (self.a, self.b) {
            (F16, F16) | (Bf16, Bf16) => self.m == 16 && matches!(self.k, 8 | 16),
            (Tf32, Tf32) => self.m == 16 && matches!(self.k, 4 | 8),
            (E4m3 | E5m2, E4m3 | E5m2) => self.m == 16 && matches!(self.k, 16 | 32),
            (S8 | U8, S8 | U8) => matches!((self.m, self.k), (8, 16) | (16, 16) | (16, 32)),
            _ => false,
        };
        let sum = match self.sum {
            Sum::F32 => !integers,
            Sum::F16 => matches!(self.a, F16 | E4m3 | E5m2),
            Sum::S32 => integers,
        };
        shape && sum && (integers || !self.saturate)
    }

    /// Registers of A, of B, and of C and D.
    pub fn registers(&self) -> (usize, usize, usize) {
        let b = self.k / (4 * self.a.per_register());
        let d = match self.sum {
            Sum::F16 => self.m / 8,
            Sum::F32 | Sum::S32 => self.m / 4,
        };
        (b * self.m / 8, b, d)
    }

    /// Multiply-add operations, as a tensor core counts them.
    pub fn operations(&self) -> u64 {
        (self.m * 8 * self.k * 2) as u64
    }

    /// `d = a * b + c`; registers of `d` beyond the form's number are left as they are.
    pub fn run(&self, fragments: &Fragments, d: &mut [Lanes; 4]) {
        #[cfg(target_arch = "x86_64")]
        if avx2::run(self, fragments, d) {
            return;
        }
        portable::run(self, fragments, d);
    }
}

/// `mma.sync.aligned.m8n8k4.row.col.f64`: A and B one element a lane, C and D columns `2t` and `2t + 1` of row `g`;
/// fused multiply-adds in the order of `k`, as the hardware does.
pub fn run_f64(a: &[f64; 32], b: &[f64; 32], c: [&[f64; 32]; 2]) -> [[f64; 32]; 2] {
    std::array::from_fn(|i| {
        std::array::from_fn(|lane| {
            let (row, column) = (lane / 4, 2 * (lane % 4) + i);
            (0..4).fold(c[i][lane], |sum, k| a[4 * row + k].mul_add(b[4 * column + k], sum))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [&str; 17] = [
        "m16n8k16.row.col.f32.f16.f16.f32",
        "m16n8k16.row.col.f32.bf16.bf16.f32",
        "m16n8k16.row.col.f16.f16.f16.f16",
        "m16n8k8.row.col.f32.f16.f16.f32",
        "m16n8k8.row.col.f32.bf16.bf16.f32",
        "m16n8k8.row.col.f16.f16.f16.f16",
        "m16n8k8.row.col.f32.tf32.tf32.f32",
        "m16n8k4.row.col.f32.tf32.tf32.f32",
        "m16n8k32.row.col.f32.e4m3.e4m3.f32",
        "m16n8k32.row.col.f32.e4m3.e5m2.f32",
        "m16n8k32.row.col.f16.e5m2.e5m2.f16",
        "m16n8k16.row.col.f32.e5m2.e4m3.f32",
        "m16n8k32.row.col.satfinite.s32.s8.s8.s32",
        "m16n8k32.row.col.s32.u8.s8.s32",
        "m16n8k16.row.col.s32.s8.u8.s32",
        "m16n8k16.row.col.satfinite.s32.u8.u8.s32",
        "m8n8k16.row.col.s32.s8.s8.s32",
    ];

    fn parse(form: &str) -> Option<Mma> {
        Mma::parse(&form.split('.').collect::<Vec<_>>())
    }

    /// Random bits; NaNs and infinities of every type occur among them.
    fn random(seed: &mut u64) -> Lanes {
        std::array::from_fn(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 32) as u32
        })
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx2_gives_the_same_bits_as_the_portable_form() {
        for form in FORMS {
            let mma = parse(form).expect(form);
            for start in 0..200u64 {
                let mut seed = start;
                let registers: [Lanes; 10] = std::array::from_fn(|_| random(&mut seed));
                let r = |i: usize| &registers[i];
                let f = Fragments { a: [r(0), r(1), r(2), r(3)], b: [r(4), r(5)], c: [r(6), r(7), r(8), r(9)] };
                let (mut got, mut want) = ([[7; 32]; 4], [[7; 32]; 4]);
                portable::run(&mma, &f, &mut want);
                if avx2::run(&mma, &f, &mut got) {
                    assert_eq!(got, want, "{form}, seed {start}");
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn columns_that_are_alike_give_the_same_bits() {
        for form in &FORMS[..5] {
            let mma = parse(form).expect(form);
            for start in 0..400u64 {
                let mut seed = start;
                let mut registers: [Lanes; 10] = std::array::from_fn(|_| random(&mut seed));
                if start % 2 == 0 {
                    // Numbers near one.
                    registers.iter_mut().flatten().for_each(|x| *x = *x & 0xbbff_bbff | 0x3800_3800);
                }
                for b in &mut registers[4..6] {
                    *b = std::array::from_fn(|lane| b[lane % 4]);
                }
                for pair in [6, 8] {
                    let even = registers[pair];
                    registers[pair] = std::array::from_fn(|lane| even[lane / 4 * 4]);
                    registers[pair + 1] = registers[pair];
                }
                if start % 5 == 0 {
                    // One element differs.
                    registers[4 + start as usize % 6][start as usize % 32] ^= 1;
                }
                let r = |i: usize| &registers[i];
                let f = Fragments { a: [r(0), r(1), r(2), r(3)], b: [r(4), r(5)], c: [r(6), r(7), r(8), r(9)] };
                let (mut got, mut want) = ([[7; 32]; 4], [[7; 32]; 4]);
                portable::run(&mma, &f, &mut want);
                if avx2::run(&mma, &f, &mut got) {
                    assert_eq!(got, want, "{form}, seed {start}");
                }
            }
        }
    }

    #[test]
    fn forms_that_ptx_lacks_are_refused() {
        for form in [
            "m16n8k16.row.col.f32.tf32.tf32.f32",
            "m16n8k16.row.row.f32.f16.f16.f32",
            "m16n8k16.row.col.f32.f16.bf16.f32",
            "m16n8k16.row.col.f16.bf16.bf16.f16",
            "m16n8k16.row.col.satfinite.f32.f16.f16.f32",
            "m16n8k8.row.col.s32.s8.s8.s32",
            "m16n8k16.row.col.f32.f16.f16",
        ] {
            assert_eq!(parse(form), None, "{form}");
        }
        assert_eq!(parse(FORMS[0]).map(|m| m.registers()), Some((4, 2, 4)));
        assert_eq!(parse(FORMS[5]).map(|m| m.registers()), Some((2, 1, 2)));
        assert_eq!(parse(FORMS[16]).map(|m| m.registers()), Some((1, 1, 2)));
    }

    #[test]
    fn identity_times_a_matrix_is_the_matrix() {
        let mma = parse(FORMS[0]).expect("f16");
        let one_if = |row: usize, k: usize| u32::from(row == k) * 0x3c00;
        let a: [Lanes; 4] = std::array::from_fn(|i| {
            std::array::from_fn(|lane| {
                let (row, k) = (lane / 4 + 8 * (i % 2), 2 * (lane % 4) + 8 * (i / 2));
                one_if(row, k) | one_if(row, k + 1) << 16
            })
        });
        let value = |k: usize, n: usize| u32::from(half::f16::from_f32((8 * k + n) as f32).to_bits());
        let b: [Lanes; 2] = std::array::from_fn(|i| {
            std::array::from_fn(|lane| {
                let (k, n) = (2 * (lane % 4) + 8 * i, lane / 4);
                value(k, n) | value(k + 1, n) << 16
            })
        });
        let zero = [0; 32];
        let mut d = [[0; 32]; 4];
        let f = Fragments { a: [&a[0], &a[1], &a[2], &a[3]], b: [&b[0], &b[1]], c: [&zero; 4] };
        mma.run(&f, &mut d);
        for (i, register) in d.iter().enumerate() {
            for (lane, &bits) in register.iter().enumerate() {
                let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
                assert_eq!(f32::from_bits(bits), (8 * row + column) as f32, "register {i}, lane {lane}");
            }
        }
    }
}
