//! Half pages into packed halves and back: `page_pack.cu`, a block for what a head of a layer has in a page.
use super::Cuda;
use crate::backend::{Buffer, Float, KvGroup, KvHalf, Packing};
use crate::device::CopyStream;
use crate::error::{Error, Result};
use crate::params::{KvType, PagePackParams};

/// Largest block.
const THREADS: usize = 256;

/// One of the halves of pages of one group, and where they are when they are packed.
pub struct PagePack<'a> {
    /// The pages.
    pub kv: &'a KvGroup,
    pub half: KvHalf,
    /// Not exact.
    pub packing: Packing,
    /// u32 `[count]`.
    pub pages: &'a Buffer,
    pub count: usize,
    /// `[count]` packed halves.
    pub packed: &'a Buffer,
    /// f32 `[count, layers, kv_heads, 2]`: sums of squares of the errors and of the values.
    pub losses: &'a Buffer,
}

/// Bytes of the losses of one half.
pub fn loss_bytes(layers: usize, kv_heads: usize) -> usize {
    8 * layers * kv_heads
}

/// Queues packing on a stream.
pub fn pack(cuda: &Cuda, stream: &CopyStream, op: &PagePack<'_>) -> Result<()> {
    launch(cuda, stream, op, "pack")
}

/// Queues unpacking on a stream; writes no losses.
pub fn unpack(cuda: &Cuda, stream: &CopyStream, op: &PagePack<'_>) -> Result<()> {
    launch(cuda, stream, op, "unpack")
}

fn launch(cuda: &Cuda, stream: &CopyStream, op: &PagePack<'_>, direction: &str) -> Result<()> {
    let Plan { variant, kind, grid, block } = plan(op)?;
    let l = &op.kv.layout;
    let params = PagePackParams {
        data: cuda.gpu.address(&op.kv.data)? + l.half_offset(op.half) as u64,
        pages: cuda.gpu.address(op.pages)?,
        packed: cuda.gpu.address(op.packed)?,
        losses: cuda.gpu.address(op.losses)?,
        page_bytes: l.page_bytes() as u64,
        head_bytes: l.head_bytes(op.half) as u32,
        packed_bytes: l.packed_head_bytes(op.half, op.packing) as u32,
        heads: grid[0],
        head_dim: l.head_dim as u32,
        page_tokens: l.page_tokens as u32,
        type_: kind,
    };
    let float = match cuda.float {
        Float::F16 => "f16",
        Float::BF16 => "bf16",
    };
    let kernel = cuda.gpu.kernel("page_pack", &format!("page_{direction}_{variant}_{float}"))?;
    cuda.gpu.launch_beside(stream, &kernel, grid, block, &params)
}

/// What is launched.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    variant: &'static str,
    kind: u32,
    grid: [u32; 3],
    block: u32,
}

fn plan(op: &PagePack<'_>) -> Result<Plan> {
    let l = &op.kv.layout;
    op.packing.check(l, op.half)?;
    let (heads, threads_of_vectors) = (l.layers * l.kv_heads, (l.page_tokens * l.head_dim / 8).min(THREADS));
    let (variant, kind, threads) = match (op.packing, op.half) {
        (Packing::Int8, _) => ("codes", KvType::kKvInt8, threads_of_vectors),
        (Packing::Fp8, _) => ("codes", KvType::kKvFp8, threads_of_vectors),
        (Packing::Int4, KvHalf::K) => ("k4", KvType::kKvFloat, l.head_dim / 2),
        (Packing::Int4, KvHalf::V) => ("v4", KvType::kKvFloat, threads_of_vectors),
        (Packing::Exact, _) => return Err(shape(op)),
    };
    let fits = [8, 16, 32].contains(&l.page_tokens)
        && threads <= THREADS
        && op.pages.bytes() >= 4 * op.count
        && op.packed.bytes() >= op.count * l.packed_half_bytes(op.half, op.packing)
        && op.losses.bytes() >= op.count * loss_bytes(l.layers, l.kv_heads)
        && op.count <= u16::MAX as usize
        && op.kv.pages.checked_mul(l.page_bytes()).is_some_and(|all| all <= op.kv.data.bytes());
    // Whole warps, for sums over them.
    let block = (threads as u32).next_multiple_of(32);
    if fits { Ok(Plan { variant, kind, grid: [heads as u32, op.count as u32, 1], block }) } else { Err(shape(op)) }
}

fn shape(op: &PagePack<'_>) -> Error {
    let message = format!("{} pages of {:?} {:?} into {}", op.count, op.kv.layout, op.half, op.packing);
    Error::Shape { op: "page packing", message }
}
