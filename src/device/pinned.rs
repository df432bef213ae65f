//! A bounded piece of pinned host memory, handed out in pieces.
//!
//! Invariants: pieces handed out do not overlap; a piece goes back when it is dropped, and neighbouring free ranges are one.
//! While the device copies to or from a piece, [`super::Copies`] owns it, so nobody reads what is being written.
use cudarc::driver::{CudaContext, DriverError, result};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Pieces begin at multiples of this.
const ALIGN: usize = 256;

/// Pinned memory of a fixed size.
#[derive(Clone)]
pub struct Pinned(Arc<Arena>);

struct Arena {
    context: Arc<CudaContext>,
    base: *mut u8,
    /// Free ranges: start -> length.
    free: Mutex<BTreeMap<usize, usize>>,
}

// SAFETY: the pointer is to memory that the arena owns until its drop; pieces of it are disjoint, and each is reached through
// the one `PinnedBytes` that stands for it.
unsafe impl Send for Arena {}
// SAFETY: as above; the list of free ranges is behind a lock.
unsafe impl Sync for Arena {}

/// A piece of pinned memory, at least 1 byte long.
pub struct PinnedBytes {
    arena: Arc<Arena>,
    start: usize,
    room: usize,
    len: usize,
}

impl Pinned {
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        let bytes = bytes.next_multiple_of(ALIGN).max(ALIGN);
        context.bind_to_thread()?;
        // SAFETY: owned by the arena until its drop.
        let base = unsafe { result::malloc_host(bytes, 0) }?.cast::<u8>();
        // SAFETY: just allocated, `bytes` long. Zeroed so that a piece is initialised whatever happens to its copy.
        unsafe { base.write_bytes(0, bytes) };
        Ok(Pinned(Arc::new(Arena { context: context.clone(), base, free: Mutex::new([(0, bytes)].into()) })))
    }

    /// A piece of `len` bytes, of whatever content; `None` if there is no room.
    pub fn take(&self, len: usize) -> Option<PinnedBytes> {
        let room = len.max(1).checked_next_multiple_of(ALIGN)?;
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (&start, &found) = free.iter().find(|&(_, &found)| found >= room)?;
        free.remove(&start);
        if found > room {
            free.insert(start + room, found - room);
        }
        Some(PinnedBytes { arena: Arc::clone(&self.0), start, room, len })
    }
}

impl PinnedBytes {
    pub(super) fn pointer(&mut self) -> *mut u8 {
        // SAFETY: the piece lies in the arena.
        unsafe { self.arena.base.add(self.start) }
    }
}

impl Deref for PinnedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the piece lies in the arena, is initialised, and is this handle's alone.
        unsafe { std::slice::from_raw_parts(self.arena.base.add(self.start), self.len) }
    }
}

impl DerefMut for PinnedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.arena.base.add(self.start), self.len) }
    }
}

impl Drop for PinnedBytes {
    fn drop(&mut self) {
        let mut free = self.arena.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut start, mut room) = (self.start, self.room);
        if let Some(after) = free.remove(&(start + room)) {
            room += after;
        }
        if let Some((&before, &length)) = free.range(..start).next_back()
            && before + length == start
        {
            (start, room) = (before, length + room);
        }
        free.insert(start, room);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated by `Pinned::new`, freed once; every piece holds the arena, so none is left.
        let freed = self.context.bind_to_thread().and_then(|()| unsafe { result::free_host(self.base.cast()) });
        self.context.record_err(freed);
    }
}
