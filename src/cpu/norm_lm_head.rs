//! Final norm and LM head.
use super::batch::BatchView;
use super::norm::rms_norm;
use super::product::{Inputs, multiply};
use super::{Cpu, memory, weight};
use crate::backend::NormLmHead;
use crate::error::Result;
use rayon::prelude::*;

pub fn run(cpu: &Cpu, op: &NormLmHead<'_>) -> Result<()> {
    const NAME: &str = "norm_lm_head";
    let weight = weight::of(op.weight)?;
    let batch = BatchView::new(op.batch)?;
    let (x, norm) = (memory::read(op.x)?, memory::read(op.norm)?);
    let x = x.get::<f32>(NAME, batch.counts().tokens * weight.cols)?;
    let norm = norm.get::<f32>(NAME, weight.cols)?;
    let rows = batch.logit_rows()?;
    let mut normed = vec![0.0; rows.len() * weight.cols];
    for (out, &row) in normed.chunks_exact_mut(weight.cols).zip(rows) {
        rms_norm(&x[row as usize * weight.cols..][..weight.cols], norm, op.eps, out);
    }
    cpu.check_fits(NAME, &normed);
    let product = multiply(cpu.float, weight, &Inputs::new(cpu.float, &mut normed, weight.cols));
    let mut logits = memory::write(op.logits)?;
    let logits = logits.get::<f32>(NAME, rows.len() * weight.rows)?;
    logits.par_chunks_mut(weight.rows).enumerate().for_each(|(r, out)| {
        out.iter_mut().zip(product.token(r)).for_each(|(out, y)| {
            *out = op.softcap.map_or(y, |c| c * (y / c).tanh());
        });
    });
    Ok(())
}
