//! Sequences that give their pages up, and what it takes to bring them back.
//!
//! Invariants:
//! * Full pages of a sequence are published, and on their way to the tiers, while it runs: giving them up writes nothing. The page
//!   it was filling is kept below only where loading it should be faster than computing it again.
//! * A sequence that goes on is at the token at which it gave way, whatever of it was kept, loaded or computed; neither counters
//!   nor policies take it for a new request.
use super::pages::Pages;
use super::scheduler::Scheduler;
use super::sequence::Sequence;
use crate::kv::Pace;

/// Of the tokens that sequences had computed when they gave way: how they came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Comebacks {
    /// Their pages were still on the device.
    pub kept: u64,
    /// They came from the tiers below.
    pub loaded: u64,
    /// They are computed again.
    pub computed: u64,
}

/// How much less a page of another sequence must cost than one of the youngest, so that it gives way instead.
const NOTABLY: f64 = 0.75;

impl Scheduler {
    /// Which running sequence gives way to sequence `seq`: of those younger the youngest, unless a page of another one costs
    /// notably less to have back; `seq` itself if it is the youngest.
    pub(super) fn victim(&self, seq: usize) -> usize {
        let youngest = self.running.len() - 1;
        let Some(mut least) = self.cost(youngest) else { return youngest };
        let mut victim = youngest;
        for other in (seq + 1..youngest).rev() {
            match self.cost(other) {
                Some(cost) if cost < NOTABLY * least => (victim, least) = (other, cost),
                _ => {}
            }
        }
        victim
    }

    /// Seconds that a page of a running sequence costs to have back; `None` before anything was measured, or if it has none.
    fn cost(&self, seq: usize) -> Option<f64> {
        let s = &self.running[seq];
        let pages = s.computed().div_ceil(self.pages.page_tokens());
        let seconds = self.pages.comeback(s, &self.pace)?;
        (pages > 0).then(|| seconds / pages as f64)
    }
}

impl Pages {
    /// Seconds until a sequence that gives way has what it has now; `None` before anything was measured.
    fn comeback(&self, s: &Sequence, pace: &Pace) -> Option<f64> {
        match &self.below {
            Some(below) => below.comeback(&self.cache, &s.keys, s.computed(), pace),
            None => pace.compute(0, s.computed()),
        }
    }

    /// Takes the pages of a sequence that will go on later; whole ones can be found until they are needed, and the one it was
    /// filling where it is worth keeping.
    pub fn preempt(&mut self, s: &mut Sequence, pace: &Pace) {
        s.preempted = true;
        s.looked = false;
        s.had = s.computed();
        let tail = s.had % self.page_tokens();
        let worth = |below: &crate::kv::tier::Manager| below.is_worth_keeping(&self.cache, s.had - tail, tail, pace);
        if self.reuse && tail > 0 && self.below.as_ref().is_some_and(worth) {
            let mut keys = s.keys.clone();
            keys.truncate(s.had);
            std::mem::swap(&mut s.keys, &mut keys);
            self.close(s);
            s.keys = keys;
        } else {
            self.close(s);
        }
    }

    /// A sequence that gave way goes on, with `loaded` tokens from below.
    pub(super) fn came_back(&mut self, s: &Sequence, loaded: usize) {
        let here = s.computed().min(s.had);
        let loaded = loaded.min(here);
        self.comebacks.loaded += loaded as u64;
        self.comebacks.kept += (here - loaded) as u64;
        self.comebacks.computed += (s.had - here) as u64;
    }
}
