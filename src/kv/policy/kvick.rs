//! Ours: the page that is expected to bring the fewest hits for the room and time it takes goes first.
//!
//! [`Runs`] says what the pages' past makes them worth, and a [`Level`] which of them one cache holds.
use super::level::{Level, OnLevel};
use super::runs::Runs;
use super::{Costs, Policy};
use crate::kv::tree::{NodeId, View};

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

    fn weigh(&mut self, view: View<'_>, costs: &Costs) {
        self.on().weigh(view, costs);
    }

    fn moved(&mut self, view: View<'_>, node: NodeId) {
        self.on().moved(view, node);
    }

    fn forget(&mut self, view: View<'_>, node: NodeId) {
        self.runs.forget(view, node);
    }
}
