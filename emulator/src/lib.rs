//! An emulated NVIDIA GPU: the CUDA driver API on the CPU, executing PTX.
//!
//! The way of a kernel: its text becomes [`ptx::ast`], [`exec::Program`] lowers that to warp operations, and
//! [`exec::launch`] runs a grid of them against a [`mem::Memory`] under the limits of a [`gpu::DeviceSpec`].
pub mod check;
pub mod driver;
pub mod exec;
pub mod gpu;
pub mod mem;
pub mod num;
pub mod ptx;

pub use driver::{InstallError, install};
pub use gpu::{KernelCounters, counters, reset_counters};
