//! Q, K and V: `qkv.cu`, or `norm_rows.cu` and `gemm.cu`; then `qk_norm_rope.cu` where the model normalises Q and K.
use super::project::{self, Projection, address};
use super::{Cuda, backend, qk_norm, step};
use crate::backend::Qkv;
use crate::error::{Error, Result};
use crate::params::{Epilogue, EpilogueParams, RowsParams};

const OP: &str = "qkv";

/// Queues projection, bias, QK-norm, RoPE and append.
pub fn run(cuda: &Cuda, op: &Qkv<'_>) -> Result<()> {
    let (tokens, cols) = (op.batch.counts.tokens, op.weight.cols);
    let (rows, out) = (input(cuda, op, tokens, cols)?, output(cuda, op, tokens)?);
    let (k, v) = (out.k, out.v);
    let weight = op.weight;
    project::run(cuda, Projection { op: OP, weight, rows, out, epilogue: Epilogue::kQkv, post_norm: None })?;
    match &op.qk_norm {
        Some(norm) => qk_norm::run(cuda, op, norm, k, v),
        None => Ok(()),
    }
}

fn input(cuda: &Cuda, op: &Qkv<'_>, tokens: usize, cols: usize) -> Result<RowsParams> {
    Ok(RowsParams {
        x: address(cuda, OP, "x", op.x, tokens * cols * 4)?,
        norm: address(cuda, OP, "norm", op.norm, cols * 4)?,
        tokens: tokens as u32,
        cols: cols as u32,
        eps: op.eps,
        ..RowsParams::default()
    })
}

fn output(cuda: &Cuda, op: &Qkv<'_>, tokens: usize) -> Result<EpilogueParams> {
    let batch = step::batch(cuda, op.batch, op.group)?;
    let kv = step::kv(cuda, op.kv, op.layer)?;
    let (q_rows, kv_rows) = (op.heads * op.kv.layout.head_dim, op.kv.layout.kv_heads * op.kv.layout.head_dim);
    if op.weight.rows != q_rows + 2 * kv_rows {
        let message = format!("{} rows for {} heads of {:?}", op.weight.rows, op.heads, op.kv.layout);
        return Err(Error::Shape { op: OP, message });
    }
    if op.rope.dims > op.kv.layout.head_dim || !op.rope.dims.is_multiple_of(4) {
        let message = format!("RoPE over {} of {} elements; kernels take multiples of 4", op.rope.dims, q_rows);
        return Err(Error::Unsupported(message));
    }
    let (k, v) = match &op.qk_norm {
        None => (0, 0),
        Some(_) => {
            let scratch = cuda.scratch()?;
            let at = |b| address(cuda, OP, "scratch for K and V", b, tokens * kv_rows * cuda.float.bytes());
            (at(&scratch.project.k)?, at(&scratch.project.v)?)
        }
    };
    Ok(EpilogueParams {
        kv,
        bias: op.bias.map(|b| address(cuda, OP, "bias", b, op.weight.rows * 4)).transpose()?.unwrap_or(0),
        out: address(cuda, OP, "q", op.q, tokens * q_rows * cuda.float.bytes())?,
        k,
        v,
        rope: address(cuda, OP, "rope", &op.rope.table, op.rope.positions * op.rope.dims * 4)?,
        positions: batch.positions,
        slots: batch.slots,
        out_width: q_rows as u32,
        q_rows: q_rows as u32,
        rope_dims: op.rope.dims as u32,
        status: cuda.gpu.address(&cuda.status)?,
        status_code: backend::QKV,
        ..EpilogueParams::default()
    })
}
