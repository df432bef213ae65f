//! Templates of packed `f16`, which is computed as `f32`, four lanes of pairs at a time.
use super::encode::*;
use super::run::{Run, T};

/// Round to nearest, ties to even.
const NEAREST: Option<u8> = Some(0);

/// Sum, difference or product of packed pairs: exact in `f32` or, of sums, rounded twice without harm.
pub fn binary(r: &mut Run<'_, '_>, form: Form, d: Ymm, a: Ymm, b: Ymm) {
    let asm = &mut r.code.asm;
    asm.op2(VCVTPH2PS, T[0], a);
    asm.op2(VCVTPH2PS, T[1], b);
    asm.op3(form, T[0], T[0], T[1]);
    asm.store(VCVTPS2PH, T[0], T[0], NEAREST);
    asm.store(VEXTRACTI128, T[1], a, Some(1));
    asm.store(VEXTRACTI128, T[2], b, Some(1));
    asm.op2(VCVTPH2PS, T[1], T[1]);
    asm.op2(VCVTPH2PS, T[2], T[2]);
    asm.op3(form, T[1], T[1], T[2]);
    asm.store(VCVTPS2PH, T[1], T[1], NEAREST);
    asm.op3i(VINSERTI128, d, T[0], T[1], 1);
    canonical(r, d);
}

/// Any NaN of a pair becomes the canonical one.
fn canonical(r: &mut Run<'_, '_>, d: Ymm) {
    let (magnitude, infinity) = (r.code.word(0x7fff_7fff), r.code.word(0x7c00_7c00));
    let asm = &mut r.code.asm;
    asm.op3(VPAND, T[0], d, magnitude);
    asm.op3(VPCMPGTW, T[0], T[0], infinity);
    asm.op2i(VPSRLW, T[1], T[0], 1);
    asm.blend(VPBLENDVB, d, d, T[1], T[0]);
}

/// Two `f32` to a pair, the first in the upper half.
pub fn pack(r: &mut Run<'_, '_>, d: Ymm, high: Ymm, low: Ymm) {
    let asm = &mut r.code.asm;
    asm.store(VCVTPS2PH, T[0], high, NEAREST);
    asm.store(VCVTPS2PH, T[1], low, NEAREST);
    asm.op2(VPMOVZXWD, T[0], T[0]);
    asm.op2(VPMOVZXWD, d, T[1]);
    asm.op2i(VPSLLD, T[0], T[0], 16);
    asm.op3(VPOR, d, d, T[0]);
    canonical(r, d);
}
