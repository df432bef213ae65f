//! Why tokens that a tier has were not brought to the device: what a request's misses are counted under in place of what the
//! device alone knows of them.
use super::stats::Misses;
use std::ops::Range;

/// A reason for which a tier's pages are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Computing them is faster.
    Slower,
    /// They are torn, stale or not what their name says.
    FailedCheck,
    /// They were computed with another model, page size or numerics.
    OtherFingerprint,
    /// The device has no room for them.
    Crowded,
}

/// Tokens of a request that a tier has, and why they have to be computed nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// The reason.
    pub why: Why,
    /// Positions in the request.
    pub tokens: Range<usize>,
}

impl Blame {
    /// Counts those of the missed `tokens` that it explains; how many they are.
    pub(super) fn count(&self, missed: &mut Misses, tokens: Range<usize>) -> u64 {
        let (from, to) = (tokens.start.max(self.tokens.start), tokens.end.min(self.tokens.end));
        let explained = to.saturating_sub(from) as u64;
        *match self.why {
            Why::Slower => &mut missed.slower,
            Why::FailedCheck => &mut missed.failed_check,
            Why::OtherFingerprint => &mut missed.other_fingerprint,
            Why::Crowded => &mut missed.crowded,
        } += explained;
        explained
    }
}
