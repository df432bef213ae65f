//! An emulated NVIDIA GPU: the CUDA driver API on the CPU, executing PTX.
pub mod ptx;
