//! The cache of one device: page pools, the tree of what they hold, and the policies that make room.
//!
//! Life of a request: [`Cache::start`] finds the longest prefix that every group can serve and pins it; [`Cache::grow`]
//! provides pages for what is to be computed, evicting as needed; [`Cache::publish`] lets others find pages that are
//! computed; [`Cache::finish`] publishes the rest and lets go, [`Cache::cancel`] only lets go.
//!
//! Invariants:
//! * A page is held by the tree (pool count 1), by one lease (count 1), by leases that share it after a fork (their number),
//!   or it is free.
//! * A lease pins the deepest tree node of its prefix in groups with full attention, which protects all above it, and each
//!   node inside the window in the others.
//! * Pages of other keys are never served: a hit compares the token ids as well.
use super::curve::Curve;
use super::key::{Fingerprint, Key, Keys};
use super::policy::{CacheCosts, Lru, Policy};
use super::pool::{PageId, Pool};
use super::tree::{NodeId, Tree};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

mod below;
mod blame;
mod curve;
mod fetch;
mod invalidate;
mod lease;
mod lookup;
mod names;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod weights;

use below::Below;
pub(in crate::kv) use below::Fresh;
pub use blame::{Blame, Why};
pub use fetch::Announced;
pub(in crate::kv) use fetch::{Place, Wanted};
pub use lease::{Lease, PageCopy};
pub use lookup::Expected;
pub(in crate::kv) use names::Scope;
pub use shared::{SharedCache, SharedLease};
pub use stats::{Counters, Misses, Probes};

/// One group of layers with the same attention kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Physical pages.
    pub pages: usize,
    /// Tokens of the attention window, the token itself included; `None` for full attention.
    pub window: Option<usize>,
}

/// The pages of one model on one device, and what is in them.
pub struct Cache {
    page_tokens: usize,
    fingerprint: Fingerprint,
    /// Of each group, in tokens.
    windows: Vec<Option<usize>>,
    tree: Tree,
    pools: Vec<Pool>,
    policies: Vec<Box<dyn Policy>>,
    counters: Counters,
    probes: stats::ProbeCounter,
    /// How often all pages were invalidated, and those of one tenant where that ever happened.
    epoch: u64,
    epochs: HashMap<Vec<u8>, u64>,
    /// How often anything was invalidated.
    generation: u64,
    scratch: Vec<NodeId>,
    curve: Option<Box<Curve>>,
    below: Below,
    /// Of the request that starts next.
    blame: Option<Blame>,
    /// What the policies were told that pages cost.
    costs: CacheCosts,
}

impl Cache {
    /// A cache of empty pages. `policy` orders the groups with full attention; groups with a window use LRU over the pages
    /// that a hit would need. `ghosts` is how many pages are remembered after they are gone.
    pub fn new(
        fingerprint: Fingerprint,
        page_tokens: usize,
        groups: &[GroupConfig],
        ghosts: usize,
        mut policy: impl FnMut() -> Box<dyn Policy>,
    ) -> Self {
        let page_tokens = page_tokens.max(1);
        let windows: Vec<Option<usize>> =
            groups.iter().map(|group| group.window.map(|tokens| window_pages(tokens, page_tokens))).collect();
        let policies = windows.iter().map(|window| match window {
            None => policy(),
            Some(_) => Box::new(Lru::default()),
        });
        Cache {
            page_tokens,
            fingerprint,
            windows: groups.iter().map(|group| group.window).collect(),
            policies: policies.collect(),
            tree: Tree::new(page_tokens, &windows, ghosts),
            pools: groups.iter().map(|group| Pool::new(group.pages)).collect(),
            counters: Counters::default(),
            probes: Default::default(),
            epoch: 0,
            epochs: Default::default(),
            generation: 0,
            scratch: Vec::new(),
            curve: None,
            below: Below::default(),
            blame: None,
            costs: CacheCosts::default(),
        }
    }

    /// The key above the first pages of a tenant's prompts, for [`Keys::new`].
    pub fn root(&self, salt: &[u8]) -> Key {
        self.fingerprint.root(salt, self.epoch(salt))
    }

    /// How often a tenant's pages were invalidated, with or without those of others.
    pub fn epoch(&self, salt: &[u8]) -> u64 {
        self.epoch + self.epochs.get(salt).copied().unwrap_or(0)
    }

    /// The keys of a tenant's prompt.
    pub fn keys(&self, salt: &[u8], tokens: &[u32]) -> Keys {
        Keys::new(self.root(salt), self.page_tokens, tokens)
    }

    /// Makes room for `n` pages in a group, evicting what the policy values least; false if pages in use prevent it.
    pub fn reserve(&mut self, group: usize, n: usize) -> bool {
        while self.pools[group].free() < n {
            if !self.evict_one(group) {
                return false;
            }
        }
        true
    }

    /// Evicts until at most `pages` pages of a group are cached, or none can go.
    pub fn trim(&mut self, group: usize, pages: usize) {
        while self.tree.resident(group) > pages && self.evict_one(group) {}
    }

    fn evict_one(&mut self, group: usize) -> bool {
        let Some(node) = self.policies[group].victim(self.tree.view(group)) else { return false };
        self.drop_page(group, node, true);
        self.forget_surplus();
        self.counters.evicted += 1;
        true
    }

    /// Takes a resident node's page away and gives it back to the pool.
    fn drop_page(&mut self, group: usize, node: NodeId, evicted: bool) {
        self.policies[group].remove(self.tree.view(group), node, evicted);
        let page = self.tree.unsettle(group, node);
        if group >= self.groups() {
            self.tell_moved(group, node);
        } else if let Some(page) = page {
            self.free_page(group, page);
        }
        self.notify_freed(group, self.tree.parent(node));
    }

    fn notify_freed(&mut self, group: usize, node: Option<NodeId>) {
        let view = self.tree.view(group);
        if let Some(node) = node.filter(|&node| view.evictable(node)) {
            self.policies[group].freed(view, node);
        }
    }

    fn free_page(&mut self, group: usize, page: PageId) {
        let freed = self.pools[group].release(page);
        debug_assert!(freed.is_ok(), "{freed:?}");
    }

    fn forget_surplus(&mut self) {
        while let Some(ghost) = self.tree.surplus_ghost() {
            self.forget(ghost);
        }
    }

    fn forget(&mut self, ghost: NodeId) {
        for (group, policy) in self.policies.iter_mut().enumerate() {
            policy.forget(self.tree.view(group), ghost);
        }
        self.tree.forget(ghost);
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.pools.len()
    }

    /// Pages of a group that nobody holds.
    pub fn free(&self, group: usize) -> usize {
        self.pools[group].free()
    }

    /// Pages of a group that are free or can be evicted: how many [`Cache::reserve`] can provide.
    pub fn available(&self, group: usize) -> usize {
        self.pools[group].free() + self.tree.resident(group) - self.tree.kept(group)
    }

    /// Tokens of a group's attention window; `None` for full attention.
    pub fn window(&self, group: usize) -> Option<usize> {
        self.windows[group]
    }

    /// Pages of a group in all.
    pub fn pages(&self, group: usize) -> usize {
        self.pools[group].pages()
    }

    /// Pages of a group that can be found.
    pub fn cached(&self, group: usize) -> usize {
        self.tree.resident(group)
    }

    /// Tokens of a page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How hard the index worked so far.
    pub fn probes(&self) -> Probes {
        self.probes.read()
    }

    /// Tokens that are cached for a second and any further tenant: what one salt for all would share. Walks over all pages.
    pub fn shared_across_salts(&self) -> u64 {
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        let mut shared = 0;
        for root in self.tree.roots() {
            // Names of paths without their salt, and where they end.
            let mut open = vec![(0u64, root)];
            while let Some((path, node)) = open.pop() {
                for child in self.tree.children(node) {
                    let name = hasher.hash_one((path, self.tree.tokens(child)));
                    if (0..self.groups()).any(|group| self.tree.page(group, child).is_some()) && !seen.insert(name) {
                        shared += self.tree.tokens(child).len() as u64;
                    }
                    open.push((name, child));
                }
            }
        }
        shared
    }
}

/// Pages before a position that attention with a window of `tokens` (the token itself included) reads.
fn window_pages(tokens: usize, page_tokens: usize) -> usize {
    tokens.saturating_sub(1).div_ceil(page_tokens)
}
