//! Weights from the file's order into the order that `kernels/weights.cuh` reads, without a byte more.
//!
//! Tiles of 16 rows x 64 columns, tile-row by tile-row. Lane `4g + t` of a tile holds, for step s, register j and half h,
//! the weight at row `2g + (j & 1)`, column `16 s + 8 (j >> 1) + 2t + h`: the A operands of four m16n8k16 products. Rows and
//! columns that do not fill a tile are padded with zero weights. F32, F16 and BF16 become the compute type, to which
//! operations would round them anyway.
mod planes;

use crate::backend::{DType, Float};
use crate::error::{Error, Result};
use crate::params::WeightType;
use planes::Source;
use rayon::prelude::*;

/// Rows and columns of a tile.
pub const TILE: (usize, usize) = (16, 64);

/// How a type is stored on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Part of the kernels' names.
    pub name: &'static str,
    /// `WeightType` of params.h.
    pub code: u32,
    /// Bytes of a tile in the planes quants, high, scales, and bytes of four tiles in the plane supers.
    pub planes: [usize; 4],
}

/// The device format of a file type.
pub fn format(dtype: DType) -> Format {
    let (name, code, planes) = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => ("float", WeightType::kFloat, [2048, 0, 0, 0]),
        DType::Q8_0 => ("q8_0", WeightType::kQ8_0, [1024, 0, 64, 0]),
        DType::Q4_0 => ("q4_0", WeightType::kQ4_0, [512, 0, 64, 0]),
        DType::Q4_1 => ("q4_1", WeightType::kQ4_1, [512, 0, 128, 0]),
        DType::Q5_0 => ("q5_0", WeightType::kQ5_0, [512, 128, 64, 0]),
        DType::Q4_K => ("q4_k", WeightType::kQ4_K, [512, 0, 0, 256]),
        DType::Q6_K => ("q6_k", WeightType::kQ6_K, [512, 256, 64, 32]),
    };
    Format { name, code, planes }
}

/// A repacked matrix: its planes one after another.
#[derive(Debug)]
pub struct Repacked {
    /// All planes.
    pub bytes: Vec<u8>,
    /// Where each plane begins, a multiple of 16.
    pub offsets: [usize; 4],
}

/// Repacks a matrix whose row r is `row(r)`, whole blocks of `dtype`.
///
/// # Errors
/// [`Error::Unsupported`] if a float weight does not fit f16 where that is the compute type.
pub fn repack<'a>(
    dtype: DType,
    float: Float,
    rows: usize,
    cols: usize,
    row: impl Fn(usize) -> &'a [u8] + Sync,
) -> Result<Repacked> {
    let tile_rows = rows.div_ceil(TILE.0);
    let across = cols.div_ceil(TILE.1);
    let planes = format(dtype).planes;
    // Superblocks span four tiles; types that have them come in whole superblocks.
    let row_bytes = [planes[0] * across, planes[1] * across, planes[2] * across, planes[3] * across / 4];
    let mut offsets = [0; 4];
    for i in 1..4 {
        offsets[i] = offsets[i - 1] + row_bytes[i - 1] * tile_rows;
    }
    let mut bytes = vec![0u8; offsets[3] + row_bytes[3] * tile_rows];
    let mut rest = bytes.as_mut_slice();
    let mut fits = true;
    for (plane, &size) in row_bytes.iter().enumerate().filter(|(_, size)| **size > 0) {
        let (this, after) = rest.split_at_mut(size * tile_rows);
        rest = after;
        let all_fit = this.par_chunks_mut(size).enumerate().map(|(tile_row, out)| {
            let tile: [&[u8]; 16] = std::array::from_fn(|i| {
                let r = tile_row * TILE.0 + i;
                if r < rows { row(r) } else { &[] }
            });
            planes::fill(plane, &Source { dtype, float, rows: tile }, out)
        });
        fits &= all_fit.reduce(|| true, |a, b| a && b);
    }
    if !fits {
        return Err(Error::Unsupported("a weight is too large for f16; run again with --dtype bf16".into()));
    }
    Ok(Repacked { bytes, offsets })
}

#[cfg(test)]
mod tests;
