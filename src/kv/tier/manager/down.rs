//! Down: what is published is written to every tier, at once and in the background.
use super::super::queue::{Command, Outgoing};
use super::super::state::{Below, BelowEvent};
use super::super::{Half, IoError, Meta, Payload};
use super::{Manager, names_of};
use crate::kv::cache::{Cache, Fresh};
use crate::kv::key::Key;
use std::sync::Arc;

/// A copy from the device to host memory.
pub(super) struct CopyOut {
    pages: Vec<Leaving>,
}

/// A page of it.
struct Leaving {
    fresh: Fresh,
    /// Tiers that get it, with the number of the copy for those of our own.
    tiers: Vec<(usize, u32)>,
}

impl Manager {
    /// Takes what was published since the last call, and copies as much as may be in flight.
    pub(super) fn write_through(&mut self, cache: &mut Cache) {
        self.backlog.extend(cache.take_fresh());
        while self.backlog.len() > self.config.backlog {
            self.give_up_last(cache);
        }
        while self.copying < self.config.copying && !self.backlog.is_empty() {
            if !self.copy_some(cache) {
                break;
            }
        }
    }

    /// Starts one copy of what waits longest; false if the device takes no more now.
    fn copy_some(&mut self, cache: &mut Cache) -> bool {
        let room = (self.config.copying - self.copying).min(self.config.piece);
        let (mut leaving, mut pages) = (Vec::new(), Vec::new());
        while pages.len() < room
            && let Some(fresh) = self.backlog.pop_front()
        {
            let page = cache.page_to_copy(fresh.group, fresh.node, self.now);
            let tiers = if page.is_some() { self.begin(cache, &fresh) } else { Vec::new() };
            match page {
                Some(page) if !tiers.is_empty() => {
                    leaving.push(Leaving { fresh, tiers });
                    pages.push((fresh.group, page));
                }
                _ => cache.release(&fresh),
            }
        }
        if pages.is_empty() {
            return true;
        }
        self.ticket += 1;
        match self.io.copy_out(self.ticket, &pages) {
            Ok(()) => {
                self.copying += pages.len();
                self.copies_out.insert(self.ticket, CopyOut { pages: leaving });
                true
            }
            Err(error) => {
                for Leaving { fresh, tiers } in leaving.into_iter().rev() {
                    self.fail(cache, &fresh, &tiers);
                    match error {
                        IoError::Busy => self.backlog.push_front(fresh),
                        IoError::Device(_) => cache.release(&fresh),
                    }
                }
                false
            }
        }
    }

    /// The tiers that are to get a page and have room for it.
    fn begin(&mut self, cache: &mut Cache, fresh: &Fresh) -> Vec<(usize, u32)> {
        let mut out = Vec::with_capacity(self.below.len());
        for index in 0..self.below.len() {
            let copy = match self.below[index].own {
                None => Some(0),
                Some(own) => self.keep(cache, index, own, fresh.group, fresh.node),
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

    /// A copy to host memory ended.
    pub(super) fn copied_out(
        &mut self,
        cache: &mut Cache,
        ticket: u64,
        result: Result<Vec<[(Payload, u64); 2]>, IoError>,
    ) {
        let Some(CopyOut { pages }) = self.copies_out.remove(&ticket) else { return };
        self.copying -= pages.len();
        let mut payloads = result.unwrap_or_default().into_iter();
        for Leaving { fresh, tiers } in pages {
            let served = cache.page_to_copy(fresh.group, fresh.node, self.now).is_some();
            match payloads.next().filter(|_| served) {
                None => self.fail(cache, &fresh, &tiers),
                Some(halves) => {
                    let metas = self.metas(cache, &fresh);
                    let page = Arc::new(Outgoing::new(metas, halves));
                    self.send(cache, &fresh, &page, &tiers);
                }
            }
            cache.release(&fresh);
        }
    }

    fn metas(&self, cache: &Cache, fresh: &Fresh) -> [Meta; 2] {
        let (key, parent, tokens) = cache.page_of(fresh.node);
        let meta = |half: Half| Meta {
            fingerprint: *self.tiers.fingerprint(),
            key,
            parent,
            epoch: fresh.root.short(),
            group: fresh.group as u16,
            half,
            element: self.config.shapes[fresh.group][half as usize].0,
            lossy: false,
            tokens: tokens.to_vec(),
        };
        Half::ALL.map(meta)
    }

    /// Queues a page for tiers.
    fn send(&mut self, cache: &mut Cache, fresh: &Fresh, page: &Arc<Outgoing>, tiers: &[(usize, u32)]) {
        let bytes = self.config.shapes[fresh.group].iter().map(|(_, bytes)| *bytes as u64).sum();
        for &(index, copy) in tiers {
            let tier = &mut self.below[index];
            if let Some(own) = tier.own
                && !cache.advance_below(own, fresh.group, fresh.node, copy, BelowEvent::Copied)
            {
                continue;
            }
            if !tier.queue.send(Command::Put { page: Arc::clone(page), copy, bytes }) {
                tier.report.busy += 1;
                self.fail(cache, fresh, &[(index, copy)]);
            }
        }
    }

    /// Writes a page that came from a tier to tiers of our own that do not have it.
    pub(super) fn promote(&mut self, cache: &mut Cache, fresh: &Fresh, records: [Arc<Vec<u8>>; 2]) {
        let mut tiers = self.begin(cache, fresh);
        tiers.retain(|(index, _)| self.below[*index].own.is_some());
        let page = Arc::new(Outgoing::of_records(self.metas(cache, fresh), records));
        self.send(cache, fresh, &page, &tiers);
    }

    fn fail(&mut self, cache: &mut Cache, fresh: &Fresh, tiers: &[(usize, u32)]) {
        for &(index, copy) in tiers {
            if let Some(own) = self.below[index].own {
                cache.advance_below(own, fresh.group, fresh.node, copy, BelowEvent::Failed);
            }
        }
    }

    /// A tier has written a page, or not.
    pub(super) fn put(&mut self, cache: &mut Cache, tier: usize, key: &Key, group: u16, copy: u32, stored: bool) {
        let Some(below) = self.below.get_mut(tier) else { return };
        below.report.written += u64::from(stored);
        if let (Some(own), Some(node)) = (below.own, cache.node(key)) {
            let event = if stored { BelowEvent::Stored } else { BelowEvent::Failed };
            cache.advance_below(own, group as usize, node, copy, event);
        }
    }

    /// Gives up copying the page that was published last.
    fn give_up_last(&mut self, cache: &mut Cache) -> bool {
        let Some(fresh) = self.backlog.pop_back() else { return false };
        cache.release(&fresh);
        self.below.iter_mut().for_each(|tier| tier.report.busy += 1);
        true
    }

    /// Lets go of all pages that wait to be copied, because their room is needed. How many there were.
    pub fn shed(&mut self, cache: &mut Cache) -> usize {
        self.backlog.extend(cache.take_fresh());
        let pages = self.backlog.len();
        while self.give_up_last(cache) {}
        pages
    }
}
