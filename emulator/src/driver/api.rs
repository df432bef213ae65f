//! How a C function of the driver is written: a block of `api!` functions whose bodies return a [`CuResult`].
//!
//! Invariants: nothing unwinds into the caller, a panic becomes `CUDA_ERROR_UNKNOWN`; every function of a block is in
//! the block's `FUNCTIONS`, from which the forwarder's table is filled.

use super::error::{CuError, CuResult};
use super::state::trace;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A C function, whatever its signature.
#[derive(Clone, Copy)]
pub struct Entry(pub *const ());

/// Defines `extern "C"` functions and the list of them.
macro_rules! api {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$meta])*
            #[allow(non_snake_case, reason = "the C API's name")]
            unsafe extern "C" fn $name($($arg: $ty),*) -> u32 {
                $crate::driver::api::guard(stringify!($name), move || $body)
            }
        )*
        /// The functions of this file by name.
        pub const FUNCTIONS: &[(&str, $crate::driver::api::Entry)] =
            &[$((stringify!($name), $crate::driver::api::Entry($name as *const ()))),*];
    };
}
pub(super) use api;

/// Runs a function's body; its code is what the C caller gets.
pub fn guard(name: &str, body: impl FnOnce() -> CuResult) -> u32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(CuError::NOT_READY)) => CuError::NOT_READY.0,
        Ok(Err(error)) => {
            trace(&format!("{name}: {error}"));
            error.0
        }
        Err(_) => {
            trace(&format!("{name}: panicked"));
            CuError::UNKNOWN.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_code() {
        assert_eq!(guard("test", || panic!("inside a driver function, on purpose")), CuError::UNKNOWN.0);
        assert_eq!(guard("test", || Err(CuError::NOT_FOUND)), 500);
        assert_eq!(guard("test", || Ok(())), 0);
    }
}
