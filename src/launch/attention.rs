//! Attention: decodes go to `attention_decode.cu`, split over the keys where that fills the device; the other sequences to
//! `attention_prefill.cu`.
use super::{Cuda, step};
use crate::backend::{Attention, BatchLimits, Buffer, Float, KvHalf, KvTypes};
use crate::device::{Gpu, GpuSpec};
use crate::error::{Error, Result};
use crate::params::{AttentionDecodeParams, AttentionPrefillParams};

/// Threads of a block of either kernel.
const THREADS: u32 = 128;
/// Query heads of a decode block (`kHeads`).
const DECODE_HEADS: usize = 8;
/// Fewest keys that are worth a decode block of their own.
const SPLIT_KEYS: usize = 256;
/// (token, head) rows of a prefill block (`kRows`).
const PREFILL_ROWS: usize = 64;
const HEAD_DIMS: [usize; 4] = [64, 96, 128, 256];

/// What shapes the launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Problem {
    float: Float,
    types: KvTypes,
    head_dim: usize,
    heads: usize,
    kv_heads: usize,
    decodes: usize,
    /// Most keys that a decode sees.
    decode_keys: usize,
    prefills: usize,
    /// Longest new part of a prefill.
    max_query: usize,
}

/// One kernel of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Config {
    entry: String,
    grid: [u32; 3],
    shared: u32,
}

/// Decode blocks that a device holds at once, by their registers.
fn resident_blocks(spec: &GpuSpec, head_dim: usize) -> usize {
    let per_sm = if matches!(head_dim, 64 | 128) { 3 } else { 2 };
    spec.sms as usize * per_sm
}

/// Blocks along y: head tiles of all KV heads.
fn head_tiles(heads: usize, kv_heads: usize) -> usize {
    kv_heads * (heads / kv_heads).div_ceil(DECODE_HEADS)
}

fn plan_decode(p: &Problem, spec: &GpuSpec) -> Option<Config> {
    if p.decodes == 0 {
        return None;
    }
    let tiles = p.decodes * head_tiles(p.heads, p.kv_heads);
    let resident = resident_blocks(spec, p.head_dim);
    // Full enough without splits: they would only add partial results.
    let splits = if tiles * 5 >= resident * 4 { 1 } else { (resident / tiles).min(p.decode_keys.div_ceil(SPLIT_KEYS)) };
    let grid = [splits.max(1) as u32, head_tiles(p.heads, p.kv_heads) as u32, p.decodes as u32];
    Some(Config { entry: entry("attention_decode", p), grid, shared: 0 })
}

fn plan_prefill(p: &Problem) -> Option<Config> {
    if p.prefills == 0 {
        return None;
    }
    let tiles = (p.max_query * (p.heads / p.kv_heads)).div_ceil(PREFILL_ROWS);
    let grid = [tiles as u32, p.kv_heads as u32, p.prefills as u32];
    Some(Config { entry: entry("attention_prefill", p), grid, shared: prefill_shared(p) })
}

/// Of K and of V two stages, or a tile and its codes; Q where it does not fit registers; where the runs of two tiles lie
/// (`Shared`).
fn prefill_shared(p: &Problem) -> u32 {
    let (keys, q) = if p.head_dim <= 128 { (64, 0) } else { (32, PREFILL_ROWS) };
    let tile = keys * p.head_dim * 2;
    let half = |half| tile + if p.types.of(half).is_quantised() { tile * 17 / 32 } else { tile };
    (half(KvHalf::K) + half(KvHalf::V) + q * p.head_dim * 2 + 2 * (keys / 8) * 8) as u32
}

fn entry(file: &str, p: &Problem) -> String {
    let float = match p.float {
        Float::F16 => "f16",
        Float::BF16 => "bf16",
    };
    // Codes with scales, or the compute type: K, then V.
    let [k, v] = KvHalf::BOTH.map(|half| if p.types.of(half).is_quantised() { 'c' } else { 'f' });
    format!("{file}_{k}{v}_{float}_d{}", p.head_dim)
}

/// What splits need: partial results and arrival counters.
pub struct Scratch {
    partials: Buffer,
    counters: Buffer,
}

impl Scratch {
    /// Bytes of the two buffers.
    fn sizes(spec: &GpuSpec, limits: &BatchLimits) -> (usize, usize) {
        let partial = DECODE_HEADS * (limits.head_dim + 2) * 4;
        let counters = limits.seqs * head_tiles(limits.heads, limits.kv_heads.max(1)) * 4;
        (resident_blocks(spec, limits.head_dim) * partial, counters)
    }

    /// Device memory that [`Scratch::new`] takes.
    pub fn bytes(spec: &GpuSpec, limits: &BatchLimits) -> usize {
        let (partials, counters) = Self::sizes(spec, limits);
        partials + counters
    }

    /// Allocates for batches up to `limits`.
    pub fn new(gpu: &Gpu, limits: &BatchLimits) -> Result<Self> {
        let (partials, counters) = Self::sizes(gpu.spec(), limits);
        Ok(Scratch {
            partials: gpu.alloc("attention partials", partials)?,
            counters: gpu.alloc("attention counters", counters)?,
        })
    }
}

/// Queues the launches of one layer.
pub fn run(cuda: &Cuda, op: &Attention<'_>) -> Result<()> {
    let problem = problem(cuda, op)?;
    let batch = step::batch(cuda, op.batch, op.group)?;
    let kv = step::kv(cuda, op.kv, op.layer)?;
    let (q, out) = (cuda.gpu.address(op.q)?, cuda.gpu.address(op.out)?);
    let window = op.window.map_or(u32::MAX, |w| w.min(u32::MAX as usize) as u32);
    let softcap = op.softcap.unwrap_or(0.0);
    if let Some(config) = plan_decode(&problem, cuda.gpu.spec()) {
        let scratch = cuda.scratch()?;
        let (partials, counters) =
            (cuda.gpu.address(&scratch.attention.partials)?, cuda.gpu.address(&scratch.attention.counters)?);
        let (heads, splits) = (op.heads as u32, config.grid[0]);
        let params = AttentionDecodeParams {
            batch,
            kv,
            q,
            out,
            partials,
            counters,
            heads,
            splits,
            window,
            scale: op.scale,
            softcap,
            pad: 0,
        };
        let kernel = cuda.gpu.kernel("attention_decode", &config.entry)?;
        cuda.gpu.launch(&kernel, config.grid, THREADS, config.shared, &params)?;
    }
    if let Some(config) = plan_prefill(&problem) {
        let params =
            AttentionPrefillParams { batch, kv, q, out, heads: op.heads as u32, window, scale: op.scale, softcap };
        let kernel = cuda.gpu.kernel("attention_prefill", &config.entry)?;
        cuda.gpu.launch(&kernel, config.grid, THREADS, config.shared, &params)?;
    }
    Ok(())
}

/// Checks the arguments and takes what the plans need.
fn problem(cuda: &Cuda, op: &Attention<'_>) -> Result<Problem> {
    let (layout, counts) = (&op.kv.layout, &op.batch.counts);
    let bad = |message: String| Err(Error::Shape { op: "attention", message });
    if !HEAD_DIMS.contains(&layout.head_dim) {
        let message = format!("attention kernels have head_dim {HEAD_DIMS:?}, the model has {}", layout.head_dim);
        return Err(Error::Unsupported(message));
    }
    if layout.kv_heads == 0 || op.heads == 0 || !op.heads.is_multiple_of(layout.kv_heads) {
        return bad(format!("{} heads over {} KV heads", op.heads, layout.kv_heads));
    }
    let bytes = counts.tokens * op.heads * layout.head_dim * cuda.float.bytes();
    if op.q.bytes() < bytes || op.out.bytes() < bytes {
        return bad(format!("q has {} bytes and out {}, {bytes} are needed", op.q.bytes(), op.out.bytes()));
    }
    if !(op.scale > 0.0 && op.softcap.is_none_or(|c| c > 0.0) && op.window != Some(0)) {
        return bad(format!("scale {}, soft cap {:?}, window {:?}", op.scale, op.softcap, op.window));
    }
    Ok(Problem {
        float: cuda.float,
        types: layout.types,
        head_dim: layout.head_dim,
        heads: op.heads,
        kv_heads: layout.kv_heads,
        decodes: counts.decodes,
        decode_keys: op.window.map_or(counts.max_decode_kv, |w| counts.max_decode_kv.min(w)),
        prefills: counts.seqs - counts.decodes,
        max_query: counts.max_query,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::KvType;

    const H100: GpuSpec =
        GpuSpec { name: String::new(), sms: 132, compute: (9, 0), shared_per_block: 232_448, l2_bytes: 50 << 20 };
    const SMOL: Problem = Problem {
        float: Float::F16,
        types: KvTypes::both(KvType::F16),
        head_dim: 64,
        heads: 9,
        kv_heads: 3,
        decodes: 1,
        decode_keys: 2000,
        prefills: 0,
        max_query: 0,
    };

    #[test]
    fn splits_fill_the_device_and_no_more() {
        let grid = |p: Problem| plan_decode(&p, &H100).map(|c| c.grid);
        assert_eq!(grid(SMOL), Some([8, 3, 1]));
        assert_eq!(grid(Problem { decode_keys: 1, ..SMOL }), Some([1, 3, 1]));
        assert_eq!(grid(Problem { decode_keys: 1 << 20, ..SMOL }), Some([132, 3, 1]));
        assert_eq!(grid(Problem { decodes: 110, ..SMOL }), Some([1, 3, 110]), "330 of 396 blocks are enough");
        assert_eq!(grid(Problem { decodes: 0, ..SMOL }), None);
        assert_eq!(grid(Problem { heads: 36, ..SMOL }), Some([8, 6, 1]), "12 heads of a group are two tiles");
    }

    #[test]
    fn partials_of_every_plan_fit_the_scratch() {
        for (decodes, decode_keys, heads) in [(1, 1 << 20, 9), (7, 5000, 36), (60, 90_000, 9), (131, 40_000, 3)] {
            let p = Problem { decodes, decode_keys, heads, ..SMOL };
            let grid = plan_decode(&p, &H100).unwrap().grid;
            let blocks: usize = grid.iter().map(|&n| n as usize).product();
            assert!(grid[0] == 1 || blocks <= resident_blocks(&H100, 64), "{p:?}: {grid:?}");
        }
    }

    #[test]
    fn prefill_tiles_pack_the_heads_of_a_group() {
        let p = Problem { decodes: 0, prefills: 2, max_query: 100, ..SMOL };
        let config = plan_prefill(&p).unwrap();
        assert_eq!((config.entry.as_str(), config.grid), ("attention_prefill_ff_f16_d64", [5, 3, 2]));
        // The smallest opt-in limit of sm_80 and newer is 99 KiB (sm_86, sm_89, sm_120).
        for head_dim in HEAD_DIMS {
            for types in [KvTypes::both(KvType::F16), KvTypes::both(KvType::Int8)] {
                assert!(prefill_shared(&Problem { head_dim, types, ..SMOL }) <= 99 << 10);
            }
        }
    }
}
