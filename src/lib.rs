//! An LLM inference engine with hand-written CUDA kernels, built around its KV cache.
//!
//! The map, each layer importing only those below it:
//!
//! ```text
//! cli, capi
//! engine     sequences, scheduler, batch, runner, sampling, sessions
//! models     config -> registry -> layers
//! kv         pool, page table, prefix index, policies, tiers, replay
//! weights    gguf, safetensors
//! launch     our kernels through cudarc      cpu   the oracle, same names
//! device     driver choice, context, buffers (used by launch alone)
//! backend, params, error, text, quant, checksum
//! ```
#[cfg(feature = "engine")]
pub mod backend;
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "kv")]
pub mod checksum;
#[cfg(feature = "engine")]
pub mod cpu;
#[cfg(feature = "engine")]
pub mod device;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod error;
#[cfg(feature = "kv")]
pub mod kv;
#[cfg(feature = "engine")]
pub mod launch;
#[cfg(feature = "engine")]
pub mod models;
#[cfg(feature = "engine")]
pub mod open;
#[cfg(feature = "engine")]
pub mod params;
#[cfg(feature = "engine")]
pub mod quant;
#[cfg(feature = "engine")]
pub mod store;
#[cfg(feature = "engine")]
pub mod text;
#[cfg(feature = "engine")]
pub mod weights;

#[cfg(feature = "engine")]
pub use engine::{
    CacheStats, Canceller, Completion, Engine, EngineConfig, Event, FinishReason, Prompt, Request, Sampling, Session,
    Stream, TokenLogits,
};
#[cfg(feature = "engine")]
pub use error::{Error, Result};
