//! Down: what is published is written to every tier, at once and in the background.
//!
//! Tiers that keep pages alike form a line: what waits for it leaves the device once for all of them. A page that came from
//! below goes on to other tiers of our own, as the record that it came from where they keep pages as that tier does.
use super::super::queue::{Command, Outgoing};
use super::super::state::BelowEvent;
use super::super::{CopiedHalf, Half, IoError, Meta, Payload};
use super::{Manager, Tier};
use crate::kv::cache::{Cache, Fresh};
use crate::kv::integrity;
use crate::kv::key::{Elements, Key};
use std::collections::VecDeque;
use std::sync::Arc;

/// Pages that wait to be copied for the tiers that keep them alike.
pub(super) struct Line {
    elements: Option<Elements>,
    waiting: VecDeque<Waiting>,
}

/// A page that is pinned until it is copied or given up.
struct Waiting {
    fresh: Fresh,
    /// It came from below: stores that others use too have it from who computed it.
    own: bool,
}

/// A copy from the device to host memory.
pub(super) struct CopyOut {
    elements: Option<Elements>,
    pages: Vec<Leaving>,
}

/// A page of it.
struct Leaving {
    waiting: Waiting,
    /// Tiers that get it, with the number of the copy for those of our own.
    tiers: Vec<(usize, u32)>,
}

impl Line {
    /// The lines of some tiers, that of the nearest first.
    pub(super) fn of(tiers: &[Tier]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for tier in tiers {
            if lines.iter().all(|line| line.elements != tier.elements) {
                lines.push(Line { elements: tier.elements, waiting: VecDeque::new() });
            }
        }
        lines
    }
}

impl Manager {
    /// Takes what was published since the last call, and copies as much as may be in flight.
    pub(super) fn write_through(&mut self, cache: &mut Cache) {
        self.take_fresh(cache);
        while self.waiting() > self.config.backlog {
            self.give_up_last(cache);
        }
        let mut any = true;
        while std::mem::take(&mut any) {
            for line in 0..self.lines.len() {
                if self.copying >= self.config.copying || self.lines[line].waiting.is_empty() {
                    continue;
                }
                if !self.copy_some(cache, line) {
                    return;
                }
                any = true;
            }
        }
    }

    /// Pages that wait to be copied, once for each line.
    pub(super) fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    /// Lets what was published wait for its copies.
    pub(super) fn take_fresh(&mut self, cache: &mut Cache) {
        for fresh in cache.take_fresh() {
            self.wait(cache, fresh, false, None);
        }
    }

    /// Lets a page wait in every line but `without` whose tiers take it, and unpins it if there is none.
    fn wait(&mut self, cache: &mut Cache, fresh: Fresh, own: bool, without: Option<Option<Elements>>) {
        let mut pinned = true;
        for line in 0..self.lines.len() {
            let elements = self.lines[line].elements;
            let wanted = self.below.iter().any(|tier| tier.elements == elements && (!own || tier.own.is_some()));
            if !wanted || Some(elements) == without || !cache.may_be_kept(fresh.node, elements) {
                continue;
            }
            if !std::mem::take(&mut pinned) {
                cache.retain(&fresh);
            }
            self.lines[line].waiting.push_back(Waiting { fresh, own });
        }
        if pinned {
            cache.release(&fresh);
        }
    }

    /// Starts one copy of what waits longest in a line; false if the device takes no more now.
    fn copy_some(&mut self, cache: &mut Cache, line: usize) -> bool {
        let room = (self.config.copying - self.copying).min(self.config.piece);
        let elements = self.lines[line].elements;
        let (mut leaving, mut pages) = (Vec::new(), Vec::new());
        while pages.len() < room
            && let Some(waiting) = self.lines[line].waiting.pop_front()
        {
            let fresh = waiting.fresh;
            let page = cache.page_to_copy(fresh.group, fresh.node, self.now);
            let tiers = if page.is_some() { self.begin(cache, &fresh, elements, waiting.own) } else { Vec::new() };
            match page {
                Some(page) if !tiers.is_empty() => {
                    leaving.push(Leaving { waiting, tiers });
                    pages.push((fresh.group, page));
                }
                _ => cache.release(&fresh),
            }
        }
        if pages.is_empty() {
            return true;
        }
        self.ticket += 1;
        match self.io.copy_out(self.ticket, &pages, elements) {
            Ok(()) => {
                self.copying += pages.len();
                self.copies_out.insert(self.ticket, CopyOut { elements, pages: leaving });
                true
            }
            Err(error) => {
                for Leaving { waiting, tiers } in leaving.into_iter().rev() {
                    self.fail(cache, &waiting.fresh, &tiers);
                    match error {
                        IoError::Busy => self.lines[line].waiting.push_front(waiting),
                        IoError::Device(_) => cache.release(&waiting.fresh),
                    }
                }
                false
            }
        }
    }

    /// A copy to host memory ended.
    pub(super) fn copied_out(&mut self, cache: &mut Cache, ticket: u64, result: Result<Vec<[CopiedHalf; 2]>, IoError>) {
        let Some(CopyOut { elements, pages }) = self.copies_out.remove(&ticket) else { return };
        self.copying -= pages.len();
        let mut copied = result.unwrap_or_default().into_iter();
        for Leaving { waiting: Waiting { fresh, .. }, mut tiers } in pages {
            let served = cache.page_to_copy(fresh.group, fresh.node, self.now).is_some();
            match copied.next().filter(|_| served) {
                None => self.fail(cache, &fresh, &tiers),
                Some(halves) => {
                    let refused: Vec<_> =
                        tiers.extract_if(.., |(tier, _)| !self.below[*tier].accepts(&halves)).collect();
                    refused.iter().for_each(|(tier, _)| self.below[*tier].report.too_lossy += 1);
                    self.fail(cache, &fresh, &refused);
                    let halves = halves.map(|half| (half.payload, half.sum));
                    let page = Arc::new(Outgoing::new(self.metas(cache, &fresh, elements), halves));
                    self.send(cache, &fresh, &page, &tiers);
                }
            }
            cache.release(&fresh);
        }
    }

    fn metas(&self, cache: &Cache, fresh: &Fresh, elements: Option<Elements>) -> [Meta; 2] {
        let (key, parent, tokens) = cache.page_of(fresh.node);
        let meta = |half: Half| Meta {
            fingerprint: *self.tiers.fingerprint(),
            key,
            parent,
            epoch: fresh.root.short(),
            group: fresh.group as u16,
            half,
            element: elements.map_or(self.config.shapes[fresh.group][half as usize].0, |e| e[half as usize]),
            lossy: elements.is_some() || cache.mark_of(fresh.node).0,
            tokens: tokens.to_vec(),
        };
        Half::ALL.map(meta)
    }

    /// Queues a page for tiers.
    fn send(&mut self, cache: &mut Cache, fresh: &Fresh, page: &Arc<Outgoing>, tiers: &[(usize, u32)]) {
        for &(index, copy) in tiers {
            let tier = &mut self.below[index];
            let bytes = tier.page_bytes(fresh.group);
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

    /// Writes a page that came from a tier to tiers of our own that do not have it. `halves`: its records, and where the
    /// payloads begin in them.
    pub(super) fn promote(&mut self, cache: &mut Cache, fresh: Fresh, halves: Option<[(Arc<Vec<u8>>, usize); 2]>) {
        let elements = cache.mark_of(fresh.node).1;
        if let Some(halves) = halves {
            let tiers = self.begin(cache, &fresh, elements, true);
            let metas = self.metas(cache, &fresh, elements);
            let page = match elements {
                None => Outgoing::of_records(metas, halves.map(|(record, _)| record)),
                // It has a name of its own, and is kept as what it was restored from.
                Some(_) => Outgoing::new(
                    metas,
                    halves.map(|(record, at)| {
                        let payload = Payload::after(SharedBytes(record), at);
                        let sum = integrity::sum(&payload);
                        (payload, sum)
                    }),
                ),
            };
            self.send(cache, &fresh, &Arc::new(page), &tiers);
        }
        self.wait(cache, fresh, true, Some(elements));
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

    /// Gives up copying the page that was published last in the longest line.
    fn give_up_last(&mut self, cache: &mut Cache) -> bool {
        let longest = self.lines.iter_mut().max_by_key(|line| line.waiting.len());
        let Some((elements, last)) = longest.and_then(|line| Some((line.elements, line.waiting.pop_back()?))) else {
            return false;
        };
        cache.release(&last.fresh);
        let tiers = self.below.iter_mut().filter(|tier| tier.elements == elements);
        tiers.for_each(|tier| tier.report.busy += 1);
        true
    }

    /// Lets go of all pages that wait to be copied, because their room is needed. How many there were.
    pub fn shed(&mut self, cache: &mut Cache) -> usize {
        let pages = self.waiting() + cache.fresh();
        self.take_fresh(cache);
        while self.give_up_last(cache) {}
        pages
    }
}

impl Tier {
    /// Whether neither half lost more than it may; an error that is no number is more.
    fn accepts(&self, halves: &[CopiedHalf; 2]) -> bool {
        halves.iter().zip(self.error).all(|(half, most)| half.error <= most)
    }
}

/// A record that several hold.
pub(super) struct SharedBytes(pub Arc<Vec<u8>>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
