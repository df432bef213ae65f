//! Nodes that are resident nowhere: a list, oldest first, of bounded length.
use super::{Extra, NONE, NodeId, Tree};

impl Tree {
    /// The ghost to forget next, if there are more than the limit. One that still has children is renewed instead: its
    /// turn comes after theirs.
    pub(crate) fn surplus_ghost(&mut self) -> Option<NodeId> {
        if self.ghosts <= self.ghost_limit {
            return None;
        }
        for _ in 0..self.ghosts {
            match self.nodes[self.oldest_ghost as usize].first_child {
                NONE => return Some(self.oldest_ghost),
                _ => self.renew_ghost(self.oldest_ghost),
            }
        }
        None
    }

    pub(super) fn push_ghost(&mut self, node: NodeId) {
        self.extra[node as usize] =
            Extra { previous: self.newest_ghost, next: NONE, ghost: true, ..self.extra[node as usize] };
        match self.newest_ghost {
            NONE => self.oldest_ghost = node,
            newest => self.extra[newest as usize].next = node,
        }
        self.newest_ghost = node;
        self.ghosts += 1;
    }

    pub(super) fn unlink_ghost(&mut self, node: NodeId) {
        let Extra { previous, next, ghost, .. } = self.extra[node as usize];
        if !ghost {
            return;
        }
        match previous {
            NONE => self.oldest_ghost = next,
            p => self.extra[p as usize].next = next,
        }
        match next {
            NONE => self.newest_ghost = previous,
            n => self.extra[n as usize].previous = previous,
        }
        self.extra[node as usize].ghost = false;
        self.ghosts -= 1;
    }

    /// Moves a ghost to the newest end: it was just asked for.
    pub(crate) fn renew_ghost(&mut self, node: NodeId) {
        if self.extra[node as usize].ghost {
            self.unlink_ghost(node);
            self.push_ghost(node);
        }
    }
}
