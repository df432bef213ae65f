//! Comparisons and selections.
use super::arith::arg;
use super::build::{Kind, V};
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::compare::OPERATORS;
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

/// The comparison operation for a type.
fn comparison(ty: Type, ftz: bool) -> Result<Code, String> {
    Ok(match ty {
        Type::F(32) if ftz => Code::SetpFtzF32,
        Type::F(32) => Code::SetpF32,
        Type::F(64) => Code::SetpF64,
        Type::F(16) if ftz => Code::SetpFtzF16,
        Type::F(16) => Code::SetpF16,
        Type::Bf16 => Code::SetpBf16,
        Type::S(16) => Code::SetpS16,
        Type::S(32) => Code::SetpS32,
        Type::S(64) => Code::SetpS64,
        Type::U(16) | Type::B(16) => Code::SetpU16,
        Type::U(32) | Type::B(32) => Code::SetpU32,
        Type::U(64) | Type::B(64) => Code::SetpU64,
        _ => return Err(format!("comparison of {ty:?}")),
    })
}

/// `setp` and `set`.
pub fn set(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let setp = p.name().starts_with("setp");
    let operator = p.take_any(&OPERATORS).ok_or("a comparison without an operator")?;
    // lo, ls, hi, hs are lt, le, gt, ge of unsigned types.
    let operator = [2, 3, 4, 5].get(operator.wrapping_sub(14)).copied().unwrap_or(operator) as i64;
    let boolean = p.take_any(&["and", "or", "xor"]);
    let ftz = p.take("ftz");
    let result = if setp { Type::Pred } else { p.ty()? };
    let ty = p.ty()?;
    let combine = match (boolean, args.get(3)) {
        (Some(b), Some(c)) => Some(([Code::PredAnd, Code::PredOr, Code::PredXor][b], l.src(c, Type::Pred)?)),
        (None, None) => None,
        _ => return Err("a boolean operation and a third source go together".to_string()),
    };
    let (a, b) = (l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, ty)?);
    if matches!(ty, Type::F16x2 | Type::Bf16x2) {
        let element = if ty == Type::F16x2 { Type::F(16) } else { Type::Bf16 };
        return set_packed(l, (comparison(element, ftz)?, operator), result, combine, (a, b), arg(args, 0)?);
    }
    let code = comparison(ty, ftz)?;
    let (first, second) = match arg(args, 0)? {
        Operand::Pair(p, q) => (&**p, Some(&**q)),
        p => (p, None),
    };
    if result != Type::Pred {
        let t = l.temp(Kind::Pred);
        l.op(code, &[t], &[a, b]).imm = operator;
        if let Some((op, c)) = combine {
            l.aux(op, &[t], &[t, c]);
        }
        return set_value(l, t, result, first);
    }
    let d = l.dst(first, Type::Pred)?;
    let Some((op, c)) = combine else {
        // The second destination may be a source of nothing here, so the order does not matter.
        l.op(code, &[d], &[a, b]).imm = operator;
        if let Some(q) = second {
            let q = l.dst(q, Type::Pred)?;
            l.aux(Code::PredNot, &[q], &[d, d]);
        }
        return Ok(());
    };
    let t = l.temp(Kind::Pred);
    l.op(code, &[t], &[a, b]).imm = operator;
    if let Some(q) = second {
        let n = l.temp(Kind::Pred);
        l.aux(Code::PredNot, &[n], &[t, t]);
        let q = l.dst(q, Type::Pred)?;
        l.later(op, &[q], &[n, c], 0);
        // `c` may be the first destination.
        let kept = l.temp(Kind::Pred);
        l.aux(op, &[kept], &[t, c]);
        l.later(Code::PredMov, &[d], &[kept, kept], 0);
        return Ok(());
    }
    l.aux(op, &[d], &[t, c]);
    Ok(())
}

/// The value that `set` gives for a predicate: 1.0 for floats, all ones for integers.
fn set_value(l: &mut Lower<'_, '_>, t: V, result: Type, d: &Operand) -> Res {
    let one = match result {
        Type::F(32) => 0x3f80_0000,
        Type::F(16) => 0x3c00,
        Type::Bf16 => 0x3f80,
        _ if result.bytes() == 2 => 0xffff,
        _ => u32::MAX,
    };
    let (one, zero) = (l.const32(one), l.const32(0));
    let d = l.dst(d, if result.bytes() == 8 { return Err("set with a 64-bit result".to_string()) } else { result })?;
    l.aux(Code::Select32, &[d], &[one, zero, t]);
    Ok(())
}

/// Comparisons of packed halves: a predicate each, or a half each.
fn set_packed(
    l: &mut Lower<'_, '_>,
    (code, operator): (Code, i64),
    result: Type,
    combine: Option<(Code, V)>,
    (a, b): (V, V),
    d: &Operand,
) -> Res {
    let (low, high) = (l.temp(Kind::Pred), l.temp(Kind::Pred));
    let (ah, bh) = (l.temp(Kind::R32), l.temp(Kind::R32));
    l.aux(Code::High16, &[ah], &[a]);
    l.aux(Code::High16, &[bh], &[b]);
    l.op(code, &[low], &[a, b]).imm = operator;
    l.aux(code, &[high], &[ah, bh]).imm = operator;
    if let Some((op, c)) = combine {
        l.aux(op, &[low], &[low, c]);
        l.aux(op, &[high], &[high, c]);
    }
    if result == Type::Pred {
        let Operand::Pair(p, q) = d else { return Err("two predicates are needed".to_string()) };
        for (v, d) in [(low, p), (high, q)] {
            let d = l.dst(d, Type::Pred)?;
            l.aux(Code::PredMov, &[d], &[v, v]);
        }
        return Ok(());
    }
    let one = match result {
        Type::F16x2 => 0x3c00,
        Type::Bf16x2 => 0x3f80,
        _ => 0xffff,
    };
    let (one, zero) = (l.const32(one), l.const32(0));
    let (x, y, d) = (l.temp(Kind::R32), l.temp(Kind::R32), l.dst(d, Type::B(32))?);
    l.aux(Code::Select32, &[x], &[one, zero, low]);
    l.aux(Code::Select32, &[y], &[one, zero, high]);
    l.aux(Code::Pack16, &[d], &[x, y]);
    Ok(())
}

/// `selp` and `slct`.
pub fn select(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let slct = p.name().starts_with("slct");
    let ftz = p.take("ftz");
    let ty = p.ty()?;
    let (a, b) = (l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, ty)?);
    let condition = if slct {
        let by = p.ty()?;
        let mut c = l.src(arg(args, 3)?, by)?;
        if ftz {
            let flushed = l.temp(Kind::R32);
            l.aux(Code::FlushF32, &[flushed], &[c]);
            c = flushed;
        }
        let t = l.temp(Kind::Pred);
        l.aux(if by == Type::F(32) { Code::SignF32 } else { Code::SignS32 }, &[t], &[c]);
        t
    } else {
        l.src(arg(args, 3)?, Type::Pred)?
    };
    let d = l.dst(arg(args, 0)?, ty)?;
    l.op(if ty.bytes() == 8 { Code::Select64 } else { Code::Select32 }, &[d], &[a, b, condition]);
    Ok(())
}
