//! [`Backend`] for [`Cuda`]: memory by the device, operations by one file each.
use super::{
    Cuda, Scratch, attention, embed, linear_residual, matrix, norm_gate_up, norm_lm_head, page_checksum, qkv, sample,
    transfer,
};
use crate::backend::*;
use crate::error::{Error, Result};
use std::sync::{Arc, PoisonError};

// Numbers that kernels write to the status word: places in `OPERATIONS`, plus one.
pub const QKV: u32 = 1;
pub const PROJECTION: u32 = 3;
pub const GATE: u32 = 4;
pub const FINAL_NORM: u32 = 5;

/// What the status word names, in the order of its numbers; 0 is "all well".
const OPERATIONS: [&str; 5] =
    ["the QKV projection", "attention", "a projection", "the gate of the FFN", "the final norm"];

impl Backend for Cuda {
    fn name(&self) -> String {
        self.gpu.spec().name.clone()
    }

    fn numerics(&self) -> &'static str {
        "kernels 1"
    }

    fn is_batch_invariant(&self) -> bool {
        // Kernels choose tiles and splits by the shape of the batch.
        false
    }

    fn float(&self) -> Float {
        self.float
    }

    fn memory(&self) -> Result<MemoryInfo> {
        self.gpu.memory()
    }

    fn scratch_bytes(&self, limits: &BatchLimits) -> u64 {
        Scratch::bytes(&self.gpu, limits) as u64
    }

    fn reserve(&self, limits: &BatchLimits) -> Result<()> {
        let scratch = Arc::new(Scratch::new(&self.gpu, limits)?);
        // Freeing the one before, if any, waits for the work that uses it.
        *self.scratch.write().unwrap_or_else(PoisonError::into_inner) = Some(scratch);
        Ok(())
    }

    fn alloc(&self, what: &str, bytes: usize) -> Result<Buffer> {
        self.gpu.alloc(what, bytes)
    }

    fn upload(&self, dst: &Buffer, offset: usize, src: &[u8]) -> Result<()> {
        self.gpu.upload(dst, offset, src)
    }

    fn download(&self, src: &Buffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        self.gpu.download(src, offset, dst)
    }

    fn copy(&self, src: &Buffer, src_offset: usize, dst: &Buffer, dst_offset: usize, bytes: usize) -> Result<()> {
        self.gpu.copy(src, src_offset, dst, dst_offset, bytes)
    }

    fn finish(&self) -> Result<()> {
        let mut status = 0u32;
        self.gpu.download(&self.status, 0, bytemuck::bytes_of_mut(&mut status))?;
        if status == 0 {
            return Ok(());
        }
        self.gpu.upload(&self.status, 0, &[0; 4])?;
        let name = OPERATIONS.get(status as usize - 1).copied().unwrap_or("a kernel");
        Err(Error::Overflow(name.into()))
    }

    fn load_weight(&self, parts: &[HostWeight<'_>], fuse: Fuse) -> Result<Weight> {
        matrix::load(self, parts, fuse)
    }

    fn embed(&self, op: &Embed<'_>) -> Result<()> {
        embed::run(self, op)
    }

    fn qkv(&self, op: &Qkv<'_>) -> Result<()> {
        qkv::run(self, op)
    }

    fn attention(&self, op: &Attention<'_>) -> Result<()> {
        attention::run(self, op)
    }

    fn linear_residual(&self, op: &LinearResidual<'_>) -> Result<()> {
        linear_residual::run(self, op)
    }

    fn norm_gate_up(&self, op: &NormGateUp<'_>) -> Result<()> {
        norm_gate_up::run(self, op)
    }

    fn norm_lm_head(&self, op: &NormLmHead<'_>) -> Result<()> {
        norm_lm_head::run(self, op)
    }

    fn sample(&self, op: &Sample<'_>) -> Result<()> {
        sample::run(self, op)
    }

    fn page_checksums(&self, op: &PageChecksums<'_>) -> Result<()> {
        page_checksum::run(self, op)
    }

    fn transfer_bytes(&self, kv: &[KvLayout], packed: bool) -> u64 {
        transfer::bytes(kv, packed) as u64
    }

    fn transfers(self: Arc<Self>, kv: &[KvGroup], host_bytes: usize, packed: bool) -> Result<Box<dyn Transfers>> {
        Ok(Box::new(transfer::CudaTransfers::new(self, kv, host_bytes, packed)?))
    }
}
