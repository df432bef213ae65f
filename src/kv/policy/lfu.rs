//! Least frequently used; among equals, the least recently used. Counted while cached, or for as long as a page is remembered.
use super::Policy;
use crate::kv::tree::{NodeId, View};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    count: u32,
    /// Larger is more recent; of one path, the deepest page is the oldest.
    recency: u64,
}

/// Evicts the page that was used the fewest times.
#[derive(Clone, Debug, Default)]
pub struct Lfu {
    perfect: bool,
    uses: Vec<Use>,
    order: BTreeSet<(u32, u64, NodeId)>,
    clock: u64,
}

impl Lfu {
    /// `perfect` counts outlive eviction.
    pub fn new(perfect: bool) -> Self {
        Lfu { perfect, ..Lfu::default() }
    }

    fn used(&mut self, node: NodeId) -> &mut Use {
        if self.uses.len() <= node as usize {
            self.uses.resize(node as usize + 1, Use::default());
        }
        &mut self.uses[node as usize]
    }

    fn rank(&mut self, node: NodeId) -> (u32, u64, NodeId) {
        let Use { count, recency } = *self.used(node);
        (count, recency, node)
    }
}

impl Policy for Lfu {
    fn visit(&mut self, view: View<'_>, _now: u64, path: &[NodeId]) {
        for &node in path.iter().rev() {
            let resident = view.resident(node);
            if resident {
                let rank = self.rank(node);
                self.order.remove(&rank);
            }
            self.clock += 1;
            let clock = self.clock;
            let used = self.used(node);
            *used = Use { count: used.count + 1, recency: clock };
            if resident {
                let rank = self.rank(node);
                self.order.insert(rank);
            }
        }
    }

    fn grow(&mut self, view: View<'_>, _now: u64, nodes: &[NodeId]) {
        for &node in nodes {
            let parent = view.parent(node).map_or(Use::default(), |parent| *self.used(parent));
            *self.used(node) = Use { count: 1, recency: parent.recency };
        }
    }

    fn insert(&mut self, _view: View<'_>, nodes: &[NodeId]) {
        for &node in nodes {
            let rank = self.rank(node);
            self.order.insert(rank);
        }
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        self.order.iter().map(|&(_, _, node)| node).find(|&node| view.evictable(node))
    }

    fn remove(&mut self, _view: View<'_>, node: NodeId, _evicted: bool) {
        let rank = self.rank(node);
        self.order.remove(&rank);
        if !self.perfect {
            self.used(node).count = 0;
        }
    }

    fn forget(&mut self, _view: View<'_>, node: NodeId) {
        *self.used(node) = Use::default();
    }
}
