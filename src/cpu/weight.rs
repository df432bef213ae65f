//! Weights as the file stores them; rows are dequantised when an operation reads them.
use super::float::round;
use crate::backend::{DType, Float, Fuse, HostWeight, Weight};
use crate::error::{Error, Result};
use crate::quant::dequantise;
use std::sync::Arc;

/// The parts of a fused matrix.
pub struct CpuWeight {
    parts: Vec<Part>,
    fuse: Fuse,
    /// Inputs.
    pub cols: usize,
    /// Rows of all parts.
    pub rows: usize,
}

struct Part {
    dtype: DType,
    rows: usize,
    row_bytes: usize,
    bytes: Vec<u8>,
}

/// Checks the parts against each other and copies their bytes.
pub fn load(parts: &[HostWeight<'_>], fuse: Fuse) -> Result<Weight> {
    let bad = |message: String| Error::Shape { op: "load_weight", message };
    let first = parts.first().ok_or_else(|| bad("no parts".into()))?;
    let cols = first.cols;
    let mut own = Vec::new();
    for p in parts {
        let row_bytes = p.dtype.row_bytes(p.cols).filter(|_| p.cols == cols);
        let row_bytes = row_bytes.ok_or_else(|| bad(format!("{}: {} x {} {:?}", p.name, p.rows, p.cols, p.dtype)))?;
        if p.rows == 0 || p.rows.checked_mul(row_bytes) != Some(p.bytes.len()) {
            return Err(bad(format!("{}: {} bytes for {} x {} {:?}", p.name, p.bytes.len(), p.rows, cols, p.dtype)));
        }
        own.push(Part { dtype: p.dtype, rows: p.rows, row_bytes, bytes: p.bytes.to_vec() });
    }
    let pair = matches!(parts, [a, b] if (a.rows, a.dtype) == (b.rows, b.dtype));
    if fuse == Fuse::Interleave && !pair {
        return Err(bad(format!("{}: interleaving takes two matrices of one shape and type", first.name)));
    }
    let rows = parts.iter().map(|p| p.rows).sum();
    Ok(Weight {
        parts: parts.iter().map(|p| (p.dtype, p.rows)).collect(),
        fuse,
        rows,
        cols,
        bytes: own.iter().map(|p| p.bytes.len()).sum(),
        data: Arc::new(CpuWeight { parts: own, fuse, cols, rows }),
    })
}

/// The backend's own side of a handle.
pub fn of(weight: &Weight) -> Result<&CpuWeight> {
    let foreign = || Error::Device("a weight of another backend was given to the cpu backend".into());
    weight.data.downcast_ref().ok_or_else(foreign)
}

impl CpuWeight {
    /// One row as f32, exactly as stored.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let (part, row) = self.locate(row);
        dequantise(part.dtype, &part.bytes[row * part.row_bytes..][..part.row_bytes], out);
    }

    /// One row rounded to the compute type.
    pub fn rounded_row(&self, row: usize, float: Float, out: &mut [f32]) {
        self.row(row, out);
        round(float, out);
    }

    fn locate(&self, row: usize) -> (&Part, usize) {
        if self.fuse == Fuse::Interleave {
            return (&self.parts[row % 2], row / 2);
        }
        let mut row = row;
        let mut part = &self.parts[0];
        for next in &self.parts[1..] {
            if row < part.rows {
                break;
            }
            row -= part.rows;
            part = next;
        }
        (part, row)
    }
}
