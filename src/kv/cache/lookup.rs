//! Finding the longest prefix that every group can serve.
use super::Cache;
use super::blame::Blame;
use super::lease::{Lease, Partial};
use super::stats::Misses;
use crate::kv::key::{Key, Keys, Mark};
use crate::kv::tree::NodeId;

/// Children looked at for the longest common part of a half-matching page, newest first.
const SIBLINGS: usize = 16;

/// What a waiting request will find ([`Cache::expect`]): by policy, the deepest page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Vec<Option<NodeId>>);

/// How far a prompt is cached.
pub(super) struct Reach {
    /// Full pages that every group can serve.
    pub(super) pages: usize,
    /// A page of which the beginning can be copied.
    pub(super) partial: Option<Partial>,
}

impl Cache {
    /// Finds and pins the longest cached prefix of a sequence, at most `limit` tokens of it (an engine needs the logits of the
    /// last token, so it leaves out at least that one), and tells the policies of the request. `now` is in ms and never
    /// decreases. The lease holds pages until [`Cache::finish`] or [`Cache::cancel`].
    pub fn start(&mut self, keys: &Keys, limit: usize, now: u64) -> Lease {
        let mut path = std::mem::take(&mut self.scratch);
        let known = self.walk(keys, &mut path);
        let reach = self.reach(keys, &path[..known], limit, now);
        self.count_request(keys, &path, (known, path.len()), &reach, limit, now);
        self.visit(&path, reach.pages, now);
        self.tell_curve(keys, &path, known, now);
        let lease = self.lease(keys, &path[..reach.pages], reach.partial);
        self.scratch = path;
        lease
    }

    /// Tells the policies of a request, of which the device serves the first `served` pages.
    pub(super) fn visit(&mut self, path: &[NodeId], served: usize, now: u64) {
        for (group, policy) in self.policies.iter_mut().enumerate() {
            let view = self.tree.view(group);
            match self.tree.window(group) {
                None => policy.visit(view, now, path),
                Some(window) => policy.visit(view, now, &path[served.saturating_sub(window)..served]),
            }
        }
    }

    /// The path of a sequence whose pages are all full and all there, so that a lease on it changes nothing but pins, counts and
    /// what policies know ([`Cache::visit_whole`]); `None` for any other.
    pub(super) fn find_whole(&self, keys: &Keys, limit: usize, now: u64) -> Option<Vec<NodeId>> {
        // A curve is told of every request, and restored pages are counted apart; both need the keys.
        let told = self.curve.is_some() || keys.first_mark().is_some();
        if told || keys.pages() == 0 || keys.tail().is_some() || keys.tokens().len() > limit {
            return None;
        }
        let mut path = Vec::with_capacity(keys.pages());
        self.find(keys, &mut path);
        let whole = path.len() == keys.pages() && self.reach(keys, &path, limit, now).pages == keys.pages();
        whole.then_some(path)
    }

    /// Counts a request for a path of [`Cache::find_whole`].
    pub(super) fn visit_whole(&mut self, path: &[NodeId], now: u64) {
        let (pages, tokens) = (path.len() as u64, (path.len() * self.page_tokens) as u64);
        self.counters.requests += 1;
        self.counters.pages += pages;
        self.counters.hits += pages;
        self.counters.tokens += tokens;
        self.counters.hit_tokens += tokens;
        self.visit(path, path.len(), now);
    }

    /// Says why the request that starts next misses tokens that a tier has.
    pub fn blame(&mut self, blame: Option<Blame>) {
        self.blame = blame;
    }

    /// Like [`Cache::start`], for a sequence that was started before and gave its pages up: neither counters nor policies
    /// take it for another request.
    pub fn resume(&mut self, keys: &Keys, limit: usize, now: u64) -> Lease {
        let mut path = std::mem::take(&mut self.scratch);
        self.find(keys, &mut path);
        let reach = self.reach(keys, &path, limit, now);
        let partial = reach.partial.map(|partial| Partial { counted: false, ..partial });
        let lease = self.lease(keys, &path[..reach.pages], partial);
        self.scratch = path;
        lease
    }

    /// Holds what is cached of a sequence against eviction, its half-matching page as well, for nobody who will compute: neither
    /// counters nor policies see it.
    pub fn hold(&mut self, keys: &Keys, now: u64) -> Lease {
        let mut path = std::mem::take(&mut self.scratch);
        self.find(keys, &mut path);
        let reach = self.reach(keys, &path, keys.tokens().len(), now);
        let partial = reach.partial.map(|partial| Partial { counted: false, ..partial });
        let lease = self.lease(keys, &path[..reach.pages], partial);
        self.scratch = path;
        lease
    }

    /// Tells the policies that a request which waits will ask for what is cached of this sequence, so that it goes last. Undo it
    /// with [`Cache::unexpect`]. On a tier below, that is what the tier has of it. `None` if nothing is cached.
    pub fn expect(&mut self, keys: &Keys, limit: usize, now: u64) -> Option<Expected> {
        let mut path = std::mem::take(&mut self.scratch);
        self.find(keys, &mut path);
        let pages = self.reach(keys, &path, limit, now).pages;
        let deepest = |at: usize| match self.tree.window(at) {
            Some(_) => None,
            None if at < self.groups() => path[..pages].last().copied(),
            None => path.iter().take_while(|&&node| self.tree.page(at, node).is_some()).last().copied(),
        };
        let expected = Expected((0..self.policies.len()).map(deepest).collect());
        self.scratch = path;
        if expected.0.iter().all(Option::is_none) {
            return None;
        }
        self.want(&expected, true);
        Some(expected)
    }

    /// The request does not wait any longer.
    pub fn unexpect(&mut self, expected: Expected) {
        self.want(&expected, false);
    }

    fn want(&mut self, expected: &Expected, wanted: bool) {
        for (at, (policy, node)) in self.policies.iter_mut().zip(&expected.0).enumerate() {
            if let Some(node) = *node {
                policy.want(self.tree.view(at), node, wanted);
            }
        }
    }

    /// Leading full pages that [`Cache::start`] would find.
    pub fn whole_pages(&self, keys: &Keys, limit: usize, now: u64) -> usize {
        let mut path = Vec::with_capacity(keys.pages());
        self.find(keys, &mut path);
        self.reach(keys, &path, limit, now).pages
    }

    /// Pages of each group that [`Cache::start`] would find and that are in use already, so that they cost no room.
    pub fn shared(&self, keys: &Keys, limit: usize, now: u64) -> Vec<usize> {
        let mut path = Vec::with_capacity(keys.pages());
        self.find(keys, &mut path);
        let pages = self.reach(keys, &path, limit, now).pages;
        let kept = |group: usize| {
            let from = self.tree.window(group).map_or(0, |window| pages.saturating_sub(window));
            path[from..pages].iter().filter(|&&node| self.tree.is_kept(group, node)).count()
        };
        (0..self.groups()).map(kept).collect()
    }

    /// The known nodes of a sequence's pages, shallow first.
    pub(super) fn find(&self, keys: &Keys, path: &mut Vec<NodeId>) {
        path.clear();
        let root = self.tree.find(&keys.root());
        let (mut probed, mut compared) = (1, 0);
        let mut parent = root;
        while let Some(above) = parent
            && path.len() < keys.pages()
        {
            let index = path.len();
            probed += 1;
            let node = keys.key(index).and_then(|key| self.tree.find(&key));
            compared += usize::from(node.is_some());
            // The token check: a key of other tokens or another parent is not this page.
            parent = node
                .filter(|&node| self.tree.parent(node) == Some(above) && self.tree.tokens(node) == keys.page(index));
            path.extend(parent);
        }
        self.probes.add(probed, compared);
    }

    /// The nodes of a sequence's pages: those already known, whose number is returned, then new ones, up to a key that is taken
    /// by other tokens.
    pub(super) fn walk(&mut self, keys: &Keys, path: &mut Vec<NodeId>) -> usize {
        self.find(keys, path);
        path.iter().for_each(|&node| self.tree.renew_ghost(node));
        let known = path.len();
        let mut parent = match path.last() {
            Some(&node) => node,
            None => self.tree.root(keys.root()),
        };
        for index in known..keys.pages() {
            let Some(key) = keys.key(index).filter(|key| self.tree.find(key).is_none()) else { break };
            parent = self.name_node(parent, key, keys.page(index), keys.mark(index));
            path.push(parent);
        }
        known
    }

    /// A new node for a page, which lasts no longer than what it is restored from.
    pub(super) fn name_node(&mut self, parent: NodeId, key: Key, page: &[u32], mark: Option<&Mark>) -> NodeId {
        let node = self.tree.add(parent, key, page);
        if let Some(mark) = mark {
            self.tree.mark(node, mark.elements);
            if let Some(source) = self.tree.find(&mark.source) {
                self.tree.expire_at(node, self.tree.expires(source));
            }
        }
        node
    }

    pub(super) fn reach(&self, keys: &Keys, known: &[NodeId], limit: usize, now: u64) -> Reach {
        let limit = limit.min(keys.tokens().len());
        let full = keys.full().len().min(known.len()).min(limit / self.page_tokens);
        let mut runs = vec![0; self.groups()];
        let mut pages = 0;
        'path: for (index, &node) in known[..full].iter().enumerate() {
            if self.tree.expires(node) <= now {
                break;
            }
            let mut served = true;
            for (group, run) in runs.iter_mut().enumerate() {
                let resident = self.tree.page(group, node).is_some();
                *run = if resident { *run + 1 } else { 0 };
                match self.tree.window(group) {
                    None if !resident => break 'path,
                    None => {}
                    Some(window) => served &= *run >= window.min(index + 1),
                }
            }
            if served {
                pages = index + 1;
            }
        }
        Reach { pages, partial: self.partial(keys, known[..pages].last().copied(), pages, limit, now) }
    }

    /// The child of the last matching page that has the longest beginning in common with what follows.
    fn partial(&self, keys: &Keys, last: Option<NodeId>, pages: usize, limit: usize, now: u64) -> Option<Partial> {
        let at = pages * self.page_tokens;
        let wanted = &keys.tokens()[at..limit.min(at + self.page_tokens).max(at)];
        if wanted.is_empty() {
            return None;
        }
        let parent = match last {
            Some(node) => node,
            None => self.tree.find(&keys.root())?,
        };
        let exact = keys.key(pages).and_then(|key| self.tree.find(&key));
        let candidates = exact.into_iter().chain(self.tree.children(parent).take(SIBLINGS));
        let page = keys.page(pages);
        let candidates: Vec<NodeId> = candidates.collect();
        self.probes.add(1, candidates.len());
        candidates
            .into_iter()
            .filter(|&node| self.tree.parent(node) == Some(parent) && self.tree.expires(node) > now)
            // The page that is begun with it would have the name of one that is computed.
            .filter(|&node| self.tree.mark_of(node).is_none())
            .filter(|&node| (0..self.groups()).all(|group| self.tree.page(group, node).is_some()))
            .map(|node| {
                let tokens = common(self.tree.tokens(node), wanted);
                let whole = tokens == page.len() && tokens == self.tree.tokens(node).len();
                Partial { node, tokens, whole, counted: true }
            })
            .filter(|partial| partial.tokens > 0)
            .reduce(|best, next| if next.tokens > best.tokens { next } else { best })
    }

    /// `known`: how many leading pages were known before the request, and how many got a node.
    pub(super) fn count_request(
        &mut self,
        keys: &Keys,
        path: &[NodeId],
        (known, named): (usize, usize),
        reach: &Reach,
        limit: usize,
        now: u64,
    ) {
        let copied = reach.partial.map_or(0, |partial| partial.tokens as u64);
        let (mut missed, blame) = (self.counters.missed, self.blame.take());
        let mut expired = false;
        for index in reach.pages..keys.pages() {
            let found = if index == reach.pages { copied } else { 0 };
            let (from, all) = (index * self.page_tokens + found as usize, keys.page(index).len() as u64 - found);
            let explained = |blame: Blame| blame.count(&mut missed, from..from + all as usize);
            let tokens = all - blame.clone().map_or(0, explained);
            match path.get(index) {
                _ if index >= named => missed.foreign += tokens,
                _ if index >= known => missed.cold += tokens,
                // Forgotten since the policies were told.
                None => missed.evicted += tokens,
                Some(&node) => {
                    expired |= self.tree.expires(node) <= now;
                    let last = index >= limit / self.page_tokens;
                    *self.reason(&mut missed, node, expired, last) += tokens;
                }
            }
        }
        let lossy_copy = reach.partial.is_some_and(|partial| self.tree.is_lossy(partial.node));
        let counters = &mut self.counters;
        counters.requests += 1;
        counters.pages += keys.pages() as u64;
        counters.hits += reach.pages as u64 + u64::from(reach.partial.is_some_and(|partial| partial.whole));
        counters.tokens += keys.tokens().len() as u64;
        counters.hit_tokens += (reach.pages * self.page_tokens) as u64 + copied;
        counters.copied_tokens += copied;
        let exact = keys.first_mark().unwrap_or(reach.pages).min(reach.pages);
        counters.lossy_tokens += ((reach.pages - exact) * self.page_tokens) as u64;
        counters.lossy_tokens += if lossy_copy { copied } else { 0 };
        counters.missed = missed;
    }

    /// Why a known page is not used: it is out of service, it is the last one, or what its groups say.
    fn reason<'a>(&self, missed: &'a mut Misses, node: NodeId, expired: bool, last: bool) -> &'a mut u64 {
        let mut absent = (0..self.groups()).filter(|&group| self.tree.page(group, node).is_none());
        if expired {
            &mut missed.expired
        } else if !self.tree.was_filled(node) {
            &mut missed.pending
        } else if absent.clone().any(|group| self.tree.window(group).is_none())
            || absent.clone().count() == self.groups()
        {
            &mut missed.evicted
        } else if last && absent.next().is_none() {
            &mut missed.last
        } else {
            &mut missed.window
        }
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
