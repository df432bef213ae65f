//! Up: the pages of a request that is about to run are brought to the device, if that is faster than computing them.
//!
//! A load asks the shared stores what they have of the request, takes device pages for all that is to come (`locate`), and
//! fetches them in batches (`fetch`). Here is its life, from the request that asks for it to the one that takes it.
use super::super::Cause;
use super::Manager;
use crate::kv::cache::{Announced, Blame, Cache, Lease, Wanted, Why};
use crate::kv::key::{Elements, Keys};
use crate::kv::pace::Pace;
use std::collections::{HashMap, VecDeque};

mod fetch;
mod locate;

use fetch::Batch;

/// What is asked of a load.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Tokens at most.
    pub limit: usize,
    /// How fast computing them would be.
    pub pace: Pace,
    /// Pages of each group that are left to others.
    pub spare: Vec<usize>,
    /// Whether the policies are to be told of the request.
    pub announce: bool,
    /// Whether pages may be restored from quantised copies.
    pub lossy: bool,
}

/// What a load brought.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For [`Cache::join`], if it was announced.
    pub announced: Option<Announced>,
    /// Tokens that came from below.
    pub tokens: usize,
    /// Of the request, with the names of what was restored.
    pub keys: Keys,
    /// What is left to be computed although a tier has it, for [`Cache::blame`].
    pub blame: Option<Blame>,
}

/// Pages on their way up.
pub(super) struct Load {
    /// Of the whole request.
    keys: Keys,
    ask: Ask,
    announced: Option<Announced>,
    phase: Phase,
    /// By page, group and how it is kept, which shared store says that it has it.
    located: Located,
    wanted: Wanted,
    /// Of what is loaded, the partly filled page included.
    arriving: Keys,
    lease: Option<Lease>,
    batches: VecDeque<Batch>,
    /// Pages from `wanted.from` on: first that no batch has, and first that will not be had.
    next: usize,
    end: usize,
    tokens: usize,
    /// The batch with the partly filled page, once it has arrived.
    last: Option<Batch>,
    abandoned: bool,
    /// Why a record was not believed, and what that or another reason leaves to be computed.
    refused: Option<Cause>,
    blame: Option<Blame>,
}

type Located = HashMap<(usize, usize, Option<Elements>), usize>;

enum Phase {
    /// A tier is asked which pages it has; those it was asked for, and whose turn it is.
    Locating {
        asked: Vec<(usize, usize)>,
        question: usize,
        turn: usize,
    },
    /// A tier is asked for the partly filled page after the full ones; tokens of the pages it was asked for, in all groups.
    LocatingTail {
        asked: Vec<usize>,
    },
    /// Room is short, but some comes free when what is on its way down has arrived or another load ends; since when it waits
    /// for that.
    Crowded {
        since: u64,
    },
    Fetching,
    Over,
}

impl Load {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// What is wanted from page `page` after `wanted.from` on has to be computed.
    fn blame(&mut self, why: Why, page: usize) {
        let size = self.keys.page_tokens();
        let from = (self.wanted.from + page) * size;
        self.blame = Some(Blame { why, tokens: from..(self.wanted.pages * size + self.wanted.tail).max(from) });
    }

    /// A page from `end` on is not to be had; if a record of it was not believed, that is why.
    fn blame_refused(&mut self) {
        let why = match self.refused {
            None => return,
            Some(Cause::Fingerprint | Cause::Format) => Why::OtherFingerprint,
            Some(_) => Why::FailedCheck,
        };
        self.blame(why, self.end);
    }

    fn copying(&self) -> bool {
        self.batches.iter().any(Batch::is_copying)
    }
}

impl Manager {
    /// Begins to bring up what the tiers have of a request; the load's number, or `None` if there is nothing to bring.
    pub fn load(&mut self, cache: &mut Cache, keys: &Keys, ask: Ask, now: u64) -> Option<u64> {
        self.now = now;
        let ask = Ask { limit: ask.limit.min(keys.tokens().len()), lossy: ask.lossy && cache.is_lossy(), ..ask };
        let keys = self.claim(cache, keys, &ask);
        let wanted = cache.look_below(&keys, ask.limit, now, &|_, _, _| None);
        let load = Load {
            arriving: keys.clone(),
            keys,
            ask,
            announced: None,
            phase: Phase::Over,
            located: HashMap::new(),
            wanted,
            lease: None,
            batches: VecDeque::new(),
            next: 0,
            end: 0,
            tokens: 0,
            last: None,
            abandoned: false,
            refused: None,
            blame: None,
        };
        self.ticket += 1;
        let id = self.ticket;
        self.loads.insert(id, load);
        self.locate(cache, id);
        if self.loads.get(&id).is_some_and(|load| load.is_over() && load.lease.is_none() && load.blame.is_none()) {
            self.loads.remove(&id);
            return None;
        }
        Some(id)
    }

    /// Whether a load has come to its end.
    pub fn is_loaded(&self, id: u64) -> bool {
        self.loads.get(&id).is_none_or(Load::is_over)
    }

    /// Whether a load is bringing page `index` of a request, so that others who need it can wait; `lossy`: also one that is
    /// restored from a quantised copy.
    pub fn loads_page(&self, keys: &Keys, index: usize, lossy: bool) -> bool {
        let same = |load: &Load| {
            let full = load.wanted.from + load.end.min(load.wanted.pages - load.wanted.from);
            let arriving = &load.arriving;
            let restored = || lossy && arriving.is_lossy(index) && arriving.begins_alike(keys, index + 1);
            index >= load.wanted.from && index < full && (arriving.key(index) == keys.key(index) || restored())
        };
        self.loads.values().any(|load| !load.is_over() && !load.abandoned && same(load))
    }

    /// Pages of a group that a load holds.
    pub fn held_by(&self, id: u64, group: usize) -> usize {
        self.loads.get(&id).and_then(|load| load.lease.as_ref()).map_or(0, |lease| lease.held(group))
    }

    /// Ends a load that is over: its pages are in the cache, pinned by nobody.
    pub fn take(&mut self, cache: &mut Cache, id: u64) -> Option<Loaded> {
        let mut load = self.loads.remove(&id)?;
        self.let_go(cache, &mut load);
        let Load { announced, tokens, keys, blame, .. } = load;
        Some(Loaded { announced, tokens, keys, blame })
    }

    /// Ends a load whose request is gone; what is on its way arrives first.
    pub fn abandon(&mut self, cache: &mut Cache, id: u64) {
        let Some(mut load) = self.loads.remove(&id) else { return };
        if load.copying() {
            load.abandoned = true;
            load.batches.retain(|batch| !batch.is_fetching());
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
        self.take_fresh(cache);
        let computed = lease.filled();
        cache.finish(lease, &load.arriving, computed, self.now);
        let last = load.last.take();
        for fresh in cache.take_fresh() {
            // The partly filled page, which is below already, though perhaps farther away.
            match last.as_ref().and_then(|batch| self.records_of(cache, load, batch, &fresh)) {
                Some(records) => self.promote(cache, fresh, Some(records)),
                None => cache.release(&fresh),
            }
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
}
