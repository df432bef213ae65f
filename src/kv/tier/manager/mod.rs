//! Moves pages between the device and the tiers below, without anybody waiting for it.
//!
//! One thread owns the cache and calls the manager, once a step at least: [`Manager::poll`] takes what came of earlier copies
//! and calls, writes what was published since to the tiers (`down`) and carries on with loads (`up`). Device copies are
//! asynchronous ([`PageIo`]), stores are called by one thread a tier.
//!
//! Invariants:
//! * A device page is pinned from its publication until its copy to host memory has ended or was given up.
//! * What is in flight is bounded: pages being copied, pages that wait for it, bytes in each tier's queue, loads. What does not
//!   fit is not kept below, and counted; nothing that computes waits for it.
//! * A page leaves the device once for each way in which tiers keep it (`down`); it is pinned once for each.
//! * A tier of our own never gets more than its budget: room is made by its policies before a write is queued.
//! * Only payloads that passed every check reach the device; a page that fails one is computed.
use super::queue::{Command, Queue, Reply};
use super::stack::{TierCounters, Tiers};
use super::{Done, Half, PageIo, RecordKey};
use crate::kv::cache::Cache;
use crate::kv::key::Key;
use crate::kv::policy;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

mod comeback;
mod costs;
mod down;
mod room;
mod tier;
mod unclaimed;
mod up;

use down::{CopyOut, Line};
use tier::Tier;
use up::Load;
pub use up::{Ask, Loaded};

/// A half page's element type, a code of the engine's, and its bytes; for K and V.
pub type PageShape = [(u8, usize); 2];

/// How a tier keeps pages that it quantises. The filling page is never quantised, so it is not kept there.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// The pages of each group; the same elements in all.
    pub shapes: Vec<PageShape>,
    /// A page of which K or V loses more than this is not kept; see [`super::CopiedHalf::error`].
    pub error: [f32; 2],
}

/// Choices of a [`Manager`].
#[derive(Clone, Debug, PartialEq)]
pub struct ManagerConfig {
    /// The pages of each group.
    pub shapes: Vec<PageShape>,
    /// How each tier keeps them, nearest first; `None`, or none, is as they are.
    pub forms: Vec<Option<Form>>,
    /// The half of each page that a tier of our own keeps, nearest first; `None`, or none, is both.
    pub halves: Vec<Option<Half>>,
    /// Pages on their way from the device to host memory at once.
    pub copying: usize,
    /// Published pages that wait to be copied, at most.
    pub backlog: usize,
    /// Bytes that wait to be written, for each tier.
    pub queued: u64,
    /// Pages of a load that are fetched together.
    pub batch: usize,
    /// Pages that are copied by one call, so that a few always find host memory.
    pub piece: usize,
    /// Loads that hold device pages at once; others wait for their turn, for a while.
    pub loads: usize,
    /// Stores are called within [`Manager::poll`], this many calls each at a time, instead of by threads: for virtual
    /// clocks.
    pub calls_in_poll: Option<usize>,
    /// The policy of each tier of our own.
    pub policy: policy::Kind,
}

impl ManagerConfig {
    /// The usual choices for pages of these shapes.
    pub fn new(shapes: Vec<PageShape>) -> Self {
        ManagerConfig {
            shapes,
            forms: Vec::new(),
            halves: Vec::new(),
            copying: 64,
            backlog: 1024,
            queued: 256 << 20,
            batch: 16,
            piece: 4,
            loads: 8,
            calls_in_poll: None,
            policy: policy::Kind::Kvick,
        }
    }
}

/// What one tier holds and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierReport {
    /// `host`, `disk`, `redis`, `s3`.
    pub name: String,
    /// Pages of all groups that it holds; 0 for a store that others use too.
    pub pages: usize,
    /// Bytes of the budget that they take.
    pub bytes: u64,
    /// The budget; `u64::MAX` for a store that others use too.
    pub budget: u64,
    /// Calls to its store.
    pub calls: TierCounters,
    /// Tokens that it served in place of computing them: those of leading pages that came whole, by the tier of the last half.
    pub hit_tokens: u64,
    /// Pages that were written.
    pub written: u64,
    /// Pages that were not kept because too much was in flight.
    pub busy: u64,
    /// Pages that were not kept because quantising them loses too much.
    pub too_lossy: u64,
    /// Pages that made room for others.
    pub evicted: u64,
    /// Loads that were not made because computing was faster.
    pub slower: u64,
}

/// The tiers below one cache.
pub struct Manager {
    config: ManagerConfig,
    io: Box<dyn PageIo>,
    tiers: Arc<Tiers>,
    below: Vec<Tier>,
    replies: Receiver<Reply>,
    ticket: u64,
    copies_out: HashMap<u64, CopyOut>,
    copying: usize,
    lines: Vec<Line>,
    loads: BTreeMap<u64, Load>,
    /// Which load a copy belongs to.
    copies_in: HashMap<u64, u64>,
    done: Vec<Done>,
    now: u64,
}

impl Manager {
    /// Puts `tiers` below `cache`, which has served nobody yet.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(cache: &mut Cache, io: Box<dyn PageIo>, tiers: Tiers, config: ManagerConfig) -> std::io::Result<Self> {
        let tiers = Arc::new(tiers);
        let (sender, replies) = channel();
        let mut below = Vec::new();
        for (index, store) in tiers.stores().enumerate() {
            let here = config.calls_in_poll.is_some();
            let half = config.halves.get(index).copied().flatten();
            let queue = Queue::new((index, half), Arc::clone(&tiers), sender.clone(), config.queued, here)?;
            let form = config.forms.get(index).cloned().flatten();
            below.push(Tier::new(cache, queue, store, &config, (form, half)));
        }
        let lines = Line::of(&below);
        cache.tell_fresh();
        Ok(Manager {
            config,
            io,
            tiers,
            below,
            replies,
            ticket: 0,
            copies_out: HashMap::new(),
            copying: 0,
            lines,
            loads: BTreeMap::new(),
            copies_in: HashMap::new(),
            done: Vec::new(),
            now: 0,
        })
    }

    /// Takes what came of copies and calls, and starts what can be started. To be called after each step, and while nothing runs
    /// but [`Manager::is_waiting`]. `now` is the cache's time.
    pub fn poll(&mut self, cache: &mut Cache, now: u64) {
        self.now = now;
        if let Some(calls) = self.config.calls_in_poll {
            self.below.iter_mut().for_each(|tier| tier.queue.run(calls));
        }
        let mut done = std::mem::take(&mut self.done);
        self.io.poll(&mut done);
        for end in done.drain(..) {
            match end {
                Done::Out { ticket, pages } => self.copied_out(cache, ticket, Ok(pages)),
                Done::In { ticket } => self.copied_in(cache, ticket, true),
                Done::Failed { ticket, error } => {
                    tracing::warn!("{error}");
                    match self.copies_in.contains_key(&ticket) {
                        true => self.copied_in(cache, ticket, false),
                        false => self.copied_out(cache, ticket, Err(error)),
                    }
                }
            }
        }
        self.done = done;
        while let Ok(reply) = self.replies.try_recv() {
            match reply {
                Reply::Put { tier, key, group, copy, stored } => self.put(cache, tier, &key, group, copy, stored),
                Reply::Got { tier, load, found, refused } => self.got(cache, tier, load, found, refused),
                Reply::Located { tier, load, there } => self.located(cache, tier, load, &there),
            }
        }
        self.withdraw(cache);
        self.write_through(cache);
        self.carry_on(cache);
    }

    /// Whether a load is on its way, so that [`Manager::poll`] will have something to do.
    pub fn is_waiting(&self) -> bool {
        self.loads.values().any(|load| !load.is_over())
    }

    /// Device pages that are held to be copied out.
    pub fn held(&self, cache: &Cache) -> usize {
        self.copying + self.waiting() + cache.fresh()
    }

    /// Whether device pages are held that come free by themselves: by copies, and by loads that nobody waits for any more.
    pub fn will_free(&self) -> bool {
        self.copying > 0 || self.loads.values().any(|load| load.is_abandoned())
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self, cache: &Cache) -> bool {
        self.held(cache) == 0 && self.loads.is_empty() && self.below.iter().all(|tier| tier.queue.is_idle())
    }

    /// What each tier holds and did, nearest first.
    pub fn report(&self, cache: &Cache) -> Vec<TierReport> {
        let calls = self.tiers.counters();
        let report = |(tier, calls): (&Tier, TierCounters)| {
            let resident = |own| (0..cache.groups()).map(|group| cache.resident_below(own, group)).sum::<usize>();
            let pages = tier.own.map_or(0, resident) + tier.unclaimed.len();
            TierReport { pages, bytes: tier.bytes, calls, ..tier.report.clone() }
        };
        self.below.iter().zip(calls).map(report).collect()
    }

    /// Removes what was taken out of service from every tier.
    fn withdraw(&mut self, cache: &mut Cache) {
        let keys = cache.take_withdrawn();
        if keys.is_empty() {
            return;
        }
        let groups = cache.groups();
        for index in 0..self.below.len() {
            let mut names: Vec<RecordKey> = keys.iter().flat_map(|key| names(*key, 0..groups)).collect();
            let dropped = keys.iter().flat_map(|key| self.below[index].unclaimed.drop_below(key)).collect::<Vec<_>>();
            names.extend(dropped.into_iter().flat_map(|(key, group)| names_of(key, group)));
            self.below[index].queue.send(Command::Remove(names));
            self.recount(cache, index);
        }
    }

    /// Counts the bytes that a tier of our own has given to pages.
    fn recount(&mut self, cache: &Cache, index: usize) {
        let tier = &mut self.below[index];
        let Some(own) = tier.own else { return };
        let resident = tier.costs.iter().enumerate().map(|(g, cost)| cost * cache.resident_below(own, g) as u64);
        tier.bytes = resident.sum::<u64>() + tier.unclaimed.pages().map(|(_, group)| tier.costs[group]).sum::<u64>();
    }

    /// Lets what is in flight arrive, for `patience` at most, and gives up what is left; every page is let go. The stores' threads
    /// end when the manager is dropped.
    pub fn close(&mut self, cache: &mut Cache, patience: Duration) {
        let start = Instant::now();
        self.abandon_all(cache);
        while self.held(cache) > 0 && start.elapsed() < patience {
            self.poll(cache, self.now);
            std::thread::sleep(Duration::from_micros(50));
        }
        self.shed(cache);
        self.below.iter_mut().for_each(|tier| tier.queue.close());
        while self.below.iter().any(|tier| !tier.queue.has_ended()) && start.elapsed() < patience {
            self.poll(cache, self.now);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.below.iter().for_each(|tier| tier.queue.hurry());
    }
}

/// The records of a page in some groups.
fn names(key: Key, groups: std::ops::Range<usize>) -> impl Iterator<Item = RecordKey> {
    groups.flat_map(move |group| names_of(key, group))
}

fn names_of(key: Key, group: usize) -> [RecordKey; 2] {
    super::Half::ALL.map(|half| RecordKey { key, group: group as u16, half })
}
