//! Taking pages out of service: all of them, by tenant, by prefix, by time.
//!
//! Pages that a running request holds stay for it and are not found by others; they go when they are evicted. What a request
//! computed that was started before an invalidation is not published after it.
use super::Cache;
use super::lease::Lease;
use crate::kv::key::Keys;
use crate::kv::tree::NodeId;

impl Cache {
    /// Begins with this epoch instead of 0: what an earlier process computed before its own invalidations is out of reach if this
    /// is at least what [`Cache::latest_epoch`] was in it. To be called before the first request.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// The epoch of the tenant whose pages were invalidated most often.
    pub fn latest_epoch(&self) -> u64 {
        self.epoch + self.epochs.values().max().copied().unwrap_or(0)
    }

    /// Takes all pages out of service, and gives all prompts new keys, so that copies on other tiers and machines are out of
    /// reach as well. Returns the pages freed, over all groups.
    pub fn invalidate_all(&mut self) -> usize {
        self.generation += 1;
        self.epoch += 1;
        let roots: Vec<NodeId> = self.tree.roots().collect();
        roots.into_iter().map(|root| self.drop_below(root, true)).sum()
    }

    /// Takes all of a tenant's pages out of service, and gives its prompts new keys, so that copies on other tiers and machines
    /// are out of reach as well. Returns the pages freed, over all groups.
    pub fn invalidate_salt(&mut self, salt: &[u8]) -> usize {
        let root = self.tree.find(&self.root(salt));
        self.generation += 1;
        *self.epochs.entry(salt.to_vec()).or_insert(0) += 1;
        root.map_or(0, |root| self.drop_below(root, true))
    }

    /// Takes the last page of this sequence, also a partly filled one, and everything that continues the sequence out of
    /// service: below its last full page, what begins with the tokens of the rest. Restored pages of the same tokens go too.
    /// Returns the pages freed, over all groups.
    pub fn invalidate_prefix(&mut self, keys: &Keys) -> usize {
        self.generation += 1;
        let ends = self.variants(keys).pop().unwrap_or_default();
        let rest = keys.page(keys.full().len());
        if rest.is_empty() {
            return ends.into_iter().map(|end| self.drop_below(end, keys.full().is_empty())).sum();
        }
        let continues = |&node: &NodeId| self.tree.tokens(node).starts_with(rest);
        let below: Vec<NodeId> = ends.iter().flat_map(|&end| self.tree.children(end)).filter(continues).collect();
        below.into_iter().map(|node| self.drop_below(node, false)).sum()
    }

    /// Serve the full pages of this sequence only before this time, in ms, whatever they are restored from and wherever they are.
    pub fn expire_prefix(&mut self, keys: &Keys, time: u64) {
        for node in self.variants(keys).into_iter().skip(1).flatten() {
            self.tree.expire_at(node, time);
        }
    }

    /// The nodes of the root and of each full page of a sequence, under its exact name and all names of restored pages.
    fn variants(&self, keys: &Keys) -> Vec<Vec<NodeId>> {
        let mut out = vec![Vec::from_iter(self.tree.find(&keys.root()))];
        for (index, key) in keys.full().iter().enumerate() {
            let above = &out[index];
            let same = |&node: &NodeId| self.tree.tokens(node) == keys.page(index);
            out.push(match self.is_lossy() {
                true => above.iter().flat_map(|&node| self.tree.children(node)).filter(same).collect(),
                false => self.tree.find(key).into_iter().filter(same).collect(),
            });
        }
        out
    }

    /// Frees the pages of a sequence, and takes their copies away from every tier, from its end up to the first that another one
    /// continues or that is in use. Returns how many pages of the device, over all groups.
    pub fn discard(&mut self, keys: &Keys) -> usize {
        let mut path = Vec::with_capacity(keys.pages());
        self.find(keys, &mut path);
        let mut freed = 0;
        for &node in path.iter().rev() {
            if (0..self.tree.groups()).any(|at| self.tree.children_in(at, node) > 0) {
                break;
            }
            for group in 0..self.groups() {
                if self.tree.view(group).evictable(node) {
                    self.drop_page(group, node, false);
                    freed += 1;
                }
            }
            if (0..self.groups()).any(|group| self.tree.page(group, node).is_some()) {
                break;
            }
            self.withdraw_below(node);
        }
        self.forget_surplus();
        freed
    }

    /// Serve the published pages of a lease only before this time, in ms.
    pub fn expire_at(&mut self, lease: &Lease, time: u64) {
        for node in lease.nodes() {
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
            self.withdraw_below(node);
        }
        self.forget_surplus();
        freed
    }
}
