//! The pages of one group: which are free, and how often each of the others is referenced.
//!
//! Invariants:
//! * A page is free exactly when its count is 0, and exactly then it is in the free list.
//! * The free list is doubly linked through the page table itself, so allocating, freeing and taking a named page out of the
//!   middle are O(1) and allocate nothing.
//! * The page freed last is handed out first: its lines are the likeliest to be in the device's L2.
use std::fmt;

/// A physical page of one group, below [`Pool::pages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

impl PageId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

/// A use of a page that its count forbids: a bug of the caller, and the pool is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The page is free.
    #[error("{0} is free and can be neither retained nor released; retain a page before its last holder releases it")]
    Free(PageId),
    /// The page is not free.
    #[error("{0} is in use and cannot be claimed; release it first")]
    InUse(PageId),
    /// There is no such page.
    #[error("{0} does not exist, the pool has {1} pages; use ids that this pool handed out")]
    OutOfRange(PageId, usize),
}

const NONE: u32 = u32::MAX;

/// Links are meaningful while the page is free, the count while it is not.
#[derive(Clone, Copy, Debug)]
struct Slot {
    count: u32,
    previous: u32,
    next: u32,
}

/// The reference counts and the free list of one group's pages.
#[derive(Clone, Debug)]
pub struct Pool {
    slots: Vec<Slot>,
    head: u32,
    free: usize,
}

impl Pool {
    /// A pool of `pages` free pages, handed out from page 0 up. At most `u32::MAX - 1` pages; more are not used.
    pub fn new(pages: usize) -> Self {
        let pages = pages.min(NONE as usize - 1) as u32;
        let slot = |page: u32| Slot {
            count: 0,
            previous: page.checked_sub(1).unwrap_or(NONE),
            next: if page + 1 < pages { page + 1 } else { NONE },
        };
        Pool { slots: (0..pages).map(slot).collect(), head: if pages == 0 { NONE } else { 0 }, free: pages as usize }
    }

    /// Pages in all.
    pub fn pages(&self) -> usize {
        self.slots.len()
    }

    /// Free pages.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Holders of a page, 0 for a free one or one that does not exist.
    pub fn count(&self, page: PageId) -> u32 {
        self.slots.get(page.index()).map_or(0, |slot| slot.count)
    }

    /// `n` pages, each with one holder, or `None` and no change if fewer are free.
    pub fn alloc(&mut self, n: usize) -> Option<Vec<PageId>> {
        let mut pages = Vec::with_capacity(n.min(self.free));
        self.alloc_into(n, &mut pages).then_some(pages)
    }

    /// Like [`Pool::alloc`], appending to `pages`; false and no change if fewer are free.
    pub fn alloc_into(&mut self, n: usize, pages: &mut Vec<PageId>) -> bool {
        if n > self.free {
            return false;
        }
        pages.reserve(n);
        for _ in 0..n {
            let page = self.head;
            let slot = &mut self.slots[page as usize];
            self.head = slot.next;
            slot.count = 1;
            pages.push(PageId(page));
        }
        if self.head != NONE {
            self.slots[self.head as usize].previous = NONE;
        }
        self.free -= n;
        true
    }

    /// Takes this very page out of the free list, with one holder.
    pub fn claim(&mut self, page: PageId) -> Result<(), PoolError> {
        if self.slot(page)?.count != 0 {
            return Err(PoolError::InUse(page));
        }
        let Slot { previous, next, .. } = self.slots[page.index()];
        match previous {
            NONE => self.head = next,
            p => self.slots[p as usize].next = next,
        }
        if next != NONE {
            self.slots[next as usize].previous = previous;
        }
        self.slots[page.index()].count = 1;
        self.free -= 1;
        Ok(())
    }

    /// One more holder of a page in use.
    pub fn retain(&mut self, page: PageId) -> Result<(), PoolError> {
        match self.slot(page)?.count {
            0 => Err(PoolError::Free(page)),
            _ => {
                self.slots[page.index()].count += 1;
                Ok(())
            }
        }
    }

    /// One holder less; true if it was the last and the page is free now.
    pub fn release(&mut self, page: PageId) -> Result<bool, PoolError> {
        match self.slot(page)?.count {
            0 => Err(PoolError::Free(page)),
            1 => {
                self.slots[page.index()] = Slot { count: 0, previous: NONE, next: self.head };
                if self.head != NONE {
                    self.slots[self.head as usize].previous = page.0;
                }
                self.head = page.0;
                self.free += 1;
                Ok(true)
            }
            _ => {
                self.slots[page.index()].count -= 1;
                Ok(false)
            }
        }
    }

    fn slot(&self, page: PageId) -> Result<&Slot, PoolError> {
        self.slots.get(page.index()).ok_or(PoolError::OutOfRange(page, self.slots.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    impl Pool {
        /// The free list from its head, checked against the links backwards and the count.
        fn free_list(&self) -> Vec<u32> {
            let (mut list, mut previous, mut page) = (Vec::new(), NONE, self.head);
            while page != NONE {
                let slot = self.slots[page as usize];
                assert_eq!((slot.count, slot.previous), (0, previous), "page {page}");
                list.push(page);
                (previous, page) = (page, slot.next);
            }
            assert_eq!(list.len(), self.free);
            list
        }
    }

    #[test]
    fn edges() {
        let mut empty = Pool::new(0);
        assert_eq!(empty.alloc(1), None);
        assert_eq!(empty.alloc(0), Some(vec![]));
        assert_eq!(empty.retain(PageId(0)), Err(PoolError::OutOfRange(PageId(0), 0)));

        let mut pool = Pool::new(3);
        let pages = pool.alloc(2).unwrap();
        assert_eq!(pages, [PageId(0), PageId(1)]);
        assert_eq!(pool.alloc(2), None, "all or nothing");
        assert_eq!(pool.free(), 1);
        assert_eq!(pool.claim(PageId(0)), Err(PoolError::InUse(PageId(0))));
        assert_eq!(pool.release(PageId(2)), Err(PoolError::Free(PageId(2))));
        assert_eq!(pool.retain(PageId(2)), Err(PoolError::Free(PageId(2))));
        assert_eq!(pool.release(PageId(1)), Ok(true));
        assert_eq!(pool.alloc(1).unwrap(), [PageId(1)], "the page freed last comes first");
    }

    #[derive(Clone, Debug)]
    enum Call {
        Alloc(usize),
        Claim(u32),
        Retain(u32),
        Release(u32),
    }

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let page = || 0..12u32;
        prop::collection::vec(
            prop_oneof![
                1 => (0..5usize).prop_map(Call::Alloc),
                1 => page().prop_map(Call::Claim),
                1 => page().prop_map(Call::Retain),
                3 => page().prop_map(Call::Release),
            ],
            0..200,
        )
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_counts(calls in calls()) {
            let mut pool = Pool::new(10);
            let mut model: HashMap<u32, u32> = (0..10).map(|page| (page, 0)).collect();
            for call in calls {
                match call {
                    Call::Alloc(n) => {
                        let free = model.values().filter(|&&count| count == 0).count();
                        let pages = pool.alloc(n);
                        prop_assert_eq!(pages.is_some(), n <= free);
                        for page in pages.into_iter().flatten() {
                            prop_assert_eq!(model.insert(page.0, 1), Some(0));
                        }
                    }
                    Call::Claim(page) => {
                        let ok = model.get(&page) == Some(&0);
                        prop_assert_eq!(pool.claim(PageId(page)).is_ok(), ok);
                        if ok { model.insert(page, 1); }
                    }
                    Call::Retain(page) => {
                        let ok = model.get(&page).is_some_and(|&count| count > 0);
                        prop_assert_eq!(pool.retain(PageId(page)).is_ok(), ok);
                        if ok { *model.get_mut(&page).unwrap() += 1; }
                    }
                    Call::Release(page) => {
                        let before = model.get(&page).copied().unwrap_or(0);
                        let freed = pool.release(PageId(page));
                        prop_assert_eq!(freed.is_ok(), before > 0);
                        if before > 0 {
                            prop_assert_eq!(freed, Ok(before == 1));
                            model.insert(page, before - 1);
                        }
                    }
                }
                let mut free = pool.free_list();
                free.sort_unstable();
                let mut expected: Vec<u32> = model.iter().filter(|(_, count)| **count == 0).map(|(&page, _)| page).collect();
                expected.sort_unstable();
                prop_assert_eq!(free, expected);
            }
        }
    }
}
