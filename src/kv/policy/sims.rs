//! Small caches that live through a sample of what the real one lives through.
//!
//! Invariants:
//! * All simulations share one tree of the sampled pages; each is a group of it, so that a page is looked up once.
//! * Those of our policy share one history, which does not depend on what a cache holds.
//! * Between requests a simulation holds at most `room` pages, and the tree at most `ghosts` more.
use super::{Kind, Level, OnLevel, Policy, Runs};
use crate::kv::key::Key;
use crate::kv::pool::PageId;
use crate::kv::tree::{NodeId, Tree, View};

/// Pages remembered at least.
const GHOSTS: usize = 1 << 14;

enum Order {
    Own(Box<dyn Policy>),
    Ours(Level),
}

struct Sim {
    order: Order,
    room: usize,
    hits: u64,
    /// Of the last request.
    found: usize,
}

/// The simulations.
pub(in crate::kv) struct Sims {
    pub tree: Tree,
    runs: Runs,
    ours: bool,
    sims: Vec<Sim>,
}

impl Sims {
    /// One for each policy and number of sampled pages.
    pub fn new(wanted: &[(Kind, usize)]) -> Self {
        let most = wanted.iter().map(|&(_, room)| room).max().unwrap_or(0);
        let sim = |&(kind, room): &(Kind, usize)| {
            let order = match kind {
                Kind::Kvick => Order::Ours(Level::default()),
                _ => Order::Own(kind.build(room, None)),
            };
            Sim { order, room, hits: 0, found: 0 }
        };
        Sims {
            tree: Tree::new(1, &vec![None; wanted.len()], GHOSTS.max(4 * most)),
            runs: Runs::hurried(),
            ours: wanted.iter().any(|&(kind, _)| kind == Kind::Kvick),
            sims: wanted.iter().map(sim).collect(),
        }
    }

    /// Sampled pages found so far by each.
    pub fn hits(&self) -> impl Iterator<Item = u64> + '_ {
        self.sims.iter().map(|sim| sim.hits)
    }

    /// Leading sampled pages of the last request that each found.
    pub fn found(&self) -> impl Iterator<Item = usize> + '_ {
        self.sims.iter().map(|sim| sim.found)
    }

    /// The node of a sampled page below `above`, or the first sampled one of those below `root`.
    pub fn node(&mut self, key: Key, root: impl Fn() -> Key, above: Option<NodeId>, partial: bool) -> NodeId {
        if let Some(node) = self.tree.find(&key) {
            self.tree.renew_ghost(node);
            return node;
        }
        let parent = above.unwrap_or_else(|| self.tree.root(root()));
        // A partly filled page has fewer tokens than the one of a full one here.
        self.tree.add(parent, key, if partial { &[] } else { &[0] })
    }

    /// A request refers to these nodes, shallow first.
    pub fn visit(&mut self, now: u64, path: &[NodeId]) {
        if self.ours {
            self.runs.visit(self.tree.view(0), now, path);
        }
        for group in 0..self.sims.len() {
            let found = path.iter().take_while(|&&node| self.tree.page(group, node).is_some()).count();
            self.sims[group].hits += found as u64;
            self.sims[group].found = found;
            self.with(group, |policy, view| policy.visit(view, now, path));
            self.take(group, &path[found..]);
        }
        self.forget_surplus();
    }

    /// These new nodes, each the child of the one before, were filled without having been asked for.
    pub fn grow(&mut self, now: u64, nodes: &[NodeId]) {
        if self.ours {
            self.runs.grow(self.tree.view(0), now, nodes);
        }
        for group in 0..self.sims.len() {
            self.with(group, |policy, view| policy.grow(view, now, nodes));
            self.take(group, nodes);
        }
        self.forget_surplus();
    }

    fn with<T>(&mut self, group: usize, call: impl FnOnce(&mut dyn Policy, View<'_>) -> T) -> T {
        let view = self.tree.view(group);
        match &mut self.sims[group].order {
            Order::Own(policy) => call(&mut **policy, view),
            Order::Ours(level) => call(&mut OnLevel { runs: &mut self.runs, level }, view),
        }
    }

    /// Caches nodes that are not, then evicts down to the room.
    fn take(&mut self, group: usize, nodes: &[NodeId]) {
        nodes.iter().for_each(|&node| self.tree.settle(group, node, PageId(0)));
        self.with(group, |policy, view| policy.insert(view, nodes));
        while self.tree.resident(group) > self.sims[group].room {
            let Some(node) = self.with(group, |policy, view| policy.victim(view)) else { break };
            self.with(group, |policy, view| policy.remove(view, node, true));
            self.tree.unsettle(group, node);
            let parent = self.tree.parent(node).filter(|&parent| self.tree.view(group).evictable(parent));
            if let Some(parent) = parent {
                self.with(group, |policy, view| policy.freed(view, parent));
            }
        }
    }

    fn forget_surplus(&mut self) {
        while let Some(ghost) = self.tree.surplus_ghost() {
            if self.ours {
                self.runs.forget(self.tree.view(0), ghost);
            }
            for (group, sim) in self.sims.iter_mut().enumerate() {
                if let Order::Own(policy) = &mut sim.order {
                    policy.forget(self.tree.view(group), ghost);
                }
            }
            self.tree.forget(ghost);
        }
    }
}
