//! S3-FIFO (Yang et al., SOSP 2023): a small queue that new pages pass, a main queue with second chances, and the ghosts of the
//! small one. Small is a tenth, the ghosts are as many as main, two uses in small promote.
use super::Policy;
use super::list::{Links, List};
use crate::kv::tree::{NodeId, View};

const PROMOTE: u8 = 2;
const MOST_USES: u8 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Unknown,
    /// Was a ghost when it was asked for, and goes to `main` when it is resident.
    Returning,
    Small,
    Main,
    Ghost,
}

/// Evicts pages that are not used again soon after they came.
#[derive(Clone, Debug)]
pub struct S3Fifo {
    small_pages: usize,
    main_pages: usize,
    nodes: Vec<(Place, u8)>,
    links: Links,
    small: List,
    main: List,
    ghosts: List,
}

impl S3Fifo {
    /// For a cache of `capacity` pages.
    pub fn new(capacity: usize) -> Self {
        let small_pages = (capacity / 10).max(1);
        S3Fifo {
            small_pages,
            main_pages: capacity.saturating_sub(small_pages),
            nodes: Vec::new(),
            links: Links::default(),
            small: List::default(),
            main: List::default(),
            ghosts: List::default(),
        }
    }

    fn node(&mut self, node: NodeId) -> &mut (Place, u8) {
        if self.nodes.len() <= node as usize {
            self.nodes.resize(node as usize + 1, Default::default());
        }
        &mut self.nodes[node as usize]
    }

    /// Moves a node to the end of the queue of a place, as unused.
    fn put(&mut self, node: NodeId, place: Place) {
        let before = std::mem::replace(self.node(node), (place, 0)).0;
        let links = &mut self.links;
        match before {
            Place::Small => self.small.remove(links, node),
            Place::Main => self.main.remove(links, node),
            Place::Ghost => self.ghosts.remove(links, node),
            Place::Unknown | Place::Returning => {}
        }
        match place {
            Place::Small => self.small.push_back(links, node),
            Place::Main => self.main.push_back(links, node),
            Place::Ghost => self.ghosts.push_back(links, node),
            Place::Unknown | Place::Returning => {}
        }
    }

    /// The next of the small queue to go, after those before it that earned a place in main.
    fn small_victim(&mut self, view: View<'_>) -> Option<NodeId> {
        for _ in 0..self.small.len() {
            let node = self.small.front()?;
            if self.node(node).1 >= PROMOTE {
                self.put(node, Place::Main);
                if self.main.len() > self.main_pages
                    && let Some(victim) = self.main_victim(view)
                {
                    return Some(victim);
                }
            } else {
                // What hangs on it goes first.
                let leaf = std::iter::successors(Some(node), |&node| view.child(node)).last().unwrap_or(node);
                if view.evictable(leaf) {
                    return Some(leaf);
                }
                self.put(node, Place::Small);
            }
        }
        None
    }

    fn main_victim(&mut self, view: View<'_>) -> Option<NodeId> {
        for _ in 0..self.main.len() * (1 + MOST_USES as usize) {
            let node = self.main.front()?;
            let uses = self.node(node).1;
            if uses == 0 && view.evictable(node) {
                return Some(node);
            }
            self.put(node, Place::Main);
            self.node(node).1 = uses.saturating_sub(1);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn visit(&mut self, _view: View<'_>, _now: u64, path: &[NodeId]) {
        for &node in path.iter().rev() {
            match self.node(node) {
                (Place::Small | Place::Main, uses) => *uses = (*uses + 1).min(MOST_USES),
                (Place::Ghost, _) => self.put(node, Place::Returning),
                _ => {}
            }
        }
    }

    fn insert(&mut self, _view: View<'_>, nodes: &[NodeId]) {
        for &node in nodes.iter().rev() {
            let returning = self.node(node).0 == Place::Returning;
            self.put(node, if returning { Place::Main } else { Place::Small });
        }
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        if self.small.len() >= self.small_pages || self.main.is_empty() {
            self.small_victim(view).or_else(|| self.main_victim(view))
        } else {
            // The small queue may have no victim and yet send one to main.
            self.main_victim(view).or_else(|| self.small_victim(view)).or_else(|| self.main_victim(view))
        }
    }

    fn remove(&mut self, _view: View<'_>, node: NodeId, evicted: bool) {
        let small = self.node(node).0 == Place::Small;
        self.put(node, if evicted && small { Place::Ghost } else { Place::Unknown });
        while self.ghosts.len() > self.main_pages {
            let Some(oldest) = self.ghosts.front() else { break };
            self.put(oldest, Place::Unknown);
        }
    }

    fn forget(&mut self, _view: View<'_>, node: NodeId) {
        self.put(node, Place::Unknown);
    }
}
