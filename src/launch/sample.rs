//! Sampling: `sample.cu`, by many blocks a row where every row is greedy, else by one block a row.
use super::Cuda;
use crate::backend::{BatchLimits, Buffer, Sample};
use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::params::SampleParams;

/// Logits that one block of the greedy kernel reads.
const GREEDY_SHARE: usize = 8192;

/// Entry, grid and threads.
fn plan(rows: usize, vocab: usize, sampling: bool) -> (&'static str, [u32; 3], u32) {
    if sampling {
        ("sample", [rows as u32, 1, 1], 1024)
    } else {
        ("sample_greedy", [vocab.div_ceil(GREEDY_SHARE) as u32, rows as u32, 1], 256)
    }
}

/// What the blocks of a greedy row share; zero between launches.
pub struct Scratch {
    best: Buffer,
    counters: Buffer,
}

impl Scratch {
    /// Device memory that [`Scratch::new`] takes.
    pub fn bytes(limits: &BatchLimits) -> usize {
        12 * limits.logit_rows
    }

    /// Allocates for batches up to `limits`.
    pub fn new(gpu: &Gpu, limits: &BatchLimits) -> Result<Self> {
        Ok(Scratch {
            best: gpu.alloc("greedy maxima", 8 * limits.logit_rows)?,
            counters: gpu.alloc("greedy counters", 4 * limits.logit_rows)?,
        })
    }
}

/// Queues the launch.
pub fn run(cuda: &Cuda, op: &Sample<'_>) -> Result<()> {
    let (rows, sections) = (op.batch.counts.logit_rows, &op.batch.sections);
    if op.vocab == 0 || op.logits.bytes() < 4 * rows * op.vocab || op.out.bytes() < 4 * rows {
        let message = format!("{rows} rows of {} logits in {} bytes", op.vocab, op.logits.bytes());
        return Err(Error::Shape { op: "sample", message });
    }
    if rows == 0 {
        return Ok(());
    }
    let words = cuda.gpu.address(&op.batch.words)?;
    let at = |word: usize| words + 4 * word as u64;
    let scratch = cuda.scratch()?;
    let params = SampleParams {
        logits: cuda.gpu.address(op.logits)?,
        out: cuda.gpu.address(op.out)?,
        sample: at(sections.sample),
        recent_start: at(sections.recent_start),
        recent: at(sections.recent),
        best: cuda.gpu.address(&scratch.sample.best)?,
        counters: cuda.gpu.address(&scratch.sample.counters)?,
        vocab: op.vocab as u32,
        pad: 0,
    };
    let (entry, grid, threads) = plan(rows, op.vocab, op.batch.counts.sampling);
    let kernel = cuda.gpu.kernel("sample", entry)?;
    cuda.gpu.launch(&kernel, grid, threads, 0, &params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_rows_are_shared_and_sampled_rows_are_not() {
        assert_eq!(plan(2, 49_152, false), ("sample_greedy", [6, 2, 1], 256));
        assert_eq!(plan(1, 1, false).1, [1, 1, 1]);
        assert_eq!(plan(5, 262_144, true), ("sample", [5, 1, 1], 1024));
    }
}
