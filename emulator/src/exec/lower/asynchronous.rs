//! `mbarrier` and `cp.async.bulk`.
use super::arith::arg;
use super::build::{Kind, V};
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::access::SHARED_WINDOW;
use crate::exec::ops::mbarrier::flag;
use crate::exec::table::Code;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

/// Qualifiers without a meaning here: memory is coherent, and there are no clusters of several blocks.
const HINTS: [&str; 7] = ["relaxed", "acquire", "release", "cta", "cluster", "noComplete", "b64"];

/// The shared address and displacement of an object; generic addresses are brought into shared memory.
fn object(l: &mut Lower<'_, '_>, operand: &Operand, shared: bool) -> Result<(V, i64), String> {
    let (base, offset) = l.mem(operand, shared)?;
    if shared {
        return Ok((base, offset));
    }
    let (window, t, low) = (l.const64(SHARED_WINDOW), l.temp(Kind::R64), l.temp(Kind::R32));
    l.aux(Code::Sub64, &[t], &[base, window]);
    l.aux(Code::Low32, &[low], &[t]);
    Ok((low, offset))
}

fn shared(p: &mut Parts<'_>) -> bool {
    p.take_any(&["shared", "shared::cta", "shared::cluster"]).is_some()
}

/// `mbarrier`.
pub fn mbarrier(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    const OPERATIONS: [&str; 9] = [
        "init",
        "inval",
        "expect_tx",
        "complete_tx",
        "arrive",
        "arrive_drop",
        "test_wait",
        "try_wait",
        "pending_count",
    ];
    // `arrive.expect_tx` has two of them.
    let expecting = (p.has("arrive") || p.has("arrive_drop")) && p.take("expect_tx");
    let operation = OPERATIONS[p.take_any(&OPERATIONS).ok_or_else(|| format!("{} is not implemented", p.name()))?];
    let (in_shared, parity) = (shared(p), p.take("parity"));
    p.skip(&HINTS);
    let word = Type::U(32);
    match operation {
        "init" | "expect_tx" | "complete_tx" | "inval" => {
            let code = match operation {
                "init" => Code::MbarrierInit,
                "inval" => Code::MbarrierInval,
                "expect_tx" => Code::MbarrierExpectTx,
                _ => Code::MbarrierCompleteTx,
            };
            let (base, offset) = object(l, arg(args, 0)?, in_shared)?;
            let count = if operation == "inval" { l.const32(0) } else { l.src(arg(args, 1)?, word)? };
            l.op(code, &[], &[base, count]).imm = offset << 8;
        }
        "arrive" | "arrive_drop" => arrive(l, args, in_shared, operation == "arrive_drop", expecting)?,
        "test_wait" | "try_wait" => {
            let (base, offset) = object(l, arg(args, 1)?, in_shared)?;
            let phase = l.src(arg(args, 2)?, if parity { word } else { Type::B(64) })?;
            let d = l.dst(arg(args, 0)?, Type::Pred)?;
            l.op(Code::MbarrierWait, &[d], &[base, phase]).imm = offset << 8 | if parity { flag::PARITY } else { 0 };
        }
        _ => {
            let state = l.src(arg(args, 1)?, Type::B(64))?;
            let d = l.dst(arg(args, 0)?, word)?;
            l.op(Code::MbarrierPendingCount, &[d], &[state]);
        }
    }
    Ok(())
}

/// `mbarrier.arrive`: the state may be left out, and so may the count.
fn arrive(l: &mut Lower<'_, '_>, args: Args<'_>, in_shared: bool, drop: bool, expecting: bool) -> Res {
    let (result, rest) = match args.first() {
        Some(Operand::Mem(..)) | None => (&Operand::Sink, args),
        Some(result) => (result, &args[1..]),
    };
    let (base, offset) = object(l, arg(rest, 0)?, in_shared)?;
    let one = l.const32(1);
    let number = rest.get(1).map(|n| l.src(n, Type::U(32))).transpose()?;
    let (count, bytes) = if expecting { (one, number.unwrap_or(one)) } else { (number.unwrap_or(one), one) };
    let d = l.dst(result, Type::B(64))?;
    let flags = if drop { flag::DROP } else { 0 } | if expecting { flag::EXPECT } else { 0 };
    l.op(Code::MbarrierArrive, &[d], &[base, count, bytes]).imm = offset << 8 | flags;
    Ok(())
}

/// `cp.async.mbarrier.arrive`.
pub fn copy_arrive(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.skip(&["mbarrier", "arrive"]);
    let (in_shared, no_increment) = (shared(p), p.take("noinc"));
    p.skip(&HINTS);
    let (base, offset) = object(l, arg(args, 0)?, in_shared)?;
    l.op(Code::CopyMbarrierArrive, &[], &[base]).imm = offset << 8 | if no_increment { flag::NO_INCREMENT } else { 0 };
    Ok(())
}

/// An address with its displacement in a register.
fn whole(l: &mut Lower<'_, '_>, operand: &Operand, in_shared: bool) -> Result<V, String> {
    let (base, offset) = l.mem(operand, in_shared)?;
    if offset == 0 {
        return Ok(base);
    }
    let (kind, code) = if in_shared { (Kind::R32, Code::Add32) } else { (Kind::R64, Code::Add64) };
    let displacement = if in_shared { l.const32(offset as u32) } else { l.const64(offset as u64) };
    let t = l.temp(kind);
    l.aux(code, &[t], &[base, displacement]);
    Ok(t)
}

/// `cp.async.bulk` but for tensors, multicast and copies between blocks.
pub fn bulk(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.take("bulk");
    if p.take("commit_group") {
        l.op(Code::BulkCommit, &[], &[]);
        return Ok(());
    }
    if p.take("wait_group") {
        let Operand::Int(n) = arg(args, 0)? else { return Err("the number of groups is no constant".to_string()) };
        let read = p.take("read");
        let op = l.op(Code::BulkWait, &[], &[]);
        (op.imm, op.raw_target) = (*n, u32::from(read));
        return Ok(());
    }
    if p.take("prefetch") {
        p.rest();
        l.op(Code::Prefetch, &[], &[]);
        return Ok(());
    }
    p.take("L2::cache_hint");
    // Destination and source space, in this order.
    let spaces: Vec<&str> = p.rest();
    let word = Type::U(32);
    match spaces.as_slice() {
        ["shared::cluster" | "shared::cta", "global", "mbarrier::complete_tx::bytes"] => {
            let (dst, src) = (whole(l, arg(args, 0)?, true)?, whole(l, arg(args, 1)?, false)?);
            let size = l.src(arg(args, 2)?, word)?;
            let (barrier, offset) = l.mem(arg(args, 3)?, true)?;
            let op = l.op(Code::BulkLoad, &[], &[barrier, dst, size, src]);
            (op.imm, op.site) = (offset << 8, true);
        }
        ["global", "shared::cta", "bulk_group"] => {
            let (dst, src) = (whole(l, arg(args, 0)?, false)?, whole(l, arg(args, 1)?, true)?);
            let size = l.src(arg(args, 2)?, word)?;
            l.op(Code::BulkStore, &[], &[dst, src, size]).site = true;
        }
        _ => return Err(format!("{} is not implemented", p.name())),
    }
    Ok(())
}
