//! The KV cache: pages, the tree that finds them again, and the policies that decide which ones stay.
//!
//! Usable alone: `--no-default-features --features kv` builds this module without models, kernels or a CUDA compiler.
//! [`Cache`] is the entry: it hands out [`Lease`]s on pages of its pools and never touches the bytes in them.
pub mod cache;
pub mod chart;
pub mod curve;
pub mod error;
pub mod integrity;
pub mod key;
pub mod pace;
pub mod policy;
pub mod pool;
pub mod replay;
pub mod tier;
pub mod trace;
pub mod tree;
pub mod workload;

pub use cache::{Cache, GroupConfig, Lease};
pub use error::{Error, Result};
pub use key::{Fingerprint, Key, Keys};
pub use pace::Pace;
pub use pool::{PageId, Pool, PoolError};
