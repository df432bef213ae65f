//! Every page the cache knows, as a forest: one tree for each tenant's root, one node for each page.
//!
//! Invariants:
//! * A node is a page's name, tokens and place in the tree. In each group it is either resident (it has a physical page) or
//!   not. A node resident in no group is a *ghost*: history that policies learn from and that explains misses.
//! * Ghosts are in one list, oldest first, of bounded length. A node is forgotten only without children, so a known node's
//!   ancestors are known.
//! * A node may be evicted from a group when nothing pins it there and, unless the group has a window, no child of it is
//!   resident there ([`View::evictable`]). Pinning the deepest node of a path thus protects the whole path.
//! * Only full pages have children.
//! * A node whose page is restored from a quantised copy says so, and so does every node below it.
use super::key::{Elements, Key};
use super::pool::PageId;
use hashbrown::HashTable;

mod ghosts;
mod kept;
mod view;

pub use view::View;

/// A node of the tree. Ids are reused after a node is forgotten.
pub type NodeId = u32;
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node {
    key: Key,
    parent: NodeId,
    first_child: NodeId,
    /// Siblings, newest first.
    next: NodeId,
    previous: NodeId,
    depth: u32,
    tokens: u32,
}

/// A node in one group.
#[derive(Clone, Copy, Debug)]
struct Place {
    page: u32,
    children: u32,
    pins: u32,
    /// Children that are kept, unless the group has a window.
    kept: u32,
}

const NOWHERE: Place = Place { page: NONE, children: 0, pins: 0, kept: 0 };

#[derive(Debug)]
struct Group {
    places: Vec<Place>,
    resident: usize,
    kept: usize,
    /// Pages of the window, or `None` for full attention.
    window: Option<usize>,
}

/// Links of the ghost list, and the deadline after which the node is not served.
#[derive(Clone, Copy, Debug)]
struct Extra {
    previous: NodeId,
    next: NodeId,
    ghost: bool,
    /// Whether it ever was resident.
    filled: bool,
    /// Groups in which the node is resident.
    resident: u16,
    /// How the copy was kept that the page is restored from.
    mark: Option<Elements>,
    /// Whether it or a node above it is restored.
    lossy: bool,
    expires: u64,
}

/// The forest.
#[derive(Debug)]
pub struct Tree {
    page_tokens: usize,
    nodes: Vec<Node>,
    extra: Vec<Extra>,
    tokens: Vec<u32>,
    groups: Vec<Group>,
    map: HashTable<NodeId>,
    vacant: Vec<NodeId>,
    ghosts: usize,
    ghost_limit: usize,
    oldest_ghost: NodeId,
    newest_ghost: NodeId,
}

impl Tree {
    /// For pages of `page_tokens` in groups with these windows (in pages; `None` is full attention), remembering at most
    /// `ghost_limit` ghosts.
    pub fn new(page_tokens: usize, windows: &[Option<usize>], ghost_limit: usize) -> Self {
        let groups = windows.iter().map(|&window| Group { places: Vec::new(), resident: 0, kept: 0, window }).collect();
        Tree {
            page_tokens,
            nodes: Vec::new(),
            extra: Vec::new(),
            tokens: Vec::new(),
            groups,
            map: HashTable::new(),
            vacant: Vec::new(),
            ghosts: 0,
            ghost_limit,
            oldest_ghost: NONE,
            newest_ghost: NONE,
        }
    }

    /// One more group, in which nothing is resident yet.
    pub(crate) fn add_group(&mut self, window: Option<usize>) {
        self.groups.push(Group { places: vec![NOWHERE; self.nodes.len()], resident: 0, kept: 0, window });
    }

    /// The node of a key.
    pub fn find(&self, key: &Key) -> Option<NodeId> {
        self.map.find(key.short(), |&node| self.nodes[node as usize].key == *key).copied()
    }

    /// The root of a key, made if it is new. Roots are at depth 0 and hold no page.
    pub(crate) fn root(&mut self, key: Key) -> NodeId {
        self.find(&key).unwrap_or_else(|| self.new_node(NONE, key, &[]))
    }

    /// All roots.
    pub(crate) fn roots(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.map.iter().copied().filter(|&node| self.depth(node) == 0)
    }

    /// A new ghost under `parent`, for a key that [`Tree::find`] does not know.
    pub(crate) fn add(&mut self, parent: NodeId, key: Key, tokens: &[u32]) -> NodeId {
        let node = self.new_node(parent, key, tokens);
        self.push_ghost(node);
        node
    }

    fn new_node(&mut self, parent: NodeId, key: Key, tokens: &[u32]) -> NodeId {
        let node = self.vacant.pop().unwrap_or(self.nodes.len() as NodeId);
        let (depth, next) = match parent {
            NONE => (0, NONE),
            p => (self.nodes[p as usize].depth + 1, self.nodes[p as usize].first_child),
        };
        let new = Node { key, parent, first_child: NONE, next, previous: NONE, depth, tokens: tokens.len() as u32 };
        let extra = Extra {
            previous: NONE,
            next: NONE,
            ghost: false,
            filled: false,
            resident: 0,
            mark: None,
            lossy: parent != NONE && self.extra[parent as usize].lossy,
            expires: u64::MAX,
        };
        if node as usize == self.nodes.len() {
            self.nodes.push(new);
            self.extra.push(extra);
            self.tokens.resize(self.nodes.len() * self.page_tokens, 0);
            self.groups.iter_mut().for_each(|group| group.places.push(NOWHERE));
        } else {
            self.nodes[node as usize] = new;
            self.extra[node as usize] = extra;
        }
        let at = node as usize * self.page_tokens;
        self.tokens[at..at + tokens.len()].copy_from_slice(tokens);
        if parent != NONE {
            self.nodes[parent as usize].first_child = node;
        }
        if next != NONE {
            self.nodes[next as usize].previous = node;
        }
        let nodes = &self.nodes;
        self.map.insert_unique(key.short(), node, |&node| nodes[node as usize].key.short());
        node
    }

    /// Removes a childless node that is resident nowhere; a root left without children goes with it.
    pub(crate) fn forget(&mut self, node: NodeId) {
        debug_assert_eq!((self.nodes[node as usize].first_child, self.extra[node as usize].resident), (NONE, 0));
        self.unlink_ghost(node);
        let Node { key, parent, next, previous, .. } = self.nodes[node as usize];
        if let Ok(entry) = self.map.find_entry(key.short(), |&other| other == node) {
            entry.remove();
        }
        match previous {
            NONE if parent != NONE => self.nodes[parent as usize].first_child = next,
            NONE => {}
            p => self.nodes[p as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.vacant.push(node);
        if parent != NONE && self.depth(parent) == 0 && self.nodes[parent as usize].first_child == NONE {
            self.forget(parent);
        }
    }

    /// Gives a node its page in a group in which it had none.
    pub(crate) fn settle(&mut self, group: usize, node: NodeId, page: PageId) {
        let places = &mut self.groups[group];
        places.places[node as usize].page = page.0;
        places.resident += 1;
        let parent = self.nodes[node as usize].parent;
        places.places[parent as usize].children += 1;
        self.extra[node as usize].resident += 1;
        self.extra[node as usize].filled = true;
        self.unlink_ghost(node);
    }

    /// Gives a resident node another page.
    pub(crate) fn replace(&mut self, group: usize, node: NodeId, page: PageId) {
        let place = &mut self.groups[group].places[node as usize];
        debug_assert_ne!(place.page, NONE, "only a resident node has a page to replace");
        place.page = page.0;
    }

    /// Takes the page of a resident node; a node resident nowhere becomes the newest ghost.
    pub(crate) fn unsettle(&mut self, group: usize, node: NodeId) -> Option<PageId> {
        let places = &mut self.groups[group];
        let page = std::mem::replace(&mut places.places[node as usize].page, NONE);
        if page == NONE {
            return None;
        }
        places.resident -= 1;
        let parent = self.nodes[node as usize].parent;
        places.places[parent as usize].children -= 1;
        self.extra[node as usize].resident -= 1;
        if self.extra[node as usize].resident == 0 {
            self.push_ghost(node);
        }
        Some(PageId(page))
    }

    /// Whether the node ever had a page.
    pub fn was_filled(&self, node: NodeId) -> bool {
        self.extra[node as usize].filled
    }

    /// Says that a new node's page is restored from a copy of these elements.
    pub(crate) fn mark(&mut self, node: NodeId, elements: Elements) {
        let extra = &mut self.extra[node as usize];
        (extra.mark, extra.lossy) = (Some(elements), true);
    }

    /// The elements of the copy that a node's page is restored from, if it is.
    pub fn mark_of(&self, node: NodeId) -> Option<Elements> {
        self.extra[node as usize].mark
    }

    /// Whether a node's page is restored or was computed on top of a restored one.
    pub fn is_lossy(&self, node: NodeId) -> bool {
        self.extra[node as usize].lossy
    }

    /// Serve the node only before this time, in ms.
    pub(crate) fn expire_at(&mut self, node: NodeId, time: u64) {
        self.extra[node as usize].expires = time;
    }

    /// When the node ceases to be served.
    pub fn expires(&self, node: NodeId) -> u64 {
        self.extra[node as usize].expires
    }

    /// The page of a node in a group.
    pub fn page(&self, group: usize, node: NodeId) -> Option<PageId> {
        let page = self.groups[group].places[node as usize].page;
        (page != NONE).then_some(PageId(page))
    }

    /// Children of a node that are resident in a group.
    pub(crate) fn children_in(&self, group: usize, node: NodeId) -> u32 {
        self.groups[group].places[node as usize].children
    }

    /// Pages resident in a group.
    pub fn resident(&self, group: usize) -> usize {
        self.groups[group].resident
    }

    /// The window of a group in pages.
    pub fn window(&self, group: usize) -> Option<usize> {
        self.groups[group].window
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Nodes that exist, roots and ghosts included.
    pub fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nodes resident nowhere, roots excluded.
    pub fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Tokens of a node's page.
    pub fn tokens(&self, node: NodeId) -> &[u32] {
        let at = node as usize * self.page_tokens;
        &self.tokens[at..at + self.nodes[node as usize].tokens as usize]
    }

    /// Tokens of a full page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Pages from the root to the node, itself included.
    pub fn depth(&self, node: NodeId) -> u32 {
        self.nodes[node as usize].depth
    }

    /// The name of a node.
    pub fn key(&self, node: NodeId) -> &Key {
        &self.nodes[node as usize].key
    }

    /// The node above; `None` for a root.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        let parent = self.nodes[node as usize].parent;
        (parent != NONE).then_some(parent)
    }

    /// The nodes below, newest first.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let first = self.nodes[node as usize].first_child;
        std::iter::successors((first != NONE).then_some(first), |&child| {
            let next = self.nodes[child as usize].next;
            (next != NONE).then_some(next)
        })
    }

    /// What a policy of this group sees.
    pub fn view(&self, group: usize) -> View<'_> {
        View { tree: self, group }
    }
}
