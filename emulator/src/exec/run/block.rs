//! A block: its warps' registers, its shared and local memory, its barriers. A block can be left and resumed at any
//! pause of its warps, so that blocks that wait for each other all get on.
use super::report;
use super::warp::{Pause, Warp};
use crate::check::shared::SharedChecks;
use crate::exec::cx::{Cx, LaunchState};
use crate::exec::fault::Fault;
use crate::exec::lane::LANES;
use crate::exec::ops::barrier::mode;
use crate::exec::ops::bulk::BulkCopies;
use crate::exec::program::{Kernel, Value};
use std::sync::atomic::Ordering;

/// Barriers of a block: 16 of its own, and one that `barrier.cluster` uses.
const BARRIERS: usize = 17;
/// Alignment of register files and memories.
const ALIGN: usize = 256;

/// Zeroed bytes, aligned to 256.
pub struct Bytes {
    storage: Vec<[u64; 4]>,
    start: usize,
}

impl Bytes {
    /// `len` bytes.
    pub fn new(len: usize) -> Bytes {
        let storage: Vec<[u64; 4]> = vec![[0; 4]; (len + ALIGN).div_ceil(32)];
        let at = storage.as_ptr() as usize;
        Bytes { start: at.next_multiple_of(ALIGN) - at, storage }
    }

    /// The first byte.
    pub fn ptr(&mut self) -> *mut u8 {
        // SAFETY: `start` is less than ALIGN, which the storage has beyond the length.
        unsafe { self.storage.as_mut_ptr().cast::<u8>().add(self.start) }
    }
}

/// One barrier's arrivals.
#[derive(Clone, Copy, Default)]
struct Barrier {
    warps: u32,
    /// Threads that must arrive; `None`: all that have not ended.
    threads: Option<u32>,
    count: u32,
    all: bool,
    any: bool,
}

/// A block that runs or can be resumed.
pub struct Block {
    /// Its coordinates.
    pub ctaid: [u32; 3],
    /// Its warps.
    pub warps: Vec<Warp>,
    barriers: [Barrier; BARRIERS],
    registers: Bytes,
    shared: Bytes,
    shared_len: usize,
    local: Bytes,
    /// Warps that have not ended.
    alive: usize,
    /// What is known of shared memory, if that is checked.
    checks: Option<Box<SharedChecks>>,
    /// Its bulk copies under way.
    bulk: BulkCopies,
}

/// How a block's turn ended.
pub enum Turn {
    /// All threads have ended.
    Done,
    /// Its warps wait for something outside of it.
    Yielded,
    /// A fault.
    Fault(Fault),
}

impl Block {
    /// A block's state for a launch, constants filled in.
    pub fn new(launch: &LaunchState<'_>) -> Block {
        let kernel = launch.kernel;
        let threads: u32 = launch.block.iter().product();
        let warps = threads.div_ceil(LANES as u32) as usize;
        let shared_len = kernel.shared_bytes(launch.dynamic_shared);
        let checks = launch.gpu.memory().checks();
        let mut block = Block {
            ctaid: [0; 3],
            warps: (0..warps).map(|_| Warp::default()).collect(),
            barriers: [Barrier::default(); BARRIERS],
            registers: Bytes::new(warps * kernel.file_bytes),
            shared: Bytes::new(shared_len),
            shared_len,
            local: Bytes::new(warps * LANES * kernel.info.local_bytes as usize),
            alive: 0,
            bulk: BulkCopies::default(),
            checks: checks.accesses().then(|| Box::new(SharedChecks::new(checks, shared_len, warps, BARRIERS))),
        };
        for w in 0..warps {
            block.fill_constants(kernel, launch.params, w);
        }
        block
    }

    fn fill_constants(&mut self, kernel: &Kernel, params: &[u8], warp: usize) {
        let file = self.registers.ptr().wrapping_add(warp * kernel.file_bytes);
        for constant in &kernel.constants {
            let at = file.wrapping_add(constant.offset as usize);
            let (bits, wide) = match constant.value {
                Value::Bits32(bits) => (u64::from(bits), false),
                Value::Bits64(bits) => (bits, true),
                Value::Param { at, bytes, signed, wide } => (parameter(params, at, bytes, signed), wide),
                Value::True | Value::False => {
                    let bits = if constant.value == Value::True { u32::MAX } else { 0 };
                    // SAFETY: the file is `file_bytes` long, and constants lie inside (an invariant of `Kernel`).
                    unsafe { at.cast::<u32>().write(bits) };
                    continue;
                }
            };
            // SAFETY: as above; the register is aligned to its elements.
            unsafe {
                if wide {
                    at.cast::<[u64; LANES]>().write([bits; LANES]);
                } else {
                    at.cast::<[u32; LANES]>().write([bits as u32; LANES]);
                }
            }
        }
    }

    /// Begins the block with these coordinates.
    pub fn start(&mut self, launch: &LaunchState<'_>, ctaid: [u32; 3]) {
        let kernel = launch.kernel;
        self.ctaid = ctaid;
        self.barriers = [Barrier::default(); BARRIERS];
        self.alive = self.warps.len();
        if let Some(checks) = &mut self.checks {
            checks.start(self.warps.len());
        }
        let threads: u32 = launch.block.iter().product();
        for (w, warp) in self.warps.iter_mut().enumerate() {
            let living = (threads - w as u32 * 32).min(32);
            warp.reset(kernel.entry, if living == 32 { 0 } else { u32::MAX << living });
            let file = self.registers.ptr().wrapping_add(w * kernel.file_bytes);
            for (offset, bytes) in &kernel.cleared {
                // SAFETY: cleared ranges are registers of the file.
                unsafe { file.add(*offset as usize).write_bytes(0, *bytes as usize) };
            }
        }
    }

    /// Runs until all threads have ended, or all that can run let others run.
    pub fn run(&mut self, cx: &mut Cx<'_>) -> Turn {
        std::mem::swap(&mut cx.checks, &mut self.checks);
        std::mem::swap(&mut cx.bulk, &mut self.bulk);
        let turn = self.run_warps(cx);
        std::mem::swap(&mut cx.checks, &mut self.checks);
        std::mem::swap(&mut cx.bulk, &mut self.bulk);
        turn
    }

    fn run_warps(&mut self, cx: &mut Cx<'_>) -> Turn {
        cx.ctaid = self.ctaid;
        cx.polls = 0;
        (cx.shared, cx.shared_len) = (self.shared.ptr(), self.shared_len);
        let kernel = cx.launch.kernel;
        loop {
            let (mut ran, mut yielded) = (false, true);
            for w in 0..self.warps.len() {
                if self.warps[w].waiting.is_some() || self.warps[w].groups.is_empty() {
                    continue;
                }
                ran = true;
                self.enter(cx, kernel, w);
                let mut warp = std::mem::take(&mut self.warps[w]);
                std::mem::swap(&mut cx.copies, &mut warp.copies);
                let pause = warp.run(cx);
                std::mem::swap(&mut cx.copies, &mut warp.copies);
                self.warps[w] = warp;
                if let (Some(budget), Pause::Yield | Pause::Barrier(_)) = (cx.launch.budget, pause)
                    && budget.fetch_sub(cx.executed as i64, Ordering::Relaxed) <= cx.executed as i64
                {
                    return Turn::Fault(report::over_budget(cx, self, w));
                }
                cx.executed = 0;
                yielded &= pause == Pause::Yield;
                match pause {
                    Pause::Yield => {}
                    Pause::Done => {
                        self.alive -= 1;
                        if let Some(checks) = &mut cx.checks {
                            checks.clocks.end(w);
                        }
                        (0..BARRIERS).for_each(|id| self.complete(cx, id));
                    }
                    Pause::Barrier(pc) => {
                        if let Err(fault) = self.arrive(cx, w, pc) {
                            return Turn::Fault(fault);
                        }
                    }
                    Pause::Stuck => return Turn::Fault(report::stuck(cx, self, w)),
                    Pause::Fault(pc) => return Turn::Fault(report::fault(cx, self, w, pc)),
                }
            }
            if self.alive == 0 {
                cx.bulk.end();
                return Turn::Done;
            }
            if !ran {
                return Turn::Fault(report::barrier_deadlock(cx, self));
            }
            if yielded {
                return Turn::Yielded;
            }
        }
    }

    /// Points the context at a warp.
    fn enter(&mut self, cx: &mut Cx<'_>, kernel: &Kernel, w: usize) {
        cx.warp = w;
        cx.regs = self.registers.ptr().wrapping_add(w * kernel.file_bytes);
        cx.local_len = kernel.info.local_bytes as usize;
        cx.local = self.local.ptr().wrapping_add(w * LANES * cx.local_len);
    }

    /// A warp has arrived at the barrier operation `pc`.
    fn arrive(&mut self, cx: &mut Cx<'_>, w: usize, pc: usize) -> Result<(), Fault> {
        let kernel = cx.launch.kernel;
        let op = &kernel.code[pc];
        self.enter(cx, kernel, w);
        let mask = !self.warps[w].dead;
        let lane = mask.trailing_zeros() as usize & 31;
        // SAFETY: 32-bit registers and a predicate by lowering.
        let (id, threads, yes) = unsafe {
            let counted = op.imm & mode::COUNTED != 0;
            let (id, count) = ((*cx.reg::<u32>(op.a))[lane], (*cx.reg::<u32>(op.b))[lane]);
            (id as usize, counted.then_some(count), cx.pred(op.c) & mask)
        };
        let kind = op.imm & mode::KIND;
        let bad = match threads {
            Some(n) if n % 32 != 0 || n == 0 => Some(format!("barrier with {n} threads, which is no multiple of 32")),
            _ if id >= BARRIERS => Some(format!("barrier {id}, but there are 16")),
            _ => None,
        };
        if let Some(what) = bad {
            return Err(report::misuse(cx, self, w, pc, what));
        }
        let barrier = &mut self.barriers[id];
        if barrier.warps == 0 {
            *barrier = Barrier { all: true, ..Barrier::default() };
        }
        barrier.warps += 1;
        barrier.threads = threads;
        barrier.count += yes.count_ones();
        barrier.all &= yes == mask;
        barrier.any |= yes != 0;
        if let Some(checks) = &mut cx.checks {
            checks.clocks.arrive(w, id);
        }
        if kind == mode::ARRIVE {
            self.warps[w].release(pc);
        } else {
            self.warps[w].waiting = Some(id);
        }
        self.complete(cx, id);
        Ok(())
    }

    /// Releases the warps of a barrier if enough have arrived.
    fn complete(&mut self, cx: &mut Cx<'_>, id: usize) {
        let barrier = self.barriers[id];
        let needed = barrier.threads.map_or(self.alive as u32, |threads| threads / 32);
        if barrier.warps == 0 || barrier.warps < needed {
            return;
        }
        self.barriers[id] = Barrier::default();
        cx.progress += 1;
        cx.count.barriers += 1;
        let kernel = cx.launch.kernel;
        for w in 0..self.warps.len() {
            if self.warps[w].waiting != Some(id) {
                continue;
            }
            self.enter(cx, kernel, w);
            if let Some(checks) = &mut cx.checks {
                checks.clocks.pass(w, id);
            }
            cx.dead = self.warps[w].dead;
            // All lanes of a waiting warp are at its barrier operation.
            let places: Vec<usize> = self.warps[w].groups.iter().filter(|g| g.parked).map(|g| g.pc).collect();
            for pc in places {
                let op = &kernel.code[pc];
                let mask = !cx.dead;
                // SAFETY: the result is a 32-bit register for popc and a predicate for and, or, by lowering.
                unsafe {
                    match op.imm & mode::KIND {
                        mode::POPC => cx.set(op.d, mask, &[barrier.count; LANES]),
                        mode::AND => cx.set_pred(op.d, mask, if barrier.all { !0 } else { 0 }),
                        mode::OR => cx.set_pred(op.d, mask, if barrier.any { !0 } else { 0 }),
                        _ => {}
                    }
                }
                self.warps[w].release(pc);
            }
        }
        if let Some(checks) = &mut cx.checks {
            checks.clocks.complete(id);
        }
    }
}

/// A parameter of `bytes` bytes at `at`, extended to 64 bits.
fn parameter(params: &[u8], at: u32, bytes: u8, signed: bool) -> u64 {
    let (at, bytes) = (at as usize, bytes as usize);
    let mut word = [0; 8];
    if let Some(found) = params.get(at..at + bytes) {
        word[..bytes].copy_from_slice(found);
    }
    let value = u64::from_le_bytes(word);
    let unused = 64 - 8 * bytes as u32;
    if signed { ((value << unused) as i64 >> unused) as u64 } else { value }
}
