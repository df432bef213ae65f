//! Output and down projection: `linear_residual.cu`, or `gemm.cu` and `post_norm.cu`.
use super::project::{self, Projection, address};
use super::{Cuda, backend};
use crate::backend::LinearResidual;
use crate::error::Result;
use crate::params::{Epilogue, EpilogueParams, RowsParams};

const OP: &str = "linear_residual";

/// Queues `x += post_norm(input W^T + bias)`.
pub fn run(cuda: &Cuda, op: &LinearResidual<'_>) -> Result<()> {
    let (tokens, cols, width) = (op.batch.counts.tokens, op.weight.cols, op.weight.rows);
    let rows = RowsParams {
        x: address(cuda, OP, "input", op.input, tokens * cols * cuda.float.bytes())?,
        tokens: tokens as u32,
        cols: cols as u32,
        ..RowsParams::default()
    };
    let out = EpilogueParams {
        bias: op.bias.map(|b| address(cuda, OP, "bias", b, width * 4)).transpose()?.unwrap_or(0),
        out: address(cuda, OP, "x", op.x, tokens * width * 4)?,
        out_width: width as u32,
        status: cuda.gpu.address(&cuda.status)?,
        status_code: backend::PROJECTION,
        ..EpilogueParams::default()
    };
    let (weight, post_norm) = (op.weight, op.post_norm);
    project::run(cuda, Projection { op: OP, weight, rows, out, epilogue: Epilogue::kResidual, post_norm })
}
