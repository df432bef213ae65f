//! A warp: groups of lanes by program counter, and the loop that executes them.
//!
//! The group with the lowest program counter runs, until it reaches the place of another group (they merge), branches
//! apart, or has to wait. Code is laid out so that this lets lanes that fell behind catch up before a common place.
use crate::exec::cx::Cx;
use crate::exec::native::{Left, Native};
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
                End::Moved | End::Native => self.add(pc, mask, false),
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
    /// Native code goes on from here.
    Native,
}

/// Executes operations from `pc` on, as native code while all 32 lanes are active and there is some, else by handlers.
/// The other parameters are those of [`interpret`].
///
/// # Safety
/// `pc` is an operation of the kernel, and `cx` points at the warp that the active lanes belong to.
#[inline(never)]
unsafe fn execute(cx: &mut Cx<'_>, mut pc: usize, limit: usize, apart: bool, waits: bool) -> (usize, End) {
    cx.turns = QUANTUM;
    let native = cx.launch.native.filter(|_| cx.mask == !0);
    loop {
        if let Some(native) = native
            && native.begins(pc)
        {
            // SAFETY: passed on; all lanes are active, and the code is the kernel's.
            match unsafe { native.run(cx, pc) } {
                Left::Interpret(at) => pc = at,
                Left::Stop(at) => return (at, End::Stopped),
                Left::Turn(at) => return (at, End::Turn),
                Left::Jump(from) => {
                    pc = cx.pc;
                    if pc <= from && !cx.turn() {
                        return (pc, End::Turn);
                    }
                    continue;
                }
            }
        }
        // SAFETY: passed on.
        match unsafe { interpret(cx, pc, limit, apart, waits, native) } {
            (at, End::Native) => pc = at,
            end => return end,
        }
    }
}

/// Executes operations from `pc` on by their handlers, until `limit`; after a jump also if other groups exist (`apart`)
/// and it passed them, or if some of them wait; and until native code begins, but at least one operation.
///
/// # Safety
/// As [`execute`].
#[inline(always)]
unsafe fn interpret(
    cx: &mut Cx<'_>,
    pc: usize,
    limit: usize,
    apart: bool,
    waits: bool,
    native: Option<&Native>,
) -> (usize, End) {
    let code = cx.launch.kernel.code.as_slice();
    let at = |pc: usize| code.as_ptr().wrapping_add(pc);
    let last = at(limit.min(code.len()));
    // Operations from `first` to before `op` have been executed and not yet counted.
    let (mut first, mut op) = (pc, at(pc));
    // Lanes that a mask leaves out, of the mask last asked for.
    let (mut known, mut idle) = (!0, 0);
    loop {
        if op >= last {
            let pc = cx.pc_of(op);
            cx.ran(first, pc);
            return (pc, End::Moved);
        }
        // SAFETY: places are operations of the kernel (an invariant of `Kernel`), whose last one does not fall through.
        let this = unsafe { &*op };
        // SAFETY: the guard is a predicate register of the kernel.
        let mask = cx.mask & (unsafe { cx.pred(this.guard) } ^ this.guard_not);
        let mut flow = Flow::Next;
        if mask != !0 {
            if mask != known {
                (known, idle) = (mask, u64::from(mask.count_zeros()));
            }
            cx.idle_lanes += idle * (u64::from(this.counted) + u64::from(this.folded));
        }
        if mask != 0 {
            // SAFETY: lowering chose the handler for this CPU and these operands; the mask is not empty.
            flow = unsafe { (this.run)(cx, this, mask) };
        }
        match flow {
            Flow::Next => {
                op = op.wrapping_add(1);
                if let Some(native) = native
                    && op < last
                    && native.begins(cx.pc_of(op))
                {
                    let pc = cx.pc_of(op);
                    cx.ran(first, pc);
                    return (pc, End::Native);
                }
            }
            Flow::Jump => {
                let pc = cx.pc_of(op);
                cx.ran(first, pc + 1);
                first = cx.pc;
                op = at(first);
                if first <= pc && !cx.turn() {
                    return (first, End::Turn);
                }
                if apart && (first >= limit || waits) {
                    return (first, End::Moved);
                }
                if native.is_some_and(|native| native.begins(first)) {
                    return (first, End::Native);
                }
            }
            Flow::Stop => {
                let pc = cx.pc_of(op);
                cx.ran(first, pc + 1);
                return (pc, End::Stopped);
            }
        }
    }
}
