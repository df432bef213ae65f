//! What one cache holds of the runs, in order of what their pages are worth there.
//!
//! The worth of a run ([`Runs::shelf`]) is expected hits by page and second; here it is weighted by what a miss of its deepest
//! page costs ([`Costs`]).
//!
//! Invariants:
//! * The resident pages of a run are its upper part and end at `tip`, the one page of it that can be evicted.
//! * A run is on its shelf in a level if its tip can be evicted there, or will be found out by [`Policy::victim`].
use super::list::{Links, List};
use super::runs::{Change, Runs, SHELVES, WANTED};
use super::{Costs, Policy};
use crate::kv::tree::{NONE, NodeId, View};

const UNSHELVED: u16 = u16::MAX;

/// A run in one cache.
#[derive(Clone, Copy, Debug)]
struct Spot {
    resident: u32,
    /// The deepest resident node, if `resident` is not 0.
    tip: NodeId,
    shelf: u16,
}

const NOWHERE: Spot = Spot { resident: 0, tip: NONE, shelf: UNSHELVED };

/// The runs of one cache.
pub(in crate::kv) struct Level {
    costs: Costs,
    spots: Vec<Spot>,
    shelves: Vec<List>,
    links: Links,
    stocked: [u64; SHELVES / 64],
}

impl Default for Level {
    fn default() -> Self {
        let shelves = vec![List::default(); SHELVES];
        Level {
            costs: Costs::default(),
            spots: Vec::new(),
            shelves,
            links: Links::default(),
            stocked: [0; SHELVES / 64],
        }
    }
}

/// The policy of one cache over a history that others may share; the history hears of visits and growth first.
pub(in crate::kv) struct OnLevel<'a> {
    pub runs: &'a mut Runs,
    pub level: &'a mut Level,
}

impl Policy for OnLevel<'_> {
    fn visit(&mut self, view: View<'_>, _now: u64, path: &[NodeId]) {
        self.level.spots.resize(self.runs.ids().max(self.level.spots.len()), NOWHERE);
        for at in 0..self.runs.changes().len() {
            match self.runs.changes()[at] {
                Change::Priced(run) => {
                    self.unshelve(run);
                    self.shelve(view, run);
                }
                Change::Split { run, upper, from, to } => self.split(view, run, upper, &path[from..to]),
            }
        }
    }

    fn grow(&mut self, view: View<'_>, now: u64, _nodes: &[NodeId]) {
        self.visit(view, now, &[]);
    }

    fn insert(&mut self, view: View<'_>, nodes: &[NodeId]) {
        for &node in nodes {
            let run = self.runs.owner(node);
            let spot = &mut self.level.spots[run as usize];
            let above = std::mem::replace(&mut spot.tip, node);
            spot.resident += 1;
            if spot.resident > 1 {
                self.tip_moves(view, run, above, node);
            }
            self.shelve(view, run);
        }
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        loop {
            let word = self.level.stocked.iter().position(|&word| word != 0)?;
            let shelf = word * 64 + self.level.stocked[word].trailing_zeros() as usize;
            let run = self.level.shelves[shelf].front()?;
            let tip = self.level.spots[run as usize].tip;
            if view.evictable(tip) {
                return Some(tip);
            }
            // Comes back with `freed`.
            self.unshelve(run);
        }
    }

    fn remove(&mut self, view: View<'_>, node: NodeId, _evicted: bool) {
        let run = self.runs.owner(node);
        let spot = &mut self.level.spots[run as usize];
        spot.resident -= 1;
        match view.parent(node) {
            Some(parent) if spot.resident > 0 => {
                spot.tip = parent;
                self.tip_moves(view, run, node, parent);
            }
            _ => self.unshelve(run),
        }
    }

    fn freed(&mut self, view: View<'_>, node: NodeId) {
        let run = self.runs.owner(node);
        if self.level.spots[run as usize].tip == node {
            self.shelve(view, run);
        }
    }

    fn weigh(&mut self, view: View<'_>, costs: &Costs) {
        self.level.costs = costs.clone();
        for run in 0..self.level.spots.len() as u32 {
            if self.level.spots[run as usize].shelf != UNSHELVED {
                self.unshelve(run);
                self.shelve(view, run);
            }
        }
    }

    fn moved(&mut self, view: View<'_>, node: NodeId) {
        let run = self.runs.owner(node);
        let Spot { tip, shelf, .. } = self.level.spots[run as usize];
        if tip == node && shelf != UNSHELVED && self.shelf(view, run) != shelf as usize {
            self.unshelve(run);
            self.shelve(view, run);
        }
    }
}

impl Level {
    /// Whether copies below make some pages cheap to lose.
    pub fn has_sources(&self) -> bool {
        self.costs.has_sources()
    }
}

impl OnLevel<'_> {
    /// Where a run belongs.
    fn shelf(&mut self, view: View<'_>, run: u32) -> usize {
        match self.runs.shelf(run) {
            WANTED => WANTED,
            shelf => {
                let weight = self.level.costs.shelves(view, self.level.spots[run as usize].tip);
                (shelf as i32 + weight).clamp(0, WANTED as i32 - 1) as usize
            }
        }
    }

    /// Takes a run off its shelf if its new tip does not belong there.
    fn tip_moves(&mut self, view: View<'_>, run: u32, from: NodeId, to: NodeId) {
        let costs = &self.level.costs;
        if costs.shelves(view, from) != costs.shelves(view, to) {
            self.unshelve(run);
        }
    }

    /// `nodes`, the beginning of `run`, are run `upper` now.
    fn split(&mut self, view: View<'_>, run: u32, upper: u32, nodes: &[NodeId]) {
        let resident = nodes.iter().filter(|&&node| view.resident(node)).count();
        let tip = resident.checked_sub(1).map_or(NONE, |last| nodes[last]);
        self.level.spots[upper as usize] = Spot { resident: resident as u32, tip, shelf: UNSHELVED };
        let spot = &mut self.level.spots[run as usize];
        spot.resident -= resident as u32;
        if spot.resident == 0 {
            self.unshelve(run);
        }
    }

    /// Puts a run where its worth belongs, if its tip can be evicted and it is nowhere yet.
    fn shelve(&mut self, view: View<'_>, run: u32) {
        let spot = self.level.spots[run as usize];
        if spot.shelf != UNSHELVED || spot.resident == 0 || !view.evictable(spot.tip) {
            return;
        }
        let shelf = self.shelf(view, run);
        let Level { spots, shelves, links, stocked, .. } = &mut *self.level;
        spots[run as usize].shelf = shelf as u16;
        shelves[shelf].push_back(links, run);
        stocked[shelf / 64] |= 1 << (shelf % 64);
    }

    fn unshelve(&mut self, run: u32) {
        let Level { spots, shelves, links, stocked, .. } = &mut *self.level;
        let shelf = std::mem::replace(&mut spots[run as usize].shelf, UNSHELVED);
        if shelf == UNSHELVED {
            return;
        }
        let list = &mut shelves[shelf as usize];
        list.remove(links, run);
        if list.is_empty() {
            stocked[shelf as usize / 64] &= !(1 << (shelf % 64));
        }
    }
}
