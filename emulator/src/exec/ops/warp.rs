//! Operations between the lanes of a warp: shuffles, votes, matches, reductions, warp barriers.
//!
//! A `.sync` operation names its members. Lanes that are here before all living members are wait (the group parks and
//! the scheduler retries it when lanes have joined or ended); what the members compute they compute together.
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::lane::{LANES, Lane};
use crate::exec::op::{Flow, Op, Stop};

/// Runs `f` for each set of lanes that name the same members and are complete; parks the others.
///
/// # Safety
/// `members` is a 32-bit register of the running kernel.
#[inline(always)]
unsafe fn gather(cx: &mut Cx<'_>, members: u32, mask: u32, mut f: impl FnMut(&mut Cx<'_>, u32) -> Flow) -> Flow {
    // SAFETY: as the caller says.
    let named = unsafe { &*cx.reg::<u32>(members) };
    let first = named[mask.trailing_zeros() as usize & 31];
    // The usual case: everybody is here and names everybody.
    if mask == first || (mask | cx.dead == !0 && first & !cx.dead == mask && lanes(mask).all(|l| named[l] == first)) {
        if lanes(mask).all(|l| named[l] == first) {
            return f(cx, mask);
        }
    }
    let named = *named;
    let (mut rest, mut parked) = (mask, 0);
    while rest != 0 {
        let members = named[rest.trailing_zeros() as usize];
        let here = lanes(rest).filter(|&l| named[l] == members).fold(0, |m, l| m | 1 << l);
        rest &= !here;
        if here & !members != 0 {
            let lane = (here & !members).trailing_zeros() as usize;
            return fail(cx, lane, format!("the member mask {members:#010x} does not name the executing lane {lane}"));
        }
        if members & !cx.dead & !here != 0 {
            parked |= here;
        } else if f(cx, here) == Flow::Stop {
            return Flow::Stop;
        }
    }
    if parked != 0 {
        cx.stop = Stop::Park(parked);
        return Flow::Stop;
    }
    Flow::Next
}

/// Records a misuse of a warp operation.
#[cold]
fn fail(cx: &mut Cx<'_>, lane: usize, what: String) -> Flow {
    cx.fault = Some(Cause { kind: FaultKind::LaunchFailed, lane: Some(lane), what });
    cx.stop = Stop::Fault;
    Flow::Stop
}

/// `shfl.sync`: destinations value and predicate, sources a, b, c, members; immediate 0 up, 1 down, 2 bfly, 3 idx.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn shuffle(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let members = cx.more(op, 5);
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        gather(cx, members, mask, |cx, here| {
            let (a, b, c) = (*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b), &*cx.reg::<u32>(op.c));
            let (mut out, mut inside, mut from) = (a, 0u32, 0u32);
            for l in 0..LANES as u32 {
                let i = l as usize;
                let (b, clamp, segment) = (b[i] & 31, c[i] & 31, c[i] >> 8 & 31);
                let low = l & segment;
                let limit = low | (clamp & !segment);
                let (j, p) = match op.imm {
                    0 => (l.wrapping_sub(b), l as i32 - b as i32 >= limit as i32),
                    1 => (l + b, l + b <= limit),
                    2 => (l ^ b, l ^ b <= limit),
                    _ => (low | (b & !segment), low | (b & !segment) <= limit),
                };
                let j = if p { j & 31 } else { l };
                inside |= u32::from(p) << l;
                from |= (!here >> j & 1) << l;
                out[i] = a[j as usize];
            }
            if from & here != 0 {
                return unreachable_lane(cx, op, from & here);
            }
            cx.set(op.d, here, &out);
            cx.set_pred(cx.more(op, 1), here, inside);
            Flow::Next
        })
    }
}

/// A shuffle read from a lane that does not take part.
#[cold]
fn unreachable_lane(cx: &mut Cx<'_>, _op: &Op, wrong: u32) -> Flow {
    let lane = wrong.trailing_zeros() as usize;
    fail(cx, lane, format!("shfl: lane {lane} reads from a lane that does not take part (its value is undefined)"))
}

/// `vote.sync`: source predicate and members; immediate 0 all, 1 any, 2 uni (a predicate each), 3 ballot.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn vote(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        gather(cx, op.b, mask, |cx, here| {
            let yes = cx.pred(op.a) & here;
            let answer = match op.imm {
                0 => yes == here,
                1 => yes != 0,
                2 => yes == 0 || yes == here,
                _ => {
                    cx.set(op.d, here, &[yes; LANES]);
                    return Flow::Next;
                }
            };
            cx.set_pred(op.d, here, if answer { !0 } else { 0 });
            Flow::Next
        })
    }
}

/// `match.sync`: destinations mask and predicate, sources value and members; immediate 0 any, 1 all.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn match_lanes<T: Lane>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow
where
    T::In: PartialEq,
{
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        gather(cx, op.b, mask, |cx, here| {
            let a = *cx.reg::<T::In>(op.a);
            let mut out = [0; LANES];
            for l in lanes(here) {
                out[l] = lanes(here).filter(|&m| a[m] == a[l]).fold(0, |m, l| m | 1 << l);
            }
            let all = lanes(here).all(|l| out[l] == here);
            if op.imm == 1 {
                out = [if all { here } else { 0 }; LANES];
            }
            cx.set(op.d, here, &out);
            cx.set_pred(cx.more(op, 1), here, if all { !0 } else { 0 });
            Flow::Next
        })
    }
}

/// `redux.sync` by number, the immediate of [`redux`].
pub const REDUX: [&str; 8] = ["add", "and", "or", "xor", "min.u32", "max.u32", "min.s32", "max.s32"];

/// `redux.sync`: source value and members.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn redux(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        gather(cx, op.b, mask, |cx, here| {
            let a = *cx.reg::<u32>(op.a);
            let fold = |f: fn(u32, u32) -> u32| lanes(here).map(|l| a[l]).reduce(f).unwrap_or(0);
            let sum = match op.imm {
                0 => fold(u32::wrapping_add),
                1 => fold(|x, y| x & y),
                2 => fold(|x, y| x | y),
                3 => fold(|x, y| x ^ y),
                4 => fold(u32::min),
                5 => fold(u32::max),
                6 => fold(|x, y| (x as i32).min(y as i32) as u32),
                _ => fold(|x, y| (x as i32).max(y as i32) as u32),
            };
            cx.set(op.d, here, &[sum; LANES]);
            Flow::Next
        })
    }
}

/// `elect.sync`: destinations leader and predicate, source members.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn elect(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        gather(cx, op.a, mask, |cx, here| {
            let leader = here.trailing_zeros();
            cx.set(op.d, here, &[leader; LANES]);
            cx.set_pred(cx.more(op, 1), here, 1 << leader);
            Flow::Next
        })
    }
}

/// `bar.warp.sync`: source members.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn sync(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: a 32-bit register by lowering.
    unsafe { gather(cx, op.a, mask, |_, _| Flow::Next) }
}

/// An `.aligned` operation needs all living lanes together: true if they are, else they are parked.
#[inline(always)]
pub fn aligned(cx: &mut Cx<'_>, mask: u32) -> bool {
    if mask | cx.dead == !0 {
        return true;
    }
    cx.stop = Stop::Park(mask);
    false
}

/// An operation on whole warps: false, and `cx.stop` set, unless all 32 lanes are here.
#[inline(always)]
pub fn full(cx: &mut Cx<'_>, mask: u32) -> bool {
    if mask == !0 {
        return true;
    }
    if aligned(cx, mask) {
        let lane = mask.trailing_zeros() as usize;
        fail(cx, lane, format!("a matrix operation needs a full warp, but only lanes {mask:#010x} exist"));
    }
    false
}
