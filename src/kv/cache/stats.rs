//! Counts of what the cache did. Tokens that were computed are never counted as hits.

/// Totals since the cache was made, in pages where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests.
    pub requests: u64,
    /// Full and partly filled pages that requests referred to.
    pub pages: u64,
    /// Of these, found and used as they are.
    pub hits: u64,
    /// Tokens found, those of half-matching pages included.
    pub hit_tokens: u64,
    /// Tokens found in half-matching pages, which are copied.
    pub copied_tokens: u64,
    /// Missed and never seen before.
    pub cold: u64,
    /// Missed, seen before and evicted since, or still being computed.
    pub gone: u64,
    /// Missed because a group with a window no longer had the pages before them.
    pub window: u64,
    /// Missed because their time to live was over.
    pub expired: u64,
    /// Found under the right key with other tokens, and not used.
    pub foreign: u64,
    /// Taken from the cache to make room.
    pub evicted: u64,
    /// Computed by two requests at once; one copy was kept.
    pub duplicates: u64,
}
