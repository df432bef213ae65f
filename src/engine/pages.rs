//! The pages of sequences: their leases on the cache, and how many more they will take.
//!
//! Invariants:
//! * Growing gives pages in all groups or in none.
//! * Copies are listed in the order in which they are to run, all before the operations of the next step.
//! * A sequence writes only to pages that nobody else holds: what it finds or publishes it no longer writes to.
use super::comeback::Comebacks;
use super::config::pages_for;
use super::pins::Pins;
use super::prefetch::Prefetch;
use super::sequence::Sequence;
use super::verify::Verifier;
use crate::kv::cache::{Cache, Counters, Lease, PageCopy};
use crate::kv::tier::{Manager, ManagerConfig, PageIo, Tiers};
use crate::kv::{Fingerprint, GroupConfig, Keys, policy};

/// The cache as the scheduler sees it.
pub(super) struct Pages {
    pub(super) cache: Cache,
    pub(super) pins: Pins,
    pub(super) prefetches: Vec<Prefetch>,
    pub(super) below: Option<Manager>,
    /// Where a sample of the pages found is computed again.
    pub(super) verifier: Option<Verifier>,
    step_tokens: usize,
    /// Whether sequences find what others computed.
    pub(super) reuse: bool,
    /// Time for policies, in ms; never decreases.
    pub now: u64,
    copies: Vec<PageCopy>,
    /// How sequences that gave way came back.
    pub(super) comebacks: Comebacks,
    /// When the cache was last told what pages cost.
    pub(super) weighed: Option<u64>,
}

impl Pages {
    /// `groups`: pages and window of each. Pages stay in this process, so `fingerprint` need not tell it from others.
    pub fn new(
        fingerprint: Fingerprint,
        page_tokens: usize,
        step_tokens: usize,
        groups: &[GroupConfig],
        reuse: bool,
    ) -> Self {
        let kind = policy::Kind::Kvick;
        let pages = groups.iter().map(|group| group.pages).max().unwrap_or(0);
        let ghosts = if reuse { kind.ghosts(pages) } else { 0 };
        let cache = Cache::new(fingerprint, page_tokens, groups, ghosts, || kind.build(pages, None));
        Pages {
            cache,
            pins: Pins::default(),
            prefetches: Vec::new(),
            below: None,
            verifier: None,
            step_tokens,
            reuse,
            now: 0,
            copies: Vec::new(),
            comebacks: Comebacks::default(),
            weighed: None,
        }
    }

    /// Puts tiers below the device, to and from which `io` copies. Without reuse there is nothing to keep.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn with_tiers(mut self, io: Box<dyn PageIo>, tiers: Tiers, config: ManagerConfig) -> std::io::Result<Self> {
        if self.reuse {
            self.below = Some(Manager::new(&mut self.cache, io, tiers, config)?);
        }
        Ok(self)
    }

    /// Tokens of a page.
    pub fn page_tokens(&self) -> usize {
        self.cache.page_tokens()
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.cache.groups()
    }

    /// What the cache did so far.
    pub fn counters(&self) -> Counters {
        self.cache.counters()
    }

    /// Tokens of the longest sequence that fits alone.
    pub fn capacity(&self) -> usize {
        let scarce = (0..self.groups()).filter(|&g| self.cache.pages(g) < self.peak(g, usize::MAX / 2));
        scarce.map(|g| self.cache.pages(g) * self.page_tokens()).min().unwrap_or(usize::MAX)
    }

    /// Pages of each group that no sequence holds: free, or cached for those that come.
    pub fn free(&self) -> Vec<usize> {
        (0..self.groups()).map(|g| self.cache.available(g)).collect()
    }

    /// Pages of each group that can be found.
    pub fn cached_pages(&self) -> Vec<usize> {
        (0..self.groups()).map(|g| self.cache.cached(g)).collect()
    }

    fn peak(&self, group: usize, len: usize) -> usize {
        pages_for(self.cache.window(group), self.page_tokens(), self.step_tokens, len)
    }

    /// Pages of each group that a sequence will still take, beside those that it holds or that are loaded for it.
    pub fn outstanding(&self, s: &Sequence) -> Vec<usize> {
        let len = s.tokens().len() + 1;
        let held = |g: usize| match &s.lease {
            Some(lease) => lease.held(g),
            None => self.held_by_load(s, g),
        };
        (0..self.groups()).map(|g| self.peak(g, len).saturating_sub(held(g))).collect()
    }

    /// Pages of each group that a waiting sequence would find in use by others.
    pub fn shared(&self, s: &Sequence) -> Vec<usize> {
        if self.reuse { self.cache.shared(&s.keys, s.findable(), self.now) } else { vec![0; self.groups()] }
    }

    /// Leading full pages that a waiting sequence would find on the device.
    pub fn whole(&self, s: &Sequence) -> usize {
        self.cache.whole_pages(&s.keys, s.findable(), self.now)
    }

    /// Leading tokens of a sequence that are cached, restored pages included.
    pub fn cached(&mut self, keys: &Keys) -> usize {
        let lease = self.hold(keys);
        let tokens = lease.filled();
        self.cache.cancel(lease);
        tokens
    }

    /// Holds what is cached of a sequence, restored pages included.
    pub fn hold(&mut self, keys: &Keys) -> Lease {
        self.cache.hold(&self.renamed(keys), self.now)
    }

    /// The names under which the device has most of a sequence.
    pub fn renamed(&self, keys: &Keys) -> Keys {
        let mut keys = keys.clone();
        self.cache.rename(&mut keys, usize::MAX, self.now);
        keys
    }

    /// Takes the pages of a tenant's sequence, from the one it ends in, and of all that continues it out of service. The pages
    /// freed, over all groups.
    pub fn invalidate_prefix(&mut self, salt: &[u8], tokens: &[u32]) -> usize {
        let keys = self.keys(salt, tokens);
        self.cache.invalidate_prefix(&keys)
    }

    /// Serves what is cached of a tenant's sequence only `ttl` ms longer. For how many tokens that is.
    pub fn expire_after(&mut self, salt: &[u8], tokens: &[u32], ttl: u64) -> usize {
        let keys = self.keys(salt, tokens);
        let lease = self.hold(&keys);
        let time = self.now.saturating_add(ttl);
        self.cache.expire_at(&lease, time);
        self.cache.expire_prefix(&keys, time);
        let tokens = lease.filled();
        self.cache.cancel(lease);
        tokens
    }

    /// The keys of a tenant's sequence.
    pub fn keys(&self, salt: &[u8], tokens: &[u32]) -> Keys {
        self.cache.keys(salt, tokens)
    }

    /// Gives a sequence that will run what is cached of it.
    pub fn open(&mut self, s: &mut Sequence) {
        self.unexpect(s);
        let (announced, loaded) = self.take_load(s);
        self.rename(s);
        s.lease = Some(match (self.reuse, s.preempted, announced) {
            (false, _, _) => self.cache.blank(),
            (true, true, _) => self.cache.resume(&s.keys, s.findable(), self.now),
            (true, false, None) => self.cache.start(&s.keys, s.findable(), self.now),
            (true, false, Some(announced)) => self.cache.join(&s.keys, announced, s.findable(), self.now),
        });
        if s.preempted {
            self.came_back(s, loaded);
        } else {
            s.found = s.computed();
            if let Some(verifier) = &mut self.verifier {
                verifier.found(&s.keys, s.found / self.cache.page_tokens());
            }
        }
    }

    /// Says once that a waiting sequence will ask for what is cached of it.
    pub fn expect(&mut self, s: &mut Sequence) {
        if self.reuse && !s.asked {
            s.asked = true;
            self.rename(s);
            s.expected = self.cache.expect(&s.keys, s.findable(), self.now);
        }
    }

    /// Gives a sequence that takes restored pages the names under which the device has most of it.
    fn rename(&self, s: &mut Sequence) {
        if self.reuse && s.lossy {
            let limit = s.findable();
            self.cache.rename(&mut s.keys, limit, self.now);
        }
    }

    fn unexpect(&mut self, s: &mut Sequence) {
        s.asked = false;
        if let Some(expected) = s.expected.take() {
            self.cache.unexpect(expected);
        }
    }

    /// A second lease on a sequence's pages.
    pub fn fork(&mut self, s: &Sequence) -> Option<Lease> {
        s.lease.as_ref().map(|lease| self.cache.fork(lease))
    }

    /// Lets go of what left the window of the sequence's next token, then makes room for its tokens up to `end`. False, and
    /// nothing taken, if a group has too few pages.
    pub fn grow(&mut self, s: &mut Sequence, end: usize) -> bool {
        let Some(lease) = &mut s.lease else { return false };
        let position = lease.filled();
        self.cache.slide(lease, position);
        let grown = self.cache.grow(lease, end);
        self.copies.extend(lease.take_copies());
        grown
    }

    /// Gives up a found beginning of a page, which needs a page more than computing it; false if there is none.
    pub fn forgo(&mut self, s: &mut Sequence) -> bool {
        let forgone = s.lease.as_mut().is_some_and(|lease| self.cache.forgo_partial(lease));
        s.found = s.found.min(s.computed());
        forgone
    }

    /// Copies that must run before the next step.
    pub fn take_copies(&mut self) -> Vec<PageCopy> {
        std::mem::take(&mut self.copies)
    }

    /// The sequence's first `computed` tokens are in its pages, and others may find them.
    pub fn publish(&mut self, s: &mut Sequence, computed: usize) {
        match &mut s.lease {
            Some(lease) if self.reuse => self.cache.publish(lease, &s.keys, computed, self.now),
            Some(lease) => lease.fill(computed),
            None => {}
        }
    }

    /// Takes the pages of a sequence that is at its end; they can be found until they are needed, the last one too.
    pub fn finish(&mut self, s: &mut Sequence) {
        s.keys.truncate(s.computed());
        self.close(s);
    }

    pub(super) fn close(&mut self, s: &mut Sequence) {
        self.unexpect(s);
        self.abandon(s);
        match s.lease.take() {
            Some(lease) if self.reuse => {
                let computed = lease.filled();
                self.cache.finish(lease, &s.keys, computed, self.now);
            }
            Some(lease) => self.cache.cancel(lease),
            None => {}
        }
    }

    /// Takes the pages of a sequence that failed; what was not published is lost.
    pub fn discard(&mut self, s: &mut Sequence) {
        self.unexpect(s);
        self.abandon(s);
        if let Some(lease) = s.lease.take() {
            self.cache.cancel(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sequence_of;
    use super::*;
    use crate::kv::Pace;

    fn pages(page_tokens: usize, step_tokens: usize, groups: &[(usize, Option<usize>)]) -> Pages {
        let groups: Vec<_> = groups.iter().map(|&(pages, window)| GroupConfig { pages, window }).collect();
        Pages::new(Fingerprint::new([]), page_tokens, step_tokens, &groups, true)
    }

    #[test]
    fn a_window_gives_pages_back_and_all_groups_grow_or_none() {
        let mut pages = pages(8, 8, &[(6, None), (4, Some(10))]);
        let mut s = sequence_of(&pages, &(0..49).collect::<Vec<_>>());
        pages.open(&mut s);
        assert!(pages.grow(&mut s, 16));
        assert_eq!((s.table(0).len(), s.table(1).len(), pages.free()), (2, 2, vec![4, 2]));
        pages.publish(&mut s, 16);
        assert!(pages.grow(&mut s, 17));
        pages.publish(&mut s, 17);
        // Position 17 sees 8..=17: page 0 of the window group is gone.
        assert!(pages.grow(&mut s, 18));
        assert_eq!((s.table(1)[0], pages.free()), (u32::MAX, vec![3, 2]));
        pages.publish(&mut s, 18);
        assert!(!pages.grow(&mut s, 49), "the full group has 6 pages");
        assert_eq!(pages.free(), [3, 2]);
        assert!(pages.grow(&mut s, 24));
        pages.publish(&mut s, 24);
        assert!(pages.grow(&mut s, 40));
        pages.publish(&mut s, 40);
        assert!(pages.grow(&mut s, 48));
        let gone: Vec<bool> = s.table(1).iter().map(|&p| p == u32::MAX).collect();
        assert_eq!((gone, pages.free()), (vec![true, true, true, false, false, false], vec![0, 1]));
        pages.preempt(&mut s, &Pace::default());
        assert_eq!((pages.free(), s.table(0).len(), s.computed()), (vec![6, 4], 0, 0));
        pages.open(&mut s);
        assert_eq!(s.computed(), 40, "found again");
        pages.discard(&mut s);
        assert_eq!(pages.free(), [6, 4]);
    }

    #[test]
    fn capacity_is_that_of_the_scarcest_group() {
        assert_eq!(pages(8, 8, &[(6, None), (4, Some(10))]).capacity(), 48);
        assert_eq!(pages(8, 8, &[(6, None), (3, Some(10))]).capacity(), 24);
        assert_eq!(pages(8, 8, &[(4, Some(10))]).capacity(), usize::MAX);
    }
}
