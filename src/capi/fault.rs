//! Errors on their way to C: a status, and a message that the thread keeps.
use super::header::kvick_status;
use crate::error::Error;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A status of the header.
pub(super) type Status = kvick_status::Type;

/// An error of a call.
#[derive(Debug)]
pub(super) struct Fault {
    pub status: Status,
    pub message: String,
}

thread_local! {
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

impl Fault {
    pub fn argument(message: impl Into<String>) -> Self {
        Fault { status: kvick_status::KVICK_ERROR_ARGUMENT, message: message.into() }
    }

    /// Keeps the message for [`kvick_last_error`].
    fn keep(self) -> Status {
        let message = CString::new(self.message.replace('\0', "\u{fffd}")).unwrap_or_default();
        // A thread that is being destroyed has no place for it any more.
        let _ = LAST.try_with(|last| last.replace(Some(message)));
        self.status
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Device(_) => kvick_status::KVICK_ERROR_DEVICE,
            Error::OutOfMemory { .. } => kvick_status::KVICK_ERROR_OUT_OF_MEMORY,
            Error::Overflow(_) => kvick_status::KVICK_ERROR_OVERFLOW,
            Error::ModelFile { .. } => kvick_status::KVICK_ERROR_MODEL,
            Error::Unsupported(_) => kvick_status::KVICK_ERROR_UNSUPPORTED,
            Error::Request(_) => kvick_status::KVICK_ERROR_REQUEST,
            Error::Io { .. } => kvick_status::KVICK_ERROR_IO,
            Error::Fetch(_) => kvick_status::KVICK_ERROR_FETCH,
            // No call makes these: shapes are ours, and a cancelled stream ends without an error.
            Error::Shape { .. } | Error::Cancelled => kvick_status::KVICK_ERROR_INTERNAL,
        };
        Fault { status, message: error.to_string() }
    }
}

/// Runs a call: its status, an error's status, or that of a panic.
pub(super) fn guard(call: impl FnOnce() -> Result<Status, Fault>) -> Status {
    // A panic leaves nothing half done that others see: locks are taken poisoned or not, and handles are made last.
    let fault = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(status)) => return status,
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
            let message = format!("a bug of kvick: {}", said.unwrap_or("a panic"));
            Fault { status: kvick_status::KVICK_ERROR_INTERNAL, message }
        }
    };
    fault.keep()
}

#[unsafe(no_mangle)]
pub extern "C" fn kvick_last_error() -> *const c_char {
    let kept = LAST.try_with(|last| last.borrow().as_ref().map(|message| message.as_ptr()));
    kept.ok().flatten().unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last() -> String {
        // SAFETY: the pointer is good until this thread's next failed call.
        unsafe { CStr::from_ptr(kvick_last_error()) }.to_str().unwrap().to_string()
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(last(), "");
        assert_eq!(guard(|| panic!("{} is wrong", 7)), kvick_status::KVICK_ERROR_INTERNAL);
        assert_eq!(last(), "a bug of kvick: 7 is wrong");
    }

    #[test]
    fn a_message_belongs_to_its_thread_and_ends_at_its_end() {
        assert_eq!(guard(|| Err(Fault::argument("a\0b"))), kvick_status::KVICK_ERROR_ARGUMENT);
        assert_eq!(last(), "a\u{fffd}b");
        std::thread::spawn(|| assert_eq!(last(), "")).join().unwrap();
        assert_eq!(guard(|| Ok(kvick_status::KVICK_OK)), kvick_status::KVICK_OK);
        assert_eq!(last(), "a\u{fffd}b", "a call that works says nothing");
    }
}
