//! How far an implementation may be from the oracle. One table; tests name the row, never a number.
//!
//! Both sides round inputs, weights and outputs to the same type, so what is left is the order of f32 sums and values that
//! fall to the other side of a rounding. The largest error is measured against the root mean square of what is expected
//! (a sum of K terms of that size may cancel), besides a few units in the last place of the value itself.
use kvick::backend::{DType, Float, KvType, Packing};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Mean squared error over mean square of the expected values.
    pub nmse: f64,
    /// Largest error in root mean squares of the expected values.
    pub of_rms: f64,
    /// Added to that: relative error of the value itself.
    pub relative: f64,
}

/// Bounds by compute type and terms of a sum (K of a product, keys of an attention).
const TABLE: &[(Float, usize, Bound)] = &[
    (Float::F16, 1024, Bound { nmse: 5e-7, of_rms: 3e-3, relative: 2e-3 }),
    (Float::F16, usize::MAX, Bound { nmse: 1e-6, of_rms: 4e-3, relative: 2e-3 }),
    // 1e-5 against exact values; here both sides round.
    (Float::BF16, 1024, Bound { nmse: 2e-5, of_rms: 2.4e-2, relative: 1.6e-2 }),
    (Float::BF16, usize::MAX, Bound { nmse: 2e-5, of_rms: 3.2e-2, relative: 1.6e-2 }),
];

/// Operations without a product (embedding, copies scaled in f32).
pub const EXACT: Bound = Bound { nmse: 1e-14, of_rms: 0.0, relative: 3e-7 };

/// The row for sums of `terms` terms.
pub fn bound(float: Float, terms: usize) -> Bound {
    TABLE.iter().find(|row| row.0 == float && terms <= row.1).expect("the last row of a type has no limit").2
}

/// The row for products with weights of a storage type. Scales of superblocks times those of their blocks have more bits than
/// f16, in which kernels dequantise: a weight there may be a unit away from the oracle's, as in any run in f16 alone.
pub fn product_bound(float: Float, weights: DType, terms: usize) -> Bound {
    let b = bound(float, terms);
    match (float, weights) {
        (Float::F16, DType::Q4_K | DType::Q6_K) => Bound { nmse: 2.0 * b.nmse, of_rms: 2.0 * b.of_rms, ..b },
        _ => b,
    }
}

/// The row for results that are stored in KV pages: what falls to the other side of a rounding is a step of the codes away,
/// and a largest element that does so moves the scale of its group by 1/64 at most.
pub fn stored_bound(kind: KvType, computed: Bound) -> Bound {
    match kind {
        KvType::F16 | KvType::BF16 => computed,
        KvType::Int8 => Bound { nmse: 2e-4, of_rms: 0.1, relative: 1.0 / 64.0 },
        KvType::Fp8 => Bound { nmse: 1e-3, of_rms: 0.02, relative: 1.0 / 7.0 },
    }
}

/// How far an element of a packed page may be from what was packed, in relation to the largest size (int8, fp8) or the range
/// from least to largest (int4) of those that share a scale, and to itself. Half a step; scales of codes are up to 1/64 larger
/// than they must be, steps of int4 are rounded to 11 bits; the result is rounded to the compute type.
pub fn packed_bound(packing: Packing, float: Float) -> Bound {
    let relative = match float {
        Float::F16 => 1.0 / 2048.0,
        Float::BF16 => 1.0 / 256.0,
    };
    match packing {
        Packing::Exact => Bound { nmse: 0.0, of_rms: 0.0, relative: 0.0 },
        Packing::Int8 => Bound { nmse: 3e-4, of_rms: 65.0 / 64.0 / 254.0, relative },
        // Three bits of fraction, down to 1/512 of codes up to 448.
        Packing::Fp8 => Bound { nmse: 1.5e-3, of_rms: 65.0 / 64.0 / 448.0 / 1024.0, relative: 1.0 / 16.0 + relative },
        Packing::Int4 => Bound { nmse: 2e-2, of_rms: 1.002 / 30.0, relative },
    }
}

/// Added to that: elements that are as small together as this have a scale (a step) between 0 and the smallest f16, 2^-24.
pub fn packed_grain(packing: Packing) -> f64 {
    let codes = match packing {
        Packing::Exact => 0.0,
        Packing::Int8 => 127.0,
        Packing::Fp8 => 448.0,
        Packing::Int4 => 16.0,
    };
    codes * 2f64.powi(-25)
}

/// Panics with `what` and the worst element unless `actual` is within `bound` of `expected`.
pub fn assert_close(what: &str, actual: &[f32], expected: &[f32], bound: Bound) {
    if let Err(message) = compare(actual, expected, bound) {
        panic!("{what}: {message}");
    }
}

/// Says where and by how much `actual` is out of bounds.
pub fn compare(actual: &[f32], expected: &[f32], bound: Bound) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} elements instead of {}", actual.len(), expected.len()));
    }
    if let Some(i) = (0..actual.len()).find(|&i| actual[i].is_finite() != expected[i].is_finite()) {
        return Err(format!("element {i} is {} instead of {}", actual[i], expected[i]));
    }
    let pairs =
        || actual.iter().zip(expected).filter(|(_, e)| e.is_finite()).map(|(&a, &e)| (f64::from(a), f64::from(e)));
    let square: f64 = pairs().map(|(_, e)| e * e).sum();
    let error: f64 = pairs().map(|(a, e)| (a - e) * (a - e)).sum();
    let rms = (square / actual.len().max(1) as f64).sqrt();
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate().filter(|(_, (_, e))| e.is_finite()) {
        let (difference, allowed) =
            (f64::from((a - e).abs()), bound.of_rms * rms + bound.relative * f64::from(e.abs()));
        if difference > allowed {
            return Err(format!(
                "element {i} is {a} instead of {e}: off by {difference:.3e}, {allowed:.3e} is allowed"
            ));
        }
    }
    if error > bound.nmse * square {
        return Err(format!("normalised mean squared error {:.3e}, {:.1e} is allowed", error / square, bound.nmse));
    }
    Ok(())
}
