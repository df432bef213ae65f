//! NVIDIA GPUs, real or emulated, through the CUDA driver API: the only user of cudarc, and the only place that names the
//! emulator.
//!
//! Invariants: a process uses one driver for its whole life (cudarc keeps the first library it opens); one [`Gpu`] has one
//! compute stream, on which everything happens in call order, but for copies on a [`CopyStream`]; kernels come from the PTX that `build.rs` embedded.
mod copies;
mod driver;
mod gpu;
mod memory;
mod modules;
mod pinned;
mod work;

pub use copies::{Copies, CopyStream};
pub use driver::{Driver, select};
pub use gpu::{Gpu, GpuSpec};
pub use modules::{Kernel, PTX};
pub use pinned::{Pinned, PinnedBytes};
pub use work::{KernelWork, reset_work, work};
