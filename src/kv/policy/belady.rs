//! Belady's MIN with bypass: the page whose next use is the furthest away goes, a newcomer too. It reads the future from the
//! trace, so it bounds what any policy can reach in a replay.
use super::Policy;
use crate::kv::trace::Trace;
use crate::kv::tree::{NodeId, View};
use std::collections::BTreeSet;

const NEVER: u32 = u32::MAX;

/// Evicts what is needed last. Its cache must be given the requests of its trace, in order.
#[derive(Clone, Debug)]
pub struct Belady {
    /// Of each block reference, the next request that refers to the block.
    next_use: Vec<u32>,
    /// Where each request's references end.
    ends: Vec<usize>,
    request: usize,
    next: Vec<u32>,
    order: BTreeSet<(u32, u32, NodeId)>,
}

impl Belady {
    /// With the future of this trace.
    pub fn new(trace: &Trace) -> Self {
        let mut next_use = vec![NEVER; trace.references()];
        let mut latest = vec![NEVER; trace.distinct()];
        let mut ends = Vec::with_capacity(trace.len());
        let mut at = trace.references();
        for index in (0..trace.len()).rev() {
            ends.push(at);
            let Some(request) = trace.get(index) else { break };
            at -= request.blocks.len();
            for (offset, &block) in request.blocks.iter().enumerate() {
                next_use[at + offset] = std::mem::replace(&mut latest[block as usize], index as u32);
            }
        }
        ends.reverse();
        Belady { next_use, ends, request: 0, next: Vec::new(), order: BTreeSet::new() }
    }

    fn rank(&self, view: View<'_>, node: NodeId) -> (u32, u32, NodeId) {
        (self.next.get(node as usize).copied().unwrap_or(NEVER), view.depth(node), node)
    }
}

impl Policy for Belady {
    fn visit(&mut self, view: View<'_>, _now: u64, path: &[NodeId]) {
        let start = self.request.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |&end| end);
        self.request = (self.request + 1).min(self.ends.len().saturating_sub(1));
        for (offset, &node) in path.iter().enumerate() {
            if view.resident(node) {
                self.order.remove(&self.rank(view, node));
            }
            if self.next.len() <= node as usize {
                self.next.resize(node as usize + 1, NEVER);
            }
            self.next[node as usize] = self.next_use.get(start + offset).copied().unwrap_or(NEVER);
            if view.resident(node) {
                self.order.insert(self.rank(view, node));
            }
        }
    }

    fn insert(&mut self, view: View<'_>, nodes: &[NodeId]) {
        for &node in nodes {
            self.order.insert(self.rank(view, node));
        }
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        self.order.iter().rev().map(|&(_, _, node)| node).find(|&node| view.evictable(node))
    }

    fn remove(&mut self, view: View<'_>, node: NodeId, _evicted: bool) {
        self.order.remove(&self.rank(view, node));
    }
}
