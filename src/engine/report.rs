//! What the KV cache did for prompts, for those who run an engine. Tokens that were computed are never counted as found.
use super::session::{Engine, Stats};
use super::verify::Verified;
use crate::error::Result;
use crate::kv::cache::Misses;
use crate::kv::curve::CurveReport;

/// Counts since the engine was loaded. Every token of a prompt is found on one tier or missed for one reason.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CacheStats {
    /// Requests whose prompts were looked up.
    pub requests: u64,
    /// Tokens of their prompts.
    pub tokens: u64,
    /// Where tokens were found, nearest first: on the device, then on the tiers below it.
    pub tiers: Vec<TierHits>,
    /// Of the tokens found, those in pages that were restored from quantised copies, or computed on top of such.
    pub lossy_tokens: u64,
    /// Tokens that were not found, by reason.
    pub missed: Misses,
    /// Tokens found in pages that others go on to use differently, and which were copied for that.
    pub copied_tokens: u64,
    /// Bytes of pages copied on the device, for those and for forks.
    pub copied_bytes: u64,
    /// Tokens that forks share with what they were forked from; no part of `tokens`.
    pub forked_tokens: u64,
    /// Tokens that were not computed because they were found or shared by a fork.
    pub saved_tokens: u64,
    /// What computing them would have taken, by the speed of steps that computed only prompts; `None` before the first one.
    pub saved_seconds: Option<f64>,
    /// Tokens that are cached now for a second and any further salt. They are why a miss may be cold although the tokens are
    /// cached: a request is never told of other tenants' pages, and whoever runs the engine is told only this sum.
    pub other_salt_tokens: u64,
    /// Found pages that were computed again, to compare ([`crate::EngineConfig::verify`]).
    pub verified: Verified,
    /// What other amounts of KV memory and other policies would have found, estimated from a sample of the pages; `None` if that
    /// is off ([`crate::EngineConfig::cache_curve`]).
    pub curve: Option<CurveReport>,
}

/// What was found on one tier.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TierHits {
    /// `device`, or what the tier is called.
    pub name: String,
    /// Tokens.
    pub tokens: u64,
    /// Bytes that came from it to the device.
    pub bytes_up: u64,
    /// Bytes that went down to it.
    pub bytes_down: u64,
}

impl CacheStats {
    /// Tokens found, on any tier.
    pub fn hit_tokens(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.tokens).sum()
    }

    pub(super) fn new(stats: &Stats, page_bytes: &[u64], other_salt_tokens: u64, curve: Option<CurveReport>) -> Self {
        let cache = &stats.cache;
        let saved_tokens = cache.hit_tokens + cache.forked_tokens;
        // What was prefetched and never asked for is no hit.
        let mut tokens = cache.hit_tokens;
        let below = stats.tiers.iter().map(|tier| {
            let loaded = tier.hit_tokens.min(tokens);
            tokens -= loaded;
            let (bytes_up, bytes_down) = (tier.calls.bytes_read, tier.calls.bytes_written);
            TierHits { name: tier.name.clone(), tokens: loaded, bytes_up, bytes_down }
        });
        let below: Vec<TierHits> = below.collect();
        let device = TierHits { name: "device".into(), tokens, bytes_up: 0, bytes_down: 0 };
        let speed = stats.prompt_step_tokens as f64 / (stats.prompt_step_micros as f64 / 1e6);
        CacheStats {
            requests: cache.requests,
            tokens: cache.tokens,
            tiers: std::iter::once(device).chain(below).collect(),
            lossy_tokens: cache.lossy_tokens,
            missed: cache.missed,
            copied_tokens: cache.copied_tokens,
            copied_bytes: stats.copied_pages.iter().zip(page_bytes).map(|(pages, bytes)| pages * bytes).sum(),
            forked_tokens: cache.forked_tokens,
            saved_tokens,
            saved_seconds: (stats.prompt_step_tokens > 0).then_some(saved_tokens as f64 / speed),
            other_salt_tokens,
            verified: stats.verified,
            curve,
        }
    }
}

impl Engine {
    /// What the KV cache did so far. For whoever runs the engine: the counts are of all tenants.
    pub fn cache_stats(&self) -> Result<CacheStats> {
        let (other_salt_tokens, curve) = self.inner.call(|scheduler| {
            let cache = &mut scheduler.pages.cache;
            (cache.shared_across_salts(), cache.curve())
        })?;
        Ok(CacheStats::new(&self.stats(), &self.page_bytes, other_salt_tokens, curve))
    }
}
