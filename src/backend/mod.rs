//! The seam between models and devices: opaque buffers and the fused operations over them.
//!
//! Two implementations with the same file names: `launch` (our CUDA kernels, on a GPU or on the emulated one) and
//! `cpu` (the oracle: plain code, fp64 sums). Models, the engine and the KV cache know only this module.
//!
//! Invariants:
//! * Operations are queued in order on one stream; only [`Backend::finish`] and [`Backend::download`] wait. [`Transfers`]
//!   run beside them.
//! * The residual stream `x`, norms, softmax, logits and accumulators are f32. Matmul inputs, dequantised weights, Q, P, the
//!   attention output are of the compute type ([`Float`]); the KV pages are of it too, or quantised ([`KvType`]).
//! * RoPE rotates *adjacent pairs* (2i, 2i+1) of a head: loaders permute rows of half-split checkpoints. Dot products of Q
//!   and K do not notice, and the rotation stays within one thread of a kernel.
//! * Matrices are `[rows = outputs, cols = inputs]`, row-major, quantised along the columns.
mod batch;
mod kv;
mod ops;
mod packing;
mod transfer;
mod types;

pub use batch::{BatchLimits, Counts, DeviceBatch, GroupBatch, HostBatch, SampleParams, Sections};
pub use kv::{KvGroup, KvHalf, KvLayout, KvType, KvTypes, SCALE_GROUP};
pub use ops::{
    Activation, Attention, Embed, LinearResidual, NormGateUp, NormLmHead, PageChecksums, PostNorm, QkNorm, Qkv, Rope,
    Sample,
};
pub use packing::{Loss, Packing, Packings};
pub use transfer::{Admission, CopiedHalf, HalfPage, HostBytes, Transferred, Transfers};
pub use types::{Buffer, DType, DeviceMemory, Float, Fuse, HostWeight, MemoryInfo, Weight};

use crate::error::Result;
use std::sync::Arc;

/// A device that can run a model. All methods take `&self`; implementations are safe to share between threads, but the
/// order of operations is that of the calls, so one thread drives a step.
pub trait Backend: Send + Sync {
    /// What a user should be told, for example `NVIDIA H100 80GB HBM3` or `emulated H100 (2 threads)`.
    fn name(&self) -> String;

    /// What the bits of its results depend on beside the arguments: pages of backends with equal numerics can stand for each
    /// other. It changes when a kernel computes or rounds otherwise.
    fn numerics(&self) -> &'static str;

    /// Whether a token's results are the same to the bit in batches of any shape.
    fn is_batch_invariant(&self) -> bool;

    /// The compute type of this backend.
    fn float(&self) -> Float;

    /// Free and total device memory.
    fn memory(&self) -> Result<MemoryInfo>;

    /// Scratch that the operations will need inside the backend for batches up to these limits, in bytes.
    /// Asked before the load, so that the plan is complete; allocated by [`Backend::reserve`].
    fn scratch_bytes(&self, limits: &BatchLimits) -> u64;

    /// Allocates that scratch once; later operations allocate nothing.
    fn reserve(&self, limits: &BatchLimits) -> Result<()>;

    /// A zeroed buffer.
    fn alloc(&self, what: &str, bytes: usize) -> Result<Buffer>;

    /// Copies from the host. Returns when `src` may be reused.
    fn upload(&self, dst: &Buffer, offset: usize, src: &[u8]) -> Result<()>;

    /// Copies to the host and waits for it.
    fn download(&self, src: &Buffer, offset: usize, dst: &mut [u8]) -> Result<()>;

    /// Copies within the device.
    fn copy(&self, src: &Buffer, src_offset: usize, dst: &Buffer, dst_offset: usize, bytes: usize) -> Result<()>;

    /// Waits for all queued work and reports what it found wrong: a device fault, or [`crate::Error::Overflow`].
    fn finish(&self) -> Result<()>;

    /// Takes a matrix to the device, repacked byte-neutrally into what the operations read. Several parts are fused into one
    /// handle: Q, K and V one after another, gate and up row by row.
    fn load_weight(&self, parts: &[HostWeight<'_>], fuse: Fuse) -> Result<Weight>;

    /// `out[t] = table[tokens[t]] * scale`.
    fn embed(&self, op: &Embed<'_>) -> Result<()>;

    /// RMSNorm, fused Q/K/V projection, bias, QK-norm, RoPE, and append of K and V to their pages.
    fn qkv(&self, op: &Qkv<'_>) -> Result<()>;

    /// Paged attention of every token of the batch over its sequence's pages (causal, optional window and soft cap).
    fn attention(&self, op: &Attention<'_>) -> Result<()>;

    /// `x += post_norm(input * W^T + bias)`: output projection and down projection.
    fn linear_residual(&self, op: &LinearResidual<'_>) -> Result<()>;

    /// `out = act(norm(x) * Wgate^T) * (norm(x) * Wup^T)`.
    fn norm_gate_up(&self, op: &NormGateUp<'_>) -> Result<()>;

    /// Final norm and LM head of the rows that need logits.
    fn norm_lm_head(&self, op: &NormLmHead<'_>) -> Result<()>;

    /// Draws one token per logits row.
    fn sample(&self, op: &Sample<'_>) -> Result<()>;

    /// Checksums of half pages, before they leave the device.
    fn page_checksums(&self, op: &PageChecksums<'_>) -> Result<()>;

    /// Device memory that [`Backend::transfers`] of groups of these layouts will take, in bytes; `packed`: as there.
    fn transfer_bytes(&self, kv: &[KvLayout], packed: bool) -> u64;

    /// Copies of half pages of these groups beside the operations, through at most `host_bytes` of host memory, which the
    /// device reaches fast where that makes a difference. `packed`: with the scratch that packing takes; without it only
    /// [`Packing::Exact`] is possible.
    fn transfers(self: Arc<Self>, kv: &[KvGroup], host_bytes: usize, packed: bool) -> Result<Box<dyn Transfers>>;
}
