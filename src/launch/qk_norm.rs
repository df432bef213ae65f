//! QK-norm, RoPE and append after the projection of models with QK-norm: `qk_norm_rope.cu`.
use super::{Cuda, backend, step};
use crate::backend::{Float, QkNorm, Qkv};
use crate::error::{Error, Result};
use crate::params::QkNormRopeParams;

const THREADS: usize = 128;

/// Lanes that share a head (`kLanes`); `None` where there is no kernel.
fn lanes(head_dim: usize) -> Option<usize> {
    match head_dim {
        64 => Some(8),
        96 | 128 => Some(16),
        256 => Some(32),
        _ => None,
    }
}

/// Finishes `op` after its projection: Q lies in `op.q`; K and V, of the compute type and `[T, kv_heads, head_dim]`, at the
/// device addresses `k` and `v`.
pub fn run(cuda: &Cuda, op: &Qkv<'_>, norm: &QkNorm<'_>, k: u64, v: u64) -> Result<()> {
    let (layout, tokens) = (&op.kv.layout, op.batch.counts.tokens);
    let Some(lanes) = lanes(layout.head_dim) else {
        return Err(Error::Unsupported(format!(
            "QK-norm with head_dim {}; there are 64, 96, 128, 256",
            layout.head_dim
        )));
    };
    if op.rope.dims > layout.head_dim || !op.rope.dims.is_multiple_of(2) {
        return Err(Error::Shape { op: "qkv", message: format!("RoPE over {} of {layout:?}", op.rope.dims) });
    }
    let params = QkNormRopeParams {
        batch: step::batch(cuda, op.batch, op.group)?,
        kv: step::kv(cuda, op.kv, op.layer)?,
        q: cuda.gpu.address(op.q)?,
        k,
        v,
        q_norm: cuda.gpu.address(norm.q)?,
        k_norm: cuda.gpu.address(norm.k)?,
        rope: cuda.gpu.address(&op.rope.table)?,
        status: cuda.gpu.address(&cuda.status)?,
        heads: op.heads as u32,
        rope_dims: op.rope.dims as u32,
        eps: norm.eps,
        status_code: backend::QKV,
    };
    let float = match cuda.float {
        Float::F16 => "f16",
        Float::BF16 => "bf16",
    };
    let kernel = cuda.gpu.kernel("qk_norm_rope", &format!("qk_norm_rope_{float}_d{}", layout.head_dim))?;
    let items = tokens * (op.heads + 2 * layout.kv_heads);
    cuda.gpu.launch(&kernel, [(items * lanes).div_ceil(THREADS) as u32, 1, 1], THREADS as u32, 0, &params)
}
