//! The CUDA driver API over the executor.
//!
//! [`install`] makes the process's `libcuda.so` ours. `entry/` holds the C functions; what they work on lies beside
//! this file: contexts, streams with a worker thread each, events, graphs, modules, pinned memory. As on a GPU, work is
//! queued and runs later, streams and events order it, and a kernel's fault ends the use of the device.
//!
//! `KVICK_EMU_TRACE=1` shows calls that fail and functions that are not implemented.

mod abi;
mod api;
mod attribute;
mod capture;
mod context;
mod entry;
mod error;
mod event;
mod forwarder;
mod graph;
mod handle;
mod module;
mod pinned;
mod pool;
mod queue;
mod state;
mod stream;
mod symbols;
mod work;

pub use forwarder::{InstallError, install};
pub use queue::set_copy_delay;

use crate::exec::Fault;

/// The address of every function of the driver API, in the order of `symbols.txt`: what a table to jump through holds.
pub fn function_table() -> Vec<*const ()> {
    symbols::table()
}

/// The fault that ended the use of the device, if there was one.
pub fn fault() -> Option<Fault> {
    state::Driver::get().ok()?.fault().cloned()
}

/// Why the last module could not be loaded: one line for each error, with its place in the PTX text.
pub fn load_log() -> String {
    state::Driver::get().map(|driver| driver.load_log()).unwrap_or_default()
}
