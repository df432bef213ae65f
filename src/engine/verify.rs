//! Recomputes a sample of the pages that prompts found in the cache, and compares: what every checksum has passed may still
//! be wrong, where a kernel or the memory of the device is.
//!
//! Invariants:
//! * A check runs between two steps, alone, and holds pages only meanwhile: those that it reads, and one of each group that it
//!   writes. It waits until nothing else runs, or for [`PATIENCE`] steps.
//! * A page that differs is taken out of service with everything that continues it, on every tier; what was computed on top of
//!   it is not published.
use super::batch;
use super::core::Core;
use super::output::Output;
use super::pages::Pages;
use super::request::Sampling;
use super::runner::Runner;
use super::scheduler::Chunk;
use super::sequence::{Sequence, Submission};
use crate::backend::{KvHalf, KvLayout, KvType};
use crate::error::Result;
use crate::kv::workload::Random;
use crate::kv::{Keys, Lease, PageId};
use half::{bf16, f16};
use std::collections::VecDeque;
use std::sync::Arc;

/// Steps after which a check runs beside others.
const PATIENCE: u64 = 16;
/// Pages that wait to be checked; of more the oldest is left out.
const WAITING: usize = 64;
/// Seed of the choice.
const SEED: u64 = 0x5eed_0f9a_6e50;

/// Checks of found pages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Pages, of all groups, that were computed again.
    pub pages: u64,
    /// Of these, not what was found.
    pub differed: u64,
}

/// Chooses pages, and knows which ones wait.
pub(super) struct Verifier {
    /// One in so many is checked.
    every: u64,
    random: Random,
    /// The tokens of a page and of all before it.
    waiting: VecDeque<Keys>,
    /// Steps since the last check.
    steps: u64,
    pub report: Verified,
}

/// A page of each group, and one for the same tokens to be computed into.
pub(super) struct Pair {
    pub group: usize,
    pub found: PageId,
    pub computed: PageId,
}

impl Verifier {
    /// Checks one in `every` pages found.
    pub fn new(every: u64) -> Self {
        Verifier {
            every: every.max(1),
            random: Random::new(SEED),
            waiting: VecDeque::new(),
            steps: 0,
            report: Verified::default(),
        }
    }

    /// A prompt found its first `pages` pages.
    pub fn found(&mut self, keys: &Keys, pages: usize) {
        for page in 0..pages {
            let chosen = self.random.below(self.every as usize) == 0;
            // A page restored from a quantised copy is not what its tokens give, and has a name of its own.
            if chosen && keys.mark(page).is_none() {
                let mut keys = keys.clone();
                keys.truncate((page + 1) * keys.page_tokens());
                self.waiting.push_back(keys);
            }
        }
        while self.waiting.len() > WAITING {
            self.waiting.pop_front();
        }
    }

    /// Whether pages wait.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn next(&mut self, idle: bool) -> Option<Keys> {
        self.steps += 1;
        if !idle && self.steps < PATIENCE {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.steps = 0;
        Some(next)
    }
}

/// A check under way.
struct Check {
    /// Up to the end of the page.
    keys: Keys,
    found: Lease,
    /// The same tokens and one more, so that nothing is drawn; its last page is its own.
    scratch: Sequence,
}

impl Check {
    fn pairs(&self, groups: usize) -> Vec<Pair> {
        let page = self.keys.pages() - 1;
        let of = |table: &[u32]| PageId(table[page]);
        let pair = |group| Pair { group, found: of(self.found.table(group)), computed: of(self.scratch.table(group)) };
        (0..groups).map(pair).collect()
    }
}

impl Pages {
    /// Holds a page and all before it, and room to compute it again; `None` if it is gone or there is no room.
    fn open_check(&mut self, keys: Keys) -> Option<Check> {
        let end = keys.tokens().len();
        let mut beginning = keys.clone();
        beginning.truncate(end - self.page_tokens());
        let found = self.cache.hold(&keys, self.now);
        let mut lease = self.cache.hold(&beginning, self.now);
        let whole = found.filled() == end && lease.filled() == beginning.tokens().len();
        let sequence = if whole && self.cache.grow(&mut lease, end) { nobodys(&keys) } else { None };
        match sequence {
            Some(scratch) => Some(Check { keys, found, scratch: Sequence { lease: Some(lease), ..scratch } }),
            None => {
                self.cache.cancel(found);
                self.cache.cancel(lease);
                None
            }
        }
    }

    /// Lets go of a check's pages; of one that `differed` nothing is found any more.
    fn close_check(&mut self, check: Check, differed: bool) {
        let Check { keys, found, scratch } = check;
        self.cache.cancel(found);
        if let Some(lease) = scratch.lease {
            self.cache.cancel(lease);
        }
        if differed {
            self.cache.invalidate_prefix(&keys);
        }
    }
}

/// A sequence of these tokens and one more that nobody listens to.
fn nobodys(keys: &Keys) -> Option<Sequence> {
    let mut keys = keys.clone();
    keys.extend(&[0]);
    let (events, _) = std::sync::mpsc::channel();
    let submission = Submission {
        prompt: keys.tokens().to_vec(),
        salt: Vec::new(),
        exact: false,
        priority: 0,
        limit: keys.tokens().len(),
        sampling: Sampling { seed: Some(0), ..Sampling::default() }.params().ok()?,
        output: Output::new(events, Arc::default()),
        twins: Vec::new(),
    };
    Some(Sequence::new(keys, submission))
}

impl<R: Runner> Core<R> {
    /// Checks one page if its turn has come.
    pub(super) fn verify(&mut self) {
        let idle = self.scheduler.running.is_empty();
        let next = self.scheduler.pages.verifier.as_mut().and_then(|verifier| verifier.next(idle));
        let Some(mut check) = next.and_then(|keys| self.scheduler.pages.open_check(keys)) else { return };
        let same = self.recompute(&mut check);
        let groups = self.scheduler.pages.groups();
        let same = same.and_then(|()| self.runner.same(&check.pairs(groups)));
        if let Err(error) = &same {
            tracing::warn!("a found KV page could not be computed again: {error}");
        }
        let (checked, differed) = (same.is_ok(), matches!(same, Ok(false)));
        if differed {
            let tokens = check.keys.tokens().len();
            tracing::error!("a found KV page that ends at token {tokens} is not what its tokens give; it is dropped");
        }
        self.scheduler.pages.close_check(check, differed);
        if let Some(verifier) = &mut self.scheduler.pages.verifier {
            verifier.report.pages += if checked { groups as u64 } else { 0 };
            verifier.report.differed += u64::from(differed);
        }
    }

    fn recompute(&mut self, check: &mut Check) -> Result<()> {
        let end = check.keys.tokens().len();
        while check.scratch.computed() < end {
            let tokens = (end - check.scratch.computed()).min(self.scheduler.step_tokens());
            let chunk = Chunk { seq: 0, tokens };
            let step = batch::build(&[chunk], std::slice::from_ref(&check.scratch), &self.scheduler.pages);
            self.runner.run(&[], &step, &[])?;
            let filled = check.scratch.computed() + tokens;
            if let Some(lease) = &mut check.scratch.lease {
                lease.fill(filled);
            }
        }
        Ok(())
    }
}

/// Of a half in floats, the root mean square of what two batches may differ in, relative to that of the half: kernels choose
/// their shapes by the batch, and sum in other orders.
const FLOAT_BOUND: f64 = 0.02;
/// Of a quantised half, the part of the bytes that may differ by more than [`NEAR`]: codes at the edge between two scales, and
/// low bytes of scales.
const CODES_BOUND: f64 = 0.06;
const NEAR: u8 = 16;

/// Whether two pages hold the same; `exact`: to the bit.
pub(super) fn same_page(layout: &KvLayout, exact: bool, a: &[u8], b: &[u8]) -> bool {
    let half = |half: KvHalf| {
        let bytes = layout.half_offset(half)..layout.half_offset(half) + layout.half_bytes(half);
        let (a, b) = (&a[bytes.clone()], &b[bytes]);
        a == b || !exact && is_near(layout.types.of(half), a, b)
    };
    KvHalf::BOTH.into_iter().all(half)
}

fn is_near(kind: KvType, a: &[u8], b: &[u8]) -> bool {
    let read: fn(&[u8]) -> f64 = match kind {
        KvType::F16 => |x| f16::from_le_bytes([x[0], x[1]]).to_f64(),
        KvType::BF16 => |x| bf16::from_le_bytes([x[0], x[1]]).to_f64(),
        KvType::Int8 | KvType::Fp8 => {
            let far = a.iter().zip(b).filter(|(a, b)| a.abs_diff(**b) > NEAR).count();
            return far as f64 <= CODES_BOUND * a.len() as f64;
        }
    };
    let elements = a.chunks_exact(2).zip(b.chunks_exact(2)).map(|(a, b)| (read(a), read(b)));
    let (error, norm) = elements.fold((0.0, 0.0), |(e, n), (a, b)| (e + (a - b) * (a - b), n + b * b));
    // What is not a number is near nothing.
    error <= FLOAT_BOUND * FLOAT_BOUND * norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::KvTypes;

    fn layout(kind: KvType) -> KvLayout {
        KvLayout { layers: 2, kv_heads: 1, head_dim: 64, page_tokens: 8, types: KvTypes::both(kind) }
    }

    #[test]
    fn pages_are_the_same_to_the_bit_or_as_far_as_batches_may_differ() {
        let l = layout(KvType::F16);
        let mut random = Random::new(3);
        let values: Vec<f64> = (0..l.page_bytes() / 2).map(|_| random.unit() * 2.0 - 1.0).collect();
        let page = |change: &dyn Fn(usize, f64) -> f64| -> Vec<u8> {
            values.iter().enumerate().flat_map(|(i, &x)| f16::from_f64(change(i, x)).to_le_bytes()).collect()
        };
        let (right, rounded) = (page(&|_, x| x), page(&|_, x| x * 1.003));
        assert!(same_page(&l, true, &right, &right));
        assert!(!same_page(&l, true, &rounded, &right) && same_page(&l, false, &rounded, &right));
        let last_token = l.page_bytes() / 2 - 64;
        for wrong in [
            page(&|i, x| if i >= last_token { -x } else { x }),
            page(&|i, x| if i == 100 { f64::NAN } else { x }),
            page(&|i, x| if i < 64 { 0.0 } else { x }),
        ] {
            assert!(!same_page(&l, false, &wrong, &right));
        }
    }

    #[test]
    fn quantised_pages_differ_where_many_codes_do() {
        let l = layout(KvType::Int8);
        let mut random = Random::new(4);
        let right: Vec<u8> = (0..l.page_bytes()).map(|_| random.bits() as u8 % 200 + 20).collect();
        let near: Vec<u8> = right.iter().map(|x| x + 1).collect();
        assert!(same_page(&l, false, &near, &right) && !same_page(&l, true, &near, &right));
        let mut wrong = right.clone();
        wrong[..l.page_bytes() / 8].iter_mut().for_each(|x| *x ^= 0x40);
        assert!(!same_page(&l, false, &wrong, &right));
    }
}
