//! Least recently used. A request touches its deepest page first, so that leaves are older than what they hang on.
use super::Policy;
use super::list::{Links, List};
use crate::kv::tree::{NodeId, View};

/// Evicts the page whose last use is the longest ago.
#[derive(Clone, Debug, Default)]
pub struct Lru {
    links: Links,
    order: List,
}

impl Policy for Lru {
    fn visit(&mut self, view: View<'_>, _now: u64, path: &[NodeId]) {
        for &node in path.iter().rev().filter(|&&node| view.resident(node)) {
            self.order.remove(&mut self.links, node);
            self.order.push_back(&mut self.links, node);
        }
    }

    /// A new page is as recent as the page it hangs on, and goes before it.
    fn insert(&mut self, view: View<'_>, nodes: &[NodeId]) {
        for &node in nodes {
            match view.parent(node).filter(|&parent| view.resident(parent)) {
                Some(parent) => self.order.insert_before(&mut self.links, parent, node),
                None => self.order.push_back(&mut self.links, node),
            }
        }
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        for _ in 0..self.order.len() {
            let node = self.order.front()?;
            if view.evictable(node) {
                return Some(node);
            }
            // In use, hence recent.
            self.order.remove(&mut self.links, node);
            self.order.push_back(&mut self.links, node);
        }
        None
    }

    fn remove(&mut self, _view: View<'_>, node: NodeId, _evicted: bool) {
        self.order.remove(&mut self.links, node);
    }

    fn retire(&mut self, _view: View<'_>, node: NodeId) {
        self.order.remove(&mut self.links, node);
        self.order.push_front(&mut self.links, node);
    }
}
