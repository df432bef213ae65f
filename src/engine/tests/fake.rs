//! A runner without a model: what it keeps of a token is a hash of all tokens up to it, made from what the page tables say is
//! kept of the token before it.
use crate::backend::{BatchLimits, HostBatch, SampleParams};
use crate::engine::runner::{Drawn, Runner};
use crate::engine::verify::Pair;
use crate::error::{Error, Result};
use crate::kv::cache::PageCopy;
use crate::kv::tier::MemoryPages;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(in crate::engine) const VOCAB: u32 = 1000;

/// Hash of no tokens.
pub(in crate::engine) const NOTHING: u32 = 17;

/// Hash of a history and one more token.
pub(in crate::engine) fn hash(history: u32, token: u32) -> u32 {
    (history ^ token).wrapping_mul(0x9e37_79b1).rotate_left(7)
}

/// The token after a history.
pub(in crate::engine) fn next(history: &[u32]) -> u32 {
    history.iter().fold(NOTHING, |h, &t| hash(h, t)) % VOCAB
}

/// What an undisturbed engine answers.
pub(in crate::engine) fn answer(prompt: &[u32], tokens: usize) -> Vec<u32> {
    let mut history = prompt.to_vec();
    for _ in 0..tokens {
        history.push(next(&history));
    }
    history.split_off(prompt.len())
}

/// Shape of a test engine.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Shape {
    pub page_tokens: usize,
    pub step_tokens: usize,
    pub max_seqs: usize,
    /// Pages and window of each group; the first has no window.
    pub groups: Vec<(usize, Option<usize>)>,
    /// Whether requests find what others computed.
    pub reuse: bool,
}

pub(in crate::engine) fn shape(
    page_tokens: usize,
    step_tokens: usize,
    max_seqs: usize,
    groups: &[(usize, Option<usize>)],
) -> Shape {
    Shape { page_tokens, step_tokens, max_seqs, groups: groups.to_vec(), reuse: true }
}

pub(in crate::engine) struct FakeRunner {
    shape: Shape,
    limits: BatchLimits,
    /// Per slot: hash of the tokens up to the one in it, and its position; V says the same in other bits.
    pub memory: Arc<Mutex<MemoryPages>>,
    /// Sequences and tokens of each step.
    pub seen: Arc<Mutex<Vec<(usize, usize)>>>,
    /// What the steps were, but for their tokens.
    pub log: Vec<(Vec<PageCopy>, HostBatch)>,
    /// Step that fails.
    pub fail_at: usize,
}

impl FakeRunner {
    pub fn new(shape: &Shape) -> Self {
        let limits = BatchLimits {
            tokens: shape.step_tokens,
            seqs: shape.max_seqs,
            logit_rows: shape.max_seqs,
            pages_per_seq: 1 << 12,
            groups: shape.groups.len(),
            recent: shape.max_seqs * 64,
            width: 8,
            ff: 8,
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            vocab: VOCAB as usize,
        };
        let page = || [vec![0xee; 8 * shape.page_tokens], vec![0xee; 8 * shape.page_tokens]];
        let group = |&(pages, _): &(usize, Option<usize>)| (0..pages).map(|_| page()).collect();
        let memory = Arc::new(Mutex::new(shape.groups.iter().map(group).collect()));
        FakeRunner { shape: shape.clone(), limits, memory, seen: Arc::default(), log: Vec::new(), fail_at: usize::MAX }
    }

    /// What a group keeps of a sequence's token.
    pub fn read(&self, batch: &HostBatch, g: usize, seq: usize, position: u32) -> u32 {
        let slot = slot(&batch.groups[g].page_tables[seq], position, self.shape.page_tokens);
        assert!((slot as usize) < self.shape.groups[g].0 * self.shape.page_tokens, "slot {slot} of group {g}");
        let (hash, at) = self.kept(g, slot);
        assert_eq!(at, position, "group {g}, slot {slot}");
        hash
    }

    /// What is in a slot.
    pub fn kept(&self, g: usize, slot: u32) -> (u32, u32) {
        let (page, at) = (slot as usize / self.shape.page_tokens, slot as usize % self.shape.page_tokens * 8);
        let memory = self.memory.lock().unwrap();
        let [k, v] = memory[g][page].each_ref().map(|half| u64::from_le_bytes(half[at..at + 8].try_into().unwrap()));
        assert_eq!(k, !v, "group {g}, slot {slot}: the halves are not of one page");
        ((k >> 32) as u32, k as u32)
    }

    pub fn keep(&mut self, g: usize, slot: u32, (hash, position): (u32, u32)) {
        let (page, at) = (slot as usize / self.shape.page_tokens, slot as usize % self.shape.page_tokens * 8);
        let k = u64::from(hash) << 32 | u64::from(position);
        for (half, bits) in self.memory.lock().unwrap()[g][page].iter_mut().zip([k, !k]) {
            half[at..at + 8].copy_from_slice(&bits.to_le_bytes());
        }
    }

    /// Keeps the tokens of a sequence; returns the hash of them all. Groups must agree as far as their windows reach.
    pub fn compute(&mut self, batch: &HostBatch, seq: usize) -> u32 {
        let rows = batch.query_start[seq] as usize..batch.query_start[seq + 1] as usize;
        let mut last = match batch.positions[rows.start] {
            0 => NOTHING,
            first => self.read(batch, 0, seq, first - 1),
        };
        for row in rows {
            let position = batch.positions[row];
            last = hash(last, batch.tokens[row]);
            for (g, group) in batch.groups.iter().enumerate() {
                assert_eq!(group.slot_mapping[row], slot(&group.page_tables[seq], position, self.shape.page_tokens));
                self.keep(g, group.slot_mapping[row], (last, position));
            }
            for (g, (_, window)) in self.shape.groups.iter().enumerate() {
                let seen = window.map_or(0, |w| (position + 1).saturating_sub(w as u32));
                for p in seen..=position {
                    assert_eq!(self.read(batch, g, seq, p), self.read(batch, 0, seq, p), "group {g}, position {p}");
                }
            }
        }
        last
    }
}

/// Where a table puts a position.
fn slot(table: &[u32], position: u32, page_tokens: usize) -> u32 {
    table[position as usize / page_tokens] * page_tokens as u32 + position % page_tokens as u32
}

impl Runner for FakeRunner {
    fn run(&mut self, copies: &[PageCopy], batch: &HostBatch, top: &[usize]) -> Result<Vec<Drawn>> {
        let counts = batch.check(&self.limits)?;
        assert_eq!(top.len(), batch.logit_rows.len());
        self.log.push((copies.to_vec(), HostBatch { tokens: Vec::new(), ..batch.clone() }));
        self.seen.lock().unwrap().push((counts.seqs, counts.tokens));
        if self.seen.lock().unwrap().len() > self.fail_at {
            return Err(Error::Overflow("a test".into()));
        }
        for &PageCopy { group, from, to, tokens } in copies {
            for i in 0..tokens as u32 {
                let [from, to] = [from, to].map(|page| page.0 * self.shape.page_tokens as u32 + i);
                let kept = self.kept(group, from);
                self.keep(group, to, kept);
            }
        }
        let hashes: Vec<u32> = (0..batch.kv_len.len()).map(|seq| self.compute(batch, seq)).collect();
        let seq_of = |row: u32| batch.query_start.iter().position(|&start| start > row).unwrap() - 1;
        // Seeds matter where something is drawn.
        let seed = |sample: &SampleParams| if sample.temperature > 0.0 { sample.seed as u32 } else { 0 };
        let draw = |(&row, sample)| Drawn { id: hashes[seq_of(row)].wrapping_add(seed(sample)) % VOCAB, logits: None };
        Ok(batch.logit_rows.iter().zip(&batch.sample).map(draw).collect())
    }

    /// 1 ms a token, and 10 us for each before it, so that what is learnt from it is the same in every run.
    fn took(&self) -> Option<Duration> {
        let (_, batch) = self.log.last()?;
        let micros = |&position: &u32| 1000 + 10 * u64::from(position);
        Some(Duration::from_micros(batch.positions.iter().map(micros).sum()))
    }

    fn same(&mut self, pairs: &[Pair]) -> Result<bool> {
        let memory = self.memory.lock().unwrap();
        Ok(pairs.iter().all(|pair| memory[pair.group][pair.found.index()] == memory[pair.group][pair.computed.index()]))
    }
}
