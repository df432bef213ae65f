//! Letting others find what a lease's pages hold: they go from the lease into the tree.
use super::super::Cache;
use super::Lease;
use crate::kv::key::{Key, Keys};
use crate::kv::pool::PageId;
use crate::kv::tree::{NONE, NodeId};

impl Cache {
    /// Says that the first `computed` tokens of `keys` are in the pages of the lease, and lets others find the full pages.
    /// `keys` are those of the same sequence, tokens that were generated included.
    pub fn publish(&mut self, lease: &mut Lease, keys: &Keys, computed: usize, now: u64) {
        lease.fill(computed.min(keys.tokens().len()));
        if !self.may_publish(lease, keys) {
            return;
        }
        let (from, to) = (lease.nodes.len(), lease.filled / self.page_tokens);
        let mut grown = from;
        for index in from..to {
            if !self.is_alone(lease, keys, index) {
                break;
            }
            let Some((node, new)) = self.node_of(lease, keys, index, now) else { break };
            lease.nodes.push(node);
            if !new {
                grown = index + 1;
            }
        }
        if lease.nodes.len() > from {
            self.settle(lease, from, grown, keys.root(), now);
            if let Some(curve) = &mut self.curve {
                curve.grow(keys, &lease.nodes, grown, now);
            }
        }
    }

    /// Whether further pages of a lease may hang on what it published: nothing was invalidated since it began, and its last node
    /// is still there. One that left the window of every group before the next was published may have been forgotten.
    fn may_publish(&self, lease: &Lease, keys: &Keys) -> bool {
        let known = |&node: &NodeId| keys.key(lease.nodes.len() - 1).and_then(|key| self.tree.find(&key)) == Some(node);
        lease.generation == self.generation && lease.nodes.last().is_none_or(known)
    }

    /// Whether no fork holds the lease's page `index` as well: a page in the tree has no holders but its pins. One that is in the
    /// tree already may stand in the lease too.
    fn is_alone(&self, lease: &Lease, keys: &Keys, index: usize) -> bool {
        let settled = |group: usize| {
            let node = keys.key(index).and_then(|key| self.tree.find(&key));
            node.and_then(|node| self.tree.page(group, node))
        };
        (0..self.groups()).all(|group| match lease.tables[group].get(index) {
            Some(&NONE) => true,
            Some(&page) => self.pools[group].count(PageId(page)) == 1 || settled(group) == Some(PageId(page)),
            None => false,
        })
    }

    /// The node of a page whose predecessors are in `lease.nodes`, and whether it is new; `None` if the name is taken by
    /// other tokens, or by a page that is out of service and still there.
    fn node_of(&mut self, lease: &Lease, keys: &Keys, index: usize, now: u64) -> Option<(NodeId, bool)> {
        let key = keys.key(index)?;
        let parent = match lease.nodes.last() {
            Some(&node) => node,
            None => self.tree.root(keys.root()),
        };
        match self.tree.find(&key) {
            None => Some((self.name_node(parent, key, keys.page(index), keys.mark(index)), true)),
            Some(node) if self.tree.parent(node) != Some(parent) || self.tree.tokens(node) != keys.page(index) => None,
            Some(node) if self.tree.expires(node) > now => Some((node, false)),
            Some(_) if lease.loaded => None,
            // Out of service: a page computed anew may take its place once the old one is gone.
            Some(node) if (0..self.groups()).any(|group| self.tree.page(group, node).is_some()) => None,
            Some(node) => {
                self.tree.expire_at(node, u64::MAX);
                Some((node, false))
            }
        }
    }

    /// Moves the pages `from..` of the lease into the tree. From `grown` on, their nodes are new to the policies.
    fn settle(&mut self, lease: &mut Lease, from: usize, grown: usize, root: Key, now: u64) {
        let mut settled = Vec::with_capacity(lease.nodes.len() - from);
        for group in 0..self.groups() {
            settled.clear();
            let window = self.tree.window(group).is_some();
            for index in from..lease.nodes.len() {
                let (node, page) = (lease.nodes[index], lease.tables[group][index]);
                if page == NONE {
                    continue;
                }
                match self.tree.page(group, node) {
                    None => {
                        self.tree.settle(group, node, PageId(page));
                        settled.push(node);
                    }
                    Some(kept) => {
                        lease.tables[group][index] = kept.0;
                        self.free_page(group, PageId(page));
                        self.counters.duplicates += u64::from(kept.0 != page);
                    }
                }
                if window {
                    self.tree.pin(group, node);
                }
            }
            if !window {
                self.tree.pin(group, lease.nodes[lease.nodes.len() - 1]);
                if from > 0 {
                    self.tree.unpin(group, lease.nodes[from - 1]);
                }
            }
            let view = self.tree.view(group);
            self.policies[group].grow(view, now, &lease.nodes[grown..]);
            self.policies[group].insert(view, &settled);
            settled.iter().for_each(|&node| self.note_fresh(group, node, root));
        }
        for group in self.groups()..self.tree.groups() {
            self.policies[group].grow(self.tree.view(group), now, &lease.nodes[grown..]);
        }
    }

    /// Publishes what is computed, the partly filled last page too, and lets go of the rest.
    pub fn finish(&mut self, mut lease: Lease, keys: &Keys, computed: usize, now: u64) {
        self.publish(&mut lease, keys, computed, now);
        let index = lease.nodes.len();
        let whole = self.may_publish(&lease, keys)
            && lease.filled == keys.tokens().len()
            && index == keys.full().len()
            && lease.copies.is_empty();
        if whole
            && self.is_alone(&lease, keys, index)
            && let Some((node, new)) = self.node_of(&lease, keys, index, now)
        {
            lease.nodes.push(node);
            self.settle(&mut lease, index, index + usize::from(!new), keys.root(), now);
            if let Some(curve) = self.curve.as_mut().filter(|_| new) {
                curve.grow(keys, &lease.nodes, index, now);
            }
        }
        self.cancel(lease);
    }
}
