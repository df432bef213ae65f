//! kvick for C: a shared and a static library that export the functions of `include/kvick.h`.
pub use kvick::capi::*;
