//! Requests in, streams of text out: sequences, scheduler, batches and the thread that steps a model.
//!
//! One step: schedule -> build the batch -> run and sample -> postprocess (`core`). The scheduler and the page tables know
//! nothing of a device, and the runner nothing of requests; both are tested alone.
//!
//! Invariants:
//! * A running sequence's first `computed` tokens are in pages of its lease on the cache (`crate::kv::Cache`). Whole pages and
//!   those of ended sequences are shared with whoever has the same salt and the same tokens up to there.
//! * The oldest running sequence never waits for pages: cached ones are evicted, and younger sequences give theirs up and go
//!   on later. A request is refused at once if it could not run alone; so every accepted one finishes.
//! * A request's tokens depend on its own prompt, parameters and seed, not on what runs beside it or what is cached.
mod batch;
mod comeback;
mod config;
mod core;
mod fingerprint;
mod handle;
mod io;
mod loading;
mod output;
mod pages;
mod pins;
mod prefetch;
pub mod replay;
mod report;
mod request;
mod runner;
mod scheduler;
mod sequence;
mod session;
mod stores;
mod stream;
#[cfg(test)]
mod tests;
mod tier_spec;
mod verify;

pub use comeback::Comebacks;
pub use config::{EngineConfig, KvPlan};
pub use handle::{Demoted, Forked, Invalidated, Session};
pub use pins::Pinned;
pub use prefetch::Prefetched;
pub use report::{CacheStats, TierHits};
pub use request::{Completion, Event, FinishReason, Prompt, Request, Sampling, TokenLogits};
pub use session::{Engine, Stats};
pub use stream::{Canceller, Stream};
pub use tier_spec::{StoreSecret, TierPlace, TierSpec, parse_size};
pub use verify::Verified;
