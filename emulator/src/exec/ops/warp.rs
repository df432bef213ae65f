//! Operations between the lanes of a warp: shuffles, votes, matches, reductions, warp barriers.
//!
//! A `.sync` operation names its members. Lanes that are here before all living members are wait (the group parks and
//! the scheduler retries it when lanes have joined or ended); what the members compute they compute together.
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::lane::{LANES, Lane};
use crate::exec::op::{Flow, Op, Stop};

/// Lanes that execute a `.sync` operation together, set by set.
struct Sets {
    /// Each set: lanes that name the same members, all of which are here.
    sets: [u32; LANES],
    count: usize,
    /// Lanes whose members are not complete.
    parked: u32,
}

impl Sets {
    /// What follows once every set has been served.
    #[inline(always)]
    fn finish(&self, cx: &mut Cx<'_>) -> Flow {
        if self.parked == 0 {
            return Flow::Next;
        }
        cx.stop = Stop::Park(self.parked);
        Flow::Stop
    }
}

/// The sets of lanes that name the same members and are complete. `None`: a fault was recorded.
///
/// # Safety
/// `members` is a 32-bit register of the running kernel.
#[inline(always)]
unsafe fn gather(cx: &mut Cx<'_>, members: u32, mask: u32) -> Option<Sets> {
    // SAFETY: as the caller says.
    let named = unsafe { &*cx.reg::<u32>(members) };
    let (first, mut other) = (named[0], 0);
    for l in 0..LANES {
        other |= named[l] ^ first;
    }
    let mut sets = Sets { sets: [0; LANES], count: 1, parked: 0 };
    // The usual case: everybody names the same members, and all of them who live are here.
    if other == 0 && mask & !first == 0 && first & !cx.dead & !mask == 0 {
        sets.sets[0] = mask;
        return Some(sets);
    }
    sets.count = 0;
    gather_apart(cx, *named, mask, sets)
}

/// The unusual case of [`gather`].
#[cold]
#[inline(never)]
fn gather_apart(cx: &mut Cx<'_>, named: [u32; LANES], mask: u32, mut sets: Sets) -> Option<Sets> {
    let mut rest = mask;
    while rest != 0 {
        let members = named[rest.trailing_zeros() as usize];
        let here = lanes(rest).filter(|&l| named[l] == members).fold(0, |m, l| m | 1 << l);
        rest &= !here;
        if here & !members != 0 {
            let lane = (here & !members).trailing_zeros() as usize;
            fail(cx, lane, format!("the member mask {members:#010x} does not name the executing lane {lane}"));
            return None;
        }
        if members & !cx.dead & !here != 0 {
            sets.parked |= here;
        } else {
            sets.sets[sets.count] = here;
            sets.count += 1;
        }
    }
    Some(sets)
}

/// Records a misuse of a warp operation.
#[cold]
fn fail(cx: &mut Cx<'_>, lane: usize, what: String) -> Flow {
    cx.fault = Some(Cause { kind: FaultKind::LaunchFailed, lane: Some(lane), what });
    cx.stop = Stop::Fault;
    Flow::Stop
}

/// Source lane and validity of a shuffle for lane `l`; immediate 0 up, 1 down, 2 bfly, 3 idx.
#[inline(always)]
fn source(mode: i64, l: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let low = l & segment;
    let limit = low | (clamp & !segment);
    match mode {
        0 => (l.wrapping_sub(b), l as i32 - b as i32 >= limit as i32),
        1 => (l + b, l + b <= limit),
        2 => (l ^ b, l ^ b <= limit),
        _ => (low | (b & !segment), low | (b & !segment) <= limit),
    }
}

/// `shfl.sync`: destinations value and predicate, sources a, b, c, members; the immediate is the mode of [`source`].
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn shuffle(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let Some(sets) = gather(cx, cx.more(op, 5), mask) else { return Flow::Stop };
        for &here in &sets.sets[..sets.count] {
            let (a, b, c) = (*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b), &*cx.reg::<u32>(op.c));
            let (mut from, mut valid) = ([0u32; LANES], [0u32; LANES]);
            macro_rules! mode {
                ($mode:literal) => {
                    for l in 0..LANES {
                        let (j, inside) = source($mode, l as u32, b[l], c[l]);
                        from[l] = if inside { j & 31 } else { l as u32 };
                        valid[l] = u32::from(inside) << l;
                    }
                };
            }
            match op.imm {
                0 => mode!(0),
                1 => mode!(1),
                2 => mode!(2),
                _ => mode!(3),
            }
            if here != !0 {
                let absent = lanes(here).find(|&l| here >> from[l] & 1 == 0);
                if let Some(lane) = absent {
                    return unreachable_lane(cx, lane, from[lane]);
                }
            }
            let mut out = [0; LANES];
            for l in 0..LANES {
                out[l] = a[from[l] as usize & 31];
            }
            cx.set(op.d, here, &out);
            cx.set_pred(cx.more(op, 1), here, valid.iter().fold(0, |x, y| x | y));
        }
        sets.finish(cx)
    }
}

/// A shuffle read from a lane that does not take part.
#[cold]
fn unreachable_lane(cx: &mut Cx<'_>, lane: usize, from: u32) -> Flow {
    fail(cx, lane, format!("shfl: lane {lane} reads from lane {from}, which does not take part (an undefined value)"))
}

/// `vote.sync`: source predicate and members; immediate 0 all, 1 any, 2 uni (a predicate each), 3 ballot.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn vote(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let Some(sets) = gather(cx, op.b, mask) else { return Flow::Stop };
        for &here in &sets.sets[..sets.count] {
            let yes = cx.pred(op.a) & here;
            let answer = match op.imm {
                0 => yes == here,
                1 => yes != 0,
                2 => yes == 0 || yes == here,
                _ => {
                    cx.set(op.d, here, &[yes; LANES]);
                    continue;
                }
            };
            cx.set_pred(op.d, here, if answer { !0 } else { 0 });
        }
        sets.finish(cx)
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
        let Some(sets) = gather(cx, op.b, mask) else { return Flow::Stop };
        for &here in &sets.sets[..sets.count] {
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
        }
        sets.finish(cx)
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
        let Some(sets) = gather(cx, op.b, mask) else { return Flow::Stop };
        for &here in &sets.sets[..sets.count] {
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
        }
        sets.finish(cx)
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
        let Some(sets) = gather(cx, op.a, mask) else { return Flow::Stop };
        for &here in &sets.sets[..sets.count] {
            let leader = here.trailing_zeros();
            cx.set(op.d, here, &[leader; LANES]);
            cx.set_pred(cx.more(op, 1), here, 1 << leader);
        }
        sets.finish(cx)
    }
}

/// `bar.warp.sync`: source members.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn sync(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: a 32-bit register by lowering.
    let sets = unsafe { gather(cx, op.a, mask) };
    sets.map_or(Flow::Stop, |sets| sets.finish(cx))
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
