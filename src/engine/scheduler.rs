//! Which tokens the next step computes.
//!
//! Decodes come first, then prompts in pieces, oldest first, within the step's budget; new requests join when their pages
//! are free, those of higher priority first. When pages run out a younger sequence gives up its own and goes on later
//! (`comeback`), from what is left of them in the cache.
use super::pages::Pages;
use super::sequence::Sequence;
use crate::kv::Pace;
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
    /// How fast prompts are computed.
    pub pace: Pace,
    step_tokens: usize,
    max_seqs: usize,
}

impl Scheduler {
    pub fn new(pages: Pages, step_tokens: usize, max_seqs: usize) -> Self {
        Scheduler {
            pages,
            running: Vec::new(),
            waiting: VecDeque::new(),
            preemptions: 0,
            pace: Pace::default(),
            step_tokens,
            max_seqs,
        }
    }

    /// Sequences that run at once.
    pub fn max_seqs(&self) -> usize {
        self.max_seqs
    }

    /// Tokens of a step.
    pub fn step_tokens(&self) -> usize {
        self.step_tokens
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
            if self.pages.forgo(s) || self.pages.shed() {
                continue;
            }
            if self.pages.will_free() {
                return false;
            }
            if self.abandon_load() {
                continue;
            }
            let youngest = self.running.len() - 1;
            if youngest == 0 && self.pages.break_pin() {
                continue;
            }
            let victim = self.victim(seq);
            self.preempt(victim);
            chunks.retain(|c| c.seq != victim);
            chunks.iter_mut().filter(|c| c.seq > victim).for_each(|c| c.seq -= 1);
        }
        false
    }

    /// Gives up the pages loaded for the waiting sequence whose turn comes last, then those of prefetches; false if there are none.
    fn abandon_load(&mut self) -> bool {
        let last = self.waiting.iter_mut().rfind(|s| s.load.is_some());
        last.is_some_and(|s| self.pages.abandon(s)) || self.pages.abandon_prefetch()
    }

    /// Takes a running sequence's pages; it goes on before those of its priority that wait.
    fn preempt(&mut self, seq: usize) {
        let mut s = self.running.remove(seq);
        self.pages.preempt(&mut s, &self.pace);
        let at = self.waiting.partition_point(|other| other.priority > s.priority);
        self.waiting.insert(at, s);
        self.preemptions += 1;
    }

    /// Lets a new sequence wait, after all of at least its priority.
    pub fn queue(&mut self, s: Sequence) {
        let at = self.waiting.partition_point(|other| other.priority >= s.priority);
        self.waiting.insert(at, s);
    }

    /// Lets the first waiting sequence that can run do so: if there is budget for some of it and pages for all of it, beside what
    /// the running ones still need. One whose pages are on their way is passed over.
    fn admit(&mut self, chunks: &[Chunk]) -> bool {
        let mut seats: usize = self.running.iter().map(Sequence::seats).sum();
        for at in 0..self.waiting.len().min(2 * self.max_seqs) {
            seats += self.waiting[at].seats();
            if seats > self.max_seqs {
                return false;
            }
            if self.pages.is_loading(&self.waiting[at]) {
                continue;
            }
            if self.is_computed_elsewhere(at) {
                seats -= self.waiting[at].seats();
                continue;
            }
            if self.short(at) && !self.clear(at) {
                return false;
            }
            let spare = self.claimed(|other| other != at);
            if self.pages.load(&mut self.waiting[at], self.pace, spare) {
                continue;
            }
            if self.budget(chunks) == 0 {
                return false;
            }
            let Some(mut next) = self.waiting.remove(at) else { return false };
            self.pages.open(&mut next);
            self.running.push(next);
            return true;
        }
        false
    }

    /// Whether the next page that a waiting sequence misses is being computed or loaded for another one of its tenant.
    fn is_computed_elsewhere(&self, at: usize) -> bool {
        let s = &self.waiting[at];
        if !self.pages.reuse || s.load.is_some() {
            return false;
        }
        let (tokens, page) = (self.pages.page_tokens(), self.pages.whole(s));
        let end = (page + 1) * tokens;
        if end > s.findable() {
            return false;
        }
        let key = s.keys.key(page);
        let computes = |other: &Sequence| other.computed() < end && other.keys.full().get(page).copied() == key;
        self.running.iter().any(computes) || self.pages.is_arriving(s, page)
    }

    /// Pages of each group that the running sequences and those waiting ones that loads hold pages for will still take; `others`
    /// says by index which of the waiting ones count.
    pub fn claimed(&self, others: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut sum = vec![0; self.pages.groups()];
        let loading = self.waiting.iter().enumerate().filter(|(at, s)| s.load.is_some() && others(*at));
        for s in self.running.iter().chain(loading.map(|(_, s)| s)) {
            self.add_claim(&mut sum, s);
        }
        sum
    }

    fn add_claim(&self, sum: &mut [usize], s: &Sequence) {
        // Each twin copies the page that the prompt ends in.
        sum.iter_mut().zip(self.pages.outstanding(s)).for_each(|(sum, n)| *sum += n + s.twins.len());
    }

    /// Where nothing runs and nothing is on its way, nobody else would free pages for a waiting sequence: those that were loaded
    /// for others are given up. Alone it always fits: what could not was refused when it was submitted. False if it is to wait.
    fn clear(&mut self, at: usize) -> bool {
        if !self.running.is_empty() || self.waiting.iter().any(|s| self.pages.is_loading(s)) {
            return false;
        }
        for (other, s) in self.waiting.iter_mut().enumerate() {
            if other != at {
                self.pages.abandon(s);
            }
        }
        true
    }

    /// Whether too few pages are free for all of waiting sequence `at` beside what others will still take.
    fn short(&self, at: usize) -> bool {
        let mut wanted = self.claimed(|other| other != at);
        self.add_claim(&mut wanted, &self.waiting[at]);
        let free = self.pages.free();
        let short = |shared: &[usize]| (0..free.len()).any(|g| wanted[g] > free[g] + shared[g]);
        short(&vec![0; free.len()]) && short(&self.pages.shared(&self.waiting[at]))
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
