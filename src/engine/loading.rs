//! Pages of waiting sequences on their way up from the tiers, and pages of running ones on their way down.
//!
//! Invariants:
//! * A sequence whose pages are being loaded waits alone: those behind it may run before it.
//! * Device pages that loads and copies hold come free when a running sequence needs them, at the latest when a copy that is
//!   under way has ended.
use super::pages::Pages;
use super::sequence::Sequence;
use crate::kv::Pace;
use crate::kv::cache::Announced;
use crate::kv::policy::CacheCosts;
use crate::kv::tier::manager::Ask;
use crate::kv::tier::{Manager, TierReport};
use std::time::Duration;

/// How long an engine that ends waits for copies and writes to the tiers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the cache is told what pages cost, in ms.
const WEIGH_EVERY: u64 = 1000;

impl Pages {
    /// Takes what came of copies and stores, and starts what can be started.
    pub fn poll(&mut self) {
        if let Some(below) = &mut self.below {
            below.poll(&mut self.cache, self.now);
        }
        self.end_prefetches();
    }

    /// Tells the cache now and then what pages cost, by what was measured of computing and of the tiers.
    pub fn weigh(&mut self, pace: &Pace) {
        if self.weighed.is_some_and(|last| self.now - last < WEIGH_EVERY) {
            return;
        }
        self.weighed = Some(self.now);
        let computing = || Some(CacheCosts { compute: pace.seconds()?, ..CacheCosts::default() });
        let costs = self.below.as_ref().map_or_else(computing, |below| below.costs(pace));
        if let Some(costs) = costs {
            self.cache.weigh(costs);
        }
    }

    /// Whether copies or stores are at work on something that [`Pages::poll`] must go on with.
    pub fn is_moving(&self) -> bool {
        self.below.as_ref().is_some_and(|below| below.held(&self.cache) > 0 || below.is_waiting())
    }

    /// Whether all that is to be written to the tiers is there, or given up.
    pub fn is_settled(&self) -> bool {
        self.below.as_ref().is_none_or(|below| below.is_idle(&self.cache))
    }

    /// What each tier holds and did.
    pub fn tiers(&self) -> Vec<TierReport> {
        self.below.as_ref().map_or(Vec::new(), |below| below.report(&self.cache))
    }

    /// Asks the tiers for pages of a waiting sequence, once; whether some are on their way. `spare` pages of each group are left
    /// to others.
    pub fn load(&mut self, s: &mut Sequence, pace: Pace, spare: Vec<usize>) -> bool {
        if let (Some(below), false) = (&mut self.below, s.looked) {
            let ask = Ask { limit: s.findable(), pace, spare, announce: !s.preempted, lossy: s.lossy };
            s.load = below.load(&mut self.cache, &s.keys, ask, self.now);
        }
        s.looked = true;
        self.is_loading(s)
    }

    /// Whether pages of a sequence are on their way.
    pub fn is_loading(&self, s: &Sequence) -> bool {
        self.below.as_ref().zip(s.load).is_some_and(|(below, load)| !below.is_loaded(load))
    }

    /// Whether page `index` of a sequence is on its way for another one.
    pub fn is_arriving(&self, s: &Sequence, index: usize) -> bool {
        self.below.as_ref().is_some_and(|below| below.loads_page(&s.keys, index, s.lossy))
    }

    /// Pages of a group that are held for a waiting sequence.
    pub fn held_by_load(&self, s: &Sequence, group: usize) -> usize {
        self.below.as_ref().zip(s.load).map_or(0, |(below, load)| below.held_by(load, group))
    }

    /// Ends a sequence's load: its pages are in the cache. How the sequence was announced, if it was, and the tokens that came.
    pub fn take_load(&mut self, s: &mut Sequence) -> (Option<Announced>, usize) {
        let load = self.below.as_mut().zip(s.load.take());
        match load.and_then(|(below, load)| below.take(&mut self.cache, load)) {
            None => (None, 0),
            Some(loaded) => {
                s.keys = loaded.keys;
                self.cache.blame(loaded.blame.filter(|_| !s.preempted));
                (loaded.announced, loaded.tokens)
            }
        }
    }

    /// Ends a sequence's load whether it is over or not; false if it had none.
    pub fn abandon(&mut self, s: &mut Sequence) -> bool {
        let Some((below, load)) = self.below.as_mut().zip(s.load.take()) else { return false };
        below.abandon(&mut self.cache, load);
        s.looked = false;
        true
    }

    /// Lets go of pages that only wait to be copied down; false if there are none.
    pub fn shed(&mut self) -> bool {
        self.below.as_mut().is_some_and(|below| below.shed(&mut self.cache) > 0)
    }

    /// Whether pages come free when copies that are under way have ended.
    pub fn will_free(&self) -> bool {
        self.below.as_ref().is_some_and(Manager::will_free)
    }

    /// Lets what is under way arrive before the engine ends.
    pub fn flush(&mut self) {
        if let Some(below) = &mut self.below {
            below.close(&mut self.cache, PATIENCE);
        }
    }
}
