//! The state that handlers work on: the running warp, its block and the worker that executes it.
use super::fault::Cause;
use super::op::Stop;
use super::ops::access::Banks;
use super::ops::bulk::BulkCopies;
use super::ops::copy::AsyncCopies;
use super::program::Kernel;
use crate::check::shared::SharedChecks;
use crate::gpu::{Gpu, KernelCounters};
use crate::mem::Range;
use std::sync::atomic::AtomicI64;

/// A worker's execution context, pointed at one warp while that warp runs.
pub struct Cx<'g> {
    /// Register file of the running warp.
    pub regs: *mut u8,
    /// Active lanes.
    pub mask: u32,
    /// Lanes without a thread, or whose thread has ended.
    pub dead: u32,
    /// The running operation's index; a handler that returns [`super::op::Flow::Jump`] sets the next one.
    pub pc: usize,
    /// Set by handlers that return [`super::op::Flow::Stop`].
    pub stop: Stop,
    /// Set with [`Stop::Fault`].
    pub fault: Option<Cause>,
    /// Shared memory of the block: host bytes and size.
    pub shared: *mut u8,
    /// Its size in bytes.
    pub shared_len: usize,
    /// Local memory of the warp's lane 0; lane `l` begins `l * local_len` bytes later.
    pub local: *mut u8,
    /// Local memory of a thread in bytes.
    pub local_len: usize,
    /// Range that the last access of each site hit.
    pub sites: Vec<Range>,
    /// Bank conflicts of each site's last access.
    pub banks: Vec<Banks>,
    /// Times each operation was executed, less those of the one before it: see [`Cx::ran`]. One more than operations.
    pub hits: Vec<u64>,
    /// Lanes that took no part in the counted operations.
    pub idle_lanes: u64,
    /// Counts of this worker; those by class are made from `hits` at the end.
    pub count: KernelCounters,
    /// Stores, changing atomics, barrier releases and ends of threads so far: what a waiting thread may wait for.
    pub progress: u64,
    /// Loads by which a thread may be waiting for another block, since this block was resumed.
    pub polls: u32,
    /// Does the CPU have AVX?
    pub wide: bool,
    /// Index of the warp in its block.
    pub warp: usize,
    /// What is known of the block's shared memory, if that is checked.
    pub checks: Option<Box<SharedChecks>>,
    /// Backward jumps that the running lanes may still take before others have their turn.
    pub turns: u32,
    /// Warp instructions executed, those since the last look at the launch's budget.
    pub executed: u64,
    /// Bulk copies of the block, and arrivals that wait for copies.
    pub bulk: BulkCopies,
    /// Asynchronous copies of the running warp.
    pub copies: AsyncCopies,
    /// The running block's coordinates.
    pub ctaid: [u32; 3],
    /// What does not change during the launch.
    pub launch: &'g LaunchState<'g>,
}

/// What all workers of a launch share.
pub struct LaunchState<'g> {
    /// The kernel.
    pub kernel: &'g Kernel,
    /// The GPU.
    pub gpu: &'g Gpu,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Parameter buffer.
    pub params: &'g [u8],
    /// Dynamic shared memory of a block in bytes.
    pub dynamic_shared: u32,
    /// Device address of the grid's barrier words in a cooperative launch (`%envreg1` and `%envreg2`), else 0.
    pub workspace: u64,
    /// When the launch began, the base of `%clock` and `%globaltimer`.
    pub started: std::time::Instant,
    /// Warp operations that the launch may still execute; signed, since workers take away before they look.
    pub budget: Option<&'g AtomicI64>,
    /// The kernel's native code, if it is to be used.
    pub native: Option<&'g super::native::Native>,
    /// The module's source files.
    pub files: &'g [(u32, String)],
}

impl<'g> Cx<'g> {
    /// Operand `i` of the operation's operand list.
    #[inline(always)]
    pub fn more(&self, op: &super::op::Op, i: usize) -> u32 {
        self.launch.kernel.operands[op.more as usize + i]
    }

    /// Linear index of the running block.
    pub fn block_index(&self) -> u64 {
        let ([x, y, z], [nx, ny, _]) = (self.ctaid.map(u64::from), self.launch.grid.map(u64::from));
        x + nx * (y + ny * z)
    }

    /// A backward jump: may the running lanes go on?
    #[inline(always)]
    pub fn turn(&mut self) -> bool {
        self.turns -= 1;
        self.turns != 0
    }

    /// The index of an operation of the running kernel.
    #[inline(always)]
    pub fn pc_of(&self, op: *const super::op::Op) -> usize {
        let base = self.launch.kernel.code.as_ptr() as usize;
        (op as usize - base) / size_of::<super::op::Op>()
    }

    /// Counts operations `first` to `end - 1` as executed once: a straight run costs two additions, however long it is.
    #[inline(always)]
    pub fn ran(&mut self, first: usize, end: usize) {
        self.hits[first] = self.hits[first].wrapping_add(1);
        self.hits[end] = self.hits[end].wrapping_sub(1);
        self.executed += (end - first) as u64;
    }
}

/// The lanes of a mask, lowest first.
#[inline(always)]
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let l = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            l
        })
    })
}
