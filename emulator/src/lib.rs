//! An emulated NVIDIA GPU: the CUDA driver API on the CPU, executing PTX.
//!
//! The way of a kernel: its text becomes [`ptx::ast`], [`exec::Program`] lowers that to warp operations, and
//! [`exec::launch`] runs a grid of them against a [`mem::Memory`] under the limits of a [`gpu::DeviceSpec`].
pub mod exec;
pub mod gpu;
pub mod mem;
pub mod num;
pub mod ptx;

pub use gpu::{KernelCounters, counters, reset_counters};

/// Why the emulated driver could not be put in place.
#[derive(Debug)]
pub struct InstallError(pub String);

impl std::fmt::Display for InstallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for InstallError {}

/// Makes the next `dlopen("libcuda.so")` of this process find the emulated GPU.
pub fn install() -> Result<(), InstallError> {
    Err(InstallError("the driver is not linked in yet".into()))
}
