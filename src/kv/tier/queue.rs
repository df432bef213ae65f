//! What is asked of one tier's store, in the order it was decided, and the thread that does it.
//!
//! Invariants:
//! * Commands of one tier are carried out one after another in the order of [`Queue::send`]. So a record that is removed and
//!   written again is there afterwards, and a read sees what was queued before it.
//! * The bytes of waiting writes are bounded; a write beyond that is refused at once. Reads are bounded by who asks.
//! * A removal that a store did not carry out is tried again before the next write, unless that write is of the same name.
use super::record::{Cause, Expected, Half, Meta};
use super::stack::{Fetched, Tiers};
use super::{Payload, RecordKey};
use crate::kv::key::Key;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Removals remembered for a store that does not carry them out.
const UNDONE: usize = 1 << 16;

/// A page on its way to the tiers: made a record of by the first that needs it, then shared.
pub(super) struct Outgoing {
    pub metas: [Meta; 2],
    payloads: Mutex<[Option<(Payload, u64)>; 2]>,
    records: [OnceLock<Arc<Vec<u8>>>; 2],
}

impl Outgoing {
    /// K and V as they came from the device, with its checksums.
    pub fn new(metas: [Meta; 2], halves: [(Payload, u64); 2]) -> Self {
        Outgoing { metas, payloads: Mutex::new(halves.map(Some)), records: Default::default() }
    }

    /// Records that a tier gave.
    pub fn of_records(metas: [Meta; 2], records: [Arc<Vec<u8>>; 2]) -> Self {
        Outgoing { metas, payloads: Mutex::default(), records: records.map(OnceLock::from) }
    }

    /// The record of a half; the payload's memory is given back when both are made.
    fn record(&self, half: Half, tiers: &Tiers) -> &Arc<Vec<u8>> {
        let at = half as usize;
        self.records[at].get_or_init(|| {
            let payload = self.payloads.lock().unwrap_or_else(PoisonError::into_inner)[at].take();
            let record = payload.map(|(payload, sum)| tiers.record(&self.metas[at], &payload, sum));
            Arc::new(record.unwrap_or_default())
        })
    }

    fn name(&self, half: Half) -> RecordKey {
        let meta = &self.metas[half as usize];
        RecordKey { key: meta.key, group: meta.group, half }
    }
}

/// A half page that a load wants.
#[derive(Clone, Debug)]
pub(super) struct Want {
    /// The loader's number of it.
    pub item: usize,
    pub name: RecordKey,
    pub epoch: u64,
    pub tokens: Arc<[u32]>,
    pub size: (u8, usize),
    pub lossy: bool,
}

/// What is asked of a tier.
pub(super) enum Command {
    Put { page: Arc<Outgoing>, copy: u32, bytes: u64 },
    Get { load: u64, wants: Vec<Want> },
    Locate { load: u64, names: Vec<RecordKey> },
    Remove(Vec<RecordKey>),
}

/// A want's number, and the record and where its payload begins.
pub(super) type Answered = (usize, Option<(Arc<Vec<u8>>, usize)>);

/// What came of it.
pub(super) enum Reply {
    Put {
        tier: usize,
        key: Key,
        group: u16,
        copy: u32,
        stored: bool,
    },
    /// For each want its number, and record and payload's offset if they passed every check.
    Got {
        tier: usize,
        load: u64,
        found: Vec<Answered>,
        /// Why one of those that are missing was not believed.
        refused: Option<Cause>,
    },
    Located {
        tier: usize,
        load: u64,
        there: Vec<bool>,
    },
}

/// Carries out the commands of one tier.
struct Worker {
    tier: usize,
    /// The only half that is kept.
    half: Option<Half>,
    tiers: Arc<Tiers>,
    replies: Sender<Reply>,
    waiting: Arc<AtomicU64>,
    /// Writes are left out: the engine is closing and has no time left.
    hurry: Arc<AtomicBool>,
    undone: BTreeSet<RecordKey>,
    /// Nobody else uses the store: half a page there is only a waste.
    own: bool,
}

/// The commands of one tier.
pub(super) struct Queue {
    /// Bytes of waiting writes.
    waiting: Arc<AtomicU64>,
    most: u64,
    hurry: Arc<AtomicBool>,
    side: Side,
}

enum Side {
    Thread(Option<Sender<Command>>, Option<JoinHandle<()>>),
    /// Carried out by [`Queue::run`], for virtual clocks.
    Here(Box<Here>),
}

/// Commands with the times at which they were sent, and the answers of calls that have not ended yet.
struct Here {
    commands: VecDeque<(Duration, Command)>,
    worker: Worker,
    answers: Receiver<Reply>,
    replies: Sender<Reply>,
}

impl Here {
    /// Hands out the answers of the calls so far if these have ended; false if the store is still at work.
    fn settle(&self) -> bool {
        if self.worker.tiers.is_busy(self.worker.tier) {
            return false;
        }
        // A reply that nobody waits for any more is no error.
        self.answers.try_iter().for_each(|reply| drop(self.replies.send(reply)));
        true
    }

    fn run(&mut self, most: usize) {
        for _ in 0..most {
            if !self.settle() {
                return;
            }
            let Some((sent, command)) = self.commands.pop_front() else { break };
            self.worker.tiers.begin(self.worker.tier, sent);
            self.worker.carry_out(command);
        }
        if self.settle() && self.commands.is_empty() {
            self.worker.retry();
        }
    }
}

impl Queue {
    /// The queue of a tier, which keeps both halves of pages or only `half`, with at most `most` bytes of waiting writes; with a thread of its own, unless `here`.
    pub fn new(
        (tier, half): (usize, Option<Half>),
        tiers: Arc<Tiers>,
        replies: Sender<Reply>,
        most: u64,
        here: bool,
    ) -> std::io::Result<Self> {
        let (waiting, hurry) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let own = tiers.is_own(tier);
        let mut worker = Worker {
            tier,
            half,
            own,
            tiers,
            replies: replies.clone(),
            waiting: Arc::clone(&waiting),
            hurry: Arc::clone(&hurry),
            undone: BTreeSet::new(),
        };
        let side = if here {
            let (sender, answers) = channel();
            worker.replies = sender;
            Side::Here(Box::new(Here { commands: VecDeque::new(), worker, answers, replies }))
        } else {
            let (sender, commands): (_, Receiver<Command>) = channel();
            let name = format!("kvick-tier-{tier}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                commands.into_iter().for_each(|command| worker.carry_out(command));
                worker.retry();
            })?;
            Side::Thread(Some(sender), Some(thread))
        };
        Ok(Queue { waiting, most, hurry, side })
    }

    /// Queues a command; false, and nothing is queued, for a write that is too much.
    pub fn send(&mut self, command: Command) -> bool {
        if let Command::Put { bytes, .. } = &command {
            if self.waiting.load(Ordering::Relaxed) + bytes > self.most {
                return false;
            }
            self.waiting.fetch_add(*bytes, Ordering::Relaxed);
        }
        match &mut self.side {
            Side::Thread(sender, _) => sender.as_ref().is_some_and(|sender| sender.send(command).is_ok()),
            Side::Here(here) => {
                here.commands.push_back((here.worker.tiers.now(), command));
                true
            }
        }
    }

    /// Carries out up to `most` commands where there is no thread for them.
    pub fn run(&mut self, most: usize) {
        if let Side::Here(here) = &mut self.side {
            here.run(most);
        }
    }

    /// Whether all commands are carried out.
    pub fn is_idle(&self) -> bool {
        match &self.side {
            Side::Thread(_, thread) => {
                self.waiting.load(Ordering::Relaxed) == 0 || thread.as_ref().is_none_or(JoinHandle::is_finished)
            }
            Side::Here(here) => here.commands.is_empty() && here.worker.undone.is_empty() && here.settle(),
        }
    }

    /// No more commands; those that wait are carried out until [`Queue::hurry`].
    pub fn close(&mut self) {
        if let Side::Thread(sender, _) = &mut self.side {
            sender.take();
        }
    }

    /// Whether a closed queue has come to its end.
    pub fn has_ended(&self) -> bool {
        match &self.side {
            Side::Thread(_, thread) => thread.as_ref().is_none_or(JoinHandle::is_finished),
            Side::Here(here) => here.commands.is_empty(),
        }
    }

    /// Leaves waiting writes out.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
        self.hurry();
        if let Side::Thread(_, thread) = &mut self.side
            && let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a tier's thread panicked");
        }
    }
}

/// Records of a tier that were not believed so far.
fn refused(tiers: &Tiers, tier: usize) -> [u64; Cause::ALL.len()] {
    tiers.counters().get(tier).map_or([0; Cause::ALL.len()], |counters| counters.refused)
}

impl Worker {
    fn carry_out(&mut self, command: Command) {
        let (tier, tiers) = (self.tier, Arc::clone(&self.tiers));
        // A reply that nobody waits for any more is no error.
        match command {
            Command::Put { page, copy, bytes } => {
                let meta = &page.metas[0];
                let (key, group) = (meta.key, meta.group);
                let stored = !self.hurry.load(Ordering::Relaxed) && self.put(&page);
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                let _ = self.replies.send(Reply::Put { tier, key, group, copy, stored });
            }
            Command::Get { load, wants } => {
                let fingerprint = tiers.fingerprint();
                let expected: Vec<Expected<'_>> = wants.iter().map(|want| want.expected(fingerprint)).collect();
                let before = refused(&tiers, tier);
                let fetched = tiers.fetch_tier(tier, &expected).into_iter().map(|fetched| match fetched {
                    Fetched::Hit { record, payload, .. } => Some((Arc::new(record), payload)),
                    Fetched::Miss => None,
                });
                let found = wants.iter().map(|want| want.item).zip(fetched).collect();
                // This thread alone reads from the tier.
                let after = refused(&tiers, tier);
                let refused = Cause::ALL.into_iter().find(|&cause| after[cause as usize] > before[cause as usize]);
                let _ = self.replies.send(Reply::Got { tier, load, found, refused });
            }
            Command::Locate { load, names } => {
                let there = tiers.locate_on(tier, &names);
                let _ = self.replies.send(Reply::Located { tier, load, there });
            }
            Command::Remove(names) => {
                self.undone.extend(names);
                self.retry();
            }
        }
    }

    /// Writes the halves that are kept; if that fails, none stays in a store of our own.
    fn put(&mut self, page: &Outgoing) -> bool {
        for half in Half::ALL {
            self.undone.remove(&page.name(half));
        }
        self.retry();
        let put = |half: Half| {
            let record = page.record(half, &self.tiers);
            !record.is_empty() && self.tiers.put_record(self.tier, page.name(half), record).is_ok()
        };
        let stored = Half::ALL.into_iter().filter(|half| self.half.is_none_or(|kept| kept == *half)).all(put);
        if !stored && self.own {
            self.undone.extend(Half::ALL.map(|half| page.name(half)));
            self.retry();
        }
        stored
    }

    /// Tries removals again.
    fn retry(&mut self) {
        if !self.undone.is_empty() {
            let names: Vec<RecordKey> = std::mem::take(&mut self.undone).into_iter().collect();
            self.undone = self.tiers.remove_from(self.tier, &names).into_iter().take(UNDONE).collect();
        }
    }
}

impl Want {
    fn expected<'a>(&'a self, fingerprint: &'a crate::kv::Fingerprint) -> Expected<'a> {
        Expected {
            fingerprint,
            key: &self.name.key,
            group: self.name.group,
            half: self.name.half,
            epoch: self.epoch,
            tokens: &self.tokens,
            sizes: std::slice::from_ref(&self.size),
            lossy: self.lossy,
        }
    }
}
