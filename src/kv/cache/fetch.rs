//! Bringing pages up from the tiers below: what of a prompt is where, and a lease to bring it into.
//!
//! A prompt whose pages come from below is told to the policies with [`Cache::announce`] when the tiers are asked, and starts
//! with [`Cache::join`] when its pages are here, so that it is one request to them and to the counters.
use super::Cache;
use super::lease::Lease;
use super::names::Scope;
use crate::kv::key::{Elements, Key, Keys};
use crate::kv::pool::PageId;
use crate::kv::tier::Half;
use crate::kv::tree::NONE;

/// Where a page of a group can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kv) enum Place {
    /// It is on the device.
    Device,
    /// On a tier of our own, by its number; under the name of what it is restored from if `source`.
    Own { tier: usize, source: bool },
    /// In a store that others use too; the tier's index was found by asking it.
    Shared { tier: usize, source: bool },
}

/// Where K and V of a page of a group can be had.
pub(in crate::kv) type Places = [Place; 2];

/// On the device a page is whole.
pub(in crate::kv) const ON_DEVICE: Places = [Place::Device; 2];

/// What of a prompt could be had without computing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::kv) struct Wanted {
    /// Full pages that the device can serve.
    pub from: usize,
    /// Tokens of the page after those that it can copy.
    pub partial: usize,
    /// Full pages that device and tiers together can serve.
    pub pages: usize,
    /// Tokens of a partly filled page after those, 0 if there is none.
    pub tail: usize,
    /// For each page from `from` on, the partly filled one included, where each group has K and V; `None` where a group does not
    /// need it.
    pub places: Vec<Vec<Option<Places>>>,
}

/// How much of a prompt was known when the policies were told of it.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    /// Leading pages that were known, and pages that have a node.
    known: usize,
    named: usize,
}

/// Finds by page index, group and how copies are kept (`None`: as they are) in which shared store a page is.
pub(in crate::kv) type Located<'a> = &'a dyn Fn(usize, usize, Option<Elements>) -> Option<usize>;

impl Cache {
    /// Tells the policies of a request that will [`Cache::join`].
    pub fn announce(&mut self, keys: &Keys, limit: usize, now: u64) -> Announced {
        let mut path = std::mem::take(&mut self.scratch);
        let known = self.walk(keys, &mut path);
        let pages = self.reach(keys, &path[..known], limit, now).pages;
        self.visit(&path, pages, now);
        self.tell_curve(keys, &path, known, now);
        let announced = Announced { known, named: path.len() };
        self.scratch = path;
        announced
    }

    /// Like [`Cache::start`], for a request that was announced before.
    pub fn join(&mut self, keys: &Keys, announced: Announced, limit: usize, now: u64) -> Lease {
        let mut path = std::mem::take(&mut self.scratch);
        self.find(keys, &mut path);
        let reach = self.reach(keys, &path, limit, now);
        self.count_request(keys, &path, (announced.known, announced.named), &reach, limit, now);
        let lease = self.lease(keys, &path[..reach.pages], reach.partial);
        self.scratch = path;
        lease
    }

    /// What of the first `limit` tokens device, tiers of our own and the stores that `located` tells of can serve.
    pub(in crate::kv) fn look_below(&self, keys: &Keys, limit: usize, now: u64, located: Located<'_>) -> Wanted {
        let mut path = Vec::with_capacity(keys.pages());
        self.find(keys, &mut path);
        let device = self.reach(keys, &path, limit, now);
        let limit = limit.min(keys.tokens().len());
        let scope = Scope::all(located);
        let pages = self.extent(keys, &path, limit, now, scope).max(device.pages);
        let places = |index: usize| -> Vec<Option<Places>> {
            let place = |group: usize| match self.tree.window(group) {
                Some(window) if index + window < pages => None,
                _ => self.place((path.get(index).copied(), keys.mark(index)), index, group, scope),
            };
            (0..self.groups()).map(place).collect()
        };
        let mut wanted = Wanted {
            from: device.pages,
            partial: device.partial.map_or(0, |partial| partial.tokens),
            pages,
            tail: 0,
            places: (device.pages..pages).map(places).collect(),
        };
        if let Some((tail, places)) = self.tail_below(keys, &wanted, limit, now) {
            wanted.tail = tail;
            wanted.places.push(places);
        }
        wanted
    }

    /// The longest partly filled page below that continues the wanted pages: the end of an earlier turn has a key of its own.
    fn tail_below(&self, keys: &Keys, wanted: &Wanted, limit: usize, now: u64) -> Option<(usize, Vec<Option<Places>>)> {
        let least = if wanted.pages == wanted.from { wanted.partial } else { 0 };
        let parent = self.tree.find(&keys.above(wanted.pages))?;
        let found = |key: &Key| -> Option<Vec<Option<Places>>> {
            let node = self.tree.find(key)?;
            if self.tree.parent(node) != Some(parent) || self.tree.expires(node) <= now {
                return None;
            }
            // It goes to a page of its own in every group, also where the device still has it in one.
            let own = |group: usize, half: Half| {
                let has = |&tier: &usize| {
                    self.keeps(tier, half) && self.keeps_exact(tier) && self.state_below(tier, group, node).readable()
                };
                (0..self.tiers()).find(has).map(|tier| Place::Own { tier, source: false })
            };
            let both = |group: usize| Some(Some([own(group, Half::K)?, own(group, Half::V)?]));
            (0..self.groups()).map(both).collect()
        };
        let most = (limit - wanted.pages * self.page_tokens).min(self.page_tokens - 1);
        (least + 1..=most).rev().find_map(|tokens| {
            let places = found(&keys.beginning(wanted.pages, tokens)?)?;
            Some((tokens, places))
        })
    }

    /// Pages for what is wanted: those on the device are held, those below get free ones, in which there is nothing yet. `None`,
    /// and nothing held, if pages in use leave too little room or the device has lost what it had.
    pub(in crate::kv) fn lease_for(&mut self, keys: &Keys, wanted: &Wanted) -> Option<Lease> {
        let mut path = std::mem::take(&mut self.scratch);
        self.find(keys, &mut path);
        let mut lease = self.lease(keys, &path[..wanted.from.min(path.len())], None);
        lease.loaded = true;
        self.slide(&mut lease, wanted.pages * self.page_tokens);
        // Held first, so that making room does not take them.
        for group in 0..self.groups() {
            for (offset, places) in wanted.places.iter().enumerate() {
                let node = path.get(wanted.from + offset).copied().filter(|_| places[group] == Some(ON_DEVICE));
                let page = node.and_then(|node| self.tree.page(group, node));
                let held = page.filter(|&page| self.pools[group].retain(page).is_ok());
                lease.tables[group].push(held.map_or(NONE, |page| page.0));
            }
            if let Some(window) = self.tree.window(group) {
                lease.slid[group] = lease.slid[group].max(wanted.pages.saturating_sub(window));
            }
        }
        self.scratch = path;
        let on_device = |(offset, places): (usize, &Vec<Option<Places>>)| {
            let held = |group: usize| lease.tables[group][wanted.from + offset] != NONE;
            (0..places.len()).all(|group| places[group] != Some(ON_DEVICE) || held(group))
        };
        if !wanted.places.iter().enumerate().all(on_device) {
            self.cancel(lease);
            return None;
        }
        for group in 0..self.groups() {
            let empty: Vec<usize> = (lease.slid[group].max(wanted.from)..lease.tables[group].len())
                .filter(|&index| lease.tables[group][index] == NONE)
                .collect();
            if !self.reserve(group, empty.len()) {
                self.cancel(lease);
                return None;
            }
            for (index, page) in empty.iter().zip(self.pools[group].alloc(empty.len()).unwrap_or_default()) {
                lease.tables[group][*index] = page.0;
            }
        }
        Some(lease)
    }

    /// Pages of each group that [`Cache::lease_for`] would take.
    pub(in crate::kv) fn room_for(&self, wanted: &Wanted) -> Vec<usize> {
        let below = |places: &Option<Places>| places.is_some_and(|places| places != ON_DEVICE);
        (0..self.groups()).map(|group| wanted.places.iter().filter(|p| below(&p[group])).count()).collect()
    }
}

impl Lease {
    /// The physical page of a logical one that is to be filled from below.
    pub(in crate::kv) fn page(&self, group: usize, index: usize) -> Option<PageId> {
        self.tables[group].get(index).filter(|&&page| page != NONE).map(|&page| PageId(page))
    }
}
