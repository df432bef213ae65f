//! The sections of a batch, read back from its words.
use super::memory::{Reading, read};
use crate::backend::{Counts, DeviceBatch, SampleParams};
use crate::error::Result;
use std::ops::Range;

/// A batch locked for reading.
pub struct BatchView<'a> {
    batch: &'a DeviceBatch,
    words: Reading<'a>,
}

impl<'a> BatchView<'a> {
    /// Locks the batch's words.
    pub fn new(batch: &'a DeviceBatch) -> Result<Self> {
        Ok(BatchView { batch, words: read(&batch.words)? })
    }

    pub fn counts(&self) -> Counts {
        self.batch.counts
    }

    fn section(&self, start: usize, count: usize) -> Result<&[u32]> {
        Ok(&self.words.get::<u32>("batch", start + count)?[start..])
    }

    pub fn tokens(&self) -> Result<&[u32]> {
        self.section(self.batch.sections.tokens, self.batch.counts.tokens)
    }

    pub fn positions(&self) -> Result<&[u32]> {
        self.section(self.batch.sections.positions, self.batch.counts.tokens)
    }

    pub fn logit_rows(&self) -> Result<&[u32]> {
        self.section(self.batch.sections.logit_rows, self.batch.counts.logit_rows)
    }

    pub fn slots(&self, group: usize) -> Result<&[u32]> {
        self.section(self.batch.sections.slots(group), self.batch.counts.tokens)
    }

    /// Tokens of sequence `s` in the batch.
    pub fn query(&self, s: usize) -> Result<Range<usize>> {
        let starts = self.section(self.batch.sections.query_start, self.batch.counts.seqs + 1)?;
        Ok(starts[s] as usize..starts[s + 1] as usize)
    }

    /// Physical pages of sequence `s`.
    pub fn page_table(&self, group: usize, s: usize) -> Result<&[u32]> {
        let limits = &self.batch.limits;
        let start = self.batch.sections.page_tables(group, limits) + s * limits.pages_per_seq;
        self.section(start, limits.pages_per_seq)
    }

    /// Sampling parameters of logits row `r`.
    pub fn sample(&self, r: usize) -> Result<SampleParams> {
        let w = self.section(self.batch.sections.sample + 8 * r, 8)?;
        Ok(SampleParams {
            temperature: f32::from_bits(w[0]),
            top_k: w[1],
            top_p: f32::from_bits(w[2]),
            min_p: f32::from_bits(w[3]),
            repeat_penalty: f32::from_bits(w[4]),
            seed: u64::from(w[5]) | u64::from(w[6]) << 32,
            step: w[7],
        })
    }

    /// Tokens that the repeat penalty of row `r` looks at.
    pub fn recent(&self, r: usize) -> Result<&[u32]> {
        let bounds = self.section(self.batch.sections.recent_start + r, 2)?;
        self.section(self.batch.sections.recent + bounds[0] as usize, bounds[1].saturating_sub(bounds[0]) as usize)
    }
}
