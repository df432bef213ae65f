//! Tiers that keep one half of pages: what lies where, what is asked of whom, and that whole pages come of it.
#![cfg(feature = "kv")]
#[path = "common/tiered.rs"]
mod tiered;

use kvick::kv::tier::{DiskStore, Half, HostStore, RecordKey, Store, VirtualClock};
use std::sync::Arc;
use tiered::{TWO, World, full, windowed};

fn clock() -> Arc<VirtualClock> {
    Arc::default()
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
fn halves_on_different_tiers_make_whole_pages() {
    let (k, v) = (Some(Half::K), Some(Half::V));
    for (forms, lossy) in [([None; 2], false), ([Some([TWO; 2]); 2], true)] {
        let stores = [(); 2].map(|()| Arc::new(HostStore::new(1 << 20)));
        let below: Vec<Box<dyn Store>> = stores.iter().map(|store| Box::new(Arc::clone(store)) as _).collect();
        let mut world = World::with_halves(&[full(14), windowed(10)], clock(), below, 1, (&forms, &[k, v]));
        world.run(b"", &text(0, 25));
        clear(&mut world);
        let usage: Vec<usize> = world.report().iter().map(|tier| tier.pages).collect();
        assert_eq!(usage, if lossy { [12; 2] } else { [14; 2] }, "each has a half of all full pages");
        let keys = world.cache.keys(b"", &text(0, 25));
        for ((store, tier), half) in stores.iter().zip(world.report()).zip(Half::ALL) {
            assert_eq!((store.usage().records, store.usage().bytes), (tier.pages, tier.bytes), "one half of each page");
            let name = |half| [RecordKey { key: keys.full()[0], group: 0, half }];
            let there = Half::ALL.map(|of| store.has(&name(of))[0].clone().unwrap());
            assert_eq!(there, Half::ALL.map(|of| of == half), "{half:?} and no other");
        }
        let whole = if lossy { 24 } else { 25 };
        assert_eq!(world.serve(b"", &text(0, 30), lossy), (whole, whole), "{:?}", world.report());
        let read = world.report().iter().map(|tier| tier.calls.hits).collect::<Vec<_>>();
        assert!(read[0] == read[1] && read[0] > 0, "a half from each: {read:?}");
        world.close();
    }
    // K alone is no page.
    let mut world = World::with_halves(&[full(14)], clock(), vec![Box::new(HostStore::new(1 << 20))], 1, (&[], &[k]));
    world.run(b"", &text(0, 25));
    clear(&mut world);
    assert_eq!(world.run(b"", &text(0, 30)), (0, 0));
    let calls = world.report()[0].calls.clone();
    assert_eq!((calls.hits, calls.misses), (0, 0), "nothing is asked of a tier that cannot help");
    world.close();
}

/// A half that one tier has lost comes from another one that keeps it, and from none that keeps the other half.
#[test]
fn a_lost_half_comes_from_a_tier_that_keeps_it() {
    let stores = [(); 3].map(|()| Arc::new(HostStore::new(1 << 20)));
    let below: Vec<Box<dyn Store>> = stores.iter().map(|store| Box::new(Arc::clone(store)) as _).collect();
    let halves = [Some(Half::K), Some(Half::V), None];
    let mut world = World::with_halves(&[full(14)], clock(), below, 0, (&[], &halves));
    world.run(b"", &text(0, 25));
    clear(&mut world);
    let keys = world.cache.keys(b"", &text(0, 25));
    let lost: Vec<RecordKey> = keys.full().iter().map(|&key| RecordKey { key, group: 0, half: Half::K }).collect();
    stores[0].remove(&lost);
    assert_eq!(world.run(b"", &text(0, 30)), (25, 25), "{:?}", world.report());
    let asked: Vec<(bool, bool)> =
        world.report().iter().map(|tier| (tier.calls.hits > 0, tier.calls.misses > 0)).collect();
    assert_eq!(asked, [(true, true), (true, false), (true, false)], "K of the last page, V, and what was lost");
    world.close();
}

#[test]
fn halves_on_disk_are_found_after_a_restart() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let open = || -> Vec<Box<dyn Store>> {
        let disk = |dir: &tempfile::TempDir| DiskStore::open(dir.path(), 1 << 20, &tiered::fingerprint()).unwrap();
        dirs.iter().map(|dir| Box::new(disk(dir)) as _).collect()
    };
    let halves = [Some(Half::K), Some(Half::V)];
    let mut world = World::with_halves(&[full(14)], clock(), open(), 0, (&[], &halves));
    world.run(b"", &text(0, 25));
    world.close();
    let mut world = World::with_halves(&[full(14)], clock(), open(), 0, (&[], &halves));
    assert_eq!(world.report().iter().map(|tier| tier.pages).collect::<Vec<_>>(), [7; 2]);
    assert_eq!(world.run(b"", &text(0, 30)), (25, 25), "{:?}", world.report());
    world.close();
}
