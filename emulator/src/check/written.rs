//! Which bytes of device memory have been written: a bit for each.
//!
//! Kernels of several workers set bits at once, so they are atomics; their order does not matter, since a program whose
//! result depends on it has a race.
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A bit for each byte of an address range, all clear at first.
pub struct Written {
    base: u64,
    bits: *mut AtomicU8,
    bytes: usize,
}

// SAFETY: the bits are atomics in a mapping that lives as long as the value.
unsafe impl Send for Written {}
// SAFETY: as for Send.
unsafe impl Sync for Written {}

impl Written {
    /// For `size` bytes from `base` on; host memory is taken only as bits are set.
    ///
    /// # Errors
    /// The operating system's, if the address range cannot be reserved.
    pub fn new(base: u64, size: usize) -> std::io::Result<Written> {
        let bytes = size.div_ceil(8).max(1);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let bits = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if bits == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Written { base, bits: bits.cast(), bytes })
    }

    /// The bits of `[address, address + length)`, eight addresses at a time: the byte that holds them, and which of its bits.
    /// Addresses outside of the range have none.
    fn parts(&self, address: u64, length: usize) -> impl Iterator<Item = (u64, &AtomicU8, u8)> {
        let start = address.wrapping_sub(self.base);
        let inside = start / 8 < self.bytes as u64 && (start + length as u64).div_ceil(8) <= self.bytes as u64;
        let end = if inside { start + length as u64 } else { start };
        (start / 8..end.div_ceil(8)).filter(move |_| inside).map(move |i| {
            let first = start.saturating_sub(8 * i) as u32;
            let past = (end - 8 * i).min(8) as u32;
            let mask = (0xffu16 << first & 0xffu16 >> (8 - past)) as u8;
            // SAFETY: `i` is below `bytes`, as was checked above.
            (i, unsafe { &*self.bits.add(i as usize) }, mask)
        })
    }

    /// These bytes have been written.
    pub fn mark(&self, address: u64, length: usize) {
        self.parts(address, length).for_each(|(_, bits, mask)| _ = bits.fetch_or(mask, Relaxed));
    }

    /// These bytes belong to nobody any more.
    pub fn forget(&self, address: u64, length: usize) {
        self.parts(address, length).for_each(|(_, bits, mask)| _ = bits.fetch_and(!mask, Relaxed));
    }

    /// The first of these bytes that nobody has written. Bytes outside of the range count as written.
    pub fn first_missing(&self, address: u64, length: usize) -> Option<u64> {
        self.parts(address, length).find_map(|(i, bits, mask)| {
            let missing = !bits.load(Relaxed) & mask;
            (missing != 0).then(|| self.base + 8 * i + u64::from(missing.trailing_zeros()))
        })
    }

    /// What `to` has been copied from is now known of `to`.
    pub fn copy(&self, from: u64, to: u64, length: usize) {
        for i in 0..length as u64 {
            match self.first_missing(from + i, 1) {
                Some(_) => self.forget(to + i, 1),
                None => self.mark(to + i, 1),
            }
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size, and nobody can hold the value any more.
        unsafe { libc::munmap(self.bits.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_known_one_by_one() {
        let written = Written::new(0x1000, 100).expect("a mapping");
        assert_eq!(written.first_missing(0x1000, 4), Some(0x1000));
        written.mark(0x1003, 14);
        assert_eq!(written.first_missing(0x1003, 14), None);
        assert_eq!(written.first_missing(0x1002, 2), Some(0x1002));
        assert_eq!(written.first_missing(0x1010, 2), Some(0x1011));
        written.copy(0x1000, 0x1020, 8);
        assert_eq!((written.first_missing(0x1023, 5), written.first_missing(0x1020, 4)), (None, Some(0x1020)));
        written.forget(0x1008, 1);
        assert_eq!(written.first_missing(0x1003, 14), Some(0x1008));
        assert_eq!(written.first_missing(0x10_0000, 4), None, "outside");
    }
}
