//! What every kernel of a step is given: the batch's metadata and one layer's pages, as `kernels/params.h` has them.
use super::Cuda;
use crate::backend::{DeviceBatch, KvGroup, KvHalf, KvType};
use crate::error::{Error, Result};
use crate::params::{BatchParams, KvParams, KvType as CodeOfKvType};

/// Addresses of the batch's sections, with the slots and page tables of one KV group.
pub fn batch(cuda: &Cuda, batch: &DeviceBatch, group: usize) -> Result<BatchParams> {
    if group >= batch.limits.groups {
        let message = format!("KV group {group} of a batch with {}", batch.limits.groups);
        return Err(Error::Shape { op: "batch", message });
    }
    let base = cuda.gpu.address(&batch.words)?;
    let at = |word: usize| base + 4 * word as u64;
    Ok(BatchParams {
        tokens: at(batch.sections.tokens),
        positions: at(batch.sections.positions),
        query_start: at(batch.sections.query_start),
        kv_len: at(batch.sections.kv_len),
        slots: at(batch.sections.slots(group)),
        page_tables: at(batch.sections.page_tables(group, &batch.limits)),
        token_count: batch.counts.tokens as u32,
        seq_count: batch.counts.seqs as u32,
        decodes: batch.counts.decodes as u32,
        pages_per_seq: batch.limits.pages_per_seq as u32,
    })
}

/// One layer of a page group. Kernels count pages in 16-byte units of 32 bits, so a group is at most 64 GiB.
pub fn kv(cuda: &Cuda, group: &KvGroup, layer: usize) -> Result<KvParams> {
    let l = &group.layout;
    let bytes = group.pages.checked_mul(l.page_bytes());
    let fits = bytes.is_some_and(|b| b <= group.data.bytes() && (b as u64) < 16 << 32);
    let known = matches!(l.page_tokens, 8 | 16 | 32) && l.head_dim.is_multiple_of(8);
    l.types.check(cuda.float, l.head_dim)?;
    if !fits || !known || layer >= l.layers || l.kv_heads == 0 {
        let message = format!("layer {layer} of {} pages {l:?} in {} bytes", group.pages, group.data.bytes());
        return Err(Error::Shape { op: "kv pages", message });
    }
    let base = cuda.gpu.address(&group.data)?;
    let code = |half| match l.types.of(half) {
        KvType::F16 | KvType::BF16 => CodeOfKvType::kKvFloat,
        KvType::Int8 => CodeOfKvType::kKvInt8,
        KvType::Fp8 => CodeOfKvType::kKvFp8,
    };
    Ok(KvParams {
        base: KvHalf::BOTH.map(|half| base + l.head_offset(half, layer, 0) as u64),
        page_bytes: l.page_bytes() as u64,
        head_bytes: KvHalf::BOTH.map(|half| l.head_bytes(half) as u32),
        type_: KvHalf::BOTH.map(code),
        kv_heads: l.kv_heads as u32,
        head_dim: l.head_dim as u32,
        page_tokens: l.page_tokens as u32,
        pad: 0,
    })
}
