//! Rounding to the compute type, and the check that nothing overflowed in it.
use crate::backend::Float;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

/// Rounds to the compute type and back.
pub fn round(float: Float, values: &mut [f32]) {
    let mut bits = vec![0u16; values.len()];
    to_bits(float, values, &mut bits);
    from_bits(float, &bits, values);
}

/// f32 to the compute type, to nearest even.
pub fn to_bits(float: Float, values: &[f32], bits: &mut [u16]) {
    match float {
        Float::F16 => bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(values),
        Float::BF16 => bits.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(values),
    }
}

/// The compute type to f32, exactly.
pub fn from_bits(float: Float, bits: &[u16], values: &mut [f32]) {
    match float {
        Float::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(values),
        Float::BF16 => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(values),
    }
}

/// The compute type to f64, exactly.
pub fn widen(float: Float, bits: &[u16], values: &mut [f64]) {
    let mut single = vec![0.0f32; bits.len()];
    from_bits(float, bits, &mut single);
    values.iter_mut().zip(single).for_each(|(wide, x)| *wide = x.into());
}

/// Whether all values survive the compute type: f16 ends at 65504 (what rounds to more is infinite), bf16 as f32 does.
pub fn fits(float: Float, values: &[f32]) -> bool {
    match float {
        Float::F16 => values.iter().all(|x| x.abs() < 65520.0),
        Float::BF16 => true,
    }
}
