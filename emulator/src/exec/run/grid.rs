//! A grid: workers take its blocks in order and keep those that wait.
use super::block::{Block, Turn};
use super::report;
use crate::exec::class::Class;
use crate::exec::cx::{Cx, LaunchState};
use crate::exec::fault::{Fault, FaultKind};
use crate::exec::op::Stop;
use crate::exec::ops::access::Banks;
use crate::exec::ops::bulk::BulkCopies;
use crate::exec::ops::copy::AsyncCopies;
use crate::exec::program::{Kernel, Program};
use crate::exec::{KernelInfo, Launch};
use crate::gpu::{DeviceSpec, Gpu, KernelCounters};
use crate::mem::Range;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Rounds without progress, over all blocks of a worker, after which it counts as stalled.
const PATIENCE: u32 = 200;

/// What the workers of a launch share.
struct Shared {
    next: AtomicU64,
    blocks: u64,
    /// Blocks that a worker may keep.
    resident: usize,
    workers: usize,
    progress: AtomicU64,
    stalled: AtomicUsize,
    stop: AtomicBool,
    fault: Mutex<Option<Fault>>,
    counters: Mutex<KernelCounters>,
}

/// Runs a grid on the GPU's worker threads and returns when it has finished.
///
/// # Errors
/// The first fault; the blocks that had not begun are not run.
pub fn launch(program: &Program, kernel: usize, launch: &Launch, gpu: &Gpu) -> Result<(), Fault> {
    let kernel = program.kernels.get(kernel).ok_or_else(|| invalid("no such kernel".to_string()))?;
    let resident = check(&kernel.info, launch, gpu.spec())?;
    let workspace = Workspace::new(gpu, launch.cooperative)?;
    let budget = AtomicI64::new(gpu.budget().map_or(0, |n| n.min(i64::MAX as u64) as i64));
    let state = LaunchState {
        kernel,
        gpu,
        grid: launch.grid,
        block: launch.block,
        params: &launch.params,
        dynamic_shared: launch.dynamic_shared,
        workspace: workspace.addr,
        started: std::time::Instant::now(),
        budget: gpu.budget().map(|_| &budget),
        native: gpu.native().then(|| kernel.native()).flatten(),
        files: program.files(),
    };
    let blocks: u64 = launch.grid.iter().map(|n| u64::from(*n)).product();
    let workers = (gpu.pool().current_num_threads() as u64).min(blocks) as usize;
    let shared = Shared {
        next: AtomicU64::new(0),
        blocks,
        resident: if launch.cooperative { usize::MAX } else { resident.div_ceil(workers).max(2) },
        workers,
        progress: AtomicU64::new(0),
        stalled: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        fault: Mutex::new(None),
        counters: Mutex::new(KernelCounters { launches: 1, ..KernelCounters::default() }),
    };
    if workers == 1 {
        work(&state, &shared);
    } else {
        gpu.pool().scope(|scope| (0..workers).for_each(|_| scope.spawn(|_| work(&state, &shared))));
    }
    let mut counters = shared.counters.into_inner().unwrap_or_else(PoisonError::into_inner);
    counters.name.clone_from(&kernel.info.name);
    gpu.count(&counters);
    shared.fault.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The words through which a cooperative grid synchronises, zero at first: its size, and the arrivals.
struct Workspace<'g> {
    gpu: &'g Gpu,
    addr: u64,
}

impl<'g> Workspace<'g> {
    fn new(gpu: &'g Gpu, wanted: bool) -> Result<Workspace<'g>, Fault> {
        if !wanted {
            return Ok(Workspace { gpu, addr: 0 });
        }
        let addr = gpu.memory().alloc(8).ok_or_else(|| Fault {
            kind: FaultKind::OutOfResources,
            report: "no device memory for the barrier of a cooperative launch".to_string(),
        })?;
        gpu.memory().mark_written(addr, 8);
        Ok(Workspace { gpu, addr })
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        if self.addr != 0 {
            // It was allocated above, so this cannot fail.
            let _ = self.gpu.memory().free(self.addr);
        }
    }
}

fn invalid(report: String) -> Fault {
    Fault { kind: FaultKind::InvalidValue, report }
}

/// Checks a launch against the kernel and the chip; the blocks that can be resident.
fn check(info: &KernelInfo, launch: &Launch, spec: &DeviceSpec) -> Result<usize, Fault> {
    let name = &info.name;
    if launch.grid.contains(&0) || launch.block.contains(&0) {
        return Err(invalid(format!("{name}: a dimension of grid {:?} or block {:?} is 0", launch.grid, launch.block)));
    }
    let [x, y, z] = launch.grid;
    if x > i32::MAX as u32 || y > 65535 || z > 65535 || launch.block[2] > 64 {
        return Err(invalid(format!("{name}: grid {:?} or block {:?} is too large", launch.grid, launch.block)));
    }
    let threads: u64 = launch.block.iter().map(|n| u64::from(*n)).product();
    if threads > u64::from(info.max_threads) {
        let report = format!("{name}: {threads} threads in a block, but the kernel allows {}", info.max_threads);
        return Err(Fault { kind: FaultKind::OutOfResources, report });
    }
    if launch.params.len() < info.param_bytes {
        let (have, need) = (launch.params.len(), info.param_bytes);
        return Err(invalid(format!("{name}: {have} bytes of parameters, but the kernel has {need}")));
    }
    let bytes = u64::from(info.static_shared) + u64::from(launch.dynamic_shared);
    if bytes > u64::from(spec.shared_per_block_optin) {
        return Err(invalid(format!(
            "{name}: {bytes} bytes of shared memory, but a block can have {}",
            spec.shared_per_block_optin
        )));
    }
    let resident = u64::from(spec.occupancy(threads as u32, 1, bytes as u32)) * u64::from(spec.sms);
    let blocks: u64 = launch.grid.iter().map(|n| u64::from(*n)).product();
    if launch.cooperative && blocks > resident {
        let report = format!("{name}: {blocks} blocks in a cooperative launch, but only {resident} can be resident");
        return Err(Fault { kind: FaultKind::CooperativeTooLarge, report });
    }
    Ok(resident.max(1) as usize)
}

/// A worker's life in a launch.
fn work(state: &LaunchState<'_>, shared: &Shared) {
    let mut cx = context(state);
    let mut waiting: VecDeque<Block> = VecDeque::new();
    let mut spare: Vec<Block> = Vec::new();
    let mut idle = Idle { since: 0, rounds: 0, turns: 0, stalled: false };
    while !shared.stop.load(Ordering::Relaxed) {
        let fresh = (waiting.len() < shared.resident).then(|| take(shared)).flatten();
        let mut block = match fresh {
            Some(index) => {
                let mut block = spare.pop().unwrap_or_else(|| Block::new(state));
                block.start(state, coordinates(index, state.grid));
                block
            }
            None => match waiting.pop_front() {
                Some(block) => block,
                None => break,
            },
        };
        forget_shared(&mut cx);
        let before = cx.progress;
        match block.run(&mut cx) {
            Turn::Done => spare.push(block),
            Turn::Fault(fault) => fail(shared, fault),
            Turn::Yielded => {
                waiting.push_back(block);
                shared.progress.fetch_add(cx.progress - before, Ordering::Relaxed);
                if idle.deadlock(shared, waiting.len())
                    && let Some(block) = waiting.front()
                {
                    fail(shared, report::grid_deadlock(&cx, block));
                }
                continue;
            }
        }
        shared.progress.fetch_add(cx.progress - before, Ordering::Relaxed);
    }
    if !idle.stalled {
        shared.stalled.fetch_add(1, Ordering::Relaxed);
    }
    let counters = finish(cx);
    shared.counters.lock().unwrap_or_else(PoisonError::into_inner).add(&counters);
}

/// The next block that nobody has begun.
fn take(shared: &Shared) -> Option<u64> {
    let index = shared.next.fetch_add(1, Ordering::Relaxed);
    (index < shared.blocks).then_some(index)
}

/// Records the first fault and stops the launch.
fn fail(shared: &Shared, fault: Fault) {
    shared.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    shared.stop.store(true, Ordering::Relaxed);
}

fn coordinates(index: u64, [x, y, _]: [u32; 3]) -> [u32; 3] {
    let (x, y) = (u64::from(x), u64::from(y));
    [(index % x) as u32, (index / x % y) as u32, (index / (x * y)) as u32]
}

/// Ranges of shared memory that sites remember belong to the block that ran before.
fn forget_shared(cx: &mut Cx<'_>) {
    use crate::exec::ops::access::{LOCAL_WINDOW, SHARED_WINDOW};
    for site in &mut cx.sites {
        if (SHARED_WINDOW..LOCAL_WINDOW).contains(&site.base) {
            *site = Range { base: 0, size: 0, host: 0 };
        }
    }
}

/// Watches for the state in which no worker's blocks make progress.
struct Idle {
    since: u64,
    rounds: u32,
    turns: usize,
    stalled: bool,
}

impl Idle {
    /// After a block has yielded, of `blocks` that wait: is the grid deadlocked?
    fn deadlock(&mut self, shared: &Shared, blocks: usize) -> bool {
        let now = shared.progress.load(Ordering::Relaxed);
        if now != self.since {
            *self = Idle { since: now, rounds: 0, turns: 0, stalled: self.stalled };
            if self.stalled {
                self.stalled = false;
                shared.stalled.fetch_sub(1, Ordering::Relaxed);
            }
            return false;
        }
        self.turns += 1;
        if self.turns >= blocks {
            self.turns = 0;
            self.rounds += 1;
            std::thread::yield_now();
        }
        if self.rounds < PATIENCE {
            return false;
        }
        if !self.stalled {
            self.stalled = true;
            shared.stalled.fetch_add(1, Ordering::Relaxed);
        }
        shared.stalled.load(Ordering::Relaxed) == shared.workers
            && shared.progress.load(Ordering::Relaxed) == self.since
    }
}

fn context<'g>(state: &'g LaunchState<'g>) -> Cx<'g> {
    Cx {
        regs: std::ptr::null_mut(),
        mask: 0,
        dead: 0,
        pc: 0,
        stop: Stop::Fault,
        fault: None,
        shared: std::ptr::null_mut(),
        shared_len: 0,
        local: std::ptr::null_mut(),
        local_len: 0,
        sites: vec![Range { base: 0, size: 0, host: 0 }; state.kernel.sites.max(1)],
        banks: vec![Banks::NONE; state.kernel.sites.max(1)],
        hits: vec![0; state.kernel.code.len() + 1],
        idle_lanes: 0,
        count: KernelCounters::default(),
        progress: 0,
        polls: 0,
        checks: None,
        bulk: BulkCopies::default(),
        executed: 0,
        turns: 0,
        wide: crate::exec::table::vector_cpu(),
        warp: 0,
        copies: AsyncCopies::default(),
        ctaid: [0; 3],
        launch: state,
    }
}

/// A worker's counts, those of instructions made from the operations' hits.
fn finish(cx: Cx<'_>) -> KernelCounters {
    let kernel: &Kernel = cx.launch.kernel;
    let mut count = cx.count;
    count.by_class = vec![0; Class::ALL.len()];
    let mut hits = 0u64;
    for (op, change) in kernel.code.iter().zip(&cx.hits) {
        hits = hits.wrapping_add(*change);
        let folded = hits.wrapping_mul(u64::from(op.folded));
        count.by_class[Class::Integer as usize] += folded;
        count.by_class[op.code.entry().class as usize] += if op.counted { hits } else { 0 };
    }
    count.warp_instructions = count.by_class.iter().sum();
    count.lane_instructions = count.warp_instructions * 32 - cx.idle_lanes;
    count
}
