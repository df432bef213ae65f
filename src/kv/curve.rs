//! Live what-if: the hit rate that a cache would have with more or fewer pages, and with other policies.
//!
//! One page in `one_in`, chosen by its key, is also put through small caches of one `one_in`th of the capacities asked for,
//! with the same policy code. That alone would be far off, since a system prompt that all requests begin with may be in the
//! sample or not. So the small caches only say how much *more or less* another capacity or policy would find than a small
//! cache like the real one, and this difference is added to what the real one did find, which is counted exactly. What is hot
//! enough to be found by both drops out.
//!
//! Deterministic; memory does not grow with the number of requests; the cost is that of the sampled pages, plus a look at each
//! key. Pages taken out of service ([`super::Cache::invalidate_prefix`], time to live) stay in the small caches.
use super::key::{Key, Keys};
use super::policy::{Kind, Sims};
use super::tree::NodeId;

/// Tokens for each sampled page, by default.
const TOKENS_PER_SAMPLE: usize = 16_384;
/// Fewer sampled pages say nothing.
const LEAST_ROOM: usize = 8;
/// What a policy is compared with.
const BASELINES: [Kind; 5] = Kind::CLASSICS;

/// What a [`super::Cache`] should work out beside its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurveConfig {
    /// The policy that the cache has.
    pub policy: Kind,
    /// Pages that the cache has.
    pub pages: usize,
    /// Other numbers of pages, for this policy and LRU.
    pub others: Vec<usize>,
    /// Sample one page in so many; rounded up to a power of two.
    pub one_in: usize,
}

impl CurveConfig {
    /// From a quarter to four times the pages, and one page in 16,384 tokens.
    pub fn new(policy: Kind, pages: usize, page_tokens: usize) -> Self {
        let others = vec![pages / 4, pages / 2, 2 * pages, 4 * pages];
        CurveConfig { policy, pages, others, one_in: (TOKENS_PER_SAMPLE / page_tokens.max(1)).max(1) }
    }
}

/// Of 100 pages that requests asked for, how many would be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct WhatIf {
    /// With this policy.
    pub policy: &'static str,
    /// And this many pages.
    pub pages: usize,
    /// So many.
    pub hit_percent: f64,
}

/// What was worked out so far.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct CurveReport {
    /// The cache as it is; counted, not estimated.
    pub actual: WhatIf,
    /// Other capacities, by policy and then by pages.
    pub points: Vec<WhatIf>,
    /// Each baseline at this capacity, and how many points more (positive: it would be better) it would find.
    pub regret: Vec<(&'static str, f64)>,
    /// Pages that requests asked for.
    pub references: u64,
    /// Of these, in the sample.
    pub sampled: u64,
}

/// The live curve of one cache.
pub(crate) struct Curve {
    config: CurveConfig,
    mask: u64,
    /// What each simulation stands for.
    wanted: Vec<(Kind, usize)>,
    sims: Sims,
    path: Vec<NodeId>,
    sampled: u64,
    /// References and hits of the real cache before the curve was switched on.
    before: (u64, u64),
}

impl Curve {
    /// `before`: references and hits of the real cache so far.
    pub fn new(mut config: CurveConfig, before: (u64, u64)) -> Self {
        config.one_in = config.one_in.max(1).next_power_of_two();
        let room = |pages: usize| pages.div_ceil(config.one_in);
        let mut wanted = vec![(config.policy, config.pages)];
        let mut others = config.others.clone();
        others.retain(|&pages| pages != config.pages && room(pages) >= LEAST_ROOM);
        others.sort_unstable();
        others.dedup();
        wanted.extend(others.iter().map(|&pages| (config.policy, pages)));
        if config.policy != Kind::Lru {
            wanted.extend(others.iter().map(|&pages| (Kind::Lru, pages)));
        }
        wanted.extend(BASELINES.iter().filter(|&&kind| kind != config.policy).map(|&kind| (kind, config.pages)));
        let rooms: Vec<_> = wanted.iter().map(|&(kind, pages)| (kind, room(pages))).collect();
        let mask = config.one_in as u64 - 1;
        Curve { config, mask, wanted, sims: Sims::new(&rooms), path: Vec::new(), sampled: 0, before }
    }

    /// Bits that neither the hash table's slots nor its tags depend on.
    fn picks(&self, key: &Key) -> bool {
        (key.short() >> 24) & self.mask == 0
    }

    /// A request for all pages of `keys`.
    pub fn visit(&mut self, keys: &Keys, now: u64) {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        for index in 0..keys.pages() {
            if let Some(key) = keys.key(index).filter(|key| self.picks(key)) {
                path.push(self.sims.node(key, || keys.root(), path.last().copied(), index >= keys.full().len()));
            }
        }
        if !path.is_empty() {
            self.sampled += path.len() as u64;
            self.sims.visit(now, &path);
        }
        self.path = path;
    }

    /// Pages `from..to` of a sequence were filled and are new: generated tokens.
    pub fn grow(&mut self, keys: &Keys, from: usize, to: usize, now: u64) {
        let mut nodes = Vec::new();
        for index in from..to {
            let Some(key) = keys.key(index).filter(|key| self.picks(key)) else { continue };
            if self.sims.tree.find(&key).is_some() {
                continue;
            }
            let above = || {
                let before = (0..index).rev().filter_map(|index| keys.key(index));
                before.filter(|key| self.picks(key)).find_map(|key| self.sims.tree.find(&key))
            };
            let above = nodes.last().copied().or_else(above);
            nodes.push(self.sims.node(key, || keys.root(), above, index >= keys.full().len()));
        }
        if !nodes.is_empty() {
            self.sims.grow(now, &nodes);
        }
    }

    /// `now`: references and hits of the real cache.
    pub fn report(&self, now: (u64, u64)) -> CurveReport {
        let (references, hits) = (now.0 - self.before.0, now.1 - self.before.1);
        let percent = |hits: f64| if references == 0 { 0.0 } else { 100.0 * hits / references as f64 };
        let found: Vec<f64> = self.sims.hits().map(|hits| hits as f64).collect();
        let what_if = |(&(kind, pages), &found_there): (&(Kind, usize), &f64)| {
            let more = (found_there - found[0]) * self.config.one_in as f64;
            WhatIf { policy: kind.name(), pages, hit_percent: percent(hits as f64 + more).clamp(0.0, 100.0) }
        };
        let all: Vec<WhatIf> = self.wanted.iter().zip(&found).map(what_if).collect();
        let here = all[1..].iter().filter(|what| what.pages == self.config.pages);
        let mut points = all.clone();
        points.sort_by_key(|what| (Kind::ALL.iter().position(|kind| kind.name() == what.policy), what.pages));
        CurveReport {
            actual: all[0],
            regret: here.map(|what| (what.policy, what.hit_percent - all[0].hit_percent)).collect(),
            points,
            references,
            sampled: self.sampled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::key::Fingerprint;

    fn keys(ids: &[u32]) -> Keys {
        Keys::from_ids(Fingerprint::new([]).root(b"", 0), ids, false)
    }

    #[test]
    fn a_sample_of_all_pages_is_exact_and_memory_is_bounded() {
        let config = CurveConfig { policy: Kind::Lru, pages: 10, others: vec![20, 40], one_in: 1 };
        let mut curve = Curve::new(config, (0, 0));
        // Thirty pages in turn: LRU with less room finds none of them again.
        let mut requests = 0;
        for round in 0..1000 {
            for page in 0..30 {
                curve.visit(&keys(&[page]), round);
                requests += 1;
            }
        }
        let report = curve.report((requests, 0));
        let found = |pages| report.points.iter().find(|what| what.pages == pages && what.policy == "lru").unwrap();
        assert_eq!((found(10).hit_percent, found(20).hit_percent), (0.0, 0.0));
        assert!((found(40).hit_percent - 99.9).abs() < 1e-9, "all but the first round");
        assert_eq!((report.sampled, report.references), (requests, requests));
        for page in 0..100_000 {
            curve.visit(&keys(&[100 + page]), 1000);
        }
        assert!(curve.sims.tree.len() < 17_000, "{}", curve.sims.tree.len());
    }

    #[test]
    fn generated_pages_are_found_by_the_next_turn() {
        let config = CurveConfig { policy: Kind::Kvick, pages: 100, others: vec![50], one_in: 1 };
        let mut curve = Curve::new(config, (0, 0));
        curve.visit(&keys(&[1, 2]), 0);
        curve.grow(&keys(&[1, 2, 3, 4]), 2, 4, 10);
        curve.visit(&keys(&[1, 2, 3, 4, 5]), 20);
        assert!(curve.sims.hits().all(|hits| hits == 4), "{:?}", curve.sims.hits().collect::<Vec<_>>());
    }
}
