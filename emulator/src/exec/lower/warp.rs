//! Instructions between lanes.
use super::arith::arg;
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::warp::REDUX;
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

/// The destinations of `d|p`; a missing one is a register that nobody reads.
fn pair(l: &mut Lower<'_, '_>, operand: &Operand) -> Result<[u32; 2], String> {
    let (d, p) = match operand {
        Operand::Pair(d, p) => (&**d, &**p),
        d => (d, &Operand::Sink),
    };
    Ok([l.dst(d, Type::B(32))?, l.dst(p, Type::Pred)?])
}

fn must_sync(p: &mut Parts<'_>) -> Res {
    if p.take("sync") { Ok(()) } else { Err(format!("{}: only the .sync form exists since sm_70", p.name())) }
}

/// `shfl.sync`.
pub fn shfl(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    must_sync(p)?;
    let kind = p.take_any(&["up", "down", "bfly", "idx"]).ok_or("a shuffle without a kind")?;
    p.ty()?;
    let s = args[1..].iter().map(|a| l.src(a, Type::B(32))).collect::<Result<Vec<_>, _>>()?;
    if s.len() != 4 {
        return Err(format!("{} needs four sources", p.name()));
    }
    let d = pair(l, arg(args, 0)?)?;
    l.op(Code::Shfl, &d, &s).imm = kind as i64;
    Ok(())
}

/// `vote.sync`.
pub fn vote(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    must_sync(p)?;
    let kind = p.take_any(&["all", "any", "uni", "ballot"]).ok_or("a vote without a kind")?;
    let ty = p.ty()?;
    let s = [l.src(arg(args, 1)?, Type::Pred)?, l.src(arg(args, 2)?, Type::B(32))?];
    let d = l.dst(arg(args, 0)?, ty)?;
    l.op(Code::Vote, &[d], &s).imm = kind as i64;
    Ok(())
}

/// `match.sync`.
pub fn match_lanes(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    must_sync(p)?;
    let kind = p.take_any(&["any", "all"]).ok_or("a match without a kind")?;
    let ty = p.ty()?;
    let s = [l.src(arg(args, 1)?, ty)?, l.src(arg(args, 2)?, Type::B(32))?];
    let d = pair(l, arg(args, 0)?)?;
    l.op(if ty.bytes() == 8 { Code::Match64 } else { Code::Match }, &d, &s).imm = kind as i64;
    Ok(())
}

/// `redux.sync`.
pub fn redux(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    must_sync(p)?;
    let names = ["add", "and", "or", "xor", "min", "max"];
    let name = names[p.take_any(&names).ok_or("a reduction without an operation")?];
    let full = match (name, p.ty()?) {
        ("min" | "max", Type::S(32)) => format!("{name}.s32"),
        ("min" | "max", Type::U(32)) => format!("{name}.u32"),
        (_, Type::F(_)) => return Err(format!("{} is for sm_100 and later", p.name())),
        _ => name.to_string(),
    };
    let kind = REDUX.iter().position(|r| *r == full).ok_or("an unknown reduction")?;
    let s = [l.src(arg(args, 1)?, Type::B(32))?, l.src(arg(args, 2)?, Type::B(32))?];
    let d = l.dst(arg(args, 0)?, Type::B(32))?;
    l.op(Code::Redux, &[d], &s).imm = kind as i64;
    Ok(())
}

/// `activemask`.
pub fn activemask(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.ty()?;
    let d = l.dst(arg(args, 0)?, Type::B(32))?;
    l.op(Code::LaneMask, &[d], &[]);
    Ok(())
}

/// `elect.sync`.
pub fn elect(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    must_sync(p)?;
    let s = l.src(arg(args, 1)?, Type::B(32))?;
    let d = pair(l, arg(args, 0)?)?;
    l.op(Code::Elect, &d, &[s]);
    Ok(())
}
