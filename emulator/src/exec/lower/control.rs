//! Branches, calls, barriers.
use super::arith::arg;
use super::build::Item;
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::barrier::mode;
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Sym, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

/// `bra`.
pub fn bra(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.take("uni");
    let Operand::Label(label) = arg(args, 0)? else { return Err("the target is no label".to_string()) };
    let index = l.index;
    let op = l.op(Code::Bra, &[], &[]);
    op.target = Some((index, *label));
    op.ends = op.guard.is_none();
    if op.ends {
        op.code = Code::BraUni;
    }
    Ok(())
}

/// `brx.idx`.
pub fn brx(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.skip(&["idx", "uni"]);
    let Operand::List(name) = arg(args, 1)? else { return Err("the targets are no list".to_string()) };
    let targets = l.f.targets.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
    let targets = targets.ok_or_else(|| format!("no .branchtargets {name}"))?;
    let index = l.src(arg(args, 0)?, Type::U(32))?;
    let function = l.index;
    let op = l.op(Code::BrxIdx, &[], &[index]);
    op.imm = targets.len() as i64;
    op.list = targets.into_iter().map(|t| Item::Label((function, t))).collect();
    op.ends = op.guard.is_none();
    Ok(())
}

/// `call` of a function by its name.
pub fn call(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.take("uni");
    let mut callee = None;
    let (mut before, mut after): (&[Operand], &[Operand]) = (&[], &[]);
    for a in args {
        match a {
            Operand::Addr(Sym::Function(f), _) => callee = Some(*f as usize),
            Operand::Paren(list) if callee.is_none() => before = list,
            Operand::Paren(list) => after = list,
            _ => {}
        }
    }
    let callee = callee.ok_or("indirect calls cannot be executed")?;
    let callee = super::definition(l.b.module, callee);
    let offsets = |l: &Lower<'_, '_>, list: &[Operand]| -> Result<Vec<u32>, String> {
        list.iter()
            .map(|o| match o {
                Operand::Addr(sym, 0) => l.address(*sym).map(|a| a as u32),
                other => Err(format!("the call parameter {other:?} is no .param variable")),
            })
            .collect()
    };
    let (results, params) = (offsets(l, before)?, offsets(l, after)?);
    let function = &l.b.module.functions[callee];
    if function.body.is_none() {
        return host_call(l, &function.name, &results, &params);
    }
    let frame = l.b.frames[&callee].clone();
    let (param_sizes, result_sizes): (Vec<_>, Vec<_>) =
        (function.params.iter().map(|v| v.size).collect(), function.returns.iter().map(|v| v.size).collect());
    if params.len() != frame.params.len() || results.len() != frame.returns.len() {
        return Err(format!("{} is called with a wrong number of parameters", function.name));
    }
    let copy = |l: &mut Lower<'_, '_>, to: u32, from: u32, size: usize| {
        let op = l.aux(Code::LocalCopy, &[], &[]);
        (op.raw_target, op.raw_more, op.imm) = (to, Some(from), size as i64);
    };
    for (i, size) in param_sizes.into_iter().enumerate() {
        copy(l, frame.params[i], params[i], size);
    }
    // The callee's first block has the label after the named ones.
    let entry = (callee, super::function::entry_label(&l.b.module.functions[callee]));
    let op = l.op(Code::Call, &[frame.link], &[]);
    op.target = Some(entry);
    for (i, size) in result_sizes.into_iter().enumerate() {
        copy(l, results[i], frame.returns[i], size);
    }
    Ok(())
}

/// Functions that have no body: those that the host stands in for.
fn host_call(l: &mut Lower<'_, '_>, name: &str, results: &[u32], params: &[u32]) -> Res {
    match name {
        "vprintf" if params.len() == 2 => {
            let d = l.temp(super::build::Kind::R32);
            let op = l.op(Code::VPrintf, &[d], &[]);
            (op.raw_target, op.raw_more, op.site) = (params[0], Some(params[1]), true);
            if let Some(result) = results.first() {
                let zero = l.const64(0);
                let op = l.aux(Code::StLocal32, &[], &[zero, d]);
                (op.imm, op.site) = (i64::from(*result), true);
            }
        }
        "__assertfail" if params.len() == 5 => {
            let op = l.op(Code::AssertFail, &[], &[]);
            op.list = params.iter().map(|p| Item::Raw(*p)).collect();
            op.site = true;
        }
        _ => return Err(format!("call of {name}, which has no body here")),
    }
    Ok(())
}

/// `ret` and `exit`.
pub fn end(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, _args: Args<'_>) -> Res {
    let ret = p.name().starts_with("ret") && !l.f.entry;
    p.take("uni");
    let op = if ret {
        let link = l.link();
        l.op(Code::Ret, &[], &[link])
    } else {
        l.op(Code::Exit, &[], &[])
    };
    op.ends = op.guard.is_none();
    Ok(())
}

/// `trap` and `brkpt`.
pub fn trap(l: &mut Lower<'_, '_>, _p: &mut Parts<'_>, _args: Args<'_>) -> Res {
    l.op(Code::Trap, &[], &[]);
    Ok(())
}

/// `nanosleep`.
pub fn nanosleep(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, _args: Args<'_>) -> Res {
    p.take("u32");
    l.op(Code::NanoSleep, &[], &[]);
    Ok(())
}

/// Fences, which have nothing to do here.
pub fn fence(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, _args: Args<'_>) -> Res {
    p.rest();
    l.op(Code::Fence, &[], &[]);
    Ok(())
}

/// The barrier that `barrier.cluster` uses: a block is a cluster of its own.
pub const CLUSTER_BARRIER: i64 = 16;

/// `bar` and `barrier`.
pub fn barrier(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    // `bar` is `barrier.aligned`.
    let mut flags = if p.take("aligned") || p.name().starts_with("bar.") { mode::ALIGNED } else { 0 };
    p.take("cta");
    if p.take("warp") {
        p.take("sync");
        let members = l.src(arg(args, 0)?, Type::U(32))?;
        l.op(Code::WarpSync, &[], &[members]);
        return Ok(());
    }
    if p.take("cluster") {
        p.skip(&["acquire", "release", "relaxed"]);
        if p.take("arrive") {
            l.op(Code::Fence, &[], &[]);
            return Ok(());
        }
        p.take("wait");
        let id = l.const32(CLUSTER_BARRIER as u32);
        l.op(Code::BarSync, &[], &[id, id]).imm = flags;
        return Ok(());
    }
    let red = p.take("red");
    let (mut ids, mut d, mut predicate) = (args, vec![], None);
    flags |= match (red, p.take("sync"), p.take("arrive")) {
        (false, true, _) => mode::SYNC,
        (false, _, true) => mode::ARRIVE,
        (true, ..) => {
            let kind =
                [mode::POPC, mode::AND, mode::OR][p.take_any(&["popc", "and", "or"]).ok_or("bar.red of what")?];
            let ty = p.ty()?;
            d.push(l.dst(arg(args, 0)?, ty)?);
            let last = args.len().checked_sub(1).filter(|n| *n >= 2).ok_or("bar.red without a predicate")?;
            predicate = Some(l.src(&args[last], Type::Pred)?);
            ids = &args[1..last];
            kind
        }
        _ => return Err(format!("{} is not known", p.name())),
    };
    let id = l.src(arg(ids, 0)?, Type::U(32))?;
    let count = match ids.get(1) {
        Some(count) => {
            flags |= mode::COUNTED;
            l.src(count, Type::U(32))?
        }
        None => id,
    };
    let mut s = vec![id, count];
    s.extend(predicate);
    l.op(Code::BarSync, &d, &s).imm = flags;
    Ok(())
}
