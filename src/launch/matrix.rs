//! Matrices on the device: repacked parts in one buffer.
use super::Cuda;
use super::repack::{self, Format, Repacked};
use crate::backend::{Buffer, Fuse, HostWeight, Weight};
use crate::error::{Error, Result};
use crate::params::MatrixParams;
use std::sync::Arc;

/// Most parts of a fused matrix: Q, K and V.
pub const MOST_PARTS: usize = 3;

/// Parts start at multiples of this, so that every plane's vectors are aligned.
const ALIGNMENT: usize = 256;

/// A fused matrix as the kernels see it.
pub struct Matrix {
    data: Buffer,
    /// One after another; an interleaved matrix is one part.
    pub parts: Vec<Part>,
}

/// Rows of one storage type.
pub struct Part {
    /// How they are stored.
    pub format: Format,
    /// Without padding.
    pub rows: usize,
    /// Of the fused matrix.
    pub first_row: usize,
    /// Of the planes in the buffer.
    offsets: [usize; 4],
}

/// Checks the parts against each other, repacks them and sends them to the device.
pub fn load(cuda: &Cuda, parts: &[HostWeight<'_>], fuse: Fuse) -> Result<Weight> {
    check(parts, fuse)?;
    let mut own = Vec::new();
    let mut packed: Vec<Repacked> = Vec::new();
    let (mut first_row, mut bytes) = (0, 0);
    let groups = match fuse {
        Fuse::Concat => parts.chunks(1),
        Fuse::Interleave => parts.chunks(2),
    };
    for group in groups {
        let (rows, matrix) = repack_rows(cuda, group)?;
        let offsets = matrix.offsets.map(|o| bytes + o);
        own.push(Part { format: repack::format(group[0].dtype), rows, first_row, offsets });
        first_row += rows;
        bytes = (bytes + matrix.bytes.len()).next_multiple_of(ALIGNMENT);
        packed.push(matrix);
    }
    let data = cuda.gpu.alloc(&parts[0].name, bytes)?;
    for (part, matrix) in own.iter().zip(packed) {
        cuda.gpu.upload(&data, part.offsets[0], &matrix.bytes)?;
    }
    Ok(Weight {
        parts: parts.iter().map(|p| (p.dtype, p.rows)).collect(),
        fuse,
        rows: first_row,
        cols: parts[0].cols,
        bytes,
        data: Arc::new(Matrix { data, parts: own }),
    })
}

/// Repacks the rows of one part, or those of two that alternate.
fn repack_rows(cuda: &Cuda, group: &[HostWeight<'_>]) -> Result<(usize, Repacked)> {
    let first = &group[0];
    let size = first.bytes.len() / first.rows;
    let rows = first.rows * group.len();
    let row = |r: usize| &group[r % group.len()].bytes[r / group.len() * size..][..size];
    let packed = repack::repack(first.dtype, cuda.float, rows, first.cols, row);
    let named = |e: Error| match e {
        Error::Unsupported(message) => Error::Unsupported(format!("{}: {message}", first.name)),
        other => other,
    };
    Ok((rows, packed.map_err(named)?))
}

fn check(parts: &[HostWeight<'_>], fuse: Fuse) -> Result<()> {
    let bad = |message: String| Err(Error::Shape { op: "load_weight", message });
    let Some(first) = parts.first() else { return bad("no parts".into()) };
    if parts.len() > MOST_PARTS {
        return bad(format!("{}: {} parts, kernels take {MOST_PARTS}", first.name, parts.len()));
    }
    for p in parts {
        let bytes = p.dtype.row_bytes(p.cols).and_then(|row| row.checked_mul(p.rows));
        let same = p.cols == first.cols && p.cols > 0 && p.rows > 0;
        if !same || bytes != Some(p.bytes.len()) {
            return bad(format!("{}: {} bytes for {} x {} {:?}", p.name, p.bytes.len(), p.rows, p.cols, p.dtype));
        }
        if !p.cols.is_multiple_of(8) {
            let message = format!("{}: {} columns; kernels take multiples of 8", p.name, p.cols);
            return Err(Error::Unsupported(message));
        }
        // Kernels finish four rows at a time; only the last part may end in between.
        if !p.rows.is_multiple_of(4) && parts.len() > 1 {
            let message = format!("{}: {} rows in a fused matrix; kernels take multiples of 4", p.name, p.rows);
            return Err(Error::Unsupported(message));
        }
    }
    let pair = matches!(parts, [a, b] if (a.rows, a.dtype) == (b.rows, b.dtype));
    if fuse == Fuse::Interleave && !pair {
        return bad(format!("{}: interleaving takes two matrices of one shape and type", first.name));
    }
    Ok(())
}

/// The backend's own side of a handle.
pub fn of(weight: &Weight) -> Result<&Matrix> {
    let foreign = || Error::Device("a weight of another backend was given to this one".into());
    weight.data.downcast_ref().ok_or_else(foreign)
}

impl Matrix {
    /// A part as kernels take it.
    pub fn params(&self, cuda: &Cuda, part: usize) -> Result<MatrixParams> {
        let Part { format, rows, offsets, .. } = &self.parts[part];
        let base = cuda.gpu.address(&self.data)?;
        let [quants, high, scales, supers] = offsets.map(|o| base + o as u64);
        Ok(MatrixParams { quants, high, scales, supers, rows: *rows as u32, type_: format.code })
    }
}
