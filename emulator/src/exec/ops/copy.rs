//! `cp.async`: copies from global to shared memory that complete as late as they may.
//!
//! Nothing moves before the thread waits: a kernel that reads too early reads what was there before, every time.
//! Invariant: the pointers were checked when the copy began; neither device memory nor a running block's shared memory
//! is ever unmapped.
use super::access::{self, Global, Pattern, Shared};
use super::{bulk, watch};
use crate::exec::cx::{Cx, lanes};
use crate::exec::lane::LANES;
use crate::exec::op::{Flow, Op};
use std::collections::VecDeque;

/// The copies of a warp that have begun and not completed.
#[derive(Default)]
pub struct AsyncCopies {
    /// Not yet committed.
    open: Vec<Copy>,
    /// Committed groups, oldest first.
    groups: VecDeque<Group>,
}

#[derive(Default)]
struct Group {
    /// Lanes that committed it and have not waited for it.
    lanes: u32,
    copies: Vec<Copy>,
}

/// One instruction's copies.
#[derive(Clone)]
pub struct Copy {
    lanes: u32,
    dst: [usize; LANES],
    src: [usize; LANES],
    /// Bytes to read; the rest of `size` is zero.
    read: [u8; LANES],
    size: u8,
}

impl Copy {
    /// Completes the copies of `mask`; tells `done` of each: lane, destination, size.
    pub fn complete(&mut self, mask: u32, done: &mut impl FnMut(usize, usize, usize)) {
        for l in lanes(self.lanes & mask) {
            let (size, read) = (self.size as usize, self.read[l] as usize);
            done(l, self.dst[l], size);
            let mut bytes = [0u8; 16];
            // SAFETY: both ranges were checked when the copy began. Other workers may write the source: volatile.
            unsafe {
                if read == 16 {
                    let words: [u64; 2] = std::array::from_fn(|i| (self.src[l] as *const u64).add(i).read_volatile());
                    (self.dst[l] as *mut [u64; 2]).write(words);
                    continue;
                }
                for (i, byte) in bytes.iter_mut().enumerate().take(read) {
                    *byte = (self.src[l] as *const u8).add(i).read_volatile();
                }
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.dst[l] as *mut u8, size);
            }
        }
        self.lanes &= !mask;
    }
}

impl AsyncCopies {
    /// The lanes of `mask` commit what they began.
    fn commit(&mut self, mask: u32) {
        let mut group = Group { lanes: mask, copies: Vec::new() };
        for copy in &mut self.open {
            if copy.lanes & mask != 0 {
                group.copies.push(Copy { lanes: copy.lanes & mask, ..copy.clone() });
                copy.lanes &= !mask;
            }
        }
        self.open.retain(|c| c.lanes != 0);
        self.groups.push_back(group);
    }

    /// The lanes of `mask` wait until at most `keep` of their newest groups are pending.
    fn wait(&mut self, mask: u32, keep: usize, mut done: impl FnMut(usize, usize, usize)) {
        let mut newer = [0usize; LANES];
        let mut complete: Vec<u32> = Vec::with_capacity(self.groups.len());
        for group in self.groups.iter().rev() {
            let mut due = 0;
            for l in lanes(group.lanes & mask) {
                due |= u32::from(newer[l] >= keep) << l;
                newer[l] += 1;
            }
            complete.push(due);
        }
        for (group, due) in self.groups.iter_mut().zip(complete.into_iter().rev()) {
            group.lanes &= !due;
            group.copies.iter_mut().for_each(|c| c.complete(due, &mut done));
        }
        self.groups.retain(|g| g.lanes != 0);
    }

    /// Takes out what the lanes of `mask` began and have not waited for, committed or not.
    pub fn take(&mut self, mask: u32) -> Vec<Copy> {
        let mut taken = Vec::new();
        for copy in self.groups.iter_mut().flat_map(|g| &mut g.copies).chain(&mut self.open) {
            if copy.lanes & mask != 0 {
                taken.push(Copy { lanes: copy.lanes & mask, ..copy.clone() });
                copy.lanes &= !mask;
            }
        }
        self.open.retain(|c| c.lanes != 0);
        taken
    }

    /// Forgets everything, as the end of a block does.
    pub fn clear(&mut self) {
        self.open.clear();
        self.groups.clear();
    }
}

/// `cp.async`: sources shared address, global address, bytes to read. Immediate: size, then the displacement of the
/// shared address above bit 8; the displacement of the global one is `target`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn start(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let size = (op.imm & 255) as usize;
    let (mut dst, mut src) = ([0; LANES], [0; LANES]);
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let Some(pattern) = access::locate::<Shared>(cx, op, (op.a, op.imm >> 8), mask, size, &mut dst) else {
            return Flow::Stop;
        };
        spread(pattern, size, &mut dst);
        let wanted = &*cx.reg::<u32>(op.c);
        let read: [u8; LANES] = std::array::from_fn(|l| wanted[l].min(size as u32) as u8);
        // A thread that reads nothing need not have a valid source.
        let reading = lanes(mask).filter(|&l| read[l] != 0).fold(0, |m, l| m | 1 << l);
        if reading != 0 {
            let place = (op.b, i64::from(op.target as i32));
            let Some(pattern) = access::locate::<Global>(cx, op, place, reading, size, &mut src) else {
                return Flow::Stop;
            };
            let sectors = access::cost::<Global>(cx, op, reading, size, pattern, &src);
            access::count::<Global>(cx, reading, size, sectors, false);
            spread(pattern, size, &mut src);
        }
        cx.copies.open.push(Copy { lanes: mask, dst, src, read, size: size as u8 });
    }
    Flow::Next
}

/// Fills in the pointers that a pattern implies.
fn spread(pattern: Pattern, size: usize, at: &mut access::Pointers) {
    match pattern {
        Pattern::Contiguous => *at = std::array::from_fn(|l| at[0] + l * size),
        Pattern::Uniform => *at = [at[0]; LANES],
        Pattern::Scattered => {}
    }
}

/// `cp.async.commit_group`
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn commit(cx: &mut Cx<'_>, _op: &Op, mask: u32) -> Flow {
    cx.copies.commit(mask);
    Flow::Next
}

/// `cp.async.wait_group` with the immediate's number of groups, or `wait_all` if it is negative.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn wait(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    if op.imm < 0 {
        cx.copies.commit(mask);
    }
    let keep = op.imm.max(0) as usize;
    if bulk::complete_arrivals(cx, op, mask).is_none() {
        return Flow::Stop;
    }
    if cx.checks.is_none() {
        cx.copies.wait(mask, keep, |_, _, _| {});
        return Flow::Next;
    }
    let (mut copies, mut written) = (std::mem::take(&mut cx.copies), Vec::new());
    copies.wait(mask, keep, |lane, to, size| written.push((lane, to, size)));
    cx.copies = copies;
    watch::completed(cx, op, &written)
}
