//! Prompts that find pages on tiers below the device: that they are brought up, and that no answer depends on it. The device's
//! pages are bytes here, and copies are made as late as they may be.
use super::*;
use crate::kv::tier::{
    Clock, HostStore, Listed, ManagerConfig, MemoryIo, RecordKey, Store, StoreError, Tiers, Usage, VirtualClock,
};

mod costs;
mod moving;

/// An engine with these tiers, whose copies take `latency` polls and whose stores are called in polls.
pub(super) fn tiered(shape: &Shape, stores: Vec<Box<dyn Store>>, latency: u64) -> Core<FakeRunner> {
    tiered_at(shape, stores, latency, Some(2), Arc::new(VirtualClock::default()))
}

/// With the clock by which the tiers measure their stores, and calls in each poll; `None`: by threads.
pub(super) fn tiered_at(
    shape: &Shape,
    stores: Vec<Box<dyn Store>>,
    latency: u64,
    calls_in_poll: Option<usize>,
    clock: Arc<dyn Clock>,
) -> Core<FakeRunner> {
    let mut core = core(shape);
    let io = MemoryIo::new(Arc::clone(&core.runner.memory), latency, 6);
    let mut tiers = Tiers::new(Fingerprint::new([]), None, clock);
    stores.into_iter().for_each(|store| tiers.push(store));
    let half = (1, 8 * shape.page_tokens);
    let config = ManagerConfig { calls_in_poll, ..ManagerConfig::new(vec![[half; 2]; shape.groups.len()]) };
    let pages = std::mem::replace(&mut core.scheduler.pages, scheduler(shape).pages);
    core.scheduler.pages = pages.with_tiers(Box::new(io), tiers, config).unwrap();
    core
}

/// A store that does something before each read.
pub(super) struct Before<F>(pub Arc<HostStore>, pub F);

impl<F: Fn() + Send + Sync> Store for Before<F> {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        self.0.put(items)
    }
    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        (self.1)();
        self.0.get(names)
    }
    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        self.0.has(names)
    }
    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        self.0.remove(names)
    }
    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        self.0.list()
    }
    fn usage(&self) -> Usage {
        self.0.usage()
    }
}

pub(super) fn host(bytes: u64) -> Vec<Box<dyn Store>> {
    vec![Box::new(HostStore::new(bytes))]
}

/// Steps until nothing runs or moves.
pub(super) fn settle(core: &mut Core<FakeRunner>) {
    for step in 0.. {
        core.step(0);
        if core.is_idle() && !core.scheduler.pages.is_moving() {
            break;
        }
        assert!(step < 10_000, "does not come to rest");
    }
}

/// Lets a text that takes the device for itself push everything else off it.
pub(super) fn crowd_out(core: &mut Core<FakeRunner>, seed: u32) {
    let pages = core.scheduler.pages.cache.pages(0);
    run(core, &prompt(seed, pages * core.scheduler.pages.page_tokens() - 6), 2);
}

/// Runs a request; tokens computed for it.
pub(super) fn run(core: &mut Core<FakeRunner>, prompt: &[u32], tokens: usize) -> u64 {
    let before = computed(core);
    let (submission, events) = submission(prompt, tokens);
    core.submit(submission);
    settle(core);
    assert_eq!(finished(&events).ids, answer(prompt, tokens));
    computed(core) - before
}

#[test]
fn what_was_evicted_comes_back_from_the_host() {
    for latency in [0, 3] {
        let mut core = tiered(&shape(8, 16, 4, &[(12, None), (9, Some(20))]), host(1 << 20), latency);
        let first = prompt(1, 44);
        assert_eq!(run(&mut core, &first, 10), 53);
        crowd_out(&mut core, 2);
        assert_eq!(core.scheduler.pages.cached(&core.scheduler.pages.keys(b"", &first)), 0, "latency {latency}");
        let turn = [&first[..], &answer(&first, 10), &prompt(3, 5)].concat();
        assert_eq!(run(&mut core, &turn, 1), 6, "all but the last token drawn and the new ones, latency {latency}");
        let host = &core.stats.tiers[0];
        assert_eq!((host.hit_tokens, host.busy), (53, 0), "{host:?}");
        assert_eq!(core.scheduler.pages.free(), [12, 9]);
    }
}
