//! Pages weighted by what a miss costs: the time that is lost on a generated load is less with weights than without, with
//! deeper pages dearer, and with a tier below from which copies come.
use super::*;
use crate::kv::policy::CacheCosts;
use crate::kv::tier::state::BelowEvent;
use crate::kv::trace::Trace;
use crate::kv::tree::NodeId;
use crate::kv::workload::{chat, documents, surges};

/// A block takes as long as its own tokens, and twice as long when `DOUBLE` blocks are before it.
const DOUBLE: f64 = 40.0;
/// Bringing a block from the tier, compared with computing a first one.
const COPY: f64 = 0.05;

/// A device cache of blocks over a tier.
struct Levels {
    cache: Cache,
    room: usize,
    below: usize,
}

impl Levels {
    fn new(trace: &Trace, room: usize, below: usize) -> Self {
        let groups = [GroupConfig { pages: room + trace.longest(), window: None }];
        let policy = |room| move || Kind::Kvick.build(room, None);
        let ghosts = Kind::Kvick.ghosts(room + below);
        let mut cache = Cache::new(Fingerprint::new([]), 2, &groups, ghosts, policy(room));
        if below > 0 {
            cache.add_tier(None, None, policy(below));
            cache.tell_fresh();
        }
        Levels { cache, room, below }
    }

    fn weigh(&mut self) {
        // The cache's pages have two tokens here.
        let own = vec![Some(vec![COPY]); self.cache.tiers()];
        self.cache.weigh(CacheCosts { compute: (0.5, 0.25 / DOUBLE), own, shared: None });
    }

    /// Keeps a page on the tier.
    fn keep(&mut self, node: NodeId) {
        while self.cache.resident_below(0, 0) >= self.below {
            if self.cache.evict_below(0, 0, node).is_none() {
                return;
            }
        }
        if let Some(copy) = self.cache.begin_below(0, 0, node) {
            assert!(self.cache.advance_below(0, 0, node, copy, BelowEvent::Copied));
            assert!(self.cache.advance_below(0, 0, node, copy, BelowEvent::Stored));
        }
    }

    /// Seconds that a request takes: its missing blocks are copied or computed, whichever is faster.
    fn serve(&mut self, keys: &Keys, now: u64) -> f64 {
        let mut path = Vec::new();
        self.cache.find(keys, &mut path);
        let mut seconds = 0.0;
        let mut here = true;
        let mut there = true;
        for index in 0..keys.pages() {
            let node = path.get(index).copied();
            here &= node.is_some_and(|node| self.cache.tree.page(0, node).is_some());
            there &= node.is_some_and(|node| here || self.below > 0 && self.cache.state_below(0, 0, node).readable());
            let computing = 1.0 + index as f64 / DOUBLE;
            seconds += if here {
                0.0
            } else if there {
                computing.min(COPY)
            } else {
                computing
            };
        }
        let mut lease = self.cache.start(keys, usize::MAX, now);
        assert!(self.cache.grow(&mut lease, keys.tokens().len()));
        lease.take_copies();
        self.cache.finish(lease, keys, keys.tokens().len(), now);
        for fresh in self.cache.take_fresh() {
            self.keep(fresh.node);
            self.cache.release(&fresh);
        }
        self.cache.trim(0, self.room);
        seconds
    }
}

fn seconds(trace: &Trace, room: usize, below: usize, weighted: bool) -> f64 {
    let mut levels = Levels::new(trace, room, below);
    if weighted {
        levels.weigh();
    }
    let root = levels.cache.root(b"");
    let keys = |blocks, partial| Keys::from_ids(root, blocks, partial);
    trace.requests().map(|r| levels.serve(&keys(r.blocks, r.partial), r.timestamp)).sum()
}

/// Over eight loads: on a single one, chance may be stronger than the weights.
#[test]
fn less_time_is_lost_with_weights() {
    for (name, make) in [("chat", chat as fn(u64, usize) -> Trace), ("documents", documents)] {
        for (below, percent) in [(0, 0.5), (3000, 2.5)] {
            let (mut even, mut weighted) = (0.0, 0.0);
            for seed in 41..49 {
                let trace = make(seed, 4000);
                even += seconds(&trace, 1000, below, false);
                weighted += seconds(&trace, 1000, below, true);
            }
            let saved = 100.0 * (1.0 - weighted / even);
            let report = format!("{name}, {below} blocks below: {weighted:.0} s for {even:.0} s, {saved:.2} % less");
            assert!(saved >= percent, "{report}, at least {percent} %");
        }
    }
}

/// A classic policy knows nothing of copies: as soon as they have a price, none is followed.
#[test]
fn no_classic_is_followed_over_a_tier_with_a_price() {
    let trace = surges(55, 15_000);
    let mut levels = Levels::new(&trace, 500, 2000);
    let root = levels.cache.root(b"");
    let mut priced = None;
    for (at, request) in trace.requests().enumerate() {
        levels.serve(&Keys::from_ids(root, request.blocks, request.partial), request.timestamp);
        if priced.is_none() && levels.cache.policies[0].follows().is_some() {
            levels.weigh();
            priced = Some(at);
        }
        assert!(priced.is_none() || levels.cache.policies[0].follows().is_none(), "request {at}, priced at {priced:?}");
    }
    assert!(priced.is_some_and(|at| at < 9000), "followed from {priced:?} on without a price");
}

/// On a tier as on the device, what a waiting request will ask for goes last.
#[test]
fn a_tier_keeps_what_a_waiting_request_will_load() {
    for wait in [false, true] {
        let mut levels = Levels::new(&chat(1, 1), 8, 8);
        let keys = [0, 10, 20].map(|from| {
            let blocks: Vec<u32> = (from..from + 4).collect();
            Keys::from_ids(levels.cache.root(b""), &blocks, false)
        });
        levels.serve(&keys[0], 0);
        levels.serve(&keys[1], 1000);
        levels.cache.trim(0, 0);
        let expected = wait.then(|| levels.cache.expect(&keys[0], 8, 1500).expect("is on the tier"));
        levels.serve(&keys[2], 2000);
        let kept = |which: usize| {
            let node = levels.cache.node(&keys[which].key(0).unwrap()).unwrap();
            levels.cache.state_below(0, 0, node).readable()
        };
        assert_eq!([kept(0), kept(1), kept(2)], [wait, !wait, true], "waiting: {wait}");
        expected.into_iter().for_each(|expected| levels.cache.unexpect(expected));
    }
}
