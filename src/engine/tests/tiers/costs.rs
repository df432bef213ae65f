//! Load or compute, by what was measured of both.
use super::*;
use crate::kv::tier::{FaultPlan, FaultStore};

/// Seconds that a read of the store takes, by the tiers' clock.
fn slow_store(seconds: u64) -> (Arc<VirtualClock>, Vec<Box<dyn Store>>) {
    let clock = Arc::new(VirtualClock::default());
    let turned = Arc::clone(&clock);
    let wait = move || turned.sleep(Duration::from_secs(seconds));
    (clock, vec![Box::new(Before(Arc::new(HostStore::new(1 << 20)), wait))])
}

/// One text asked for again and again, each time after another one: tokens computed for it.
fn turns(core: &mut Core<FakeRunner>, n: usize) -> Vec<u64> {
    let before = core.stats.cache.requests as u32;
    let text = prompt(1, 44);
    let turn = |at: usize| {
        let took = run(core, &text, 3);
        crowd_out(core, 100 + before + at as u32);
        took
    };
    (0..n).map(turn).collect()
}

#[test]
fn a_load_that_would_be_slower_than_computing_is_not_made() {
    let shape = shape(8, 16, 4, &[(12, None), (9, Some(20))]);
    let (clock, store) = slow_store(3600);
    let mut core = tiered_at(&shape, store, 0, Some(2), clock);
    // The first load measures the store; an hour is more than five pages of tokens take.
    assert_eq!(turns(&mut core, 2), [46, 6]);
    let read = core.stats.tiers[0].calls.bytes_read;
    assert_eq!(turns(&mut core, 3), [46; 3]);
    let tier = &core.stats.tiers[0];
    assert_eq!((tier.slower, tier.hit_tokens, tier.calls.bytes_read), (3, 40, read), "{tier:?}");
    let cache = core.stats.cache;
    assert_eq!((cache.missed.slower, cache.hit_tokens + cache.missed.tokens()), (3 * 40, cache.tokens), "{cache:?}");
}

#[test]
fn a_store_that_was_slow_is_measured_again() {
    let shape = shape(8, 16, 4, &[(12, None)]);
    let (clock, store) = slow_store(3600);
    let mut core = tiered_at(&shape, store, 0, Some(2), clock);
    let took = turns(&mut core, 20);
    let loads: Vec<usize> = (0..20).filter(|&at| took[at] < 46).collect();
    assert_eq!(loads, [1, 17], "one in 16 is made nevertheless: {took:?}");
}

#[test]
fn a_load_that_is_faster_is_made() {
    let shape = shape(8, 16, 4, &[(12, None), (9, Some(20))]);
    let (clock, store) = slow_store(0);
    let mut core = tiered_at(&shape, store, 0, Some(2), clock);
    assert_eq!(turns(&mut core, 5), [46, 6, 6, 6, 6]);
    assert_eq!(core.stats.tiers[0].slower, 0);
}

/// What a tier gives back is damaged: the tokens are computed, and counted under that reason.
#[test]
fn what_fails_a_check_is_counted_as_that() {
    let clock = Arc::new(VirtualClock::default());
    let flip = FaultPlan { flip: 1000, ..FaultPlan::default() };
    let store = FaultStore::new(HostStore::new(1 << 20), flip, 7, Arc::<VirtualClock>::clone(&clock));
    let mut core = tiered_at(&shape(8, 16, 4, &[(12, None)]), vec![Box::new(store)], 0, Some(2), clock);
    assert_eq!(turns(&mut core, 2), [46, 46]);
    let cache = core.stats.cache;
    assert_eq!((cache.missed.failed_check, cache.hit_tokens), (40, 0), "{cache:?}");
    assert_eq!(cache.hit_tokens + cache.missed.tokens(), cache.tokens);
}

/// A tier has the pages, and those that run need the device's.
#[test]
fn what_finds_no_room_is_counted_as_that() {
    let mut core = tiered(&shape(8, 16, 4, &[(12, None)]), host(1 << 20), 0);
    let text = prompt(1, 44);
    run(&mut core, &text, 1);
    crowd_out(&mut core, 2);
    let keys = core.scheduler.pages.keys(b"", &text);
    let ask = crate::kv::tier::manager::Ask {
        limit: 43,
        pace: crate::kv::Pace::default(),
        spare: vec![12],
        announce: true,
        lossy: false,
    };
    let pages = &mut core.scheduler.pages;
    let below = pages.below.as_mut().unwrap();
    let load = below.load(&mut pages.cache, &keys, ask, 0).unwrap();
    let blame = below.take(&mut pages.cache, load).unwrap().blame.unwrap();
    assert_eq!((blame.why, blame.tokens), (crate::kv::cache::Why::Crowded, 0..40));
}
