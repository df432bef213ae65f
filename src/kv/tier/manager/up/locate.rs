//! What the tiers have of a request, and whether loading it is worth it.
//!
//! Tiers of our own are answered for by the tree, shared stores are asked: for full pages in growing questions, then for the
//! partly filled page after them by every length that it may have, longest first.
use super::super::super::queue::Command;
use super::super::super::{Half, RecordKey};
use super::super::{Manager, names_of};
use super::{Load, Phase};
use crate::kv::cache::{Cache, Place};
use crate::kv::key::Keys;

/// One in this many loads that should be slower than computing is made nevertheless, to measure again.
const PROBE: u64 = 16;
/// Pages that a shared store is asked for first; each further question is four times as long.
const FIRST_QUESTION: usize = 16;
/// How long a load waits for room that copies are about to make, in ms.
const CROWDED: u64 = 250;

impl Manager {
    /// Finds out what there is for a load, and decides on it at once unless a store must be asked.
    pub(super) fn locate(&mut self, cache: &mut Cache, id: u64) {
        self.ask(cache, id, 0, FIRST_QUESTION);
    }

    /// Gives what the tiers held when they were opened its nodes, as far as a request names it.
    pub(super) fn claim(&mut self, cache: &mut Cache, keys: &Keys, limit: usize) {
        for index in 0..self.below.len() {
            let Some(own) = self.below[index].own else { continue };
            if self.below[index].unclaimed.len() == 0 {
                continue;
            }
            for page in 0..keys.full().len() {
                self.claim_page(cache, keys, (index, own), page, keys.page(page).len());
            }
            let pages = cache.look_below(keys, limit, self.now, &|_, _| None).pages;
            for tokens in 1..=keys.page(pages).len().min(keys.page_tokens() - 1) {
                self.claim_page(cache, keys, (index, own), pages, tokens);
            }
        }
    }

    fn claim_page(&mut self, cache: &mut Cache, keys: &Keys, tier: (usize, usize), page: usize, tokens: usize) {
        let (index, own) = tier;
        let key = if tokens == keys.page_tokens() { keys.key(page) } else { keys.beginning(page, tokens) };
        let Some(key) = key else { return };
        for group in 0..cache.groups() {
            let below = &mut self.below[index];
            if below.unclaimed.take(&key, group)
                && !cache.claim_below(own, group, &keys.above(page), key, &keys.page(page)[..tokens], self.now)
            {
                below.bytes -= below.costs[group];
                below.queue.send(Command::Remove(names_of(key, group).to_vec()));
            }
        }
    }

    /// Asks the shared stores from tier `from` on what they have beyond what is known; decides when nobody is left to ask.
    fn ask(&mut self, cache: &mut Cache, id: u64, from: usize, question: usize) {
        let groups = cache.groups();
        let shared = (from..self.below.len()).find(|&tier| self.below[tier].own.is_none());
        let Some(load) = self.loads.get_mut(&id) else { return };
        let full = load.keys.full().len().min(load.limit / load.keys.page_tokens());
        let first = load.wanted.pages.max(load.located.keys().map(|(page, _)| page + 1).max().unwrap_or(0));
        if let Some(tier) = shared
            && first < full
        {
            let pages = first..full.min(first + question);
            let asked: Vec<(usize, usize)> = pages.flat_map(|page| (0..groups).map(move |g| (page, g))).collect();
            let name = |&(page, group): &(usize, usize)| {
                load.keys.key(page).map(|key| RecordKey { key, group: group as u16, half: Half::K })
            };
            let names = asked.iter().filter_map(name).collect();
            load.phase = Phase::Locating { asked, question };
            self.below[tier].queue.send(Command::Locate { load: id, names });
            return;
        }
        self.ask_tail(cache, id, 0);
    }

    /// Asks the shared stores from tier `from` on for the partly filled page after the full ones.
    fn ask_tail(&mut self, cache: &mut Cache, id: u64, from: usize) {
        let groups = cache.groups();
        let shared = (from..self.below.len()).find(|&tier| self.below[tier].own.is_none());
        let Some(load) = self.loads.get_mut(&id) else { return };
        let (page, tokens) = (load.wanted.pages, load.keys.page_tokens());
        let most = (load.limit - page * tokens).min(tokens - 1);
        let least = if page == load.wanted.from { load.wanted.partial } else { 0 }.max(load.wanted.tail);
        if let Some(tier) = shared
            && least < most
        {
            let asked: Vec<usize> = (least + 1..=most).rev().collect();
            let names = |&tokens: &usize| {
                let key = load.keys.beginning(page, tokens);
                key.into_iter().flat_map(move |key| {
                    (0..groups).map(move |group| RecordKey { key, group: group as u16, half: Half::K })
                })
            };
            let names = asked.iter().flat_map(names).collect();
            load.phase = Phase::LocatingTail { asked };
            self.below[tier].queue.send(Command::Locate { load: id, names });
            return;
        }
        self.decide(cache, id);
    }

    /// A shared store has said what it has.
    pub(in super::super) fn located(&mut self, cache: &mut Cache, tier: usize, id: u64, there: &[bool]) {
        let groups = cache.groups();
        let Some(load) = self.loads.get_mut(&id) else { return };
        match std::mem::replace(&mut load.phase, Phase::Over) {
            Phase::Locating { asked, question } => {
                let whole = there.len() == asked.len() && there.iter().all(|there| *there);
                let found = asked.into_iter().zip(there).filter(|(_, there)| **there);
                load.located.extend(found.map(|(place, _)| (place, tier)));
                let located = std::mem::take(&mut load.located);
                load.wanted = cache
                    .look_below(&load.keys, load.limit, self.now, &|page, group| located.get(&(page, group)).copied());
                load.located = located;
                let (from, question) = if whole { (tier, question * 4) } else { (tier + 1, FIRST_QUESTION) };
                self.ask(cache, id, from, question);
            }
            Phase::LocatingTail { asked } => {
                let whole = |chunk: &[bool]| chunk.len() == groups && chunk.iter().all(|there| *there);
                let found = there.chunks(groups).position(whole).and_then(|at| asked.get(at));
                if let Some(&tokens) = found {
                    load.wanted.places.truncate(load.wanted.pages - load.wanted.from);
                    load.wanted.tail = tokens;
                    load.wanted.places.push(vec![Some(Place::Shared(tier)); groups]);
                }
                self.ask_tail(cache, id, tier + 1);
            }
            phase => load.phase = phase,
        }
    }

    /// Loads what is wanted if that is faster than computing it and there is room.
    pub(super) fn decide(&mut self, cache: &mut Cache, id: u64) {
        let Some(mut load) = self.loads.remove(&id) else { return };
        let since = match std::mem::replace(&mut load.phase, Phase::Over) {
            Phase::Crowded { since } => since,
            _ => self.now,
        };
        // The device may have changed while stores were asked.
        let located = |page: usize, group: usize| load.located.get(&(page, group)).copied();
        let mut wanted = cache.look_below(&load.keys, load.limit, self.now, &located);
        if (wanted.from, wanted.pages) == (load.wanted.from, load.wanted.pages) && wanted.tail < load.wanted.tail {
            wanted = load.wanted;
        }
        load.wanted = wanted;
        let full = load.wanted.pages - load.wanted.from;
        let tokens = full * load.keys.page_tokens() + load.wanted.tail;
        let gained = tokens.saturating_sub(if full > 0 || load.wanted.tail > 0 { load.wanted.partial } else { tokens });
        let room = cache.room_for(&load.wanted);
        let fits = (0..cache.groups()).all(|g| cache.available(g) >= room[g] + load.spare[g]);
        if gained > 0 && !fits && self.held(cache) > 0 && self.now - since < CROWDED {
            load.phase = Phase::Crowded { since };
            self.loads.insert(id, load);
            return;
        }
        if gained > 0 && !load.abandoned && fits && self.is_faster(&load, gained) {
            load.lease = cache.lease_for(&load.keys, &load.wanted);
        }
        if load.lease.is_some() {
            load.announced = load.announce.then(|| cache.announce(&load.keys, load.limit, self.now));
            load.arriving.truncate(load.wanted.pages * load.keys.page_tokens() + load.wanted.tail);
            load.end = load.wanted.places.len();
            load.phase = Phase::Fetching;
        }
        self.loads.insert(id, load);
        self.carry_on(cache);
    }

    /// Whether reading should take less time than computing, by what was measured of both.
    fn is_faster(&mut self, load: &Load, tokens: usize) -> bool {
        let before = load.wanted.from * load.keys.page_tokens();
        let Some(computing) = load.pace.compute(before, tokens) else { return true };
        let mut bytes = vec![0u64; self.below.len()];
        for places in &load.wanted.places {
            for (group, place) in places.iter().enumerate() {
                if let Some(tier) = place.and_then(|place| self.tier_of(place)) {
                    bytes[tier] += self.config.shapes[group].iter().map(|(_, bytes)| *bytes as u64).sum::<u64>();
                }
            }
        }
        let time = |(tier, &bytes): (usize, &u64)| match bytes {
            0 => None,
            _ => self.tiers.estimate(tier, bytes),
        };
        let seconds: f64 = bytes.iter().enumerate().filter_map(time).map(|time| time.as_secs_f64()).sum();
        if seconds <= computing {
            return true;
        }
        let most = (0..bytes.len()).max_by_key(|&tier| bytes[tier]).unwrap_or(0);
        let report = &mut self.below[most].report;
        report.slower += 1;
        report.slower.is_multiple_of(PROBE)
    }

    pub(super) fn tier_of(&self, place: Place) -> Option<usize> {
        match place {
            Place::Device => None,
            Place::Own(own) => self.below.iter().position(|tier| tier.own == Some(own)),
            Place::Shared(tier) => Some(tier),
        }
    }
}
