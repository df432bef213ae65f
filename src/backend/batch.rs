//! One step's metadata: built on the host, sent in one copy, read by every kernel of the step.
//!
//! Sequences are ordered: decodes (one token) first, then prefill chunks; tokens of a sequence are contiguous. The device
//! copy is one array of 32-bit words whose sections are at the offsets of [`DeviceBatch`], fixed by [`BatchLimits`] so that
//! a captured graph can be replayed with other contents.
use super::{Backend, Buffer};
use crate::error::{Error, Result};

/// The most that a batch may hold; fixes buffers, scratch and section offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BatchLimits {
    /// Tokens of a step.
    pub tokens: usize,
    /// Sequences of a step.
    pub seqs: usize,
    /// Rows that need logits.
    pub logit_rows: usize,
    /// Pages of one sequence (per group).
    pub pages_per_seq: usize,
    /// KV groups.
    pub groups: usize,
    /// Tokens over all rows that the repeat penalty looks at.
    pub recent: usize,
    // Shape of the model, for scratch.
    pub width: usize,
    pub ff: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
}

/// How one row is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct SampleParams {
    /// 0 = greedy.
    pub temperature: f32,
    /// 0 = off.
    pub top_k: u32,
    /// 1 = off.
    pub top_p: f32,
    /// 0 = off.
    pub min_p: f32,
    /// 1 = off.
    pub repeat_penalty: f32,
    pub seed: u64,
    /// Counter of the draw: how many tokens the request has been given before.
    pub step: u32,
}

impl Default for SampleParams {
    fn default() -> Self {
        SampleParams { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, seed: 0, step: 0 }
    }
}

/// Page tables and slots of one KV group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupBatch {
    /// `[T]`: `page * page_tokens + offset` where the token's K and V go.
    pub slot_mapping: Vec<u32>,
    /// Per sequence: physical page of each logical page; `u32::MAX` for one that left the window and was freed.
    pub page_tables: Vec<Vec<u32>>,
}

/// A step as the scheduler made it. `S` = sequences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostBatch {
    /// `[T]`.
    pub tokens: Vec<u32>,
    /// `[T]`: position in the sequence, from 0.
    pub positions: Vec<u32>,
    /// `[S + 1]`: first token of each sequence; the last entry is T.
    pub query_start: Vec<u32>,
    /// `[S]`: tokens of the sequence in the cache after this step (>= the new ones).
    pub kv_len: Vec<u32>,
    /// Sequences at the front with exactly one token.
    pub decodes: usize,
    /// One per KV group.
    pub groups: Vec<GroupBatch>,
    /// `[R]`: index of the token whose logits are wanted.
    pub logit_rows: Vec<u32>,
    /// `[R]`, or empty when nothing is sampled.
    pub sample: Vec<SampleParams>,
    /// `[R]`: tokens the repeat penalty looks at, or empty. A set: repeated ids count once.
    pub recent: Vec<Vec<u32>>,
}

/// Offsets of the sections in [`DeviceBatch::words`], in 32-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sections {
    pub tokens: usize,
    pub positions: usize,
    pub query_start: usize,
    pub kv_len: usize,
    pub logit_rows: usize,
    /// 8 words a row: temperature, top_k, top_p, min_p, repeat_penalty, seed low, seed high, step.
    pub sample: usize,
    /// `[R + 1]` starts into `recent`.
    pub recent_start: usize,
    pub recent: usize,
    /// Group g's slot mapping at `groups + g * group_stride`, its page tables `[S, pages_per_seq]` at
    /// `+ limits.tokens`.
    pub groups: usize,
    pub group_stride: usize,
    /// All words.
    pub total: usize,
}

/// A step on the device. The counts are those of the batch loaded last.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct DeviceBatch {
    pub limits: BatchLimits,
    pub sections: Sections,
    /// `sections.total` words.
    pub words: Buffer,
    /// What was loaded: shape-giving facts that the host side of an operation needs.
    pub counts: Counts,
}

/// Facts of a loaded batch that shape launches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub tokens: usize,
    pub seqs: usize,
    pub decodes: usize,
    pub logit_rows: usize,
    /// Longest new part of a prefill sequence.
    pub max_query: usize,
    /// Longest cache of a decode sequence, and of any.
    pub max_decode_kv: usize,
    pub max_kv: usize,
    /// Whether any row is not greedy or has a penalty.
    pub sampling: bool,
}

impl Sections {
    /// Lays the sections out, each at a multiple of 4 words (16 bytes).
    pub fn new(limits: &BatchLimits) -> Self {
        let mut next = 0;
        let mut take = |words: usize| {
            let at = next;
            next += words.next_multiple_of(4);
            at
        };
        let tokens = take(limits.tokens);
        let positions = take(limits.tokens);
        let query_start = take(limits.seqs + 1);
        let kv_len = take(limits.seqs);
        let logit_rows = take(limits.logit_rows);
        let sample = take(8 * limits.logit_rows);
        let recent_start = take(limits.logit_rows + 1);
        let recent = take(limits.recent);
        let group_stride = limits.tokens.next_multiple_of(4) + (limits.seqs * limits.pages_per_seq).next_multiple_of(4);
        let groups = take(limits.groups * group_stride);
        Sections {
            tokens,
            positions,
            query_start,
            kv_len,
            logit_rows,
            sample,
            recent_start,
            recent,
            groups,
            group_stride,
            total: next,
        }
    }

    /// Word offset of group `g`'s slot mapping.
    pub fn slots(&self, g: usize) -> usize {
        self.groups + g * self.group_stride
    }

    /// Word offset of group `g`'s page tables, `[S, pages_per_seq]`.
    pub fn page_tables(&self, g: usize, limits: &BatchLimits) -> usize {
        self.slots(g) + limits.tokens.next_multiple_of(4)
    }
}

impl DeviceBatch {
    /// Allocates room for batches up to `limits`.
    pub fn new(backend: &dyn Backend, limits: BatchLimits) -> Result<Self> {
        let sections = Sections::new(&limits);
        let words = backend.alloc("batch metadata", sections.total * 4)?;
        Ok(DeviceBatch { limits, sections, words, counts: Counts::default() })
    }

    /// Checks a step and sends it to the device in one copy.
    pub fn load(&mut self, backend: &dyn Backend, host: &HostBatch) -> Result<()> {
        let counts = host.check(&self.limits)?;
        let words = host.pack(&self.limits, &self.sections);
        backend.upload(&self.words, 0, bytemuck::cast_slice(&words))?;
        self.counts = counts;
        Ok(())
    }
}

impl HostBatch {
    /// Checks that the parts agree with each other and with `limits`.
    pub fn check(&self, limits: &BatchLimits) -> Result<Counts> {
        let bad = |message: String| Err(Error::Shape { op: "batch", message });
        let (t, s, r) = (self.tokens.len(), self.kv_len.len(), self.logit_rows.len());
        if t == 0 || t > limits.tokens || s > limits.seqs || r > limits.logit_rows {
            return bad(format!(
                "{t} tokens, {s} sequences, {r} logit rows exceed the limits {limits:?} (or are none)"
            ));
        }
        if self.positions.len() != t || self.query_start.len() != s + 1 || self.groups.len() != limits.groups {
            return bad("positions, query_start or groups have the wrong length".into());
        }
        if self.query_start[0] != 0 || self.query_start[s] as usize != t || !self.query_start.is_sorted() {
            return bad(format!("query_start {:?} does not partition {t} tokens", self.query_start));
        }
        let lens: Vec<usize> = self.query_start.windows(2).map(|w| (w[1] - w[0]) as usize).collect();
        if self.decodes > s || lens[..self.decodes].iter().any(|&n| n != 1) {
            return bad("decodes must come first and have one token each".into());
        }
        if lens.iter().zip(&self.kv_len).any(|(&n, &kv)| n == 0 || (kv as usize) < n) {
            return bad("a sequence has no new token or fewer cached tokens than new ones".into());
        }
        for g in &self.groups {
            if g.slot_mapping.len() != t || g.page_tables.len() != s {
                return bad("a group's slot mapping or page tables have the wrong length".into());
            }
            if let Some(n) = g.page_tables.iter().map(Vec::len).find(|&n| n > limits.pages_per_seq) {
                return bad(format!("a page table has {n} pages, the limit is {}", limits.pages_per_seq));
            }
        }
        if self.logit_rows.iter().any(|&row| row as usize >= t) {
            return bad("a logit row is not a token of the batch".into());
        }
        if !(self.sample.is_empty() || self.sample.len() == r) || !(self.recent.is_empty() || self.recent.len() == r) {
            return bad("sampling parameters do not match the logit rows".into());
        }
        if self.recent.iter().map(Vec::len).sum::<usize>() > limits.recent {
            return bad("too many recent tokens".into());
        }
        let max = |range: &[u32]| range.iter().max().map_or(0, |&n| n as usize);
        Ok(Counts {
            tokens: t,
            seqs: s,
            decodes: self.decodes,
            logit_rows: r,
            max_query: lens[self.decodes..].iter().max().copied().unwrap_or(0),
            max_decode_kv: max(&self.kv_len[..self.decodes]),
            max_kv: max(&self.kv_len),
            sampling: self.sample.iter().any(|p| p.temperature > 0.0 || p.repeat_penalty != 1.0),
        })
    }

    /// The words of a checked step, in the order of `sections`.
    fn pack(&self, limits: &BatchLimits, at: &Sections) -> Vec<u32> {
        let mut words = vec![0u32; at.total];
        let mut put = |offset: usize, src: &[u32]| words[offset..offset + src.len()].copy_from_slice(src);
        put(at.tokens, &self.tokens);
        put(at.positions, &self.positions);
        put(at.query_start, &self.query_start);
        put(at.kv_len, &self.kv_len);
        put(at.logit_rows, &self.logit_rows);
        for (i, p) in self.sample.iter().enumerate() {
            put(at.sample + 8 * i, &p.words());
        }
        let mut start = 0;
        for (i, recent) in self.recent.iter().enumerate() {
            let mut recent = recent.clone();
            recent.sort_unstable();
            recent.dedup();
            put(at.recent_start + i, &[start]);
            put(at.recent + start as usize, &recent);
            start += recent.len() as u32;
        }
        let rows = self.logit_rows.len();
        put(at.recent_start + self.recent.len(), &vec![start; rows + 1 - self.recent.len()]);
        for (g, group) in self.groups.iter().enumerate() {
            put(at.slots(g), &group.slot_mapping);
            for (s, table) in group.page_tables.iter().enumerate() {
                put(at.page_tables(g, limits) + s * limits.pages_per_seq, table);
            }
        }
        words
    }
}

impl SampleParams {
    /// The 8 words of [`Sections::sample`].
    fn words(&self) -> [u32; 8] {
        [
            self.temperature.to_bits(),
            self.top_k,
            self.top_p.to_bits(),
            self.min_p.to_bits(),
            self.repeat_penalty.to_bits(),
            self.seed as u32,
            (self.seed >> 32) as u32,
            self.step,
        ]
    }
}
