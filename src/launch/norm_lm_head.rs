//! Logits: `norm_lm_head.cu`, or `norm_rows.cu` and `gemm.cu`.
use super::project::{self, Projection, address};
use super::{Cuda, backend};
use crate::backend::NormLmHead;
use crate::error::Result;
use crate::params::{Epilogue, EpilogueParams, RowsParams};

const OP: &str = "norm_lm_head";

/// Queues `logits[r] = cap(norm(x[logit_rows[r]]) W^T)`.
pub fn run(cuda: &Cuda, op: &NormLmHead<'_>) -> Result<()> {
    let (tokens, rows, cols) = (op.batch.counts.tokens, op.batch.counts.logit_rows, op.weight.cols);
    let input = RowsParams {
        x: address(cuda, OP, "x", op.x, tokens * cols * 4)?,
        norm: address(cuda, OP, "norm", op.norm, cols * 4)?,
        row_index: cuda.gpu.address(&op.batch.words)? + 4 * op.batch.sections.logit_rows as u64,
        tokens: rows as u32,
        cols: cols as u32,
        eps: op.eps,
        pad: 0,
    };
    let out = EpilogueParams {
        out: address(cuda, OP, "logits", op.logits, rows * op.weight.rows * 4)?,
        out_width: op.weight.rows as u32,
        softcap: op.softcap.unwrap_or(0.0),
        status: cuda.gpu.address(&cuda.status)?,
        status_code: backend::FINAL_NORM,
        ..EpilogueParams::default()
    };
    let weight = op.weight;
    project::run(cuda, Projection { op: OP, weight, rows: input, out, epilogue: Epilogue::kLogits, post_norm: None })
}
