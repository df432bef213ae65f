//! `cp.async.bulk`: copies of whole ranges, and what else arrives at an mbarrier by itself.
//!
//! Like `cp.async` they complete as late as they may. A load into shared memory completes when somebody waits for its
//! mbarrier and only bytes are missing; a store to global memory when its thread waits for the group, or its block ends.
//! `wait_group.read` takes the bytes out of shared memory, but does not yet write them.
use super::access::{self, Global, Pattern, Pointers, Shared, Space};
use super::copy::Copy;
use super::mbarrier::{self, Mbarrier, flag};
use super::watch;
use crate::check::shared::How;
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::FaultKind;
use crate::exec::lane::LANES;
use crate::exec::op::{Flow, Op};

/// A copy into shared memory that has begun.
struct Load {
    dst: usize,
    src: usize,
    size: usize,
    /// Host address of its mbarrier.
    barrier: usize,
}

/// `cp.async` copies of some lanes whose completion is an arrival of each.
struct Arrival {
    warp: usize,
    copies: Vec<Copy>,
    lanes: u32,
    barrier: usize,
}

/// A copy out of shared memory that has begun, with its thread and group.
struct Store {
    thread: (usize, usize),
    /// Groups that its thread has committed since; `None` while it is not committed.
    age: Option<usize>,
    dst: usize,
    src: usize,
    size: usize,
    /// The bytes, once they have been read.
    taken: Option<Vec<u8>>,
}

/// The copies of a block under way.
#[derive(Default)]
pub struct BulkCopies {
    loads: Vec<Load>,
    arrivals: Vec<Arrival>,
    stores: Vec<Store>,
}

impl Store {
    fn take(&mut self) {
        // SAFETY: the range was checked when the copy began; shared memory outlives the block's run.
        let read = || unsafe { std::slice::from_raw_parts(self.src as *const u8, self.size) }.to_vec();
        self.taken = Some(self.taken.take().unwrap_or_else(read));
    }

    fn complete(&mut self) {
        self.take();
        for (i, byte) in self.taken.iter().flatten().enumerate() {
            // SAFETY: the range was checked when the copy began. Others may read it meanwhile: volatile.
            unsafe { (self.dst as *mut u8).add(i).write_volatile(*byte) };
        }
    }
}

impl BulkCopies {
    /// Completes the stores, as the end of a block does, and forgets the rest.
    pub fn end(&mut self) {
        self.stores.iter_mut().for_each(Store::complete);
        *self = BulkCopies::default();
    }
}

/// What has not arrived at a lane's mbarrier yet, and would make it wait in vain, arrives now.
pub fn arrive_late(cx: &mut Cx<'_>, op: &Op, lane: usize, mut now: Mbarrier) -> Result<Mbarrier, String> {
    // SAFETY: a 32-bit register by lowering; the address was checked.
    let offset = unsafe { (*cx.reg::<u32>(op.a))[lane] }.wrapping_add((op.imm >> 8) as u32) as usize;
    let barrier = cx.shared as usize + offset;
    let due: u64 =
        cx.bulk.arrivals.iter().filter(|a| a.barrier == barrier).map(|a| u64::from(a.lanes.count_ones())).sum();
    if due != 0 && due >= now.pending() {
        let (here, rest) = std::mem::take(&mut cx.bulk.arrivals).into_iter().partition(|a| a.barrier == barrier);
        cx.bulk.arrivals = rest;
        for arrival in here {
            now = complete(cx, op, arrival, now)?;
        }
    }
    if now.pending() == 0 {
        let (here, rest): (Vec<Load>, _) =
            std::mem::take(&mut cx.bulk.loads).into_iter().partition(|l| l.barrier == barrier);
        cx.bulk.loads = rest;
        for load in here {
            for i in 0..load.size {
                // SAFETY: both ranges were checked when the copy began. Others may write the source: volatile.
                unsafe { (load.dst as *mut u8).add(i).write((load.src as *const u8).add(i).read_volatile()) };
            }
            written(cx, op, lane, load.dst, load.size)?;
            now = now.received(load.size as i64);
        }
    }
    if let Some(checks) = cx.checks.as_mut() {
        // Whoever waits for the barrier from now on knows of what was written.
        checks.clocks.exchange(cx.warp, offset as u32);
    }
    Ok(now)
}

/// Completes copies and arrives for them.
fn complete(cx: &mut Cx<'_>, op: &Op, mut arrival: Arrival, now: Mbarrier) -> Result<Mbarrier, String> {
    let mut done = Vec::new();
    let lanes = arrival.lanes;
    arrival.copies.iter_mut().for_each(|c| c.complete(lanes, &mut |lane, to, size| done.push((lane, to, size))));
    for (lane, to, size) in done {
        written(cx, op, lane, to, size)?;
    }
    let count = u64::from(lanes.count_ones());
    now.arrived(count, false).ok_or_else(|| format!("{count} arrivals of cp.async, but fewer are pending"))
}

/// Tells the checker that a copy has written.
fn written(cx: &mut Cx<'_>, op: &Op, lane: usize, to: usize, size: usize) -> Result<(), String> {
    let offset = to - cx.shared as usize;
    watch::shared(cx, op, lane, How::Write, offset, size).map_or(Ok(()), Err)
}

/// `cp.async.mbarrier.arrive`: source address of the mbarrier. With no copies under way it is a plain arrival, later.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn arrive_after_copies(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let mut objects = [0; LANES];
    // SAFETY: passed on; a 32-bit register by lowering.
    let flow = unsafe {
        let base = *cx.reg::<u32>(op.a);
        mbarrier::update(cx, op, mask, |cx, l, now| {
            objects[l] = cx.shared as usize + base[l].wrapping_add((op.imm >> 8) as u32) as usize;
            Ok(if op.imm & flag::NO_INCREMENT != 0 { now } else { now.awaiting() })
        })
    };
    if flow != Flow::Next {
        return flow;
    }
    let mut left = mask;
    while left != 0 {
        let barrier = objects[left.trailing_zeros() as usize];
        let lanes = lanes(left).filter(|&l| objects[l] == barrier).fold(0, |m, l| m | 1 << l);
        let copies = cx.copies.take(lanes);
        cx.bulk.arrivals.push(Arrival { warp: cx.warp, copies, lanes, barrier });
        left &= !lanes;
    }
    Flow::Next
}

/// The lanes of `mask` wait for all their `cp.async` copies: those complete that will arrive at an mbarrier. `None`: a fault
/// was recorded.
pub fn complete_arrivals(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Option<()> {
    let warp = cx.warp;
    let mine = |a: &Arrival| a.warp == warp && a.lanes & mask != 0;
    if !cx.bulk.arrivals.iter().any(mine) {
        return Some(());
    }
    let (here, rest) = std::mem::take(&mut cx.bulk.arrivals).into_iter().partition(mine);
    cx.bulk.arrivals = rest;
    for arrival in here {
        let object = arrival.barrier as *mut Mbarrier;
        let lane = arrival.lanes.trailing_zeros() as usize;
        // SAFETY: the address was checked when the arrival was asked for; shared memory belongs to this worker alone.
        match complete(cx, op, arrival, unsafe { object.read() }) {
            // SAFETY: as above.
            Ok(next) => unsafe { object.write(next) },
            Err(what) => {
                mbarrier::misuse(cx, lane, what);
                return None;
            }
        }
    }
    Some(())
}

/// Host addresses of the lanes' ranges, each of its own size: first and last 16 bytes are checked, which must lie in one
/// allocation. `None`: a fault was recorded.
unsafe fn ranges<S: Space>(
    cx: &mut Cx<'_>,
    op: &Op,
    (reg, displacement): (u32, i64),
    mask: u32,
    sizes: &[u32; LANES],
) -> Option<Pointers> {
    let mut at = [0; LANES];
    for l in lanes(mask) {
        let mut ends = [0usize; 2];
        for (end, offset) in ends.iter_mut().zip([0, i64::from(sizes[l]) - 16]) {
            let mut found = [0; LANES];
            // SAFETY: passed on.
            let pattern = unsafe { access::locate::<S>(cx, op, (reg, displacement + offset), 1 << l, 16, &mut found)? };
            *end = if pattern == Pattern::Scattered { found[l] } else { found[0] };
        }
        if ends[1].wrapping_sub(ends[0]) != sizes[l] as usize - 16 {
            access::locate::bad_access(cx, op, l, 0, 16, "global");
            return None;
        }
        at[l] = ends[0];
    }
    Some(at)
}

/// Sizes of the lanes' copies: multiples of 16. `None`: a fault was recorded.
unsafe fn sizes(cx: &mut Cx<'_>, register: u32, mask: u32) -> Option<[u32; LANES]> {
    // SAFETY: a 32-bit register by lowering.
    let sizes = unsafe { *cx.reg::<u32>(register) };
    if let Some(l) = lanes(mask).find(|&l| sizes[l] % 16 != 0) {
        mbarrier::misuse(cx, l, format!("a bulk copy of {} bytes, which is no multiple of 16", sizes[l]));
        cx.fault.iter_mut().for_each(|f| f.kind = FaultKind::Misaligned);
        return None;
    }
    Some(sizes)
}

/// Counts the sectors of a lane's range.
fn sectors(at: usize, size: u32) -> u64 {
    ((at & 31) + size as usize).div_ceil(32) as u64
}

/// `cp.async.bulk` from global to shared memory: sources mbarrier, shared address, size, global address. Immediate: the
/// displacement of the mbarrier above bit 8.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn load(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let (to, size, from) = (cx.more(op, 1), cx.more(op, 2), cx.more(op, 3));
        let Some(sizes) = sizes(cx, size, mask) else { return Flow::Stop };
        let mask = lanes(mask).filter(|&l| sizes[l] != 0).fold(0, |m, l| m | 1 << l);
        if mask == 0 {
            return Flow::Next;
        }
        let Some(dst) = ranges::<Shared>(cx, op, (to, 0), mask, &sizes) else { return Flow::Stop };
        let Some(src) = ranges::<Global>(cx, op, (from, 0), mask, &sizes) else { return Flow::Stop };
        let addresses = *cx.reg::<u64>(from);
        let (mut objects, base) = ([0; LANES], *cx.reg::<u32>(op.a));
        let flow = mbarrier::update(cx, op, mask, |cx, l, now| {
            objects[l] = cx.shared as usize + base[l].wrapping_add((op.imm >> 8) as u32) as usize;
            Ok(now)
        });
        if flow != Flow::Next {
            return flow;
        }
        for l in lanes(mask) {
            if let Some(what) = watch::global(cx, How::Read, addresses[l], sizes[l] as usize) {
                return mbarrier::misuse(cx, l, what);
            }
            let load = Load { dst: dst[l], src: src[l], size: sizes[l] as usize, barrier: objects[l] };
            cx.bulk.loads.push(load);
            cx.count.load_sectors += sectors(src[l], sizes[l]);
            cx.count.load_bytes += u64::from(sizes[l]);
        }
        cx.count.global_loads += 1;
    }
    Flow::Next
}

/// `cp.async.bulk` from shared to global memory: sources global address, shared address, size.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn store(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let Some(sizes) = sizes(cx, op.c, mask) else { return Flow::Stop };
        let mask = lanes(mask).filter(|&l| sizes[l] != 0).fold(0, |m, l| m | 1 << l);
        let Some(dst) = ranges::<Global>(cx, op, (op.a, 0), mask, &sizes) else { return Flow::Stop };
        let Some(src) = ranges::<Shared>(cx, op, (op.b, 0), mask, &sizes) else { return Flow::Stop };
        let addresses = *cx.reg::<u64>(op.a);
        for l in lanes(mask) {
            let offset = src[l] - cx.shared as usize;
            if let Some(what) = watch::shared(cx, op, l, How::Read, offset, sizes[l] as usize) {
                return mbarrier::misuse(cx, l, what);
            }
            cx.launch.gpu.memory().mark_written(addresses[l], sizes[l] as usize);
            let (thread, size) = ((cx.warp, l), sizes[l] as usize);
            cx.bulk.stores.push(Store { thread, age: None, dst: dst[l], src: src[l], size, taken: None });
            cx.count.store_sectors += sectors(dst[l], sizes[l]);
            cx.count.store_bytes += u64::from(sizes[l]);
        }
        cx.count.global_stores += 1;
    }
    Flow::Next
}

/// `cp.async.bulk.commit_group`
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn commit(cx: &mut Cx<'_>, _op: &Op, mask: u32) -> Flow {
    let warp = cx.warp;
    for store in cx.bulk.stores.iter_mut().filter(|s| s.thread.0 == warp && mask >> s.thread.1 & 1 != 0) {
        store.age = Some(store.age.map_or(0, |age| age + 1));
    }
    Flow::Next
}

/// `cp.async.bulk.wait_group` with the immediate's number of groups; with a `target` other than 0 only until the sources
/// have been read.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn wait(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let warp = cx.warp;
    let keep = op.imm as usize;
    let due = |s: &Store| s.thread.0 == warp && mask >> s.thread.1 & 1 != 0 && s.age.is_some_and(|age| age >= keep);
    if op.target != 0 {
        cx.bulk.stores.iter_mut().filter(|s| due(s)).for_each(Store::take);
        return Flow::Next;
    }
    cx.bulk.stores.iter_mut().filter(|s| due(s)).for_each(Store::complete);
    cx.bulk.stores.retain(|s| !due(s));
    cx.progress += 1;
    Flow::Next
}
