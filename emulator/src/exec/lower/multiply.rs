//! Products and sums of products.
use super::arith::{F32Forms, arg, by_half, by_int, by_width, half_flags, is_int, no_form, rounding, simple, single};
use super::function::Lower;
use super::parts::Parts;
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

const MUL_HI: [Code; 6] =
    [Code::MulHiU16, Code::MulHiS16, Code::MulHiU32, Code::MulHiS32, Code::MulHiU64, Code::MulHiS64];

/// `mul`.
pub fn mul(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let mode = rounding(p);
    let part = p.take_any(&["lo", "hi", "wide"]);
    let ty = p.ty()?;
    match (ty, part) {
        (Type::F(_), Some(_)) => return Err(no_form(p)),
        (Type::F(32), _) => {
            let forms = F32Forms { plain: Code::MulF32, ftz: Code::MulFtzF32, round: Code::MulRoundF32 };
            return single(l, p, &forms, mode, args);
        }
        (Type::F(64), _) if mode == 0 => simple(l, Code::MulF64, ty, args, 0)?,
        (Type::F(64), _) => simple(l, Code::MulRoundF64, ty, args, mode)?,
        (_, Some(1)) => simple(l, by_int(ty, MUL_HI), ty, args, 0)?,
        (_, Some(2)) => {
            let (code, wide) = widening(ty, [Code::MulWideU16, Code::MulWideS16, Code::MulWideU32, Code::MulWideS32])
                .ok_or_else(|| no_form(p))?;
            let (a, b) = (l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, ty)?);
            let d = l.dst(arg(args, 0)?, wide)?;
            l.op(code, &[d], &[a, b]);
            d
        }
        _ if is_int(ty) => simple(l, by_width(ty, [Code::MulLo16, Code::MulLo32, Code::MulLo64]), ty, args, 0)?,
        _ => {
            let codes = [Code::HMulF16, Code::HMulBf16, Code::HMulF16x2, Code::HMulBf16x2];
            let code = by_half(ty, codes).ok_or_else(|| no_form(p))?;
            let flags = half_flags(p);
            simple(l, code, ty, args, flags)?
        }
    };
    Ok(())
}

/// The code and result type of a widening product: u16, s16, u32, s32.
fn widening(ty: Type, codes: [Code; 4]) -> Option<(Code, Type)> {
    Some(match ty {
        Type::U(16) => (codes[0], Type::U(32)),
        Type::S(16) => (codes[1], Type::S(32)),
        Type::U(32) => (codes[2], Type::U(64)),
        Type::S(32) => (codes[3], Type::S(64)),
        _ => return None,
    })
}

/// `mad`.
pub fn mad(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let mode = rounding(p);
    let part = p.take_any(&["lo", "hi", "wide"]);
    if p.take("cc") {
        let ty = p.ty()?;
        return mad_carry(l, ty, part == Some(1), false, true, args);
    }
    let ty = p.ty()?;
    match (ty, part) {
        (Type::F(_), Some(_)) => return Err(no_form(p)),
        (Type::F(_), None) => return fused(l, p, ty, mode, args),
        (Type::S(32), Some(1)) if p.take("sat") => drop(simple(l, Code::MadHiSatS32, ty, args, 0)?),
        (_, Some(1)) => {
            let t = l.temp(super::function::kind(ty).ok_or_else(|| no_form(p))?);
            let s = args[1..].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
            let d = l.dst(arg(args, 0)?, ty)?;
            l.aux(by_int(ty, MUL_HI), &[t], &s[..2]);
            l.op(by_width(ty, [Code::Add16, Code::Add32, Code::Add64]), &[d], &[t, s[2]]);
        }
        (_, Some(2)) => {
            let (code, wide) = widening(ty, [Code::MadWideU16, Code::MadWideS16, Code::MadWideU32, Code::MadWideS32])
                .ok_or_else(|| no_form(p))?;
            let (a, b) = (l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, ty)?);
            let c = l.src(arg(args, 3)?, wide)?;
            let d = l.dst(arg(args, 0)?, wide)?;
            l.op(code, &[d], &[a, b, c]);
        }
        _ => drop(simple(l, by_width(ty, [Code::MadLo16, Code::MadLo32, Code::MadLo64]), ty, args, 0)?),
    }
    Ok(())
}

/// `madc`.
pub fn madc(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let part = p.take_any(&["lo", "hi"]);
    let out = p.take("cc");
    let ty = p.ty()?;
    mad_carry(l, ty, part == Some(1), true, out, args)
}

/// A product's half plus c with carry.
fn mad_carry(l: &mut Lower<'_, '_>, ty: Type, high: bool, carry_in: bool, carry_out: bool, args: Args<'_>) -> Res {
    let code = if high { by_int(ty, MUL_HI) } else { by_width(ty, [Code::MulLo16, Code::MulLo32, Code::MulLo64]) };
    let s = args[1..].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
    let d = l.dst(arg(args, 0)?, ty)?;
    let t = l.temp(super::function::kind(ty).ok_or("a 128-bit product")?);
    l.aux(code, &[t], &s[..2]);
    let flag = l.carry();
    let carry = if carry_in { flag } else { l.src(&Operand::Int(0), Type::Pred)? };
    let out = if carry_out { flag } else { l.temp(super::build::Kind::Pred) };
    let add = if ty.bytes() == 8 { Code::AddCarry64 } else { Code::AddCarry32 };
    l.op(add, &[d, out], &[t, s[2], carry]);
    Ok(())
}

/// `mul24` and `mad24`.
pub fn mul24(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let add = p.name().starts_with("mad");
    let high = p.take_any(&["lo", "hi"]) == Some(1);
    let sat = p.take("sat");
    let ty = p.ty()?;
    if sat {
        return simple(l, Code::Mad24HiSatS32, ty, args, 0).map(drop);
    }
    let code = match (high, ty) {
        (false, Type::S(_)) => Code::Mul24LoS32,
        (false, _) => Code::Mul24Lo,
        (true, Type::S(_)) => Code::Mul24HiS32,
        (true, _) => Code::Mul24HiU32,
    };
    if !add {
        return simple(l, code, ty, args, 0).map(drop);
    }
    let s = args[1..].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
    let (t, d) = (l.temp(super::build::Kind::R32), l.dst(arg(args, 0)?, ty)?);
    l.aux(code, &[t], &s[..2]);
    l.op(Code::Add32, &[d], &[t, s[2]]);
    Ok(())
}

/// `fma`.
pub fn fma(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let mode = rounding(p);
    let ty = p.ty()?;
    fused(l, p, ty, mode, args)
}

fn fused(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, ty: Type, mode: i64, args: Args<'_>) -> Res {
    match ty {
        Type::F(32) => {
            let forms = F32Forms { plain: Code::FmaF32, ftz: Code::FmaFtzF32, round: Code::FmaRoundF32 };
            return single(l, p, &forms, mode, args);
        }
        Type::F(64) if mode == 0 => simple(l, Code::FmaF64, ty, args, 0)?,
        Type::F(64) => simple(l, Code::FmaRoundF64, ty, args, mode)?,
        _ => {
            let codes = [Code::HFmaF16, Code::HFmaBf16, Code::HFmaF16x2, Code::HFmaBf16x2];
            let code = by_half(ty, codes).ok_or_else(|| no_form(p))?;
            let flags = half_flags(p);
            simple(l, code, ty, args, flags)?
        }
    };
    Ok(())
}
