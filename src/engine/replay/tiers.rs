//! Tiers below a device that only keeps time: pages of next to no bytes, whose copies and records take as long as real ones.
//!
//! Invariants:
//! * Nothing ends before the clock of all has come to its end. Each store and each direction of the link to the device does one
//!   thing after another, beside the others.
//! * What is charged is the size of real pages ([`super::ReplayConfig::page_bytes`]), and counted by it.
use super::VirtualTier;
use crate::kv::integrity;
use crate::kv::key::Elements;
use crate::kv::pool::PageId;
use crate::kv::tier::{
    Arrival, Clock, CopiedHalf, Done, HostStore, IoError, PageIo, Payload, RecordKey, Store, StoreError, Usage,
    VirtualClock,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of half a page as it is really kept.
pub(super) const HALF: usize = 8;
/// Host memory for copies that the engine takes at least, and pages that it holds at least.
const HOST_BYTES: u64 = 128 << 20;
const LEAST: u64 = 8;

/// What went over a link, in bytes of real pages.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub down: AtomicU64,
    pub up: AtomicU64,
}

/// A store whose calls take time on a clock of its own.
pub(super) struct TimedStore {
    tier: VirtualTier,
    half_bytes: u64,
    inner: HostStore,
    clock: Arc<VirtualClock>,
    pub moved: Arc<Moved>,
}

impl TimedStore {
    pub fn new(tier: VirtualTier, page_bytes: u64, clock: Arc<VirtualClock>) -> Self {
        let half_bytes = page_bytes.div_ceil(2);
        TimedStore { tier, half_bytes, inner: HostStore::new(u64::MAX), clock, moved: Arc::default() }
    }

    /// A call that moves so many half pages.
    fn take(&self, halves: usize) -> u64 {
        let bytes = halves as u64 * self.half_bytes;
        self.clock.sleep(Duration::from_secs_f64(self.tier.latency_s + bytes as f64 / self.tier.bytes_per_s));
        bytes
    }
}

impl Store for TimedStore {
    fn name(&self) -> &str {
        self.tier.name
    }

    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        self.moved.down.fetch_add(self.take(items.len()), Ordering::Relaxed);
        self.inner.put(items)
    }

    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        let found = self.inner.get(names);
        let halves = found.iter().filter(|found| matches!(found, Ok(Some(_)))).count();
        self.moved.up.fetch_add(self.take(halves), Ordering::Relaxed);
        found
    }

    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        self.take(0);
        self.inner.has(names)
    }

    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        self.inner.remove(names)
    }

    fn usage(&self) -> Usage {
        let records = self.inner.usage().records;
        let budget = self.tier.pages.map_or(u64::MAX, |pages| pages as u64 * 2 * self.half_bytes);
        Usage { records, bytes: records as u64 * self.half_bytes, budget }
    }

    fn cost(&self, _bytes: usize) -> u64 {
        self.half_bytes
    }
}

/// The link between device and host memory, as wide in each direction.
pub(super) struct TimedIo {
    clock: Arc<VirtualClock>,
    seconds_per_page: f64,
    page_bytes: u64,
    /// Pages in host memory at once.
    room: u64,
    /// Copies out and in, with their ends, oldest first.
    lanes: [VecDeque<Copy>; 2],
    /// When the last copy of each ends.
    free: [Duration; 2],
    /// The end of the copy that ends next.
    next: Arc<Mutex<Option<Duration>>>,
    pub moved: Arc<Moved>,
}

struct Copy {
    end: Duration,
    ticket: u64,
    pages: u64,
}

impl TimedIo {
    /// A link that copies so many bytes a second through `room` bytes, and where the end of its next copy can be seen.
    pub fn new(
        clock: Arc<VirtualClock>,
        bytes_per_s: f64,
        page_bytes: u64,
        room: u64,
    ) -> (Self, Arc<Mutex<Option<Duration>>>) {
        let next = Arc::default();
        let io = TimedIo {
            clock,
            seconds_per_page: page_bytes as f64 / bytes_per_s,
            page_bytes,
            room: (room.max(HOST_BYTES) / page_bytes.max(1)).max(LEAST),
            lanes: Default::default(),
            free: Default::default(),
            next: Arc::clone(&next),
            moved: Arc::default(),
        };
        (io, next)
    }

    fn start(&mut self, lane: usize, ticket: u64, pages: u64) -> Result<(), IoError> {
        let held: u64 = self.lanes.iter().flatten().map(|copy| copy.pages).sum();
        if held + pages > self.room {
            return Err(IoError::Busy);
        }
        let moved = if lane == 0 { &self.moved.down } else { &self.moved.up };
        moved.fetch_add(pages * self.page_bytes, Ordering::Relaxed);
        let time = Duration::from_secs_f64(self.seconds_per_page * pages as f64);
        let end = self.free[lane].max(self.clock.now()) + time;
        self.free[lane] = end;
        self.lanes[lane].push_back(Copy { end, ticket, pages });
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let next = self.lanes.iter().filter_map(|lane| lane.front()).map(|copy| copy.end).min();
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

fn half() -> CopiedHalf {
    let bytes = [0; HALF];
    CopiedHalf { payload: Payload::new(bytes), sum: integrity::sum(&bytes), error: 0.0 }
}

impl PageIo for TimedIo {
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, PageId)], _: Option<Elements>) -> Result<(), IoError> {
        self.start(0, ticket, pages.len() as u64)
    }

    fn copy_in(&mut self, ticket: u64, halves: Vec<Arrival>, _: Option<Elements>) -> Result<(), IoError> {
        self.start(1, ticket, halves.len().div_ceil(2) as u64)
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let now = self.clock.now();
        for (lane, copies) in self.lanes.iter_mut().enumerate() {
            while copies.front().is_some_and(|copy| copy.end <= now)
                && let Some(Copy { ticket, pages, .. }) = copies.pop_front()
            {
                done.push(match lane {
                    0 => Done::Out { ticket, pages: (0..pages).map(|_| [half(), half()]).collect() },
                    _ => Done::In { ticket },
                });
            }
        }
        self.tell();
    }
}
