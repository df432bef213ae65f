//! Pages held for sessions, so that nothing that comes later evicts them.
//!
//! Invariants:
//! * A pin lasts until its session ends it or its time is over, except when a running sequence could not go on otherwise: then
//!   the pin of the lowest priority goes, of equal ones the oldest.
//! * Pins hold what others may find; they never write.
use super::pages::Pages;
use crate::kv::cache::Lease;
use crate::kv::{Keys, cache::Cache};

/// The pins of all sessions, oldest first.
#[derive(Default)]
pub(super) struct Pins {
    made: u64,
    pins: Vec<Pin>,
}

struct Pin {
    id: u64,
    lease: Lease,
    priority: i32,
    /// Time in ms at which it ends.
    until: u64,
}

/// What a pin holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Leading tokens of the session that are held.
    pub tokens: usize,
    /// Pages that are held for them, over all groups. A group with a window needs only those in it.
    pub pages: usize,
    /// Tokens that were not cached, and so could not be held.
    pub missing: usize,
}

impl Pinned {
    /// What `lease` holds of a sequence.
    pub(super) fn of(cache: &Cache, lease: &Lease, tokens: usize) -> Self {
        let pages = (0..cache.groups()).map(|group| lease.pins(group)).sum();
        Pinned { tokens: lease.filled(), pages, missing: tokens - lease.filled() }
    }
}

impl Pages {
    /// Holds what is cached of a sequence until `until`, in ms. The pin's id, if there was anything to hold.
    pub fn pin(&mut self, keys: &Keys, priority: i32, until: u64) -> (Option<u64>, Pinned) {
        let lease = self.hold(keys);
        let pinned = Pinned::of(&self.cache, &lease, keys.tokens().len());
        if pinned.pages == 0 {
            self.cache.cancel(lease);
            return (None, pinned);
        }
        self.pins.made += 1;
        let id = self.pins.made;
        self.pins.pins.push(Pin { id, lease, priority, until });
        (Some(id), pinned)
    }

    /// Ends a pin. The pages it held; 0 if it had ended before.
    pub fn unpin(&mut self, id: u64) -> usize {
        let Some(at) = self.pins.pins.iter().position(|pin| pin.id == id) else { return 0 };
        self.end_pin(at)
    }

    /// Until when a pin lasts, in ms, if it has not ended.
    pub fn pinned_until(&self, id: u64) -> Option<u64> {
        self.pins.pins.iter().find(|pin| pin.id == id).map(|pin| pin.until).filter(|&until| until > self.now)
    }

    /// Gives a pin another priority.
    pub fn prioritise(&mut self, id: u64, priority: i32) {
        self.pins.pins.iter_mut().filter(|pin| pin.id == id).for_each(|pin| pin.priority = priority);
    }

    /// When the next pin's time is over, in ms; `None` if none ends by itself.
    pub fn next_expiry(&self) -> Option<u64> {
        self.pins.pins.iter().map(|pin| pin.until).filter(|&until| until != u64::MAX).min()
    }

    /// Ends the pins whose time is over.
    pub fn expire_pins(&mut self) {
        while let Some(at) = self.pins.pins.iter().position(|pin| pin.until <= self.now) {
            self.end_pin(at);
        }
    }

    /// Ends the pin that matters least; false if there is none.
    pub fn break_pin(&mut self) -> bool {
        let least = self.pins.pins.iter().enumerate().min_by_key(|(_, pin)| pin.priority);
        let Some((at, _)) = least else { return false };
        self.end_pin(at);
        true
    }

    fn end_pin(&mut self, at: usize) -> usize {
        let Pin { lease, .. } = self.pins.pins.remove(at);
        let pages = (0..self.cache.groups()).map(|group| lease.pins(group)).sum();
        self.cache.cancel(lease);
        pages
    }
}
