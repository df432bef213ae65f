//! What the integration tests share.
#![allow(dead_code, reason = "each test program uses a part")]
pub mod attention;
pub mod batch;
pub mod conversations;
pub mod device;
pub mod gguf;
pub mod kv;
pub mod models;
pub mod pack;
pub mod products;
#[cfg(feature = "cli")]
pub mod program;
pub mod reference;
pub mod rng;
pub mod sampling;
pub mod servers;
pub mod soak;
pub mod tensors;
pub mod tolerance;
