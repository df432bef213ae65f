//! What the tiers have of a request, and whether loading it is worth it.
//!
//! Exact pages are looked for first, on all tiers; where they end, quantised copies, if they are welcome; then what was computed
//! on top of those, and so on. Tiers of our own are answered for by the tree, shared stores are asked: for full pages in growing questions, then for the
//! partly filled page after them by every length that it may have, longest first.
use super::super::super::queue::Command;
use super::super::super::{Half, RecordKey};
use super::super::{Manager, Tier, names_of};
use super::{Ask, Load, Phase};
use crate::kv::cache::{Cache, Place, Scope, Why};
use crate::kv::key::{Keys, Mark};

/// One in this many loads that should be slower than computing is made nevertheless, to measure again.
const PROBE: u64 = 16;
/// Pages that a shared store is asked for first; each further question is four times as long.
const FIRST_QUESTION: usize = 16;
/// How long a load waits for room that copies or other loads are about to make, in ms.
const CROWDED: u64 = 250;

impl Manager {
    /// Finds out what there is for a load, and decides on it at once unless a store must be asked.
    pub(super) fn locate(&mut self, cache: &mut Cache, id: u64) {
        self.ask(cache, id, 0, FIRST_QUESTION);
    }

    /// The shared stores that a load asks, in turn: first those that keep pages as they are.
    fn askable(&self, lossy: bool) -> Vec<usize> {
        let shared = |exact: bool| {
            let right =
                move |tier: &usize| self.below[*tier].own.is_none() && self.below[*tier].elements.is_none() == exact;
            (0..self.below.len()).filter(right)
        };
        shared(true).chain(shared(false).filter(|_| lossy)).collect()
    }

    /// Asks the shared stores from the one at place `turn` on what they have beyond what is known; when nobody is left to ask,
    /// once more by the names of what follows on restored pages, if there are any; then decides.
    fn ask(&mut self, cache: &mut Cache, id: u64, turn: usize, question: usize) {
        let groups = cache.groups();
        let Some(load) = self.loads.get(&id) else { return };
        let full = load.keys.full().len().min(load.ask.limit / load.keys.page_tokens());
        for (turn, tier) in self.askable(load.ask.lossy).into_iter().enumerate().skip(turn) {
            let elements = self.below[tier].elements;
            let known = load.located.keys().filter(|(.., kept)| *kept == elements).map(|(page, ..)| page + 1).max();
            let first = load.wanted.pages.max(known.unwrap_or(0));
            if first >= full {
                continue;
            }
            let pages = first..full.min(first + question);
            let asked: Vec<(usize, usize)> = pages.flat_map(|page| (0..groups).map(move |g| (page, g))).collect();
            let name = |&(page, group): &(usize, usize)| {
                load.keys.key(page).map(|key| RecordKey { key, group: group as u16, half: Half::K })
            };
            let names = asked.iter().filter_map(name).collect();
            if let Some(load) = self.loads.get_mut(&id) {
                load.phase = Phase::Locating { asked, question, turn };
            }
            self.below[tier].queue.send(Command::Locate { load: id, names });
            return;
        }
        match self.restore(cache, id) {
            true => self.ask(cache, id, 0, FIRST_QUESTION),
            false => self.ask_tail(cache, id, 0),
        }
    }

    /// Gives the pages of a load that can only be restored the names of such; whether there were any.
    fn restore(&mut self, cache: &Cache, id: u64) -> bool {
        let Some(load) = self.loads.get_mut(&id).filter(|load| load.ask.lossy) else { return false };
        let located = |page, group, kept| load.located.get(&(page, group, kept)).copied();
        let keys = cache.resolve(load.keys.clone(), load.ask.limit, self.now, Scope::all(&located));
        if keys.full() == load.keys.full() {
            return false;
        }
        load.wanted = cache.look_below(&keys, load.ask.limit, self.now, &located);
        let pages = load.wanted.pages;
        // What was asked beyond has other names now.
        load.located.retain(|(page, ..), _| *page < pages);
        (load.arriving, load.keys) = (keys.clone(), keys);
        true
    }

    /// Gives what the tiers held when they were opened its nodes, as far as a request names it. Returns the names under which
    /// most of it is on the device and tiers of our own.
    pub(super) fn claim(&mut self, cache: &mut Cache, keys: &Keys, ask: &Ask) -> Keys {
        let mut keys = keys.clone();
        loop {
            self.claim_named(cache, &keys, ask);
            let next = if ask.lossy {
                cache.resolve(keys.clone(), ask.limit, self.now, Scope::all(&|_, _, _| None))
            } else {
                keys.clone()
            };
            if next.full() == keys.full() {
                return keys;
            }
            keys = next;
        }
    }

    /// Claims what a request names, from every tier.
    fn claim_named(&mut self, cache: &mut Cache, keys: &Keys, ask: &Ask) {
        let own = |(index, tier): (usize, &Tier)| Some((index, tier.own.filter(|_| tier.unclaimed.len() > 0)?));
        let tiers: Vec<(usize, usize)> = self.below.iter().enumerate().filter_map(own).collect();
        if tiers.is_empty() {
            return;
        }
        for &tier in &tiers {
            for page in 0..keys.full().len() {
                self.claim_page(cache, keys, tier, page, keys.page(page).len());
            }
        }
        // One tier may keep K and another one V: where full pages end is known once all are claimed.
        let pages = cache.look_below(keys, ask.limit, self.now, &|_, _, _| None).pages;
        for &tier in &tiers {
            if ask.lossy {
                self.claim_restored(cache, keys, tier, pages);
            }
            for tokens in 1..=keys.page(pages).len().min(keys.page_tokens() - 1) {
                self.claim_page(cache, keys, tier, pages, tokens);
            }
        }
    }

    /// Claims copies of pages from `pages` on that were restored before, under their own names.
    fn claim_restored(&mut self, cache: &mut Cache, keys: &Keys, tier: (usize, usize), pages: usize) {
        let Some(elements) = self.below[tier.0].elements else { return };
        let mut restored = keys.clone();
        let sources = keys.full().get(pages..).unwrap_or_default();
        restored.restore(pages, sources.iter().map(|&source| Mark { source, elements }));
        (pages..keys.full().len()).all(|page| self.claim_page(cache, &restored, tier, page, keys.page_tokens()));
    }

    /// Claims a page for each group; whether any was there.
    fn claim_page(&mut self, cache: &mut Cache, keys: &Keys, tier: (usize, usize), page: usize, tokens: usize) -> bool {
        let (index, own) = tier;
        let Some(key) = keys.name(page, tokens) else { return false };
        let mut any = false;
        for group in 0..cache.groups() {
            let below = &mut self.below[index];
            if !below.unclaimed.take(&key, group) {
                continue;
            }
            any = true;
            if !cache.claim_below((own, group), keys, page, tokens, self.now) {
                below.bytes -= below.costs[group];
                below.queue.send(Command::Remove(names_of(key, group).to_vec()));
            }
        }
        any
    }

    /// Asks the shared stores from tier `from` on for the partly filled page after the full ones.
    fn ask_tail(&mut self, cache: &mut Cache, id: u64, from: usize) {
        let groups = cache.groups();
        let shared = self.askable(false).into_iter().find(|tier| *tier >= from);
        let Some(load) = self.loads.get_mut(&id) else { return };
        let (page, tokens) = (load.wanted.pages, load.keys.page_tokens());
        let most = (load.ask.limit - page * tokens).min(tokens - 1);
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
            Phase::Locating { asked, question, turn } => {
                let whole = there.len() == asked.len() && there.iter().all(|there| *there);
                let elements = self.below[tier].elements;
                let found = asked.into_iter().zip(there).filter(|(_, there)| **there);
                load.located.extend(found.map(|((page, group), _)| ((page, group, elements), tier)));
                let located = |page, group, kept| load.located.get(&(page, group, kept)).copied();
                load.wanted = cache.look_below(&load.keys, load.ask.limit, self.now, &located);
                let (turn, question) = if whole { (turn, question * 4) } else { (turn + 1, FIRST_QUESTION) };
                self.ask(cache, id, turn, question);
            }
            Phase::LocatingTail { asked } => {
                let whole = |chunk: &[bool]| chunk.len() == groups && chunk.iter().all(|there| *there);
                let found = there.chunks(groups).position(whole).and_then(|at| asked.get(at));
                if let Some(&tokens) = found {
                    load.wanted.places.truncate(load.wanted.pages - load.wanted.from);
                    load.wanted.tail = tokens;
                    load.wanted.places.push(vec![Some([Place::Shared { tier, source: false }; 2]); groups]);
                }
                self.ask_tail(cache, id, tier + 1);
            }
            phase => load.phase = phase,
        }
    }

    /// Loads what is wanted if that is faster than computing it and there is room.
    pub(super) fn decide(&mut self, cache: &mut Cache, id: u64) {
        let all = self.loads.values().filter(|load| load.lease.is_some()).count() >= self.config.loads;
        let Some(mut load) = self.loads.remove(&id) else { return };
        let since = match std::mem::replace(&mut load.phase, Phase::Over) {
            Phase::Crowded { since } if all && self.now - since < CROWDED => {
                load.phase = Phase::Crowded { since };
                self.loads.insert(id, load);
                return;
            }
            Phase::Crowded { since } => since,
            _ => self.now,
        };
        // The device may have changed while stores were asked.
        let located = |page, group, kept| load.located.get(&(page, group, kept)).copied();
        let mut wanted = cache.look_below(&load.keys, load.ask.limit, self.now, &located);
        if (wanted.from, wanted.pages) == (load.wanted.from, load.wanted.pages) && wanted.tail < load.wanted.tail {
            wanted = load.wanted;
        }
        load.wanted = wanted;
        let full = load.wanted.pages - load.wanted.from;
        let tokens = full * load.keys.page_tokens() + load.wanted.tail;
        let gained = tokens.saturating_sub(if full > 0 || load.wanted.tail > 0 { load.wanted.partial } else { tokens });
        let room = cache.room_for(&load.wanted);
        let fits = !all && (0..cache.groups()).all(|g| cache.available(g) >= room[g] + load.ask.spare[g]);
        if gained > 0 && !fits && (all || self.held(cache) > 0) && self.now - since < CROWDED {
            load.phase = Phase::Crowded { since };
            self.loads.insert(id, load);
            return;
        }
        if gained > 0 && !load.abandoned {
            if !fits {
                load.blame(Why::Crowded, 0);
            } else if !self.is_faster(&load, gained) {
                load.blame(Why::Slower, 0);
            } else {
                load.lease = cache.lease_for(&load.keys, &load.wanted);
            }
        }
        if load.lease.is_some() {
            load.announced = load.ask.announce.then(|| cache.announce(&load.keys, load.ask.limit, self.now));
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
        let Some(computing) = load.ask.pace.compute(before, tokens) else { return true };
        let mut bytes = vec![0u64; self.below.len()];
        for places in &load.wanted.places {
            for (group, halves) in places.iter().enumerate() {
                for (half, place) in halves.iter().flatten().enumerate() {
                    if let Some((tier, _)) = self.tier_of(*place) {
                        bytes[tier] += self.below[tier].shapes[group][half].1 as u64;
                    }
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

    /// A place's tier, and whether it is under the name of what it is restored from; `None` for the device.
    pub(super) fn tier_of(&self, place: Place) -> Option<(usize, bool)> {
        match place {
            Place::Device => None,
            Place::Own { tier, source } => {
                self.below.iter().position(|below| below.own == Some(tier)).map(|tier| (tier, source))
            }
            Place::Shared { tier, source } => Some((tier, source)),
        }
    }
}
