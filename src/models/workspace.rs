//! Activations of a step. Allocated once for the largest batch, reused by every layer.
use super::config::ModelConfig;
use crate::backend::{Backend, BatchLimits, Buffer};
use crate::error::Result;

/// Buffers that a step writes.
#[derive(Debug)]
pub struct Workspace {
    /// Residual stream, f32 `[T, d]`.
    pub x: Buffer,
    /// Compute type `[T, heads, head_dim]`.
    pub q: Buffer,
    /// Attention output, compute type `[T, heads, head_dim]`.
    pub attention: Buffer,
    /// Gated feed-forward activations, compute type `[T, ff]`.
    pub hidden: Buffer,
    /// f32 `[R, vocab]`.
    pub logits: Buffer,
}

/// Bytes of each buffer, in the order of the fields.
fn sizes(config: &ModelConfig, limits: &BatchLimits, element: usize) -> [usize; 5] {
    let (tokens, heads) = (limits.tokens, config.heads * config.head_dim);
    [
        tokens * config.width * 4,
        tokens * heads * element,
        tokens * heads * element,
        tokens * config.ff * element,
        limits.logit_rows * config.vocab * 4,
    ]
}

impl Workspace {
    /// Allocates for batches up to `limits`.
    pub fn new(backend: &dyn Backend, config: &ModelConfig, limits: &BatchLimits) -> Result<Self> {
        let [x, q, attention, hidden, logits] = sizes(config, limits, backend.float().bytes());
        Ok(Workspace {
            x: backend.alloc("residual stream", x)?,
            q: backend.alloc("queries", q)?,
            attention: backend.alloc("attention output", attention)?,
            hidden: backend.alloc("feed-forward activations", hidden)?,
            logits: backend.alloc("logits", logits)?,
        })
    }

    /// Bytes that [`Workspace::new`] will take.
    pub fn bytes(backend: &dyn Backend, config: &ModelConfig, limits: &BatchLimits) -> u64 {
        sizes(config, limits, backend.float().bytes()).into_iter().map(|n| n as u64).sum()
    }
}
