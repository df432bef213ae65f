//! Bit instructions.
use super::arith::arg;
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::words;
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

/// `and`, `or`, `xor`, `not`, `cnot`.
pub fn logic(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let name = p.name();
    let base = name.split('.').next().unwrap_or_default();
    let ty = p.ty()?;
    let row = match base {
        "and" => [Code::PredAnd, Code::And32, Code::And64, Code::And32],
        "or" => [Code::PredOr, Code::Or32, Code::Or64, Code::Or32],
        "xor" => [Code::PredXor, Code::Xor32, Code::Xor64, Code::Xor32],
        "not" => [Code::PredNot, Code::Not32, Code::Not64, Code::Not32],
        _ if ty == Type::Pred => return Err(format!("{name} is not possible")),
        _ => [Code::Cnot32, Code::Cnot32, Code::Cnot64, Code::Cnot16],
    };
    let code = row[match ty {
        Type::Pred => 0,
        _ => [3, 1, 2][(ty.bytes() / 4).min(2)],
    }];
    let mut s = args[1..].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
    if code == Code::PredNot {
        s.push(s[0]);
    }
    let d = l.dst(arg(args, 0)?, ty)?;
    l.op(code, &[d], &s);
    Ok(())
}

/// `lop3`, with an optional predicate `d|p` from the result and a boolean operation.
pub fn lop3(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let boolean = p.take_any(&["or", "and"]);
    let ty = p.ty()?;
    let s = args[1..4].iter().map(|a| l.src(a, ty)).collect::<Result<Vec<_>, _>>()?;
    let Operand::Int(lut) = arg(args, 4)? else { return Err("the lookup table of lop3 is no constant".to_string()) };
    let (value, predicate) = match arg(args, 0)? {
        Operand::Pair(d, p) => (l.dst(d, ty)?, Some(l.dst(p, Type::Pred)?)),
        d => (l.dst(d, ty)?, None),
    };
    l.op(Code::Lop3, &[value], &s).imm = *lut;
    if let (Some(p), Some(q)) = (predicate, args.get(5)) {
        let q = l.src(q, Type::Pred)?;
        let t = l.temp(super::build::Kind::Pred);
        l.aux(Code::NonZero32, &[t], &[value]);
        l.aux(if boolean == Some(1) { Code::PredAnd } else { Code::PredOr }, &[p], &[t, q]);
    }
    Ok(())
}

/// `shl` and `shr`.
pub fn shift(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let left = p.name().starts_with("shl");
    let ty = p.ty()?;
    let signed = matches!(ty, Type::S(_));
    let code = match (left, ty.bytes(), signed) {
        (true, 8, _) => Code::Shl64,
        (true, 4, _) => Code::Shl32,
        (true, ..) => Code::Shl16,
        (false, 8, false) => Code::ShrU64,
        (false, 8, true) => Code::ShrS64,
        (false, 4, false) => Code::ShrU32,
        (false, 4, true) => Code::ShrS32,
        (false, _, false) => Code::ShrU16,
        (false, _, true) => Code::ShrS16,
    };
    let (a, n) = (l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, Type::U(32))?);
    let d = l.dst(arg(args, 0)?, ty)?;
    l.op(code, &[d], &[a, n]);
    Ok(())
}

/// `d = code(a, b, c)` of 32-bit values.
fn three(l: &mut Lower<'_, '_>, code: Code, args: Args<'_>, imm: i64) -> Res {
    let s = args[1..].iter().map(|a| l.src(a, Type::B(32))).collect::<Result<Vec<_>, _>>()?;
    let d = l.dst(arg(args, 0)?, Type::B(32))?;
    l.op(code, &[d], &s).imm = imm;
    Ok(())
}

/// `shf`.
pub fn funnel(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let right = p.take_any(&["l", "r"]) == Some(1);
    let wrap = p.take_any(&["clamp", "wrap"]) == Some(1);
    p.ty()?;
    let code = match (right, wrap) {
        (false, false) => Code::ShfLClamp,
        (false, true) => Code::ShfLWrap,
        (true, false) => Code::ShfRClamp,
        (true, true) => Code::ShfRWrap,
    };
    three(l, code, args, 0)
}

/// `prmt`.
pub fn prmt(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.ty()?;
    match p.take_any(&words::PRMT_MODES) {
        None => three(l, Code::Prmt, args, 0),
        Some(mode) => three(l, Code::PrmtMode, args, mode as i64),
    }
}

/// `bfe`, `bfi`, `bfind`.
pub fn field(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let name = p.name();
    let amount = p.take("shiftamt");
    let ty = p.ty()?;
    let (wide, signed) = (ty.bytes() == 8, matches!(ty, Type::S(_)));
    let pick = |codes: [Code; 4]| codes[usize::from(wide) * 2 + usize::from(signed)];
    let word = Type::U(32);
    if name.starts_with("bfind") {
        let a = l.src(arg(args, 1)?, ty)?;
        let d = l.dst(arg(args, 0)?, word)?;
        let code = pick([Code::BfindU32, Code::BfindS32, Code::BfindU64, Code::BfindS64]);
        l.op(code, &[d], &[a]).imm = i64::from(amount);
        return Ok(());
    }
    if name.starts_with("bfe") {
        let s = [l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, word)?, l.src(arg(args, 3)?, word)?];
        let d = l.dst(arg(args, 0)?, ty)?;
        l.op(pick([Code::BfeU32, Code::BfeS32, Code::BfeU64, Code::BfeS64]), &[d], &s);
        return Ok(());
    }
    let (a, b) = (l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, ty)?);
    let (pos, len) = (l.src(arg(args, 3)?, word)?, l.src(arg(args, 4)?, word)?);
    let d = l.dst(arg(args, 0)?, ty)?;
    l.op(if wide { Code::Bfi64 } else { Code::Bfi32 }, &[d], &[a, b, pos, len]);
    Ok(())
}

/// `fns`, `szext`, `bmsk`, `brev`, `popc`, `clz`.
pub fn count(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let name = p.name();
    let base = name.split('.').next().unwrap_or_default();
    let wrap = i64::from(p.take_any(&["clamp", "wrap"]) == Some(1));
    let ty = p.ty()?;
    let wide = ty.bytes() == 8;
    let pick = |narrow: Code, w: Code| if wide { w } else { narrow };
    let code = match base {
        "fns" => return three(l, Code::Fns, args, 0),
        "szext" if matches!(ty, Type::S(_)) => return three(l, Code::SzextS32, args, wrap),
        "szext" => return three(l, Code::SzextU32, args, wrap),
        "bmsk" => return three(l, Code::Bmsk, args, wrap),
        "brev" => pick(Code::Brev32, Code::Brev64),
        "popc" => pick(Code::Popc32, Code::Popc64),
        _ => pick(Code::Clz32, Code::Clz64),
    };
    let a = l.src(arg(args, 1)?, ty)?;
    let d = l.dst(arg(args, 0)?, if base == "brev" { ty } else { Type::U(32) })?;
    l.op(code, &[d], &[a]);
    Ok(())
}

/// `dp4a` and `dp2a`.
pub fn dot(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let two = p.name().starts_with("dp2a");
    let high = p.take_any(&["lo", "hi"]) == Some(1);
    let a = matches!(p.ty()?, Type::S(_));
    let b = matches!(p.ty()?, Type::S(_));
    if two {
        return three(l, Code::Dp2a, args, i64::from(a) | i64::from(b) << 1 | i64::from(high) << 2);
    }
    let code = match (a, b) {
        (false, false) => Code::Dp4aUU,
        (false, true) => Code::Dp4aUS,
        (true, false) => Code::Dp4aSU,
        (true, true) => Code::Dp4aSS,
    };
    three(l, code, args, 0)
}
