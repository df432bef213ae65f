//! What it takes to have a sequence on the device again once its pages are gone: the nearest tier gives them, or they are
//! computed, whichever should be faster by what was measured of both.
use super::Manager;
use crate::kv::cache::Cache;
use crate::kv::key::Keys;
use crate::kv::pace::Pace;

impl Manager {
    /// Seconds until the first `tokens` tokens of a sequence are on the device again; `None` before anything was computed.
    pub fn comeback(&self, cache: &Cache, keys: &Keys, tokens: usize, pace: &Pace) -> Option<f64> {
        let page = keys.page_tokens();
        let from = |(index, own): (usize, usize)| {
            let pages = self.pages_below(cache, keys, own, tokens / page);
            let read = self.reading(cache, index, pages)?;
            Some(read + pace.compute(pages * page, tokens - pages * page)?)
        };
        let own = self.below.iter().enumerate().filter_map(|(index, tier)| Some((index, tier.own?)));
        own.filter_map(from).chain(pace.compute(0, tokens)).reduce(f64::min)
    }

    /// Whether the `tokens` tokens of a partly filled page after `before` others should come back from the nearest tier of our own
    /// sooner than they are computed.
    pub fn is_worth_keeping(&self, cache: &Cache, before: usize, tokens: usize, pace: &Pace) -> bool {
        let Some(index) = self.below.iter().position(|tier| tier.own.is_some()) else { return false };
        let Some((reading, computing)) = self.reading(cache, index, 1).zip(pace.compute(before, tokens)) else {
            // Once, to measure.
            return true;
        };
        reading <= computing
    }

    /// Leading full pages of a sequence, at most `most`, that a tier of our own has.
    fn pages_below(&self, cache: &Cache, keys: &Keys, own: usize, most: usize) -> usize {
        let full = |&group: &usize| cache.window(group).is_none();
        let has = |page: &usize| {
            let node = keys.key(*page).and_then(|key| cache.node(&key));
            let in_group = |group: usize| node.is_some_and(|node| cache.state_below(own, group, node).readable());
            (0..cache.groups()).filter(full).all(in_group)
        };
        (0..most).take_while(has).count()
    }

    /// Seconds that the last of `pages` pages that each group needs take to come from a tier; `None` before it was read.
    fn reading(&self, cache: &Cache, index: usize, pages: usize) -> Option<f64> {
        let needed = |group: usize| match cache.window(group) {
            None => pages,
            Some(window) => pages.min(window.div_ceil(cache.page_tokens())),
        };
        let bytes = (0..cache.groups()).map(|group| needed(group) as u64 * self.below[index].page_bytes(group)).sum();
        if pages == 0 { Some(0.0) } else { self.tiers.estimate(index, bytes).map(|time| time.as_secs_f64()) }
    }
}
