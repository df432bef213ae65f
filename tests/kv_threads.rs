//! Eight threads on one cache: every page that a lease gives holds what belongs there, and nothing stays behind. Pages are
//! words here, each with a digest of the tokens up to it.
//!
//! `KVICK_SOAK=600 cargo test --release --no-default-features --features kv --test kv_threads` runs for ten minutes.
#[path = "common/rng.rs"]
#[allow(dead_code, reason = "a part is used")]
mod rng;
#[path = "common/soak.rs"]
mod soak;

use kvick::kv::cache::{PageCopy, SharedCache, SharedLease};
use kvick::kv::policy::Kind;
use kvick::kv::{Cache, Fingerprint, GroupConfig, Keys};
use rng::Rng;
use std::sync::atomic::{AtomicU32, Ordering};

const PAGE: usize = 4;
const WINDOW: usize = 9;
const THREADS: u64 = 8;

struct Device {
    cache: SharedCache,
    /// Per group, a word for each token of each page.
    words: Vec<Vec<AtomicU32>>,
}

struct Sequence {
    lease: SharedLease,
    keys: Keys,
}

fn digest(tokens: &[u32]) -> u32 {
    tokens.iter().fold(0x811c_9dc5, |hash, &token| (hash ^ token).wrapping_mul(0x0100_0193))
}

impl Device {
    fn new(groups: &[GroupConfig]) -> Self {
        let cache = Cache::new(Fingerprint::new([]), PAGE, groups, 500, || Kind::Kvick.build(groups[0].pages, None));
        let words = |group: &GroupConfig| (0..group.pages * PAGE).map(|_| AtomicU32::new(0)).collect();
        Device { cache: SharedCache::new(cache), words: groups.iter().map(words).collect() }
    }

    fn word(&self, group: usize, lease: &SharedLease, token: usize) -> &AtomicU32 {
        &self.words[group][lease.table(group)[token / PAGE] as usize * PAGE + token % PAGE]
    }

    fn copy(&self, copy: PageCopy) {
        for at in 0..copy.tokens {
            let [from, to] = [copy.from, copy.to].map(|page| &self.words[copy.group][page.index() * PAGE + at]);
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// What the next token would read.
    fn check(&self, s: &Sequence, seed: u64) {
        let filled = s.lease.filled();
        for (group, from) in [(0, 0), (1, (filled + 1).saturating_sub(WINDOW))] {
            for at in from..filled {
                // The beginning of a page that is still to be copied is not in the table.
                if at / PAGE >= s.lease.table(group).len() {
                    break;
                }
                let found = self.word(group, &s.lease, at).load(Ordering::Relaxed);
                assert_eq!(
                    found,
                    digest(&s.keys.tokens()[..=at]),
                    "seed {seed}, group {group}, token {at} of {filled}"
                );
            }
        }
    }

    /// Computes up to `n` more tokens if there is room.
    fn step(&self, s: &mut Sequence, n: usize, generated: u32, now: u64, seed: u64) {
        if s.lease.filled() == s.keys.tokens().len() {
            s.keys.extend(&[generated]);
        }
        let to = (s.lease.filled() + n).min(s.keys.tokens().len());
        if !self.cache.grow(&mut s.lease, to, |copy| self.copy(copy)) && !self.cache.forgo_partial(&mut s.lease) {
            return;
        }
        if s.lease.table(0).len() * PAGE < to {
            return;
        }
        self.check(s, seed);
        for group in 0..2 {
            for at in s.lease.filled()..to {
                self.word(group, &s.lease, at).store(digest(&s.keys.tokens()[..=at]), Ordering::Relaxed);
            }
        }
        self.cache.publish(&mut s.lease, &s.keys, to, now);
        self.cache.slide(&mut s.lease, to);
    }

    fn start(&self, rng: &mut Rng, now: u64, seed: u64) -> Sequence {
        let (text, len) = (rng.below(6) as u32, 1 + rng.below(24));
        let mut tokens: Vec<u32> = (0..len as u32).map(|at| at + 100 * text).collect();
        // Whole prompts, which are found without a change, and ones that go on in their own way.
        if rng.below(2) == 0 {
            tokens.truncate(len / PAGE * PAGE);
            tokens.resize(tokens.len().max(PAGE), 7);
        } else {
            tokens.extend((0..rng.below(5)).map(|_| rng.below(3) as u32));
        }
        let keys = self.cache.keys(&[rng.below(2) as u8], &tokens);
        let lease = self.cache.start(&keys, tokens.len(), now);
        let s = Sequence { lease, keys };
        self.check(&s, seed);
        s
    }

    /// One thread's life.
    fn soak(&self, seed: u64, clock: &soak::Clock) {
        let mut rng = Rng::new(seed);
        let mut live: Vec<Sequence> = Vec::new();
        while !clock.is_over() {
            let now = clock.millis();
            if live.is_empty() || (live.len() < 3 && rng.below(4) == 0) {
                live.push(self.start(&mut rng, now, seed));
            }
            let at = rng.below(live.len());
            match rng.below(40) {
                0..25 => self.step(&mut live[at], 1 + rng.below(9), rng.below(3) as u32, now, seed),
                25..30 => {
                    let s = live.swap_remove(at);
                    let computed = s.lease.filled();
                    self.cache.finish(s.lease, &s.keys, computed, now);
                }
                30..33 => self.cache.cancel(live.swap_remove(at).lease),
                33..36 => {
                    let Sequence { lease, keys } = &live[at];
                    let fork = Sequence { lease: self.cache.fork(lease), keys: keys.clone() };
                    live.push(fork);
                }
                36 => self.cache.with(|cache| cache.trim(rng.below(2), rng.below(20))),
                37 => {
                    self.cache.with(|cache| cache.invalidate_prefix(&live[at].keys));
                }
                38 if rng.below(20) == 0 => {
                    self.cache.with(|cache| cache.invalidate_salt(&[rng.below(2) as u8]));
                }
                39 if rng.below(20) == 0 => {
                    self.cache.with(Cache::invalidate_all);
                }
                _ => {}
            }
        }
        live.into_iter().for_each(|s| self.cache.cancel(s.lease));
    }
}

#[test]
fn eight_threads_on_one_cache_leave_nothing_behind() {
    let groups = [GroupConfig { pages: 160, window: None }, GroupConfig { pages: 120, window: Some(WINDOW) }];
    let device = Device::new(&groups);
    let clock = soak::Clock::start(3);
    std::thread::scope(|scope| {
        for seed in 1..=THREADS {
            let (device, clock) = (&device, &clock);
            scope.spawn(move || device.soak(seed, clock));
        }
        clock.watch_memory();
    });
    device.cache.with(|cache| {
        let counters = cache.counters();
        assert!(counters.hit_tokens > 1000 && counters.evicted > 100 && counters.forked_tokens > 100, "{counters:?}");
        for (group, config) in groups.iter().enumerate() {
            assert_eq!(cache.available(group), config.pages, "group {group}: pages are still held");
        }
        cache.invalidate_all();
        for (group, config) in groups.iter().enumerate() {
            assert_eq!((cache.free(group), cache.cached(group)), (config.pages, 0), "group {group}");
        }
    });
}
