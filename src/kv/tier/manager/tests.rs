//! The manager over a cache whose pages hold, for each token, a digest of the whole prefix: reading any other page than the
//! right one shows. Copies are made as late as they may be, stores fail on purpose, time is a test's.
use super::*;
use crate::kv::cache::{GroupConfig, Lease, PageCopy};
use crate::kv::key::{Fingerprint, Keys};
use crate::kv::policy::Kind;
use crate::kv::tier::{HostStore, MemoryIo, MemoryPages, Store, VirtualClock};
use std::sync::Mutex;

const PAGE: usize = 4;
const WINDOW: usize = 9;
const HALF: usize = PAGE * 4;

fn digest(tokens: &[u32]) -> u32 {
    tokens.iter().fold(0x811c_9dc5, |hash, &token| (hash ^ token).wrapping_mul(0x0100_0193))
}

/// A cache, its pages and what is below.
struct World {
    cache: Cache,
    manager: Manager,
    memory: Arc<Mutex<MemoryPages>>,
    now: u64,
}

impl World {
    fn new(groups: &[GroupConfig], stores: Vec<Box<dyn Store>>, latency: u64) -> Self {
        let fingerprint = Fingerprint::new([("test", b"1".as_slice())]);
        let mut cache = Cache::new(fingerprint, PAGE, groups, 100, || Kind::Kvick.build(groups[0].pages, None));
        let group = |group: &GroupConfig| (0..group.pages).map(|_| [vec![0xee; HALF], vec![0xee; HALF]]).collect();
        let memory = Arc::new(Mutex::new(groups.iter().map(group).collect()));
        let io = MemoryIo::new(Arc::clone(&memory), latency, 4);
        let mut tiers = Tiers::new(fingerprint, None, Arc::new(VirtualClock::default()));
        stores.into_iter().for_each(|store| tiers.push(store));
        let config = ManagerConfig::new(vec![[(1, HALF); 2]; groups.len()]);
        let config = ManagerConfig { calls_in_poll: Some(1), batch: 2, piece: 1, copying: 3, ..config };
        let manager = Manager::new(&mut cache, Box::new(io), tiers, config).unwrap();
        World { cache, manager, memory, now: 0 }
    }

    fn poll(&mut self) {
        self.now += 1;
        self.manager.poll(&mut self.cache, self.now);
    }

    fn settle(&mut self) {
        for polls in 0.. {
            self.poll();
            if self.manager.is_idle(&self.cache) {
                break;
            }
            assert!(polls < 10_000, "does not come to rest");
        }
    }

    /// Brings up what is below of a prompt; the tokens that came.
    fn load(&mut self, keys: &Keys) -> (Lease, usize) {
        let limit = keys.tokens().len() - 1;
        let spare = vec![0; self.cache.groups()];
        let load = self.manager.load(&mut self.cache, keys, limit, Pace::default(), spare, true, self.now);
        let loaded = load.and_then(|load| {
            for polls in 0.. {
                if self.manager.is_loaded(load) {
                    break;
                }
                assert!(polls < 10_000, "the load does not end");
                self.poll();
            }
            self.manager.take(&mut self.cache, load)
        });
        let lease = match loaded.and_then(|loaded| loaded.announced) {
            Some(announced) => self.cache.join(keys, announced, limit, self.now),
            None => self.cache.start(keys, limit, self.now),
        };
        (lease, loaded.map_or(0, |loaded| loaded.tokens))
    }

    /// Computes what is missing, checking all that is not; how many tokens were found on the device or below, and how many
    /// came from below.
    fn run(&mut self, prompt: &[u32]) -> (usize, usize) {
        let keys = self.cache.keys(b"", prompt);
        let (mut lease, loaded) = self.load(&keys);
        let found = lease.filled();
        while lease.filled() < prompt.len() {
            let (from, to) = (lease.filled(), (lease.filled() + 5).min(prompt.len()));
            self.cache.slide(&mut lease, from);
            while !self.cache.grow(&mut lease, to) {
                assert!(self.manager.shed(&mut self.cache) > 0 || self.manager.will_free(), "no room");
                self.poll();
            }
            self.copy(lease.take_copies());
            for at in from..to {
                self.write(&lease, prompt, at);
            }
            self.check(&lease, prompt, to);
            self.cache.publish(&mut lease, &keys, to, self.now);
            self.poll();
        }
        self.cache.finish(lease, &keys, prompt.len(), self.now);
        (found, loaded)
    }

    fn copy(&self, copies: Vec<PageCopy>) {
        let mut memory = self.memory.lock().unwrap();
        for PageCopy { group, from, to, tokens } in copies {
            for half in 0..2 {
                let bytes = memory[group][from.index()][half][..tokens * 4].to_vec();
                memory[group][to.index()][half][..tokens * 4].copy_from_slice(&bytes);
            }
        }
    }

    fn write(&self, lease: &Lease, prompt: &[u32], at: usize) {
        let bytes = digest(&prompt[..=at]).to_le_bytes();
        for group in 0..self.cache.groups() {
            let page = lease.table(group)[at / PAGE] as usize;
            for half in &mut self.memory.lock().unwrap()[group][page] {
                half[at % PAGE * 4..][..4].copy_from_slice(&bytes);
            }
        }
    }

    /// What attention at token `filled` would read is what belongs there.
    fn check(&self, lease: &Lease, prompt: &[u32], filled: usize) {
        for group in 0..self.cache.groups() {
            let first = self.cache.window(group).map_or(0, |window| lease.filled().saturating_sub(window - 1));
            for at in first..filled {
                let page = lease.table(group)[at / PAGE] as usize;
                for (half, bytes) in self.memory.lock().unwrap()[group][page].iter().enumerate() {
                    let found = u32::from_le_bytes(bytes[at % PAGE * 4..][..4].try_into().unwrap());
                    assert_eq!(found, digest(&prompt[..=at]), "group {group}, half {half}, token {at}");
                }
            }
        }
    }

    /// Nothing is in flight or pinned, and all pages can be freed.
    fn close(mut self) {
        self.settle();
        for group in 0..self.cache.groups() {
            assert_eq!(self.cache.available(group), self.cache.pages(group), "pinned");
            self.cache.trim(group, 0);
            assert_eq!(self.cache.free(group), self.cache.pages(group), "leaked");
        }
    }
}

fn full(pages: usize) -> GroupConfig {
    GroupConfig { pages, window: None }
}

fn windowed(pages: usize) -> GroupConfig {
    GroupConfig { pages, window: Some(WINDOW) }
}

fn host(bytes: u64) -> Vec<Box<dyn Store>> {
    vec![Box::new(HostStore::new(bytes))]
}

#[test]
fn what_was_evicted_comes_back() {
    for latency in [0, 2] {
        for groups in [vec![full(12)], vec![full(12), windowed(8)]] {
            let mut world = World::new(&groups, host(1 << 20), latency);
            let first: Vec<u32> = (0..26).collect();
            assert_eq!(world.run(&first), (0, 0));
            world.settle();
            world.run(&(100..148).collect::<Vec<_>>());
            world.settle();
            let turn: Vec<u32> = (0..26).chain(50..60).collect();
            assert_eq!(world.run(&turn), (26, 26), "latency {latency}: {:?}", world.manager.report(&world.cache));
            assert_eq!(world.manager.report(&world.cache)[0].hit_tokens, 26);
            world.close();
        }
    }
}
