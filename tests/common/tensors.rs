//! Random weights in every storage type.
use super::rng::Rng;
use half::{bf16, f16};
use kvick::backend::{DType, HostWeight};
use std::borrow::Cow;

/// A matrix whose elements have a root mean square near `1 / sqrt(cols)`, so that products stay near the input's size.
/// Block formats get random codes; some blocks have a zero or negative scale.
pub fn weight(rng: &mut Rng, name: &str, dtype: DType, rows: usize, cols: usize) -> HostWeight<'static> {
    let (elements, size) = dtype.block();
    let blocks = rows * cols / elements;
    let mut bytes = rng.bytes(blocks * size);
    let rms = 1.0 / (cols as f32).sqrt();
    bytes.chunks_exact_mut(size).for_each(|block| set_scales(rng, dtype, rms, block));
    assert!(cols.is_multiple_of(elements), "{name}: {cols} columns of {dtype:?}");
    HostWeight { name: name.into(), dtype, rows, cols, bytes: Cow::Owned(bytes) }
}

fn set_scales(rng: &mut Rng, dtype: DType, rms: f32, block: &mut [u8]) {
    let sign = rng.pick(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 0.0]);
    let scale = |codes: f32, rng: &mut Rng| sign * rms / codes * (0.5 + rng.unit() as f32);
    let mut put = |at: usize, value: f32| block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    // The divisors are the root mean squares of the formats' codes, drawn uniformly.
    match dtype {
        DType::F32 => block.copy_from_slice(&(rng.normal() * rms).to_le_bytes()),
        DType::F16 => put(0, rng.normal() * rms),
        DType::BF16 => block.copy_from_slice(&bf16::from_f32(rng.normal() * rms).to_le_bytes()),
        DType::Q8_0 => put(0, scale(74.0, rng)),
        DType::Q4_0 => put(0, scale(4.6, rng)),
        DType::Q5_0 => put(0, scale(9.2, rng)),
        DType::Q4_1 => {
            let d = scale(4.6, rng);
            put(0, d);
            put(2, d * -(6.0 + 3.0 * rng.unit() as f32));
        }
        DType::Q4_K => {
            let d = scale(240.0, rng);
            put(0, d);
            put(2, d * (6.0 + 3.0 * rng.unit() as f32));
        }
        DType::Q6_K => put(208, scale(1350.0, rng)),
    }
}

/// A matrix as f32, for references of a test's own.
pub fn dequantised(weight: &HostWeight<'_>) -> Vec<f32> {
    let mut out = vec![0.0; weight.rows * weight.cols];
    kvick::quant::dequantise(weight.dtype, &weight.bytes, &mut out);
    out
}
