//! Pinned host memory: allocated here or registered by the program, and addressable by kernels under its host address.

use super::error::{CuError, CuResult};
use crate::mem::Memory;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

const PAGE: usize = 4096;

/// What is known of one range.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub base: usize,
    pub size: usize,
    pub flags: u32,
    /// Allocated by the driver, as opposed to registered.
    pub owned: bool,
    /// `cuMemAllocManaged`
    pub managed: bool,
}

/// All pinned ranges by first address.
#[derive(Default)]
pub struct PinnedMemory {
    ranges: RwLock<BTreeMap<usize, Range>>,
}

fn layout(size: usize) -> CuResult<Layout> {
    Layout::from_size_align(size.max(1).next_multiple_of(PAGE), PAGE).map_err(|_| CuError::OUT_OF_MEMORY)
}

impl PinnedMemory {
    /// Allocates `size` bytes of zeroed host memory that kernels can address.
    pub fn alloc(&self, memory: &Memory, size: usize, flags: u32, managed: bool) -> CuResult<usize> {
        if size == 0 || size > isize::MAX as usize / 2 {
            return Err(if size == 0 { CuError::INVALID_VALUE } else { CuError::OUT_OF_MEMORY });
        }
        // SAFETY: the layout's size is not zero.
        let host = unsafe { alloc_zeroed(layout(size)?) };
        if host.is_null() {
            return Err(CuError::OUT_OF_MEMORY);
        }
        // SAFETY: the memory lives until `free` takes the range out again.
        unsafe { memory.register_host(host, size) };
        let base = host as usize;
        self.insert(Range { base, size, flags, owned: true, managed });
        Ok(base)
    }

    /// Frees what [`PinnedMemory::alloc`] returned.
    pub fn free(&self, memory: &Memory, base: usize) -> CuResult {
        let range = self.remove(base, true).ok_or(CuError::INVALID_VALUE)?;
        memory.unregister_host(base as *mut u8).map_err(|_| CuError::INVALID_VALUE)?;
        // SAFETY: allocated by `alloc` with this layout, and taken out of the table just now.
        unsafe { dealloc(base as *mut u8, layout(range.size)?) };
        Ok(())
    }

    /// `cuMemHostRegister`: the range belongs to the program.
    pub fn register(&self, memory: &Memory, base: usize, size: usize, flags: u32) -> CuResult {
        if base == 0 || size == 0 || base.checked_add(size).is_none() {
            return Err(CuError::INVALID_VALUE);
        }
        if self.overlaps(base, size) {
            return Err(CuError::HOST_MEMORY_ALREADY_REGISTERED);
        }
        // SAFETY: the API's contract: the range stays valid until it is unregistered.
        unsafe { memory.register_host(base as *mut u8, size) };
        self.insert(Range { base, size, flags, owned: false, managed: false });
        Ok(())
    }

    pub fn unregister(&self, memory: &Memory, base: usize) -> CuResult {
        self.remove(base, false).ok_or(CuError::HOST_MEMORY_NOT_REGISTERED)?;
        memory.unregister_host(base as *mut u8).map_err(|_| CuError::HOST_MEMORY_NOT_REGISTERED)
    }

    /// The range that holds `address`.
    pub fn find(&self, address: usize) -> Option<Range> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let (_, range) = ranges.range(..=address).next_back()?;
        (address - range.base < range.size).then_some(*range)
    }

    /// Is all of `[address, address + length)` pinned?
    pub fn holds(&self, address: usize, length: usize) -> bool {
        self.find(address).is_some_and(|r| r.size - (address - r.base) >= length)
    }

    fn overlaps(&self, base: usize, size: usize) -> bool {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        ranges.range(..base + size).next_back().is_some_and(|(_, r)| r.base + r.size > base)
    }

    fn insert(&self, range: Range) {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner).insert(range.base, range);
    }

    fn remove(&self, base: usize, owned: bool) -> Option<Range> {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        if ranges.get(&base)?.owned != owned {
            return None;
        }
        ranges.remove(&base)
    }
}
