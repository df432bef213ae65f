//! Page tables of sequences over the groups' pools.
//!
//! Invariants: a table has an entry for each page of its tokens, [`GONE`] for those that left the window; growing gives
//! pages in all groups or in none.
use super::config::pages_for;
use crate::kv::pool::{PageId, Pool};

/// Entry of a page that left the window.
pub(super) const GONE: u32 = u32::MAX;

/// The pools of all groups.
#[derive(Debug)]
pub(super) struct Pages {
    page_tokens: usize,
    step_tokens: usize,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    pool: Pool,
    window: Option<usize>,
}

/// A sequence's pages.
#[derive(Debug, Default)]
pub(super) struct Tables(Vec<Table>);

#[derive(Clone, Debug, Default)]
struct Table {
    pages: Vec<u32>,
    /// Entries at the front that are [`GONE`].
    gone: usize,
}

impl Tables {
    /// Physical pages of group `g`.
    pub fn group(&self, g: usize) -> &[u32] {
        self.0.get(g).map_or(&[], |t| &t.pages)
    }
}

impl Table {
    fn held(&self) -> usize {
        self.pages.len() - self.gone
    }
}

impl Pages {
    /// `groups`: pages and window of each.
    pub fn new(
        page_tokens: usize,
        step_tokens: usize,
        groups: impl IntoIterator<Item = (usize, Option<usize>)>,
    ) -> Self {
        let group = |(pages, window)| Group { pool: Pool::new(pages), window };
        Pages { page_tokens, step_tokens, groups: groups.into_iter().map(group).collect() }
    }

    /// Tokens of a page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Tokens of the longest sequence that fits alone.
    pub fn capacity(&self) -> usize {
        let full = self.groups.iter().filter(|g| g.pool.pages() < self.peak(g, usize::MAX / 2));
        full.map(|g| g.pool.pages() * self.page_tokens).min().unwrap_or(usize::MAX)
    }

    /// Free pages of each group.
    pub fn free(&self) -> Vec<usize> {
        self.groups.iter().map(|g| g.pool.free()).collect()
    }

    fn peak(&self, group: &Group, len: usize) -> usize {
        pages_for(group.window, self.page_tokens, self.step_tokens, len)
    }

    /// Pages of each group that a sequence of `len` tokens will still take.
    pub fn outstanding(&self, tables: &Tables, len: usize) -> Vec<usize> {
        let held = |g: usize| tables.0.get(g).map_or(0, Table::held);
        self.groups.iter().enumerate().map(|(g, group)| self.peak(group, len).saturating_sub(held(g))).collect()
    }

    /// Frees what left the window of the next token (at position `computed`), then makes room for tokens up to `end`.
    /// False, and nothing taken, if a group has too few free pages.
    pub fn grow(&mut self, tables: &mut Tables, computed: usize, end: usize) -> bool {
        tables.0.resize_with(self.groups.len(), Table::default);
        let wanted = end.div_ceil(self.page_tokens);
        for (group, table) in self.groups.iter_mut().zip(&mut tables.0) {
            let first = group.window.map_or(0, |w| (computed + 1).saturating_sub(w) / self.page_tokens);
            for entry in table.pages.iter_mut().take(first).skip(table.gone) {
                release(&mut group.pool, *entry);
                *entry = GONE;
            }
            table.gone = table.gone.max(first.min(table.pages.len()));
        }
        let mut all = self.groups.iter().zip(&tables.0);
        if !all.all(|(group, table)| wanted.saturating_sub(table.pages.len()) <= group.pool.free()) {
            return false;
        }
        for (group, table) in self.groups.iter_mut().zip(&mut tables.0) {
            let pages = group.pool.alloc(wanted.saturating_sub(table.pages.len())).unwrap_or_default();
            table.pages.extend(pages.into_iter().map(|p| p.0));
        }
        true
    }

    /// Gives all pages back.
    pub fn release(&mut self, tables: &mut Tables) {
        for (group, table) in self.groups.iter_mut().zip(&mut tables.0) {
            table.pages.drain(..).skip(table.gone).for_each(|page| release(&mut group.pool, page));
            table.gone = 0;
        }
    }
}

fn release(pool: &mut Pool, page: u32) {
    let released = pool.release(PageId(page));
    debug_assert_eq!(released, Ok(true), "a page of a table has one holder");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_pages_back_and_all_groups_grow_or_none() {
        let mut pages = Pages::new(8, 8, [(6, None), (4, Some(10))]);
        let mut tables = Tables::default();
        assert!(pages.grow(&mut tables, 0, 16));
        assert_eq!((tables.group(0).len(), tables.group(1).len(), pages.free()), (2, 2, vec![4, 2]));
        // Position 17 sees 8..=17: page 0 of the window group is gone.
        assert!(pages.grow(&mut tables, 17, 18));
        assert_eq!((tables.group(1)[0], pages.free()), (GONE, vec![3, 2]));
        assert!(!pages.grow(&mut tables, 17, 49), "the full group has 6 pages");
        assert_eq!(pages.free(), [3, 2]);
        assert!(pages.grow(&mut tables, 40, 48));
        let gone: Vec<bool> = tables.group(1).iter().map(|&p| p == GONE).collect();
        assert_eq!((gone, pages.free()), (vec![true, true, true, false, false, false], vec![0, 1]));
        pages.release(&mut tables);
        assert_eq!((pages.free(), tables.group(0).len()), (vec![6, 4], 0));
        assert!(pages.grow(&mut tables, 0, 9));
        assert_eq!(pages.free(), [4, 2]);
    }

    #[test]
    fn capacity_is_that_of_the_scarcest_group() {
        assert_eq!(Pages::new(8, 8, [(6, None), (4, Some(10))]).capacity(), 48);
        assert_eq!(Pages::new(8, 8, [(6, None), (3, Some(10))]).capacity(), 24);
        assert_eq!(Pages::new(8, 8, [(4, Some(10))]).capacity(), usize::MAX);
    }
}
