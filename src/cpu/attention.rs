//! Paged attention, key by key in the order of the sequence, so that neither pages nor other sequences matter.
use super::batch::BatchView;
use super::float::{round, to_bits, widen};
use super::{Cpu, kv, memory};
use crate::backend::{Attention, KvHalf};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;

pub fn run(cpu: &Cpu, op: &Attention<'_>) -> Result<()> {
    let layout = op.kv.layout;
    let dim = layout.head_dim;
    layout.types.check(cpu.float, dim)?;
    if !op.heads.is_multiple_of(layout.kv_heads) {
        return Err(Error::Shape { op: "attention", message: format!("{} heads over pages {layout:?}", op.heads) });
    }
    let batch = BatchView::new(op.batch)?;
    let elements = batch.counts().tokens * op.heads * dim;
    let (q, pages) = (memory::read(op.q)?, memory::read(&op.kv.data)?);
    let q = q.get::<u16>("attention", elements)?;
    let pages = pages.get::<u8>("attention", op.kv.pages * layout.page_bytes())?;
    let mut out = memory::write(op.out)?;
    let out = out.get::<u16>("attention", elements)?;
    let positions = batch.positions()?;

    for s in 0..batch.counts().seqs {
        let query = batch.query(s)?;
        let keys = first_key(op, positions[query.start])..positions[query.end - 1] as usize + 1;
        let heads: Vec<HeadCache> = (0..layout.kv_heads)
            .into_par_iter()
            .map(|head| gather(cpu, op, &batch, pages, s, head, keys.clone()))
            .collect::<Result<_>>()?;
        let range = query.start * op.heads * dim..query.end * op.heads * dim;
        let rows = out[range.clone()].par_chunks_mut(dim).zip(q[range].par_chunks(dim)).enumerate();
        rows.for_each(|(i, (out, q))| {
            let position = positions[query.start + i / op.heads];
            let cache = &heads[i % op.heads / (op.heads / layout.kv_heads)];
            let seen = first_key(op, position) - keys.start..position as usize + 1 - keys.start;
            let result = attend(cpu, op, cache, q, seen);
            cpu.check_fits("attention", &result);
            to_bits(cpu.float, &result, out);
        });
    }
    Ok(())
}

/// The oldest key that a position sees.
fn first_key(op: &Attention<'_>, position: u32) -> usize {
    op.window.map_or(0, |w| (position as usize + 1).saturating_sub(w))
}

/// K and V of one head: `[keys, dim]` each.
struct HeadCache {
    k: Vec<f64>,
    v: Vec<f64>,
}

/// Reads the keys of a sequence through its page table.
fn gather(
    cpu: &Cpu,
    op: &Attention<'_>,
    batch: &BatchView<'_>,
    pages: &[u8],
    s: usize,
    head: usize,
    keys: Range<usize>,
) -> Result<HeadCache> {
    let layout = &op.kv.layout;
    let dim = layout.head_dim;
    let table = batch.page_table(op.group, s)?;
    let mut cache = HeadCache { k: vec![0.0; keys.len() * dim], v: vec![0.0; keys.len() * dim] };
    for (half, out) in [(KvHalf::K, &mut cache.k), (KvHalf::V, &mut cache.v)] {
        for (j, row) in keys.clone().zip(out.chunks_exact_mut(dim)) {
            let page = table.get(j / layout.page_tokens).copied().unwrap_or(u32::MAX);
            let stored = &pages[kv::head_range(op.kv, page, half, op.layer, head)?];
            kv::load(cpu.float, layout, half, stored, j % layout.page_tokens, row);
        }
    }
    Ok(cache)
}

/// One query of one head over the keys that it sees.
fn attend(cpu: &Cpu, op: &Attention<'_>, cache: &HeadCache, q: &[u16], seen: Range<usize>) -> Vec<f32> {
    let dim = q.len();
    let mut wide = vec![0.0; dim];
    widen(cpu.float, q, &mut wide);
    let rows = |values: &Range<usize>| values.start * dim..values.end * dim;
    let scores: Vec<f64> = cache.k[rows(&seen)]
        .chunks_exact(dim)
        .map(|k| {
            let score = dot(&wide, k) * f64::from(op.scale);
            op.softcap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh())
        })
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut p: Vec<f32> = scores.iter().map(|s| (s - max).exp() as f32).collect();
    let total: f64 = p.iter().map(|&p| f64::from(p)).sum();
    round(cpu.float, &mut p);
    let mut sums = vec![0.0f64; dim];
    for (v, &p) in cache.v[rows(&seen)].chunks_exact(dim).zip(&p) {
        sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += f64::from(p) * v);
    }
    sums.iter().map(|sum| (sum / total) as f32).collect()
}

/// Dot product over four lanes.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    for (a, b) in a.chunks_exact(4).zip(b.chunks_exact(4)) {
        (0..4).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}
