//! Norm, Q/K/V projection, bias, QK-norm, RoPE, append.
use super::batch::BatchView;
use super::float::to_bits;
use super::norm::{rms_norm, rms_norm_in_place};
use super::product::{Inputs, multiply};
use super::{Cpu, kv, memory, weight};
use crate::backend::{KvHalf, Qkv};
use crate::error::{Error, Result};
use rayon::prelude::*;

pub fn run(cpu: &Cpu, op: &Qkv<'_>) -> Result<()> {
    let layout = op.kv.layout;
    let dim = layout.head_dim;
    let (q_width, kv_width) = (op.heads * dim, layout.kv_heads * dim);
    let weight = weight::of(op.weight)?;
    layout.types.check(cpu.float, dim)?;
    if weight.rows != q_width + 2 * kv_width {
        return Err(Error::Shape {
            op: "qkv",
            message: format!("{} rows for {} heads and pages {layout:?}", weight.rows, op.heads),
        });
    }
    let batch = BatchView::new(op.batch)?;
    let mut rows = project(cpu, op, batch.counts().tokens)?;
    finish_rows(op, batch.positions()?, &mut rows)?;
    cpu.check_fits("qkv", &rows);

    let width = q_width + 2 * kv_width;
    let mut q = memory::write(op.q)?;
    let q = q.get::<u16>("qkv", batch.counts().tokens * q_width)?;
    q.par_chunks_mut(q_width).zip(rows.par_chunks(width)).for_each(|(q, row)| to_bits(cpu.float, &row[..q_width], q));
    let mut pages = memory::write(&op.kv.data)?;
    let pages = pages.get::<u8>("qkv", op.kv.pages * layout.page_bytes())?;
    for (row, &slot) in rows.chunks_exact(width).zip(batch.slots(op.group)?) {
        let (page, offset) = (slot / layout.page_tokens as u32, slot as usize % layout.page_tokens);
        for (i, head) in row[q_width..].chunks_exact(dim).enumerate() {
            let half = KvHalf::BOTH[i / layout.kv_heads];
            let stored = &mut pages[kv::head_range(op.kv, page, half, op.layer, i % layout.kv_heads)?];
            kv::store(cpu.float, &layout, half, stored, offset, head);
        }
    }
    Ok(())
}

/// `norm(x) * W^T + bias`: `[T, q | k | v]`.
fn project(cpu: &Cpu, op: &Qkv<'_>, tokens: usize) -> Result<Vec<f32>> {
    let weight = weight::of(op.weight)?;
    let mut normed = normed(cpu, "qkv", op.x, op.norm, op.eps, tokens, weight.cols)?;
    let product = multiply(cpu.float, weight, &Inputs::new(cpu.float, &mut normed, weight.cols));
    let mut rows = vec![0.0; tokens * weight.rows];
    let bias = op.bias.map(memory::read).transpose()?;
    let bias = bias.as_ref().map(|b| b.get::<f32>("qkv", weight.rows)).transpose()?;
    rows.par_chunks_mut(weight.rows).enumerate().for_each(|(t, row)| {
        row.iter_mut().zip(product.token(t)).for_each(|(y, p)| *y = p);
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    });
    Ok(rows)
}

/// RMSNorm of all tokens, checked against the compute type; not yet rounded.
pub fn normed(
    cpu: &Cpu,
    op: &'static str,
    x: &crate::backend::Buffer,
    norm: &crate::backend::Buffer,
    eps: f32,
    tokens: usize,
    width: usize,
) -> Result<Vec<f32>> {
    let (x, norm) = (memory::read(x)?, memory::read(norm)?);
    let (x, norm) = (x.get::<f32>(op, tokens * width)?, norm.get::<f32>(op, width)?);
    let mut out = vec![0.0; tokens * width];
    out.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(out, x)| rms_norm(x, norm, eps, out));
    cpu.check_fits(op, &out);
    Ok(out)
}

/// QK-norm and RoPE of the Q and K heads.
fn finish_rows(op: &Qkv<'_>, positions: &[u32], rows: &mut [f32]) -> Result<()> {
    let layout = &op.kv.layout;
    let (dim, rotated) = (layout.head_dim, op.heads + layout.kv_heads);
    let table = memory::read(&op.rope.table)?;
    let table = table.get::<f32>("qkv", op.rope.positions * op.rope.dims)?;
    if let Some(p) = positions.iter().find(|&&p| p as usize >= op.rope.positions) {
        let message = format!("position {p}, the RoPE table has {}", op.rope.positions);
        return Err(Error::Shape { op: "qkv", message });
    }
    let norms =
        op.qk_norm.as_ref().map(|n| Ok::<_, Error>((memory::read(n.q)?, memory::read(n.k)?, n.eps))).transpose()?;
    let norms = match &norms {
        Some((q, k, eps)) => Some((q.get::<f32>("qkv", dim)?, k.get::<f32>("qkv", dim)?, *eps)),
        None => None,
    };
    let width = (rotated + layout.kv_heads) * dim;
    rows.par_chunks_mut(width).zip(positions).for_each(|(row, &position)| {
        let angles = &table[position as usize * op.rope.dims..][..op.rope.dims];
        for (i, head) in row[..rotated * dim].chunks_exact_mut(dim).enumerate() {
            if let Some((q, k, eps)) = norms {
                rms_norm_in_place(head, if i < op.heads { q } else { k }, eps);
            }
            rotate(head, angles);
        }
    });
    Ok(())
}

/// Rotates adjacent pairs; `angles` are (cos, sin) pairs, elements beyond them stay.
fn rotate(head: &mut [f32], angles: &[f32]) {
    for (pair, angle) in head.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
        let (a, b, cos, sin) = (pair[0], pair[1], angle[0], angle[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = a * sin + b * cos;
    }
}
