//! A tensor as it lies in a file.
use crate::backend::DType;
use crate::quant::dequantise;
use std::ops::Range;

/// Where a tensor is; the range is checked against the file when the file is opened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorEntry {
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

impl TensorEntry {
    /// Bytes of a tensor; `None` if a dimension is 0, rows are not whole blocks, or the size overflows.
    pub fn bytes(dtype: DType, shape: &[usize]) -> Option<usize> {
        let (&cols, outer) = shape.split_last()?;
        let row = dtype.row_bytes(cols).filter(|&n| n > 0)?;
        outer.iter().try_fold(row, |bytes, &n| if n == 0 { None } else { bytes.checked_mul(n) })
    }

    pub fn view<'a>(&'a self, name: &'a str, data: &'a [u8]) -> Tensor<'a> {
        Tensor { name, dtype: self.dtype, shape: &self.shape, bytes: &data[self.range.clone()] }
    }
}

/// A tensor of an opened file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// As the file names it.
    pub name: &'a str,
    /// Storage type.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: &'a [usize],
    /// Row-major.
    pub bytes: &'a [u8],
}

impl Tensor<'_> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// All elements as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.elements()];
        dequantise(self.dtype, self.bytes, &mut out);
        out
    }
}
