//! Sequences that give way and come back: from a tier or by computing, whichever is faster by what was measured, and always at
//! the token at which they were.
use super::tiers::{host, tiered, tiered_at};
use super::*;
use crate::kv::Pace;
use crate::kv::tier::{HostStore, Store, VirtualClock};

/// Three requests that need more pages than there are.
fn crowd(mut core: Core<FakeRunner>) -> Core<FakeRunner> {
    let texts: Vec<_> = (0..3).map(|i| prompt(i, 29)).collect();
    let listeners: Vec<_> = texts.iter().map(|text| submission(text, 45)).collect();
    let mut events = Vec::new();
    for (submission, receiver) in listeners {
        core.submit(submission);
        events.push(receiver);
    }
    for step in 0..5_000 {
        core.step(step);
        if core.is_idle() {
            break;
        }
        assert!(step < 4_999, "not finished");
    }
    super::tiers::settle(&mut core);
    for (text, events) in texts.iter().zip(&events) {
        assert_eq!(finished(events).ids, answer(text, 45));
    }
    assert!(core.stats.preemptions > 0);
    assert_eq!(core.stats.cache.hit_tokens, 0, "what a request computed itself is no hit");
    assert_eq!(core.scheduler.pages.free(), [12]);
    core
}

fn small() -> Shape {
    shape(8, 16, 3, &[(12, None)])
}

#[test]
fn without_tiers_what_was_evicted_is_computed_again() {
    let core = crowd(core(&small()));
    let back = core.stats.comebacks;
    assert!(back.loaded == 0 && back.computed > 0, "{back:?}");
    let once = 3 * (29 + 44);
    assert_eq!(computed(&core), once + back.computed, "{back:?}");
}

#[test]
fn a_fast_tier_gives_it_back() {
    let core = crowd(tiered(&small(), host(1 << 20), 0));
    let back = core.stats.comebacks;
    assert!(back.loaded > 0, "{back:?}");
}

#[test]
fn a_slow_tier_does_not() {
    let clock = Arc::new(VirtualClock::default());
    let turned = Arc::clone(&clock);
    let slow = move || crate::kv::tier::Clock::sleep(&*turned, Duration::from_secs(3600));
    let store: Vec<Box<dyn Store>> = vec![Box::new(super::tiers::Before(Arc::new(HostStore::new(1 << 20)), slow))];
    let core = crowd(tiered_at(&small(), store, 0, Some(2), clock));
    let (back, tier) = (core.stats.comebacks, &core.stats.tiers[0]);
    assert!(tier.slower > 0 && back.computed > 0, "{back:?} {tier:?}");
    // But for the one load that measures.
    assert!(back.loaded <= 29 + 44, "{back:?} {tier:?}");
}

/// The youngest gives way, unless another one's pages come back notably cheaper: here from a tier that has them.
#[test]
fn whose_pages_come_back_cheaply_gives_way() {
    for (tier, expected) in [(true, 1), (false, 2)] {
        let stores = if tier { host(1 << 20) } else { Vec::new() };
        let mut core = tiered(&shape(8, 64, 4, &[(60, None)]), stores, 0);
        // So that reading has been measured.
        super::tiers::run(&mut core, &prompt(9, 40), 1);
        core.scheduler.pages.cache.trim(0, 0);
        super::tiers::run(&mut core, &prompt(9, 40), 1);
        for (seed, len) in [(1, 40), (2, 40)] {
            core.submit(submission(&prompt(seed, len), 30).0);
            // Steps for the tier to get the pages.
            (0..12).for_each(|_| core.step(0));
        }
        core.submit(submission(&prompt(3, 40), 30).0);
        core.step(0);
        core.scheduler.pace = Pace::of(1.0, 0.0);
        assert_eq!(core.scheduler.running.len(), 3);
        assert_eq!(core.scheduler.victim(0), expected, "with a tier: {tier}");
        assert_eq!(core.scheduler.victim(2), 2, "nobody older gives way");
    }
}

/// The page that a sequence was filling is kept where loading it should take less time than computing it; here a load takes a second.
#[test]
fn the_page_being_filled_is_kept_where_that_pays() {
    for (seconds_a_token, kept) in [(3600.0, true), (1e-6, false)] {
        let clock = Arc::new(VirtualClock::default());
        let turned = Arc::clone(&clock);
        let second = move || crate::kv::tier::Clock::sleep(&*turned, Duration::from_secs(1));
        let store: Vec<Box<dyn Store>> =
            vec![Box::new(super::tiers::Before(Arc::new(HostStore::new(1 << 20)), second))];
        let mut core = tiered_at(&shape(8, 64, 4, &[(60, None)]), store, 0, Some(2), clock);
        // So that reading has been measured.
        super::tiers::run(&mut core, &prompt(9, 40), 1);
        core.scheduler.pages.cache.trim(0, 0);
        super::tiers::run(&mut core, &prompt(9, 40), 1);
        assert!(core.stats.tiers[0].hit_tokens > 0);
        core.submit(submission(&prompt(1, 40), 30).0);
        (0..5).for_each(|_| core.step(0));
        let mut s = core.scheduler.running.remove(0);
        assert_eq!(s.computed(), 44);
        core.scheduler.pages.preempt(&mut s, &Pace::of(seconds_a_token, 0.0));
        assert_eq!(core.scheduler.pages.cached(&s.keys), if kept { 44 } else { 40 }, "{seconds_a_token} s a token");
    }
}
