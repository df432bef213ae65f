//! Doubly linked lists of small ids, several over one table of links. All operations are O(1).
//!
//! Invariant: an id is in at most one list of a [`Links`].

const NONE: u32 = u32::MAX;

/// Links of ids `0..`; grows as ids appear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    links: Vec<(u32, u32)>,
}

/// One list: oldest at the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    front: u32,
    back: u32,
    len: usize,
}

impl Default for List {
    fn default() -> Self {
        List { front: NONE, back: NONE, len: 0 }
    }
}

impl List {
    pub(crate) fn front(&self) -> Option<u32> {
        (self.front != NONE).then_some(self.front)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back(&mut self, links: &mut Links, id: u32) {
        links.reach(id);
        links.links[id as usize] = (self.back, NONE);
        match self.back {
            NONE => self.front = id,
            back => links.links[back as usize].1 = id,
        }
        self.back = id;
        self.len += 1;
    }

    pub(crate) fn push_front(&mut self, links: &mut Links, id: u32) {
        links.reach(id);
        links.links[id as usize] = (NONE, self.front);
        match self.front {
            NONE => self.back = id,
            front => links.links[front as usize].0 = id,
        }
        self.front = id;
        self.len += 1;
    }

    /// Inserts `id` before `at`, which is in this list.
    pub(crate) fn insert_before(&mut self, links: &mut Links, at: u32, id: u32) {
        links.reach(id);
        let previous = std::mem::replace(&mut links.links[at as usize].0, id);
        links.links[id as usize] = (previous, at);
        match previous {
            NONE => self.front = id,
            p => links.links[p as usize].1 = id,
        }
        self.len += 1;
    }

    /// Removes an id that is in this list.
    pub(crate) fn remove(&mut self, links: &mut Links, id: u32) {
        let (previous, next) = links.links[id as usize];
        match previous {
            NONE => self.front = next,
            p => links.links[p as usize].1 = next,
        }
        match next {
            NONE => self.back = previous,
            n => links.links[n as usize].0 = previous,
        }
        self.len -= 1;
    }

    /// From the oldest on.
    pub(crate) fn iter<'a>(&self, links: &'a Links) -> impl Iterator<Item = u32> + use<'a> {
        std::iter::successors(self.front(), |&id| {
            let next = links.links[id as usize].1;
            (next != NONE).then_some(next)
        })
    }
}

impl Links {
    fn reach(&mut self, id: u32) {
        if self.links.len() <= id as usize {
            self.links.resize(id as usize + 1, (NONE, NONE));
        }
    }
}
