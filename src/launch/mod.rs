//! Our CUDA kernels as a [`Backend`](crate::backend::Backend): one file per operation, shapes -> config -> launch.
//!
//! A launch file has a pure `plan` (problem and device to a printable config) and the launch. Kernels that convert f32 to
//! the compute type set a word of device memory when a value does not fit; `finish` of the [`Backend`](crate::backend::Backend) reads it.
mod attention;
mod backend;
mod embed;
mod linear_residual;
mod matrix;
mod norm_gate_up;
mod norm_lm_head;
mod page_checksum;
mod page_pack;
mod project;
mod qk_norm;
mod qkv;
mod repack;
mod sample;
mod step;
mod transfer;

use crate::backend::{BatchLimits, Buffer, Float};
use crate::device::Gpu;
use crate::error::{Error, Result};
use std::sync::{Arc, PoisonError, RwLock};

/// A GPU, real or emulated, with our kernels.
pub struct Cuda {
    /// The device.
    pub gpu: Gpu,
    /// Compute type.
    pub float: Float,
    /// u32: 0, or the number of the operation that overflowed.
    pub status: Buffer,
    /// Set by `reserve`; a later one replaces it.
    scratch: RwLock<Option<Arc<Scratch>>>,
}

/// Device memory that the operations share between steps.
struct Scratch {
    attention: attention::Scratch,
    project: project::Scratch,
    sample: sample::Scratch,
}

impl Scratch {
    fn bytes(gpu: &Gpu, limits: &BatchLimits) -> usize {
        attention::Scratch::bytes(gpu.spec(), limits) + project::Scratch::bytes(limits) + sample::Scratch::bytes(limits)
    }

    fn new(gpu: &Gpu, limits: &BatchLimits) -> Result<Self> {
        Ok(Scratch {
            attention: attention::Scratch::new(gpu, limits)?,
            project: project::Scratch::new(gpu, limits)?,
            sample: sample::Scratch::new(gpu, limits)?,
        })
    }
}

impl Cuda {
    /// Prepares an open device.
    pub fn new(gpu: Gpu, float: Float) -> Result<Self> {
        let status = gpu.alloc("status", 4)?;
        Ok(Cuda { gpu, float, status, scratch: RwLock::default() })
    }

    fn scratch(&self) -> Result<Arc<Scratch>> {
        let missing =
            || Error::Shape { op: "scratch", message: "call Backend::reserve before the first operation".into() };
        self.scratch.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(missing)
    }
}
