//! Templates of packed `f16`, which is computed as `f32`, four lanes of pairs at a time.
use super::compile::Code;
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
    canonical(r.code, d);
}

/// Any NaN of a pair becomes the canonical one.
fn canonical(code: &mut Code, d: Ymm) {
    let (magnitude, infinity) = (code.word(0x7fff_7fff), code.word(0x7c00_7c00));
    let asm = &mut code.asm;
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
    canonical(r.code, d);
}

/// `fma.rn.f16x2`. The product is exact in `f32`; where the sum is too, as with codes of a few bits and a scale, nothing
/// is left over, and the conversion is the one rounding. All else is rare.
pub fn fused(r: &mut Run<'_, '_>, d: Ymm, sources: [Ymm; 3]) {
    let magnitude = r.code.word(0x7fff_ffff);
    let (rare, end) = r.code.rare(d, sources, fused_odd);
    for half in 0..2 {
        sum_and_rest(&mut r.code.asm, sources, half);
        let asm = &mut r.code.asm;
        // The rest of what is not finite is a NaN, which is not zero either.
        asm.op2(VPTEST, T[0], magnitude);
        asm.jcc(Cond::Ne, rare);
        join(asm, d, half);
    }
    r.code.asm.bind(end);
}

/// As [`fused`], of any operands: sums are rounded to odd, so that rounding them again is the one rounding.
fn fused_odd(code: &mut Code, d: Ymm, sources: [Ymm; 3]) {
    const DIFFERS: u8 = 0x0c;
    let (one, zero) = (code.word(1), code.word(0));
    for half in 0..2 {
        sum_and_rest(&mut code.asm, sources, half);
        let asm = &mut code.asm;
        asm.op3i(VCMPPS, T[3], T[0], zero, DIFFERS);
        // A unit away from zero or towards it, as the rest has the sum's sign or not.
        asm.op3(VPXOR, T[0], T[0], T[2]);
        asm.op2i(VPSRAD, T[0], T[0], 31);
        asm.op3(VPOR, T[0], T[0], one);
        asm.op3(VPAND, T[0], T[0], T[3]);
        asm.op3(VPAND, T[1], T[2], one);
        asm.op3(VPCMPEQD, T[1], T[1], zero);
        asm.op3(VPAND, T[0], T[0], T[1]);
        asm.op3(VPADDD, T[2], T[2], T[0]);
        join(asm, d, half);
    }
    canonical(code, d);
}

/// Of half the lanes, `a * b + c` rounded to nearest (T2), and what that leaves over (T0), by Knuth's two-sum.
fn sum_and_rest(asm: &mut Asm, sources: [Ymm; 3], half: u8) {
    let widened = |asm: &mut Asm, t: Ymm, x: Ymm| {
        if half == 0 {
            asm.op2(VCVTPH2PS, t, x);
        } else {
            asm.store(VEXTRACTI128, t, x, Some(1));
            asm.op2(VCVTPH2PS, t, t);
        }
    };
    let [product, c, sum, part] = T;
    widened(asm, product, sources[0]);
    widened(asm, c, sources[1]);
    asm.op3(VMULPS, product, product, c);
    widened(asm, c, sources[2]);
    asm.op3(VADDPS, sum, product, c);
    asm.op3(VSUBPS, part, sum, product);
    asm.op3(VSUBPS, c, c, part);
    asm.op3(VSUBPS, part, sum, part);
    asm.op3(VSUBPS, product, product, part);
    asm.op3(VADDPS, product, product, c);
}

/// The sums in T2, narrowed, to half of the result.
fn join(asm: &mut Asm, d: Ymm, half: u8) {
    if half == 0 {
        asm.store(VCVTPS2PH, d, T[2], NEAREST);
    } else {
        asm.store(VCVTPS2PH, T[2], T[2], NEAREST);
        asm.op3i(VINSERTI128, d, d, T[2], 1);
    }
}
