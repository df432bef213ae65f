//! Finding the longest prefix that every group can serve.
use super::Cache;
use super::lease::{Lease, Partial};
use crate::kv::key::Keys;
use crate::kv::tree::NodeId;

/// Children looked at for the longest common part of a half-matching page, newest first.
const SIBLINGS: usize = 16;

/// How far a prompt is cached.
struct Reach {
    /// Full pages that every group can serve.
    pages: usize,
    /// A page of which the beginning can be copied.
    partial: Option<Partial>,
    /// Whether the copy is of the prompt's own last page, whole.
    whole_tail: bool,
}

impl Cache {
    /// Finds and pins the longest cached prefix of a sequence, at most `limit` tokens of it (an engine needs the logits of the
    /// last token, so it leaves out at least that one), and tells the policies of the request. `now` is in ms and never
    /// decreases. The lease holds pages until [`Cache::finish`] or [`Cache::cancel`].
    pub fn start(&mut self, keys: &Keys, limit: usize, now: u64) -> Lease {
        let mut path = std::mem::take(&mut self.scratch);
        path.clear();
        let known = self.walk(keys, &mut path);
        let reach = self.reach(keys, &path[..known], limit, now);
        self.count_request(keys, &reach, known);
        for (group, policy) in self.policies.iter_mut().enumerate() {
            let view = self.tree.view(group);
            match self.tree.window(group) {
                None => policy.visit(view, now, &path),
                Some(window) => {
                    policy.visit(view, now, &path[reach.pages.saturating_sub(window)..reach.pages]);
                }
            }
        }
        let lease = self.lease(keys, &path[..reach.pages], reach.partial);
        self.scratch = path;
        lease
    }

    /// The nodes of a sequence's pages: those already known, whose number is returned, then new ones.
    fn walk(&mut self, keys: &Keys, path: &mut Vec<NodeId>) -> usize {
        let mut parent = self.tree.root(keys.root());
        let mut known = None;
        for index in 0..keys.pages() {
            let Some(key) = keys.key(index) else { break };
            let node = match self.tree.find(&key) {
                // The token check: a key of other tokens or another parent is not this page.
                Some(node) if self.tree.parent(node) != Some(parent) || self.tree.tokens(node) != keys.page(index) => {
                    self.counters.foreign += 1;
                    break;
                }
                Some(node) => {
                    self.tree.renew_ghost(node);
                    node
                }
                None => {
                    known.get_or_insert(index);
                    self.tree.add(parent, key, keys.page(index))
                }
            };
            path.push(node);
            parent = node;
        }
        known.unwrap_or(path.len())
    }

    fn reach(&mut self, keys: &Keys, known: &[NodeId], limit: usize, now: u64) -> Reach {
        let limit = limit.min(keys.tokens().len());
        let full = keys.full().len().min(known.len()).min(limit / self.page_tokens);
        let mut runs = vec![0; self.tree.groups()];
        let mut pages = 0;
        'path: for (index, &node) in known[..full].iter().enumerate() {
            if self.tree.expires(node) <= now {
                self.counters.expired += 1;
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
            } else {
                self.counters.window += 1;
            }
        }
        let tail = if pages == keys.full().len() { known.get(pages).copied() } else { None };
        let partial = self.partial(keys, known[..pages].last().copied(), pages, limit, now);
        let whole_tail = tail.is_some() && partial.is_some_and(|partial| Some(partial.node) == tail);
        Reach { pages, partial, whole_tail }
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
        candidates
            .filter(|&node| self.tree.parent(node) == Some(parent) && self.tree.expires(node) > now)
            .filter(|&node| (0..self.tree.groups()).all(|group| self.tree.page(group, node).is_some()))
            .map(|node| Partial { node, tokens: common(self.tree.tokens(node), wanted) })
            .filter(|partial| partial.tokens > 0)
            .reduce(|best, next| if next.tokens > best.tokens { next } else { best })
    }

    fn count_request(&mut self, keys: &Keys, reach: &Reach, known: usize) {
        let (pages, copied) = (keys.pages() as u64, reach.partial.map_or(0, |partial| partial.tokens as u64));
        let hits = (reach.pages + usize::from(reach.whole_tail)) as u64;
        let counters = &mut self.counters;
        counters.requests += 1;
        counters.pages += pages;
        counters.hits += hits;
        counters.copied_tokens += copied;
        counters.hit_tokens += (reach.pages * self.page_tokens) as u64 + copied;
        counters.gone += known as u64 - hits.min(known as u64);
        counters.cold += pages - known as u64;
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
