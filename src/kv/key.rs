//! Names of pages: a BLAKE3 chain over token ids, rooted in what the pages were computed with and for whom.
//!
//! Invariants:
//! * `key(page) = keyed_hash(key(parent), ids)`, ids as little-endian u32: equal keys mean equal whole prefixes.
//! * `key(root) = keyed_hash(fingerprint, epoch, salt)`: pages of another model, page size, KV type or numerics, of another
//!   tenant or of an epoch before an invalidation have other keys everywhere, on every tier and every machine.
//! * A prompt is hashed once; tokens appended later cost only their own pages.
//! * A page restored from a quantised copy has a name that no computed page can have (`marks`), and so has every page
//!   computed on top of it.
use std::fmt;

mod marks;

pub use marks::{Elements, Mark};

/// The name of a page on every tier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The first 8 bytes: uniform, so good enough as a hash of the key.
    pub fn short(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// A key that stands for a number, for traces whose pages have numbers instead of tokens. Distinct ids give distinct
    /// keys, spread evenly.
    pub fn from_id(id: u64) -> Self {
        let mut bytes = [0; 32];
        let mixed = (id ^ (id >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes[..8].copy_from_slice(&(mixed ^ (mixed >> 29)).to_le_bytes());
        bytes[8..16].copy_from_slice(&id.to_le_bytes());
        Key(bytes)
    }

    /// The key of a page of these ids under this parent.
    pub fn child(&self, ids: &[u32]) -> Self {
        Key(*blake3::keyed_hash(&self.0, bytemuck::cast_slice(ids)).as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What makes pages interchangeable: two caches may share pages exactly if these are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of named properties (weights digest, RoPE, KV type, page size, groups, layout, numerics version), in order. Names and
    /// values are framed by their lengths, so no two lists collide.
    pub fn new<'a>(properties: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("kvick 2026 KV page fingerprint");
        for (name, value) in properties {
            for part in [name.as_bytes(), value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        Fingerprint(*hasher.finalize().as_bytes())
    }

    /// The key above the first pages of one tenant's prompts. An empty salt is the salt shared by all who name none.
    pub fn root(&self, salt: &[u8], epoch: u64) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&epoch.to_le_bytes());
        hasher.update(salt);
        Key(*hasher.finalize().as_bytes())
    }

    /// As read from a header of a tier.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Fingerprint(bytes)
    }

    /// As bytes, for headers of tiers.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", Key(self.0))
    }
}

/// The tokens of one sequence with the keys of their pages, kept up to date as tokens are appended.
#[derive(Clone, Debug)]
pub struct Keys {
    root: Key,
    page_tokens: usize,
    tokens: Vec<u32>,
    full: Vec<Key>,
    tail: Option<Key>,
    /// Full pages that are restored from quantised copies, by index.
    marks: Vec<(usize, Mark)>,
}

impl Keys {
    /// Hashes `tokens` in pages of `page_tokens` (at least 1) under `root`.
    pub fn new(root: Key, page_tokens: usize, tokens: &[u32]) -> Self {
        let page_tokens = page_tokens.max(1);
        let full = Vec::with_capacity(tokens.len() / page_tokens + 1);
        let mut keys = Keys { root, page_tokens, tokens: Vec::new(), full, tail: None, marks: Vec::new() };
        keys.extend(tokens);
        keys
    }

    /// For traces, whose pages have numbers instead of tokens: page i is named by `ids[i]`, and the last one is only partly
    /// filled if `partial`. Such a page has two tokens, both the id, so that a hit still compares something.
    pub fn from_ids(root: Key, ids: &[u32], partial: bool) -> Self {
        let mut tokens: Vec<u32> = ids.iter().flat_map(|&id| [id, id]).collect();
        let mut full: Vec<Key> = ids.iter().map(|&id| Key::from_id(id.into())).collect();
        let tail = if partial { full.pop() } else { None };
        if tail.is_some() {
            tokens.pop();
        }
        Keys { root, page_tokens: 2, tokens, full, tail, marks: Vec::new() }
    }

    /// Appends tokens, hashing each page that becomes full.
    pub fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.name_full();
    }

    fn name_full(&mut self) {
        while let Some(page) =
            self.tokens.get(self.full.len() * self.page_tokens..(self.full.len() + 1) * self.page_tokens)
        {
            let above = self.full.last().unwrap_or(&self.root);
            let key = match self.mark(self.full.len()) {
                Some(mark) => above.restored(mark),
                None => above.child(page),
            };
            self.full.push(key);
        }
        self.name_tail();
    }

    /// Leaves the first `tokens` tokens.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens.truncate(tokens);
        self.full.truncate(self.tokens.len() / self.page_tokens);
        self.marks.retain(|(page, _)| *page < self.full.len());
        self.name_tail();
    }

    fn name_tail(&mut self) {
        let tail = self.page(self.full.len());
        self.tail = (!tail.is_empty()).then(|| self.full.last().unwrap_or(&self.root).child(tail));
    }

    /// The key above the first page.
    pub fn root(&self) -> Key {
        self.root
    }

    /// Tokens of a full page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// All tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether the first `pages` pages are full in both sequences and hold the same tokens of the same tenant.
    pub fn begins_alike(&self, other: &Keys, pages: usize) -> bool {
        let tokens = pages * self.page_tokens;
        let (ours, others) = (self.tokens.get(..tokens), other.tokens.get(..tokens));
        self.root == other.root && ours.is_some() && ours == others
    }

    /// Keys of the full pages.
    pub fn full(&self) -> &[Key] {
        &self.full
    }

    /// The key of the last page, if it is only partly filled.
    pub fn tail(&self) -> Option<Key> {
        self.tail
    }

    /// Pages, the partly filled one included.
    pub fn pages(&self) -> usize {
        self.full.len() + usize::from(self.tail.is_some())
    }

    /// The key of page `index`.
    pub fn key(&self, index: usize) -> Option<Key> {
        self.full.get(index).copied().or(if index == self.full.len() { self.tail } else { None })
    }

    /// The key above page `index`, if the page before it is full.
    pub fn above(&self, index: usize) -> Key {
        index.checked_sub(1).and_then(|before| self.full.get(before)).copied().unwrap_or(self.root)
    }

    /// The key that the first `tokens` tokens of page `index` have as a page of their own.
    pub fn beginning(&self, index: usize, tokens: usize) -> Option<Key> {
        let page = self.page(index).get(..tokens)?;
        (index <= self.full.len()).then(|| self.above(index).child(page))
    }

    /// The key of the first `tokens` tokens of page `index`, which may be all of them.
    pub fn name(&self, index: usize, tokens: usize) -> Option<Key> {
        if tokens == self.page_tokens { self.key(index) } else { self.beginning(index, tokens) }
    }

    /// Tokens of page `index`: fewer than [`Keys::page_tokens`] in a partly filled one, none beyond the last.
    pub fn page(&self, index: usize) -> &[u32] {
        let start = (index * self.page_tokens).min(self.tokens.len());
        &self.tokens[start..(start + self.page_tokens).min(self.tokens.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(salt: &[u8], epoch: u64) -> Key {
        Fingerprint::new([("weights", b"abc".as_slice())]).root(salt, epoch)
    }

    #[test]
    fn appending_equals_hashing_at_once() {
        let tokens: Vec<u32> = (0..70).collect();
        let at_once = Keys::new(root(b"", 0), 16, &tokens);
        let mut grown = Keys::new(root(b"", 0), 16, &[]);
        for part in tokens.chunks(7) {
            grown.extend(part);
        }
        assert_eq!(at_once.full(), grown.full());
        assert_eq!(at_once.full().len(), 4);
        assert_eq!((at_once.tail(), at_once.pages()), (grown.tail(), 5));
        assert_eq!(at_once.key(4), at_once.tail());
        assert_eq!(at_once.page(4), &tokens[64..]);
        assert!(at_once.page(5).is_empty());
        for left in [70, 65, 64, 63, 16, 3, 0] {
            grown.truncate(left);
            let expected = Keys::new(root(b"", 0), 16, &tokens[..left]);
            assert_eq!((grown.full(), grown.tail()), (expected.full(), expected.tail()), "{left} tokens left");
        }
    }

    #[test]
    fn everything_before_a_page_is_in_its_key() {
        let key = |root: Key, tokens: &[u32]| *Keys::new(root, 2, tokens).full().last().unwrap();
        let reference = key(root(b"a", 0), &[1, 2, 3, 4]);
        assert_ne!(reference, key(root(b"a", 0), &[9, 2, 3, 4]), "an earlier token");
        assert_ne!(reference, key(root(b"b", 0), &[1, 2, 3, 4]), "the salt");
        assert_ne!(reference, key(root(b"a", 1), &[1, 2, 3, 4]), "the epoch");
        let other = Fingerprint::new([("weights", b"abd".as_slice())]).root(b"a", 0);
        assert_ne!(reference, key(other, &[1, 2, 3, 4]), "the fingerprint");
        assert_eq!(reference, key(root(b"a", 0), &[1, 2, 3, 4]));
    }

    #[test]
    fn properties_are_framed() {
        let one = Fingerprint::new([("ab", b"c".as_slice())]);
        assert_ne!(one, Fingerprint::new([("a", b"bc".as_slice())]));
        assert_ne!(one, Fingerprint::new([("ab", b"c".as_slice()), ("", b"")]));
    }
}
