//! Integer and bit instructions that need more than an expression: byte permutation, tables of three, carries, fields.
use crate::exec::cx::Cx;
use crate::exec::lane::{LANES, Lane, Ternary, ternary};
use crate::exec::op::{Flow, Op};
use crate::num::{bits, int, lanes as lanes_of};

/// `prmt` in index mode.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn permute(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: 32-bit registers by lowering.
    unsafe {
        let out = lanes_of::prmt(&*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b), &*cx.reg::<u32>(op.c));
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// The immediate of [`permute_fixed`] for a selector without sign replication: for each byte of the result, where it
/// comes from in `a` in the lower word and in `b` in the upper one, 0x80 where it comes from the other.
pub fn byte_indices(selector: u32) -> i64 {
    let (mut from_a, mut from_b) = (0u64, 0u64);
    for i in 0..4 {
        let nibble = u64::from(selector >> (4 * i) & 7);
        let (a, b) = if nibble < 4 { (nibble, 0x80) } else { (0x80, nibble - 4) };
        from_a |= a << (8 * i);
        from_b |= b << (8 * i);
    }
    (from_a | from_b << 32) as i64
}

/// `prmt` by a constant selector, given as [`byte_indices`].
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn permute_fixed(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: 32-bit registers by lowering.
    unsafe {
        let (from_a, from_b) = (op.imm as u32, (op.imm as u64 >> 32) as u32);
        let out = lanes_of::shuffle_bytes(&*cx.reg::<u32>(op.a), from_a, &*cx.reg::<u32>(op.b), from_b);
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// `lop3`: the immediate is the table.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn logic3(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    struct Table(u8);
    impl Ternary for Table {
        type A = u32;
        type B = u32;
        type C = u32;
        type D = u32;
        #[inline(always)]
        fn f(&self, a: u32, b: u32, c: u32) -> u32 {
            bits::lop3(a, b, c, self.0)
        }
    }
    // SAFETY: passed on. The usual tables as constants, which leave an instruction or two of the eight terms.
    unsafe {
        match op.imm as u8 {
            0xea => ternary(cx, op, mask, Table(0xea)),
            0xf8 => ternary(cx, op, mask, Table(0xf8)),
            0x96 => ternary(cx, op, mask, Table(0x96)),
            table => ternary(cx, op, mask, Table(table)),
        }
    }
}

/// `dp2a`: immediate bit 0: A signed, 1: B signed, 2: the high bytes of B.
#[inline(always)]
pub fn dp2a(a: u32, b: u32, c: u32, imm: i64) -> u32 {
    match imm & 7 {
        0 => int::dp2a::<false, false, false>(a, b, c),
        1 => int::dp2a::<true, false, false>(a, b, c),
        2 => int::dp2a::<false, true, false>(a, b, c),
        3 => int::dp2a::<true, true, false>(a, b, c),
        4 => int::dp2a::<false, false, true>(a, b, c),
        5 => int::dp2a::<true, false, true>(a, b, c),
        6 => int::dp2a::<false, true, true>(a, b, c),
        _ => int::dp2a::<true, true, true>(a, b, c),
    }
}

/// `prmt` modes by number, in PTX's order.
pub const PRMT_MODES: [&str; 6] = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"];

/// The mode of an immediate: an index into [`PRMT_MODES`].
#[inline(always)]
pub fn prmt_mode(imm: i64) -> bits::Prmt {
    use bits::Prmt;
    [Prmt::F4e, Prmt::B4e, Prmt::Rc8, Prmt::Ecl, Prmt::Ecr, Prmt::Rc16][imm as usize % 6]
}

/// Clamps a signed value to an integer type: the immediate is its width, negative if it is signed.
#[inline(always)]
pub fn clamp_s64(a: i64, imm: i64) -> i64 {
    match imm {
        64 => a.max(0),
        1..64 => a.clamp(0, (1 << imm) - 1),
        -64 => a,
        _ => a.clamp(-1 << (-imm - 1), (1 << (-imm - 1)) - 1),
    }
}

/// As [`clamp_s64`], of an unsigned value.
#[inline(always)]
pub fn clamp_u64(a: u64, imm: i64) -> i64 {
    match imm {
        64 => a as i64,
        1..64 => a.min((1 << imm) - 1) as i64,
        _ => a.min((1 << (-imm - 1)) - 1) as i64,
    }
}

/// Words with a carry.
pub trait Word: Lane {
    /// Sum (or difference) and carry (or borrow) out.
    fn carry(a: Self, b: Self, carry: bool, subtract: bool) -> (Self, bool);
    /// `bfi`.
    fn insert(a: Self, b: Self, pos: u32, len: u32) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn carry(a: u32, b: u32, carry: bool, subtract: bool) -> (u32, bool) {
        if subtract { int::subc_u32(a, b, carry) } else { int::addc_u32(a, b, carry) }
    }
    #[inline(always)]
    fn insert(a: u32, b: u32, pos: u32, len: u32) -> u32 {
        bits::bfi_b32(a, b, pos, len)
    }
}

impl Word for u64 {
    #[inline(always)]
    fn carry(a: u64, b: u64, carry: bool, subtract: bool) -> (u64, bool) {
        if subtract { int::subc_u64(a, b, carry) } else { int::addc_u64(a, b, carry) }
    }
    #[inline(always)]
    fn insert(a: u64, b: u64, pos: u32, len: u32) -> u64 {
        bits::bfi_b64(a, b, pos, len)
    }
}

/// `add{c}{.cc}` and `sub{c}{.cc}`: destinations sum and carry, sources a, b and carry in.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn carry<T: Word, const SUB: bool>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let (a, b, carry) = (*cx.reg::<T::In>(op.a), *cx.reg::<T::In>(op.b), cx.pred(op.c));
        let (mut sum, mut out) = (a, 0);
        for l in 0..LANES {
            let (s, c) = T::carry(T::get(a[l]), T::get(b[l]), carry >> l & 1 != 0, SUB);
            sum[l] = s.put();
            out |= u32::from(c) << l;
        }
        cx.set(op.d, mask, &sum);
        cx.set_pred(cx.more(op, 1), mask, out);
    }
    Flow::Next
}

/// `bfi`: sources a, b, position, length.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn insert<T: Word>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let (a, b) = (&*cx.reg::<T::In>(op.a), &*cx.reg::<T::In>(op.b));
        let (pos, len) = (&*cx.reg::<u32>(op.c), &*cx.reg::<u32>(cx.more(op, 4)));
        let mut out = *a;
        for l in 0..LANES {
            out[l] = T::insert(T::get(a[l]), T::get(b[l]), pos[l], len[l]).put();
        }
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}
