//! Operations that lowering puts before accesses when checks are on: see [`crate::check`].
use super::access::{LOCAL_WINDOW, SHARED_WINDOW};
use crate::check::shared::{Access, How, Problem};
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::op::{Flow, Op, Stop};
use crate::exec::program::place;
use crate::mem::DEVICE_BASE;

/// What is accessed and how, packed into an operation's `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Is the address an offset into shared memory?
    pub shared: bool,
    /// How.
    pub how: How,
    /// Bytes of a lane.
    pub size: u32,
    /// The lanes that give addresses.
    pub lanes: u32,
}

impl Watched {
    /// As a number.
    pub fn pack(self) -> u32 {
        u32::from(self.shared) | (self.how as u32) << 1 | self.size << 4 | self.lanes << 10
    }

    fn unpack(bits: u32) -> Watched {
        let how = How::ALL[(bits >> 1 & 7) as usize % How::ALL.len()];
        Watched { shared: bits & 1 != 0, how, size: bits >> 4 & 63, lanes: bits >> 10 }
    }
}

/// Looks at an access to come: source address; immediate displacement; `target` as [`Watched`]. Addresses that are not
/// valid are left to the access itself.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn access(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let watched = Watched::unpack(op.target);
    for lane in lanes(mask).take_while(|&l| l < watched.lanes as usize) {
        // SAFETY: the address register has the width of its space by lowering.
        let address = unsafe {
            if watched.shared {
                SHARED_WINDOW + u64::from((*cx.reg::<u32>(op.a))[lane].wrapping_add(op.imm as u32))
            } else {
                (*cx.reg::<u64>(op.a))[lane].wrapping_add(op.imm as u64)
            }
        };
        let size = watched.size as usize;
        let problem = match address {
            SHARED_WINDOW..LOCAL_WINDOW => shared(cx, op, lane, watched.how, (address - SHARED_WINDOW) as usize, size),
            DEVICE_BASE.. => global(cx, watched.how, address, size),
            _ => None,
        };
        if let Some(what) = problem {
            cx.fault = Some(Cause { kind: FaultKind::LaunchFailed, lane: Some(lane), what });
            cx.stop = Stop::Fault;
            return Flow::Stop;
        }
    }
    Flow::Next
}

/// Enters an access to global memory; what is wrong with it.
pub fn global(cx: &Cx<'_>, how: How, address: u64, size: usize) -> Option<String> {
    let memory = cx.launch.gpu.memory();
    let written = memory.written()?;
    let range = memory.range(address, size).ok()?;
    if how.reads()
        && let Some(first) = written.first_missing(address, size)
    {
        let (offset, base) = (first - range.base, range.base);
        return Some(format!(
            "{size}-byte read of global address {address:#x}, which nobody has written: byte {offset} of the {}-byte \
             allocation at {base:#x}",
            range.size
        ));
    }
    if how.writes() {
        written.mark(address, size);
    }
    None
}

/// Enters an access to shared memory; what is wrong with it.
pub fn shared(cx: &mut Cx<'_>, op: &Op, lane: usize, how: How, offset: usize, size: usize) -> Option<String> {
    if offset + size > cx.shared_len {
        return None;
    }
    let access = Access { how, warp: cx.warp, lane, pc: cx.pc_of(op) };
    let problem = cx.checks.as_mut()?.enter(access, offset as u32, size).err()?;
    let verb = how.verb();
    Some(match problem {
        Problem::Unwritten(at) => format!("{size}-byte {verb} of shared address {at:#x}, which nobody has written"),
        Problem::Race(at, other) => {
            let launch = cx.launch;
            let [x, y, _] = launch.block;
            let t = (other.warp * 32 + other.lane) as u32;
            let place = place(launch.files, launch.kernel.places[other.pc]);
            format!(
                "race: {size}-byte {verb} of shared address {at:#x}, and a {} by thread ({},{},{}) at {place} \
                 with no barrier between them",
                other.how.verb(),
                t % x,
                t / x % y,
                t / (x * y)
            )
        }
    })
}

/// Asynchronous copies have written to shared memory: lane, host address and size of each.
pub fn completed(cx: &mut Cx<'_>, op: &Op, copies: &[(usize, usize, usize)]) -> Flow {
    for &(lane, to, size) in copies {
        if let Some(what) = shared(cx, op, lane, How::Write, to - cx.shared as usize, size) {
            cx.fault = Some(Cause { kind: FaultKind::LaunchFailed, lane: Some(lane), what });
            cx.stop = Stop::Fault;
            return Flow::Stop;
        }
    }
    Flow::Next
}

/// The lanes of the warp have met at a `bar.warp.sync`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn meet(cx: &mut Cx<'_>, _op: &Op, _mask: u32) -> Flow {
    let warp = cx.warp;
    if let Some(checks) = cx.checks.as_mut() {
        checks.clocks.meet(warp);
    }
    Flow::Next
}
