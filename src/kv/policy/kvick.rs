//! Ours: the page that is expected to bring the fewest hits for the room and time it takes goes first.
//!
//! [`Runs`] says what the pages' past makes them worth, and a [`Level`] which of them one cache holds. Where a classic policy
//! finds notably more, a [`Judge`] says so, and that one chooses the victims until it does not any longer.
//!
//! Invariants:
//! * Runs and level hear of everything, also while a classic chooses, which from then on hears of everything as well.
//! * No classic chooses while copies below make some pages cheap to lose: it knows nothing of that.
//! * What a waiting request wants goes last, whoever chooses.
use super::judge::Judge;
use super::level::{Level, OnLevel};
use super::runs::Runs;
use super::{Costs, Kind, Policy};
use crate::kv::tree::{NodeId, View};

/// Keeps what is expected to be asked for soon.
#[derive(Default)]
pub struct Kvick {
    capacity: usize,
    runs: Runs,
    level: Level,
    judge: Option<Box<Judge>>,
    classic: Option<(Kind, Box<dyn Policy>)>,
}

impl Kvick {
    /// For a cache of `capacity` pages.
    pub fn new(capacity: usize) -> Self {
        Kvick { capacity, judge: Judge::new(capacity).map(Box::new), ..Kvick::default() }
    }

    fn on(&mut self) -> OnLevel<'_> {
        OnLevel { runs: &mut self.runs, level: &mut self.level }
    }

    fn classic(&mut self) -> Option<&mut dyn Policy> {
        self.classic.as_mut().map(|(_, classic)| &mut **classic as &mut dyn Policy)
    }

    /// Follows who does best.
    fn decide(&mut self, view: View<'_>) {
        let now = self.follows();
        let Some(best) = self.judge.as_mut().and_then(|judge| judge.is_due().then(|| judge.decide(now))) else {
            return;
        };
        let best = best.filter(|_| !self.level.has_sources());
        if best != now {
            self.classic = best.map(|kind| (kind, self.stand_in(view, kind)));
        }
    }

    /// A classic policy that has lived through what is remembered, as far as runs tell.
    fn stand_in(&self, view: View<'_>, kind: Kind) -> Box<dyn Policy> {
        let mut classic = kind.build(self.capacity, None);
        let known = self.runs.remembered(view);
        for run in &known {
            let resident = run.nodes.iter().take_while(|&&node| view.resident(node)).count();
            classic.insert(view, &run.nodes[..resident]);
        }
        let mut visits: Vec<_> = known.iter().collect();
        visits.sort_by_key(|run| (run.touched, std::cmp::Reverse(run.depth)));
        for run in visits {
            (0..run.touches).for_each(|_| classic.visit(view, run.touched, &run.nodes));
        }
        classic
    }
}

impl Policy for Kvick {
    fn visit(&mut self, view: View<'_>, now: u64, path: &[NodeId]) {
        self.runs.visit(view, now, path);
        self.on().visit(view, now, path);
        if let Some(classic) = self.classic() {
            classic.visit(view, now, path);
        }
        if let Some(judge) = &mut self.judge {
            judge.visit(view, now, path);
            self.decide(view);
        }
    }

    fn grow(&mut self, view: View<'_>, now: u64, nodes: &[NodeId]) {
        self.runs.grow(view, now, nodes);
        self.on().grow(view, now, nodes);
        if let Some(classic) = self.classic() {
            classic.grow(view, now, nodes);
        }
        if let Some(judge) = &mut self.judge {
            judge.grow(view, now, nodes);
        }
    }

    fn insert(&mut self, view: View<'_>, nodes: &[NodeId]) {
        self.on().insert(view, nodes);
        if let Some(classic) = self.classic() {
            classic.insert(view, nodes);
        }
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        let ours = self.on().victim(view)?;
        let Some(theirs) = self.classic().and_then(|classic| classic.victim(view)) else { return Some(ours) };
        let wanted = |node| self.runs.is_wanted(node);
        Some(if wanted(theirs) && !wanted(ours) { ours } else { theirs })
    }

    fn remove(&mut self, view: View<'_>, node: NodeId, evicted: bool) {
        self.on().remove(view, node, evicted);
        if let Some(classic) = self.classic() {
            classic.remove(view, node, evicted);
        }
    }

    fn freed(&mut self, view: View<'_>, node: NodeId) {
        self.on().freed(view, node);
        if let Some(classic) = self.classic() {
            classic.freed(view, node);
        }
    }

    fn retire(&mut self, view: View<'_>, node: NodeId) {
        if let Some(classic) = self.classic() {
            classic.retire(view, node);
        }
    }

    fn want(&mut self, view: View<'_>, node: NodeId, wanted: bool) {
        self.runs.want(node, wanted);
        self.on().visit(view, 0, &[]);
    }

    fn follows(&self) -> Option<Kind> {
        self.classic.as_ref().map(|(kind, _)| *kind)
    }

    fn weigh(&mut self, view: View<'_>, costs: &Costs) {
        self.on().weigh(view, costs);
        if self.level.has_sources() {
            self.classic = None;
        }
    }

    fn moved(&mut self, view: View<'_>, node: NodeId) {
        self.on().moved(view, node);
    }

    fn forget(&mut self, view: View<'_>, node: NodeId) {
        if let Some(classic) = self.classic() {
            classic.forget(view, node);
        }
        self.runs.forget(view, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::replay::{replay, replay_with};
    use crate::kv::trace::Trace;
    use crate::kv::workload::{chat, documents, surges};

    fn hits(trace: &Trace, kind: Kind, capacity: usize) -> f64 {
        replay(trace, kind, capacity).hit_percent
    }

    fn alone(trace: &Trace, capacity: usize) -> f64 {
        replay_with(trace, capacity, || Box::<Kvick>::default()).hit_percent
    }

    /// Where the time since the last use says little, ours alone is more than a point worse than the best classic.
    #[test]
    fn a_classic_that_is_better_is_followed() {
        for seed in [51, 52] {
            let trace = surges(seed, 30_000);
            for capacity in [500, 2000] {
                let classic = Kind::CLASSICS.map(|kind| hits(&trace, kind, capacity)).into_iter().fold(0.0, f64::max);
                let (alone, ours) = (alone(&trace, capacity), hits(&trace, Kind::Kvick, capacity));
                let report =
                    format!("seed {seed}, {capacity} blocks: alone {alone}, ours {ours}, best classic {classic}");
                assert!(alone < classic - 1.0, "{report}");
                assert!(ours > classic - 1.0, "{report}");
            }
        }
    }

    /// One load after another; blocks of the second are others.
    fn in_turn(first: &Trace, second: &Trace) -> Trace {
        let mut trace = first.clone();
        let (start, blocks) =
            (first.requests().last().map_or(0, |last| last.timestamp), first.distinct() as u32 + 20_000);
        for request in second.requests() {
            let blocks: Vec<u32> = request.blocks.iter().map(|block| block + blocks).collect();
            trace.push(start + request.timestamp, request.input_length, request.output_length, &blocks);
        }
        trace
    }

    #[test]
    fn ours_is_followed_again_when_the_load_changes() {
        let trace = in_turn(&surges(53, 12_000), &chat(53, 12_000));
        let halves = |kind| replay(&trace, kind, 500).half_percent;
        let ours = halves(Kind::Kvick);
        let alone = replay_with(&trace, 500, || Box::<Kvick>::default()).half_percent;
        let classics = Kind::CLASSICS.map(|kind| halves(kind)[1]);
        let report = format!("ours {ours:?}, alone {alone:?}, classics on chat {classics:?}");
        assert!(ours[0] > alone[0] + 1.0, "{report}");
        assert!(ours[1] > alone[1] - 0.3 && ours[1] > classics.into_iter().fold(0.0, f64::max), "{report}");
    }

    #[test]
    fn where_ours_is_better_nobody_is_followed() {
        for trace in [chat(51, 8000), documents(51, 8000)] {
            for capacity in [500, 2000] {
                assert_eq!(alone(&trace, capacity), hits(&trace, Kind::Kvick, capacity), "{capacity} blocks");
            }
        }
    }
}
