//! The cache and its tiers over pages that hold, for each token, a digest of the whole prefix: reading any other page than the
//! right one shows. Device copies are made as late as they may be; stores are called when the manager is polled.
#![allow(dead_code)]
use kvick::kv::Pace;
use kvick::kv::cache::{Cache, GroupConfig, Lease, PageCopy};
use kvick::kv::policy::Kind;
use kvick::kv::tier::{
    Clock, Manager, ManagerConfig, MemoryIo, MemoryPages, Store, TierReport, Tiers, Usage, VirtualClock,
};
use kvick::kv::{Fingerprint, Keys};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const PAGE: usize = 4;
pub const WINDOW: usize = 9;
pub const HALF: usize = PAGE * 4;

pub fn fingerprint() -> Fingerprint {
    Fingerprint::new([("test", b"1".as_slice())])
}

fn digest(salt: &[u8], tokens: &[u32]) -> u32 {
    let bytes = salt.iter().map(|&byte| u32::from(byte));
    bytes.chain(tokens.iter().copied()).fold(0x811c_9dc5, |hash, token| (hash ^ token).wrapping_mul(0x0100_0193))
}

/// A store that others use too, as far as the cache knows.
pub struct Foreign<S>(pub S);

impl<S: Store> Store for Foreign<S> {
    fn name(&self) -> &str {
        "shared"
    }
    fn put(&self, items: &[(kvick::kv::tier::RecordKey, &[u8])]) -> Vec<Result<(), kvick::kv::tier::StoreError>> {
        self.0.put(items)
    }
    fn get(&self, names: &[kvick::kv::tier::RecordKey]) -> Vec<Result<Option<Vec<u8>>, kvick::kv::tier::StoreError>> {
        self.0.get(names)
    }
    fn has(&self, names: &[kvick::kv::tier::RecordKey]) -> Vec<Result<bool, kvick::kv::tier::StoreError>> {
        self.0.has(names)
    }
    fn remove(&self, names: &[kvick::kv::tier::RecordKey]) -> Vec<Result<(), kvick::kv::tier::StoreError>> {
        self.0.remove(names)
    }
    fn usage(&self) -> Usage {
        Usage { records: 0, bytes: 0, budget: u64::MAX }
    }
}

/// A cache, its pages and what is below.
pub struct World {
    pub cache: Cache,
    pub manager: Manager,
    pub clock: Arc<VirtualClock>,
    memory: Arc<Mutex<MemoryPages>>,
    pub now: u64,
}

impl World {
    pub fn new(groups: &[GroupConfig], clock: Arc<VirtualClock>, stores: Vec<Box<dyn Store>>, latency: u64) -> Self {
        let mut cache = Cache::new(fingerprint(), PAGE, groups, 100, || Kind::Kvick.build(groups[0].pages, None));
        let group = |group: &GroupConfig| (0..group.pages).map(|_| [vec![0xee; HALF], vec![0xee; HALF]]).collect();
        let memory = Arc::new(Mutex::new(groups.iter().map(group).collect()));
        let io = MemoryIo::new(Arc::clone(&memory), latency, 4);
        let mut tiers = Tiers::new(fingerprint(), None, clock.clone());
        stores.into_iter().for_each(|store| tiers.push(store));
        let config = ManagerConfig::new(vec![[(1, HALF); 2]; groups.len()]);
        let config = ManagerConfig { calls_in_poll: Some(1), batch: 2, piece: 1, copying: 3, ..config };
        let manager = Manager::new(&mut cache, Box::new(io), tiers, config).unwrap();
        World { cache, manager, clock, memory, now: 0 }
    }

    pub fn report(&self) -> Vec<TierReport> {
        self.manager.report(&self.cache)
    }

    pub fn poll(&mut self) {
        self.now += 1;
        self.clock.sleep(Duration::from_millis(20));
        self.manager.poll(&mut self.cache, self.now);
    }

    pub fn settle(&mut self) {
        for polls in 0.. {
            self.poll();
            if self.manager.is_idle(&self.cache) {
                break;
            }
            assert!(polls < 200_000, "does not come to rest: {:?}", self.report());
        }
    }

    /// Begins a load as the engine does.
    pub fn begin(&mut self, keys: &Keys) -> Option<u64> {
        let (limit, spare) = (keys.tokens().len() - 1, vec![0; self.cache.groups()]);
        self.manager.load(&mut self.cache, keys, limit, Pace::default(), spare, true, self.now)
    }

    /// Brings up what is below of a prompt; the tokens that came.
    fn load(&mut self, keys: &Keys) -> (Lease, usize) {
        let limit = keys.tokens().len() - 1;
        let loaded = self.begin(keys).and_then(|load| {
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
    pub fn run(&mut self, salt: &[u8], prompt: &[u32]) -> (usize, usize) {
        let keys = self.cache.keys(salt, prompt);
        let (mut lease, loaded) = self.load(&keys);
        let found = lease.filled();
        while lease.filled() < prompt.len() {
            let (from, to) = (lease.filled(), (lease.filled() + 5).min(prompt.len()));
            self.cache.slide(&mut lease, from);
            if !self.cache.grow(&mut lease, to) {
                let freed = self.cache.forgo_partial(&mut lease) || self.manager.shed(&mut self.cache) > 0;
                assert!(freed || self.manager.will_free(), "no room");
                self.poll();
                continue;
            }
            self.copy(lease.take_copies());
            (from..to).for_each(|at| self.write(&lease, salt, prompt, at));
            self.check(&lease, salt, prompt, to);
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

    fn write(&self, lease: &Lease, salt: &[u8], prompt: &[u32], at: usize) {
        let bytes = digest(salt, &prompt[..=at]).to_le_bytes();
        for group in 0..self.cache.groups() {
            let page = lease.table(group)[at / PAGE] as usize;
            for half in &mut self.memory.lock().unwrap()[group][page] {
                half[at % PAGE * 4..][..4].copy_from_slice(&bytes);
            }
        }
    }

    /// What attention at token `filled` would read is what belongs there.
    fn check(&self, lease: &Lease, salt: &[u8], prompt: &[u32], filled: usize) {
        for group in 0..self.cache.groups() {
            let first = self.cache.window(group).map_or(0, |window| lease.filled().saturating_sub(window - 1));
            for at in first..filled {
                let page = lease.table(group)[at / PAGE] as usize;
                for (half, bytes) in self.memory.lock().unwrap()[group][page].iter().enumerate() {
                    let found = u32::from_le_bytes(bytes[at % PAGE * 4..][..4].try_into().unwrap());
                    let right = digest(salt, &prompt[..=at]);
                    assert_eq!(
                        found, right,
                        "a wrong page: group {group}, half {half}, token {at} at time {}",
                        self.now
                    );
                }
            }
        }
    }

    /// Nothing is in flight or pinned, and all pages can be freed.
    pub fn close(mut self) {
        self.settle();
        for group in 0..self.cache.groups() {
            assert_eq!(self.cache.available(group), self.cache.pages(group), "pinned");
            self.cache.trim(group, 0);
            assert_eq!(self.cache.free(group), self.cache.pages(group), "leaked");
        }
    }
}

pub fn full(pages: usize) -> GroupConfig {
    GroupConfig { pages, window: None }
}

pub fn windowed(pages: usize) -> GroupConfig {
    GroupConfig { pages, window: Some(WINDOW) }
}
