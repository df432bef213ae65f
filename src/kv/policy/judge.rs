//! Whether a classic policy does better than ours on the load as it is: small caches of both live through a sample of it.
//!
//! What counts is hits of the same requests, so that what both find drops out. Old requests count less and less. One policy is
//! ahead of another if it finds notably more, by so much that chance hardly explains it.
use super::{Kind, Sims};
use crate::kv::tree::{NodeId, View};

/// Pages that a small cache should have, and those without which it says nothing.
const ROOM: usize = 128;
const LEAST_ROOM: usize = 8;
/// Of so many pages one is sampled.
const DENSEST: usize = 16;
const SPARSEST: usize = 1024;
/// Sampled pages over which requests lose most of their weight.
const MEMORY: f64 = 4096.0;
/// Sampled pages between decisions, and before the first.
const PAUSE: usize = 256;
const FIRST: f64 = 1024.0;
/// Hits of a sampled page by which a policy is notably ahead, and below which it is hardly so.
const NOTABLE: f64 = 0.01;
const HARDLY: f64 = 0.002;
/// Standard errors that chance hardly exceeds.
const SURE: f64 = 3.0;

/// Hits of a classic less ours, by request: weighted sum, and sum of squares.
#[derive(Clone, Copy, Default)]
struct Lead {
    sum: f64,
    squares: f64,
}

/// Watches our policy and the classics.
pub(super) struct Judge {
    mask: u64,
    sims: Sims,
    path: Vec<NodeId>,
    /// Hits of each before the last request, ours first.
    hits: Vec<u64>,
    leads: [Lead; Kind::CLASSICS.len()],
    /// Weighted sampled pages.
    asked: f64,
    since: usize,
}

impl Judge {
    /// For a cache of `capacity` pages; `None` if that is too small to tell.
    pub fn new(capacity: usize) -> Option<Self> {
        let one_in = (capacity / ROOM).next_power_of_two().clamp(DENSEST, SPARSEST);
        let room = capacity.div_ceil(one_in);
        if room < LEAST_ROOM {
            return None;
        }
        let kinds = [Kind::Kvick].into_iter().chain(Kind::CLASSICS);
        let sims = Sims::new(&kinds.map(|kind| (kind, room)).collect::<Vec<_>>());
        Some(Judge {
            mask: one_in as u64 - 1,
            sims,
            path: Vec::new(),
            hits: vec![0; 1 + Kind::CLASSICS.len()],
            leads: Default::default(),
            asked: 0.0,
            since: 0,
        })
    }

    /// Bits on which neither the hash table depends nor the live curve's sample.
    fn picks(&self, view: View<'_>, node: NodeId) -> bool {
        (view.short_key(node) >> 40) & self.mask == 0
    }

    /// See [`super::Policy::visit`].
    pub fn visit(&mut self, view: View<'_>, now: u64, path: &[NodeId]) {
        let mut sampled = std::mem::take(&mut self.path);
        sampled.clear();
        for &node in path {
            if self.picks(view, node) {
                sampled.push(self.node(view, node, sampled.last().copied()));
            }
        }
        if !sampled.is_empty() {
            self.sims.visit(now, &sampled);
            self.count(sampled.len());
        }
        self.path = sampled;
    }

    /// See [`super::Policy::grow`].
    pub fn grow(&mut self, view: View<'_>, now: u64, nodes: &[NodeId]) {
        let mut sampled: Vec<NodeId> = Vec::new();
        for &node in nodes {
            if self.picks(view, node) {
                let above = sampled.last().copied().or_else(|| self.above(view, node));
                sampled.push(self.node(view, node, above));
            }
        }
        if !sampled.is_empty() {
            self.sims.grow(now, &sampled);
        }
    }

    fn node(&mut self, view: View<'_>, node: NodeId, above: Option<NodeId>) -> NodeId {
        self.sims.node(*view.key(node), || *view.root(node), above, view.partial(node))
    }

    /// The nearest sampled page above a node.
    fn above(&self, view: View<'_>, node: NodeId) -> Option<NodeId> {
        let known = |node: NodeId| self.sims.tree.find(view.key(node));
        std::iter::successors(view.parent(node), |&node| view.parent(node))
            .filter(|&node| self.picks(view, node))
            .find_map(known)
    }

    /// Takes a request for `pages` sampled pages into account.
    fn count(&mut self, pages: usize) {
        let kept = (-(pages as f64) / MEMORY).exp();
        self.asked = self.asked * kept + pages as f64;
        self.since += pages;
        let mut ours = 0;
        for (at, (hits, before)) in self.sims.hits().zip(&mut self.hits).enumerate() {
            let new = (hits - std::mem::replace(before, hits)) as f64;
            match at.checked_sub(1) {
                None => ours = new as u64,
                Some(at) => {
                    let ahead = new - ours as f64;
                    let Lead { sum, squares } = &mut self.leads[at];
                    (*sum, *squares) = (*sum * kept + ahead, *squares * kept + ahead * ahead);
                }
            }
        }
    }

    /// Whether it is time to decide again.
    pub fn is_due(&mut self) -> bool {
        let due = self.since >= PAUSE && self.asked >= FIRST;
        if due {
            self.since = 0;
        }
        due
    }

    /// Whom to follow, `now` being the classic that was followed so far; `None` is ours.
    pub fn decide(&self, now: Option<Kind>) -> Option<Kind> {
        let (best, lead) = Kind::CLASSICS.into_iter().zip(self.leads).max_by(|a, b| a.1.sum.total_cmp(&b.1.sum))?;
        let Some(now) = now else {
            let notable = lead.sum > NOTABLE * self.asked && lead.sum > SURE * lead.squares.sqrt();
            return notable.then_some(best);
        };
        let present = Kind::CLASSICS.into_iter().position(|kind| kind == now).map_or(0.0, |at| self.leads[at].sum);
        if lead.sum < HARDLY * self.asked {
            None
        } else if lead.sum - present > NOTABLE * self.asked {
            Some(best)
        } else {
            Some(now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(ahead: [f64; 5], asked: f64) -> Judge {
        let mut judge = Judge::new(1000).unwrap();
        judge.asked = asked;
        judge.leads = ahead.map(|sum| Lead { sum, squares: 400.0 });
        judge
    }

    #[test]
    fn a_classic_is_followed_while_it_is_ahead() {
        let [lru, lfu, ..] = Kind::CLASSICS;
        let decide = |ahead, now| judge(ahead, 4000.0).decide(now);
        assert_eq!(decide([39.0, -90.0, 0.0, 0.0, 0.0], None), None, "not by a hundredth of what was asked for");
        assert_eq!(decide([59.0, 0.0, 0.0, 0.0, 0.0], None), None, "chance may explain it");
        assert_eq!(decide([61.0, 0.0, 0.0, 0.0, 0.0], None), Some(lru));
        assert_eq!(decide([9.0, 5.0, 0.0, 0.0, 0.0], Some(lru)), Some(lru), "still ahead");
        assert_eq!(decide([7.0, 5.0, 0.0, 0.0, 0.0], Some(lru)), None, "ours is as good again");
        assert_eq!(decide([20.0, 55.0, 0.0, 0.0, 0.0], Some(lru)), Some(lru), "another one is not much better");
        assert_eq!(decide([20.0, 65.0, 0.0, 0.0, 0.0], Some(lru)), Some(lfu));
    }

    #[test]
    fn what_is_too_small_is_not_judged() {
        for capacity in [0, 1, 7, 16, 100, 112] {
            assert!(Judge::new(capacity).is_none(), "{capacity}");
        }
        for capacity in [128, 1000, 100_000, 10_000_000] {
            assert!(Judge::new(capacity).is_some(), "{capacity}");
        }
    }
}
