//! Pages that are brought to the device before a request asks for them.
//!
//! Invariants:
//! * A prefetch takes no page that running sequences, or waiting ones that are being loaded for, will still take; it is given up
//!   when one of them has too few nevertheless.
//! * Whoever asked is answered once, when all that can come has come.
use super::pages::Pages;
use super::scheduler::Scheduler;
use crate::kv::Keys;
use crate::kv::Pace;
use crate::kv::tier::manager::Ask;
use std::sync::mpsc::Sender;

/// What a prefetch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefetched {
    /// Leading tokens whose pages were on the device already.
    pub device: usize,
    /// Tokens whose pages came from the tiers below.
    pub loaded: usize,
    /// Tokens that are left to be computed: no tier had them, or there was no room.
    pub missing: usize,
}

/// A load for a session.
pub(super) struct Prefetch {
    load: u64,
    tokens: usize,
    device: usize,
    answer: Sender<Prefetched>,
}

impl Scheduler {
    /// Brings what the tiers have of a sequence to the device, and answers when it is there.
    pub fn prefetch(&mut self, keys: &Keys, answer: Sender<Prefetched>) {
        let spare = self.claimed(|_| true);
        self.pages.prefetch(keys, spare, answer);
    }
}

impl Pages {
    fn prefetch(&mut self, keys: &Keys, spare: Vec<usize>, answer: Sender<Prefetched>) {
        let (tokens, device) = (keys.tokens().len(), self.cached(keys));
        // Who asks wants them here whether that is faster than computing or not.
        let ask = Ask { limit: tokens, pace: Pace::default(), spare, announce: false, lossy: true };
        let below = self.below.as_mut();
        let load = below.and_then(|below| below.load(&mut self.cache, keys, ask, self.now));
        match load {
            Some(load) => self.prefetches.push(Prefetch { load, tokens, device, answer }),
            None => {
                // One who is gone wants no answer.
                let _ = answer.send(Prefetched { device, loaded: 0, missing: tokens - device });
            }
        }
    }

    /// Answers for the prefetches that have come to their end.
    pub fn end_prefetches(&mut self) {
        let Some(below) = &mut self.below else { return };
        let over: Vec<Prefetch> = self.prefetches.extract_if(.., |p| below.is_loaded(p.load)).collect();
        for Prefetch { load, tokens, device, answer } in over {
            let loaded = below.take(&mut self.cache, load).map_or(0, |loaded| loaded.tokens);
            let _ = answer.send(Prefetched { device, loaded, missing: tokens.saturating_sub(device + loaded) });
        }
    }

    /// Gives up the youngest prefetch for want of room; false if there is none.
    pub fn abandon_prefetch(&mut self) -> bool {
        let Some((below, Prefetch { load, tokens, device, answer })) = self.below.as_mut().zip(self.prefetches.pop())
        else {
            return false;
        };
        below.abandon(&mut self.cache, load);
        let _ = answer.send(Prefetched { device, loaded: 0, missing: tokens - device });
        true
    }
}
