//! `mbarrier`: barriers in shared memory that count arrivals and bytes.
//!
//! The 64-bit object is opaque to programs; here: expected arrivals (20 bits), pending arrivals (20), pending bytes (22,
//! signed), a mark that it is initialised, and the phase's parity. A phase completes when nothing is pending. The state
//! that an arrival returns is the object before it. A wait that fails lets other warps run; asynchronous copies complete
//! no sooner than when somebody would otherwise wait in vain ([`super::bulk`]).
use super::access::{self, Pattern, Pointers, Shared};
use super::bulk;
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::lane::LANES;
use crate::exec::op::{Flow, Op, Stop};

const COUNT: u64 = (1 << 20) - 1;
const BYTES: u64 = (1 << 22) - 1;
const READY: u64 = 1 << 62;
const PHASE: u64 = 1 << 63;

/// Bits of the immediate, below the displacement.
pub mod flag {
    /// The arriving thread takes no part in later phases.
    pub const DROP: i64 = 1;
    /// Source `c` is a number of bytes to expect first.
    pub const EXPECT: i64 = 2;
    /// A wait by parity, not by state.
    pub const PARITY: i64 = 1;
    /// `.noinc`
    pub const NO_INCREMENT: i64 = 1;
}

/// The object's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbarrier(u64);

impl Mbarrier {
    fn new(count: u32) -> Mbarrier {
        let count = u64::from(count) & COUNT;
        Mbarrier(count | count << 20 | READY)
    }

    /// Arrivals that the phase waits for.
    pub fn pending(self) -> u64 {
        self.0 >> 20 & COUNT
    }

    /// Bytes that the phase waits for; fewer than none if they came before they were expected.
    fn bytes(self) -> i64 {
        (self.0 << 2) as i64 >> 42
    }

    fn parity(self) -> u64 {
        self.0 >> 63
    }

    fn with(self, expected: u64, pending: u64, bytes: i64) -> Mbarrier {
        Mbarrier(self.0 & (READY | PHASE) | expected & COUNT | (pending & COUNT) << 20 | (bytes as u64 & BYTES) << 40)
    }

    /// Completes the phase if nothing is pending.
    fn settled(self) -> Mbarrier {
        if self.pending() != 0 || self.bytes() != 0 {
            return self;
        }
        let expected = self.0 & COUNT;
        Mbarrier(self.with(expected, expected, 0).0 ^ PHASE)
    }

    /// `count` arrivals, which with `drop` are not expected again. `None` if so many are not pending.
    pub fn arrived(self, count: u64, drop: bool) -> Option<Mbarrier> {
        let pending = self.pending().checked_sub(count)?;
        let expected = (self.0 & COUNT) - if drop { count } else { 0 };
        Some(self.with(expected, pending, self.bytes()).settled())
    }

    /// Another `bytes` bytes are pending, or fewer if negative; does not complete the phase.
    fn expecting(self, bytes: i64) -> Mbarrier {
        self.with(self.0 & COUNT, self.pending(), self.bytes() + bytes)
    }

    /// `bytes` bytes have come.
    pub fn received(self, bytes: i64) -> Mbarrier {
        self.expecting(-bytes).settled()
    }

    /// One more arrival is pending in this phase alone.
    pub fn awaiting(self) -> Mbarrier {
        self.with(self.0 & COUNT, self.pending() + 1, self.bytes())
    }
}

/// Records a misuse.
pub fn misuse(cx: &mut Cx<'_>, lane: usize, what: String) -> Flow {
    cx.fault = Some(Cause { kind: FaultKind::LaunchFailed, lane: Some(lane), what });
    cx.stop = Stop::Fault;
    Flow::Stop
}

/// Host addresses of the lanes' objects; the displacement is the immediate above bit 8.
unsafe fn objects(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Option<Pointers> {
    let mut at = [0; LANES];
    // SAFETY: passed on.
    let pattern = unsafe { access::locate::<Shared>(cx, op, (op.a, op.imm >> 8), mask, 8, &mut at)? };
    Some(match pattern {
        Pattern::Contiguous => std::array::from_fn(|l| at[0] + 8 * l),
        Pattern::Uniform => [at[0]; LANES],
        Pattern::Scattered => at,
    })
}

/// Changes each lane's object, lane after lane. `f` gets the lane and the object; an error is a misuse.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn update(
    cx: &mut Cx<'_>,
    op: &Op,
    mask: u32,
    mut f: impl FnMut(&mut Cx<'_>, usize, Mbarrier) -> Result<Mbarrier, String>,
) -> Flow {
    // SAFETY: `objects` checked eight aligned bytes of shared memory, which belongs to this worker alone.
    unsafe {
        let Some(at) = objects(cx, op, mask) else { return Flow::Stop };
        for l in lanes(mask) {
            let object = at[l] as *mut Mbarrier;
            let now = object.read();
            let offset = at[l] - cx.shared as usize;
            if now.0 & READY == 0 {
                return misuse(cx, l, format!("the mbarrier at shared address {offset:#x} is not initialised"));
            }
            if let Some(checks) = cx.checks.as_mut() {
                checks.clocks.exchange(cx.warp, offset as u32);
            }
            match f(cx, l, now) {
                Ok(next) => object.write(next),
                Err(what) => return misuse(cx, l, format!("{what} at the mbarrier at shared address {offset:#x}")),
            }
        }
    }
    cx.progress += 1;
    Flow::Next
}

/// `mbarrier.init`: sources address, count.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn init(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering; `objects` checked the addresses.
    unsafe {
        let Some(at) = objects(cx, op, mask) else { return Flow::Stop };
        let counts = *cx.reg::<u32>(op.b);
        for l in lanes(mask) {
            if counts[l] == 0 || u64::from(counts[l]) > COUNT {
                return misuse(cx, l, format!("mbarrier.init with {} arrivals: 1 to {COUNT} are possible", counts[l]));
            }
            (at[l] as *mut Mbarrier).write(Mbarrier::new(counts[l]));
        }
    }
    Flow::Next
}

/// `mbarrier.inval`
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn invalidate(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: passed on.
    unsafe { update(cx, op, mask, |_, _, _| Ok(Mbarrier(0))) }
}

/// `mbarrier.expect_tx`: sources address, bytes.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn expect(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let bytes = *cx.reg::<u32>(op.b);
        update(cx, op, mask, |_, l, now| Ok(now.expecting(i64::from(bytes[l]))))
    }
}

/// `mbarrier.complete_tx`: sources address, bytes.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn complete(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let bytes = *cx.reg::<u32>(op.b);
        update(cx, op, mask, |_, l, now| Ok(now.received(i64::from(bytes[l]))))
    }
}

/// `mbarrier.arrive` and `arrive_drop`: sources address, count, bytes to expect; the result is the state.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn arrive(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let (counts, bytes) = (*cx.reg::<u32>(op.b), *cx.reg::<u32>(op.c));
        let mut states = [0; LANES];
        let flow = update(cx, op, mask, |_, l, now| {
            states[l] = now.0;
            let expecting = if op.imm & flag::EXPECT != 0 { now.expecting(i64::from(bytes[l])) } else { now };
            let next = expecting.arrived(u64::from(counts[l]), op.imm & flag::DROP != 0);
            next.ok_or_else(|| format!("{} arrivals, but the phase waits for {},", counts[l], now.pending()))
        });
        if flow == Flow::Next {
            cx.set(op.d, mask, &states);
        }
        flow
    }
}

/// `mbarrier.test_wait` and `try_wait`: sources address, state or parity; the result is a predicate.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn wait(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let mut done = 0;
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let by_parity = op.imm & flag::PARITY != 0;
        let phases: [u64; LANES] = if by_parity {
            cx.reg::<u32>(op.b).read().map(|parity| u64::from(parity & 1))
        } else {
            cx.reg::<u64>(op.b).read().map(|state| Mbarrier(state).parity())
        };
        let progress = cx.progress;
        let flow = update(cx, op, mask, |cx, l, now| {
            let now = if now.parity() == phases[l] { bulk::arrive_late(cx, op, l, now)? } else { now };
            done |= u32::from(now.parity() != phases[l]) << l;
            Ok(now)
        });
        if flow != Flow::Next {
            return flow;
        }
        cx.set_pred(op.d, mask, done);
        if done & mask != mask {
            // Nobody gets on by asking.
            cx.progress = progress;
            cx.stop = Stop::Yield;
            return Flow::Stop;
        }
    }
    Flow::Next
}

/// `mbarrier.pending_count`: source state.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn pending_count(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let counts = cx.reg::<u64>(op.a).read().map(|state| Mbarrier(state).pending() as u32);
        cx.set(op.d, mask, &counts);
    }
    Flow::Next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_completes_when_neither_arrivals_nor_bytes_are_pending() {
        let two = Mbarrier::new(2);
        let one = two.arrived(1, false).expect("two are pending");
        assert_eq!((one.pending(), one.parity()), (1, 0));
        let bytes = one.expecting(4096).arrived(1, false).expect("one is pending");
        assert_eq!((bytes.pending(), bytes.bytes(), bytes.parity()), (0, 4096, 0));
        let next = bytes.received(4000).received(96);
        assert_eq!((next.pending(), next.bytes(), next.parity()), (2, 0, 1));
        assert_eq!(two.arrived(3, false), None);
        let dropped = next.arrived(1, true).and_then(|b| b.arrived(1, false)).expect("two are pending");
        assert_eq!((dropped.pending(), dropped.parity()), (1, 0));
        let early = two.received(16).arrived(2, false).expect("two are pending");
        assert_eq!((early.bytes(), early.parity()), (-16, 0));
        assert_eq!(early.expecting(16).settled().parity(), 1);
    }
}
