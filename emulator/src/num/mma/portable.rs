//! The plain form of [`Mma::run`], for every shape and host: unpack, multiply, pack.

use super::super::fp8::{self, E4m3, E5m2};
use super::super::half::{bf16_to_f32, f16_to_f32, f32_to_f16};
use super::super::{Lanes, Rn};
use super::{Element, Fragments, Mma, Sum};

/// Value of element `i` of a register.
fn float(element: Element, register: u32, i: usize) -> f32 {
    match element {
        Element::F16 => f16_to_f32((register >> (16 * i)) as u16),
        Element::Bf16 => bf16_to_f32((register >> (16 * i)) as u16),
        Element::Tf32 => f32::from_bits(register & !0x1fff),
        Element::E4m3 => fp8::to_f32::<E4m3>((register >> (8 * i)) as u8),
        Element::E5m2 => fp8::to_f32::<E5m2>((register >> (8 * i)) as u8),
        Element::S8 => f32::from((register >> (8 * i)) as i8),
        Element::U8 => f32::from((register >> (8 * i)) as u8),
    }
}

/// Register and lane of element (`row`, `k`) of A, whose registers alternate between the upper and the lower 8 rows.
fn place_a(mma: &Mma, row: usize, k: usize) -> (usize, usize) {
    let per_row = 4 * mma.a.per_register();
    (k / per_row * (mma.m / 8) + row / 8, 4 * (row % 8) + k % per_row / mma.a.per_register())
}

pub(super) fn run(mma: &Mma, fragments: &Fragments, d: &mut [Lanes; 4]) {
    let per = mma.a.per_register();
    let a = |row: usize, k: usize| {
        let (register, lane) = place_a(mma, row, k);
        float(mma.a, fragments.a[register][lane], k % per)
    };
    let b = |k: usize, column: usize| {
        let lane = 4 * column + k % (4 * per) / per;
        float(mma.b, fragments.b[k / (4 * per)][lane], k % per)
    };
    for row in 0..mma.m {
        for column in 0..8 {
            let lane = 4 * (row % 8) + column / 2;
            let wide = 2 * (row / 8) + column % 2;
            match mma.sum {
                Sum::F32 => {
                    let c = f32::from_bits(fragments.c[wide][lane]);
                    d[wide][lane] = dot(mma.k, c, |k| a(row, k), |k| b(k, column)).to_bits();
                }
                Sum::F16 => {
                    let shift = 16 * (column % 2);
                    let c = f16_to_f32((fragments.c[row / 8][lane] >> shift) as u16);
                    let sum = f32_to_f16::<Rn>(dot(mma.k, c, |k| a(row, k), |k| b(k, column)));
                    let register = &mut d[row / 8][lane];
                    *register = *register & !(0xffff << shift) | u32::from(sum) << shift;
                }
                Sum::S32 => {
                    let c = fragments.c[wide][lane] as i32;
                    // At most 32 products of 8-bit factors: exact in i32.
                    let sum: i32 = (0..mma.k).map(|k| a(row, k) as i32 * b(k, column) as i32).sum();
                    let total = if mma.saturate { c.saturating_add(sum) } else { c.wrapping_add(sum) };
                    d[wide][lane] = total as u32;
                }
            }
        }
    }
}

fn dot(length: usize, c: f32, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> f32 {
    super::super::float::canon((0..length).fold(c, |sum, k| a(k).mul_add(b(k), sum)))
}
