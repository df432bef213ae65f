//! Our CUDA kernels as a [`Backend`](crate::backend::Backend): one file per operation, shapes -> config -> launch.
//!
//! A launch file has a pure `plan` (problem and device to a printable config) and the launch. Kernels that convert f32 to
//! the compute type set a word of device memory when a value does not fit; [`Cuda::finish`] reads it.
mod attention;
mod backend;
mod qk_norm;
mod sample;
mod step;

use crate::backend::{BatchLimits, Buffer, Float};
use crate::device::Gpu;
use crate::error::{Error, Result};
use std::sync::OnceLock;

/// A GPU, real or emulated, with our kernels.
pub struct Cuda {
    /// The device.
    pub gpu: Gpu,
    /// Compute type.
    pub float: Float,
    /// u32: 0, or the number of the operation that overflowed.
    pub status: Buffer,
    /// Set once by `reserve`.
    scratch: OnceLock<Scratch>,
}

/// Device memory that the operations share between steps.
struct Scratch {
    attention: attention::Scratch,
    sample: sample::Scratch,
}

impl Scratch {
    fn bytes(gpu: &Gpu, limits: &BatchLimits) -> usize {
        attention::Scratch::bytes(gpu.spec(), limits) + sample::Scratch::bytes(limits)
    }

    fn new(gpu: &Gpu, limits: &BatchLimits) -> Result<Self> {
        Ok(Scratch { attention: attention::Scratch::new(gpu, limits)?, sample: sample::Scratch::new(gpu, limits)? })
    }
}

impl Cuda {
    /// Prepares an open device.
    pub fn new(gpu: Gpu, float: Float) -> Result<Self> {
        let status = gpu.alloc("status", 4)?;
        Ok(Cuda { gpu, float, status, scratch: OnceLock::new() })
    }

    fn scratch(&self) -> Result<&Scratch> {
        let missing =
            || Error::Shape { op: "scratch", message: "call Backend::reserve before the first operation".into() };
        self.scratch.get().ok_or_else(missing)
    }
}
