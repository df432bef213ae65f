//! One cache for several threads.
//!
//! A request whose pages are all there changes nothing that others read: it takes the cache's lock for reading, and notes what
//! it did. Notes are worked off before anything that changes the cache, or when there are many, by whoever gets the lock for
//! writing then. So threads that find their prompts neither wait for each other nor pass each other's cache lines around, and
//! a note that is taken back before it is worked off costs no pin at all.
//!
//! Invariants:
//! * Notes are written with the cache locked for reading or writing, and worked off, all of them and in order, first thing
//!   after it is locked for writing. So whoever may evict sees every pin.
//! * The ticket of a note is its place among all notes ever: one not yet worked off is `notes[ticket - worked_off]`.
//! * Locks are taken in one order: the cache, then the notes.
use super::{Cache, Lease, PageCopy};
use crate::kv::key::Keys;
use crate::kv::tree::NodeId;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

/// Notes after which they are worked off as soon as the lock is to be had, and after which it is waited for.
const MANY: usize = 64;
const TOO_MANY: usize = 4 * MANY;

/// A [`Cache`] that threads share. Its calls are those of [`Cache`].
pub struct SharedCache {
    page_tokens: usize,
    cache: Apart<RwLock<Cache>>,
    notes: Apart<Mutex<Notes>>,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Default)]
struct Notes {
    worked_off: u64,
    found: Vec<Found>,
    /// Leases to be given back.
    done: Vec<Lease>,
}

/// A request that found all of its pages.
struct Found {
    path: Vec<NodeId>,
    now: u64,
    /// Whether its lease still holds the pages.
    held: bool,
}

/// A lease on a [`SharedCache`].
#[derive(Debug)]
#[must_use = "a lease pins pages until it is given back to the cache"]
pub struct SharedLease {
    lease: Lease,
    /// Of the note that stands for the lease's pins.
    ticket: Option<u64>,
}

impl Deref for SharedLease {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl SharedCache {
    /// Shares a cache.
    pub fn new(cache: Cache) -> Self {
        let page_tokens = cache.page_tokens();
        SharedCache { page_tokens, cache: Apart(RwLock::new(cache)), notes: Apart(Mutex::default()) }
    }

    /// The keys of a tenant's prompt. Hashes outside of any lock.
    pub fn keys(&self, salt: &[u8], tokens: &[u32]) -> Keys {
        let root = self.cache.0.read().unwrap_or_else(PoisonError::into_inner).root(salt);
        Keys::new(root, self.page_tokens, tokens)
    }

    /// As [`Cache::start`].
    pub fn start(&self, keys: &Keys, limit: usize, now: u64) -> SharedLease {
        if let Some((lease, notes)) = self.start_whole(keys, limit, now) {
            self.work_off(notes);
            return lease;
        }
        SharedLease { lease: self.write().start(keys, limit, now), ticket: None }
    }

    /// Finds a sequence that is there as a whole. With how many notes there are.
    fn start_whole(&self, keys: &Keys, limit: usize, now: u64) -> Option<(SharedLease, usize)> {
        let cache = self.cache.0.read().unwrap_or_else(PoisonError::into_inner);
        let path = cache.find_whole(keys, limit, now)?;
        let lease = cache.unpinned(keys, &path, None);
        let mut notes = self.notes();
        let ticket = notes.worked_off + notes.found.len() as u64;
        notes.found.push(Found { path, now, held: true });
        let many = notes.found.len();
        drop(notes);
        Some((SharedLease { lease, ticket: Some(ticket) }, many))
    }

    /// As [`Cache::grow`]. Pages are copied by `copy`, alone with the cache: what is copied from may be evicted afterwards.
    pub fn grow(&self, lease: &mut SharedLease, tokens: usize, copy: impl FnMut(PageCopy)) -> bool {
        if lease.lease.is_settled(self.page_tokens, tokens) {
            return true;
        }
        let mut cache = self.write();
        let grown = cache.grow(&mut lease.lease, tokens);
        lease.lease.take_copies().into_iter().for_each(copy);
        grown
    }

    /// As [`Cache::forgo_partial`].
    pub fn forgo_partial(&self, lease: &mut SharedLease) -> bool {
        self.write().forgo_partial(&mut lease.lease)
    }

    /// As [`Cache::publish`].
    pub fn publish(&self, lease: &mut SharedLease, keys: &Keys, computed: usize, now: u64) {
        if !lease.lease.is_settled(self.page_tokens, computed) {
            self.write().publish(&mut lease.lease, keys, computed, now);
        }
    }

    /// As [`Cache::slide`].
    pub fn slide(&self, lease: &mut SharedLease, position: usize) {
        self.write().slide(&mut lease.lease, position);
    }

    /// As [`Cache::fork`].
    pub fn fork(&self, lease: &SharedLease) -> SharedLease {
        SharedLease { lease: self.write().fork(&lease.lease), ticket: None }
    }

    /// As [`Cache::finish`].
    pub fn finish(&self, lease: SharedLease, keys: &Keys, computed: usize, now: u64) {
        if lease.lease.is_settled(self.page_tokens, computed) {
            self.cancel(lease);
        } else {
            self.write().finish(lease.lease, keys, computed, now);
        }
    }

    /// As [`Cache::cancel`]. The pages can be evicted at once, and are counted as free after the next change.
    pub fn cancel(&self, lease: SharedLease) {
        let many = {
            let mut notes = self.notes();
            let at = lease.ticket.and_then(|ticket| ticket.checked_sub(notes.worked_off));
            match at.and_then(|at| notes.found.get_mut(at as usize)) {
                Some(found) => found.held = false,
                None => notes.done.push(lease.lease),
            }
            notes.done.len()
        };
        self.work_off(many);
    }

    /// Anything else, alone with the cache. Do not give back or change leases of the shared cache inside.
    pub fn with<T>(&self, job: impl FnOnce(&mut Cache) -> T) -> T {
        job(&mut self.write())
    }

    /// Works notes off if there are many.
    fn work_off(&self, notes: usize) {
        if notes >= TOO_MANY {
            drop(self.write());
        } else if notes >= MANY
            && let Ok(mut cache) = self.cache.0.try_write()
        {
            self.catch_up(&mut cache);
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Cache> {
        let mut cache = self.cache.0.write().unwrap_or_else(PoisonError::into_inner);
        self.catch_up(&mut cache);
        cache
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn catch_up(&self, cache: &mut Cache) {
        let (found, done) = {
            let mut notes = self.notes();
            notes.worked_off += notes.found.len() as u64;
            (std::mem::take(&mut notes.found), std::mem::take(&mut notes.done))
        };
        for Found { path, now, held } in found {
            cache.visit_whole(&path, now);
            if held {
                cache.pin_path(&path);
            }
        }
        done.into_iter().for_each(|lease| cache.cancel(lease));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::cache::GroupConfig;
    use crate::kv::policy::Kind;
    use crate::kv::{Fingerprint, PageId};

    const PAGE: usize = 4;

    fn shared(groups: &[GroupConfig], kind: Kind) -> SharedCache {
        let cache = Cache::new(Fingerprint::new([]), PAGE, groups, 1000, || kind.build(groups[0].pages, None));
        SharedCache::new(cache)
    }

    fn serve(cache: &SharedCache, tokens: &[u32], now: u64) -> usize {
        let keys = cache.keys(b"", tokens);
        let mut lease = cache.start(&keys, tokens.len(), now);
        let found = lease.filled();
        assert!(cache.grow(&mut lease, tokens.len(), |_| panic!("nothing is shared")));
        cache.finish(lease, &keys, tokens.len(), now);
        found
    }

    #[test]
    fn noted_requests_count_and_order_as_others_do() {
        for kind in [Kind::Lru, Kind::Lfu, Kind::Kvick] {
            let groups = [GroupConfig { pages: 8, window: None }, GroupConfig { pages: 8, window: Some(9) }];
            let one = shared(&groups, kind);
            let mut other = Cache::new(Fingerprint::new([]), PAGE, &groups, 1000, || kind.build(8, None));
            for now in 0..600u64 {
                let text = (now * now % 7) as u32 % 4;
                let tokens: Vec<u32> = (0..16).map(|at| if at < 4 { at } else { at + 100 * text }).collect();
                let keys = other.keys(b"", &tokens);
                let mut lease = other.start(&keys, 16, now);
                let expected = lease.filled();
                assert!(other.grow(&mut lease, 16));
                other.finish(lease, &keys, 16, now);
                assert_eq!(serve(&one, &tokens, now), expected, "{kind:?}, request {now}");
            }
            assert_eq!(one.with(|cache| cache.counters()), other.counters(), "{kind:?}");
            assert!(other.counters().evicted > 0 && other.counters().hits > 100, "{:?}", other.counters());
        }
    }

    #[test]
    fn a_noted_pin_holds_and_ends() {
        let cache = shared(&[GroupConfig { pages: 4, window: None }], Kind::Lru);
        let (a, b): (Vec<u32>, Vec<u32>) = ((0..16).collect(), (50..66).collect());
        serve(&cache, &a, 0);
        let keys = cache.keys(b"", &a);
        let held = cache.start(&keys, 16, 1);
        let other = cache.keys(b"", &b);
        let mut lease = cache.start(&other, 16, 2);
        assert!(!cache.grow(&mut lease, 16, |_| {}), "all pages are held by a note");
        assert_eq!(held.table(0), [0, 1, 2, 3]);
        cache.cancel(held);
        assert!(cache.grow(&mut lease, 16, |_| {}));
        cache.cancel(lease);
        cache.with(|cache| {
            assert_eq!((cache.free(0), cache.cached(0), cache.available(0)), (4, 0, 4));
            assert_eq!(cache.pools[0].count(PageId(0)), 0);
        });
    }

    #[test]
    fn notes_do_not_pile_up() {
        let cache = shared(&[GroupConfig { pages: 8, window: None }], Kind::Kvick);
        let prompt: Vec<u32> = (0..16).collect();
        for now in 0..10_000 {
            serve(&cache, &prompt, now);
            assert!(cache.notes().found.len() <= MANY && cache.notes().done.len() <= MANY);
        }
        assert_eq!(cache.with(|cache| cache.counters().requests), 10_000);
    }
}
