//! From the scheduler's choice to the step that the device gets.
use super::pages::Pages;
use super::scheduler::Chunk;
use super::sequence::Sequence;
use crate::backend::{GroupBatch, HostBatch};

/// The step of these chunks; the rows that need logits are those of chunks that reach their sequence's end, in order.
pub(super) fn build(chunks: &[Chunk], running: &[Sequence], pages: &Pages) -> HostBatch {
    let mut batch = HostBatch {
        query_start: vec![0],
        decodes: chunks.iter().take_while(|c| c.tokens == 1).count(),
        groups: vec![GroupBatch::default(); pages.groups()],
        ..HostBatch::default()
    };
    for chunk in chunks {
        append(&mut batch, &running[chunk.seq], chunk.tokens, pages.page_tokens());
    }
    if batch.recent.iter().all(Vec::is_empty) {
        batch.recent.clear();
    }
    batch
}

fn append(batch: &mut HostBatch, s: &Sequence, tokens: usize, page_tokens: usize) {
    let positions = s.computed()..s.computed() + tokens;
    batch.tokens.extend_from_slice(&s.tokens()[positions.clone()]);
    batch.positions.extend(positions.clone().map(|p| p as u32));
    batch.query_start.push(batch.tokens.len() as u32);
    batch.kv_len.push(positions.end as u32);
    for (g, group) in batch.groups.iter_mut().enumerate() {
        let table = s.table(g);
        let slot = |p: usize| table[p / page_tokens] * page_tokens as u32 + (p % page_tokens) as u32;
        group.slot_mapping.extend(positions.clone().map(slot));
        group.page_tables.push(table.to_vec());
    }
    if positions.end == s.tokens().len() {
        for draw in s.draws() {
            batch.logit_rows.push(batch.tokens.len() as u32 - 1);
            batch.sample.push(draw);
            batch.recent.push(s.recent().to_vec());
        }
    }
}
