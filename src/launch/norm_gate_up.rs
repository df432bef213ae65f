//! The gated half of the FFN: `norm_gate_up.cu`, or `norm_rows.cu` and `gemm.cu`.
use super::project::{self, Projection, address};
use super::{Cuda, backend};
use crate::backend::{Activation, Fuse, NormGateUp};
use crate::error::{Error, Result};
use crate::params::{Epilogue, EpilogueParams, RowsParams};

const OP: &str = "norm_gate_up";

/// Queues `out = act(norm(x) Wgate^T) * (norm(x) Wup^T)`.
pub fn run(cuda: &Cuda, op: &NormGateUp<'_>) -> Result<()> {
    let (tokens, cols, ff) = (op.batch.counts.tokens, op.weight.cols, op.weight.rows / 2);
    if op.weight.fuse != Fuse::Interleave {
        return Err(Error::Shape { op: OP, message: "gate and up are not interleaved".into() });
    }
    let rows = RowsParams {
        x: address(cuda, OP, "x", op.x, tokens * cols * 4)?,
        norm: address(cuda, OP, "norm", op.norm, cols * 4)?,
        tokens: tokens as u32,
        cols: cols as u32,
        eps: op.eps,
        ..RowsParams::default()
    };
    let out = EpilogueParams {
        out: address(cuda, OP, "out", op.out, tokens * ff * cuda.float.bytes())?,
        out_width: ff as u32,
        activation: match op.activation {
            Activation::Silu => 0,
            Activation::GeluTanh => 1,
        },
        status: cuda.gpu.address(&cuda.status)?,
        status_code: backend::GATE,
        ..EpilogueParams::default()
    };
    let weight = op.weight;
    project::run(cuda, Projection { op: OP, weight, rows, out, epilogue: Epilogue::kGateUp, post_norm: None })
}
