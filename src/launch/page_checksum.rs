//! Checksums of half pages: `page_checksum.cu`, one block a half.
use super::Cuda;
use crate::backend::{KvHalf, PageChecksums};
use crate::device::CopyStream;
use crate::error::{Error, Result};
use crate::params::PageChecksumParams;

const THREADS: u32 = 512;

/// Queues the launch in the order of the operations.
pub fn run(cuda: &Cuda, op: &PageChecksums<'_>) -> Result<()> {
    let Some((params, grid)) = plan(cuda, op)? else { return Ok(()) };
    let kernel = cuda.gpu.kernel("page_checksum", "page_checksum")?;
    cuda.gpu.launch(&kernel, grid, THREADS, 0, &params)
}

/// Queues it on another stream.
pub fn run_beside(cuda: &Cuda, stream: &CopyStream, op: &PageChecksums<'_>) -> Result<()> {
    let Some((params, grid)) = plan(cuda, op)? else { return Ok(()) };
    let kernel = cuda.gpu.kernel("page_checksum", "page_checksum")?;
    cuda.gpu.launch_beside(stream, &kernel, grid, THREADS, &params)
}

/// Parameters and grid, if there is something to do.
fn plan(cuda: &Cuda, op: &PageChecksums<'_>) -> Result<Option<(PageChecksumParams, [u32; 3])>> {
    let (bytes, k_bytes) = (op.kv.layout.page_bytes(), op.kv.layout.half_bytes(KvHalf::K));
    let whole = op.kv.pages.checked_mul(bytes).is_some_and(|all| all <= op.kv.data.bytes());
    if !whole
        || !bytes.is_multiple_of(16)
        || !k_bytes.is_multiple_of(16)
        || op.pages.bytes() < 4 * op.count
        || op.out.bytes() < 16 * op.count
    {
        let message = format!("{} of {} pages {:?}", op.count, op.kv.pages, op.kv.layout);
        return Err(Error::Shape { op: "page checksums", message });
    }
    let params = PageChecksumParams {
        data: cuda.gpu.address(&op.kv.data)?,
        pages: cuda.gpu.address(op.pages)?,
        out: cuda.gpu.address(op.out)?,
        page_bytes: bytes as u64,
        k_bytes: k_bytes as u64,
    };
    Ok((op.count > 0).then_some((params, [2 * op.count as u32, 1, 1])))
}
