//! Live what-if: the hit rate that a cache would have with more or fewer pages, and with other policies.
//!
//! One page in `one_in`, chosen by its key, is also put through small caches of one `one_in`th of the capacities asked for,
//! with the same policy code. That alone would be far off, since a system prompt that all requests begin with may be in the
//! sample or not. So the small caches only say how much *more or less* another capacity or policy would find than a small
//! cache like the real one, and this difference is added to what the real one did find, which is counted exactly. What is hot
//! enough to be found by both drops out. Where our policy follows a classic one ([`super::policy`]), the small cache like the
//! real one is that of the classic, for all that is compared with other policies.
//!
//! Nor does the sample come back as often as all pages do, by chance. After how many requests a page is asked for again is
//! counted exactly for all pages, and the sampled ones of each such interval stand for as many as there were in all.
//!
//! Deterministic; memory does not grow with the number of requests; the cost is that of the sampled pages, plus a look at each
//! key. Pages taken out of service ([`super::Cache::invalidate_prefix`], time to live) stay in the small caches.
use super::key::{Key, Keys};
use super::policy::{Kind, Sims};
use super::tree::NodeId;
use std::time::{Duration, Instant};

/// Tokens for each sampled page, by default.
const TOKENS_PER_SAMPLE: usize = 8192;
/// 2^64 over the golden ratio: the upper half of a product with it depends on all lower bits.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// Intervals between the requests for a page that are told apart, and sampled pages of one that are few.
const INTERVALS: usize = 44;
const FEW: f64 = 8.0;
/// 2^32 over the square root of 2.
const SQRT_HALF: u32 = 0xb504_f334;
/// Sampled pages that wait for the simulations at most, and how far up one is looked for on which generated ones hang.
const MOST_PENDING: usize = 32;
const ABOVE: usize = 4;
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
    /// Which pages are sampled: each seed gives another sample.
    pub seed: u64,
}

impl CurveConfig {
    /// From a quarter to four times the pages, and one page in 8,192 tokens.
    pub fn new(policy: Kind, pages: usize, page_tokens: usize) -> Self {
        let others = vec![pages / 4, pages / 2, 2 * pages, 4 * pages];
        CurveConfig { policy, pages, others, one_in: (TOKENS_PER_SAMPLE / page_tokens.max(1)).max(1), seed: 0 }
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

/// Which pages are sampled.
#[derive(Clone, Copy)]
struct Sample {
    seed: u64,
    mask: u64,
}

impl Sample {
    /// By bits that the hash table's slots and tags do not show.
    fn has(self, key: &Key) -> bool {
        let bits = (key.short() ^ self.seed).wrapping_mul(MIX);
        (bits >> 32) & self.mask == 0
    }
}

/// A sampled page, and after which interval it was asked for again.
struct Sampled {
    key: Key,
    partial: bool,
    interval: usize,
}

/// A request, or pages that were generated, as far as they are in the sample: up to the end of [`Curve::pages`] then.
struct Pending {
    root: Key,
    now: u64,
    end: usize,
    /// The nearest sampled pages above generated ones, deepest first; `None` for a request.
    above: Option<Vec<Key>>,
}

/// The live curve of one cache.
pub(crate) struct Curve {
    config: CurveConfig,
    sample: Sample,
    /// What each simulation stands for.
    wanted: Vec<(Kind, usize)>,
    sims: Sims,
    /// Requests that the simulations have yet to live through: many at once find their memory in the processor's caches.
    pending: Vec<Pending>,
    /// Sampled pages of those.
    pages: Vec<Sampled>,
    path: Vec<NodeId>,
    /// By page of the real cache, the request that touched it last; 0 for none, as of pages that came from a tier.
    touched: Vec<u32>,
    request: u32,
    /// By interval: pages that requests asked for, those in the sample, and those that each simulation found.
    asked: [u64; INTERVALS],
    sampled: [u64; INTERVALS],
    found: Vec<[u64; INTERVALS]>,
    /// Whom the cache's policy follows, and what the simulation of that one found while it did.
    followed: Option<Kind>,
    alike: [u64; INTERVALS],
    /// References and hits of the real cache before the curve was switched on.
    before: (u64, u64),
    spent: Duration,
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
        Curve {
            sample: Sample { seed: config.seed.wrapping_mul(MIX), mask: config.one_in as u64 - 1 },
            config,
            sims: Sims::new(&rooms),
            pending: Vec::new(),
            pages: Vec::new(),
            path: Vec::new(),
            touched: Vec::new(),
            request: 0,
            asked: [0; INTERVALS],
            sampled: [0; INTERVALS],
            found: vec![[0; INTERVALS]; wanted.len()],
            followed: None,
            alike: [0; INTERVALS],
            wanted,
            before,
            spent: Duration::ZERO,
        }
    }

    /// Says which policy chooses the cache's victims from now on, if not its own.
    pub fn follow(&mut self, followed: Option<Kind>) {
        if followed != self.followed {
            self.catch_up();
            self.followed = followed;
        }
    }

    /// A request for all pages of `keys`, whose nodes in the real cache are `nodes`; the first `known` of them were there before.
    pub fn visit(&mut self, keys: &Keys, nodes: &[NodeId], known: usize, now: u64) {
        let start = Instant::now();
        self.request = self.request.wrapping_add(1);
        let (full, sample, before) = (keys.full(), self.sample, self.pages.len());
        for (index, key) in full.iter().chain(keys.tail().as_ref()).enumerate().filter(|(_, key)| sample.has(key)) {
            let interval = nodes[..known].get(index).map_or(0, |&node| self.interval(node));
            self.pages.push(Sampled { key: *key, partial: index >= full.len(), interval });
            self.sampled[interval] += 1;
        }
        self.touch(nodes, known);
        self.asked[0] += (keys.pages() - known) as u64;
        self.pend(keys.root(), now, before, None);
        self.spent += start.elapsed();
    }

    /// Lets the pages from `before` on wait, if there are any.
    fn pend(&mut self, root: Key, now: u64, before: usize, above: Option<Vec<Key>>) {
        let end = self.pages.len();
        if end > before {
            self.pending.push(Pending { root, now, end, above });
        }
        if end >= MOST_PENDING {
            self.catch_up();
        }
    }

    /// Lets the simulations live through what is pending.
    fn catch_up(&mut self) {
        let (mut path, mut from) = (std::mem::take(&mut self.path), 0);
        let like = (self.followed.unwrap_or(self.config.policy), self.config.pages);
        let like = self.wanted.iter().position(|&wanted| wanted == like).unwrap_or(0);
        for Pending { root, now, end, above } in std::mem::take(&mut self.pending) {
            path.clear();
            let mut last = above.as_ref().and_then(|above| above.iter().find_map(|key| self.sims.tree.find(key)));
            for Sampled { key, partial, .. } in &self.pages[from..end] {
                if above.is_some() && self.sims.tree.find(key).is_some() {
                    continue;
                }
                let node = self.sims.node(*key, || root, last, *partial);
                path.push(node);
                last = Some(node);
            }
            match above {
                Some(_) if path.is_empty() => {}
                Some(_) => self.sims.grow(now, &path),
                None => {
                    self.sims.visit(now, &path);
                    let pages = &self.pages[from..end];
                    for (at, (found, sim)) in self.sims.found().zip(&mut self.found).enumerate() {
                        pages[..found].iter().for_each(|page| sim[page.interval] += 1);
                        if at == like {
                            pages[..found].iter().for_each(|page| self.alike[page.interval] += 1);
                        }
                    }
                }
            }
            from = end;
        }
        self.pages.clear();
        self.path = path;
    }

    /// After which interval the present request asks for a known page: from 1 on, two for each doubling; 0 if no request did.
    fn interval(&self, node: NodeId) -> usize {
        self.since(self.touched.get(node as usize).copied().unwrap_or(0))
    }

    fn since(&self, touched: u32) -> usize {
        if touched == 0 { 0 } else { interval_of(self.request.wrapping_sub(touched)) }
    }

    /// The present request touches these pages, and asks for the first `known` of them again.
    fn touch(&mut self, nodes: &[NodeId], known: usize) {
        let top = nodes.iter().max().map_or(0, |&node| node as usize + 1);
        if self.touched.len() < top {
            self.touched.resize(top, 0);
        }
        // Pages next to each other were mostly touched together.
        let (mut same, mut pages) = (0, 0);
        for &node in &nodes[..known] {
            let touched = std::mem::replace(&mut self.touched[node as usize], self.request);
            if touched != same {
                self.asked[self.since(same)] += std::mem::replace(&mut pages, 0);
                same = touched;
            }
            pages += 1;
        }
        self.asked[self.since(same)] += pages;
        nodes[known..].iter().for_each(|&node| self.touched[node as usize] = self.request);
    }

    /// Pages from `from` on of a sequence were filled and are new: generated tokens.
    pub fn grow(&mut self, keys: &Keys, all: &[NodeId], from: usize, now: u64) {
        if from >= all.len() {
            return;
        }
        let start = Instant::now();
        self.touch(&all[from..], 0);
        let before = self.pages.len();
        for index in from..all.len() {
            let Some(key) = keys.key(index).filter(|key| self.sample.has(key)) else { continue };
            self.pages.push(Sampled { key, partial: index >= keys.full().len(), interval: 0 });
        }
        if self.pages.len() > before {
            let above = keys.full()[..from].iter().rev().filter(|key| self.sample.has(key));
            let above = above.take(ABOVE).copied().collect();
            self.pend(keys.root(), now, before, Some(above));
        }
        self.spent += start.elapsed();
    }

    /// Time spent on all of this.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Pages that a simulation found more than that of the cache as it is, as pages of the real cache.
    fn more(&self, sim: usize) -> f64 {
        let own = self.wanted[sim].0 == self.config.policy;
        let as_it_is = if own { &self.found[0] } else { &self.alike };
        let pages = |interval: usize| {
            let more = self.found[sim][interval] as f64 - as_it_is[interval] as f64;
            let (asked, sampled) = (self.asked[interval] as f64, self.sampled[interval] as f64);
            // Where the sample says little, each of its pages stands for as many as on average.
            more * (asked + FEW * self.config.one_in as f64) / (sampled + FEW)
        };
        (0..INTERVALS).map(pages).sum()
    }

    /// `now`: references and hits of the real cache.
    pub fn report(&mut self, now: (u64, u64)) -> CurveReport {
        self.catch_up();
        let (references, hits) = (now.0 - self.before.0, now.1 - self.before.1);
        let percent = |hits: f64| if references == 0 { 0.0 } else { 100.0 * hits / references as f64 };
        let what_if = |(sim, &(kind, pages)): (usize, &(Kind, usize))| {
            let hit_percent = percent(hits as f64 + self.more(sim)).clamp(0.0, 100.0);
            WhatIf { policy: kind.name(), pages, hit_percent }
        };
        let all: Vec<WhatIf> = self.wanted.iter().enumerate().map(what_if).collect();
        let here = all[1..].iter().filter(|what| what.pages == self.config.pages);
        let mut points = all.clone();
        points.sort_by_key(|what| (Kind::ALL.iter().position(|kind| kind.name() == what.policy), what.pages));
        CurveReport {
            actual: all[0],
            regret: here.map(|what| (what.policy, what.hit_percent - all[0].hit_percent)).collect(),
            points,
            references,
            sampled: self.sampled.iter().sum(),
        }
    }
}

fn interval_of(requests: u32) -> usize {
    let requests = requests.max(1);
    let upper_half = requests << requests.leading_zeros() >= SQRT_HALF;
    (1 + 2 * requests.ilog2() as usize + usize::from(upper_half)).min(INTERVALS - 1)
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
        let config = CurveConfig { policy: Kind::Lru, pages: 10, others: vec![20, 40], one_in: 1, seed: 0 };
        let mut curve = Curve::new(config, (0, 0));
        // Thirty pages in turn: LRU with less room finds none of them again.
        let mut requests = 0;
        for round in 0..1000 {
            for page in 0..30 {
                curve.visit(&keys(&[page]), &[page], usize::from(round > 0), round);
                requests += 1;
            }
        }
        let report = curve.report((requests, 0));
        let found = |pages| report.points.iter().find(|what| what.pages == pages && what.policy == "lru").unwrap();
        assert_eq!((found(10).hit_percent, found(20).hit_percent), (0.0, 0.0));
        assert!((found(40).hit_percent - 99.9).abs() < 1e-9, "all but the first round");
        assert_eq!((report.sampled, report.references), (requests, requests));
        for page in 0..100_000 {
            curve.visit(&keys(&[100 + page]), &[100 + page], 0, 1000);
        }
        assert!(curve.sims.tree.len() < 17_000, "{}", curve.sims.tree.len());
    }

    #[test]
    fn generated_pages_are_found_by_the_next_turn() {
        let config = CurveConfig { policy: Kind::Kvick, pages: 100, others: vec![50], one_in: 1, seed: 0 };
        let mut curve = Curve::new(config, (0, 0));
        curve.visit(&keys(&[1, 2]), &[1, 2], 0, 0);
        curve.grow(&keys(&[1, 2, 3, 4]), &[1, 2, 3, 4], 2, 10);
        curve.visit(&keys(&[1, 2, 3, 4, 5]), &[1, 2, 3, 4, 5], 4, 20);
        curve.catch_up();
        assert!(curve.sims.hits().all(|hits| hits == 4), "{:?}", curve.sims.hits().collect::<Vec<_>>());
    }

    #[test]
    fn a_sample_that_came_back_too_seldom_stands_for_more() {
        let config = CurveConfig { policy: Kind::Lru, pages: 160, others: vec![320], one_in: 16, seed: 0 };
        let mut curve = Curve::new(config, (0, 0));
        // Of 16,000 pages, half as many were sampled as should have been.
        (curve.asked[5], curve.sampled[5], curve.found[1][5]) = (16_000, 500, 250);
        assert!((curve.more(1) / 8000.0 - 1.0).abs() < 0.01, "{}", curve.more(1));
        // A single page says little of a thousand.
        curve.found[1] = [0; INTERVALS];
        (curve.asked[7], curve.sampled[7], curve.found[1][7]) = (1000, 1, 1);
        assert!((16.0..160.0).contains(&curve.more(1)), "{}", curve.more(1));
    }

    #[test]
    fn pages_that_came_from_a_tier_were_not_asked_for_before() {
        let config = CurveConfig { policy: Kind::Lru, pages: 10, others: vec![20], one_in: 1, seed: 0 };
        let mut curve = Curve::new(config, (0, 0));
        curve.visit(&keys(&[1, 2, 3]), &[7, 8, 9], 2, 0);
        curve.visit(&keys(&[1, 2, 3]), &[7, 8, 9], 3, 10);
        assert_eq!((curve.asked[0], curve.asked[1]), (3, 3), "new to requests, then asked for by the next one");
        assert_eq!(curve.report((6, 5)).sampled, 6);
    }
}
