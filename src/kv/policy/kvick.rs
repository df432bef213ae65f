//! Ours: the page that is expected to bring the fewest hits for the room and time it takes goes first.
//!
//! [`Runs`] says what the pages' past makes them worth, and a [`Level`] which of them one cache holds.
//!
//! Invariants:
//! * The resident pages of a run are its upper part and end at `tip`, the one page of it that can be evicted.
//! * A run is on its shelf in a level if its tip can be evicted there, or will be found out by [`Policy::victim`].
use super::Policy;
use super::list::{Links, List};
use super::runs::{Change, Runs, SHELVES};
use crate::kv::tree::{NONE, NodeId, View};

const UNSHELVED: u16 = u16::MAX;

/// Keeps what is expected to be asked for soon.
#[derive(Default)]
pub struct Kvick {
    runs: Runs,
    level: Level,
}

impl Kvick {
    fn on(&mut self) -> OnLevel<'_> {
        OnLevel { runs: &mut self.runs, level: &mut self.level }
    }
}

impl Policy for Kvick {
    fn visit(&mut self, view: View<'_>, now: u64, path: &[NodeId]) {
        self.runs.visit(view, now, path);
        self.on().visit(view, now, path);
    }

    fn grow(&mut self, view: View<'_>, now: u64, nodes: &[NodeId]) {
        self.runs.grow(view, now, nodes);
        self.on().grow(view, now, nodes);
    }

    fn insert(&mut self, view: View<'_>, nodes: &[NodeId]) {
        self.on().insert(view, nodes);
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        self.on().victim(view)
    }

    fn remove(&mut self, view: View<'_>, node: NodeId, evicted: bool) {
        self.on().remove(view, node, evicted);
    }

    fn freed(&mut self, view: View<'_>, node: NodeId) {
        self.on().freed(view, node);
    }

    fn want(&mut self, view: View<'_>, node: NodeId, wanted: bool) {
        self.runs.want(node, wanted);
        self.on().visit(view, 0, &[]);
    }

    fn forget(&mut self, view: View<'_>, node: NodeId) {
        self.runs.forget(view, node);
    }
}

/// A run in one cache.
#[derive(Clone, Copy, Debug)]
struct Spot {
    resident: u32,
    /// The deepest resident node, if `resident` is not 0.
    tip: NodeId,
    shelf: u16,
}

const NOWHERE: Spot = Spot { resident: 0, tip: NONE, shelf: UNSHELVED };

/// What one cache holds of the runs, in order of their worth.
pub(in crate::kv) struct Level {
    spots: Vec<Spot>,
    shelves: Vec<List>,
    links: Links,
    stocked: [u64; SHELVES / 64],
}

impl Default for Level {
    fn default() -> Self {
        let shelves = vec![List::default(); SHELVES];
        Level { spots: Vec::new(), shelves, links: Links::default(), stocked: [0; SHELVES / 64] }
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
            spot.resident += 1;
            spot.tip = node;
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
            Some(parent) if spot.resident > 0 => spot.tip = parent,
            _ => self.unshelve(run),
        }
    }

    fn freed(&mut self, view: View<'_>, node: NodeId) {
        let run = self.runs.owner(node);
        if self.level.spots[run as usize].tip == node {
            self.shelve(view, run);
        }
    }
}

impl OnLevel<'_> {
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
        let Level { spots, shelves, links, stocked } = &mut *self.level;
        let spot = &mut spots[run as usize];
        if spot.shelf != UNSHELVED || spot.resident == 0 || !view.evictable(spot.tip) {
            return;
        }
        let shelf = self.runs.shelf(run);
        spot.shelf = shelf as u16;
        shelves[shelf].push_back(links, run);
        stocked[shelf / 64] |= 1 << (shelf % 64);
    }

    fn unshelve(&mut self, run: u32) {
        let Level { spots, shelves, links, stocked } = &mut *self.level;
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
