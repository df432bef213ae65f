//! Token embeddings: `embed.cu`.
use super::project::{address, suffix};
use super::{Cuda, matrix};
use crate::backend::Embed;
use crate::error::{Error, Result};
use crate::params::{EmbedParams, WeightType};

const THREADS: usize = 128;

/// Queues the gather of all tokens of the batch.
pub fn run(cuda: &Cuda, op: &Embed<'_>) -> Result<()> {
    let (tokens, cols) = (op.batch.counts.tokens, op.table.cols);
    let table = matrix::of(op.table)?;
    let [part] = table.parts.as_slice() else {
        return Err(Error::Shape { op: "embed", message: format!("a table of {} parts", table.parts.len()) });
    };
    let entry = match part.format.code {
        WeightType::kFloat => format!("embed_float_{}", suffix(cuda.float)),
        _ => format!("embed_{}", part.format.name),
    };
    let params = EmbedParams {
        table: table.params(cuda, 0)?,
        tokens: cuda.gpu.address(&op.batch.words)? + 4 * op.batch.sections.tokens as u64,
        out: address(cuda, "embed", "out", op.out, tokens * cols * 4)?,
        token_count: tokens as u32,
        cols: cols as u32,
        scale: op.scale,
        pad: 0,
    };
    let threads = cols.div_ceil(64) * 4;
    let grid = [threads.div_ceil(THREADS) as u32, tokens as u32, 1];
    cuda.gpu.launch(&cuda.gpu.kernel("embed", &entry)?, grid, THREADS as u32, 0, &params)
}
