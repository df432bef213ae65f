//! Output and down projection, added to the residual stream.
use super::batch::BatchView;
use super::float::from_bits;
use super::norm::rms_norm_in_place;
use super::product::{Inputs, multiply};
use super::{Cpu, memory, weight};
use crate::backend::LinearResidual;
use crate::error::Result;
use rayon::prelude::*;

pub fn run(cpu: &Cpu, op: &LinearResidual<'_>) -> Result<()> {
    const NAME: &str = "linear_residual";
    let weight = weight::of(op.weight)?;
    let tokens = BatchView::new(op.batch)?.counts().tokens;
    let mut input = vec![0.0; tokens * weight.cols];
    from_bits(cpu.float, memory::read(op.input)?.get::<u16>(NAME, input.len())?, &mut input);
    let product = multiply(cpu.float, weight, &Inputs::new(cpu.float, &mut input, weight.cols));

    let bias = op.bias.map(memory::read).transpose()?;
    let bias = bias.as_ref().map(|b| b.get::<f32>(NAME, weight.rows)).transpose()?;
    let norm = op.post_norm.map(|n| memory::read(n.weight)).transpose()?;
    let norm = norm.as_ref().map(|n| n.get::<f32>(NAME, weight.rows)).transpose()?;
    let eps = op.post_norm.map_or(0.0, |n| n.eps);
    let mut x = memory::write(op.x)?;
    let x = x.get::<f32>(NAME, tokens * weight.rows)?;
    x.par_chunks_mut(weight.rows).enumerate().for_each(|(t, x)| {
        let mut y: Vec<f32> = product.token(t).collect();
        if let Some(bias) = bias {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        if let Some(norm) = norm {
            rms_norm_in_place(&mut y, norm, eps);
        }
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    });
    Ok(())
}
