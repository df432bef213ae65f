//! The native column of the op table: for each operation that has one, its template, which writes the code for eight
//! lanes.
//!
//! Invariants: a template computes what the table's lane function does, bit for bit, for every lane (the operation's
//! guard is applied afterwards); it writes its result's registers and [`T`], and nothing else. The result's registers are
//! none of the sources'. A 64-bit register takes two vector registers, lanes 0 to 3 and 4 to 7; a predicate is a mask.
use super::encode::*;
use super::halves;
use super::run::{Run, T};
use crate::exec::op::Op;
use crate::exec::table::Code;

/// Kinds of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bit a lane.
    Pred,
    /// 32 bits a lane.
    Word,
    /// 64 bits a lane.
    Double,
}

impl Kind {
    /// Vector registers that eight lanes take.
    pub fn parts(self) -> u8 {
        if self == Kind::Double { 2 } else { 1 }
    }
}

/// The vector registers of a register, of which all but doubles use the first.
pub type Parts = [Ymm; 2];

/// Writes an operation: result and sources.
pub type Emit = fn(&mut Run<'_, '_>, &Op, Parts, [Parts; 3]);

/// How an operation is written.
#[derive(Clone, Copy)]
pub struct Template {
    /// Kind of its result, operand `d`.
    pub result: Kind,
    /// Kinds of its sources, operands `a`, `b`, `c`.
    pub sources: &'static [Kind],
    /// The code.
    pub emit: Emit,
}

/// The template of an operation; `None`: its handler is called.
pub fn template(op: &Op) -> Option<Template> {
    use Kind::{Double as D, Pred as P, Word as W};
    let t = |result, sources, emit: Emit| Some(Template { result, sources, emit });
    macro_rules! plain {
        ($form:ident, $kind:ident) => {
            t($kind, &[$kind, $kind], |r, _, d, [a, b, _]| {
                for part in 0..$kind.parts() as usize {
                    r.code.asm.op3($form, d[part], a[part], b[part]);
                }
            })
        };
        ($form:ident, $kind:ident by W) => {
            t($kind, &[$kind, W], |r, _, d, [a, b, _]| shift(r, $form, $kind, d, a, b))
        };
    }
    match op.code {
        Code::Mov32 => t(W, &[W], |r, _, d, [a, ..]| copy(r, W, d, a)),
        Code::Mov64 => t(D, &[D], |r, _, d, [a, ..]| copy(r, D, d, a)),
        Code::PredMov => t(P, &[P], |r, _, d, [a, ..]| copy(r, P, d, a)),
        Code::Add32 => plain!(VPADDD, W),
        Code::Add64 => plain!(VPADDQ, D),
        Code::Sub32 => plain!(VPSUBD, W),
        Code::Sub64 => plain!(VPSUBQ, D),
        Code::MulLo32 => plain!(VPMULLD, W),
        Code::MinU32 => plain!(VPMINUD, W),
        Code::MinS32 => plain!(VPMINSD, W),
        Code::MaxU32 => plain!(VPMAXUD, W),
        Code::MaxS32 => plain!(VPMAXSD, W),
        Code::And32 => plain!(VPAND, W),
        Code::And64 => plain!(VPAND, D),
        Code::PredAnd => plain!(VPAND, P),
        Code::Or32 => plain!(VPOR, W),
        Code::Or64 => plain!(VPOR, D),
        Code::PredOr => plain!(VPOR, P),
        Code::Xor32 => plain!(VPXOR, W),
        Code::Xor64 => plain!(VPXOR, D),
        Code::PredXor => plain!(VPXOR, P),
        Code::Shl32 => plain!(VPSLLVD, W by W),
        Code::ShrU32 => plain!(VPSRLVD, W by W),
        Code::ShrS32 => plain!(VPSRAVD, W by W),
        Code::Shl64 => plain!(VPSLLVQ, D by W),
        Code::ShrU64 => plain!(VPSRLVQ, D by W),
        Code::Not32 => t(W, &[W], |r, _, d, [a, ..]| not(r, W, d, a)),
        Code::Not64 => t(D, &[D], |r, _, d, [a, ..]| not(r, D, d, a)),
        Code::PredNot => t(P, &[P], |r, _, d, [a, ..]| not(r, P, d, a)),
        Code::Lop3 => {
            t(W, &[W, W, W], |r, op, d, [a, b, c]| super::logic::lop3(r, op.imm as u8, d[0], [a[0], b[0], c[0]]))
        }
        Code::MadLo32 => t(W, &[W, W, W], |r, _, d, [a, b, c]| {
            r.code.asm.op3(VPMULLD, d[0], a[0], b[0]);
            r.code.asm.op3(VPADDD, d[0], d[0], c[0]);
        }),
        Code::MulWideU32 => t(D, &[W, W], |r, _, d, [a, b, _]| wide(r, VPMULUDQ, d, a[0], b[0], None)),
        Code::MulWideS32 => t(D, &[W, W], |r, _, d, [a, b, _]| wide(r, VPMULDQ, d, a[0], b[0], None)),
        Code::MadWideU32 => t(D, &[W, W, D], |r, _, d, [a, b, c]| wide(r, VPMULUDQ, d, a[0], b[0], Some(c))),
        Code::MadWideS32 => t(D, &[W, W, D], |r, _, d, [a, b, c]| wide(r, VPMULDQ, d, a[0], b[0], Some(c))),
        Code::MulLo64 => t(D, &[D, D], |r, _, d, [a, b, _]| product64(r, d, a, b)),
        Code::ExtU64 => t(D, &[W], |r, _, d, [a, ..]| extend(r, VPMOVZXDQ, d, a[0])),
        Code::ExtS64 => t(D, &[W], |r, _, d, [a, ..]| extend(r, VPMOVSXDQ, d, a[0])),
        Code::Low32 => t(W, &[D], |r, _, d, [a, ..]| every_other(r, d[0], a, 0)),
        Code::High32 => t(W, &[D], |r, _, d, [a, ..]| every_other(r, d[0], a, 1)),
        Code::Pack32 => t(D, &[W, W], |r, _, d, [low, high, _]| {
            extend(r, VPMOVZXDQ, d, high[0]);
            extend(r, VPMOVZXDQ, [T[0], T[1]], low[0]);
            for part in 0..2 {
                r.code.asm.op2i(VPSLLQ, d[part], d[part], 32);
                r.code.asm.op3(VPOR, d[part], d[part], T[part]);
            }
        }),
        Code::Pack16 => t(W, &[W, W], |r, _, d, [low, high, _]| {
            let mask = r.code.word(0xffff);
            let asm = &mut r.code.asm;
            asm.op2i(VPSLLD, d[0], high[0], 16);
            asm.op3(VPAND, T[0], low[0], mask);
            asm.op3(VPOR, d[0], d[0], T[0]);
        }),
        Code::High16 => t(W, &[W], |r, _, d, [a, ..]| r.code.asm.op2i(VPSRLD, d[0], a[0], 16)),
        Code::ExtU8 => t(W, &[W], |r, _, d, [a, ..]| mask(r, d[0], a[0], 0xff)),
        Code::ExtU16 => t(W, &[W], |r, _, d, [a, ..]| mask(r, d[0], a[0], 0xffff)),
        Code::ExtS8 => t(W, &[W], |r, _, d, [a, ..]| signed(r, d[0], a[0], 24)),
        Code::ExtS16 => t(W, &[W], |r, _, d, [a, ..]| signed(r, d[0], a[0], 16)),
        Code::Abs32 => t(W, &[W], |r, _, d, [a, ..]| r.code.asm.op2(VPABSD, d[0], a[0])),
        Code::Neg32 => t(W, &[W], |r, _, d, [a, ..]| {
            r.code.asm.op3(VPXOR, T[0], T[0], T[0]);
            r.code.asm.op3(VPSUBD, d[0], T[0], a[0]);
        }),
        Code::PrmtFixed => t(W, &[W, W], |r, op, d, [a, b, _]| super::logic::permute(r, op.imm, d[0], a[0], b[0])),
        Code::Select32 => t(W, &[W, W, P], |r, _, d, [a, b, c]| r.code.asm.blend(VPBLENDVB, d[0], b[0], a[0], c[0])),
        Code::Select64 => t(D, &[D, D, P], |r, _, d, [a, b, c]| {
            let masks = r.widen(c[0]);
            (0..2).for_each(|i| r.code.asm.blend(VPBLENDVB, d[i], b[i], a[i], masks[i]));
        }),
        Code::SetpS32 => t(P, &[W, W], |r, op, d, [a, b, _]| super::logic::compare32(r, op.imm, d[0], a[0], b[0])),
        Code::SetpU32 => t(P, &[W, W], |r, op, d, [a, b, _]| super::logic::compare_u32(r, op.imm, d[0], a[0], b[0])),
        Code::SetpS64 => t(P, &[D, D], |r, op, d, [a, b, _]| super::logic::compare64(r, op.imm, false, d[0], a, b)),
        Code::SetpU64 => t(P, &[D, D], |r, op, d, [a, b, _]| super::logic::compare64(r, op.imm, true, d[0], a, b)),
        Code::SetpF32 => t(P, &[W, W], |r, op, d, [a, b, _]| {
            r.code.asm.op3i(VCMPPS, d[0], a[0], b[0], FLOAT_OPERATORS[op.imm as usize % FLOAT_OPERATORS.len()]);
        }),
        Code::NonZero32 => t(P, &[W], |r, _, d, [a, ..]| {
            r.code.asm.op3(VPXOR, T[0], T[0], T[0]);
            r.code.asm.op3(VPCMPEQD, T[0], T[0], a[0]);
            not(r, P, d, [T[0]; 2]);
        }),
        Code::AddF32 => t(W, &[W, W], |r, _, d, [a, b, _]| float(r, VADDPS, d[0], a[0], b[0])),
        Code::SubF32 => t(W, &[W, W], |r, _, d, [a, b, _]| float(r, VSUBPS, d[0], a[0], b[0])),
        Code::MulF32 => t(W, &[W, W], |r, _, d, [a, b, _]| float(r, VMULPS, d[0], a[0], b[0])),
        Code::DivF32 => t(W, &[W, W], |r, _, d, [a, b, _]| float(r, VDIVPS, d[0], a[0], b[0])),
        Code::FmaF32 => t(W, &[W, W, W], |r, _, d, [a, b, c]| {
            r.code.asm.op3(VPOR, d[0], a[0], a[0]);
            r.code.asm.op3(VFMADD213PS, d[0], b[0], c[0]);
            canonical(r, d[0]);
        }),
        Code::DivU32 => t(W, &[W, W], |r, _, d, [a, b, _]| quotient(r, d[0], a[0], b[0])),
        Code::RemU32 => t(W, &[W, W], |r, _, d, [a, b, _]| {
            quotient(r, d[0], a[0], b[0]);
            r.code.asm.op3(VPMULLD, d[0], d[0], b[0]);
            r.code.asm.op3(VPSUBD, d[0], a[0], d[0]);
        }),
        Code::AbsF32 => t(W, &[W], |r, _, d, [a, ..]| mask(r, d[0], a[0], 0x7fff_ffff)),
        Code::NegF32 => t(W, &[W], |r, _, d, [a, ..]| {
            let sign = r.code.word(0x8000_0000);
            r.code.asm.op3(VPXOR, d[0], a[0], sign);
        }),
        Code::MinF32 => t(W, &[W, W], |r, _, d, [a, b, _]| extreme(r, false, d[0], a[0], b[0])),
        Code::MaxF32 => t(W, &[W, W], |r, _, d, [a, b, _]| extreme(r, true, d[0], a[0], b[0])),
        Code::CvtF32S32 => t(W, &[W], |r, _, d, [a, ..]| r.code.asm.op2(VCVTDQ2PS, d[0], a[0])),
        Code::HAddF16x2 if op.imm == 0 => {
            t(W, &[W, W], |r, _, d, [a, b, _]| halves::binary(r, VADDPS, d[0], a[0], b[0]))
        }
        Code::HSubF16x2 if op.imm == 0 => {
            t(W, &[W, W], |r, _, d, [a, b, _]| halves::binary(r, VSUBPS, d[0], a[0], b[0]))
        }
        Code::HMulF16x2 if op.imm == 0 => {
            t(W, &[W, W], |r, _, d, [a, b, _]| halves::binary(r, VMULPS, d[0], a[0], b[0]))
        }
        Code::HFmaF16x2 if op.imm == 0 => {
            t(W, &[W, W, W], |r, _, d, [a, b, c]| halves::fused(r, d[0], [a[0], b[0], c[0]]))
        }
        Code::CvtF16x2F32 if op.imm == 0 => {
            t(W, &[W, W], |r, _, d, [high, low, _]| halves::pack(r, d[0], high[0], low[0]))
        }
        _ => None,
    }
}

/// The predicates of `vcmpps` for the operators of `setp`.
const FLOAT_OPERATORS: [u8; 14] = [0x00, 0x0c, 0x11, 0x12, 0x1e, 0x1d, 0x08, 0x04, 0x19, 0x1a, 0x16, 0x15, 0x07, 0x03];

fn copy(r: &mut Run<'_, '_>, kind: Kind, d: Parts, a: Parts) {
    (0..kind.parts() as usize).for_each(|i| r.code.asm.op3(VPOR, d[i], a[i], a[i]));
}

fn not(r: &mut Run<'_, '_>, kind: Kind, d: Parts, a: Parts) {
    let ones = r.code.word(!0);
    (0..kind.parts() as usize).for_each(|i| r.code.asm.op3(VPXOR, d[i], a[i], ones));
}

fn mask(r: &mut Run<'_, '_>, d: Ymm, a: Ymm, mask: u32) {
    let mask = r.code.word(mask);
    r.code.asm.op3(VPAND, d, a, mask);
}

fn signed(r: &mut Run<'_, '_>, d: Ymm, a: Ymm, bits: u8) {
    r.code.asm.op2i(VPSLLD, d, a, bits);
    r.code.asm.op2i(VPSRAD, d, d, bits);
}

/// Shifts by amounts of 32 bits; the instructions do with large ones what PTX does.
fn shift(r: &mut Run<'_, '_>, form: Form, kind: Kind, d: Parts, a: Parts, amount: Parts) {
    if kind == Kind::Double {
        extend(r, VPMOVZXDQ, [T[0], T[1]], amount[0]);
        (0..2).for_each(|i| r.code.asm.op3(form, d[i], a[i], T[i]));
    } else {
        r.code.asm.op3(form, d[0], a[0], amount[0]);
    }
}

fn extend(r: &mut Run<'_, '_>, form: Form, d: Parts, a: Ymm) {
    let asm = &mut r.code.asm;
    asm.op2(form, d[0], a);
    asm.store(VEXTRACTI128, d[1], a, Some(1));
    asm.op2(form, d[1], d[1]);
}

/// The even (0) or odd (1) words of two registers.
pub fn every_other(r: &mut Run<'_, '_>, d: Ymm, a: Parts, odd: u8) {
    r.code.asm.op3i(VSHUFPS, d, a[0], a[1], 0x88 + 0x55 * odd);
    // The halves of both were interleaved.
    r.code.asm.op2i(VPERMQ, d, d, 0xd8);
}

fn wide(r: &mut Run<'_, '_>, form: Form, d: Parts, a: Ymm, b: Ymm, plus: Option<Parts>) {
    extend(r, VPMOVZXDQ, d, a);
    extend(r, VPMOVZXDQ, [T[0], T[1]], b);
    for i in 0..2 {
        r.code.asm.op3(form, d[i], d[i], T[i]);
        if let Some(c) = plus {
            r.code.asm.op3(VPADDQ, d[i], d[i], c[i]);
        }
    }
}

/// Low 64 bits of the product, from 32-bit halves.
fn product64(r: &mut Run<'_, '_>, d: Parts, a: Parts, b: Parts) {
    let asm = &mut r.code.asm;
    for i in 0..2 {
        asm.op2i(VPSRLQ, T[0], a[i], 32);
        asm.op3(VPMULUDQ, T[0], T[0], b[i]);
        asm.op2i(VPSRLQ, T[1], b[i], 32);
        asm.op3(VPMULUDQ, T[1], T[1], a[i]);
        asm.op3(VPADDQ, T[0], T[0], T[1]);
        asm.op2i(VPSLLQ, T[0], T[0], 32);
        asm.op3(VPMULUDQ, d[i], a[i], b[i]);
        asm.op3(VPADDQ, d[i], d[i], T[0]);
    }
}

/// Quotient of unsigned numbers, as `f64`: the exact one differs from the next whole number by more than the rounding.
/// A zero divisor gives all ones.
fn quotient(r: &mut Run<'_, '_>, d: Ymm, a: Ymm, b: Ymm) {
    const TRUNCATE: u8 = 11;
    let (top, half) = (r.code.word(1 << 31), r.code.doubles(2f64.powi(31)));
    let asm = &mut r.code.asm;
    for i in 0..2 {
        // Unsigned words by way of signed ones, 2^31 less.
        for (t, x) in [(T[2], a), (T[3], b)] {
            asm.store(VEXTRACTI128, t, x, Some(i));
            asm.op3(VPXOR, t, t, top);
            asm.op2(VCVTDQ2PD, t, t);
            asm.op3(VADDPD, t, t, half);
        }
        asm.op3(VDIVPD, T[2], T[2], T[3]);
        asm.op2i(VROUNDPD, T[2], T[2], TRUNCATE);
        asm.op3(VSUBPD, T[2], T[2], half);
        asm.op2(VCVTTPD2DQ, T[i as usize], T[2]);
    }
    asm.op3i(VINSERTI128, d, T[0], T[1], 1);
    asm.op3(VPXOR, d, d, top);
    asm.op3(VPXOR, T[0], T[0], T[0]);
    asm.op3(VPCMPEQD, T[0], T[0], b);
    asm.op3(VPOR, d, d, T[0]);
}

fn float(r: &mut Run<'_, '_>, form: Form, d: Ymm, a: Ymm, b: Ymm) {
    r.code.asm.op3(form, d, a, b);
    canonical(r, d);
}

/// Any NaN becomes the canonical one.
fn canonical(r: &mut Run<'_, '_>, d: Ymm) {
    const UNORDERED: u8 = 3;
    let nan = r.code.word(crate::num::float::NAN32);
    r.code.asm.op3i(VCMPPS, T[0], d, d, UNORDERED);
    r.code.asm.blend(VPBLENDVB, d, d, nan, T[0]);
}

/// Minimum or maximum: -0 is below +0, a NaN gives way to a number.
fn extreme(r: &mut Run<'_, '_>, max: bool, d: Ymm, a: Ymm, b: Ymm) {
    const UNORDERED: u8 = 3;
    let asm = &mut r.code.asm;
    // Bits that order as the values do.
    for (t, x) in [(T[0], a), (T[1], b)] {
        asm.op2i(VPSRAD, t, x, 31);
        asm.op2i(VPSRLD, t, t, 1);
        asm.op3(VPXOR, t, t, x);
    }
    let (above, below) = if max { (T[0], T[1]) } else { (T[1], T[0]) };
    asm.op3(VPCMPGTD, T[2], above, below);
    asm.blend(VPBLENDVB, d, b, a, T[2]);
    asm.op3i(VCMPPS, T[0], a, a, UNORDERED);
    asm.blend(VPBLENDVB, d, d, b, T[0]);
    asm.op3i(VCMPPS, T[0], b, b, UNORDERED);
    asm.blend(VPBLENDVB, d, d, a, T[0]);
    canonical(r, d);
}
