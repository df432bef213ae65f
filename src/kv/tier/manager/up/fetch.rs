//! The batches of a load: while one is copied to the device the next is read.
//!
//! What arrived is published batch by batch, so that others of the tenant find it too; a page that no tier has whole ends the
//! load there.
use super::super::super::queue::{Answered, Command, Want};
use super::super::super::{Half, IoError, Payload, RecordKey};
use super::super::Manager;
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
    record: Option<(Arc<Vec<u8>>, usize)>,
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
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
                let Some(tier) = load.wanted.places[page][group].and_then(|place| self.tier_of(place)) else {
                    continue;
                };
                for half in Half::ALL {
                    items.insert(number(cache.groups(), page, group, half), Item { tier, record: None });
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
            let of_tier = asked.iter().filter(|item| batch.items.get(item).is_some_and(|i| i.tier == tier));
            let wants: Vec<Want> = of_tier.filter_map(|&item| self.want(groups, load, item)).collect();
            if !wants.is_empty() {
                self.below[tier].queue.send(Command::Get { load: id, wants });
            }
        }
    }

    fn want(&self, groups: usize, load: &Load, item: usize) -> Option<Want> {
        let (page, group, half) = place(groups, item);
        let index = load.wanted.from + page;
        let name = RecordKey { key: load.arriving.key(index)?, group: group as u16, half };
        let size = self.config.shapes[group][half as usize];
        Some(Want { item, name, epoch: load.keys.root().short(), tokens: load.arriving.page(index).into(), size })
    }

    /// A tier answered a read: what it does not have whole is asked of the next one.
    pub(in super::super) fn got(&mut self, cache: &mut Cache, tier: usize, id: u64, found: Vec<Answered>) {
        let Some(mut load) = self.loads.remove(&id) else { return };
        let groups = cache.groups();
        let (mut again, mut answered) = (Vec::new(), 0);
        for (item, record) in found {
            let (page, group, _) = place(groups, item);
            let key = load.arriving.key(load.wanted.from + page);
            if let (None, Some(key), Some(own)) = (&record, &key, self.below[tier].own) {
                cache.lose_below(own, group, key);
            }
            let next = match &record {
                Some(_) => None,
                None => key.and_then(|key| self.next_tier(cache, tier, group, &key)),
            };
            let batch = load.batches.iter_mut().find(|batch| batch.is_fetching());
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
        self.get(groups, id, &load, &again);
        if let Some(batch) = load.batches.iter_mut().find(|batch| batch.is_fetching())
            && let Stage::Fetching(left) = batch.stage
        {
            batch.stage = if left > answered { Stage::Fetching(left - answered) } else { FETCHED };
        }
        self.loads.insert(id, load);
    }

    /// The next tier below `tier` that has a page, or may.
    fn next_tier(&self, cache: &Cache, tier: usize, group: usize, key: &Key) -> Option<usize> {
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
            let had = number(groups, batch.pages.end, 0, Half::K);
            let items: Vec<usize> = batch.items.range(..had).map(|(item, _)| *item).collect();
            while sent < items.len() && !load.abandoned {
                let piece = &items[sent..items.len().min(sent + 2 * self.config.piece)];
                let half = |&item: &usize| {
                    let (page, group, half) = place(groups, item);
                    let to = load.lease.as_ref()?.page(group, load.wanted.from + page)?;
                    let (record, payload) = batch.items.get(&item)?.record.as_ref()?;
                    Some((group, to, half, Payload::after(Shared(Arc::clone(record)), *payload)))
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
        self.backlog.extend(cache.take_fresh());
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
        let record = |half: Half| {
            let item = batch.items.get(&number(cache.groups(), page, fresh.group, half))?;
            item.record.as_ref().map(|(record, _)| Arc::clone(record))
        };
        Some([record(Half::K)?, record(Half::V)?])
    }
}
