//! Checksums of half pages: `page_checksum.cu`, one block a half.
use super::Cuda;
use crate::backend::{Buffer, KvHalf, PageChecksums};
use crate::device::CopyStream;
use crate::error::{Error, Result};
use crate::params::PageChecksumParams;

const THREADS: u32 = 512;

/// Queues the launch in the order of the operations.
pub fn run(cuda: &Cuda, op: &PageChecksums<'_>) -> Result<()> {
    let Some((params, grid)) = plan(cuda, &Summands::of(op))? else { return Ok(()) };
    let kernel = cuda.gpu.kernel("page_checksum", "page_checksum")?;
    cuda.gpu.launch(&kernel, grid, THREADS, 0, &params)
}

/// Queues it on another stream.
pub fn run_beside(cuda: &Cuda, stream: &CopyStream, op: &PageChecksums<'_>) -> Result<()> {
    launch_beside(cuda, stream, &Summands::of(op))
}

/// Queues sums of halves that lie one after another in `halves`, at the given places: u64 `[count, 2]`, of which the second is
/// nothing's.
pub fn run_packed(
    cuda: &Cuda,
    stream: &CopyStream,
    halves: &Buffer,
    half_bytes: usize,
    places: &Buffer,
    count: usize,
    out: &Buffer,
) -> Result<()> {
    let bytes = half_bytes;
    launch_beside(
        cuda,
        stream,
        &Summands { data: halves, total: count, bytes, k_bytes: bytes, pages: places, count, out },
    )
}

/// `count` of `total` pages of `bytes` each, K first.
#[derive(Debug)]
struct Summands<'a> {
    data: &'a Buffer,
    total: usize,
    bytes: usize,
    k_bytes: usize,
    pages: &'a Buffer,
    count: usize,
    out: &'a Buffer,
}

impl<'a> Summands<'a> {
    fn of(op: &PageChecksums<'a>) -> Self {
        let layout = &op.kv.layout;
        let (bytes, k_bytes) = (layout.page_bytes(), layout.half_bytes(KvHalf::K));
        Summands {
            data: &op.kv.data,
            total: op.kv.pages,
            bytes,
            k_bytes,
            pages: op.pages,
            count: op.count,
            out: op.out,
        }
    }
}

fn launch_beside(cuda: &Cuda, stream: &CopyStream, of: &Summands<'_>) -> Result<()> {
    let Some((params, grid)) = plan(cuda, of)? else { return Ok(()) };
    let kernel = cuda.gpu.kernel("page_checksum", "page_checksum")?;
    cuda.gpu.launch_beside(stream, &kernel, grid, THREADS, &params)
}

/// Parameters and grid, if there is something to do.
fn plan(cuda: &Cuda, of: &Summands<'_>) -> Result<Option<(PageChecksumParams, [u32; 3])>> {
    let whole = of.total.checked_mul(of.bytes).is_some_and(|all| all <= of.data.bytes());
    if !whole
        || !of.bytes.is_multiple_of(16)
        || !of.k_bytes.is_multiple_of(16)
        || of.pages.bytes() < 4 * of.count
        || of.out.bytes() < 16 * of.count
    {
        return Err(Error::Shape { op: "page checksums", message: format!("{of:?}") });
    }
    let params = PageChecksumParams {
        data: cuda.gpu.address(of.data)?,
        pages: cuda.gpu.address(of.pages)?,
        out: cuda.gpu.address(of.out)?,
        page_bytes: of.bytes as u64,
        k_bytes: of.k_bytes as u64,
    };
    Ok((of.count > 0).then_some((params, [2 * of.count as u32, 1, 1])))
}
