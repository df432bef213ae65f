//! What a policy may know of the tree.
use super::{NONE, NodeId, Place, Tree};
use crate::kv::key::Key;
use crate::kv::tier::state::Below;

/// The tree as the policy of one group sees it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) tree: &'a Tree,
    pub(super) group: usize,
}

impl View<'_> {
    /// Whether the node has a page.
    pub fn resident(&self, node: NodeId) -> bool {
        self.place(node).page != NONE
    }

    /// Whether the node's page may be taken.
    pub fn evictable(&self, node: NodeId) -> bool {
        let place = self.place(node);
        place.page != NONE && place.pins == 0 && (place.children == 0 || self.tree.window(self.group).is_some())
    }

    /// Whether the page is only partly filled.
    pub fn partial(&self, node: NodeId) -> bool {
        (self.tree.nodes[node as usize].tokens as usize) < self.tree.page_tokens
    }

    /// The node above; `None` if that is the root.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.tree.parent(node).filter(|&parent| self.tree.depth(parent) > 0)
    }

    /// A node below that has a page, the newest.
    pub fn child(&self, node: NodeId) -> Option<NodeId> {
        match self.place(node).children {
            0 => None,
            _ => self.tree.children(node).find(|&child| self.resident(child)),
        }
    }

    /// Pages from the root, the node included.
    pub fn depth(&self, node: NodeId) -> u32 {
        self.tree.depth(node)
    }

    /// The node's name.
    pub(in crate::kv) fn key(&self, node: NodeId) -> &Key {
        self.tree.key(node)
    }

    /// The key above the first page.
    pub(in crate::kv) fn root(&self, node: NodeId) -> &Key {
        let top = std::iter::successors(Some(node), |&node| self.tree.parent(node)).last();
        self.tree.key(top.unwrap_or(node))
    }

    /// A hash of the node's name that outlives the node.
    pub fn short_key(&self, node: NodeId) -> u64 {
        self.tree.key(node).short()
    }

    /// Whether a tier below, whose pages are `group` of the tree, has a copy of the node's page.
    pub(in crate::kv) fn copied(&self, group: usize, node: NodeId) -> bool {
        self.tree.page(group, node).is_some_and(|page| Below::of_code(page.0).readable())
    }

    /// Pages resident in the group.
    pub fn len(&self) -> usize {
        self.tree.resident(self.group)
    }

    /// Whether the group holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn place(&self, node: NodeId) -> Place {
        self.tree.groups[self.group].places[node as usize]
    }
}
