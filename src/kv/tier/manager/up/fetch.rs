//! The batches of a load: while one is copied to the device the next is read.
//!
//! What arrived is published batch by batch, so that others of the tenant find it too; a page that no tier has whole ends the
//! load there.
use super::super::super::queue::{Answered, Command, Want};
use super::super::super::{Cause, Half, IoError, Payload, RecordKey};
use super::super::Manager;
use super::super::down::SharedBytes;
use super::{Load, Phase};
use crate::kv::cache::{Cache, Fresh};
use crate::kv::key::Key;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pages that are fetched together.
pub(super) struct Batch {
    /// From `wanted.from` on.
    pub(super) pages: std::ops::Range<usize>,
    /// By their numbers, see [`number`].
    items: BTreeMap<usize, Item>,
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
    /// It lies under the name of what the page is restored from.
    source: bool,
    record: Option<(Arc<Vec<u8>>, usize)>,
}

impl Batch {
    pub(super) fn is_fetching(&self) -> bool {
        matches!(self.stage, Stage::Fetching(_))
    }

    /// Whether a copy to the device reads it.
    pub(super) fn is_copying(&self) -> bool {
        matches!(self.stage, Stage::Copying { calls: 1.., .. })
    }
}

/// A half page of a load as a number, in the order of the pages from `wanted.from` on.
fn number(groups: usize, page: usize, group: usize, half: Half) -> usize {
    (page * groups + group) * 2 + half as usize
}

/// Page, group and half of a [`number`].
fn place(groups: usize, item: usize) -> (usize, usize, Half) {
    (item / 2 / groups, item / 2 % groups, Half::ALL[item % 2])
}

impl Load {
    /// The name of a page, or of what it is restored from.
    fn name(&self, index: usize, source: bool) -> Option<Key> {
        if source { self.arriving.mark(index).map(|mark| mark.source) } else { self.arriving.key(index) }
    }
}

impl Manager {
    pub(super) fn advance(&mut self, cache: &mut Cache, id: u64, load: &mut Load) {
        loop {
            let fetching = load.batches.iter().any(Batch::is_fetching);
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
        let mut items = BTreeMap::new();
        for page in pages.clone() {
            for group in 0..cache.groups() {
                let places = load.wanted.places[page][group].into_iter().flatten();
                for (half, place) in Half::ALL.into_iter().zip(places) {
                    if let Some((tier, source)) = self.tier_of(place) {
                        items.insert(number(cache.groups(), page, group, half), Item { tier, source, record: None });
                    }
                }
            }
        }
        let stage = if items.is_empty() { FETCHED } else { Stage::Fetching(items.len()) };
        let asked: Vec<usize> = items.keys().copied().collect();
        load.batches.push_back(Batch { pages, items, stage });
        self.get(cache.groups(), id, load, &asked);
    }

    /// Queues reads of items of the last batch, which name their tier.
    fn get(&mut self, groups: usize, id: u64, load: &Load, asked: &[usize]) {
        let Some(batch) = load.batches.iter().find(|batch| batch.is_fetching()) else { return };
        for tier in 0..self.below.len() {
            let of_tier =
                asked.iter().filter_map(|item| Some((*item, batch.items.get(item).filter(|i| i.tier == tier)?)));
            let wants: Vec<Want> = of_tier.filter_map(|(item, how)| self.want(groups, load, item, how)).collect();
            if !wants.is_empty() {
                self.below[tier].queue.send(Command::Get { load: id, wants });
            }
        }
    }

    fn want(&self, groups: usize, load: &Load, item: usize, how: &Item) -> Option<Want> {
        let (page, group, half) = place(groups, item);
        let index = load.wanted.from + page;
        let tier = &self.below[how.tier];
        Some(Want {
            item,
            name: RecordKey { key: load.name(index, how.source)?, group: group as u16, half },
            epoch: load.keys.root().short(),
            tokens: load.arriving.page(index).into(),
            size: tier.shapes[group][half as usize],
            lossy: tier.elements.is_some() || load.arriving.is_lossy(index),
        })
    }

    /// A tier answered a read: what it does not have whole is asked of the next one.
    pub(in super::super) fn got(
        &mut self,
        cache: &mut Cache,
        tier: usize,
        id: u64,
        found: Vec<Answered>,
        refused: Option<Cause>,
    ) {
        let Some(mut load) = self.loads.remove(&id) else { return };
        load.refused = load.refused.or(refused);
        let groups = cache.groups();
        let (mut again, mut answered) = (Vec::new(), 0);
        for (item, record) in found {
            let (page, group, half) = place(groups, item);
            let index = load.wanted.from + page;
            let batch = load.batches.iter().find(|batch| batch.is_fetching());
            let Some(source) = batch.and_then(|batch| batch.items.get(&item)).map(|entry| entry.source) else {
                continue;
            };
            let mut next = None;
            if record.is_none() {
                if let (Some(key), Some(own)) = (load.name(index, source), self.below[tier].own) {
                    cache.lose_below(own, group, &key);
                }
                next = self.next_tier(cache, &load, (index, group, half), (tier, source));
            }
            let batch = load.batches.iter_mut().find(|batch| batch.is_fetching());
            let Some(entry) = batch.and_then(|batch| batch.items.get_mut(&item)) else { continue };
            match (record, next) {
                (None, Some(next)) => {
                    (entry.tier, entry.source) = next;
                    again.push(item);
                }
                (None, None) => {
                    load.end = load.end.min(page);
                    load.blame_refused();
                    answered += 1;
                }
                (record, _) => {
                    entry.record = record;
                    answered += 1;
                }
            }
        }
        self.get(groups, id, &load, &again);
        if let Some(batch) = load.batches.iter_mut().find(|batch| batch.is_fetching())
            && let Stage::Fetching(left) = batch.stage
        {
            batch.stage = if left > answered { Stage::Fetching(left - answered) } else { FETCHED };
        }
        self.loads.insert(id, load);
    }

    /// After a tier and name that did not have half a page of a group, the next that has it, or may.
    fn next_tier(
        &self,
        cache: &Cache,
        load: &Load,
        (index, group, half): (usize, usize, Half),
        asked: (usize, bool),
    ) -> Option<(usize, bool)> {
        let kept = load.arriving.mark(index).map(|mark| mark.elements);
        let all = (asked.0..self.below.len()).flat_map(|tier| [(tier, false), (tier, true)]);
        all.filter(|&next| next > asked).find(|&(tier, source)| {
            let below = &self.below[tier];
            let Some(own) = below.own else { return below.elements == kept && source == kept.is_some() };
            let faithful = below.elements == kept || below.elements.is_none() && !source;
            let faithful = faithful && cache.keeps(own, half);
            let node = load.name(index, source).and_then(|key| cache.node(&key));
            faithful && node.is_some_and(|node| cache.state_below(own, group, node).readable())
        })
    }

    /// Copies what is fetched to the device, up to the first page that was not had, as much as the device takes now.
    fn copy_up(&mut self, id: u64, load: &mut Load) {
        let groups = self.config.shapes.len();
        for at in 0..load.batches.len() {
            let batch = &mut load.batches[at];
            let Stage::Copying { mut sent, mut calls } = batch.stage else { continue };
            batch.pages.end = batch.pages.end.min(load.end).max(batch.pages.start);
            let had = number(groups, batch.pages.end, 0, Half::K);
            let items: Vec<usize> = batch.items.range(..had).map(|(item, _)| *item).collect();
            while sent < items.len() && !load.abandoned {
                let elements = |item: &usize| {
                    let (page, _, _) = place(groups, *item);
                    load.arriving.mark(load.wanted.from + page).map(|mark| mark.elements)
                };
                let rest = &items[sent..items.len().min(sent + 2 * self.config.piece)];
                let packed = elements(&rest[0]);
                let piece = rest.split(|item| elements(item) != packed).next().unwrap_or(rest);
                let half = |&item: &usize| {
                    let (page, group, half) = place(groups, item);
                    let to = load.lease.as_ref()?.page(group, load.wanted.from + page)?;
                    let (record, payload) = batch.items.get(&item)?.record.as_ref()?;
                    Some((group, to, half, Payload::after(SharedBytes(Arc::clone(record)), *payload)))
                };
                let halves: Vec<_> = piece.iter().filter_map(half).collect();
                self.ticket += 1;
                let whole = halves.len() == piece.len();
                match if whole {
                    self.io.copy_in(self.ticket, halves, packed)
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
    pub(in super::super) fn copied_in(&mut self, cache: &mut Cache, ticket: u64, whole: bool) {
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
        self.take_fresh(cache);
        let before = lease.filled();
        let tokens = ((load.wanted.from + end) * load.keys.page_tokens()).min(load.arriving.tokens().len());
        cache.publish(lease, &load.arriving, tokens, self.now);
        load.tokens += tokens - before;
        let groups = cache.groups();
        for page in batch.pages.start..end {
            let halves = number(groups, page, 0, Half::K)..number(groups, page + 1, 0, Half::K);
            if let Some(tier) = batch.items.range(halves).map(|(_, item)| item.tier).max() {
                self.below[tier].report.hit_tokens += load.arriving.page(load.wanted.from + page).len() as u64;
            }
        }
        for fresh in cache.take_fresh() {
            let records = self.records_of(cache, load, &batch, &fresh);
            self.promote(cache, fresh, records);
        }
        if load.wanted.tail > 0 && end == load.wanted.places.len() {
            load.last = Some(batch);
        }
    }

    /// The records that a page of a batch came from, and where their payloads begin.
    pub(super) fn records_of(
        &self,
        cache: &Cache,
        load: &Load,
        batch: &Batch,
        fresh: &Fresh,
    ) -> Option<[(Arc<Vec<u8>>, usize); 2]> {
        let key = cache.page_of(fresh.node).0;
        let page = batch.pages.clone().find(|page| load.arriving.key(load.wanted.from + page) == Some(key))?;
        let record = |half: Half| {
            let item = batch.items.get(&number(cache.groups(), page, fresh.group, half))?;
            item.record.clone()
        };
        Some([record(Half::K)?, record(Half::V)?])
    }
}
