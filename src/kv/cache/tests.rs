//! The cache against a model device whose pages hold, for each token, a digest of the whole prefix: reading any other page
//! than the right one shows.
use super::*;
use crate::kv::policy::Kind;

mod random;
mod weights;

const PAGE: usize = 4;
const WINDOW: usize = 9;

fn digest(tokens: &[u32]) -> u32 {
    tokens.iter().fold(0x811c_9dc5, |hash, &token| (hash ^ token).wrapping_mul(0x0100_0193))
}

struct Sequence {
    lease: Lease,
    keys: Keys,
}

/// A cache, what its pages hold, and the sequences that use it.
struct World {
    cache: Cache,
    pages: Vec<Vec<[u32; PAGE]>>,
    live: Vec<Sequence>,
    now: u64,
}

impl World {
    fn new(kind: Kind, groups: &[GroupConfig], ghosts: usize) -> Self {
        let fingerprint = Fingerprint::new([("test", b"1".as_slice())]);
        World {
            cache: Cache::new(fingerprint, PAGE, groups, ghosts, || kind.build(groups[0].pages, None)),
            pages: groups.iter().map(|group| vec![[0; PAGE]; group.pages]).collect(),
            live: Vec::new(),
            now: 0,
        }
    }

    fn start(&mut self, salt: &[u8], tokens: &[u32]) -> usize {
        self.now += 700;
        let keys = self.cache.keys(salt, tokens);
        let lease = self.cache.start(&keys, tokens.len().saturating_sub(1), self.now);
        self.live.push(Sequence { lease, keys });
        self.live.last().unwrap().lease.filled()
    }

    /// Computes up to `n` more tokens; generates when the prompt is done. False if there is no room.
    fn step(&mut self, which: usize, n: usize, generated: u32) -> bool {
        let Sequence { lease, keys } = &mut self.live[which];
        if lease.filled() == keys.tokens().len() {
            keys.extend(&[generated]);
        }
        let (from, to) = (lease.filled(), (lease.filled() + n).min(keys.tokens().len()));
        let available: Vec<usize> = (0..self.pages.len()).map(|group| self.cache.available(group)).collect();
        if !self.cache.grow(lease, to) {
            let wanted = |group: usize| to.div_ceil(PAGE).saturating_sub(lease.table(group).len()) + 1;
            assert!((0..self.pages.len()).any(|group| wanted(group) > available[group]), "refused with {available:?}");
            return false;
        }
        for PageCopy { group, from, to, tokens } in lease.take_copies() {
            let source = self.pages[group][from.index()];
            self.pages[group][to.index()][..tokens].copy_from_slice(&source[..tokens]);
        }
        for group in 0..self.pages.len() {
            for at in from..to {
                let page = lease.table(group)[at / PAGE];
                self.pages[group][page as usize][at % PAGE] = digest(&keys.tokens()[..=at]);
            }
        }
        self.check(which, to);
        let Sequence { lease, keys } = &mut self.live[which];
        self.cache.publish(lease, keys, to, self.now);
        self.cache.slide(lease, to);
        true
    }

    /// What attention at the last of the first `filled` tokens would read is what belongs there.
    fn check(&self, which: usize, filled: usize) {
        let Sequence { lease, keys } = &self.live[which];
        for group in 0..self.pages.len() {
            let first = match self.cache.tree.window(group) {
                None => 0,
                Some(_) => lease.filled().saturating_sub(WINDOW - 1),
            };
            for at in first..filled {
                let page = lease.table(group)[at / PAGE] as usize;
                let found = self.pages[group][page][at % PAGE];
                assert_eq!(found, digest(&keys.tokens()[..=at]), "group {group}, token {at} of {filled}, page {page}");
            }
        }
    }

    fn finish(&mut self, which: usize) {
        let Sequence { lease, keys } = self.live.swap_remove(which);
        let computed = lease.filled();
        self.cache.finish(lease, &keys, computed, self.now);
    }

    fn fork(&mut self, which: usize) {
        let Sequence { lease, keys } = &self.live[which];
        let (lease, keys) = (self.cache.fork(lease), keys.clone());
        self.live.push(Sequence { lease, keys });
    }

    /// Everything is given back: pages are cached or free, and all can be freed.
    fn close(mut self) {
        while let Some(Sequence { lease, .. }) = self.live.pop() {
            self.cache.cancel(lease);
        }
        for group in 0..self.pages.len() {
            assert_eq!(self.cache.free(group) + self.cache.cached(group), self.cache.pages(group), "leaked");
            self.cache.trim(group, 0);
            assert_eq!(self.cache.free(group), self.cache.pages(group), "cannot be evicted");
        }
    }

    fn run(&mut self, tokens: &[u32]) -> usize {
        let hit = self.start(b"", tokens);
        while self.live.last().unwrap().lease.filled() < tokens.len() {
            assert!(self.step(self.live.len() - 1, 5, 0));
        }
        self.finish(self.live.len() - 1);
        hit
    }
}

fn full(pages: usize) -> GroupConfig {
    GroupConfig { pages, window: None }
}

fn windowed(pages: usize) -> GroupConfig {
    GroupConfig { pages, window: Some(WINDOW) }
}

#[test]
fn finds_pages_and_the_beginning_of_a_page() {
    let mut world = World::new(Kind::Kvick, &[full(32)], 100);
    let prompt: Vec<u32> = (0..18).collect();
    assert_eq!(world.run(&prompt), 0);
    assert_eq!(world.run(&prompt), 17, "all but the token whose logits are wanted");
    let mut other = prompt.clone();
    other[10] = 99;
    assert_eq!(world.run(&other), 10, "two pages and two tokens of the third");
    let mut longer = prompt.clone();
    longer.extend([7, 8, 9]);
    assert_eq!(world.run(&longer), 18, "the partly filled last page, too");
    let counters = world.cache.counters();
    assert_eq!((counters.requests, counters.hit_tokens), (4, 17 + 10 + 18));
    assert_eq!(counters.missed, Misses { cold: 18 + 8 + 3, last: 1, ..Misses::default() });
    world.close();
}

#[test]
fn salts_do_not_share() {
    let mut world = World::new(Kind::Kvick, &[full(32)], 100);
    let prompt: Vec<u32> = (0..16).collect();
    world.run(&prompt);
    assert_eq!(world.start(b"tenant", &prompt), 0);
    assert_eq!(world.start(b"", &prompt), 15);
    world.close();
}

#[test]
fn a_windowed_group_needs_only_its_window() {
    let mut world = World::new(Kind::Kvick, &[full(32), windowed(8)], 100);
    let prompt: Vec<u32> = (0..40).collect();
    world.run(&prompt);
    assert!(world.cache.cached(1) <= 8);
    let mut next = prompt.clone();
    next.extend(50..60);
    assert_eq!(world.start(b"", &next), 40, "ten pages of the full group, two of the windowed one");
    let table = world.live[0].lease.table(1);
    assert_eq!(table.iter().filter(|&&page| page != u32::MAX).count(), 2, "{table:?}");
    world.close();
}

#[test]
fn pinned_pages_stay_and_room_is_refused() {
    let mut world = World::new(Kind::Lru, &[full(4)], 100);
    world.start(b"", &[1; 12]);
    assert!(world.step(0, 12, 0));
    world.start(b"", &[2; 12]);
    assert!(!world.step(1, 12, 0), "three pages are in use, one is free");
    assert_eq!(world.cache.free(0), 1);
    assert!(world.step(1, 4, 0));
    world.finish(0);
    assert!(world.step(0, 8, 0), "evicts what is not in use any more");
    assert_eq!(world.cache.counters().evicted, 2);
    world.close();
}

#[test]
fn what_a_waiting_request_will_ask_for_goes_last() {
    let (a, b, c): (Vec<u32>, Vec<u32>, Vec<u32>) = ((0..16).collect(), (50..66).collect(), (80..96).collect());
    for wait in [false, true] {
        let mut world = World::new(Kind::Kvick, &[full(8)], 100);
        world.run(&a);
        world.run(&b);
        let keys = world.cache.keys(b"", &a);
        let expected = wait.then(|| world.cache.expect(&keys, 15, world.now).expect("is cached"));
        world.run(&c);
        let cached = |world: &mut World, tokens: &[u32]| {
            let lease = world.cache.hold(&world.cache.keys(b"", tokens), world.now);
            let found = lease.filled();
            world.cache.cancel(lease);
            found
        };
        assert_eq!((cached(&mut world, &a) > 0, cached(&mut world, &b) > 0), (wait, !wait), "waiting: {wait}");
        if let Some(expected) = expected {
            world.cache.unexpect(expected.clone());
            world.cache.unexpect(expected);
        }
        assert_eq!(world.cache.expect(&world.cache.keys(b"x", &a), 15, world.now), None, "nothing is cached there");
        world.close();
    }
}

#[test]
fn two_that_compute_the_same_keep_one_copy() {
    let mut world = World::new(Kind::Kvick, &[full(16)], 100);
    for _ in 0..2 {
        assert_eq!(world.start(b"", &[5; 8]), 0);
    }
    assert!(world.step(0, 8, 0) && world.step(1, 8, 0));
    assert_eq!(world.live[0].lease.table(0), world.live[1].lease.table(0));
    assert_eq!((world.cache.free(0), world.cache.counters().duplicates), (14, 2));
    world.close();
}

#[test]
fn what_is_invalid_is_not_found() {
    let mut world = World::new(Kind::Kvick, &[full(32), windowed(16)], 100);
    let (a, b): (Vec<u32>, Vec<u32>) = ((0..16).collect(), (50..66).collect());
    world.run(&a);
    world.run(&b);
    let prefix = world.cache.keys(b"", &a[..8]);
    assert_eq!(world.cache.invalidate_prefix(&prefix), 6, "pages 1 to 3 of both groups");
    assert_eq!((world.run(&a), world.run(&b)), (4, 15));
    assert_eq!(world.run(&a), 15, "computed and published anew");

    world.start(b"", &a);
    let time = world.now + 1000;
    world.cache.expire_at(&world.live[0].lease, time);
    assert_eq!(world.start(b"", &a), 15);
    world.now = time;
    assert_eq!(world.start(b"", &a), 0);
    assert!(world.cache.counters().missed.expired > 0);

    let before = world.cache.counters().hit_tokens;
    assert!(world.cache.invalidate_all() > 0);
    assert_eq!((world.start(b"", &a), world.start(b"", &b)), (0, 0));
    world.finish(world.live.len() - 1);
    assert_eq!(world.cache.counters().hit_tokens, before);
    world.run(&b);

    let mut next = World::new(Kind::Kvick, &[full(32), windowed(16)], 100);
    assert_ne!(next.cache.root(b""), world.cache.root(b""), "what was invalidated is served after a restart");
    next.cache.set_epoch(world.cache.latest_epoch());
    assert_eq!(next.cache.root(b""), world.cache.root(b""));

    let old = world.cache.root(b"");
    world.cache.invalidate_salt(b"");
    assert_ne!(world.cache.root(b""), old);
    assert_eq!(world.start(b"", &b), 0);
    world.close();
}

#[test]
fn what_was_computed_before_an_invalidation_is_not_published_after_it() {
    let invalidate: [fn(&mut Cache, &[u32]) -> usize; 3] = [
        |cache, tokens| cache.invalidate_prefix(&cache.keys(b"", tokens)),
        |cache, _| cache.invalidate_salt(b""),
        |cache, _| cache.invalidate_all(),
    ];
    for (which, invalidate) in invalidate.into_iter().enumerate() {
        let mut world = World::new(Kind::Kvick, &[full(32)], 100);
        let prompt: Vec<u32> = (0..14).collect();
        world.start(b"", &prompt);
        assert!(world.step(0, 7, 0));
        assert_eq!(invalidate(&mut world.cache, &prompt[..8]), 0, "its pages are in use or not published");
        assert!(world.step(0, 7, 0));
        world.fork(0);
        world.finish(1);
        world.finish(0);
        assert_eq!(
            (world.start(b"", &prompt), world.cache.available(0)),
            (if which == 0 { 4 } else { 0 }, 31 + usize::from(which > 0))
        );
        world.close();
    }
}

#[test]
fn misses_have_reasons() {
    let mut world = World::new(Kind::Lru, &[full(4)], 100);
    world.run(&[1; 16]);
    world.run(&[2; 16]);
    world.run(&[1; 16]);
    let counters = world.cache.counters();
    assert_eq!((counters.missed.cold, counters.missed.evicted, counters.hit_tokens), (32, 16, 0), "{counters:?}");
    world.start(b"", &[2; 16]);
    world.start(b"", &[3; 16]);
    world.start(b"", &[3; 16]);
    let counters = world.cache.counters();
    assert_eq!((counters.missed.cold, counters.missed.evicted, counters.missed.pending), (48, 32, 16), "{counters:?}");
    world.close();

    let mut world = World::new(Kind::Lru, &[full(32), windowed(5)], 100);
    world.run(&(0..40).collect::<Vec<_>>());
    let found = world.start(b"", &(0..16).chain(90..94).collect::<Vec<_>>());
    let missed = world.cache.counters().missed;
    assert_eq!((found, missed.window, missed.cold), (4, 12, 40 + 4), "its window is gone: {missed:?}");
    world.close();
}

#[test]
fn room_is_counted_without_what_is_in_use() {
    let mut world = World::new(Kind::Lru, &[full(8)], 100);
    world.run(&(0..16).collect::<Vec<_>>());
    assert_eq!((world.cache.free(0), world.cache.available(0)), (4, 8));
    let other: Vec<u32> = (0..8).chain(50..60).collect();
    assert_eq!(world.start(b"", &other), 8);
    assert_eq!(world.cache.available(0), 6, "two pages are in use, those below them can go");
    assert_eq!(world.cache.shared(&world.cache.keys(b"", &other), 17, world.now), [2]);
    assert!(world.cache.reserve(0, 6) && !world.cache.reserve(0, 7));
    world.close();
}

#[test]
fn the_beginning_of_a_page_is_given_up_for_want_of_room() {
    let mut world = World::new(Kind::Lru, &[full(4)], 100);
    world.run(&(0..16).collect::<Vec<_>>());
    assert_eq!(world.start(b"", &(0..16).collect::<Vec<_>>()), 15);
    assert!(!world.step(0, 1, 0), "the page that is copied from and its copy do not fit");
    assert!(world.cache.forgo_partial(&mut world.live[0].lease));
    assert!(!world.cache.forgo_partial(&mut world.live[0].lease));
    assert_eq!(world.live[0].lease.filled(), 12);
    assert!(world.step(0, 4, 0));
    let counters = world.cache.counters();
    assert_eq!((counters.hit_tokens, counters.copied_tokens, counters.hits), (12, 0, 3));
    assert_eq!(counters.missed, Misses { cold: 16, crowded: 3, last: 1, ..Misses::default() });
    world.close();
}

#[test]
fn a_resumed_sequence_finds_its_pages_and_counts_once() {
    let mut world = World::new(Kind::Kvick, &[full(16)], 100);
    let prompt: Vec<u32> = (0..16).collect();
    world.start(b"", &prompt);
    assert!(world.step(0, 9, 0));
    let Sequence { lease, keys } = world.live.pop().unwrap();
    world.cache.finish(lease, &keys, 9, world.now);
    let before = world.cache.counters();
    let lease = world.cache.resume(&keys, 15, world.now);
    assert_eq!(lease.filled(), 8, "whole pages");
    world.live.push(Sequence { lease, keys });
    assert!(world.step(0, 8, 0));
    assert_eq!(world.cache.counters(), before);
    let lease = world.cache.blank();
    world.live.push(Sequence { lease, keys: world.cache.keys(b"", &prompt) });
    assert!(world.step(1, 16, 0));
    assert_eq!(world.cache.counters(), Counters { duplicates: 4, ..before });
    world.close();
}
