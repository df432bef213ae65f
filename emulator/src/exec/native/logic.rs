//! Templates of comparisons, tables of three and byte permutations.
use super::alu::{Parts, every_other};
use super::encode::*;
use super::run::{Run, T};

/// A function of one bit: what is left of a table when two of its inputs are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bit {
    Zero,
    One,
    Same,
    Not,
}

impl Bit {
    /// Of the table's two bits.
    fn of(bits: u8) -> Bit {
        [Bit::Zero, Bit::Not, Bit::Same, Bit::One][bits as usize & 3]
    }
}

/// `lop3`: the table's index is `4a + 2b + c`. Either half of the table is a function of `b` and `c`, between which `a` chooses.
pub fn lop3(r: &mut Run<'_, '_>, table: u8, d: Ymm, [a, b, c]: [Ymm; 3]) {
    match table {
        0xea => {
            r.code.asm.op3(VPAND, d, a, b);
            return r.code.asm.op3(VPOR, d, d, c);
        }
        0xf8 => {
            r.code.asm.op3(VPAND, d, b, c);
            return r.code.asm.op3(VPOR, d, d, a);
        }
        _ => {}
    }
    let (low, high) = (table & 15, table >> 4);
    of_two(r, low, T[1], b, c);
    if high == low {
        return r.code.asm.op3(VPOR, d, T[1], T[1]);
    }
    if high == !low & 15 {
        return r.code.asm.op3(VPXOR, d, T[1], a);
    }
    of_two(r, high ^ low, T[2], b, c);
    r.code.asm.op3(VPAND, d, T[2], a);
    r.code.asm.op3(VPXOR, d, d, T[1]);
}

/// A function of two inputs; destroys T0.
fn of_two(r: &mut Run<'_, '_>, table: u8, d: Ymm, b: Ymm, c: Ymm) {
    let (low, high) = (Bit::of(table), Bit::of(table >> 2));
    of_one(r, low, d, c);
    if low == high {
        return;
    }
    match Bit::of(table ^ table >> 2) {
        Bit::One => r.code.asm.op3(VPXOR, d, d, b),
        change => {
            of_one(r, change, T[0], c);
            r.code.asm.op3(VPAND, T[0], T[0], b);
            r.code.asm.op3(VPXOR, d, d, T[0]);
        }
    }
}

fn of_one(r: &mut Run<'_, '_>, bit: Bit, d: Ymm, c: Ymm) {
    let ones = r.code.word(!0);
    let asm = &mut r.code.asm;
    match bit {
        Bit::Zero => asm.op3(VPXOR, d, d, d),
        Bit::One => asm.op3(VPCMPEQD, d, d, d),
        Bit::Same => asm.op3(VPOR, d, c, c),
        Bit::Not => asm.op3(VPXOR, d, c, ones),
    }
}

/// `prmt` by known indices, given as [`crate::exec::ops::words::byte_indices`].
pub fn permute(r: &mut Run<'_, '_>, indices: i64, d: Ymm, a: Ymm, b: Ymm) {
    const NOTHING: u32 = 0x8080_8080;
    let (from_a, from_b) = (indices as u32, (indices as u64 >> 32) as u32);
    // The first byte of each word of 16 bytes; 0x80 stays above 0x7f, which gives zero.
    let in_words = |from: u32| std::array::from_fn(|word| from | (0x0404_0404 * (word as u32 & 3)));
    if a == b {
        // Each byte comes from one of the two, and 0x80 stands in the other.
        let both = r.code.constant(in_words(from_a & from_b | (from_a | from_b) & 0x7f7f_7f7f));
        return r.code.asm.op3(VPSHUFB, d, a, both);
    }
    let (for_a, for_b) = (r.code.constant(in_words(from_a)), r.code.constant(in_words(from_b)));
    if from_a == NOTHING {
        return r.code.asm.op3(VPSHUFB, d, b, for_b);
    }
    r.code.asm.op3(VPSHUFB, d, a, for_a);
    if from_b != NOTHING {
        r.code.asm.op3(VPSHUFB, T[0], b, for_b);
        r.code.asm.op3(VPOR, d, d, T[0]);
    }
}

/// Turns a mask round if the operator is the contrary (ne, le, ge) of the one that was computed.
fn contrary(r: &mut Run<'_, '_>, operator: i64, d: Ymm) {
    if operator & 1 != 0 {
        let ones = r.code.word(!0);
        r.code.asm.op3(VPXOR, d, d, ones);
    }
}

/// `setp.s32`
pub fn compare32(r: &mut Run<'_, '_>, operator: i64, d: Ymm, a: Ymm, b: Ymm) {
    match operator {
        0 | 1 => r.code.asm.op3(VPCMPEQD, d, a, b),
        2 | 5 => r.code.asm.op3(VPCMPGTD, d, b, a),
        _ => r.code.asm.op3(VPCMPGTD, d, a, b),
    }
    contrary(r, operator, d);
}

/// `setp.u32`
pub fn compare_u32(r: &mut Run<'_, '_>, operator: i64, d: Ymm, a: Ymm, b: Ymm) {
    let form = match operator {
        0 | 1 => return compare32(r, operator, d, a, b),
        // a >= b and its contrary: the greater one is a.
        2 | 5 => VPMAXUD,
        _ => VPMINUD,
    };
    r.code.asm.op3(form, d, a, b);
    r.code.asm.op3(VPCMPEQD, d, d, a);
    contrary(r, operator ^ 1, d);
}

/// `setp.s64` and `setp.u64`
pub fn compare64(r: &mut Run<'_, '_>, operator: i64, unsigned: bool, d: Ymm, a: Parts, b: Parts) {
    let top = r.code.constant([0, 1 << 31, 0, 1 << 31, 0, 1 << 31, 0, 1 << 31]);
    for i in 0..2 {
        let asm = &mut r.code.asm;
        let (mut x, mut y) = if matches!(operator, 2 | 5) { (b[i], a[i]) } else { (a[i], b[i]) };
        if unsigned && operator > 1 {
            asm.op3(VPXOR, T[2], x, top);
            asm.op3(VPXOR, T[3], y, top);
            (x, y) = (T[2], T[3]);
        }
        asm.op3(if operator < 2 { VPCMPEQQ } else { VPCMPGTQ }, T[i], x, y);
    }
    every_other(r, d, [T[0], T[1]], 0);
    contrary(r, operator, d);
}
