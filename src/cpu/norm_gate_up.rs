//! Norm, gate and up projection, activation.
use super::batch::BatchView;
use super::float::to_bits;
use super::product::{Inputs, multiply};
use super::qkv::normed;
use super::{Cpu, memory, weight};
use crate::backend::{Activation, NormGateUp};
use crate::error::Result;
use rayon::prelude::*;

pub fn run(cpu: &Cpu, op: &NormGateUp<'_>) -> Result<()> {
    const NAME: &str = "norm_gate_up";
    let weight = weight::of(op.weight)?;
    let tokens = BatchView::new(op.batch)?.counts().tokens;
    let mut normed = normed(cpu, NAME, op.x, op.norm, op.eps, tokens, weight.cols)?;
    let product = multiply(cpu.float, weight, &Inputs::new(cpu.float, &mut normed, weight.cols));
    let ff = weight.rows / 2;
    let mut out = memory::write(op.out)?;
    let out = out.get::<u16>(NAME, tokens * ff)?;
    out.par_chunks_mut(ff).enumerate().for_each(|(t, out)| {
        let gated = |i: usize| activate(op.activation, product.at(t, 2 * i)) * product.at(t, 2 * i + 1);
        let row: Vec<f32> = (0..ff).map(gated).collect();
        cpu.check_fits(NAME, &row);
        to_bits(cpu.float, &row, out);
    });
    Ok(())
}

fn activate(activation: Activation, v: f32) -> f32 {
    let v = f64::from(v);
    let y = match activation {
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
            0.5 * v * (1.0 + inner.tanh())
        }
    };
    y as f32
}
