//! Special registers: thread and block indices, clocks, masks; and what state space an address lies in.
use super::access::WINDOW;
use crate::exec::cx::Cx;
use crate::exec::lane::{LANES, Lane};
use crate::exec::op::{Flow, Op};

/// `isspacep`: the immediate is the window's start, 0 for global (no window).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn in_window(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let start = op.imm as u64;
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let a = &*cx.reg::<u64>(op.a);
        let mut bits = 0;
        for l in 0..LANES {
            let inside = |start: u64| a[l].wrapping_sub(start) < WINDOW;
            let any = (0..3).any(|i| inside(super::access::SHARED_WINDOW + i * WINDOW));
            bits |= u32::from(if start == 0 { !any } else { inside(start) }) << l;
        }
        cx.set_pred(op.d, mask, bits);
    }
    Flow::Next
}

/// `%clock`, `%clock64`: SM cycles since the launch, by the host's clock.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn clock<T: Lane>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow
where
    T::In: Cycles,
{
    let nanoseconds = cx.launch.started.elapsed().as_nanos() as u64;
    let now = nanoseconds.wrapping_mul(u64::from(cx.launch.gpu.spec().clock_khz)) / 1_000_000;
    // SAFETY: a register of this kind by lowering.
    unsafe { cx.set(op.d, mask, &[T::In::low(now); LANES]) };
    Flow::Next
}

/// The low bits of a cycle count.
pub trait Cycles: crate::exec::lane::Store {
    /// As many as fit.
    fn low(cycles: u64) -> Self;
}

impl Cycles for u32 {
    fn low(cycles: u64) -> u32 {
        cycles as u32
    }
}

impl Cycles for u64 {
    fn low(cycles: u64) -> u64 {
        cycles
    }
}

/// `%globaltimer`: nanoseconds since the launch.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn global_timer(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let now = cx.launch.started.elapsed().as_nanos() as u64;
    // SAFETY: a 64-bit register by lowering.
    unsafe { cx.set(op.d, mask, &[now; LANES]) };
    Flow::Next
}

/// `activemask`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn active_mask(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: a 32-bit register by lowering.
    unsafe { cx.set(op.d, mask, &[mask; LANES]) };
    Flow::Next
}

/// Special registers by number, the immediate of [`special_register`].
pub const SPECIAL: [&str; 37] = [
    "%tid.x",
    "%tid.y",
    "%tid.z",
    "%ntid.x",
    "%ntid.y",
    "%ntid.z",
    "%ctaid.x",
    "%ctaid.y",
    "%ctaid.z",
    "%nctaid.x",
    "%nctaid.y",
    "%nctaid.z",
    "%laneid",
    "%warpid",
    "%nwarpid",
    "%smid",
    "%nsmid",
    "%lanemask_eq",
    "%lanemask_lt",
    "%lanemask_le",
    "%lanemask_gt",
    "%lanemask_ge",
    "%dynamic_smem_size",
    "%total_smem_size",
    "%cluster_ctaid.x",
    "%cluster_ctaid.y",
    "%cluster_ctaid.z",
    "%cluster_nctaid.x",
    "%cluster_nctaid.y",
    "%cluster_nctaid.z",
    "%cluster_ctarank",
    "%cluster_nctarank",
    "WARP_SZ",
    "%clusterid.x",
    "%nclusterid.x",
    "%envreg1",
    "%envreg2",
];

/// A 32-bit special register. A block is a cluster of its own.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn special_register(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let out = match op.imm {
        0..=2 => thread_index(cx, op.imm as usize),
        12 => std::array::from_fn(|l| l as u32),
        17 => std::array::from_fn(|l| 1 << l),
        18 => std::array::from_fn(|l| (1 << l) - 1),
        19 => std::array::from_fn(|l| u32::MAX >> (31 - l)),
        20 => std::array::from_fn(|l| !(u32::MAX >> (31 - l))),
        21 => std::array::from_fn(|l| u32::MAX << l),
        number => [uniform(cx, number); LANES],
    };
    // SAFETY: a 32-bit register by lowering.
    unsafe { cx.set(op.d, mask, &out) };
    Flow::Next
}

/// `%tid` in one dimension.
fn thread_index(cx: &Cx<'_>, dimension: usize) -> [u32; LANES] {
    let [x, y, z] = cx.launch.block;
    let first = cx.warp as u32 * 32;
    if y * z == 1 {
        return std::array::from_fn(|l| if dimension == 0 { first + l as u32 } else { 0 });
    }
    std::array::from_fn(|l| {
        let thread = first + l as u32;
        [thread % x, thread / x % y, thread / (x * y)][dimension]
    })
}

/// A special register that is the same in all lanes.
fn uniform(cx: &Cx<'_>, number: i64) -> u32 {
    let launch = cx.launch;
    match number {
        3..=5 => launch.block[number as usize - 3],
        6..=8 => cx.ctaid[number as usize - 6],
        9..=11 => launch.grid[number as usize - 9],
        13 => cx.warp as u32,
        14 => launch.block.iter().product::<u32>().div_ceil(32),
        15 => cx.block_index() as u32 % launch.gpu.spec().sms,
        16 => launch.gpu.spec().sms,
        22 => launch.dynamic_shared,
        23 => cx.shared_len as u32,
        27 | 28 | 29 | 31 => 1,
        32 => 32,
        33 => cx.ctaid[0],
        34 => launch.grid[0],
        35 => (launch.workspace >> 32) as u32,
        36 => launch.workspace as u32,
        _ => 0,
    }
}
