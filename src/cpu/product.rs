//! Matrix products: inputs and weights rounded to the compute type, sums in f64, results in f32.
//!
//! Invariant: an element is the same whatever the other tokens of the batch are. Its sum runs over four lanes (column c in
//! lane c % 4) that are added in one order; blocking only decides which elements are computed side by side. A product
//! of two values of the compute type is exact in f64, so a fused multiply-add gives the same bits as two operations.
use super::float::round;
use super::weight::CpuWeight;
use crate::backend::Float;
use rayon::prelude::*;

const LANES: usize = 4;
/// Weight rows that one task dequantises and multiplies with all tokens.
const ROWS: usize = 16;

/// Inputs of a product: `[tokens, cols]`, rounded, as f64 with rows padded to whole lanes.
pub struct Inputs {
    tokens: usize,
    stride: usize,
    values: Vec<f64>,
}

impl Inputs {
    /// Rounds `values` of `[tokens, cols]` to the compute type in place and takes them.
    pub fn new(float: Float, values: &mut [f32], cols: usize) -> Self {
        values.par_chunks_mut(cols).for_each(|row| round(float, row));
        let stride = cols.next_multiple_of(LANES);
        let tokens = values.len() / cols;
        let mut wide = vec![0.0; tokens * stride];
        wide.par_chunks_mut(stride).zip(values.par_chunks(cols)).for_each(|(wide, row)| {
            wide.iter_mut().zip(row).for_each(|(wide, x)| *wide = f64::from(*x));
        });
        Inputs { tokens, stride, values: wide }
    }

    fn token(&self, t: usize) -> &[f64] {
        &self.values[t * self.stride..][..self.stride]
    }
}

/// `inputs * weight^T`, stored as `[rows, tokens]`.
pub struct Product {
    tokens: usize,
    values: Vec<f32>,
}

impl Product {
    /// Element of a token.
    pub fn at(&self, token: usize, row: usize) -> f32 {
        self.values[row * self.tokens + token]
    }

    /// All rows of a token.
    pub fn token(&self, token: usize) -> impl Iterator<Item = f32> {
        self.values.iter().skip(token).step_by(self.tokens).copied()
    }
}

/// Multiplies all tokens with all rows.
pub fn multiply(float: Float, weight: &CpuWeight, inputs: &Inputs) -> Product {
    let tokens = inputs.tokens;
    let mut values = vec![0.0f32; weight.rows * tokens];
    let kernel = best_kernel();
    values.par_chunks_mut(ROWS * tokens.max(1)).enumerate().for_each(|(block, out)| {
        let rows = dequantised(float, weight, block * ROWS, out.len() / tokens, inputs.stride);
        kernel(&rows, inputs, out);
    });
    Product { tokens, values }
}

/// Rows `first..first + count`, rounded and padded.
fn dequantised(float: Float, weight: &CpuWeight, first: usize, count: usize, stride: usize) -> Vec<f64> {
    let mut rows = vec![0.0f64; count * stride];
    let mut row = vec![0.0f32; weight.cols];
    for (i, wide) in rows.chunks_exact_mut(stride).enumerate() {
        weight.rounded_row(first + i, float, &mut row);
        wide.iter_mut().zip(&row).for_each(|(wide, x)| *wide = f64::from(*x));
    }
    rows
}

type Kernel = fn(&[f64], &Inputs, &mut [f32]);

/// The widest version that this machine runs; all give the same bits.
fn best_kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the features were just detected.
        return |rows, inputs, out| unsafe { block_avx2(rows, inputs, out) };
    }
    block::<false>
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn block_avx2(rows: &[f64], inputs: &Inputs, out: &mut [f32]) {
    block::<true>(rows, inputs, out);
}

/// `out[row][token]` of a block of rows.
#[inline(always)]
fn block<const FMA: bool>(rows: &[f64], inputs: &Inputs, out: &mut [f32]) {
    let (tokens, stride) = (inputs.tokens, inputs.stride);
    let row = |r: usize| &rows[r * stride..][..stride];
    let count = rows.len() / stride;
    let mut t = 0;
    while t < tokens {
        let wide = tokens - t >= 4;
        for r in (0..count).step_by(2) {
            // An odd row out is computed twice: simpler than a third shape.
            let pair = [row(r), row((r + 1).min(count - 1))];
            let at = |i: usize, j: usize| (r + i).min(count - 1) * tokens + t + j;
            if wide {
                let four = [0, 1, 2, 3].map(|j| inputs.token(t + j));
                let sums = dots::<2, 4, FMA>(pair, four);
                (0..2).for_each(|i| (0..4).for_each(|j| out[at(i, j)] = sums[i][j]));
            } else {
                let sums = dots::<2, 1, FMA>(pair, [inputs.token(t)]);
                (0..2).for_each(|i| out[at(i, 0)] = sums[i][0]);
            }
        }
        t += if wide { 4 } else { 1 };
    }
}

/// All dot products of `R` rows with `T` tokens.
#[inline(always)]
fn dots<const R: usize, const T: usize, const FMA: bool>(w: [&[f64]; R], x: [&[f64]; T]) -> [[f32; T]; R] {
    let mut sums = [[[0.0f64; LANES]; T]; R];
    let w = w.map(|row| row.as_chunks::<LANES>().0);
    let x = x.map(|token| token.as_chunks::<LANES>().0);
    let chunks = w[0].len();
    // Equal lengths, told to the optimiser once.
    let (w, x) = (w.map(|v| &v[..chunks]), x.map(|v| &v[..chunks]));
    for c in 0..chunks {
        for i in 0..R {
            for j in 0..T {
                for lane in 0..LANES {
                    let (a, b, sum) = (w[i][c][lane], x[j][c][lane], &mut sums[i][j][lane]);
                    *sum = if FMA { a.mul_add(b, *sum) } else { *sum + a * b };
                }
            }
        }
    }
    sums.map(|row| row.map(|s| ((s[0] + s[1]) + (s[2] + s[3])) as f32))
}
