//! Tiers that keep quantised copies: who is given what they restore, under which name, and what is never given.
#![cfg(feature = "kv")]
#[path = "common/tiered.rs"]
mod tiered;

use kvick::kv::cache::GroupConfig;
use kvick::kv::tier::{DiskStore, Half, HostStore, Store, VirtualClock};
use proptest::prelude::*;
use std::sync::Arc;
use tiered::{EXACT, Foreign, ONE, PAGE, TOO_LOSSY, TWO, World, fingerprint, full, windowed};

fn clock() -> Arc<VirtualClock> {
    Arc::default()
}

fn host() -> Box<dyn Store> {
    Box::new(HostStore::new(1 << 20))
}

fn text(from: u32, tokens: u32) -> Vec<u32> {
    (from..from + tokens).collect()
}

/// Leaves nothing on the device.
fn clear(world: &mut World) {
    world.settle();
    (0..world.cache.groups()).for_each(|group| world.cache.trim(group, 0));
}

#[test]
fn a_request_that_accepts_them_finds_restored_pages_and_no_other_does() {
    for groups in [vec![full(12)], vec![full(12), windowed(8)]] {
        let mut world = World::with_forms(&groups, clock(), vec![host()], 1, &[Some([TWO; 2])]);
        world.run(b"", &text(0, 26));
        clear(&mut world);
        assert_eq!(world.run(b"", &text(0, 30)), (0, 0), "an exact request computes");
        clear(&mut world);
        assert_eq!(world.serve(b"", &text(0, 30), true), (28, 28), "the filling page is not quantised");
        assert_eq!((world.lossy_tokens, world.cache.counters().lossy_tokens), (28, 28));
        // An exact page goes beside a restored one.
        assert_eq!(world.run(b"", &text(0, 14)), (0, 0));
        assert_eq!(world.serve(b"", &text(0, 14), true), (13, 0), "exact pages come first");
        assert_eq!(world.lossy_tokens, 28);
        world.close();
    }
}

#[test]
fn turns_on_restored_pages_are_found_again() {
    for shared in [false, true] {
        let store: Box<dyn Store> = if shared { Box::new(Foreign(HostStore::new(1 << 20))) } else { host() };
        let mut world = World::with_forms(&[full(14), windowed(10)], clock(), vec![store], 0, &[Some([TWO; 2])]);
        let mut tokens = 12;
        world.run(b"", &text(0, tokens));
        for turn in 1..5 {
            clear(&mut world);
            let found = world.serve(b"", &text(0, tokens + 8), true);
            let expected = tokens as usize;
            assert_eq!(found, (expected, expected), "turn {turn}, shared {shared}: {:?}", world.report());
            tokens += 8;
        }
        assert_eq!(world.lossy_tokens, 12 + 20 + 28 + 36);
        assert_eq!(world.run(b"", &text(0, tokens)).0, 0, "none of it is exact");
        world.close();
    }
}

#[test]
fn exact_pages_come_from_wherever_they_are_before_lossy_ones() {
    let stores = vec![host(), Box::new(HostStore::new(6 * 500)) as Box<dyn Store>];
    let mut world = World::with_forms(&[full(14)], clock(), stores, 1, &[Some([ONE; 2]), None]);
    world.run(b"", &text(0, 40));
    clear(&mut world);
    let exact = world.report()[1].pages.min(10) as u64;
    assert!((1..10).contains(&exact), "{:?}", world.report());
    let (found, loaded) = world.serve(b"", &text(0, 45), true);
    assert_eq!((found, loaded), (40, 40), "{:?}", world.report());
    assert!(world.lossy_tokens < 40 && world.report()[1].hit_tokens > 0, "{:?}", world.report());
    world.close();
}

#[test]
fn a_page_that_loses_too_much_is_not_kept() {
    let forms = [Some([TWO, TOO_LOSSY]), Some([TWO; 2])];
    let mut world = World::with_forms(&[full(12)], clock(), vec![host(), host()], 1, &forms);
    world.run(b"", &text(0, 26));
    world.settle();
    let report = world.report();
    assert_eq!((report[0].too_lossy, report[0].written, report[1].too_lossy, report[1].written), (6, 0, 0, 6));
    clear(&mut world);
    assert_eq!(world.serve(b"", &text(0, 26), true), (24, 24), "{:?}", world.report());
    assert_eq!(world.report()[1].hit_tokens, 24);
    world.close();
}

#[test]
fn budgets_count_what_is_kept() {
    let pages = |form: Option<[u8; 2]>| {
        let mut world = World::with_forms(&[full(80)], clock(), vec![Box::new(HostStore::new(20_000))], 0, &[form]);
        for n in 0..12 {
            world.run(b"", &text(1000 * n, 40));
        }
        world.settle();
        let report = world.report().remove(0);
        assert!(report.bytes <= 20_000 && report.evicted > 0, "{report:?}");
        report.bytes as f64 / report.pages as f64
    };
    // Two halves of four tokens: 4 bytes a token or 1.
    assert_eq!(pages(None) - pages(Some([ONE; 2])), 24.0);
}

#[test]
fn a_disk_of_quantised_pages_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || -> Vec<Box<dyn Store>> { vec![Box::new(DiskStore::open(dir.path(), 400 * 4224, &fingerprint()).unwrap())] };
    let (groups, form) = ([full(14), windowed(10)], [Some([TWO; 2])]);
    let mut world = World::with_forms(&groups, clock(), open(), 0, &form);
    world.run(b"", &text(0, 20));
    clear(&mut world);
    assert_eq!(world.serve(b"", &text(0, 28), true), (20, 20));
    let contents = world.contents.clone();
    world.close();
    let mut world = World::with_forms(&groups, clock(), open(), 0, &form);
    world.contents = contents;
    assert_eq!(world.run(b"", &text(0, 30)), (0, 0));
    clear(&mut world);
    assert_eq!(world.serve(b"", &text(0, 33), true), (28, 28), "{:?}", world.report());
    world.close();
}

#[test]
fn what_is_out_of_service_is_not_restored_under_another_name() {
    let store = Arc::new(HostStore::new(1 << 20));
    let mut world = World::with_forms(&[full(14)], clock(), vec![Box::new(store.clone())], 0, &[Some([TWO; 2])]);
    world.run(b"", &text(0, 20));
    clear(&mut world);
    assert_eq!(world.serve(b"", &text(0, 28), true), (20, 20));
    world.settle();
    let prefix = world.cache.keys(b"", &text(0, 8));
    world.cache.invalidate_prefix(&prefix);
    world.settle();
    let (found, _) = world.serve(b"", &text(0, 28), true);
    assert_eq!(found, 4, "the second page and all after it are gone under every name");
    world.cache.invalidate_all();
    world.settle();
    assert_eq!(store.usage().records, 0);
    world.close();
}

#[derive(Clone, Debug)]
enum Call {
    Run { salt: u8, stem: u32, stem_tokens: u32, end: u32, tokens: u32, lossy: bool },
    Abandon { salt: u8, stem: u32, stem_tokens: u32, polls: usize },
    Invalidate(u8),
    InvalidatePrefix { salt: u8, stem: u32, tokens: u32 },
    Expire { salt: u8, stem: u32, tokens: u32 },
    Poll(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let run = (0..2u8, 0..3u32, 0..40u32, 0..4u32, 0..12u32, any::<bool>());
    let abandon = (0..2u8, 0..3u32, 2..40u32, 0..12usize);
    prop_oneof![
        12 => run.prop_map(|(salt, stem, stem_tokens, end, tokens, lossy)| {
            Call::Run { salt, stem, stem_tokens, end, tokens, lossy }
        }),
        3 => abandon.prop_map(|(salt, stem, stem_tokens, polls)| Call::Abandon { salt, stem, stem_tokens, polls }),
        1 => (0..2u8).prop_map(Call::Invalidate),
        1 => (0..2u8, 0..3u32, 1..40u32).prop_map(|(salt, stem, tokens)| Call::InvalidatePrefix { salt, stem, tokens }),
        1 => (0..2u8, 0..3u32, 1..40u32).prop_map(|(salt, stem, tokens)| Call::Expire { salt, stem, tokens }),
        2 => (0..30usize).prop_map(Call::Poll),
    ]
}

type Forms = [Option<[u8; 2]>; 3];
type Halves = [Option<Half>; 3];

/// `World` checks each token that is found against what its name says, and that an exact request is given exact names.
fn random(groups: &[GroupConfig], tiers: (Forms, Halves), latency: u64, calls: Vec<Call>) {
    let stores: Vec<Box<dyn Store>> = vec![
        Box::new(HostStore::new(6_000)),
        Box::new(HostStore::new(30_000)),
        Box::new(Foreign(HostStore::new(1 << 20))),
    ];
    let mut world = World::with_halves(groups, clock(), stores, latency, (&tiers.0, &tiers.1));
    for call in calls {
        match call {
            Call::Run { salt, stem, stem_tokens, end, tokens, lossy } => {
                let mut prompt = text(100 * stem, stem_tokens);
                prompt.extend(text(1000 + 20 * end, tokens + u32::from(stem_tokens == 0)));
                world.serve(&[salt], &prompt, lossy);
            }
            Call::Abandon { salt, stem, stem_tokens, polls } => {
                let keys = world.cache.keys(&[salt], &text(100 * stem, stem_tokens));
                if let Some(load) = world.begin(&keys, true) {
                    (0..polls).for_each(|_| world.poll());
                    world.manager.abandon(&mut world.cache, load);
                }
            }
            Call::Invalidate(salt) => drop(world.cache.invalidate_salt(&[salt])),
            Call::InvalidatePrefix { salt, stem, tokens } => {
                let keys = world.cache.keys(&[salt], &text(100 * stem, tokens));
                world.cache.invalidate_prefix(&keys);
                let found = world.served(&[salt], &text(100 * stem, tokens));
                assert!(found < tokens as usize, "served after it was invalidated");
            }
            Call::Expire { salt, stem, tokens } => {
                let keys = world.cache.keys(&[salt], &text(100 * stem, tokens));
                world.cache.expire_prefix(&keys, world.now);
                let found = world.served(&[salt], &text(100 * stem, tokens));
                assert!(found < PAGE, "served after its time");
            }
            Call::Poll(polls) => (0..polls).for_each(|_| world.poll()),
        }
        for report in world.report() {
            assert!(report.bytes <= report.budget, "{report:?}");
            assert_eq!(report.calls.refused, [0; 9], "{report:?}");
        }
        let counters = world.cache.counters();
        assert_eq!(counters.tokens, counters.hit_tokens + counters.missed.tokens());
        assert_eq!(counters.lossy_tokens, world.lossy_tokens - world.forgone);
    }
    world.close();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_name_stands_for_one_content(
        groups in prop::sample::select(vec![vec![full(16)], vec![full(16), windowed(12)], vec![windowed(12)]]),
        forms in prop::sample::select(vec![
            [Some([TWO; 2]), None, None],
            [None, Some([TWO; 2]), Some([ONE; 2])],
            [Some([TWO; 2]), Some([ONE; 2]), Some([TWO; 2])],
            [Some([EXACT; 2]), Some([TWO; 2]), None],
            [Some([TWO; 2]), Some([TWO; 2]), Some([TWO; 2])],
        ]),
        halves in prop::sample::select(vec![
            [None; 3],
            [None; 3],
            [Some(Half::K), None, None],
            [Some(Half::K), Some(Half::V), None],
            [None, Some(Half::V), None],
        ]),
        latency in 0..4u64,
        calls in prop::collection::vec(call(), 0..40),
    ) {
        random(&groups, (forms, halves), latency, calls);
    }
}
