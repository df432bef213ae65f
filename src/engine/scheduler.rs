//! Which tokens the next step computes.
//!
//! Decodes come first, then prompts in pieces, oldest first, within the step's budget; new requests join when their pages
//! are free, those of higher priority first. When pages run out the youngest running sequence gives up its own and goes on later, from what is left of them in
//! the cache.
use super::pages::Pages;
use super::sequence::Sequence;
use std::collections::VecDeque;

/// Waiting sequences whose cached pages are kept for them as long as there are others to evict.
const LOOKAHEAD: usize = 32;

/// Tokens of one running sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Index among the running ones.
    pub seq: usize,
    /// New tokens, from the first that is not computed.
    pub tokens: usize,
}

/// How a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// What it computed may be found by others.
    Finished,
    /// It may not.
    Failed,
}

/// Sequences and their pages.
pub(super) struct Scheduler {
    pub pages: Pages,
    /// Oldest first.
    pub running: Vec<Sequence>,
    pub waiting: VecDeque<Sequence>,
    /// Sequences that gave up their pages, so far.
    pub preemptions: u64,
    step_tokens: usize,
    max_seqs: usize,
}

impl Scheduler {
    pub fn new(pages: Pages, step_tokens: usize, max_seqs: usize) -> Self {
        Scheduler { pages, running: Vec::new(), waiting: VecDeque::new(), preemptions: 0, step_tokens, max_seqs }
    }

    /// Sequences that run at once.
    pub fn max_seqs(&self) -> usize {
        self.max_seqs
    }

    /// The next step, its pages taken: chunks of one token first. Empty when there is nothing to do.
    pub fn schedule(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for decoding in [true, false] {
            let mut seq = 0;
            while seq < self.running.len() {
                if (self.running[seq].remaining() == 1) == decoding {
                    self.extend(seq, &mut chunks);
                }
                seq += 1;
            }
        }
        while self.admit(&chunks) && self.extend(self.running.len() - 1, &mut chunks) {}
        chunks.sort_by_key(|c| c.tokens != 1);
        for s in self.waiting.iter_mut().take(LOOKAHEAD) {
            self.pages.expect(s);
        }
        chunks
    }

    fn budget(&self, chunks: &[Chunk]) -> usize {
        self.step_tokens - chunks.iter().map(|c| c.tokens).sum::<usize>()
    }

    /// Adds what fits of sequence `seq`, at the cost of younger ones if there are no pages; false if nothing was added.
    fn extend(&mut self, seq: usize, chunks: &mut Vec<Chunk>) -> bool {
        while seq < self.running.len() {
            let budget = self.budget(chunks);
            let s = &mut self.running[seq];
            let tokens = s.remaining().min(budget);
            if tokens == 0 {
                return false;
            }
            if self.pages.grow(s, s.computed() + tokens) {
                chunks.push(Chunk { seq, tokens });
                return true;
            }
            if self.pages.forgo(s) {
                continue;
            }
            let youngest = self.running.len() - 1;
            if youngest == 0 && self.pages.break_pin() {
                continue;
            }
            self.preempt(youngest);
            chunks.retain(|c| c.seq != youngest);
        }
        false
    }

    /// Takes the youngest sequence's pages; it goes on before those of its priority that wait.
    fn preempt(&mut self, youngest: usize) {
        let mut s = self.running.remove(youngest);
        self.pages.preempt(&mut s);
        let at = self.waiting.partition_point(|other| other.priority > s.priority);
        self.waiting.insert(at, s);
        self.preemptions += 1;
    }

    /// Lets a new sequence wait, after all of at least its priority.
    pub fn queue(&mut self, s: Sequence) {
        let at = self.waiting.partition_point(|other| other.priority >= s.priority);
        self.waiting.insert(at, s);
    }

    /// Lets the next waiting sequence run if there is budget for some of it and pages for all of it, beside what the
    /// running ones still need.
    fn admit(&mut self, chunks: &[Chunk]) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        let seats: usize = self.running.iter().map(Sequence::seats).sum();
        if seats + next.seats() > self.max_seqs || self.budget(chunks) == 0 {
            return false;
        }
        // Alone it always fits: what could not was refused when it was submitted.
        if !self.running.is_empty() && self.short(next) {
            return false;
        }
        if let Some(mut next) = self.waiting.pop_front() {
            self.pages.open(&mut next);
            self.running.push(next);
        }
        true
    }

    /// Whether too few pages are free for all of `next` beside what the running sequences will still take.
    fn short(&self, next: &Sequence) -> bool {
        let mut wanted = vec![0; self.pages.groups()];
        for s in self.running.iter().chain([next]) {
            let more = self.pages.outstanding(s.lease.as_ref(), s.tokens().len() + 1);
            // Each twin copies the page that the prompt ends in.
            wanted.iter_mut().zip(more).for_each(|(sum, n)| *sum += n + s.twins.len());
        }
        let free = self.pages.free();
        let short = |shared: &[usize]| (0..free.len()).any(|g| wanted[g] > free[g] + shared[g]);
        short(&vec![0; free.len()]) && short(&self.pages.shared(next))
    }

    /// Removes running and waiting sequences for which `end` says how they ended, and takes their pages.
    pub fn remove(&mut self, mut end: impl FnMut(&mut Sequence) -> Option<End>) {
        let pages = &mut self.pages;
        let mut keep = |s: &mut Sequence| {
            let end = end(s);
            match end {
                Some(End::Finished) => pages.finish(s),
                Some(End::Failed) => pages.discard(s),
                None => {}
            }
            end.is_none()
        };
        self.running.retain_mut(&mut keep);
        self.waiting.retain_mut(&mut keep);
    }
}
