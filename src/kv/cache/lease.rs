//! What one sequence holds: its page tables, and the pins and counts behind them.
use super::Cache;
use crate::kv::key::Keys;
use crate::kv::pool::PageId;
use crate::kv::tree::{NONE, NodeId};

mod publish;

/// A page of which the first tokens are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    pub(super) node: NodeId,
    pub(super) tokens: usize,
    /// Whether these are all tokens of the node and of the sequence's page.
    pub(super) whole: bool,
    /// Whether the counters have it as found.
    pub(super) counted: bool,
}

/// A page to be copied on the device before the step that writes to `to`. Copies are to be queued in the order they are given
/// out, before the operations of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PageCopy {
    pub group: usize,
    pub from: PageId,
    pub to: PageId,
    /// Tokens of the page that matter.
    pub tokens: usize,
}

/// The pages of one sequence. Give it back with [`Cache::finish`] or [`Cache::cancel`]; dropped, its pages stay pinned.
#[derive(Debug)]
#[must_use = "a lease pins pages until it is given back to the cache"]
pub struct Lease {
    /// Nodes of the leading pages that are in the tree.
    nodes: Vec<NodeId>,
    /// Per group, the page of each logical page; `u32::MAX` for one that left the window.
    pub(super) tables: Vec<Vec<u32>>,
    /// Per group, leading pages that left the window.
    pub(super) slid: Vec<usize>,
    /// Tokens whose K and V are in the pages (after the copies).
    filled: usize,
    partial: Option<Partial>,
    copies: Vec<PageCopy>,
    /// Of the cache, when the lease was made: what is computed under it is published only before the next invalidation.
    generation: u64,
    /// Its pages come from below: they do not bring a page back that is out of service.
    pub(super) loaded: bool,
}

impl Lease {
    /// Tokens that need not be computed: found in the cache, published or reported as computed.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// The physical pages of a group: `u32::MAX` for one that left the window.
    pub fn table(&self, group: usize) -> &[u32] {
        &self.tables[group]
    }

    /// Pages of a group that the sequence uses, found ones included.
    pub fn held(&self, group: usize) -> usize {
        self.tables[group].len() - self.slid[group]
    }

    /// Pages of a group that are in the tree and stay there as long as the lease lasts.
    pub fn pins(&self, group: usize) -> usize {
        self.nodes.len() - self.slid[group].min(self.nodes.len()) + usize::from(self.partial.is_some())
    }

    /// Says that the first `computed` tokens are in the pages, without letting others find them ([`Cache::publish`] does both).
    pub fn fill(&mut self, computed: usize) {
        self.filled = self.filled.max(computed);
    }

    /// Nodes of the sequence's pages that are in the tree.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().copied().chain(self.partial.filter(|partial| partial.whole).map(|partial| partial.node))
    }

    /// Whether [`Cache::grow`] has nothing to do for `tokens` tokens, and [`Cache::finish`] nothing to publish: all is in the
    /// tree.
    pub(super) fn is_settled(&self, page_tokens: usize, tokens: usize) -> bool {
        let pages = self.nodes.len();
        tokens <= pages * page_tokens
            && self.partial.is_none()
            && self.copies.is_empty()
            && self.tables.iter().all(|table| table.len() == pages)
    }

    /// Copies that the next step needs first. They are given out once.
    pub fn take_copies(&mut self) -> Vec<PageCopy> {
        std::mem::take(&mut self.copies)
    }
}

impl Cache {
    /// A lease on nothing, for a sequence that is to be computed from its first token, unseen by policies and counters.
    pub fn blank(&self) -> Lease {
        let groups = self.groups();
        Lease {
            nodes: Vec::new(),
            tables: vec![Vec::new(); groups],
            slid: vec![0; groups],
            filled: 0,
            partial: None,
            copies: Vec::new(),
            generation: self.generation,
            loaded: false,
        }
    }

    pub(super) fn lease(&mut self, keys: &Keys, path: &[NodeId], partial: Option<Partial>) -> Lease {
        let lease = self.unpinned(keys, path, partial);
        self.pin_all(&lease);
        lease
    }

    /// A lease whose pages are yet to be pinned.
    pub(super) fn unpinned(&self, keys: &Keys, path: &[NodeId], partial: Option<Partial>) -> Lease {
        let groups = self.groups();
        let mut lease = Lease {
            nodes: path.to_vec(),
            tables: Vec::with_capacity(groups),
            slid: vec![0; groups],
            filled: path.len() * self.page_tokens + partial.map_or(0, |partial| partial.tokens),
            partial,
            copies: Vec::new(),
            generation: self.generation,
            loaded: false,
        };
        for group in 0..groups {
            let slid = self.left(group, path.len());
            lease.slid[group] = slid;
            let mut table = Vec::with_capacity(keys.pages() + 1);
            table.resize(slid, NONE);
            table.extend(path[slid..].iter().map(|&node| self.tree.page(group, node).map_or(NONE, |page| page.0)));
            lease.tables.push(table);
        }
        lease
    }

    /// Leading pages of a path of `pages` that a new lease does not use in a group: those before its window.
    fn left(&self, group: usize, pages: usize) -> usize {
        self.tree.window(group).map_or(0, |window| pages.saturating_sub(window))
    }

    /// Of the nodes of a lease, those that it pins in a group.
    fn pinned<'a>(&self, group: usize, nodes: &'a [NodeId], slid: usize) -> &'a [NodeId] {
        let from = match self.tree.window(group) {
            None => nodes.len().saturating_sub(1),
            Some(_) => slid.min(nodes.len()),
        };
        &nodes[from..]
    }

    fn pin_all(&mut self, lease: &Lease) {
        for group in 0..self.groups() {
            let pinned = self.pinned(group, &lease.nodes, lease.slid[group]);
            for &node in pinned.iter().chain(lease.partial.as_ref().map(|partial| &partial.node)) {
                self.tree.pin(group, node);
            }
        }
    }

    /// Pins what a lease of [`Cache::unpinned`] on this path holds.
    pub(super) fn pin_path(&mut self, path: &[NodeId]) {
        for group in 0..self.groups() {
            let slid = self.left(group, path.len());
            for &node in self.pinned(group, path, slid) {
                self.tree.pin(group, node);
            }
        }
    }

    pub(super) fn unpin(&mut self, group: usize, node: NodeId) {
        self.tree.unpin(group, node);
        self.notify_freed(group, Some(node));
    }

    /// Provides pages for the first `tokens` tokens of the sequence, copying where a page to be written is shared. False, and
    /// nothing changed but evictions, if pages that are in use leave too little room.
    pub fn grow(&mut self, lease: &mut Lease, tokens: usize) -> bool {
        let pages = tokens.div_ceil(self.page_tokens);
        let writing = lease.filled / self.page_tokens;
        let shared = |cache: &Cache, group: usize| match lease.tables[group].get(writing) {
            Some(&page) if tokens > lease.filled && writing >= lease.nodes.len() => {
                cache.pools[group].count(PageId(page)) > 1
            }
            _ => false,
        };
        let shared: Vec<bool> = (0..self.groups()).map(|group| shared(self, group)).collect();
        for (group, &shared) in shared.iter().enumerate() {
            if !self.reserve(group, pages.saturating_sub(lease.tables[group].len()) + usize::from(shared)) {
                return false;
            }
        }
        let mut fresh = Vec::new();
        for (group, shared) in shared.into_iter().enumerate() {
            if shared {
                self.unshare(lease, group, writing);
            }
            fresh.clear();
            self.pools[group].alloc_into(pages.saturating_sub(lease.tables[group].len()), &mut fresh);
            lease.tables[group].extend(fresh.iter().map(|page| page.0));
        }
        if lease.partial.is_some_and(|_| pages > writing) {
            self.copy_partial(lease, writing);
        }
        true
    }

    /// Gives up the found beginning of a half-matching page, which takes one page more than computing it again: the one that it
    /// is copied from. True if there was one; [`Lease::filled`] is smaller then. For when [`Cache::grow`] finds no room.
    pub fn forgo_partial(&mut self, lease: &mut Lease) -> bool {
        let Some(Partial { node, tokens, whole, counted }) = lease.partial.take() else { return false };
        (0..self.groups()).for_each(|group| self.unpin(group, node));
        lease.filled -= tokens;
        if counted {
            self.counters.forgo(tokens as u64, whole, self.tree.is_lossy(node));
        }
        true
    }

    /// Replaces a page that a fork holds too by one of our own.
    fn unshare(&mut self, lease: &mut Lease, group: usize, index: usize) {
        let from = PageId(lease.tables[group][index]);
        let Some(&to) = self.pools[group].alloc(1).as_deref().and_then(<[PageId]>::first) else { return };
        lease.tables[group][index] = to.0;
        lease.copies.push(PageCopy { group, from, to, tokens: lease.filled % self.page_tokens });
        self.free_page(group, from);
    }

    fn copy_partial(&mut self, lease: &mut Lease, index: usize) {
        let Some(Partial { node, tokens, .. }) = lease.partial.take() else { return };
        for group in 0..self.groups() {
            if let Some(from) = self.tree.page(group, node) {
                lease.copies.push(PageCopy { group, from, to: PageId(lease.tables[group][index]), tokens });
            }
            self.unpin(group, node);
        }
    }

    /// Lets go of pages that no token from `position` on will read in groups with a window.
    pub fn slide(&mut self, lease: &mut Lease, position: usize) {
        // A half-matching page that is not copied yet may still be given up, and its tokens computed.
        let whole = if lease.partial.is_some() { lease.nodes.len() * self.page_tokens } else { position };
        let position = position.min(whole);
        for group in 0..self.groups() {
            let Some(window) = self.windows[group] else { continue };
            let first = (position + 1).saturating_sub(window) / self.page_tokens;
            for index in lease.slid[group]..first.min(lease.tables[group].len()) {
                let page = std::mem::replace(&mut lease.tables[group][index], NONE);
                match lease.nodes.get(index) {
                    Some(&node) => {
                        self.unpin(group, node);
                        if self.tree.view(group).evictable(node) {
                            self.policies[group].retire(self.tree.view(group), node);
                        }
                    }
                    None if page != NONE => self.free_page(group, PageId(page)),
                    None => {}
                }
                lease.slid[group] = index + 1;
            }
        }
    }

    /// A second lease on the same pages. Pages that are not full yet are copied when either side writes to them.
    pub fn fork(&mut self, lease: &Lease) -> Lease {
        let fork = Lease {
            nodes: lease.nodes.clone(),
            tables: lease.tables.clone(),
            slid: lease.slid.clone(),
            filled: lease.filled,
            partial: lease.partial.map(|partial| Partial { counted: false, ..partial }),
            copies: Vec::new(),
            generation: lease.generation,
            loaded: lease.loaded,
        };
        self.counters.forked_tokens += fork.filled as u64;
        self.pin_all(&fork);
        for group in 0..self.groups() {
            for &page in fork.tables[group][fork.nodes.len()..].iter().filter(|&&page| page != NONE) {
                let retained = self.pools[group].retain(PageId(page));
                debug_assert!(retained.is_ok(), "{retained:?}");
            }
        }
        fork
    }

    /// Lets go of everything; what was published stays cached.
    pub fn cancel(&mut self, lease: Lease) {
        for group in 0..self.groups() {
            let pinned = self.pinned(group, &lease.nodes, lease.slid[group]).len();
            for &node in &lease.nodes[lease.nodes.len() - pinned..] {
                self.unpin(group, node);
            }
            if let Some(partial) = lease.partial {
                self.unpin(group, partial.node);
            }
            for &page in lease.tables[group].iter().skip(lease.nodes.len()).filter(|&&page| page != NONE) {
                self.free_page(group, PageId(page));
            }
        }
        self.forget_surplus();
    }
}
