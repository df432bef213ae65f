//! The tiers below the cache: what comes back from where, what does not, and that it is always the right page.
#![cfg(feature = "kv")]
#[path = "common/tiered.rs"]
mod tiered;

use kvick::kv::tier::{DiskStore, HostStore, Store, VirtualClock};
use proptest::prelude::*;
use std::sync::Arc;
use tiered::{Foreign, World, fingerprint, full, windowed};

fn clock() -> Arc<VirtualClock> {
    Arc::default()
}

fn host(bytes: u64) -> Vec<Box<dyn Store>> {
    vec![Box::new(HostStore::new(bytes))]
}

fn text(from: u32, tokens: u32) -> Vec<u32> {
    (from..from + tokens).collect()
}

/// A turn of 26 tokens, then something that takes the device for itself, then the next turn.
fn turns(world: &mut World) -> (usize, usize) {
    assert_eq!(world.run(b"", &text(0, 26)), (0, 0));
    world.settle();
    world.run(b"", &text(100, 48));
    world.settle();
    world.run(b"", &[text(0, 26), text(50, 10)].concat())
}

#[test]
fn what_was_evicted_comes_back_with_its_partly_filled_page() {
    for latency in [0, 2] {
        for groups in [vec![full(12)], vec![full(12), windowed(8)]] {
            let mut world = World::new(&groups, clock(), host(1 << 20), latency);
            assert_eq!(turns(&mut world), (26, 26), "latency {latency}: {:?}", world.report());
            assert_eq!(world.report()[0].hit_tokens, 26);
            world.close();
        }
    }
}

#[test]
fn a_shared_store_is_asked_by_name_from_another_process() {
    let shared = Arc::new(HostStore::new(1 << 20));
    let store =
        || -> Vec<Box<dyn Store>> { vec![Box::new(HostStore::new(1 << 20)), Box::new(Foreign(shared.clone()))] };
    let groups = [full(40), windowed(20)];
    let mut first = World::new(&groups, clock(), store(), 1);
    first.run(b"", &text(0, 86));
    first.settle();
    let mut second = World::new(&groups, clock(), store(), 1);
    assert_eq!(second.run(b"", &[text(0, 86), text(200, 9)].concat()), (86, 86), "{:?}", second.report());
    second.settle();
    assert_eq!(second.report()[1].hit_tokens, 86);
    // 23 full pages of 95 tokens and two ends of them; with a window 4 and two.
    assert_eq!(second.report()[0].pages, 25 + 6, "it is kept nearer now, the end that was loaded too");
    assert_eq!(second.run(b"other", &text(0, 86)), (0, 0), "another tenant");
    first.close();
    second.close();
}

#[test]
fn the_disk_is_found_again_and_keeps_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 60 * 2 * (4096 + 128);
    let open =
        || -> Vec<Box<dyn Store>> { vec![Box::new(DiskStore::open(dir.path(), budget, &fingerprint()).unwrap())] };
    let groups = [full(40), windowed(20)];
    let mut world = World::new(&groups, clock(), open(), 0);
    world.run(b"a", &text(0, 42));
    world.close();
    let mut world = World::new(&groups, clock(), open(), 0);
    assert_eq!(world.report()[0].pages, 22, "11 of each group");
    assert_eq!(world.run(b"b", &text(0, 42)), (0, 0));
    assert_eq!(world.run(b"a", &[text(0, 42), text(90, 2)].concat()), (42, 42), "{:?}", world.report());
    for n in 1..9 {
        world.run(b"a", &text(1000 * n, 40));
        world.settle();
        let report = &world.report()[0];
        assert!(report.bytes <= budget && report.pages <= 60, "{report:?}");
    }
    assert!(world.report()[0].evicted > 0);
    world.close();
}

#[test]
fn what_is_invalid_is_gone_below_too() {
    let store = Arc::new(HostStore::new(1 << 20));
    let mut world = World::new(&[full(20), windowed(16)], clock(), vec![Box::new(store.clone())], 1);
    world.run(b"a", &text(0, 26));
    world.settle();
    world.run(b"b", &text(0, 26));
    world.settle();
    assert_eq!(store.usage().records, 2 * 2 * 2 * 7, "two tenants, groups and halves");
    world.cache.invalidate_salt(b"a");
    world.settle();
    assert_eq!(store.usage().records, 2 * 2 * 7);
    let prefix = world.cache.keys(b"b", &text(0, 8));
    world.cache.invalidate_prefix(&prefix);
    world.settle();
    assert_eq!(store.usage().records, 2 * 2);
    assert_eq!(world.run(b"a", &text(0, 26)), (0, 0));
    assert_eq!(world.run(b"b", &text(0, 26)), (4, 0));
    world.close();
}

#[test]
fn what_expires_on_its_way_up_is_not_brought_back() {
    for polls in 0..6 {
        let mut world = World::new(&[full(14)], clock(), host(1 << 20), 2);
        world.run(b"", &text(0, 24));
        world.settle();
        world.cache.trim(0, 0);
        let keys = world.cache.keys(b"", &text(0, 30));
        let load = world.begin(&keys, false).unwrap();
        (0..polls).for_each(|_| world.poll());
        assert!(!world.manager.is_loaded(load), "it is over after {polls} polls");
        world.cache.expire_prefix(&keys, world.now);
        while !world.manager.is_loaded(load) {
            world.poll();
        }
        world.manager.take(&mut world.cache, load);
        assert_eq!(world.run(b"", &text(0, 30)).0, 0, "served after its time, which came after {polls} polls");
        world.close();
    }
}

#[test]
fn what_is_discarded_is_gone_below_too_but_for_what_others_continue() {
    let store = Arc::new(HostStore::new(1 << 20));
    let mut world = World::new(&[full(30), windowed(20)], clock(), vec![Box::new(store.clone())], 1);
    world.run(b"", &text(0, 26));
    world.run(b"", &[text(0, 12), text(50, 9)].concat());
    world.settle();
    assert_eq!(store.usage().records, 2 * 2 * (7 + 3), "the second adds three pages to three of the first");
    let keys = world.cache.keys(b"", &text(0, 26));
    assert_eq!(world.cache.discard(&keys), 2 * 4);
    world.settle();
    assert_eq!(store.usage().records, 2 * 2 * 6);
    // Also where the device has nothing any more.
    (0..2).for_each(|group| world.cache.trim(group, 0));
    let keys = world.cache.keys(b"", &[text(0, 12), text(50, 9)].concat());
    assert_eq!(world.cache.discard(&keys), 0);
    world.settle();
    assert_eq!(store.usage().records, 0);
    world.close();
}

#[derive(Clone, Debug)]
enum Call {
    Run { salt: u8, stem: u32, stem_tokens: u32, end: u32, tokens: u32 },
    Abandon { salt: u8, stem: u32, stem_tokens: u32, polls: usize },
    Invalidate(u8),
    Poll(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let run = (0..2u8, 0..3u32, 0..40u32, 0..4u32, 0..12u32);
    let abandon = (0..2u8, 0..3u32, 2..40u32, 0..12usize);
    prop_oneof![
        10 => run.prop_map(|(salt, stem, stem_tokens, end, tokens)| Call::Run { salt, stem, stem_tokens, end, tokens }),
        3 => abandon.prop_map(|(salt, stem, stem_tokens, polls)| Call::Abandon { salt, stem, stem_tokens, polls }),
        1 => (0..2u8).prop_map(Call::Invalidate),
        2 => (0..30usize).prop_map(Call::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn never_serves_another_page_and_never_leaks(
        groups in prop::sample::select(vec![vec![full(16)], vec![full(16), windowed(12)], vec![windowed(12)]]),
        bytes in prop::sample::select(vec![3_000u64, 20_000, 1 << 20]),
        latency in 0..4u64,
        calls in prop::collection::vec(call(), 0..40),
    ) {
        let shared = Foreign(HostStore::new(1 << 20));
        let stores: Vec<Box<dyn Store>> = vec![Box::new(HostStore::new(bytes)), Box::new(HostStore::new(30_000)), Box::new(shared)];
        let mut world = World::new(&groups, clock(), stores, latency);
        for call in calls {
            match call {
                Call::Run { salt, stem, stem_tokens, end, tokens } => {
                    let mut prompt = text(100 * stem, stem_tokens);
                    prompt.extend(text(1000 + 20 * end, tokens + u32::from(stem_tokens == 0)));
                    world.run(&[salt], &prompt);
                }
                Call::Abandon { salt, stem, stem_tokens, polls } => {
                    let keys = world.cache.keys(&[salt], &text(100 * stem, stem_tokens));
                    if let Some(load) = world.begin(&keys, false) {
                        (0..polls).for_each(|_| world.poll());
                        world.manager.abandon(&mut world.cache, load);
                    }
                }
                Call::Invalidate(salt) => { world.cache.invalidate_salt(&[salt]); }
                Call::Poll(polls) => (0..polls).for_each(|_| world.poll()),
            }
            for report in world.report() {
                prop_assert!(report.bytes <= report.budget, "{:?}", report);
                prop_assert_eq!(report.calls.refused, [0; 9]);
            }
            let counters = world.cache.counters();
            prop_assert_eq!(counters.tokens, counters.hit_tokens + counters.missed.tokens());
        }
        world.close();
    }
}
