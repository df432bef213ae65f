//! Texts of faults: kernel, block, thread, PTX line, `.cu` line, and what happened.
use super::block::Block;
use crate::exec::cx::{Cx, LaunchState};
use crate::exec::fault::{Fault, FaultKind};
use std::fmt::Write;

/// Coordinates of a thread of a block.
fn thread(launch: &LaunchState<'_>, warp: usize, lane: usize) -> [u32; 3] {
    let [x, y, _] = launch.block;
    let t = (warp * 32 + lane) as u32;
    [t % x, t / x % y, t / (x * y)]
}

fn triple([x, y, z]: [u32; 3]) -> String {
    format!("({x},{y},{z})")
}

fn place(cx: &Cx<'_>, pc: usize) -> String {
    cx.launch
        .kernel
        .places
        .get(pc)
        .map_or_else(|| "the end".to_string(), |pos| super::super::program::place(cx.launch.files, *pos))
}

/// The fault that an operation recorded in `cx.fault`.
pub fn fault(cx: &mut Cx<'_>, block: &Block, warp: usize, pc: usize) -> Fault {
    let cause = cx.fault.take();
    let (kind, lane, what) = match cause {
        Some(cause) => (cause.kind, cause.lane, cause.what),
        None => (FaultKind::LaunchFailed, None, "an operation failed without a cause".to_string()),
    };
    let mut report = what;
    let launch = cx.launch;
    let by = match lane {
        Some(lane) => format!("thread {}", triple(thread(launch, warp, lane))),
        None => format!("warp {warp}"),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        report,
        "\n  at {}\n  by {by} of block {} in kernel {}",
        place(cx, pc),
        triple(block.ctaid),
        launch.kernel.info.name
    );
    Fault { kind, report }
}

/// A misuse that is no operation's own fault.
pub fn misuse(cx: &mut Cx<'_>, block: &Block, warp: usize, pc: usize, what: String) -> Fault {
    cx.fault = Some(super::super::fault::Cause { kind: FaultKind::LaunchFailed, lane: None, what });
    fault(cx, block, warp, pc)
}

/// Where the lanes of a warp are.
fn lanes(cx: &Cx<'_>, block: &Block, warp: usize, report: &mut String) {
    for g in &block.warps[warp].groups {
        let first = thread(cx.launch, warp, g.mask.trailing_zeros() as usize);
        let op = cx.launch.kernel.code.get(g.pc).map_or("", |op| op.code.entry().name);
        let _ = write!(
            report,
            "\n  warp {warp}, lanes {:#010x} (first thread {}): {op} at {}",
            g.mask,
            triple(first),
            place(cx, g.pc)
        );
    }
}

/// Lanes of one warp wait for each other at different places.
pub fn stuck(cx: &mut Cx<'_>, block: &Block, warp: usize) -> Fault {
    let mut report = "divergent lanes wait for each other at different barriers or .sync operations".to_string();
    lanes(cx, block, warp, &mut report);
    let _ = write!(report, "\n  in block {} of kernel {}", triple(block.ctaid), cx.launch.kernel.info.name);
    Fault { kind: FaultKind::LaunchFailed, report }
}

/// The launch has executed more than it may.
pub fn over_budget(cx: &Cx<'_>, block: &Block, warp: usize) -> Fault {
    let budget = cx.launch.gpu.budget().unwrap_or(0);
    let mut report = format!("the launch's {budget} warp instructions are used up: an endless loop? One of its warps:");
    lanes(cx, block, warp, &mut report);
    let _ = write!(report, "\n  in block {} of kernel {}", triple(block.ctaid), cx.launch.kernel.info.name);
    Fault { kind: FaultKind::Deadlock, report }
}

/// All warps of a block wait at barriers that nobody completes.
pub fn barrier_deadlock(cx: &mut Cx<'_>, block: &Block) -> Fault {
    let mut report = "deadlock: every warp of the block waits at a barrier that not enough threads reach".to_string();
    for (w, warp) in block.warps.iter().enumerate() {
        if let Some(id) = warp.waiting {
            let _ = write!(report, "\n  warp {w} waits at barrier {id}");
            lanes(cx, block, w, &mut report);
        }
    }
    let _ = write!(report, "\n  in block {} of kernel {}", triple(block.ctaid), cx.launch.kernel.info.name);
    Fault { kind: FaultKind::Deadlock, report }
}

/// No block of the grid makes progress.
pub fn grid_deadlock(cx: &Cx<'_>, block: &Block) -> Fault {
    let mut report = "deadlock: no thread of the grid makes progress; one of the blocks that wait:".to_string();
    for w in 0..block.warps.len() {
        lanes(cx, block, w, &mut report);
    }
    let _ = write!(report, "\n  in block {} of kernel {}", triple(block.ctaid), cx.launch.kernel.info.name);
    Fault { kind: FaultKind::Deadlock, report }
}
