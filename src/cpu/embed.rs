//! Token embedding.
use super::batch::BatchView;
use super::{memory, weight};
use crate::backend::Embed;
use crate::error::{Error, Result};
use rayon::prelude::*;

pub fn run(op: &Embed<'_>) -> Result<()> {
    let table = weight::of(op.table)?;
    let batch = BatchView::new(op.batch)?;
    let tokens = batch.tokens()?;
    if let Some(id) = tokens.iter().find(|&&id| id as usize >= table.rows) {
        return Err(Error::Shape { op: "embed", message: format!("token {id} in a vocabulary of {}", table.rows) });
    }
    let mut out = memory::write(op.out)?;
    let out = out.get::<f32>("embed", tokens.len() * table.cols)?;
    out.par_chunks_mut(table.cols).zip(tokens).for_each(|(out, &id)| {
        table.row(id as usize, out);
        out.iter_mut().for_each(|x| *x *= op.scale);
    });
    Ok(())
}
