//! Up: the pages of a request that is about to run are brought to the device, if that is faster than computing them.
//!
//! A load asks the shared stores what they have of the request, takes device pages for all that is to come, and fetches them in
//! batches: while one is copied to the device the next is read. What arrived is published batch by batch, so that others of the
//! tenant find it too; a page that no tier has whole ends the load there.
use super::super::queue::{Answered, Command, Want};
use super::super::{Half, IoError, Payload, RecordKey};
use super::Manager;
use crate::kv::cache::{Announced, Cache, Fresh, Lease, Place, Wanted};
use crate::kv::key::Keys;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// One in this many loads that should be slower than computing is made nevertheless, to measure again.
const PROBE: u64 = 16;
/// Pages that a shared store is asked for first; each further question is four times as long.
const FIRST_QUESTION: usize = 16;
/// How long a load waits for room that copies are about to make, in ms.
const CROWDED: u64 = 250;

/// How fast the device computes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Seconds that a token of a prompt takes; `None` before the first is measured.
    pub seconds_per_token: Option<f64>,
}

/// What a load brought.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// For [`Cache::join`], if it was announced.
    pub announced: Option<Announced>,
    /// Tokens that came from below.
    pub tokens: usize,
}

/// Pages on their way up.
pub(super) struct Load {
    /// Of the whole request.
    keys: Keys,
    limit: usize,
    pace: Pace,
    /// Pages of each group that others need.
    spare: Vec<usize>,
    announce: bool,
    announced: Option<Announced>,
    phase: Phase,
    /// Pages that shared stores say they have.
    located: HashMap<(usize, usize), usize>,
    wanted: Wanted,
    /// Of what is loaded, the partly filled page included.
    arriving: Keys,
    lease: Option<Lease>,
    batches: VecDeque<Batch>,
    /// Pages from `wanted.from` on: first that no batch has, and first that will not be had.
    next: usize,
    end: usize,
    tokens: usize,
    abandoned: bool,
}

enum Phase {
    /// A tier is asked which pages it has; those it was asked for.
    Locating {
        asked: Vec<(usize, usize)>,
        question: usize,
    },
    /// A tier is asked for the partly filled page after the full ones; tokens of the pages it was asked for, in all groups.
    LocatingTail {
        asked: Vec<usize>,
    },
    /// Room is short, but some comes free when what is on its way down has arrived; since when it waits for that.
    Crowded {
        since: u64,
    },
    Fetching,
    Over,
}

/// Pages that are fetched together.
struct Batch {
    /// From `wanted.from` on.
    pages: std::ops::Range<usize>,
    items: HashMap<usize, Item>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many half pages are not answered for yet.
    Fetching(usize),
    /// In host memory; so many of its half pages are being copied or were, and so many calls for that have not ended.
    Copying {
        sent: usize,
        calls: usize,
    },
    Arrived,
}

/// Everything of a batch is in host memory, and nothing on its way from there.
const FETCHED: Stage = Stage::Copying { sent: 0, calls: 0 };

struct Item {
    tier: usize,
    record: Option<(Arc<Vec<u8>>, usize)>,
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Load {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    fn copying(&self) -> bool {
        self.batches.iter().any(|batch| matches!(batch.stage, Stage::Copying { calls: 1.., .. }))
    }
}

impl Manager {
    /// Begins to bring up what the tiers have of the first `limit` tokens of a request; the load's number, or `None` if there is
    /// nothing to bring. `spare` pages of each group are left to others. With `announce` the policies are told of the request.
    #[allow(clippy::too_many_arguments)]
    pub fn load(
        &mut self,
        cache: &mut Cache,
        keys: &Keys,
        limit: usize,
        pace: Pace,
        spare: Vec<usize>,
        announce: bool,
        now: u64,
    ) -> Option<u64> {
        self.now = now;
        if self.loads.len() >= self.config.loads {
            return None;
        }
        self.claim(cache, keys, limit);
        let wanted = cache.look_below(keys, limit, now, &|_, _| None);
        let load = Load {
            keys: keys.clone(),
            limit: limit.min(keys.tokens().len()),
            pace,
            spare,
            announce,
            announced: None,
            phase: Phase::Over,
            located: HashMap::new(),
            wanted,
            arriving: keys.clone(),
            lease: None,
            batches: VecDeque::new(),
            next: 0,
            end: 0,
            tokens: 0,
            abandoned: false,
        };
        self.ticket += 1;
        let id = self.ticket;
        self.loads.insert(id, load);
        self.ask(cache, id, 0, FIRST_QUESTION);
        if self.loads.get(&id).is_some_and(|load| load.is_over() && load.lease.is_none()) {
            self.loads.remove(&id);
            return None;
        }
        Some(id)
    }

    /// Whether a load has come to its end.
    pub fn is_loaded(&self, id: u64) -> bool {
        self.loads.get(&id).is_none_or(Load::is_over)
    }

    /// Whether a load is bringing page `index` of a request, so that others who need it can wait.
    pub fn loads_page(&self, keys: &Keys, index: usize) -> bool {
        let same = |load: &Load| {
            let full = load.wanted.from + load.end.min(load.wanted.pages - load.wanted.from);
            index >= load.wanted.from && index < full && load.arriving.key(index) == keys.key(index)
        };
        self.loads.values().any(|load| !load.is_over() && !load.abandoned && same(load))
    }

    /// Pages of a group that a load holds.
    pub fn held_by(&self, id: u64, group: usize) -> usize {
        self.loads.get(&id).and_then(|load| load.lease.as_ref()).map_or(0, |lease| lease.held(group))
    }

    /// Ends a load that is over: its pages are in the cache, pinned by nobody. `None` if it was not worth making.
    pub fn take(&mut self, cache: &mut Cache, id: u64) -> Option<Loaded> {
        let mut load = self.loads.remove(&id)?;
        let loaded = load.lease.as_ref().map(|_| Loaded { announced: load.announced, tokens: load.tokens });
        self.let_go(cache, &mut load);
        loaded
    }

    /// Ends a load whose request is gone; what is on its way arrives first.
    pub fn abandon(&mut self, cache: &mut Cache, id: u64) {
        let Some(mut load) = self.loads.remove(&id) else { return };
        if load.copying() {
            load.abandoned = true;
            load.batches.retain(|batch| !matches!(batch.stage, Stage::Fetching(_)));
            load.end = load.next.min(load.batches.back().map_or(0, |batch| batch.pages.end));
            load.next = load.end;
            self.loads.insert(id, load);
        } else {
            self.let_go(cache, &mut load);
        }
    }

    pub(super) fn abandon_all(&mut self, cache: &mut Cache) {
        let ids: Vec<u64> = self.loads.keys().copied().collect();
        ids.into_iter().for_each(|id| self.abandon(cache, id));
    }

    /// Gives a load's pages to the cache, the partly filled one too.
    fn let_go(&mut self, cache: &mut Cache, load: &mut Load) {
        let Some(lease) = load.lease.take() else { return };
        self.backlog.extend(cache.take_fresh());
        let computed = lease.filled();
        cache.finish(lease, &load.arriving, computed, self.now);
        // The partly filled page, which is below already.
        cache.take_fresh().iter().for_each(|fresh| cache.release(fresh));
    }

    /// Gives what the tiers held when they were opened its nodes, as far as a request names it.
    fn claim(&mut self, cache: &mut Cache, keys: &Keys, limit: usize) {
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
                below.queue.send(Command::Remove(super::names_of(key, group).to_vec()));
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
    pub(super) fn located(&mut self, cache: &mut Cache, tier: usize, id: u64, there: &[bool]) {
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
    fn decide(&mut self, cache: &mut Cache, id: u64) {
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
        let Some(pace) = load.pace.seconds_per_token else { return true };
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
        if seconds <= pace * tokens as f64 {
            return true;
        }
        let most = (0..bytes.len()).max_by_key(|&tier| bytes[tier]).unwrap_or(0);
        let report = &mut self.below[most].report;
        report.slower += 1;
        report.slower.is_multiple_of(PROBE)
    }

    fn tier_of(&self, place: Place) -> Option<usize> {
        match place {
            Place::Device => None,
            Place::Own(own) => self.below.iter().position(|tier| tier.own == Some(own)),
            Place::Shared(tier) => Some(tier),
        }
    }

    /// Starts what can be started of all loads.
    pub(super) fn carry_on(&mut self, cache: &mut Cache) {
        let ids: Vec<u64> = self.loads.keys().copied().collect();
        for id in ids {
            if self.loads.get(&id).is_some_and(|load| matches!(load.phase, Phase::Crowded { .. })) {
                self.decide(cache, id);
            }
            let Some(mut load) = self.loads.remove(&id) else { continue };
            if matches!(load.phase, Phase::Fetching) {
                self.advance(cache, id, &mut load);
            }
            if load.abandoned && load.is_over() {
                self.let_go(cache, &mut load);
            } else {
                self.loads.insert(id, load);
            }
        }
    }

    fn advance(&mut self, cache: &mut Cache, id: u64, load: &mut Load) {
        loop {
            let fetching = load.batches.iter().any(|batch| matches!(batch.stage, Stage::Fetching(_)));
            if !fetching && load.batches.len() < 3 && load.next < load.end {
                self.fetch(cache, id, load);
                continue;
            }
            self.copy_up(id, load);
            if load.batches.front().is_some_and(|batch| batch.stage == Stage::Arrived)
                && let Some(batch) = load.batches.pop_front()
            {
                self.arrived(cache, load, batch);
                continue;
            }
            break;
        }
        if load.batches.is_empty() && load.next >= load.end {
            load.phase = Phase::Over;
        }
    }

    /// Asks for the half pages of the next batch, each of the nearest tier that has it.
    fn fetch(&mut self, cache: &Cache, id: u64, load: &mut Load) {
        let pages = load.next..load.end.min(load.next + self.config.batch);
        load.next = pages.end;
        let mut items = HashMap::new();
        for page in pages.clone() {
            for group in 0..cache.groups() {
                let Some(tier) = load.wanted.places[page][group].and_then(|place| self.tier_of(place)) else {
                    continue;
                };
                for half in Half::ALL {
                    let item = (page * cache.groups() + group) * 2 + half as usize;
                    items.insert(item, Item { tier, record: None });
                }
            }
        }
        let stage = if items.is_empty() { FETCHED } else { Stage::Fetching(items.len()) };
        let asked: Vec<usize> = items.keys().copied().collect();
        load.batches.push_back(Batch { pages, items, stage });
        self.get(cache.groups(), id, load, asked);
    }

    /// Queues reads of items of the last batch, which name their tier.
    fn get(&mut self, groups: usize, id: u64, load: &Load, mut asked: Vec<usize>) {
        asked.sort_unstable();
        let Some(batch) = load.batches.iter().find(|batch| matches!(batch.stage, Stage::Fetching(_))) else { return };
        for tier in 0..self.below.len() {
            let of_tier = asked.iter().filter(|item| batch.items.get(item).is_some_and(|i| i.tier == tier));
            let wants: Vec<Want> = of_tier.filter_map(|&item| self.want(groups, load, item)).collect();
            if !wants.is_empty() {
                self.below[tier].queue.send(Command::Get { load: id, wants });
            }
        }
    }

    fn want(&self, groups: usize, load: &Load, item: usize) -> Option<Want> {
        let (page, group, half) = (item / 2 / groups, item / 2 % groups, Half::ALL[item % 2]);
        let index = load.wanted.from + page;
        let name = RecordKey { key: load.arriving.key(index)?, group: group as u16, half };
        let size = self.config.shapes[group][half as usize];
        Some(Want { item, name, epoch: load.keys.root().short(), tokens: load.arriving.page(index).into(), size })
    }

    /// A tier answered a read: what it does not have whole is asked of the next one.
    pub(super) fn got(&mut self, cache: &mut Cache, tier: usize, id: u64, found: Vec<Answered>) {
        let Some(mut load) = self.loads.remove(&id) else { return };
        let groups = cache.groups();
        let (mut again, mut answered) = (Vec::new(), 0);
        for (item, record) in found {
            let (page, group) = (item / 2 / groups, item / 2 % groups);
            let key = load.arriving.key(load.wanted.from + page);
            if let (None, Some(key), Some(own)) = (&record, &key, self.below[tier].own) {
                cache.lose_below(own, group, key);
            }
            let next = match &record {
                Some(_) => None,
                None => key.and_then(|key| self.next_tier(cache, tier, group, &key)),
            };
            let batch = load.batches.iter_mut().find(|batch| matches!(batch.stage, Stage::Fetching(_)));
            let Some(entry) = batch.and_then(|batch| batch.items.get_mut(&item)) else { continue };
            match (record, next) {
                (None, Some(next)) => {
                    entry.tier = next;
                    again.push(item);
                }
                (None, None) => {
                    load.end = load.end.min(page);
                    answered += 1;
                }
                (record, _) => {
                    entry.record = record;
                    answered += 1;
                }
            }
        }
        self.get(groups, id, &load, again);
        if let Some(batch) = load.batches.iter_mut().find(|batch| matches!(batch.stage, Stage::Fetching(_)))
            && let Stage::Fetching(left) = batch.stage
        {
            batch.stage = if left > answered { Stage::Fetching(left - answered) } else { FETCHED };
        }
        self.loads.insert(id, load);
    }

    /// The next tier below `tier` that has a page, or may.
    fn next_tier(&self, cache: &Cache, tier: usize, group: usize, key: &crate::kv::Key) -> Option<usize> {
        (tier + 1..self.below.len()).find(|&next| match self.below[next].own {
            None => true,
            Some(own) => cache.node(key).is_some_and(|node| cache.state_below(own, group, node).readable()),
        })
    }

    /// Copies what is fetched to the device, up to the first page that was not had, as much as the device takes now.
    fn copy_up(&mut self, id: u64, load: &mut Load) {
        let groups = self.config.shapes.len();
        for at in 0..load.batches.len() {
            let batch = &mut load.batches[at];
            let Stage::Copying { mut sent, mut calls } = batch.stage else { continue };
            batch.pages.end = batch.pages.end.min(load.end).max(batch.pages.start);
            let mut items: Vec<usize> = batch.items.keys().copied().collect();
            items.retain(|item| item / 2 / groups < batch.pages.end);
            items.sort_unstable();
            while sent < items.len() && !load.abandoned {
                let piece = &items[sent..items.len().min(sent + 2 * self.config.piece)];
                let half = |&item: &usize| {
                    let (page, group, half) = (item / 2 / groups, item / 2 % groups, Half::ALL[item % 2]);
                    let place = load.lease.as_ref()?.page(group, load.wanted.from + page)?;
                    let (record, payload) = batch.items.get(&item)?.record.as_ref()?;
                    Some((group, place, half, Payload::after(Shared(Arc::clone(record)), *payload)))
                };
                let halves: Vec<_> = piece.iter().filter_map(half).collect();
                self.ticket += 1;
                let whole = halves.len() == piece.len();
                match if whole {
                    self.io.copy_in(self.ticket, halves)
                } else {
                    Err(IoError::Device("a half is missing".into()))
                } {
                    Ok(()) => {
                        self.copies_in.insert(self.ticket, id);
                        sent += piece.len();
                        calls += 1;
                    }
                    Err(IoError::Busy) => break,
                    Err(error) => {
                        tracing::warn!("{error}");
                        load.end = load.end.min(batch.pages.start);
                        sent = items.len();
                    }
                }
            }
            let over = calls == 0 && (sent >= items.len() || load.abandoned);
            if load.abandoned && sent < items.len() {
                load.end = load.end.min(batch.pages.start);
            }
            batch.stage = if over { Stage::Arrived } else { Stage::Copying { sent, calls } };
            if !over && sent < items.len() {
                // The device takes no more now.
                break;
            }
        }
    }

    /// A copy to the device ended. Copies end in the order they were started.
    pub(super) fn copied_in(&mut self, cache: &mut Cache, ticket: u64, whole: bool) {
        let Some(id) = self.copies_in.remove(&ticket) else { return };
        let Some(load) = self.loads.get_mut(&id) else { return };
        for batch in &mut load.batches {
            if let Stage::Copying { calls: calls @ 1.., .. } = &mut batch.stage {
                *calls -= 1;
                if !whole {
                    load.end = load.end.min(batch.pages.start);
                }
                break;
            }
        }
        self.carry_on(cache);
    }

    /// The pages of a batch are on the device, and all before them: others may find them.
    fn arrived(&mut self, cache: &mut Cache, load: &mut Load, batch: Batch) {
        let end = batch.pages.end.min(load.end);
        if end <= batch.pages.start {
            return;
        }
        let Some(lease) = &mut load.lease else { return };
        self.backlog.extend(cache.take_fresh());
        let before = lease.filled();
        let tokens = ((load.wanted.from + end) * load.keys.page_tokens()).min(load.arriving.tokens().len());
        cache.publish(lease, &load.arriving, tokens, self.now);
        load.tokens += tokens - before;
        let groups = cache.groups();
        for page in batch.pages.start..end {
            let served =
                (0..groups * 2).filter_map(|i| batch.items.get(&(page * groups * 2 + i))).map(|i| i.tier).max();
            if let Some(tier) = served {
                self.below[tier].report.hit_tokens += load.arriving.page(load.wanted.from + page).len() as u64;
            }
        }
        for fresh in cache.take_fresh() {
            match self.records_of(cache, load, &batch, &fresh) {
                Some(records) => {
                    self.promote(cache, &fresh, records);
                    cache.release(&fresh);
                }
                None => self.backlog.push_back(fresh),
            }
        }
    }

    /// The records that a page of a batch came from.
    fn records_of(&self, cache: &Cache, load: &Load, batch: &Batch, fresh: &Fresh) -> Option<[Arc<Vec<u8>>; 2]> {
        let key = cache.page_of(fresh.node).0;
        let page = batch.pages.clone().find(|page| load.arriving.key(load.wanted.from + page) == Some(key))?;
        let first = (page * cache.groups() + fresh.group) * 2;
        let record = |item: usize| batch.items.get(&item)?.record.as_ref().map(|(record, _)| Arc::clone(record));
        Some([record(first)?, record(first + 1)?])
    }
}
