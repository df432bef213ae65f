//! Device memory: an address space of its own, its allocations, and the way from a device address to host bytes.
//!
//! Invariants:
//! - device addresses start at [`DEVICE_BASE`], where the host has nothing mapped: a host program that dereferences a
//!   device pointer crashes, as on a GPU;
//! - the host mapping lives as long as the [`Memory`] and is never unmapped, so a stale device address is reported, and
//!   never a crash of the emulator;
//! - allocations are aligned to 512 bytes, at least 256 bytes apart, and an address is handed out again as late as
//!   possible: overruns and uses after free hit unallocated addresses.
use crate::check::{Checks, written::Written};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{PoisonError, RwLock};

/// First device address.
pub const DEVICE_BASE: u64 = 0x2000_0000_0000;
/// Alignment of every allocation in bytes.
const ALIGN: usize = 512;
/// Least gap between two allocations in bytes.
const GAP: usize = 256;
/// Freed ranges that are remembered for reports.
const REMEMBERED: usize = 1024;

/// One contiguous range that may be accessed: `[base, base + size)`, its host bytes at `host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First device address.
    pub base: u64,
    /// Size in bytes.
    pub size: usize,
    /// Host address of the first byte.
    pub host: usize,
}

impl Range {
    /// Does `[addr, addr + len)` lie within?
    pub fn contains(&self, addr: u64, len: usize) -> bool {
        addr >= self.base && addr - self.base <= self.size as u64 && self.size as u64 - (addr - self.base) >= len as u64
    }
}

/// Why an address is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemError {
    /// The address asked for.
    pub addr: u64,
    /// Bytes asked for.
    pub len: usize,
    /// What is known about the neighbourhood: "256 bytes past the end of the 1024-byte allocation at 0x...".
    pub near: String,
}

impl fmt::Display for MemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {:#x} ({} bytes) is not allocated: {}", self.addr, self.len, self.near)
    }
}

impl std::error::Error for MemError {}

/// The device memory of one GPU.
pub struct Memory {
    host: usize,
    reserved: usize,
    total: usize,
    table: RwLock<Table>,
    checks: Checks,
    written: Option<Written>,
}

#[derive(Default)]
struct Table {
    live: BTreeMap<u64, Range>,
    freed: VecDeque<Range>,
    /// Device bytes in use, rounded up to [`ALIGN`].
    used: usize,
    /// Where the next search for room begins, an offset from the base.
    next: usize,
}

impl Memory {
    /// Reserves addresses for `total` bytes of device memory; host memory is taken only as pages are touched.
    ///
    /// # Errors
    /// The operating system's, if the address range cannot be reserved.
    pub fn new(total: usize) -> std::io::Result<Memory> {
        Memory::with_checks(total, Checks::default())
    }

    /// As [`Memory::new`]; kernels that are loaded for it are checked as `checks` says.
    ///
    /// # Errors
    /// As [`Memory::new`].
    pub fn with_checks(total: usize, checks: Checks) -> std::io::Result<Memory> {
        // Four times the size, so that freed addresses stay unused for long.
        let reserved = total.max(ALIGN).saturating_mul(4).next_multiple_of(1 << 21);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let host = unsafe { libc::mmap(std::ptr::null_mut(), reserved, protection, flags, -1, 0) };
        if host == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let written = checks.init.then(|| Written::new(DEVICE_BASE, reserved)).transpose()?;
        Ok(Memory { host: host as usize, reserved, total, table: RwLock::default(), checks, written })
    }

    /// Allocates `bytes` (at least 1); `None` when the device is full. Fresh memory reads as zero.
    pub fn alloc(&self, bytes: usize) -> Option<u64> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let room = bytes.max(1).checked_next_multiple_of(ALIGN)?;
        if table.used.checked_add(room)? > self.total {
            return None;
        }
        let offset = table.find(room + GAP, self.reserved)?;
        let base = DEVICE_BASE + offset as u64;
        table.live.insert(base, Range { base, size: bytes.max(1), host: self.host + offset });
        table.used += room;
        table.next = offset + room + GAP;
        Some(base)
    }

    /// Frees the allocation that begins at `addr`.
    ///
    /// # Errors
    /// When no allocation begins there.
    pub fn free(&self, addr: u64) -> Result<(), MemError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if addr < DEVICE_BASE || addr >= DEVICE_BASE + self.reserved as u64 {
            return Err(table.error(addr, 0));
        }
        let Some(range) = table.live.remove(&addr) else { return Err(table.error(addr, 0)) };
        if let Some(written) = &self.written {
            written.forget(range.base, range.size);
        }
        table.used -= range.size.next_multiple_of(ALIGN);
        if table.freed.len() == REMEMBERED {
            table.freed.pop_front();
        }
        table.freed.push_back(range);
        // Whole pages go back to the host; what remains of a page is cleared, so that a reused address reads as zero.
        const PAGE: usize = 4096;
        let (start, end) = (range.host, range.host + range.size);
        let (first, last) = (start.next_multiple_of(PAGE).min(end), (end / PAGE * PAGE).max(start));
        // SAFETY: [start, end) lies in this mapping and belongs to no live allocation any more.
        unsafe {
            if first < last {
                libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_DONTNEED);
                std::ptr::write_bytes(start as *mut u8, 0, first - start);
                std::ptr::write_bytes(last as *mut u8, 0, end - last);
            } else {
                std::ptr::write_bytes(start as *mut u8, 0, end - start);
            }
        }
        Ok(())
    }

    /// Makes `len` bytes of pinned host memory at `host` accessible to kernels under the same address.
    ///
    /// # Safety
    /// The bytes must stay valid until [`Memory::unregister_host`].
    pub unsafe fn register_host(&self, host: *mut u8, len: usize) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let base = host as u64;
        table.live.insert(base, Range { base, size: len, host: host as usize });
    }

    /// Ends [`Memory::register_host`].
    ///
    /// # Errors
    /// When nothing was registered at `host`.
    pub fn unregister_host(&self, host: *mut u8) -> Result<(), MemError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        match table.live.remove(&(host as u64)) {
            Some(_) => Ok(()),
            None => Err(table.error(host as u64, 0)),
        }
    }

    /// The allocation that holds `[addr, addr + len)`.
    ///
    /// # Errors
    /// When no single allocation does; it says what lies next to `addr`.
    pub fn range(&self, addr: u64, len: usize) -> Result<Range, MemError> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match table.live.range(..=addr).next_back() {
            Some((_, range)) if range.contains(addr, len) => Ok(*range),
            _ => Err(table.error(addr, len)),
        }
    }

    /// Host address of the device bytes `[addr, addr + len)`. Valid until the allocation is freed.
    ///
    /// # Errors
    /// As [`Memory::range`].
    pub fn host_ptr(&self, addr: u64, len: usize) -> Result<*mut u8, MemError> {
        let range = self.range(addr, len)?;
        Ok((range.host + (addr - range.base) as usize) as *mut u8)
    }

    /// The checks that are on.
    pub fn checks(&self) -> Checks {
        self.checks
    }

    /// Which bytes have been written, if that is checked.
    pub fn written(&self) -> Option<&Written> {
        self.written.as_ref()
    }

    /// Bytes that were written through a pointer of [`Memory::host_ptr`].
    pub fn mark_written(&self, addr: u64, len: usize) {
        if let Some(written) = &self.written {
            written.mark(addr, len);
        }
    }

    /// Device allocations that have not been freed, by address.
    pub fn live(&self) -> Vec<Range> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.live.range(DEVICE_BASE..DEVICE_BASE + self.reserved as u64).map(|(_, range)| *range).collect()
    }

    /// (free, total) device bytes.
    pub fn usage(&self) -> (usize, usize) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        (self.total - table.used, self.total)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size, and nobody can hold the Memory any more.
        unsafe { libc::munmap(self.host as *mut libc::c_void, self.reserved) };
    }
}

impl Table {
    /// Offset of `room` free bytes, searched from where the last search ended.
    fn find(&self, room: usize, reserved: usize) -> Option<usize> {
        self.find_within(self.next, reserved, room).or_else(|| self.find_within(0, self.next, room))
    }

    fn find_within(&self, from: usize, to: usize, room: usize) -> Option<usize> {
        let end_of = |r: &Range| (r.base - DEVICE_BASE) as usize + r.size.next_multiple_of(ALIGN) + GAP;
        let first = DEVICE_BASE + from as u64;
        let before = self.live.range(DEVICE_BASE..first).next_back().map_or(0, |(_, r)| end_of(r));
        let mut offset = from.max(before).next_multiple_of(ALIGN);
        for range in self.live.range(first..).map(|(_, r)| r) {
            if range.base >= DEVICE_BASE + offset as u64 + room as u64 {
                break;
            }
            offset = end_of(range).next_multiple_of(ALIGN);
        }
        (offset.checked_add(room)? <= to).then_some(offset)
    }

    fn error(&self, addr: u64, len: usize) -> MemError {
        MemError { addr, len, near: self.near(addr) }
    }

    /// Describes `addr` by the freed or live allocation next to it.
    fn near(&self, addr: u64) -> String {
        if let Some(r) = self.freed.iter().rev().find(|r| r.contains(addr, 0) && addr != r.base + r.size as u64) {
            return format!("{} bytes into the freed {}-byte allocation at {:#x}", addr - r.base, r.size, r.base);
        }
        let below = self.live.range(..=addr).next_back().map(|(_, r)| *r);
        let above = self.live.range(addr..).next().map(|(_, r)| *r);
        let below_text = |r: Range| {
            let end = r.base + r.size as u64;
            match addr.checked_sub(end) {
                Some(past) => format!("{past} bytes past the end of the {}-byte allocation at {:#x}", r.size, r.base),
                None => format!("{} bytes into the {}-byte allocation at {:#x}", addr - r.base, r.size, r.base),
            }
        };
        let above_text =
            |r: Range| format!("{} bytes before the {}-byte allocation at {:#x}", r.base - addr, r.size, r.base);
        match (below, above) {
            (Some(b), Some(a)) if a.base - addr < addr.saturating_sub(b.base + b.size as u64) => above_text(a),
            (Some(b), _) => below_text(b),
            (None, Some(a)) => above_text(a),
            (None, None) => "nothing is allocated".to_string(),
        }
    }
}
