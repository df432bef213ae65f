//! Pages that may not go: pins, and what is kept because of them.
//!
//! Invariant: a page is *kept* in a group if it may not go even once all that can go before it have gone: it is pinned or, unless
//! the group has a window, a page below it is kept. The number of kept pages is known at any time ([`Tree::kept`]).
use super::{Group, NONE, NodeId, Tree};

impl Tree {
    /// Keeps a node that is resident in a group there until [`Tree::unpin`].
    pub(crate) fn pin(&mut self, group: usize, node: NodeId) {
        let place = &mut self.groups[group].places[node as usize];
        debug_assert_ne!(place.page, NONE, "only pages are pinned");
        place.pins += 1;
        if place.pins == 1 && place.kept == 0 {
            self.count_kept(group, node, true);
        }
    }

    /// Undoes one [`Tree::pin`].
    pub(crate) fn unpin(&mut self, group: usize, node: NodeId) {
        let place = &mut self.groups[group].places[node as usize];
        debug_assert_ne!(place.pins, 0, "each pin is undone once");
        place.pins = place.pins.saturating_sub(1);
        if place.pins == 0 && place.kept == 0 {
            self.count_kept(group, node, false);
        }
    }

    /// A node began or ceased to be kept, and with it what it hangs on, up to where something else decides.
    fn count_kept(&mut self, group: usize, mut node: NodeId, kept: bool) {
        let Group { places, kept: count, window, .. } = &mut self.groups[group];
        loop {
            if kept {
                *count += 1
            } else {
                *count -= 1
            }
            node = self.nodes[node as usize].parent;
            if window.is_some() || self.nodes[node as usize].depth == 0 {
                return;
            }
            let place = &mut places[node as usize];
            if kept {
                place.kept += 1;
            } else {
                place.kept -= 1;
            }
            if place.pins > 0 || place.kept > u32::from(kept) {
                return;
            }
        }
    }

    /// Pages of a group that cannot be evicted, whatever is evicted before them.
    pub fn kept(&self, group: usize) -> usize {
        self.groups[group].kept
    }

    /// Whether a page is among [`Tree::kept`].
    pub fn is_kept(&self, group: usize, node: NodeId) -> bool {
        let place = self.groups[group].places[node as usize];
        place.pins > 0 || place.kept > 0
    }
}
