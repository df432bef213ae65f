//! ARC (Megiddo and Modha, FAST 2003): pages seen once and pages seen again in two LRU lists, whose shares follow the ghosts of
//! each.
use super::Policy;
use super::list::{Links, List};
use crate::kv::tree::{NodeId, View};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unknown,
    /// Was a ghost when it was asked for, and goes to `frequent` when it is resident.
    Returning,
    Recent,
    Frequent,
    RecentGhost,
    FrequentGhost,
}

/// Adapts between recency and frequency.
#[derive(Clone, Debug)]
pub struct Arc {
    capacity: usize,
    /// What `recent` should hold.
    target: f64,
    places: Vec<Place>,
    links: Links,
    recent: List,
    frequent: List,
    recent_ghosts: List,
    frequent_ghosts: List,
}

impl Arc {
    /// For a cache of `capacity` pages.
    pub fn new(capacity: usize) -> Self {
        Arc {
            capacity,
            target: 0.0,
            places: Vec::new(),
            links: Links::default(),
            recent: List::default(),
            frequent: List::default(),
            recent_ghosts: List::default(),
            frequent_ghosts: List::default(),
        }
    }

    fn place(&self, node: NodeId) -> Place {
        self.places.get(node as usize).copied().unwrap_or(Place::Unknown)
    }

    /// Moves a node to the recent end of the list of a place.
    fn put(&mut self, node: NodeId, place: Place) {
        self.take(node);
        let links = &mut self.links;
        match place {
            Place::Recent => self.recent.push_back(links, node),
            Place::Frequent => self.frequent.push_back(links, node),
            Place::RecentGhost => self.recent_ghosts.push_back(links, node),
            Place::FrequentGhost => self.frequent_ghosts.push_back(links, node),
            Place::Unknown | Place::Returning => {}
        }
        self.set(node, place);
    }

    fn take(&mut self, node: NodeId) {
        let links = &mut self.links;
        match self.places.get(node as usize).copied().unwrap_or(Place::Unknown) {
            Place::Recent => self.recent.remove(links, node),
            Place::Frequent => self.frequent.remove(links, node),
            Place::RecentGhost => self.recent_ghosts.remove(links, node),
            Place::FrequentGhost => self.frequent_ghosts.remove(links, node),
            Place::Unknown | Place::Returning => {}
        }
        self.set(node, Place::Unknown);
    }

    fn set(&mut self, node: NodeId, place: Place) {
        if self.places.len() <= node as usize {
            self.places.resize(node as usize + 1, Place::Unknown);
        }
        self.places[node as usize] = place;
    }

    fn bound_ghosts(&mut self) {
        while self.recent.len() + self.recent_ghosts.len() > self.capacity {
            let Some(node) = self.recent_ghosts.front() else { break };
            self.take(node);
        }
        let all =
            |arc: &Self| arc.recent.len() + arc.frequent.len() + arc.recent_ghosts.len() + arc.frequent_ghosts.len();
        while all(self) > 2 * self.capacity {
            let Some(node) = self.frequent_ghosts.front() else { break };
            self.take(node);
        }
    }
}

impl Policy for Arc {
    fn visit(&mut self, _view: View<'_>, _now: u64, path: &[NodeId]) {
        let ratio = |a: &List, b: &List| (a.len() as f64 / b.len().max(1) as f64).max(1.0);
        for &node in path.iter().rev() {
            match self.place(node) {
                Place::Recent | Place::Frequent => self.put(node, Place::Frequent),
                Place::RecentGhost => {
                    let step = ratio(&self.frequent_ghosts, &self.recent_ghosts);
                    self.target = (self.target + step).min(self.capacity as f64);
                    self.put(node, Place::Returning);
                }
                Place::FrequentGhost => {
                    let step = ratio(&self.recent_ghosts, &self.frequent_ghosts);
                    self.target = (self.target - step).max(0.0);
                    self.put(node, Place::Returning);
                }
                Place::Unknown | Place::Returning => {}
            }
        }
    }

    fn insert(&mut self, _view: View<'_>, nodes: &[NodeId]) {
        for &node in nodes.iter().rev() {
            let frequent = self.place(node) == Place::Returning;
            self.put(node, if frequent { Place::Frequent } else { Place::Recent });
        }
        self.bound_ghosts();
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        let (first, second) = match self.recent.len() as f64 > self.target {
            true => (&self.recent, &self.frequent),
            false => (&self.frequent, &self.recent),
        };
        first.iter(&self.links).chain(second.iter(&self.links)).find(|&node| view.evictable(node))
    }

    fn remove(&mut self, _view: View<'_>, node: NodeId, evicted: bool) {
        let ghost = match self.place(node) {
            Place::Recent if evicted => Place::RecentGhost,
            Place::Frequent if evicted => Place::FrequentGhost,
            _ => Place::Unknown,
        };
        self.put(node, ghost);
        self.bound_ghosts();
    }

    fn forget(&mut self, _view: View<'_>, node: NodeId) {
        self.take(node);
    }
}
