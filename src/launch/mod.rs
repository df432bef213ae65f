//! Our CUDA kernels as a [`Backend`](crate::backend::Backend): one file per operation, shapes -> config -> launch.
//!
//! A launch file has a pure `plan` (problem and device to a printable config) and the launch. Kernels that convert f32 to
//! the compute type set a word of device memory when a value does not fit; [`Cuda::finish`] reads it.
mod backend;

use crate::backend::{Buffer, Float};
use crate::device::Gpu;
use crate::error::Result;

/// A GPU, real or emulated, with our kernels.
pub struct Cuda {
    /// The device.
    pub gpu: Gpu,
    /// Compute type.
    pub float: Float,
    /// u32: 0, or the number of the operation that overflowed.
    pub status: Buffer,
}

impl Cuda {
    /// Prepares an open device.
    pub fn new(gpu: Gpu, float: Float) -> Result<Self> {
        let status = gpu.alloc("status", 4)?;
        Ok(Cuda { gpu, float, status })
    }
}
