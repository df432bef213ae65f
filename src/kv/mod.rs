//! The KV cache: pages, the index that finds them again, and the policies that decide which ones stay.
//!
//! Usable alone: `--no-default-features --features kv` builds this module without models, kernels or a CUDA compiler.
pub mod pool;

pub use pool::{PageId, Pool, PoolError};
