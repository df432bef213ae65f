//! Counts of what the cache did. Tokens that were computed are never counted as hits.
//!
//! No reason for a miss tells one tenant about another. That another tenant has the same tokens could be found out only by
//! looking under that tenant's root, so a request never looks there, and the miss is cold. What sharing would have saved is
//! known to who runs the cache, on request and away from any request's path: [`super::Cache::shared_across_salts`].
use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the cache was made. Every token that requests asked for is either in `hit_tokens` or in one field of
/// `missed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests.
    pub requests: u64,
    /// Full and partly filled pages that requests referred to.
    pub pages: u64,
    /// Of these, found whole.
    pub hits: u64,
    /// Tokens that requests asked for.
    pub tokens: u64,
    /// Of these, found, those of half-matching pages included.
    pub hit_tokens: u64,
    /// Of these, found in half-matching pages, which are copied.
    pub copied_tokens: u64,
    /// Of these, in pages that were restored from quantised copies, or computed on top of such.
    pub lossy_tokens: u64,
    /// Tokens that forks share with the leases they were made of. They are no part of `tokens`.
    pub forked_tokens: u64,
    /// Tokens not found, by reason.
    pub missed: Misses,
    /// Pages taken from the cache to make room.
    pub evicted: u64,
    /// Pages computed by two requests at once; one copy was kept.
    pub duplicates: u64,
}

/// How hard the index worked: a request's share depends on its tenant's pages and on how many there are of others', not on what
/// is in those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Keys looked up.
    pub keys: u64,
    /// Pages whose tokens were compared.
    pub pages: u64,
}

/// [`Probes`] that are counted by several threads.
#[derive(Debug, Default)]
pub(super) struct ProbeCounter {
    keys: AtomicU64,
    pages: AtomicU64,
}

impl ProbeCounter {
    pub(super) fn add(&self, keys: usize, pages: usize) {
        self.keys.fetch_add(keys as u64, Ordering::Relaxed);
        self.pages.fetch_add(pages as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Probes {
        Probes { keys: self.keys.load(Ordering::Relaxed), pages: self.pages.load(Ordering::Relaxed) }
    }
}

/// Tokens that had to be computed, by what the cache knows of their page. The first reason that fits is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Misses {
    /// The page's key belongs to other tokens here, so that neither it nor what follows was used.
    pub foreign: u64,
    /// Never seen before, or forgotten since.
    pub cold: u64,
    /// Its time to live was over, or that of a page before it.
    pub expired: u64,
    /// Asked for before and never computed to its end: by a request still running, or one that was cancelled.
    pub pending: u64,
    /// Computed and evicted since.
    pub evicted: u64,
    /// There, and left out because its logits are wanted: the last token, at least.
    pub last: u64,
    /// There, but a group with a window no longer has the pages before it.
    pub window: u64,
    /// Found in a half-matching page that there was no room to copy, or on a tier, with no room to load.
    pub crowded: u64,
    /// On a tier, computed with another model, page size or numerics.
    pub other_fingerprint: u64,
    /// On a tier, and torn, stale or not what its name says.
    pub failed_check: u64,
    /// On a tier from which loading would have taken longer than computing.
    pub slower: u64,
}

impl Misses {
    /// Reasons and tokens.
    pub fn by_reason(&self) -> [(&'static str, u64); 11] {
        let Misses { foreign, cold, expired, pending, evicted, last, window, crowded, .. } = *self;
        [
            ("cold", cold),
            ("pending", pending),
            ("evicted", evicted),
            ("left the window", window),
            ("expired", expired),
            ("other tokens of the same key", foreign),
            ("no room to copy or load", crowded),
            ("last token, whose logits are wanted", last),
            ("other fingerprint", self.other_fingerprint),
            ("failed check", self.failed_check),
            ("slower than computing", self.slower),
        ]
    }

    /// Over all reasons.
    pub fn tokens(&self) -> u64 {
        self.by_reason().iter().map(|(_, tokens)| tokens).sum()
    }
}

impl Counters {
    /// Tokens counted as found in a half-matching page had to be computed after all.
    pub(super) fn forgo(&mut self, tokens: u64, whole: bool, lossy: bool) {
        self.hit_tokens -= tokens;
        self.lossy_tokens -= if lossy { tokens } else { 0 };
        self.copied_tokens -= tokens;
        self.hits -= u64::from(whole);
        self.missed.crowded += tokens;
    }
}
