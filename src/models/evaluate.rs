//! One sequence at a time, from its beginning: logits of given tokens, and perplexity. No scheduler, no shared cache.
use super::config::StepLimits;
use super::decoder::Model;
use super::repack::{HalfLoss, Repacker};
use super::workspace::Workspace;
use crate::backend::{DeviceBatch, GroupBatch, HostBatch, KvGroup, KvLayout, KvTypes, Packings};
use crate::error::{Error, Result};
use std::sync::Arc;

/// Runs token sequences through a model, in pieces.
pub struct Evaluator {
    model: Arc<Model>,
    piece: usize,
    context: usize,
    page_tokens: usize,
    batch: DeviceBatch,
    kv: Vec<KvGroup>,
    workspace: Workspace,
    row: Vec<f32>,
    repacker: Option<Repacker>,
}

/// Result of [`Evaluator::perplexity`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `exp` of the mean negative log-likelihood.
    pub perplexity: f64,
    /// Tokens scored.
    pub scored: usize,
    /// Chunks of the text.
    pub chunks: usize,
}

impl Evaluator {
    /// Room for sequences of `context` tokens, computed `piece` tokens at a time, in KV pages of these types.
    pub fn new(model: Arc<Model>, types: impl Into<KvTypes>, context: usize, piece: usize) -> Result<Self> {
        const PAGE_TOKENS: usize = 16;
        let piece = piece.clamp(1, context.max(1));
        let backend = Arc::clone(model.backend());
        let types = types.into();
        types.check(backend.float(), model.config().head_dim)?;
        let step =
            StepLimits { tokens: piece, seqs: 1, logit_rows: piece, context, page_tokens: PAGE_TOKENS, recent: 0 };
        let limits = model.config().limits(&step);
        backend.reserve(&limits)?;
        let pages = limits.pages_per_seq;
        let group = |layout: KvLayout| {
            let data = backend.alloc("KV pages", pages * layout.page_bytes())?;
            Ok(KvGroup { layout, pages, data })
        };
        Ok(Evaluator {
            piece,
            context,
            page_tokens: PAGE_TOKENS,
            batch: DeviceBatch::new(&*backend, limits)?,
            kv: model.config().kv_layouts(PAGE_TOKENS, types).into_iter().map(group).collect::<Result<_>>()?,
            workspace: Workspace::new(&*backend, model.config(), &limits)?,
            row: vec![0.0; model.config().vocab],
            repacker: None,
            model,
        })
    }

    /// Sequences are computed page by page, and each page is packed and unpacked in place as soon as it is full; the one that
    /// is filling stays exact. So a sequence is seen by what resumes from a tier with this packing.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the pages cannot be packed so.
    pub fn packing(mut self, packings: Packings) -> Result<Self> {
        self.piece = self.page_tokens.min(self.context);
        self.repacker = Some(Repacker::new(Arc::clone(self.model.backend()), &self.kv, packings)?);
        Ok(self)
    }

    /// What packing lost so far of K and of V.
    pub fn losses(&self) -> Option<[HalfLoss; 2]> {
        self.repacker.as_ref().map(Repacker::losses)
    }

    /// Gives the logits at each position from `first` on to `each`.
    pub fn logits(
        &mut self,
        ids: &[u32],
        first: usize,
        mut each: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if ids.is_empty() || ids.len() > self.context {
            let message = format!("{} tokens; 1 to {} can be evaluated", ids.len(), self.context);
            return Err(Error::Request(message));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.model.config().vocab) {
            let message = format!("token {id} is not in the vocabulary of {}", self.model.config().vocab);
            return Err(Error::Request(message));
        }
        let backend = Arc::clone(self.model.backend());
        for start in (0..ids.len()).step_by(self.piece) {
            let end = (start + self.piece).min(ids.len());
            let host = self.step(ids, start, end, first.clamp(start, end));
            self.batch.load(&*backend, &host)?;
            self.model.forward(&self.batch, &self.kv, &self.workspace)?;
            backend.finish()?;
            for (r, row) in host.logit_rows.iter().enumerate() {
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.row);
                backend.download(&self.workspace.logits, r * bytes.len(), bytes)?;
                each(start + *row as usize, &self.row)?;
            }
            if let Some(repacker) = self.repacker.as_mut().filter(|_| end.is_multiple_of(self.page_tokens)) {
                repacker.run(self.kv.len(), (end / self.page_tokens - 1) as u32)?;
            }
        }
        Ok(())
    }

    /// Tokens `start..end` of the sequence, with logits from `first` on. The sequence lies in pages 0, 1, 2 ...
    fn step(&self, ids: &[u32], start: usize, end: usize, first: usize) -> HostBatch {
        let table: Vec<u32> = (0..end.div_ceil(self.page_tokens) as u32).collect();
        let positions: Vec<u32> = (start as u32..end as u32).collect();
        let group = GroupBatch { slot_mapping: positions.clone(), page_tables: vec![table] };
        HostBatch {
            tokens: ids[start..end].to_vec(),
            positions,
            query_start: vec![0, (end - start) as u32],
            kv_len: vec![end as u32],
            decodes: usize::from(end - start == 1),
            groups: vec![group; self.kv.len()],
            logit_rows: (first..end).map(|position| (position - start) as u32).collect(),
            sample: Vec::new(),
            recent: Vec::new(),
        }
    }

    /// Perplexity as llama.cpp's tool counts it: consecutive chunks of `chunk` tokens, the first of each replaced by `bos`
    /// where one is given, the last incomplete chunk dropped, the second half of each chunk scored. `done` hears of each
    /// finished chunk.
    pub fn perplexity(
        &mut self,
        ids: &[u32],
        bos: Option<u32>,
        chunk: usize,
        chunks: Option<usize>,
        mut done: impl FnMut(Perplexity),
    ) -> Result<Perplexity> {
        let count = (ids.len() / chunk.max(1)).min(chunks.unwrap_or(usize::MAX));
        if count == 0 || chunk < 4 {
            let message = format!("{} tokens hold no whole chunk of {chunk} (at least 4 tokens)", ids.len());
            return Err(Error::Request(message));
        }
        let (mut loss, mut result) = (0.0, Perplexity { perplexity: f64::NAN, scored: 0, chunks: 0 });
        for text in ids.chunks_exact(chunk).take(count) {
            let mut text = text.to_vec();
            text[0] = bos.unwrap_or(text[0]);
            // The last token's logits would predict the next chunk.
            let context = text[..chunk - 1].to_vec();
            self.logits(&context, chunk / 2, |position, logits| {
                loss += log_sum_exp(logits) - f64::from(logits[text[position + 1] as usize]);
                result.scored += 1;
                Ok(())
            })?;
            result.chunks += 1;
            result.perplexity = (loss / result.scored as f64).exp();
            done(result);
        }
        Ok(result)
    }
}

/// `ln(sum(exp(x)))` in f64.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
    f64::from(max) + sum.ln()
}
