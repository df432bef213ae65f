//! Comparisons, selections, moves and conversions.
use super::arith::arg;
use super::build::{Kind, V};
use super::function::{Home, Lower};
use super::parts::{Parts, parse_type};
use crate::exec::ops::access::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
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

/// `mov`, also packing and unpacking.
pub fn mov(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let ty = p.ty()?;
    match (arg(args, 0)?, arg(args, 1)?) {
        (Operand::Vector(d), s) => unpack(l, ty, d, s),
        (d, Operand::Vector(s)) => pack(l, ty, d, s),
        (Operand::Reg(d), Operand::Reg(s)) if ty.bytes() == 16 => match (l.home(*d), l.home(*s)) {
            (Home::Two(d0, d1), Home::Two(s0, s1)) => {
                l.op(Code::Mov64, &[d0], &[s0]);
                l.aux(Code::Mov64, &[d1], &[s1]);
                Ok(())
            }
            _ => Err("mov.b128 of registers that are not 128 bits wide".to_string()),
        },
        (d, s) => {
            let s = l.src(s, ty)?;
            let d = l.dst(d, ty)?;
            match ty {
                Type::Pred => l.op(Code::PredMov, &[d], &[s, s]),
                _ if ty.bytes() == 8 => l.op(Code::Mov64, &[d], &[s]),
                _ => l.op(Code::Mov32, &[d], &[s]),
            };
            Ok(())
        }
    }
}

/// Bits of each element of a packed value.
fn element(ty: Type, count: usize) -> Result<usize, String> {
    match (ty.bytes() * 8, count) {
        (bits @ (16 | 32 | 64 | 128), 2 | 4) if bits / count >= 8 => Ok(bits / count),
        (bits, n) => Err(format!("{n} elements in {bits} bits")),
    }
}

/// `mov.b32 d, {a, b}` and its like: pairs are joined until one value is left.
fn pack(l: &mut Lower<'_, '_>, ty: Type, d: &Operand, s: &[Operand]) -> Res {
    let mut bits = element(ty, s.len())?;
    if bits == 64 {
        let Operand::Reg(r) = d else { return Err("the destination is no register".to_string()) };
        let Home::Two(d0, d1) = l.home(*r) else { return Err("the destination is not 128 bits wide".to_string()) };
        let (low, high) = (l.src(&s[0], Type::B(64))?, l.src(&s[1], Type::B(64))?);
        l.op(Code::Mov64, &[d0], &[low]);
        l.aux(Code::Mov64, &[d1], &[high]);
        return Ok(());
    }
    let part = Type::B(bits as u8);
    let mut values = s.iter().map(|o| l.src(o, part)).collect::<Result<Vec<_>, _>>()?;
    let d = l.dst(d, ty)?;
    while values.len() > 1 {
        let last = values.len() == 2;
        let code = match bits {
            8 => Code::Pack8,
            16 => Code::Pack16,
            _ => Code::Pack32,
        };
        let mut joined = vec![];
        for pair in values.chunks(2) {
            let t = match (last, bits) {
                (true, _) => d,
                (_, 32) => l.temp(Kind::R64),
                _ => l.temp(Kind::R32),
            };
            if last {
                l.op(code, &[t], pair)
            } else {
                l.aux(code, &[t], pair)
            };
            joined.push(t);
        }
        values = joined;
        bits *= 2;
    }
    Ok(())
}

/// `mov.b32 {a, b}, s` and its like.
fn unpack(l: &mut Lower<'_, '_>, ty: Type, d: &[Operand], s: &Operand) -> Res {
    let bits = element(ty, d.len())?;
    if bits == 64 {
        let Operand::Reg(r) = s else { return Err("the source is no register".to_string()) };
        let Home::Two(low, high) = l.home(*r) else { return Err("the source is not 128 bits wide".to_string()) };
        let (d0, d1) = (l.dst(&d[0], Type::B(64))?, l.dst(&d[1], Type::B(64))?);
        l.op(Code::Mov64, &[d0], &[low]);
        l.aux(Code::Mov64, &[d1], &[high]);
        return Ok(());
    }
    let mut values = vec![l.src(s, ty)?];
    let mut width = ty.bytes() * 8;
    while width > bits {
        width /= 2;
        let (low, high) = match width {
            32 => (Code::Low32, Code::High32),
            16 => (Code::ExtU16, Code::High16),
            _ => (Code::ExtU8, Code::High8),
        };
        let mut halves = vec![];
        for v in values {
            for code in [low, high] {
                let t = l.temp(Kind::R32);
                l.aux(code, &[t], &[v]);
                halves.push(t);
            }
        }
        values = halves;
    }
    for (i, (d, v)) in d.iter().zip(values).enumerate() {
        let d = l.dst(d, Type::B(bits as u8))?;
        l.push_move(d, v, i == 0);
    }
    Ok(())
}

impl Lower<'_, '_> {
    /// A 32-bit move, counted or not.
    fn push_move(&mut self, d: V, s: V, counted: bool) {
        if counted {
            self.op(Code::Mov32, &[d], &[s])
        } else {
            self.aux(Code::Mov32, &[d], &[s])
        };
    }
}

/// `cvta`.
pub fn cvta(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let to = p.take("to");
    let space = p.take_any(&["global", "shared", "local", "const", "param"]);
    p.skip(&["shared::cta", "shared::cluster", "param::entry"]);
    let ty = p.ty()?;
    let s = l.src(arg(args, 1)?, ty)?;
    let d = l.dst(arg(args, 0)?, ty)?;
    let window = match space {
        None | Some(1) => SHARED_WINDOW,
        Some(2) => LOCAL_WINDOW,
        Some(4) => PARAM_WINDOW,
        _ => {
            l.op(Code::Mov64, &[d], &[s]);
            return Ok(());
        }
    };
    let window = l.const64(window);
    l.op(if to { Code::Sub64 } else { Code::Add64 }, &[d], &[s, window]);
    Ok(())
}

/// `isspacep`.
pub fn isspacep(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let space = p.take_any(&["global", "const", "shared", "shared::cta", "shared::cluster", "local", "param"]);
    p.take("param::entry");
    let window = match space {
        Some(0 | 1) => 0,
        Some(2..5) => SHARED_WINDOW,
        Some(5) => LOCAL_WINDOW,
        _ => PARAM_WINDOW,
    };
    let a = l.src(arg(args, 1)?, Type::U(64))?;
    let d = l.dst(arg(args, 0)?, Type::Pred)?;
    l.op(Code::InWindow, &[d], &[a]).imm = window as i64;
    Ok(())
}

/// The modifiers of a conversion.
struct Cvt {
    /// `.rni` and its like.
    integer: Option<i64>,
    /// `.rn` and its like.
    mode: i64,
    ftz: bool,
    sat: bool,
    relu: bool,
    /// `.satfinite`; conversions to fp8 always have it.
    finite: bool,
}

/// `cvt`.
pub fn cvt(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let away = p.take("rna");
    let c = Cvt {
        integer: p.take_any(&["rni", "rzi", "rmi", "rpi"]).map(|m| m as i64),
        mode: p.take_any(&["rn", "rz", "rm", "rp"]).unwrap_or(0) as i64,
        ftz: p.take("ftz"),
        sat: p.take("sat"),
        relu: p.take("relu"),
        finite: p.take("satfinite"),
    };
    if p.take("pack") {
        return Err(format!("{} is not implemented", p.name()));
    }
    let name = p.name();
    let rest = p.rest();
    let [to, from] = rest[..] else { return Err(format!("unknown modifiers of {name}")) };
    if let Some(result) = special(l, &c, (to, from), away, args) {
        return result;
    }
    let (Some(to), Some(from)) = (parse_type(to), parse_type(from)) else {
        return Err(format!("unknown conversion {name}"));
    };
    let float = |t: Type| matches!(t, Type::F(_) | Type::Bf16);
    let s = l.src(arg(args, 1)?, from)?;
    let d = l.dst(arg(args, 0)?, to)?;
    match (float(from), float(to)) {
        (false, false) => int_to_int(l, &c, to, from, d, s),
        (false, true) => int_to_float(l, &c, to, from, d, s),
        (true, false) => float_to_int(l, &c, to, from, d, s),
        (true, true) => float_to_float(l, &c, to, from, d, s)?,
    }
    Ok(())
}

/// Conversions to and from packed and 8-bit formats and tf32.
fn special(l: &mut Lower<'_, '_>, c: &Cvt, (to, from): (&str, &str), away: bool, args: Args<'_>) -> Option<Res> {
    let relu = i64::from(c.relu);
    let (code, imm, from, to) = match (to, from) {
        ("tf32", "f32") if away => (Code::Tf32Away, 0, Type::F(32), Type::B(32)),
        ("tf32", "f32") => (Code::Tf32Round, c.mode, Type::F(32), Type::B(32)),
        ("f16x2", "f32") => (Code::CvtF16x2F32, c.mode & 1 | relu << 2, Type::F(32), Type::B(32)),
        ("bf16x2", "f32") => (Code::CvtBf16x2F32, c.mode & 1 | relu << 2, Type::F(32), Type::B(32)),
        ("e4m3x2", "f32") => (Code::CvtE4m3F32, relu, Type::F(32), Type::B(16)),
        ("e5m2x2", "f32") => (Code::CvtE5m2F32, relu, Type::F(32), Type::B(16)),
        ("e4m3x2", "f16x2") => (Code::CvtE4m3F16x2, relu, Type::B(32), Type::B(16)),
        ("e5m2x2", "f16x2") => (Code::CvtE5m2F16x2, relu, Type::B(32), Type::B(16)),
        ("f16x2", "e4m3x2") => (Code::CvtF16x2E4m3, relu, Type::B(16), Type::B(32)),
        ("f16x2", "e5m2x2") => (Code::CvtF16x2E5m2, relu, Type::B(16), Type::B(32)),
        _ => return None,
    };
    let mut run = || {
        let s = args[1..].iter().map(|a| l.src(a, from)).collect::<Result<Vec<_>, _>>()?;
        let d = l.dst(arg(args, 0)?, to)?;
        l.op(code, &[d], &s).imm = imm;
        let finite = match code {
            Code::Tf32Away | Code::Tf32Round => Code::FiniteTf32,
            Code::CvtF16x2F32 => Code::HFiniteF16x2,
            Code::CvtBf16x2F32 => Code::HFiniteBf16x2,
            _ => return Ok(()),
        };
        if c.finite {
            l.later(finite, &[d], &[d], 0);
        }
        Ok(())
    };
    Some(run())
}

/// The operation that extends the low bits of a 32-bit register; `None` for 32 bits.
fn extension(ty: Type) -> Option<Code> {
    match (ty.bytes(), matches!(ty, Type::S(_))) {
        (1, false) => Some(Code::ExtU8),
        (1, true) => Some(Code::ExtS8),
        (2, false) => Some(Code::ExtU16),
        (2, true) => Some(Code::ExtS16),
        _ => None,
    }
}

/// A value of a narrow type, extended to 32 bits.
fn extended(l: &mut Lower<'_, '_>, ty: Type, s: V) -> V {
    let Some(code) = extension(ty) else { return s };
    let t = l.temp(Kind::R32);
    l.aux(code, &[t], &[s]);
    t
}

/// A value of any integer type, extended to 64 bits.
fn extended64(l: &mut Lower<'_, '_>, ty: Type, s: V) -> V {
    if ty.bytes() == 8 {
        return s;
    }
    let (s, t) = (extended(l, ty, s), l.temp(Kind::R64));
    l.aux(if matches!(ty, Type::S(_)) { Code::ExtS64 } else { Code::ExtU64 }, &[t], &[s]);
    t
}

fn int_to_int(l: &mut Lower<'_, '_>, c: &Cvt, to: Type, from: Type, d: V, s: V) {
    let signed = |t: Type| matches!(t, Type::S(_));
    if c.sat {
        let wide = extended64(l, from, s);
        let t = l.temp(Kind::R64);
        let width = to.bytes() as i64 * 8;
        let code = if signed(from) { Code::ClampS64 } else { Code::ClampU64 };
        l.aux(code, &[t], &[wide]).imm = if signed(to) { -width } else { width };
        l.op(if to.bytes() == 8 { Code::Mov64 } else { Code::Low32 }, &[d], &[t]);
        return;
    }
    if to.bytes() == 8 {
        if from.bytes() == 8 {
            l.op(Code::Mov64, &[d], &[s]);
        } else {
            let s = extended(l, from, s);
            l.op(if signed(from) { Code::ExtS64 } else { Code::ExtU64 }, &[d], &[s]);
        }
        return;
    }
    let low = if from.bytes() == 8 {
        let t = if to.bytes() == 4 { d } else { l.temp(Kind::R32) };
        if to.bytes() == 4 {
            l.op(Code::Low32, &[t], &[s]);
            return;
        }
        l.aux(Code::Low32, &[t], &[s]);
        t
    } else {
        s
    };
    // The narrower of the two types decides the bits; a widening extends by the source's sign.
    let narrow = if from.bytes() < to.bytes() { from } else { to };
    l.op(extension(narrow).unwrap_or(Code::Mov32), &[d], &[low]);
}

fn int_to_float(l: &mut Lower<'_, '_>, c: &Cvt, to: Type, from: Type, d: V, s: V) {
    let signed = matches!(from, Type::S(_));
    let pick = |s: Code, u: Code| if signed { s } else { u };
    match to {
        Type::F(32) if from.bytes() == 8 => l.op(pick(Code::CvtF32S64, Code::CvtF32U64), &[d], &[s]).imm = c.mode,
        Type::F(32) => {
            let s = extended(l, from, s);
            let code = match c.mode {
                0 => pick(Code::CvtF32S32, Code::CvtF32U32),
                _ => pick(Code::CvtRoundF32S32, Code::CvtRoundF32U32),
            };
            l.op(code, &[d], &[s]).imm = c.mode;
        }
        Type::F(64) => {
            let s = extended64(l, from, s);
            l.op(pick(Code::CvtF64S64, Code::CvtF64U64), &[d], &[s]).imm = c.mode;
        }
        _ => {
            let s = extended64(l, from, s);
            let t = l.temp(Kind::R64);
            l.aux(pick(Code::StickyF64S64, Code::StickyF64U64), &[t], &[s]);
            l.op(if to == Type::Bf16 { Code::CvtBf16F64 } else { Code::CvtF16F64 }, &[d], &[t]).imm = c.mode;
        }
    }
    match to {
        Type::F(32) if c.sat => l.later(Code::SatF32, &[d], &[d], 0),
        Type::F(64) if c.sat => l.later(Code::SatF64, &[d], &[d], 0),
        Type::F(16) if c.sat => l.later(Code::HSatF16, &[d], &[d], 0),
        _ => {}
    }
}

/// A half as an f32, or an f32 flushed if the instruction says so.
fn as_f32(l: &mut Lower<'_, '_>, c: &Cvt, from: Type, s: V) -> V {
    let code = match from {
        Type::F(16) => Code::CvtF32F16,
        Type::Bf16 => Code::CvtF32Bf16,
        Type::F(32) if c.ftz => Code::FlushF32,
        _ => return s,
    };
    let t = l.temp(Kind::R32);
    l.aux(code, &[t], &[s]);
    t
}

fn float_to_int(l: &mut Lower<'_, '_>, c: &Cvt, to: Type, from: Type, d: V, s: V) {
    let signed = usize::from(matches!(to, Type::S(_)));
    let row = match to.bytes() {
        1 => 0,
        2 => 1,
        4 => 2,
        _ => 3,
    };
    let code = match from {
        Type::F(64) => [
            [Code::CvtU8F64, Code::CvtS8F64],
            [Code::CvtU16F64, Code::CvtS16F64],
            [Code::CvtU32F64, Code::CvtS32F64],
            [Code::CvtU64F64, Code::CvtS64F64],
        ],
        _ => [
            [Code::CvtU8F32, Code::CvtS8F32],
            [Code::CvtU16F32, Code::CvtS16F32],
            [Code::CvtU32F32, Code::CvtS32F32],
            [Code::CvtU64F32, Code::CvtS64F32],
        ],
    }[row][signed];
    let s = as_f32(l, c, from, s);
    l.op(code, &[d], &[s]).imm = c.integer.unwrap_or(1);
}

fn float_to_float(l: &mut Lower<'_, '_>, c: &Cvt, to: Type, from: Type, d: V, s: V) -> Res {
    let half = |t: Type| matches!(t, Type::F(16) | Type::Bf16);
    match (to, from, c.integer) {
        (Type::F(32), Type::F(32), Some(mode)) => {
            let s = as_f32(l, c, from, s);
            l.op(Code::RoundF32, &[d], &[s]).imm = mode;
        }
        (Type::F(64), Type::F(64), Some(mode)) => l.op(Code::RoundF64, &[d], &[s]).imm = mode,
        (Type::F(16), Type::F(16), Some(mode)) => l.op(Code::RoundF16, &[d], &[s]).imm = mode,
        (Type::Bf16, Type::Bf16, Some(mode)) => l.op(Code::RoundBf16, &[d], &[s]).imm = mode,
        (Type::F(32), Type::F(32), None) if c.ftz => drop(l.op(Code::FlushF32, &[d], &[s])),
        (Type::F(64), Type::F(64), None) => drop(l.op(Code::Mov64, &[d], &[s])),
        (Type::F(32), Type::F(32), None) | (Type::F(16), Type::F(16), None) | (Type::Bf16, Type::Bf16, None) => {
            l.op(Code::Mov32, &[d], &[s]);
        }
        (Type::F(32), Type::F(64), None) => {
            l.op(Code::CvtF32F64, &[d], &[s]).imm = c.mode;
            if c.ftz {
                l.later(Code::FlushF32, &[d], &[d], 0);
            }
        }
        (Type::F(64), _, None) => {
            let s = as_f32(l, c, from, s);
            l.op(Code::CvtF64F32, &[d], &[s]);
        }
        (Type::F(32), Type::F(16), None) => drop(l.op(Code::CvtF32F16, &[d], &[s])),
        (Type::F(32), Type::Bf16, None) => drop(l.op(Code::CvtF32Bf16, &[d], &[s])),
        (Type::F(16), Type::Bf16, None) => l.op(Code::CvtF16Bf16, &[d], &[s]).imm = c.mode,
        (Type::Bf16, Type::F(16), None) => l.op(Code::CvtBf16F16, &[d], &[s]).imm = c.mode,
        (_, Type::F(64), None) if half(to) => {
            l.op(if to == Type::Bf16 { Code::CvtBf16F64 } else { Code::CvtF16F64 }, &[d], &[s]).imm = c.mode;
        }
        (_, Type::F(32), None) if half(to) => {
            let s = as_f32(l, c, from, s);
            let code = match (to, c.mode) {
                (Type::Bf16, 0) => Code::CvtBf16F32,
                (Type::Bf16, _) => Code::CvtRoundBf16F32,
                (_, 0) => Code::CvtF16F32,
                _ => Code::CvtRoundF16F32,
            };
            l.op(code, &[d], &[s]).imm = c.mode;
        }
        _ => return Err(format!("conversion from {from:?} to {to:?}")),
    }
    match to {
        Type::F(32) if c.sat => l.later(Code::SatF32, &[d], &[d], 0),
        Type::F(64) if c.sat => l.later(Code::SatF64, &[d], &[d], 0),
        Type::F(16) if c.sat => l.later(Code::HSatF16, &[d], &[d], 0),
        Type::F(16) if c.finite => l.later(Code::HFiniteF16, &[d], &[d], 0),
        Type::Bf16 if c.finite => l.later(Code::HFiniteBf16, &[d], &[d], 0),
        _ => {}
    }
    if c.relu && half(to) {
        l.later(Code::HRelu, &[d], &[d], 0);
    }
    Ok(())
}
