//! The C ABI of `include/kvick.h`, which is its documentation: what each function takes, gives and owns.
//!
//! Types and constants are the header's, by bindgen; `agree.rs` compares the functions' signatures when this is compiled.
//!
//! Invariants:
//! * No panic leaves a function: all run in `fault::guard`, which makes an error of it.
//! * A handle is a box of ours behind the header's opaque type; all of a handle is reached through `&`, so that threads may
//!   share it.
#![allow(missing_docs, clippy::missing_safety_doc, reason = "include/kvick.h has both")]
mod agree;
mod engine;
mod fault;
mod input;
mod stream;

pub use engine::{
    kvick_engine_device, kvick_engine_free, kvick_engine_invalidate, kvick_engine_notice, kvick_engine_open,
    kvick_tokenize,
};
pub use fault::kvick_last_error;
pub use stream::{kvick_stream_cancel, kvick_stream_free, kvick_stream_next, kvick_stream_result, kvick_submit};

/// What bindgen makes of `include/kvick.h`.
pub mod header {
    #![allow(non_camel_case_types, unsafe_code, clippy::all, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/kvick_h.rs"));
}

use std::ffi::{CStr, c_char};

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no NUL"),
};

#[unsafe(no_mangle)]
pub extern "C" fn kvick_version() -> *const c_char {
    VERSION.as_ptr()
}
