//! What C gives, checked as far as it can be: NULL, alignment, sizes and UTF-8.
use super::fault::Fault;
use super::header::{kvick_config, kvick_request, kvick_result};
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

/// A struct whose first field is its own size in bytes, and which grows at its end.
///
/// # Safety
/// `repr(C)`, begins with a `usize`, and all of its fields may be zero.
pub(super) unsafe trait Growing: Copy {
    const NAME: &str;
    /// Bytes of the first version: where the struct grows, the offset of the first new field.
    const FIRST: usize;
}

// SAFETY: the header's structs of a size, pointers and numbers.
unsafe impl Growing for kvick_config {
    const NAME: &str = "kvick_config";
    const FIRST: usize = std::mem::offset_of!(Self, kv_dtype);
}

// SAFETY: as above.
unsafe impl Growing for kvick_request {
    const NAME: &str = "kvick_request";
    const FIRST: usize = size_of::<Self>();
}

// SAFETY: as above; an enum of the header is an integer here.
unsafe impl Growing for kvick_result {
    const NAME: &str = "kvick_result";
    const FIRST: usize = size_of::<Self>();
}

/// More than any version will have; what is larger was not set.
const LARGEST: usize = 4096;

fn pointer<T>(pointer: *const T, what: &str) -> Result<*const T, Fault> {
    match pointer {
        p if p.is_null() => Err(Fault::argument(format!("{what} is NULL"))),
        p if !p.is_aligned() => Err(Fault::argument(format!("{what} is not aligned"))),
        p => Ok(p),
    }
}

/// A handle or a place for a value.
///
/// # Safety
/// If not NULL and aligned, `p` is good for the reads or writes of a `T` of the caller.
pub(super) unsafe fn reference<'a, T>(p: *const T, what: &str) -> Result<&'a T, Fault> {
    // SAFETY: checked as far as it can be; the rest is the caller's.
    Ok(unsafe { &*pointer(p, what)? })
}

/// Sets a place that the caller gave.
///
/// # Safety
/// If not NULL and aligned, `p` may be written.
pub(super) unsafe fn set<T>(p: *mut T, value: T, what: &str) -> Result<(), Fault> {
    pointer(p, what)?;
    // SAFETY: as above.
    unsafe { p.write(value) };
    Ok(())
}

/// The size that a struct says it has.
unsafe fn size<T: Growing>(p: *const T) -> Result<usize, Fault> {
    pointer(p, T::NAME)?;
    // SAFETY: the struct begins with its size.
    let size = unsafe { p.cast::<usize>().read() };
    if (T::FIRST..=LARGEST).contains(&size) {
        Ok(size)
    } else {
        Err(Fault::argument(format!("{}.size is {size}; set it to sizeof({})", T::NAME, T::NAME)))
    }
}

/// Reads a struct of any version: what an older one lacks is zero, and what a newer one has more must be.
///
/// # Safety
/// If not NULL and aligned, `p` points to as many bytes as its first field says.
pub(super) unsafe fn read<T: Growing>(p: *const T) -> Result<T, Fault> {
    // SAFETY: the caller's promise.
    let size = unsafe { size(p)? };
    let known = size.min(size_of::<T>());
    // SAFETY: the bytes after `known` are inside the struct.
    let more = unsafe { std::slice::from_raw_parts(p.cast::<u8>().add(known), size - known) };
    if more.iter().any(|&byte| byte != 0) {
        let message = format!("{} has fields that kvick {} does not know", T::NAME, env!("CARGO_PKG_VERSION"));
        return Err(Fault::argument(message));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are in both; zero is good for what is not copied.
    unsafe {
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(p.cast(), known);
        Ok(value.assume_init())
    }
}

/// Writes as much of a struct as the caller's version has, keeping its size; zeroes what a newer one has more.
///
/// # Safety
/// As [`read`], and the bytes may be written.
pub(super) unsafe fn write<T: Growing>(p: *mut T, value: &T) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let size = unsafe { size(p)? };
    let known = size.min(size_of::<T>());
    let head = size_of::<usize>();
    let (to, from) = (p.cast::<u8>(), std::ptr::from_ref(value).cast::<u8>());
    // SAFETY: the first `size` bytes of `p` are the caller's, `known` bytes are in both.
    unsafe {
        to.add(head).copy_from_nonoverlapping(from.add(head), known - head);
        to.add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// A string; `None` for NULL.
///
/// # Safety
/// If not NULL, `p` ends with a NUL, and nobody changes it while the result is used.
pub(super) unsafe fn optional_text<'a>(p: *const c_char, what: &str) -> Result<Option<&'a str>, Fault> {
    if p.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(p) }.to_str();
    text.map(Some).map_err(|e| Fault::argument(format!("{what} is not UTF-8: {e}")))
}

/// A string that must be there.
///
/// # Safety
/// As [`optional_text`].
pub(super) unsafe fn text<'a>(p: *const c_char, what: &str) -> Result<&'a str, Fault> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(p, what)? }.ok_or_else(|| Fault::argument(format!("{what} is NULL")))
}

/// Checks the pointer to `len` values; NULL is allowed if there are none.
pub(super) fn room<T>(p: *const T, len: usize, what: &str) -> Result<(), Fault> {
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(Fault::argument(format!("{what} has {len} entries, more than memory can hold")));
    }
    if len > 0 { pointer(p, what).map(drop) } else { Ok(()) }
}

/// An array.
///
/// # Safety
/// If not NULL and aligned, `p` points to `len` values, and nobody changes them while the result is used.
pub(super) unsafe fn array<'a, T>(p: *const T, len: usize, what: &str) -> Result<&'a [T], Fault> {
    room(p, len, what)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(p, len) })
}

/// A number that 0 leaves to the default.
pub(super) fn given(number: u64, what: &str) -> Result<Option<usize>, Fault> {
    let number = usize::try_from(number).map_err(|_| Fault::argument(format!("{what} is too large")))?;
    Ok((number != 0).then_some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Grown {
        size: usize,
        old: u64,
        new: u64,
    }

    // SAFETY: a size and numbers.
    unsafe impl Growing for Grown {
        const NAME: &str = "grown";
        const FIRST: usize = 16;
    }

    fn bytes(words: &[u64]) -> *const Grown {
        words.as_ptr().cast()
    }

    #[test]
    fn structs_of_other_versions() {
        // SAFETY: each array has as many bytes as its first word says.
        unsafe {
            assert_eq!(read(bytes(&[16, 7, 9])).unwrap(), Grown { size: 16, old: 7, new: 0 });
            assert_eq!(read(bytes(&[24, 7, 9])).unwrap(), Grown { size: 24, old: 7, new: 9 });
            assert_eq!(read(bytes(&[32, 7, 9, 0])).unwrap(), Grown { size: 32, old: 7, new: 9 });
            let error = |words: &[u64]| read(bytes(words)).unwrap_err().message;
            assert!(error(&[32, 7, 9, 1]).contains("does not know"));
            for wrong in [0, 8, 15, 5000, u64::MAX] {
                assert!(error(&[wrong, 0, 0]).contains("sizeof(grown)"), "{wrong}");
            }
            for (size, after) in [(16, [16, 7, 3, 3]), (24, [24, 7, 9, 3]), (32, [32, 7, 9, 0])] {
                let mut words = [size, 3, 3, 3u64];
                write(words.as_mut_ptr().cast(), &Grown { size: 0, old: 7, new: 9 }).unwrap();
                assert_eq!(words, after);
            }
        }
    }

    #[test]
    fn pointers_that_cannot_be_right() {
        let words = [24u64; 4];
        // SAFETY: refused before they are read.
        unsafe {
            assert!(read(std::ptr::null::<Grown>()).unwrap_err().message.contains("NULL"));
            assert!(read(words.as_ptr().byte_add(1).cast::<Grown>()).unwrap_err().message.contains("aligned"));
            assert!(array(std::ptr::null::<u32>(), 1, "ids").unwrap_err().message.contains("NULL"));
            assert!(array(words.as_ptr(), usize::MAX, "ids").unwrap_err().message.contains("more than"));
            assert_eq!(array(std::ptr::null::<u32>(), 0, "ids").unwrap(), [0u32; 0]);
        }
    }
}
