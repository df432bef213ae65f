//! What a tier held when it was opened and no request has named since.
//!
//! A store lists keys, not tokens, and whose root a chain begins at is only known when its tenant comes back. So a record found
//! there gets its node in the tree when a request names it; until then it is known here, and the first to go when room is
//! needed: the oldest first, but pages before those that they hang on.
use super::super::{Half, Store};
use crate::kv::key::Key;
use std::collections::{HashMap, HashSet, VecDeque};

/// Pages, each whole, by key and group.
#[derive(Default)]
pub(super) struct Unclaimed {
    parents: HashMap<(Key, usize), Key>,
    children: HashMap<Key, HashSet<(Key, usize)>>,
    /// Oldest first; may name what is gone.
    order: VecDeque<(Key, usize)>,
    /// Records without their other half.
    pub orphans: Vec<super::RecordKey>,
}

impl Unclaimed {
    /// What the store lists, of which it has both halves or the only one that it keeps.
    pub fn of(store: &dyn Store, half: Option<Half>) -> Self {
        let listed = store.list().unwrap_or_else(|error| {
            tracing::warn!("what the {} tier held is not used: {error}", store.name());
            Vec::new()
        });
        let names: HashSet<super::RecordKey> = listed.iter().map(|item| item.name).collect();
        let mut out = Unclaimed::default();
        for item in listed {
            let (key, group) = (item.name.key, item.name.group as usize);
            if super::names_of(key, group)
                .iter()
                .all(|name| names.contains(name) || half.is_some_and(|h| h != name.half))
            {
                out.insert(key, group, item.parent);
            } else {
                out.orphans.push(item.name);
            }
        }
        out
    }

    fn insert(&mut self, key: Key, group: usize, parent: Key) {
        if self.parents.insert((key, group), parent).is_none() {
            self.children.entry(parent).or_default().insert((key, group));
            self.order.push_back((key, group));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// All of them.
    pub fn pages(&self) -> impl Iterator<Item = (&Key, usize)> {
        self.parents.keys().map(|(key, group)| (key, *group))
    }

    /// Takes one out; whether it was there.
    pub fn take(&mut self, key: &Key, group: usize) -> bool {
        let Some(parent) = self.parents.remove(&(*key, group)) else { return false };
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.remove(&(*key, group));
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
        true
    }

    /// Takes out the one that is worth least.
    pub fn evict(&mut self) -> Option<(Key, usize)> {
        let mut page = *self.order.front()?;
        while !self.parents.contains_key(&page) {
            self.order.pop_front();
            page = *self.order.front()?;
        }
        // What hangs on it goes first. A chain of keys has no circle; a damaged table could not make one of hashes.
        for _ in 0..self.parents.len() {
            let below = self.children.get(&page.0).and_then(|c| c.iter().find(|(_, group)| *group == page.1));
            match below {
                Some(child) => page = *child,
                None => break,
            }
        }
        self.take(&page.0, page.1);
        Some(page)
    }

    /// Takes out everything that hangs on a page or root.
    pub fn drop_below(&mut self, key: &Key) -> Vec<(Key, usize)> {
        let (mut out, mut at) = (Vec::new(), vec![*key]);
        while let Some(key) = at.pop() {
            for (key, group) in self.children.get(&key).cloned().unwrap_or_default() {
                self.take(&key, group);
                out.push((key, group));
                at.push(key);
            }
        }
        out
    }
}
