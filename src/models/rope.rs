//! Rotary position embedding: frequencies, their scalings, and the cos/sin table of a device.
//!
//! Kernels rotate adjacent pairs; checkpoints that pair element i with i + dims / 2 ("half-split") are permuted here.
use crate::backend::{Backend, Rope};
use crate::error::Result;

/// How frequencies are stretched for long contexts.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum RopeScaling {
    None,
    /// All frequencies divided by this.
    Linear(f64),
    /// Llama 3: wavelengths above `original / low` are stretched by `factor`, below `original / high` kept, blended between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// One divisor per frequency (GGUF's `rope_freqs`).
    Factors(Vec<f32>),
}

/// RoPE of a group of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// theta.
    pub base: f64,
    /// Rotated elements of a head.
    pub dims: usize,
    /// Stretching.
    pub scaling: RopeScaling,
}

impl RopeSpec {
    pub(super) fn check(&self, head_dim: usize) -> Result<(), String> {
        if self.dims == 0 || !self.dims.is_multiple_of(2) || self.dims > head_dim {
            return Err(format!("RoPE over {} elements of a head of {head_dim}", self.dims));
        }
        if !(self.base.is_finite() && self.base > 1.0) {
            return Err(format!("a RoPE base of {}", self.base));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let sound = match &self.scaling {
            RopeScaling::None => true,
            RopeScaling::Linear(factor) => positive(*factor),
            RopeScaling::Llama3 { factor, low, high, original } => {
                [*factor, *low, *high, *original].into_iter().all(positive) && low < high
            }
            RopeScaling::Factors(f) => f.len() == self.dims / 2 && f.iter().all(|&x| positive(x.into())),
        };
        if sound { Ok(()) } else { Err(format!("RoPE scaling {:?} over {} elements", self.scaling, self.dims)) }
    }

    /// Radians per position of each pair.
    pub fn frequencies(&self) -> Vec<f64> {
        let pair = |i: usize| self.base.powf(-2.0 * i as f64 / self.dims as f64);
        (0..self.dims / 2).map(|i| self.scale(i, pair(i))).collect()
    }

    fn scale(&self, i: usize, frequency: f64) -> f64 {
        match &self.scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear(factor) => frequency / factor,
            RopeScaling::Factors(factors) => frequency / f64::from(factors[i]),
            RopeScaling::Llama3 { factor, low, high, original } => {
                let turns = original * frequency / std::f64::consts::TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
        }
    }

    /// Bytes of the table.
    pub fn table_bytes(&self, positions: usize) -> usize {
        positions * self.dims * 4
    }

    /// The table on a device: f32 `[positions, dims / 2, 2]`.
    pub(super) fn upload(&self, backend: &dyn Backend, positions: usize) -> Result<Rope> {
        let table = backend.alloc("RoPE table", self.table_bytes(positions))?;
        let frequencies = self.frequencies();
        // In pieces, so that a long context costs no host memory.
        const PIECE: usize = 1024;
        for first in (0..positions).step_by(PIECE) {
            let mut piece = Vec::with_capacity(PIECE * self.dims);
            for position in first..(first + PIECE).min(positions) {
                for frequency in &frequencies {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    piece.extend([cos as f32, sin as f32]);
                }
            }
            backend.upload(&table, self.table_bytes(first), bytemuck::cast_slice(&piece))?;
        }
        Ok(Rope { table, dims: self.dims, positions })
    }
}

/// Source row of each row when half-split heads become adjacent pairs.
pub(super) fn adjacent_pairs(rows: usize, head_dim: usize, dims: usize) -> impl Iterator<Item = usize> {
    (0..rows).map(move |row| {
        let (head, at) = (row / head_dim * head_dim, row % head_dim);
        if at < dims { head + at / 2 + at % 2 * (dims / 2) } else { row }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_pairs_halves() {
        let order: Vec<usize> = adjacent_pairs(16, 8, 6).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 7, 8, 11, 9, 12, 10, 13, 14, 15]);
    }

    /// The figures of Llama 3.1: wavelengths are kept below 2048 tokens and stretched 8-fold above 8192.
    #[test]
    fn llama3_scaling() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let plain = RopeSpec { base: 500_000.0, dims: 128, scaling: RopeScaling::None };
        let scaled = RopeSpec { scaling, ..plain.clone() };
        for (i, (a, b)) in plain.frequencies().into_iter().zip(scaled.frequencies()).enumerate() {
            let wavelength = std::f64::consts::TAU / a;
            let ratio = a / b;
            match wavelength {
                w if w < 2048.0 => assert!((ratio - 1.0).abs() < 1e-12, "pair {i}: {ratio}"),
                w if w > 8192.0 => assert!((ratio - 8.0).abs() < 1e-12, "pair {i}: {ratio}"),
                _ => assert!((1.0..=8.0).contains(&ratio), "pair {i}: {ratio}"),
            }
        }
    }

    #[test]
    fn lying_specs_are_refused() {
        let sound = RopeSpec { base: 1e4, dims: 64, scaling: RopeScaling::None };
        assert!(sound.check(64).is_ok());
        let bad = [
            RopeSpec { dims: 66, ..sound.clone() },
            RopeSpec { dims: 0, ..sound.clone() },
            RopeSpec { dims: 33, ..sound.clone() },
            RopeSpec { base: f64::NAN, ..sound.clone() },
            RopeSpec { scaling: RopeScaling::Linear(0.0), ..sound.clone() },
            RopeSpec { scaling: RopeScaling::Factors(vec![1.0; 3]), ..sound.clone() },
        ];
        for spec in bad {
            assert!(spec.check(64).is_err(), "{spec:?}");
        }
    }
}
