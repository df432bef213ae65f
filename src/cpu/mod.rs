//! The oracle: every operation as plain code over host memory, one file per operation, named as in `launch`.
//!
//! Invariants:
//! * Values are rounded to the compute type where `backend` says so and nowhere else; sums run in f64.
//! * A token's result has the same bits whatever else the batch holds, however the prompt was cut into chunks, and
//!   wherever its pages are.
//! * An operation is done when its call returns; an overflow is remembered until [`Backend::finish`].
mod attention;
mod batch;
mod embed;
mod float;
mod kv;
mod linear_residual;
mod memory;
mod norm;
mod norm_gate_up;
mod norm_lm_head;
mod page_checksum;
mod page_pack;
mod product;
mod qkv;
mod sample;
mod transfer;
mod weight;

use crate::backend::{
    Attention, Backend, BatchLimits, Buffer, Embed, Float, Fuse, HostWeight, KvGroup, KvLayout, LinearResidual,
    MemoryInfo, NormGateUp, NormLmHead, PageChecksums, Qkv, Sample, Transfers, Weight,
};
use crate::error::{Error, Result};
use memory::CpuMemory;
use std::sync::{Arc, Mutex, PoisonError};

/// The backend that computes on the host.
#[derive(Debug, Default)]
pub struct Cpu {
    float: Float,
    /// The first operation since the last `finish` that left the range of the compute type.
    overflow: Mutex<Option<&'static str>>,
}

impl Cpu {
    /// A backend with this compute type. Threads are rayon's.
    pub fn new(float: Float) -> Self {
        Cpu { float, overflow: Mutex::default() }
    }

    /// Remembers an overflow of values about to be rounded to the compute type.
    fn check_fits(&self, op: &'static str, values: &[f32]) {
        if !float::fits(self.float, values) {
            self.overflow.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(op);
        }
    }
}

/// Free and total memory of the machine, as the system tells it; zero where it does not.
fn free_memory() -> MemoryInfo {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    MemoryInfo { free: field("MemAvailable:"), total: field("MemTotal:") }
}

fn range(bytes: usize, offset: usize, count: usize) -> Result<std::ops::Range<usize>> {
    let end = offset.checked_add(count).filter(|&end| end <= bytes);
    let message = || format!("bytes {offset}..+{count} of a buffer of {bytes}");
    end.map(|end| offset..end).ok_or_else(|| Error::Shape { op: "copy", message: message() })
}

impl Backend for Cpu {
    fn name(&self) -> String {
        format!("cpu ({} threads)", rayon::current_num_threads())
    }

    fn numerics(&self) -> &'static str {
        "oracle 1"
    }

    fn is_batch_invariant(&self) -> bool {
        true
    }

    fn float(&self) -> Float {
        self.float
    }

    fn memory(&self) -> Result<MemoryInfo> {
        Ok(free_memory())
    }

    /// Operations allocate on the host as they go.
    fn scratch_bytes(&self, _limits: &BatchLimits) -> u64 {
        0
    }

    fn reserve(&self, _limits: &BatchLimits) -> Result<()> {
        Ok(())
    }

    fn alloc(&self, what: &str, bytes: usize) -> Result<Buffer> {
        CpuMemory::new(what, bytes).map(Buffer::new)
    }

    fn upload(&self, dst: &Buffer, offset: usize, src: &[u8]) -> Result<()> {
        let range = range(dst.bytes(), offset, src.len())?;
        memory::write(dst)?.bytes()[range].copy_from_slice(src);
        Ok(())
    }

    fn download(&self, src: &Buffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        let range = range(src.bytes(), offset, dst.len())?;
        dst.copy_from_slice(&memory::read(src)?.bytes()[range]);
        Ok(())
    }

    fn copy(&self, src: &Buffer, src_offset: usize, dst: &Buffer, dst_offset: usize, bytes: usize) -> Result<()> {
        let from = range(src.bytes(), src_offset, bytes)?;
        let to = range(dst.bytes(), dst_offset, bytes)?;
        if memory::same(src, dst)? {
            memory::write(dst)?.bytes().copy_within(from, to.start);
        } else {
            memory::write(dst)?.bytes()[to].copy_from_slice(&memory::read(src)?.bytes()[from]);
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        match self.overflow.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(op) => Err(Error::Overflow(op.into())),
            None => Ok(()),
        }
    }

    fn load_weight(&self, parts: &[HostWeight<'_>], fuse: Fuse) -> Result<Weight> {
        weight::load(parts, fuse)
    }

    fn embed(&self, op: &Embed<'_>) -> Result<()> {
        embed::run(op)
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
        sample::run(op)
    }

    fn page_checksums(&self, op: &PageChecksums<'_>) -> Result<()> {
        page_checksum::run(op)
    }

    /// Copies pack on the host as they go.
    fn transfer_bytes(&self, _kv: &[KvLayout], _packed: bool) -> u64 {
        0
    }

    fn transfers(self: Arc<Self>, kv: &[KvGroup], host_bytes: usize, packed: bool) -> Result<Box<dyn Transfers>> {
        Ok(Box::new(transfer::CpuTransfers::new(self.float, kv, host_bytes, packed)))
    }
}
