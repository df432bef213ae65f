//! A warp: groups of lanes by program counter, and the loop that executes them.
//!
//! The group with the lowest program counter runs, until it reaches the place of another group (they merge), branches
//! apart, or has to wait. Code is laid out so that this lets lanes that fell behind catch up before a common place.
use crate::exec::cx::Cx;
use crate::exec::op::{Flow, Stop};
use crate::exec::ops::copy::AsyncCopies;

/// Backward jumps after which a group lets others run.
const QUANTUM: u32 = 1 << 14;

/// Lanes at one place.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Index of their next operation.
    pub pc: usize,
    /// The lanes.
    pub mask: u32,
    /// Waiting at a `.sync` operation for lanes that are elsewhere.
    pub parked: bool,
    /// Used up its turn: others go first.
    pub tired: bool,
}

/// A warp of a block.
#[derive(Default)]
pub struct Warp {
    /// Its groups, disjoint, in no order.
    pub groups: Vec<Group>,
    /// Lanes without a thread, or whose thread has ended.
    pub dead: u32,
    /// The barrier that it waits at.
    pub waiting: Option<usize>,
    /// Its copies under way.
    pub copies: AsyncCopies,
}

/// Why a warp gave up the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// All lanes have ended.
    Done,
    /// All its lanes arrived at the block barrier at this operation.
    Barrier(usize),
    /// Others should run.
    Yield,
    /// Every lane waits for lanes that wait themselves.
    Stuck,
    /// `cx.fault` is set; the operation's index.
    Fault(usize),
}

impl Warp {
    /// Back to the start, with these lanes without a thread.
    pub fn reset(&mut self, entry: usize, dead: u32) {
        self.groups.clear();
        if dead != !0 {
            self.groups.push(Group { pc: entry, mask: !dead, parked: false, tired: false });
        }
        self.dead = dead;
        self.waiting = None;
        self.copies.clear();
    }

    /// The group to run next: the lowest one that can, those that had their turn last.
    fn pick(&mut self) -> Option<usize> {
        let best = |tired: bool, groups: &[Group]| {
            let can = |g: &Group| !g.parked && (tired || !g.tired);
            (0..groups.len()).filter(|&i| can(&groups[i])).min_by_key(|&i| groups[i].pc)
        };
        best(false, &self.groups).or_else(|| {
            self.groups.iter_mut().for_each(|g| g.tired = false);
            best(true, &self.groups)
        })
    }

    /// Adds lanes at a place; they join a group that is there, which then tries again if it waited.
    fn add(&mut self, pc: usize, mask: u32, parked: bool) {
        if mask == 0 {
            return;
        }
        match self.groups.iter_mut().find(|g| g.pc == pc) {
            Some(g) => {
                g.mask |= mask;
                g.parked = false;
            }
            None => self.groups.push(Group { pc, mask, parked, tired: false }),
        }
    }

    /// Runs until the warp ends, waits or has had its turn.
    pub fn run(&mut self, cx: &mut Cx<'_>) -> Pause {
        loop {
            let Some(i) = self.pick() else {
                return if self.groups.is_empty() { Pause::Done } else { Pause::Stuck };
            };
            let group = self.groups.swap_remove(i);
            cx.mask = group.mask;
            cx.dead = self.dead;
            let waits = self.groups.iter().any(|g| g.parked);
            let limit = self.groups.iter().map(|g| g.pc).filter(|pc| *pc >= group.pc).min().unwrap_or(usize::MAX);
            let apart = !self.groups.is_empty();
            // SAFETY: the group's place is one of the kernel's operations, and `cx` points at this warp.
            let (pc, end) = unsafe { execute(cx, group.pc, limit, apart, waits) };
            let mask = group.mask;
            match end {
                End::Moved => self.add(pc, mask, false),
                End::Turn => {
                    self.add(pc, mask, false);
                    self.groups.iter_mut().filter(|g| g.pc == pc).for_each(|g| g.tired = true);
                    if !apart {
                        return Pause::Yield;
                    }
                }
                End::Stopped => match cx.stop {
                    Stop::Branch { taken, target } => {
                        self.add(target as usize, taken, false);
                        self.add(pc + 1, mask & !taken, false);
                    }
                    Stop::Split { taken, target } => {
                        self.add(target as usize, taken, false);
                        self.add(pc, mask & !taken, false);
                    }
                    Stop::Exit(ended) => {
                        self.dead |= ended;
                        cx.dead = self.dead;
                        cx.progress += 1;
                        self.groups.iter_mut().for_each(|g| g.parked = false);
                        self.add(pc + 1, mask & !ended, false);
                    }
                    Stop::Park(waiting) => {
                        self.add(pc + 1, mask & !waiting, false);
                        self.add(pc, waiting, true);
                    }
                    Stop::Barrier(arrived) => {
                        self.add(pc + 1, mask & !arrived, false);
                        self.add(pc, arrived, true);
                        return Pause::Barrier(pc);
                    }
                    Stop::Yield => {
                        self.add(pc + 1, mask, false);
                        self.groups.iter_mut().filter(|g| g.pc == pc + 1).for_each(|g| g.tired = true);
                        if !apart || self.groups.iter().all(|g| g.tired || g.parked) {
                            return Pause::Yield;
                        }
                    }
                    Stop::Fault => {
                        self.add(pc, mask, true);
                        return Pause::Fault(pc);
                    }
                },
            }
        }
    }

    /// Lets the lanes that wait at the barrier operation `pc` go on.
    pub fn release(&mut self, pc: usize) {
        self.waiting = None;
        if let Some(i) = self.groups.iter().position(|g| g.pc == pc) {
            let group = self.groups.swap_remove(i);
            self.add(pc + 1, group.mask, false);
        }
    }
}

/// How a group's run ended.
enum End {
    /// It is at the place returned, where others may be.
    Moved,
    /// Its turn is over.
    Turn,
    /// `cx.stop` says why, at the operation returned.
    Stopped,
}

/// Executes operations from `pc` on, until `limit`; after a jump also if other groups exist (`apart`) and it passed
/// them, or if some of them wait.
///
/// # Safety
/// `pc` is an operation of the kernel, and `cx` points at the warp that the active lanes belong to.
unsafe fn execute(cx: &mut Cx<'_>, mut pc: usize, limit: usize, apart: bool, waits: bool) -> (usize, End) {
    let code = cx.launch.kernel.code.as_slice();
    let mut turns = QUANTUM;
    loop {
        if pc >= limit {
            return (pc, End::Moved);
        }
        // SAFETY: places are operations of the kernel (an invariant of `Kernel`), and `hits` is as long as its code.
        let (op, hits) = unsafe { (code.get_unchecked(pc), cx.hits.get_unchecked_mut(pc)) };
        *hits += 1;
        // SAFETY: the guard is a predicate register of the kernel.
        let mask = cx.mask & (unsafe { cx.pred(op.guard) } ^ op.guard_not);
        if mask != !0 {
            cx.idle_lanes += u64::from(op.counted) * u64::from(32 - mask.count_ones());
            if mask == 0 {
                pc += 1;
                continue;
            }
        }
        // SAFETY: lowering chose the handler for this CPU and these operands; the mask is not empty.
        match unsafe { (op.run)(cx, op, mask) } {
            Flow::Next => pc += 1,
            Flow::Jump => {
                let back = cx.pc <= pc;
                pc = cx.pc;
                if back {
                    turns -= 1;
                    if turns == 0 {
                        return (pc, End::Turn);
                    }
                }
                if apart && (pc >= limit || waits) {
                    return (pc, End::Moved);
                }
            }
            Flow::Stop => return (pc, End::Stopped),
        }
    }
}
