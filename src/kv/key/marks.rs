//! Marks: the names of pages that are restored from quantised copies.
//!
//! Invariants:
//! * The name of a restored page says what it was restored from and how that was kept. So it stands for one content, and
//!   differs from the name of every computed page and of every page restored from something else.
//! * What is computed on top of it is named as a child of that name, so it differs from what is computed on exact pages.
use super::{Key, Keys};

/// The element types of a page's K and V, codes of the engine's.
pub type Elements = [u8; 2];

/// Where a restored page comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The page of which a copy was kept. Its name holds the page's tokens.
    pub source: Key,
    /// How the copy was kept.
    pub elements: Elements,
}

impl Key {
    /// The key of a page restored under this parent. No list of ids hashes to it: their bytes are a multiple of 4.
    pub fn restored(&self, mark: &Mark) -> Self {
        let mut from = [0; 34];
        from[..32].copy_from_slice(&mark.source.0);
        from[32..].copy_from_slice(&mark.elements);
        Key(*blake3::keyed_hash(&self.0, &from).as_bytes())
    }
}

impl Keys {
    /// What page `index` is restored from, if it is.
    pub fn mark(&self, index: usize) -> Option<&Mark> {
        let at = self.marks.binary_search_by_key(&index, |(page, _)| *page).ok()?;
        Some(&self.marks[at].1)
    }

    /// The first restored page. It and all after it are not what computing from scratch gives.
    pub fn first_mark(&self) -> Option<usize> {
        self.marks.first().map(|(page, _)| *page)
    }

    /// Whether page `index` is restored or follows on a restored one.
    pub fn is_lossy(&self, index: usize) -> bool {
        self.first_mark().is_some_and(|first| first <= index)
    }

    /// Names the full pages from `from` on as restored, as many as there are marks, and those after them as computed.
    pub fn restore(&mut self, from: usize, marks: impl IntoIterator<Item = Mark>) {
        let pages = (from..self.full.len()).zip(marks);
        let marks: Vec<_> = pages.collect();
        self.marks.retain(|(page, _)| *page < from);
        self.marks.extend(marks);
        self.full.truncate(from);
        self.name_full();
        self.name_tail();
    }

    /// Names all pages from `from` on as computed.
    pub fn compute_from(&mut self, from: usize) {
        if self.marks.last().is_some_and(|(page, _)| *page >= from) {
            self.restore(from, []);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ROOT: Key = Key([7; 32]);

    fn keys(tokens: usize) -> Keys {
        Keys::new(ROOT, 4, &(0..tokens as u32).collect::<Vec<_>>())
    }

    fn marked(from: usize, pages: usize, elements: Elements) -> Keys {
        let mut out = keys(23);
        let sources: Vec<Key> = out.full()[from..from + pages].to_vec();
        out.restore(from, sources.into_iter().map(|source| Mark { source, elements }));
        out
    }

    #[test]
    fn restored_pages_and_those_on_top_have_names_of_their_own() {
        let plain = keys(23);
        let mut seen: HashSet<Key> = (0..6).filter_map(|page| plain.key(page)).collect();
        for (from, pages, elements) in [(0, 5, [1, 1]), (0, 2, [1, 1]), (2, 2, [1, 1]), (2, 2, [1, 2]), (4, 1, [1, 1])]
        {
            let other = marked(from, pages, elements);
            for page in 0..6 {
                let key = other.key(page).unwrap();
                assert_eq!(key == plain.key(page).unwrap(), page < from, "page {page} of {from}+{pages}");
                assert_eq!(other.is_lossy(page), page >= from);
                assert_eq!(other.mark(page).is_some(), (from..from + pages).contains(&page));
                // Two ways share a name only as long as they are the same way.
                let same = page < from || (from, elements) == (0, [1, 1]) && page < pages;
                assert!(seen.insert(key) || same, "page {page} of {from}+{pages} has a name that is taken");
            }
        }
    }

    #[test]
    fn marks_last_through_growth_and_go_with_their_pages() {
        let mut grown = marked(1, 2, [3, 4]);
        let before = grown.clone();
        grown.extend(&[1, 2, 3]);
        assert_eq!(grown.full()[..5], before.full()[..5]);
        grown.truncate(23);
        assert_eq!((grown.full(), grown.tail()), (before.full(), before.tail()));
        grown.compute_from(2);
        assert_eq!((grown.full()[..2].to_vec(), grown.first_mark()), (before.full()[..2].to_vec(), Some(1)));
        assert_ne!(grown.full()[2], before.full()[2]);
        grown.truncate(5);
        assert_eq!(grown.first_mark(), None, "a page cut short is not restored");
        let mut plain = marked(0, 3, [3, 4]);
        plain.compute_from(0);
        assert_eq!((plain.full(), plain.tail()), (keys(23).full(), keys(23).tail()));
    }
}
