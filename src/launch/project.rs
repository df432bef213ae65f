//! Projections: `gemv.cuh` where the rows are few and fit shared memory, else a norm and `gemm.cu`.
use super::matrix::{MOST_PARTS, Matrix, Part};
use super::{Cuda, matrix, repack};
use crate::backend::{BatchLimits, Buffer, Float, PostNorm, Weight};
use crate::device::{Gpu, GpuSpec};
use crate::error::{Error, Result};
use crate::params::{
    Epilogue, EpilogueParams, GemmParams, GemvParams, KvType, NormRowsParams, PostNormParams, RowsParams,
};

/// Most rows of x that `gemv.cuh` takes (`kTokens`).
const GEMV_TOKENS: usize = 8;
/// Most warps of its blocks (`kMostWarps`).
const GEMV_WARPS: usize = 8;
/// Shared memory of one warp's sums, twice (`kWarpSums`).
const GEMV_WARP_BYTES: usize = 2 * GEMV_TOKENS * 20 * 4;
/// Blocks of it that an SM holds at once.
const GEMV_BLOCKS_PER_SM: usize = 2;
/// Threads of `norm_rows.cu` and `post_norm.cu`: a warp for each row.
const NORM_THREADS: usize = 256;

/// Name of the compute type in entries.
pub fn suffix(float: Float) -> &'static str {
    match float {
        Float::F16 => "f16",
        Float::BF16 => "bf16",
    }
}

/// A projection and what follows it.
pub struct Projection<'a> {
    /// Operation, for errors; also the file and the start of the entry of the kernel for few rows.
    pub op: &'static str,
    /// Matrix.
    pub weight: &'a Weight,
    /// Input.
    pub rows: RowsParams,
    /// Output; addresses and widths set by the operation, `sums` by the launch.
    pub out: EpilogueParams,
    /// Its kind.
    pub epilogue: Epilogue::Type,
    /// Gemma's second norm.
    pub post_norm: Option<PostNorm<'a>>,
}

/// What shapes the launch for few rows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    tokens: usize,
    cols: usize,
    /// Rows of each part.
    rows: Vec<usize>,
    /// Tile-rows are finished by twos.
    pairs: bool,
}

/// Launch of `gemv.cuh`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gemv {
    warps: usize,
    tiles_per_block: usize,
    /// First block of each part, then the number of blocks; repeated for parts that are not there.
    first_block: [u32; MOST_PARTS + 1],
    shared: usize,
}

/// `None` where x does not fit, or has too many rows.
fn plan_gemv(p: &Problem, spec: &GpuSpec) -> Option<Gemv> {
    let across = p.cols.div_ceil(repack::TILE.1);
    let warps = split_columns(across);
    let shared = p.tokens * across * 128 + warps * GEMV_WARP_BYTES;
    let share = spec.shared_per_block as usize / GEMV_BLOCKS_PER_SM;
    if p.tokens > GEMV_TOKENS || shared > if p.tokens == 1 { spec.shared_per_block as usize } else { share } {
        return None;
    }
    let tile_rows: Vec<usize> = p.rows.iter().map(|r| r.div_ceil(repack::TILE.0)).collect();
    let resident = spec.sms as usize * GEMV_BLOCKS_PER_SM;
    let tiles = tile_rows.iter().sum::<usize>();
    // Two blocks an SM, but no block of a single tile-row where one an SM is enough: each normalises x for itself.
    let tiles_per_block = tiles.div_ceil(resident).max(tiles.div_ceil(spec.sms as usize).min(2)).max(1);
    let tiles_per_block = if p.pairs { tiles_per_block.next_multiple_of(2) } else { tiles_per_block };
    let mut first_block = [0; MOST_PARTS + 1];
    for i in 0..MOST_PARTS {
        let blocks = tile_rows.get(i).map_or(0, |t| t.div_ceil(tiles_per_block));
        first_block[i + 1] = first_block[i] + blocks as u32;
    }
    Some(Gemv { warps, tiles_per_block, first_block, shared })
}

/// Warps that share the column tiles of a block: the most even split, more warps of two as even.
fn split_columns(across: usize) -> usize {
    let idle = |warps: usize| (across.div_ceil(warps) * warps - across) * 100 / across;
    (3..=GEMV_WARPS).rev().filter(|&w| w <= across).min_by_key(|&w| idle(w)).unwrap_or(across)
}

/// A shape of `gemm.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gemm {
    name: &'static str,
    rows: usize,
    tokens: usize,
    threads: u32,
}

/// Shared memory of either shape: three stages.
const GEMM_SHARED: u32 = 3 * 128 * 128;
const NARROW: Gemm = Gemm { name: "n32", rows: 32, tokens: 32, threads: 256 };
const WIDE: Gemm = Gemm { name: "n128", rows: 128, tokens: 128, threads: 128 };

fn plan_gemm(tokens: usize) -> Gemm {
    if tokens <= NARROW.tokens { NARROW } else { WIDE }
}

/// What projections share between launches.
pub struct Scratch {
    /// Compute type `[rows, width]`: normed x.
    normed: Buffer,
    /// f32 `[T, width]`: sums before a post-norm.
    sums: Buffer,
    /// u32: blocks that have arrived at a post-norm.
    counter: Buffer,
    /// Compute type `[T, kv_heads * head_dim]`: K as projected.
    pub k: Buffer,
    /// The same for V.
    pub v: Buffer,
}

impl Scratch {
    /// Bytes of normed, sums, k and v.
    fn sizes(limits: &BatchLimits) -> [usize; 4] {
        let normed = limits.tokens.max(limits.logit_rows) * limits.width * 2;
        let kv = limits.tokens * limits.kv_heads * limits.head_dim * 2;
        [normed, limits.tokens * limits.width * 4, kv, kv]
    }

    /// Device memory that [`Scratch::new`] takes.
    pub fn bytes(limits: &BatchLimits) -> usize {
        Self::sizes(limits).iter().sum::<usize>() + 4
    }

    /// Allocates for batches up to `limits`.
    pub fn new(gpu: &Gpu, limits: &BatchLimits) -> Result<Self> {
        let [normed, sums, k, v] = Self::sizes(limits);
        Ok(Scratch {
            normed: gpu.alloc("normed rows", normed)?,
            sums: gpu.alloc("sums before a post-norm", sums)?,
            counter: gpu.alloc("post-norm counter", 4)?,
            k: gpu.alloc("projected K", k)?,
            v: gpu.alloc("projected V", v)?,
        })
    }
}

/// Address of a buffer that must have room.
pub fn address(cuda: &Cuda, op: &'static str, what: &str, buffer: &Buffer, bytes: usize) -> Result<u64> {
    if buffer.bytes() < bytes {
        let message = format!("{what} has {} bytes, {bytes} are needed", buffer.bytes());
        return Err(Error::Shape { op, message });
    }
    cuda.gpu.address(buffer)
}

/// Queues a projection.
pub fn run(cuda: &Cuda, mut p: Projection<'_>) -> Result<()> {
    let matrix = matrix::of(p.weight)?;
    if p.rows.tokens == 0 {
        return Ok(());
    }
    if p.post_norm.is_some() {
        let bytes = p.rows.tokens as usize * p.weight.rows * 4;
        p.out.sums = address(cuda, p.op, "scratch for sums", &cuda.scratch()?.project.sums, bytes)?;
    }
    let rows = matrix.parts.iter().map(|part| part.rows).collect();
    let problem = Problem { tokens: p.rows.tokens as usize, cols: p.weight.cols, rows, pairs: to_codes(&p.out) };
    match plan_gemv(&problem, cuda.gpu.spec()) {
        Some(config) => run_gemv(cuda, &p, matrix, &config),
        None => run_gemm(cuda, &p, matrix),
    }
}

/// Whether K or V goes to pages of codes, 32 rows of which share a scale. Heads are multiples of those, so parts are of pairs
/// of tile-rows.
fn to_codes(out: &EpilogueParams) -> bool {
    out.k == 0 && out.kv.type_.iter().any(|&kind| kind != KvType::kKvFloat)
}

fn run_gemv(cuda: &Cuda, p: &Projection<'_>, matrix: &Matrix, config: &Gemv) -> Result<()> {
    let mut params = GemvParams {
        rows: p.rows,
        out: p.out,
        first_block: config.first_block,
        tiles_per_block: config.tiles_per_block as u32,
        pairs: to_codes(&p.out).into(),
        ..GemvParams::default()
    };
    for (i, part) in matrix.parts.iter().enumerate() {
        params.part[i] = matrix.params(cuda, i)?;
        params.first_row[i] = part.first_row as u32;
    }
    if let Some(norm) = &p.post_norm {
        params.post_norm = cuda.gpu.address(norm.weight)?;
        params.post_counter = cuda.gpu.address(&cuda.scratch()?.project.counter)?;
        params.post_eps = norm.eps;
    }
    // Q, K and V may differ in type, so their kernel has all types.
    let float = suffix(cuda.float);
    let entry = match p.epilogue {
        Epilogue::kQkv => format!("{}_{float}", p.op),
        _ => format!("{}_{}_{float}", p.op, matrix.parts[0].format.name),
    };
    let kernel = cuda.gpu.kernel(p.op, &entry)?;
    let grid = [config.first_block[MOST_PARTS], 1, 1];
    cuda.gpu.launch(&kernel, grid, 32 * config.warps as u32, config.shared as u32, &params)
}

fn run_gemm(cuda: &Cuda, p: &Projection<'_>, matrix: &Matrix) -> Result<()> {
    let x = if p.rows.norm != 0 { norm_rows(cuda, p)? } else { p.rows.x };
    let tokens = p.rows.tokens as usize;
    for (i, part) in matrix.parts.iter().enumerate() {
        launch_gemm(cuda, p, matrix, (i, part), x, plan_gemm(tokens))?;
    }
    match &p.post_norm {
        Some(norm) => post_norm(cuda, p, norm),
        None => Ok(()),
    }
}

fn launch_gemm(
    cuda: &Cuda,
    p: &Projection<'_>,
    matrix: &Matrix,
    (index, part): (usize, &Part),
    x: u64,
    shape: Gemm,
) -> Result<()> {
    let params = GemmParams {
        part: matrix.params(cuda, index)?,
        out: p.out,
        x,
        tokens: p.rows.tokens,
        cols: p.rows.cols,
        first_row: part.first_row as u32,
        epilogue: p.epilogue,
    };
    let entry = format!("gemm_{}_{}_{}", part.format.name, suffix(cuda.float), shape.name);
    let kernel = cuda.gpu.kernel("gemm", &entry)?;
    let blocks = |n: usize, of: usize| n.div_ceil(of) as u32;
    let grid = [blocks(part.rows, shape.rows), blocks(p.rows.tokens as usize, shape.tokens), 1];
    cuda.gpu.launch(&kernel, grid, shape.threads, GEMM_SHARED, &params)
}

/// Blocks of a kernel that gives each row a warp.
fn row_blocks(rows: u32) -> [u32; 3] {
    [rows.div_ceil(NORM_THREADS as u32 / 32), 1, 1]
}

fn norm_rows(cuda: &Cuda, p: &Projection<'_>) -> Result<u64> {
    let bytes = p.rows.tokens as usize * p.rows.cols as usize * 2;
    let out = address(cuda, p.op, "scratch for normed rows", &cuda.scratch()?.project.normed, bytes)?;
    let (status, status_code) = (p.out.status, p.out.status_code);
    let params = NormRowsParams { rows: p.rows, out, status, status_code, pad: 0 };
    let kernel = cuda.gpu.kernel("norm_rows", &format!("norm_rows_{}", suffix(cuda.float)))?;
    cuda.gpu.launch(&kernel, row_blocks(p.rows.tokens), NORM_THREADS as u32, 0, &params)?;
    Ok(out)
}

fn post_norm(cuda: &Cuda, p: &Projection<'_>, norm: &PostNorm<'_>) -> Result<()> {
    let params = PostNormParams {
        sums: p.out.sums,
        x: p.out.out,
        norm: cuda.gpu.address(norm.weight)?,
        tokens: p.rows.tokens,
        cols: p.out.out_width,
        eps: norm.eps,
        pad: 0,
    };
    let kernel = cuda.gpu.kernel("post_norm", "post_norm")?;
    cuda.gpu.launch(&kernel, row_blocks(p.rows.tokens), NORM_THREADS as u32, 0, &params)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: GpuSpec =
        GpuSpec { name: String::new(), sms: 132, compute: (9, 0), shared_per_block: 232_448, l2_bytes: 50 << 20 };

    fn plan(tokens: usize, cols: usize, rows: &[usize]) -> Option<Gemv> {
        plan_gemv(&Problem { tokens, cols, rows: rows.to_vec(), pairs: false }, &H100)
    }

    #[test]
    fn columns_are_split_evenly() {
        let cases = [(1, 1), (2, 2), (8, 8), (9, 3), (10, 5), (16, 8), (24, 8), (64, 8), (112, 8), (7, 7), (11, 6)];
        for (across, warps) in cases {
            assert_eq!(split_columns(across), warps, "{across} tiles");
        }
    }

    #[test]
    fn few_rows_fill_the_device_in_one_wave() {
        let qkv = plan(1, 576, &[576, 192, 192]).unwrap();
        assert_eq!((qkv.tiles_per_block, qkv.first_block), (1, [0, 36, 48, 60]));
        let pairs = Problem { tokens: 1, cols: 576, rows: vec![576, 192, 192], pairs: true };
        assert_eq!(plan_gemv(&pairs, &H100).map(|p| (p.tiles_per_block, p.first_block)), Some((2, [0, 18, 24, 30])));
        let head = plan(1, 640, &[262_144]).unwrap();
        assert_eq!(head.tiles_per_block, 63);
        assert!(head.first_block[1] <= 264 && head.first_block[1] * 63 * 16 >= 262_144, "{head:?}");
    }

    #[test]
    fn rows_that_do_not_fit_take_the_other_way() {
        assert!(plan(8, 4096, &[4096]).is_some());
        assert!(plan(9, 64, &[64]).is_none());
        assert!(plan(8, 14_336, &[4096]).is_none());
        assert!(plan(1, 28_672, &[8192]).is_some());
        assert_eq!((plan_gemm(9), plan_gemm(33)), (NARROW, WIDE));
    }
}
