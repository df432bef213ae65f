//! Arithmetic instructions.
use super::build::V;
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::compare;
use crate::exec::ops::halves::flag;
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

/// The rounding mode as an immediate, 0 for `.rn` or none.
pub(super) fn rounding(p: &mut Parts<'_>) -> i64 {
    p.take_any(&["rn", "rz", "rm", "rp"]).unwrap_or(0) as i64
}

pub(super) fn no_form(p: &Parts<'_>) -> String {
    format!("{} is not possible", p.name())
}

/// Operand `i`.
pub fn arg<'a>(args: Args<'a>, i: usize) -> Result<&'a Operand, String> {
    args.get(i).ok_or_else(|| format!("operand {} is missing", i + 1))
}

/// One of three by the width of an integer type.
pub(super) fn by_width(ty: Type, codes: [Code; 3]) -> Code {
    codes[match ty.bytes() {
        8 => 2,
        4 => 1,
        _ => 0,
    }]
}

/// One of six: unsigned and signed, 16, 32 and 64 bits.
pub(super) fn by_int(ty: Type, codes: [Code; 6]) -> Code {
    let signed = usize::from(matches!(ty, Type::S(_)));
    codes[signed
        + 2 * match ty.bytes() {
            8 => 2,
            4 => 1,
            _ => 0,
        }]
}

pub(super) fn is_int(ty: Type) -> bool {
    matches!(ty, Type::U(_) | Type::S(_) | Type::B(_))
}

/// One of four by half type: f16, bf16, f16x2, bf16x2.
pub(super) fn by_half(ty: Type, codes: [Code; 4]) -> Option<Code> {
    Some(match ty {
        Type::F(16) => codes[0],
        Type::Bf16 => codes[1],
        Type::F16x2 => codes[2],
        Type::Bf16x2 => codes[3],
        _ => return None,
    })
}

/// `d = code(args[1..])`, all of one type.
pub(super) fn simple(l: &mut Lower<'_, '_>, code: Code, ty: Type, args: Args<'_>, imm: i64) -> Result<V, String> {
    let s = args[1..].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
    let d = l.dst(arg(args, 0)?, ty)?;
    l.op(code, &[d], &s).imm = imm;
    Ok(d)
}

/// The f32 forms of an operation: plain, `.ftz`, rounded.
pub(super) struct F32Forms {
    pub(super) plain: Code,
    pub(super) ftz: Code,
    pub(super) round: Code,
}

/// f32 arithmetic with any rounding, `.ftz` and `.sat`.
pub(super) fn single(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, forms: &F32Forms, mode: i64, args: Args<'_>) -> Res {
    let (ftz, sat) = (p.take("ftz"), p.take("sat"));
    let ty = Type::F(32);
    let d = l.dst(arg(args, 0)?, ty)?;
    let mut s = args[1..].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
    let code = match (mode, ftz) {
        (0, false) => forms.plain,
        (0, true) => forms.ftz,
        _ => forms.round,
    };
    if mode != 0 && ftz {
        for v in &mut s {
            let t = l.temp(super::build::Kind::R32);
            l.aux(Code::FlushF32, &[t], &[*v]);
            *v = t;
        }
        l.later(Code::FlushF32, &[d], &[d], 0);
    }
    l.op(code, &[d], &s).imm = mode;
    if sat {
        l.later(Code::SatF32, &[d], &[d], 0);
    }
    Ok(())
}

pub(super) fn half_flags(p: &mut Parts<'_>) -> i64 {
    let mut flags = 0;
    for (name, bit) in [("ftz", flag::FTZ), ("sat", flag::SAT), ("relu", flag::RELU), ("NaN", flag::NAN)] {
        flags |= if p.take(name) { bit } else { 0 };
    }
    flags
}

/// `add` and `sub`.
pub fn add_sub(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let sub = p.name().starts_with("sub");
    let pick = |a: Code, s: Code| if sub { s } else { a };
    if p.take("cc") {
        let ty = p.ty()?;
        return with_carry(l, sub, ty, false, true, args);
    }
    let mode = rounding(p);
    let ty = p.ty()?;
    match ty {
        Type::F(32) => {
            let forms = F32Forms {
                plain: pick(Code::AddF32, Code::SubF32),
                ftz: pick(Code::AddFtzF32, Code::SubFtzF32),
                round: pick(Code::AddRoundF32, Code::SubRoundF32),
            };
            return single(l, p, &forms, mode, args);
        }
        Type::F(64) if mode == 0 => simple(l, pick(Code::AddF64, Code::SubF64), ty, args, 0)?,
        Type::F(64) => simple(l, pick(Code::AddRoundF64, Code::SubRoundF64), ty, args, mode)?,
        Type::S(32) if p.take("sat") => simple(l, pick(Code::AddSatS32, Code::SubSatS32), ty, args, 0)?,
        _ if is_int(ty) && ty.bytes() > 1 => {
            let (add, sub) = ([Code::Add16, Code::Add32, Code::Add64], [Code::Sub16, Code::Sub32, Code::Sub64]);
            simple(l, pick(by_width(ty, add), by_width(ty, sub)), ty, args, 0)?
        }
        _ => {
            let add = [Code::HAddF16, Code::HAddBf16, Code::HAddF16x2, Code::HAddBf16x2];
            let sub = [Code::HSubF16, Code::HSubBf16, Code::HSubF16x2, Code::HSubBf16x2];
            let code = by_half(ty, [0, 1, 2, 3].map(|i| pick(add[i], sub[i]))).ok_or_else(|| no_form(p))?;
            let flags = half_flags(p);
            simple(l, code, ty, args, flags)?
        }
    };
    Ok(())
}

/// `addc` and `subc`.
pub fn add_sub_carry(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let sub = p.name().starts_with("sub");
    let out = p.take("cc");
    let ty = p.ty()?;
    with_carry(l, sub, ty, true, out, args)
}

/// Sum or difference with carry in and out.
pub(super) fn with_carry(
    l: &mut Lower<'_, '_>,
    sub: bool,
    ty: Type,
    carry_in: bool,
    carry_out: bool,
    args: Args<'_>,
) -> Res {
    let code = match (sub, ty.bytes()) {
        (false, 4) => Code::AddCarry32,
        (false, _) => Code::AddCarry64,
        (true, 4) => Code::SubBorrow32,
        (true, _) => Code::SubBorrow64,
    };
    let (a, b) = (l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, ty)?);
    let d = l.dst(arg(args, 0)?, ty)?;
    let flag = l.carry();
    let carry = if carry_in { flag } else { l.src(&Operand::Int(0), Type::Pred)? };
    let out = if carry_out { flag } else { l.temp(super::build::Kind::Pred) };
    l.op(code, &[d, out], &[a, b, carry]);
    Ok(())
}

/// `div` and `rem`.
pub fn div_rem(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    if p.name().starts_with("rem") {
        let codes = [Code::RemU16, Code::RemS16, Code::RemU32, Code::RemS32, Code::RemU64, Code::RemS64];
        let ty = p.ty()?;
        return simple(l, by_int(ty, codes), ty, args, 0).map(drop);
    }
    let approx = p.take("approx");
    p.take("full");
    let mode = rounding(p);
    let ty = p.ty()?;
    match ty {
        Type::F(32) => {
            let forms = match approx {
                true => F32Forms { plain: Code::DivApprox, ftz: Code::DivApproxFtz, round: Code::DivApprox },
                false => F32Forms { plain: Code::DivF32, ftz: Code::DivFtzF32, round: Code::DivRoundF32 },
            };
            single(l, p, &forms, mode, args)
        }
        Type::F(64) if mode == 0 => simple(l, Code::DivF64, ty, args, 0).map(drop),
        Type::F(64) => simple(l, Code::DivRoundF64, ty, args, mode).map(drop),
        _ => {
            let codes = [Code::DivU16, Code::DivS16, Code::DivU32, Code::DivS32, Code::DivU64, Code::DivS64];
            simple(l, by_int(ty, codes), ty, args, 0).map(drop)
        }
    }
}

/// `sad`.
pub fn sad(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let codes = [Code::SadU16, Code::SadS16, Code::SadU32, Code::SadS32, Code::SadU64, Code::SadS64];
    let ty = p.ty()?;
    simple(l, by_int(ty, codes), ty, args, 0).map(drop)
}

/// `abs` and `neg`.
pub fn abs_neg(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let neg = p.name().starts_with("neg");
    let pick = |n: Code, a: Code| if neg { n } else { a };
    let ftz = p.take("ftz");
    let ty = p.ty()?;
    let code = match ty {
        Type::F(32) => pick(Code::NegF32, Code::AbsF32),
        Type::F(64) => pick(Code::NegF64, Code::AbsF64),
        Type::F(16) | Type::Bf16 => pick(Code::HNeg, Code::HAbs),
        Type::F16x2 | Type::Bf16x2 => pick(Code::HNegx2, Code::HAbsx2),
        _ => by_width(
            ty,
            [pick(Code::Neg16, Code::Abs16), pick(Code::Neg32, Code::Abs32), pick(Code::Neg64, Code::Abs64)],
        ),
    };
    let d = simple(l, code, ty, args, i64::from(ftz))?;
    if ftz && ty == Type::F(32) {
        l.later(Code::FlushF32, &[d], &[d], 0);
    }
    Ok(())
}

/// `min` and `max`.
pub fn min_max(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let max = p.name().starts_with("max");
    let pick = |n: Code, x: Code| if max { x } else { n };
    let mut flags = half_flags(p);
    if p.take("xorsign") {
        p.take("abs");
        flags |= flag::XORSIGN;
    }
    let ty = p.ty()?;
    let mins = [Code::MinU16, Code::MinS16, Code::MinU32, Code::MinS32, Code::MinU64, Code::MinS64];
    let maxs = [Code::MaxU16, Code::MaxS16, Code::MaxU32, Code::MaxS32, Code::MaxU64, Code::MaxS64];
    let hmins = [Code::HMinF16, Code::HMinBf16, Code::HMinF16x2, Code::HMinBf16x2];
    let hmaxs = [Code::HMaxF16, Code::HMaxBf16, Code::HMaxF16x2, Code::HMaxBf16x2];
    let mut imm = flags;
    let code = match ty {
        Type::F(32) if flags == 0 => pick(Code::MinF32, Code::MaxF32),
        Type::F(32) => {
            imm |= if max { flag::MAX } else { 0 };
            Code::MinMaxF32
        }
        Type::F(64) => pick(Code::MinF64, Code::MaxF64),
        _ if is_int(ty) => pick(by_int(ty, mins), by_int(ty, maxs)),
        _ => by_half(ty, [0, 1, 2, 3].map(|i| pick(hmins[i], hmaxs[i]))).ok_or_else(|| no_form(p))?,
    };
    if args.len() == 4 && ty == Type::F(32) {
        // Three inputs: two operations, the first into a temporary.
        let s = args[1..].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
        let (t, d) = (l.temp(super::build::Kind::R32), l.dst(arg(args, 0)?, ty)?);
        l.aux(code, &[t], &s[..2]).imm = imm;
        l.op(code, &[d], &[t, s[2]]).imm = imm;
        return Ok(());
    }
    let d = simple(l, code, ty, args, imm)?;
    if ty == Type::S(32) && flags & flag::RELU != 0 {
        l.later(Code::ReluS32, &[d], &[d], 0);
    }
    Ok(())
}

/// `rcp`, `sqrt`, `rsqrt`, `sin`, `cos`, `lg2`, `ex2`, `tanh`.
pub fn function(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let name = p.name();
    let base = name.split('.').next().unwrap_or_default();
    let approx = p.take("approx");
    let ftz = p.take("ftz");
    let mode = rounding(p);
    let ty = p.ty()?;
    let pick = |plain: Code, flushed: Code| if ftz { flushed } else { plain };
    let (code, imm) = match (base, ty) {
        ("rcp", Type::F(32)) if approx => (pick(Code::RcpApprox, Code::RcpApproxFtz), 0),
        ("rcp", Type::F(64)) if approx => (Code::RcpApproxF64, 0),
        ("rcp", Type::F(64)) => (Code::RcpF64, mode),
        ("rcp", _) => (Code::RcpF32, mode),
        ("sqrt", Type::F(64)) => (Code::SqrtF64, mode),
        ("sqrt", _) if ftz && mode == 0 => (Code::SqrtFtzF32, 0),
        ("sqrt", _) => (Code::SqrtF32, mode),
        ("rsqrt", Type::F(64)) => (Code::RsqrtApproxF64, 0),
        ("rsqrt", _) => (pick(Code::RsqrtApprox, Code::RsqrtApproxFtz), 0),
        ("sin", _) => (pick(Code::Sin, Code::SinFtz), 0),
        ("cos", _) => (pick(Code::Cos, Code::CosFtz), 0),
        ("lg2", _) => (pick(Code::Lg2, Code::Lg2Ftz), 0),
        ("ex2", Type::F(32)) => (pick(Code::Ex2, Code::Ex2Ftz), 0),
        ("ex2", _) => {
            let codes = [Code::HEx2F16, Code::HEx2Bf16, Code::HEx2F16x2, Code::HEx2Bf16x2];
            (by_half(ty, codes).ok_or_else(|| no_form(p))?, i64::from(ftz))
        }
        (_, Type::F(32)) => (Code::Tanh, 0),
        _ => {
            let codes = [Code::HTanhF16, Code::HTanhBf16, Code::HTanhF16x2, Code::HTanhBf16x2];
            (by_half(ty, codes).ok_or_else(|| no_form(p))?, 0)
        }
    };
    if ftz && matches!(code, Code::RcpF32 | Code::SqrtF32) {
        let a = l.src(arg(args, 1)?, ty)?;
        let (t, d) = (l.temp(super::build::Kind::R32), l.dst(arg(args, 0)?, ty)?);
        l.aux(Code::FlushF32, &[t], &[a]);
        l.op(code, &[d], &[t]).imm = imm;
        l.later(Code::FlushF32, &[d], &[d], 0);
        return Ok(());
    }
    simple(l, code, ty, args, imm).map(drop)
}

/// `copysign`.
pub fn copysign(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let ty = p.ty()?;
    let code = if ty.bytes() == 8 { Code::CopySignF64 } else { Code::CopySignF32 };
    simple(l, code, ty, args, 0).map(drop)
}

/// `testp`.
pub fn testp(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let class = p.take_any(&compare::CLASSES).ok_or("testp without a class")?;
    let ty = p.ty()?;
    let a = l.src(arg(args, 1)?, ty)?;
    let d = l.dst(arg(args, 0)?, Type::Pred)?;
    let code = if ty.bytes() == 8 { Code::TestpF64 } else { Code::TestpF32 };
    l.op(code, &[d], &[a]).imm = class as i64;
    Ok(())
}
