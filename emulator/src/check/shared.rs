//! Shared memory of a block: who wrote and read each byte last, and whether that was ordered.
//!
//! Two accesses of a byte by different threads, at least one of them a plain write, must have between them a barrier that
//! both pass: of the block, or of the warp (`bar.warp.sync`) for two lanes of one warp. Atomics, and volatile and relaxed
//! accesses, need none among themselves, and pass on what their warps know. Of the readers of a byte the last two are remembered.
use super::clocks::Clocks;

/// How a byte is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A load.
    Read,
    /// A store, or the completion of an asynchronous copy.
    Write,
    /// A volatile, relaxed or acquiring load.
    StrongRead,
    /// A volatile, relaxed or releasing store.
    StrongWrite,
    /// A read and write that no other can come between.
    Atomic,
}

impl How {
    /// All of them, in order.
    pub const ALL: [How; 5] = [How::Read, How::Write, How::StrongRead, How::StrongWrite, How::Atomic];

    /// Does it see what was there?
    pub fn reads(self) -> bool {
        !matches!(self, How::Write | How::StrongWrite)
    }

    /// Does it change what was there?
    pub fn writes(self) -> bool {
        !matches!(self, How::Read | How::StrongRead)
    }

    /// May it be concurrent with others that may?
    pub fn is_strong(self) -> bool {
        !matches!(self, How::Read | How::Write)
    }

    /// For reports.
    pub fn verb(self) -> &'static str {
        match self {
            How::Read | How::StrongRead => "read",
            How::Write | How::StrongWrite => "write",
            How::Atomic => "atomic",
        }
    }
}

/// A thread's access.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// How.
    pub how: How,
    /// Warp of the block.
    pub warp: usize,
    /// Lane of the warp.
    pub lane: usize,
    /// Index of the operation.
    pub pc: usize,
}

/// A remembered access, with the counts of its warp.
#[derive(Clone, Copy)]
struct Past {
    access: Access,
    clock: u32,
    syncs: u32,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    /// The block that the rest is about.
    block: u64,
    write: Option<Past>,
    reads: [Option<Past>; 2],
}

/// What is wrong with an access.
#[derive(Clone, Copy, Debug)]
pub enum Problem {
    /// Nothing orders it and an earlier one to the byte at an offset.
    Race(u32, Access),
    /// It reads a byte at an offset that nobody has written.
    Unwritten(u32),
}

/// The checker of a block's shared memory.
pub struct SharedChecks {
    checks: super::Checks,
    cells: Vec<Cell>,
    barriers: usize,
    block: u64,
    /// Who knows what.
    pub clocks: Clocks,
}

impl SharedChecks {
    /// For blocks of `warps` warps with `bytes` bytes of shared memory and `barriers` barriers.
    pub fn new(checks: super::Checks, bytes: usize, warps: usize, barriers: usize) -> SharedChecks {
        let clocks = Clocks::new(warps, barriers);
        SharedChecks { checks, cells: vec![Cell::default(); bytes], barriers, block: 0, clocks }
    }

    /// Another block begins.
    pub fn start(&mut self, warps: usize) {
        self.block += 1;
        self.clocks = Clocks::new(warps, self.barriers);
    }

    /// Enters an access of `size` bytes at `offset`, inside of shared memory.
    pub fn enter(&mut self, access: Access, offset: u32, size: usize) -> Result<(), Problem> {
        if access.how.is_strong() {
            self.clocks.exchange(access.warp, offset);
        }
        let now = Past { access, clock: self.clocks.now(access.warp), syncs: self.clocks.syncs(access.warp) };
        for at in offset..offset + size as u32 {
            let cell = &mut self.cells[at as usize];
            if cell.block != self.block {
                *cell = Cell { block: self.block, ..Cell::default() };
            }
            if self.checks.init && access.how.reads() && cell.write.is_none() {
                return Err(Problem::Unwritten(at));
            }
            let earlier = cell.write.iter().chain(cell.reads.iter().flatten());
            let other = earlier.copied().find(|past| conflict(&self.clocks, past, &now));
            match other.filter(|_| self.checks.race) {
                Some(other) => return Err(Problem::Race(at, other.access)),
                None => cell.remember(now),
            }
        }
        Ok(())
    }
}

impl Cell {
    fn remember(&mut self, now: Past) {
        if now.access.how.writes() {
            self.write = Some(now);
            self.reads = [None; 2];
            return;
        }
        let same = |past: &Option<Past>| {
            past.is_some_and(|p| (p.access.warp, p.access.lane) == (now.access.warp, now.access.lane))
        };
        if !same(&self.reads[0]) {
            self.reads[1] = self.reads[0];
        }
        self.reads[0] = Some(now);
    }
}

/// Do the two race?
fn conflict(clocks: &Clocks, past: &Past, now: &Past) -> bool {
    let (a, b) = (&past.access, &now.access);
    if !(a.how.writes() || b.how.writes()) || (a.how.is_strong() && b.how.is_strong()) {
        return false;
    }
    if a.warp != b.warp {
        return !clocks.knows(b.warp, a.warp, past.clock);
    }
    // Of the lanes of one store that meet at a byte, one wins.
    let together = a.pc == b.pc && a.how == b.how;
    a.lane != b.lane && past.syncs == now.syncs && !together
}
