//! Found pages that are computed again: what is right passes, what was damaged on the device after every other check is found
//! out and dropped everywhere.
use super::super::verify::Verifier;
use super::prefix::one_by_one;
use super::tiers::{crowd_out, host, run, settle, tiered};
use super::*;

/// Flips the hashes in what the device has of the page `index` of a text, in all groups, as a bad memory might.
fn damage(core: &mut Core<FakeRunner>, text: &[u32], index: usize) {
    let keys = core.scheduler.pages.keys(b"", text);
    let lease = core.scheduler.pages.cache.hold(&keys, 0);
    for group in 0..core.scheduler.pages.groups() {
        let page = lease.table(group)[index] as usize;
        for half in &mut core.runner.memory.lock().unwrap()[group][page] {
            half.chunks_exact_mut(8).for_each(|slot| slot[7] ^= 0x10);
        }
    }
    core.scheduler.pages.cache.cancel(lease);
}

#[test]
fn what_is_right_passes() {
    let mut core = core(&shape(8, 16, 4, &[(40, None), (30, Some(20))]));
    core.scheduler.pages.verifier = Some(Verifier::new(1));
    let text = prompt(1, 44);
    let turn = [&text[..], &answer(&text, 10), &prompt(2, 25)].concat();
    assert_eq!(one_by_one(&mut core, &[(&text, 10, ""), (&text, 2, ""), (&turn, 3, "")]), [0, 43, 53]);
    assert_eq!(core.stats.verified.differed, 0);
    assert_eq!(core.stats.verified.pages, 2 * (5 + 6), "every found page of both groups");
    assert_eq!(core.stats.free_pages, [40, 30]);
}

#[test]
fn a_sample_is_about_one_in_so_many() {
    let mut core = core(&shape(8, 16, 4, &[(60, None)]));
    core.scheduler.pages.verifier = Some(Verifier::new(10));
    let text = prompt(1, 330);
    (0..50).for_each(|_| drop(one_by_one(&mut core, &[(&text, 1, "")])));
    // 49 requests that find 41 pages; a standard deviation is 13.
    let pages = core.stats.verified.pages;
    assert!((140..262).contains(&pages), "{pages} of {} pages", 49 * 41);
}

/// The device is never idle here.
#[test]
fn checks_have_their_turn_beside_a_request_that_goes_on() {
    let mut core = core(&shape(8, 16, 4, &[(60, None)]));
    core.scheduler.pages.verifier = Some(Verifier::new(1));
    let text = prompt(1, 44);
    one_by_one(&mut core, &[(&text, 1, "")]);
    let (long, long_events) = submission(&prompt(2, 10), 100);
    let (again, again_events) = submission(&text, 1);
    core.submit(long);
    core.submit(again);
    (0..60).for_each(|_| core.step(0));
    assert_eq!(finished(&again_events).ids, answer(&text, 1));
    assert_eq!(core.scheduler.running.len(), 1);
    // Five pages were found; one is checked in 16 steps, the first perhaps at once.
    let pages = core.stats.verified.pages;
    assert!((3..5).contains(&pages), "{pages}");
    settle(&mut core);
    assert_eq!(finished(&long_events).ids, answer(&prompt(2, 10), 100));
    assert_eq!((core.stats.verified.pages, core.stats.verified.differed), (5, 0));
}

#[test]
fn so_many_pages_wait_and_no_more() {
    let mut core = core(&shape(8, 16, 4, &[(60, None)]));
    core.scheduler.pages.verifier = Some(Verifier::new(1));
    let text = prompt(1, 330);
    one_by_one(&mut core, &[(&text, 1, "")]);
    let keys = core.scheduler.pages.keys(b"", &text);
    (0..2).for_each(|_| core.scheduler.pages.verifier.as_mut().unwrap().found(&keys, 41));
    settle(&mut core);
    assert_eq!(core.stats.verified.pages, 64);
}

#[test]
fn a_damaged_page_is_dropped_with_what_continues_it() {
    for groups in [&[(12, None)][..], &[(12, None), (12, Some(40))]] {
        let mut core = tiered(&shape(8, 16, 4, groups), host(1 << 20), 1);
        core.scheduler.pages.verifier = Some(Verifier::new(1));
        let text = prompt(1, 60);
        run(&mut core, &text, 1);
        damage(&mut core, &text, 3);
        // This one may still be answered from it.
        let (submission, _events) = submission(&[&text[..], &[1, 2]].concat(), 1);
        core.submit(submission);
        settle(&mut core);
        assert_eq!(core.stats.verified.differed, 1, "{:?}", core.stats.verified);
        let keys = core.scheduler.pages.keys(b"", &text);
        assert_eq!(core.scheduler.pages.cached(&keys), 24, "the pages before it stay");
        let mut copies = core.stats.tiers[0].pages;
        assert_eq!(copies, 3 * groups.len(), "and nothing below has the rest");
        crowd_out(&mut core, 2);
        assert_eq!(run(&mut core, &text, 2), 60 + 1 - 24, "what was dropped is computed, the rest comes back");
        copies = core.stats.tiers[0].pages;
        assert!(copies > 3 * groups.len());
        assert_eq!(core.stats.verified.differed, 1);
    }
}
