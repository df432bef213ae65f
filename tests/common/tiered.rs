//! The cache and its tiers over pages that hold, for each token, a digest of the whole prefix as it was read: reading any other
//! page than the right one shows, and so does computing on a page that was restored from a quantised copy. Device
//! copies are made as late as they may be; stores are called when the manager is polled.
#![allow(dead_code)]
use kvick::kv::Pace;
use kvick::kv::cache::{Cache, GroupConfig, Lease, PageCopy};
use kvick::kv::policy::Kind;
use kvick::kv::tier::manager::Ask;
use kvick::kv::tier::{
    Clock, Form, Half, Manager, ManagerConfig, MemoryIo, MemoryPages, Packer, Store, TierReport, Tiers, Usage,
    VirtualClock,
};
use kvick::kv::{Fingerprint, Key, Keys};
use std::collections::HashMap;
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

/// Elements of the device, of copies that keep 2 and 1 of the 4 bytes of a digest, and of what cannot be kept.
pub const EXACT: u8 = 1;
pub const TWO: u8 = 2;
pub const ONE: u8 = 3;
pub const TOO_LOSSY: u8 = 4;

struct Halving;

/// What is left of a digest. Quantising that once more as before gives yet another one, as it may with real packings.
fn packed(element: u8, digest: u32) -> u32 {
    match element {
        EXACT => digest,
        TWO => (digest ^ 1) & 0xffff,
        ONE | TOO_LOSSY => (digest ^ 1) & 0xff,
        other => panic!("element {other}"),
    }
}

fn packed_bytes(element: u8) -> usize {
    [4, 2, 1, 1][element as usize - 1]
}

impl Packer for Halving {
    fn pack(&self, element: u8, bytes: &[u8]) -> Option<(Vec<u8>, f32)> {
        let kept = packed_bytes(element);
        let packed = bytes.chunks_exact(4).flat_map(|digest| digest[..kept].to_vec()).collect();
        Some((packed, if element == TOO_LOSSY { 0.5 } else { 0.1 }))
    }

    fn unpack(&self, element: u8, packed: &[u8]) -> Option<Vec<u8>> {
        let kept = packed_bytes(element);
        let flip = u8::from(element != EXACT);
        let digest = |bytes: &[u8]| {
            let mut digest = [0; 4];
            digest[..kept].copy_from_slice(bytes);
            digest[0] ^= flip;
            digest
        };
        Some(packed.chunks_exact(kept).flat_map(digest).collect())
    }
}

/// How a tier keeps pages of which K and V are of these elements.
fn form(elements: [u8; 2], groups: usize) -> Form {
    let half = |element: u8| (element, PAGE * packed_bytes(element));
    Form { shapes: vec![elements.map(half); groups], error: [0.2; 2] }
}

/// A cache, its pages and what is below.
pub struct World {
    pub cache: Cache,
    pub manager: Manager,
    pub clock: Arc<VirtualClock>,
    memory: Arc<Mutex<MemoryPages>>,
    pub now: u64,
    /// What each full page held that was ever computed or restored, by its name: one name, one content.
    pub contents: HashMap<Key, Vec<u32>>,
    /// Tokens found that are not what computing gives, and how many of them were given up again.
    pub lossy_tokens: u64,
    pub forgone: u64,
}

impl World {
    pub fn new(groups: &[GroupConfig], clock: Arc<VirtualClock>, stores: Vec<Box<dyn Store>>, latency: u64) -> Self {
        let exact = vec![None; stores.len()];
        World::with_forms(groups, clock, stores, latency, &exact)
    }

    /// With tiers that keep K and V as these elements.
    pub fn with_forms(
        groups: &[GroupConfig],
        clock: Arc<VirtualClock>,
        stores: Vec<Box<dyn Store>>,
        latency: u64,
        forms: &[Option<[u8; 2]>],
    ) -> Self {
        World::with_halves(groups, clock, stores, latency, (forms, &[]))
    }

    /// With tiers that keep only these halves of pages.
    pub fn with_halves(
        groups: &[GroupConfig],
        clock: Arc<VirtualClock>,
        stores: Vec<Box<dyn Store>>,
        latency: u64,
        (forms, halves): (&[Option<[u8; 2]>], &[Option<Half>]),
    ) -> Self {
        let mut cache = Cache::new(fingerprint(), PAGE, groups, 100, || Kind::Kvick.build(groups[0].pages, None));
        let group = |group: &GroupConfig| (0..group.pages).map(|_| [vec![0xee; HALF], vec![0xee; HALF]]).collect();
        let memory = Arc::new(Mutex::new(groups.iter().map(group).collect()));
        let io = MemoryIo::new(Arc::clone(&memory), latency, 4).with_packer(Halving);
        let mut tiers = Tiers::new(fingerprint(), None, clock.clone());
        stores.into_iter().for_each(|store| tiers.push(store));
        let config = ManagerConfig::new(vec![[(EXACT, HALF); 2]; groups.len()]);
        let forms = forms.iter().map(|elements| elements.map(|elements| form(elements, groups.len()))).collect();
        let halves = halves.to_vec();
        let config = ManagerConfig { forms, halves, calls_in_poll: Some(1), batch: 2, piece: 1, copying: 3, ..config };
        let manager = Manager::new(&mut cache, Box::new(io), tiers, config).unwrap();
        World { cache, manager, clock, memory, now: 0, contents: HashMap::new(), lossy_tokens: 0, forgone: 0 }
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
    pub fn begin(&mut self, keys: &Keys, lossy: bool) -> Option<u64> {
        let (limit, spare) = (keys.tokens().len() - 1, vec![0; self.cache.groups()]);
        let ask = Ask { limit, pace: Pace::default(), spare, announce: true, lossy };
        self.manager.load(&mut self.cache, keys, ask, self.now)
    }

    /// Brings up what is below of a prompt; the tokens that came.
    fn load(&mut self, keys: &mut Keys, lossy: bool) -> (Lease, usize) {
        let limit = keys.tokens().len() - 1;
        let loaded = self.begin(keys, lossy).and_then(|load| {
            for polls in 0.. {
                if self.manager.is_loaded(load) {
                    break;
                }
                assert!(polls < 10_000, "the load does not end");
                self.poll();
            }
            self.manager.take(&mut self.cache, load)
        });
        let (announced, tokens) = match loaded {
            Some(loaded) => {
                *keys = loaded.keys;
                (loaded.announced, loaded.tokens)
            }
            None => (None, 0),
        };
        if lossy {
            self.cache.rename(keys, limit, self.now);
        }
        let lease = match announced {
            Some(announced) => self.cache.join(keys, announced, limit, self.now),
            None => self.cache.start(keys, limit, self.now),
        };
        (lease, tokens)
    }

    /// Computes what is missing, checking all that is not; how many tokens were found on the device or below, and how many
    /// came from below.
    pub fn run(&mut self, salt: &[u8], prompt: &[u32]) -> (usize, usize) {
        self.serve(salt, prompt, false)
    }

    /// Like [`World::run`], for a request that takes restored pages if `lossy`.
    pub fn serve(&mut self, salt: &[u8], prompt: &[u32], lossy: bool) -> (usize, usize) {
        let mut keys = self.cache.keys(salt, prompt);
        let (mut lease, loaded) = self.load(&mut keys, lossy);
        let found = lease.filled();
        let mark = keys.first_mark();
        assert!(lossy || mark.is_none(), "a request that refuses restored pages was given some");
        assert!(
            (0..keys.pages()).all(|page| keys.mark(page).is_none() || page * PAGE < found),
            "a page is to be computed under the name of a restored one"
        );
        self.lossy_tokens += mark.map_or(0, |page| (found - page * PAGE) as u64);
        let right = self.expected(salt, &keys);
        self.check(&lease, &right, found);
        while lease.filled() < prompt.len() {
            let (from, to) = (lease.filled(), (lease.filled() + 5).min(prompt.len()));
            self.cache.slide(&mut lease, from);
            if !self.cache.grow(&mut lease, to) {
                let forgone = self.cache.forgo_partial(&mut lease);
                self.forgone += if mark.is_some() { (from - lease.filled()) as u64 } else { 0 };
                let freed = forgone || self.manager.shed(&mut self.cache) > 0;
                assert!(freed || self.manager.will_free(), "no room");
                self.poll();
                continue;
            }
            self.copy(lease.take_copies());
            (from..to).for_each(|at| self.write(&lease, right[at], at));
            self.check(&lease, &right, to);
            self.cache.publish(&mut lease, &keys, to, self.now);
            self.poll();
        }
        self.cache.finish(lease, &keys, prompt.len(), self.now);
        (found, loaded)
    }

    /// How many of these tokens are found by a request that takes restored pages.
    pub fn served(&mut self, salt: &[u8], tokens: &[u32]) -> usize {
        self.serve(salt, &[tokens, &[u32::MAX]].concat(), true).0
    }

    /// What each token's place is to hold: what computing from scratch gives up to the first restored page; in that what is left
    /// of what it was restored from; and then what is computed of that.
    fn expected(&mut self, salt: &[u8], keys: &Keys) -> Vec<u32> {
        let mut out: Vec<u32> = Vec::new();
        for index in 0..keys.pages() {
            match keys.mark(index) {
                // K and V are kept alike here.
                Some(mark) => {
                    let source = &self.contents[&mark.source];
                    out.extend(source.iter().map(|&digest| packed(mark.elements[0], digest)));
                }
                None => {
                    for &token in keys.page(index) {
                        let before = out.last().copied().unwrap_or_else(|| digest(salt, &[]));
                        out.push((before ^ token).wrapping_mul(0x0100_0193));
                    }
                }
            }
            if let Some(key) = keys.full().get(index) {
                let held = out[index * PAGE..].to_vec();
                let before = self.contents.insert(*key, held.clone());
                assert!(before.is_none_or(|before| before == held), "two contents of one name, page {index}");
            }
        }
        let exact = keys.first_mark().map_or(keys.tokens().len(), |page| page * PAGE);
        for at in 0..exact {
            assert_eq!(out[at], digest(salt, &keys.tokens()[..=at]), "token {at} under an exact name");
        }
        out
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

    fn write(&self, lease: &Lease, value: u32, at: usize) {
        for group in 0..self.cache.groups() {
            let page = lease.table(group)[at / PAGE] as usize;
            for half in &mut self.memory.lock().unwrap()[group][page] {
                half[at % PAGE * 4..][..4].copy_from_slice(&value.to_le_bytes());
            }
        }
    }

    /// What attention at token `filled` would read is what belongs there.
    fn check(&self, lease: &Lease, right: &[u32], filled: usize) {
        // A half-matching page that is not copied yet is checked once it is.
        let filled = filled.min(lease.table(0).len() * PAGE);
        for group in 0..self.cache.groups() {
            let first = self.cache.window(group).map_or(0, |window| lease.filled().saturating_sub(window - 1));
            for at in first..filled {
                let page = lease.table(group)[at / PAGE] as usize;
                for (half, bytes) in self.memory.lock().unwrap()[group][page].iter().enumerate() {
                    let found = u32::from_le_bytes(bytes[at % PAGE * 4..][..4].try_into().unwrap());
                    let now = self.now;
                    assert_eq!(found, right[at], "a wrong page: group {group}, half {half}, token {at} at time {now}");
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
