//! Branches, calls, ends, and what makes a thread wait.
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::op::{Flow, Op, Stop};

/// Polls after which a block lets others run.
pub const PATIENCE: u32 = 64;

/// Operations without an effect here: fences (all memory is coherent), prefetches, hints.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn nothing(_cx: &mut Cx<'_>, _op: &Op, _mask: u32) -> Flow {
    Flow::Next
}

/// `bra` under a guard.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn branch(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    if mask == cx.mask {
        cx.pc = op.target as usize;
        return Flow::Jump;
    }
    cx.stop = Stop::Branch { taken: mask, target: op.target };
    Flow::Stop
}

/// `bra` that all active lanes take.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn jump(cx: &mut Cx<'_>, op: &Op, _mask: u32) -> Flow {
    cx.pc = op.target as usize;
    Flow::Jump
}

/// Sends the lanes that share the first lane's target there; the others try again.
fn split(cx: &mut Cx<'_>, mask: u32, target_of: impl Fn(usize) -> u32) -> Flow {
    let target = target_of(mask.trailing_zeros() as usize);
    let taken = lanes(mask).filter(|&l| target_of(l) == target).fold(0, |m, l| m | 1 << l);
    if taken == cx.mask {
        cx.pc = target as usize;
        return Flow::Jump;
    }
    cx.stop = Stop::Split { taken, target };
    Flow::Stop
}

/// `brx.idx`: the immediate is the number of targets, which follow the index in the operand list.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn indexed(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: a 32-bit register by lowering.
    let index = unsafe { *cx.reg::<u32>(op.a) };
    if let Some(lane) = lanes(mask).find(|&l| i64::from(index[l]) >= op.imm) {
        let what = format!("brx.idx with index {}, but there are {} targets", index[lane], op.imm);
        cx.fault = Some(Cause { kind: FaultKind::IllegalInstruction, lane: Some(lane), what });
        cx.stop = Stop::Fault;
        return Flow::Stop;
    }
    let targets = &cx.launch.kernel.operands[op.more as usize..];
    split(cx, mask, |l| targets[index[l] as usize])
}

/// `call` of a device function: keeps where to return to, a lane each, in `d`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn call(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let next = cx.pc_of(op) as u32 + 1;
    // SAFETY: a 32-bit register by lowering.
    unsafe { cx.set(op.d, mask, &[next; 32]) };
    // SAFETY: passed on.
    unsafe { branch(cx, op, mask) }
}

/// `ret` of a device function, to where `a` says.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn ret(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: a 32-bit register by lowering.
    let to = unsafe { *cx.reg::<u32>(op.a) };
    split(cx, mask, |l| to[l])
}

/// `exit`, and `ret` of an entry.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn exit(cx: &mut Cx<'_>, _op: &Op, mask: u32) -> Flow {
    cx.stop = Stop::Exit(mask);
    Flow::Stop
}

/// `trap` and `brkpt`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn trap(cx: &mut Cx<'_>, _op: &Op, mask: u32) -> Flow {
    let lane = Some(mask.trailing_zeros() as usize);
    cx.fault = Some(Cause { kind: FaultKind::IllegalInstruction, lane, what: "trap".to_string() });
    cx.stop = Stop::Fault;
    Flow::Stop
}

/// `nanosleep`: lets others run.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn sleep(cx: &mut Cx<'_>, _op: &Op, _mask: u32) -> Flow {
    cx.polls = PATIENCE;
    cx.stop = Stop::Yield;
    Flow::Stop
}
