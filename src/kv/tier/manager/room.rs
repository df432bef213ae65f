//! Which tiers get a page, and what makes room for it on tiers of our own: what nobody has named since the tier was opened, then
//! what the tier's policy values least.
use super::super::queue::Command;
use super::super::state::Below;
use super::{Manager, names_of};
use crate::kv::cache::{Cache, Fresh};
use crate::kv::key::{Elements, Key};

impl Manager {
    /// The tiers of a line that are to get a page and have room for it.
    pub(super) fn begin(
        &mut self,
        cache: &mut Cache,
        fresh: &Fresh,
        elements: Option<Elements>,
        own: bool,
    ) -> Vec<(usize, u32)> {
        let mut out = Vec::with_capacity(self.below.len());
        for index in 0..self.below.len() {
            if self.below[index].elements != elements {
                continue;
            }
            let copy = match self.below[index].own {
                None => (!own).then_some(0),
                Some(tier) => self.keep(cache, index, tier, fresh.group, fresh.node),
            };
            out.extend(copy.map(|copy| (index, copy)));
        }
        out
    }

    /// Gives a page its place on a tier of our own; the number of the copy, unless it is there or cannot be.
    fn keep(&mut self, cache: &mut Cache, index: usize, own: usize, group: usize, node: u32) -> Option<u32> {
        let key = cache.page_of(node).0;
        match cache.state_below(own, group, node) {
            Below::Absent => {
                let cost = self.below[index].costs[group];
                // Found again: the new copy takes the place of the old one.
                if self.below[index].unclaimed.take(&key, group) {
                    self.below[index].bytes -= cost;
                }
                if !cache.may_be_below(own, group, node) || !self.make_room(cache, index, own, group, node) {
                    self.below[index].report.busy += 1;
                    return None;
                }
                let copy = cache.begin_below(own, group, node)?;
                self.below[index].bytes += cost;
                Some(copy)
            }
            _ => cache.begin_below(own, group, node),
        }
    }

    /// Evicts from a tier until a page of `group` fits; false if it cannot.
    fn make_room(&mut self, cache: &mut Cache, index: usize, own: usize, group: usize, node: u32) -> bool {
        let needed = self.below[index].costs[group];
        if needed > self.below[index].budget {
            return false;
        }
        let mut gone = Vec::new();
        let fits = loop {
            let tier = &mut self.below[index];
            if tier.bytes + needed <= tier.budget {
                break true;
            }
            let victim = match tier.unclaimed.evict() {
                Some(victim) => Some(victim),
                None => self.victim(cache, index, own, group, node),
            };
            let Some((key, group)) = victim else { break false };
            let tier = &mut self.below[index];
            tier.bytes -= tier.costs[group];
            tier.report.evicted += 1;
            gone.extend(names_of(key, group));
        };
        if !gone.is_empty() {
            self.below[index].queue.send(Command::Remove(gone));
        }
        fits
    }

    /// Takes a page from the group that has most of the tier beyond its share of the device's pages.
    fn victim(&self, cache: &mut Cache, index: usize, own: usize, group: usize, node: u32) -> Option<(Key, usize)> {
        let costs = &self.below[index].costs;
        let share = |g: usize| {
            let (here, there) = (cache.resident_below(own, g) as f64, cache.pages(g).max(1) as f64);
            (here + if g == group { 1.0 } else { 0.0 }) / there
        };
        let mut groups: Vec<usize> = (0..costs.len()).collect();
        groups.sort_by(|&a, &b| share(b).total_cmp(&share(a)));
        groups.into_iter().find_map(|g| cache.evict_below(own, g, node).map(|key| (key, g)))
    }
}
