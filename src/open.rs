//! From a device's name to a [`Backend`]: the one place that knows which implementations there are.
use crate::backend::{Backend, Float};
use crate::cpu::Cpu;
use crate::device::{Gpu, select};
use crate::error::Result;
use crate::launch::Cuda;
use std::sync::Arc;

/// An open device.
pub struct Opened {
    /// The device.
    pub backend: Arc<dyn Backend>,
    /// A line for the user, where `auto` had to take the emulated GPU.
    pub notice: Option<String>,
}

/// Opens `auto`, `cuda`, `cuda:N`, `emulator` or `cpu`, computing in `float`.
///
/// `auto` takes an NVIDIA GPU of compute capability 8.0 or newer with a driver of CUDA 13.0 or newer, else the emulated
/// GPU. A process keeps the driver that it used first: asking for the other kind later is an error.
pub fn backend(device: &str, float: Float) -> Result<Opened> {
    if device == "cpu" {
        return Ok(Opened { backend: Arc::new(Cpu::new(float)), notice: None });
    }
    let (driver, notice) = select(device)?;
    let cuda = Cuda::new(Gpu::open(&driver)?, float)?;
    Ok(Opened { backend: Arc::new(cuda), notice })
}
