//! Moves, packing and unpacking, and conversions of addresses.
use super::arith::arg;
use super::build::{Kind, V};
use super::function::{Home, Lower};
use super::parts::Parts;
use crate::exec::ops::access::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

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
