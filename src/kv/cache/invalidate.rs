//! Taking pages out of service: by tenant, by prefix, by time.
//!
//! Pages that a running request holds stay for it and are not found by others; they go when they are evicted.
use super::Cache;
use super::lease::Lease;
use crate::kv::key::Keys;
use crate::kv::tree::NodeId;

impl Cache {
    /// Takes all of a tenant's pages out of service, and gives its prompts new keys, so that copies on other tiers and machines
    /// are out of reach as well. Returns the pages freed, over all groups.
    pub fn invalidate_salt(&mut self, salt: &[u8]) -> usize {
        let root = self.tree.find(&self.root(salt));
        *self.epochs.entry(salt.to_vec()).or_insert(0) += 1;
        root.map_or(0, |root| self.drop_below(root, true))
    }

    /// Takes the pages of this sequence and everything after it out of service. Returns the pages freed, over all groups.
    pub fn invalidate_prefix(&mut self, keys: &Keys) -> usize {
        let last = keys.full().last().and_then(|key| self.tree.find(key));
        last.map_or(0, |node| self.drop_below(node, false))
    }

    /// Serve the published pages of a lease only before this time, in ms.
    pub fn expire_at(&mut self, lease: &Lease, time: u64) {
        for &node in lease.nodes() {
            self.tree.expire_at(node, time);
        }
    }

    fn drop_below(&mut self, top: NodeId, root: bool) -> usize {
        let mut order = vec![top];
        let mut at = 0;
        while let Some(&node) = order.get(at) {
            order.extend(self.tree.children(node));
            at += 1;
        }
        let mut freed = 0;
        for &node in order.iter().skip(usize::from(root)).rev() {
            self.tree.expire_at(node, 0);
            for group in 0..self.groups() {
                if self.tree.view(group).evictable(node) {
                    self.drop_page(group, node, false);
                    freed += 1;
                }
            }
        }
        self.forget_surplus();
        freed
    }
}
