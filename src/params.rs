//! The Rust mirror of `kernels/params.h`, made by build.rs: one `#[repr(C)]` struct per kernel.
#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, dead_code)]
include!(concat!(env!("OUT_DIR"), "/params.rs"));
