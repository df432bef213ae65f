//! Random steps: sequences with some tokens in the cache, pages in random order among pages of nobody.
use super::rng::Rng;
use kvick::backend::{BatchLimits, DeviceBatch, GroupBatch, HostBatch};

/// The sizes of a model that a batch needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub width: usize,
    pub ff: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
}

/// A sequence of a step.
#[derive(Clone, Copy, Debug)]
pub struct Seq {
    /// Tokens of this step.
    pub new: usize,
    /// Tokens already in the cache.
    pub cached: usize,
}

/// A step and what it needs.
#[derive(Clone, Debug)]
pub struct Step {
    pub limits: BatchLimits,
    pub host: HostBatch,
    /// Pages of the pool of each group, more than the sequences use.
    pub pages: usize,
    pub page_tokens: usize,
}

impl Step {
    /// Decodes (one new token) are moved to the front. One group per entry of `windows`; pages that have left a window are
    /// `u32::MAX`. Logits are wanted of each sequence's last token.
    pub fn random(rng: &mut Rng, shape: Shape, seqs: &[Seq], page_tokens: usize, windows: &[Option<usize>]) -> Self {
        let mut seqs = seqs.to_vec();
        seqs.sort_by_key(|s| s.new != 1);
        let needed = |s: &Seq| (s.cached + s.new).div_ceil(page_tokens);
        let pages = seqs.iter().map(needed).sum::<usize>() + 3;
        let mut host = HostBatch { query_start: vec![0], ..HostBatch::default() };
        host.decodes = seqs.iter().filter(|s| s.new == 1).count();
        for s in &seqs {
            host.tokens.extend((0..s.new).map(|_| rng.below(shape.vocab) as u32));
            host.positions.extend((s.cached..s.cached + s.new).map(|p| p as u32));
            host.query_start.push(host.tokens.len() as u32);
            host.kv_len.push((s.cached + s.new) as u32);
            host.logit_rows.push(host.tokens.len() as u32 - 1);
        }
        for &window in windows {
            host.groups.push(group(rng, &seqs, page_tokens, pages, window));
        }
        let limits = BatchLimits {
            tokens: host.tokens.len() + rng.below(5),
            seqs: seqs.len() + rng.below(3),
            logit_rows: seqs.len() + rng.below(3),
            pages_per_seq: seqs.iter().map(needed).max().unwrap_or(1) + rng.below(3),
            groups: windows.len(),
            recent: 64 * seqs.len(),
            width: shape.width,
            ff: shape.ff,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            vocab: shape.vocab,
        };
        Step { limits, host, pages, page_tokens }
    }

    /// Tokens of the step.
    pub fn tokens(&self) -> usize {
        self.host.tokens.len()
    }

    /// Reserves scratch and sends the step to a device.
    pub fn load(&self, device: &super::device::Device) -> DeviceBatch {
        let backend = &*device.backend;
        backend.reserve(&self.limits).unwrap_or_else(|e| panic!("{}: {e}", device.name));
        let mut batch = DeviceBatch::new(backend, self.limits).unwrap();
        batch.load(backend, &self.host).unwrap();
        batch
    }

    /// Where token `position` of sequence `s` lies: page and offset, `None` if its page has left the window.
    pub fn place(&self, group: usize, s: usize, position: usize) -> Option<(usize, usize)> {
        let page = self.host.groups[group].page_tables[s][position / self.page_tokens];
        (page != u32::MAX).then_some((page as usize, position % self.page_tokens))
    }
}

fn group(rng: &mut Rng, seqs: &[Seq], page_tokens: usize, pages: usize, window: Option<usize>) -> GroupBatch {
    let mut free: Vec<u32> = (0..pages as u32).collect();
    rng.shuffle(&mut free);
    let mut out = GroupBatch::default();
    for s in seqs {
        let first_seen = window.map_or(0, |w| (s.cached + 1).saturating_sub(w));
        let page = |i: usize| if (i + 1) * page_tokens <= first_seen { u32::MAX } else { free.pop().unwrap() };
        let table: Vec<u32> = (0..(s.cached + s.new).div_ceil(page_tokens)).map(page).collect();
        let slot = |p: usize| table[p / page_tokens] * page_tokens as u32 + (p % page_tokens) as u32;
        out.slot_mapping.extend((s.cached..s.cached + s.new).map(slot));
        out.page_tables.push(table);
    }
    out
}
