//! `cvt`.
use super::arith::arg;
use super::build::{Kind, V};
use super::function::Lower;
use super::parts::{Parts, parse_type};
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

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
