//! What the tiers below hold of the cache's pages: further groups of the tree, one for each tier of our own and group, with
//! policies of their own.
//!
//! Invariants:
//! * What is resident in such a group counts against the tier's budget; its page number is its [`Below`] state and the number of
//!   the copy, so that news of an earlier copy is told from news of the present one.
//! * In groups with full attention a page is below only if the page before it is: what can be found is a prefix there, too.
//! * A page that was published and may have to be written below is pinned until it is let go with [`Cache::release`].
use super::Cache;
use crate::kv::key::{Elements, Key, Keys};
use crate::kv::policy::{Lru, Policy};
use crate::kv::pool::PageId;
use crate::kv::tier::Half;
use crate::kv::tier::state::{Below as State, BelowEvent};
use crate::kv::tree::NodeId;

/// A page that became resident on the device and is pinned there.
#[derive(Clone, Copy, Debug)]
pub(in crate::kv) struct Fresh {
    pub group: usize,
    pub node: NodeId,
    /// Key above the first page: the tenant.
    pub root: Key,
}

/// The tiers below, as far as the cache knows them.
#[derive(Default)]
pub(super) struct Below {
    /// Of each tier of our own, how it keeps pages; `None`: as they are.
    pub(super) elements: Vec<Option<Elements>>,
    /// Of each, the half that it keeps; `None`: both.
    halves: Vec<Option<Half>>,
    /// How any tier keeps pages other than as they are, each once.
    pub(super) packings: Vec<Elements>,
    /// Whether published pages are to be told.
    watched: bool,
    fresh: Vec<Fresh>,
    /// Pages taken out of service since the last call of [`Cache::take_withdrawn`].
    withdrawn: Vec<Key>,
    copies: u32,
}

const STATE_BITS: u32 = State::CODE_BITS;

impl Cache {
    /// One more tier of our own below the others, which keeps pages as they are or as `elements`, and of each both halves or only
    /// `half`; `policy` orders its groups with full attention. To be called before the first request. Returns its number.
    pub fn add_tier(
        &mut self,
        elements: Option<Elements>,
        half: Option<Half>,
        mut policy: impl FnMut() -> Box<dyn Policy>,
    ) -> usize {
        debug_assert!(self.tree.is_empty(), "policies see every request");
        for group in 0..self.groups() {
            let window = self.tree.window(group);
            self.tree.add_group(window);
            self.policies.push(match window {
                None => policy(),
                Some(_) => Box::new(Lru::default()),
            });
        }
        self.below.elements.push(elements);
        self.below.halves.push(half);
        if let Some(elements) = elements {
            self.know_packing(elements);
        }
        self.tiers() - 1
    }

    /// From now on published pages are told by [`Cache::take_fresh`].
    pub(in crate::kv) fn tell_fresh(&mut self) {
        self.below.watched = true;
    }

    /// Number of tiers of our own below the device.
    pub fn tiers(&self) -> usize {
        self.below.elements.len()
    }

    /// Whether a tier of our own keeps this half of pages.
    pub(in crate::kv) fn keeps(&self, tier: usize, half: Half) -> bool {
        self.below.halves[tier].is_none_or(|kept| kept == half)
    }

    /// Whether a tier of our own keeps pages as they are.
    pub(in crate::kv) fn keeps_exact(&self, tier: usize) -> bool {
        self.below.elements[tier].is_none()
    }

    fn tier_group(&self, tier: usize, group: usize) -> usize {
        self.groups() * (1 + tier) + group
    }

    /// A page was published: it is pinned until somebody decided whether to copy it.
    pub(super) fn note_fresh(&mut self, group: usize, node: NodeId, root: Key) {
        if self.below.watched {
            self.tree.pin(group, node);
            self.below.fresh.push(Fresh { group, node, root });
        }
    }

    /// Published pages, each once, in the order in which they were. Each is to be let go with [`Cache::release`].
    pub(in crate::kv) fn take_fresh(&mut self) -> Vec<Fresh> {
        std::mem::take(&mut self.below.fresh)
    }

    /// How many pages [`Cache::take_fresh`] would give.
    pub(in crate::kv) fn fresh(&self) -> usize {
        self.below.fresh.len()
    }

    /// Lets go of a page that was told as fresh.
    pub(in crate::kv) fn release(&mut self, fresh: &Fresh) {
        self.unpin(fresh.group, fresh.node);
    }

    /// Pins a page that was told as fresh once more.
    pub(in crate::kv) fn retain(&mut self, fresh: &Fresh) {
        self.tree.pin(fresh.group, fresh.node);
    }

    /// Whether tiers that keep pages as `elements` may take a page from the device: the filling page is not quantised, and a
    /// restored one is not quantised once more as it was before, which could give another one.
    pub(in crate::kv) fn may_be_kept(&self, node: NodeId, elements: Option<Elements>) -> bool {
        let whole = self.tree.tokens(node).len() == self.page_tokens;
        elements.is_none() || whole && elements != self.tree.mark_of(node)
    }

    pub(super) fn note_withdrawn(&mut self, node: NodeId) {
        if self.below.watched {
            self.below.withdrawn.push(*self.tree.key(node));
        }
    }

    /// Keys of pages that were taken out of service: their copies are to be removed everywhere.
    pub(in crate::kv) fn take_withdrawn(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.below.withdrawn)
    }

    /// The state of a page on a tier of our own.
    pub(in crate::kv) fn state_below(&self, tier: usize, group: usize, node: NodeId) -> State {
        let page = self.tree.page(self.tier_group(tier, group), node);
        page.map_or(State::Absent, |page| State::of_code(page.0))
    }

    /// Begins a copy for a tier, which takes its place there at once. The number of the copy; `None` if there is one already
    /// or the page before is not there.
    pub(in crate::kv) fn begin_below(&mut self, tier: usize, group: usize, node: NodeId) -> Option<u32> {
        let at = self.tier_group(tier, group);
        let before = self.state_below(tier, group, node);
        let next = before.next(BelowEvent::Begin)?;
        self.below.copies = (self.below.copies + 1) & (u32::MAX >> (STATE_BITS + 1));
        let copy = self.below.copies;
        let word = PageId(copy << STATE_BITS | next.code());
        if before != State::Absent {
            self.tree.replace(at, node, word);
            self.tell_moved(at, node);
            return Some(copy);
        }
        if !self.may_be_below(tier, group, node) {
            return None;
        }
        self.tree.settle(at, node, word);
        self.policies[at].insert(self.tree.view(at), &[node]);
        Some(copy)
    }

    /// Whether a page would hang on another one in the tier, if it must.
    pub(in crate::kv) fn may_be_below(&self, tier: usize, group: usize, node: NodeId) -> bool {
        let at = self.tier_group(tier, group);
        let parent = self.tree.parent(node).filter(|&parent| self.tree.depth(parent) > 0);
        self.tree.window(group).is_some() || parent.is_none_or(|parent| self.tree.page(at, parent).is_some())
    }

    /// Tells what became of copy `copy` of a page on a tier; false if it is not the present copy or nothing comes of it.
    pub(in crate::kv) fn advance_below(
        &mut self,
        tier: usize,
        group: usize,
        node: NodeId,
        copy: u32,
        event: BelowEvent,
    ) -> bool {
        let at = self.tier_group(tier, group);
        let present = self.tree.page(at, node).map(|page| page.0 >> STATE_BITS);
        if present != Some(copy) {
            return false;
        }
        match self.state_below(tier, group, node).next(event) {
            Some(next) => {
                self.tree.replace(at, node, PageId(copy << STATE_BITS | next.code()));
                self.tell_moved(at, node);
                true
            }
            None => false,
        }
    }

    /// The tier had nothing that passed the checks for a page.
    pub(in crate::kv) fn lose_below(&mut self, tier: usize, group: usize, key: &Key) {
        let Some(node) = self.tree.find(key) else { return };
        let Some(page) = self.tree.page(self.tier_group(tier, group), node) else { return };
        self.advance_below(tier, group, node, page.0 >> STATE_BITS, BelowEvent::Damaged);
    }

    /// Takes away what the policy of a tier values least in a group, but not `beside` and what that hangs on.
    pub(in crate::kv) fn evict_below(&mut self, tier: usize, group: usize, beside: NodeId) -> Option<Key> {
        let at = self.tier_group(tier, group);
        let parent = self.tree.parent(beside).filter(|&parent| self.tree.page(at, parent).is_some());
        let own = self.tree.page(at, beside).map(|_| beside);
        let held = own.or(parent);
        held.iter().for_each(|&node| self.tree.pin(at, node));
        let victim = self.policies[at].victim(self.tree.view(at));
        let key = victim.map(|node| {
            let key = *self.tree.key(node);
            self.drop_page(at, node, true);
            key
        });
        held.iter().for_each(|&node| self.unpin(at, node));
        self.forget_surplus();
        key
    }

    /// Takes a page's copies on all tiers of our own away.
    pub(super) fn withdraw_below(&mut self, node: NodeId) {
        for at in self.groups()..self.tree.groups() {
            if self.tree.view(at).evictable(node) {
                self.drop_page(at, node, false);
            }
        }
        self.note_withdrawn(node);
    }

    /// Frees the device's pages of a sequence that a tier of our own has too, from its end up to the first page that is in use, that
    /// another sequence continues or that is on no such tier. How many were freed and how many are left, over all groups.
    pub fn demote(&mut self, keys: &Keys) -> (usize, usize) {
        let mut path = Vec::with_capacity(keys.pages());
        self.find(keys, &mut path);
        let (mut freed, mut left) = (0, 0);
        for &node in path.iter().rev() {
            for group in 0..self.groups() {
                let kept = |half: Half| {
                    let has = |tier| self.keeps(tier, half) && self.state_below(tier, group, node).readable();
                    (0..self.tiers()).any(has)
                };
                let below = Half::ALL.into_iter().all(kept);
                let idle = self.tree.view(group).evictable(node) && self.tree.children_in(group, node) == 0;
                if below && idle {
                    self.drop_page(group, node, true);
                    freed += 1;
                } else {
                    left += usize::from(self.tree.page(group, node).is_some());
                }
            }
        }
        self.forget_surplus();
        (freed, left)
    }

    /// Pages of a group that a tier has.
    pub fn resident_below(&self, tier: usize, group: usize) -> usize {
        self.tree.resident(self.tier_group(tier, group))
    }

    /// Key, key of the page before and tokens of a node.
    pub(in crate::kv) fn page_of(&self, node: NodeId) -> (Key, Key, &[u32]) {
        let parent = self.tree.parent(node).map_or(*self.tree.key(node), |parent| *self.tree.key(parent));
        (*self.tree.key(node), parent, self.tree.tokens(node))
    }

    /// Whether a node's page is restored or was computed on top of a restored one, and the elements of the copy if it is restored.
    pub(in crate::kv) fn mark_of(&self, node: NodeId) -> (bool, Option<Elements>) {
        (self.tree.is_lossy(node), self.tree.mark_of(node))
    }

    /// The node of a key.
    pub(in crate::kv) fn node(&self, key: &Key) -> Option<NodeId> {
        self.tree.find(key)
    }

    /// The page of a node on the device, if it may still be served at this time.
    pub(in crate::kv) fn page_to_copy(&self, group: usize, node: NodeId, now: u64) -> Option<PageId> {
        self.tree.page(group, node).filter(|_| self.tree.expires(node) > now)
    }

    /// Makes the page of the first `tokens` tokens of page `index` known, which a tier held when it was opened: the copy is there.
    /// False if it has no place in the tree or the tier.
    pub(in crate::kv) fn claim_below(
        &mut self,
        (tier, group): (usize, usize),
        keys: &Keys,
        index: usize,
        tokens: usize,
        now: u64,
    ) -> bool {
        let Some(key) = keys.name(index, tokens) else { return false };
        let above = keys.above(index);
        let parent = self.tree.find(&above).unwrap_or_else(|| self.tree.root(above));
        let page = &keys.page(index)[..tokens];
        let node = match self.tree.find(&key) {
            Some(node) if self.tree.parent(node) != Some(parent) || self.tree.tokens(node) != page => return false,
            Some(node) => node,
            None => {
                let mark = keys.mark(index).filter(|_| tokens == keys.page_tokens());
                let node = self.name_node(parent, key, page, mark);
                for (at, policy) in self.policies.iter_mut().enumerate() {
                    policy.grow(self.tree.view(at), now, &[node]);
                }
                node
            }
        };
        let Some(copy) = self.begin_below(tier, group, node) else { return false };
        self.advance_below(tier, group, node, copy, BelowEvent::Copied)
            && self.advance_below(tier, group, node, copy, BelowEvent::Stored)
    }
}
