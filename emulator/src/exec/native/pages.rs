//! Memory for native code: written first, then executable and never writable again.

/// Pages that hold finished code.
pub struct Pages {
    start: *mut u8,
    len: usize,
}

// SAFETY: the pages are only read and executed once `Pages::new` has returned.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Executable pages that begin with `code`; `None` if the system allows none.
    pub fn new(code: &[u8]) -> Option<Pages> {
        let len = code.len().max(1).next_multiple_of(4096);
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let pages = Pages { start: start.cast(), len };
        // SAFETY: the mapping is this long and nobody else's; its protection changes after the bytes are there.
        let denied = unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), pages.start, code.len());
            libc::mprotect(start, len, libc::PROT_READ | libc::PROT_EXEC)
        };
        (denied == 0).then_some(pages)
    }

    /// The first byte.
    pub fn start(&self) -> *const u8 {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
