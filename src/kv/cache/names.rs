//! Under which names most of a sequence can be had: exact as far as exact pages reach, then restored from quantised copies.
//!
//! Invariants:
//! * Nobody is given restored names but who asked for them. A name that the device or a tier cannot serve is not given out: the
//!   page would have to be computed, and then it is not what the name says.
//! * A copy stands for its page ([`Place`]) only if it was kept as it is, or if the page is what that copy restores to.
use super::Cache;
use super::fetch::{Located, ON_DEVICE, Place, Places};
use crate::kv::key::{Elements, Key, Keys, Mark};
use crate::kv::tier::Half;
use crate::kv::tree::NodeId;

/// Where pages are looked for.
#[derive(Clone, Copy)]
pub(in crate::kv) struct Scope<'a> {
    /// What shared stores said they have; `None`: only the device counts.
    below: Option<Located<'a>>,
    /// The stores were asked by the names of the pages before this one.
    asked: usize,
}

impl<'a> Scope<'a> {
    /// The device alone.
    pub const DEVICE: Scope<'static> = Scope { below: None, asked: 0 };

    /// The device, tiers of our own and what shared stores said.
    pub fn all(located: Located<'a>) -> Self {
        Scope { below: Some(located), asked: usize::MAX }
    }
}

/// A page as it could be restored.
struct Restored {
    mark: Mark,
    key: Key,
    /// Of each group.
    places: Vec<Option<Places>>,
}

impl Cache {
    /// Whether any tier keeps quantised copies.
    pub fn is_lossy(&self) -> bool {
        !self.below.packings.is_empty()
    }

    /// From now on copies of these elements may be found on some tier.
    pub(in crate::kv) fn know_packing(&mut self, elements: Elements) {
        if !self.below.packings.contains(&elements) {
            self.below.packings.push(elements);
        }
    }

    /// The names under which the device has most of the first `limit` tokens of a sequence, quantised copies welcome. `keys` may
    /// have such names already. To be called right before [`Cache::start`] and its like.
    pub fn rename(&self, keys: &mut Keys, limit: usize, now: u64) {
        if !self.is_lossy() {
            return;
        }
        let mut plain = keys.clone();
        plain.compute_from(0);
        let plain = self.resolve(plain, limit, now, Scope::DEVICE);
        if keys.first_mark().is_none() {
            *keys = plain;
            return;
        }
        let kept = self.resolve(keys.clone(), limit, now, Scope::DEVICE);
        let pages = |keys: &Keys| self.whole_pages(keys, limit, now);
        let exact = |keys: &Keys| keys.first_mark().unwrap_or(usize::MAX);
        *keys = if (pages(&kept), exact(&kept)) > (pages(&plain), exact(&plain)) { kept } else { plain };
    }

    /// Names for the pages of a sequence: those of `keys` as far as they are served, then those of restored pages, then those of
    /// what was computed on top of these, and so on.
    pub(in crate::kv) fn resolve(&self, mut keys: Keys, limit: usize, now: u64, mut scope: Scope<'_>) -> Keys {
        let (mut path, limit) = (Vec::with_capacity(keys.pages()), limit.min(keys.tokens().len()));
        loop {
            self.find(&keys, &mut path);
            let pages = self.extent(&keys, &path, limit, now, scope);
            keys.compute_from(pages);
            let marks = self.restorable(&keys, pages, limit, now, scope);
            if marks.is_empty() {
                return keys;
            }
            scope.asked = scope.asked.min(pages + marks.len());
            keys.restore(pages, marks);
        }
    }

    /// Where both halves of a page with this node, or restored as this mark says, can be had.
    pub(super) fn place(
        &self,
        page: (Option<NodeId>, Option<&Mark>),
        index: usize,
        group: usize,
        scope: Scope<'_>,
    ) -> Option<Places> {
        if page.0.is_some_and(|node| self.tree.page(group, node).is_some()) {
            return Some(ON_DEVICE);
        }
        let located = scope.below?;
        let shared = || {
            let mark = page.1;
            let tier = (index < scope.asked).then(|| located(index, group, mark.map(|mark| mark.elements))).flatten();
            tier.map(|tier| Place::Shared { tier, source: mark.is_some() })
        };
        let half = |half: Half| self.own_place(page, group, half).or_else(shared);
        Some([half(Half::K)?, half(Half::V)?])
    }

    /// The nearest tier of our own that has a half.
    fn own_place(&self, (node, mark): (Option<NodeId>, Option<&Mark>), group: usize, half: Half) -> Option<Place> {
        let source = mark.and_then(|mark| self.tree.find(&mark.source));
        let readable =
            |tier: usize, node: Option<NodeId>| node.is_some_and(|node| self.state_below(tier, group, node).readable());
        for (tier, kept) in self.below.elements.iter().enumerate().filter(|(tier, _)| self.keeps(*tier, half)) {
            let faithful = kept.is_none_or(|kept| mark.is_some_and(|mark| mark.elements == kept));
            if faithful && readable(tier, node) {
                return Some(Place::Own { tier, source: false });
            }
            if mark.is_some_and(|mark| *kept == Some(mark.elements)) && readable(tier, source) {
                return Some(Place::Own { tier, source: true });
            }
        }
        None
    }

    /// Full pages that every group can serve under these names, wherever they are.
    pub(super) fn extent(&self, keys: &Keys, path: &[NodeId], limit: usize, now: u64, scope: Scope<'_>) -> usize {
        let full = keys.full().len().min(limit / self.page_tokens);
        let mut runs = Runs::new(self, 0);
        for index in 0..full {
            let node = path.get(index).copied();
            if node.is_some_and(|node| self.tree.expires(node) <= now) {
                break;
            }
            if !runs.take(|group| self.place((node, keys.mark(index)), index, group, scope).is_some()) {
                break;
            }
        }
        runs.served
    }

    /// How the pages from `from` on, which are not to be had as they are, can be restored.
    fn restorable(&self, keys: &Keys, from: usize, limit: usize, now: u64, scope: Scope<'_>) -> Vec<Mark> {
        let full = keys.full().len().min(limit / self.page_tokens);
        let (mut runs, mut marks, mut above) = (Runs::new(self, from), Vec::new(), keys.above(from));
        for index in from..full {
            let restored = |&elements: &Elements| self.restored(keys, index, &above, elements, now, scope);
            let ways = self.below.packings.iter().filter_map(restored);
            let on_device = |way: &Restored| way.places.iter().filter(|places| **places == Some(ON_DEVICE)).count();
            let there = |way: &Restored| way.places.iter().filter(|place| place.is_some()).count();
            // Of equal ways the first: that of the nearest tier.
            let best = ways.reduce(|best, next| {
                let better = (there(&next), on_device(&next)) > (there(&best), on_device(&best));
                if better { next } else { best }
            });
            let Some(Restored { mark, key, places }) = best else { break };
            if !runs.take(|group| places[group].is_some()) {
                break;
            }
            marks.push(mark);
            above = key;
        }
        marks.truncate(runs.served - from);
        marks
    }

    /// Page `index` restored from a copy of these elements; `None` if it or what it is restored from is out of service.
    fn restored(
        &self,
        keys: &Keys,
        index: usize,
        above: &Key,
        elements: Elements,
        now: u64,
        scope: Scope<'_>,
    ) -> Option<Restored> {
        let mark = Mark { source: *keys.full().get(index)?, elements };
        let key = above.restored(&mark);
        let known = |key: &Key| self.tree.find(key).filter(|&node| self.tree.tokens(node) == keys.page(index));
        let (node, source) = (known(&key), known(&mark.source));
        if [node, source].into_iter().flatten().any(|node| self.tree.expires(node) <= now) {
            return None;
        }
        let places = (0..self.groups()).map(|group| self.place((node, Some(&mark)), index, group, scope));
        Some(Restored { mark, key, places: places.collect() })
    }
}

/// How many pages in a row each group with a window has, on the way down a path.
struct Runs<'a> {
    cache: &'a Cache,
    runs: Vec<usize>,
    pages: usize,
    /// Pages that every group can serve.
    served: usize,
}

impl<'a> Runs<'a> {
    /// After `pages` pages that every group can serve.
    fn new(cache: &'a Cache, pages: usize) -> Self {
        Runs { cache, runs: vec![pages; cache.groups()], pages, served: pages }
    }

    /// Takes the next page; false if a group that needs it does not have it.
    fn take(&mut self, has: impl Fn(usize) -> bool) -> bool {
        self.pages += 1;
        let mut served = true;
        for (group, run) in self.runs.iter_mut().enumerate() {
            let here = has(group);
            *run = if here { *run + 1 } else { 0 };
            match self.cache.tree.window(group) {
                None if !here => return false,
                None => {}
                Some(window) => served &= *run >= window.min(self.pages),
            }
        }
        if served {
            self.served = self.pages;
        }
        true
    }
}
