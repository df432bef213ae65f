//! What happens while pages are on their way up: requests that share them, are cancelled, give way, or lose their engine.
use super::*;
use crate::engine::session::Inner;
use std::sync::Condvar;
use std::sync::atomic::AtomicBool;

const SHAPE: [(usize, Option<usize>); 2] = [(12, None), (9, Some(20))];

/// A core whose device has nothing of `text`, and whose host tier has all of it.
fn on_the_host(text: &[u32], latency: u64) -> Core<FakeRunner> {
    let mut core = tiered(&shape(8, 16, 4, &SHAPE), host(1 << 20), latency);
    run(&mut core, text, 1);
    crowd_out(&mut core, 2);
    core
}

fn submit(core: &mut Core<FakeRunner>, prompt: &[u32], tokens: usize) -> (Receiver<Event>, Arc<AtomicBool>) {
    let (submission, events) = submission(prompt, tokens);
    let cancelled = Arc::clone(&submission.output.cancelled);
    core.submit(submission);
    (events, cancelled)
}

fn is_loading(core: &Core<FakeRunner>) -> bool {
    core.scheduler.waiting.iter().any(|s| core.scheduler.pages.is_loading(s))
}

/// Nothing is held, nothing is on its way, and every page can be freed.
fn nothing_is_left(core: &mut Core<FakeRunner>) {
    settle(core);
    for steps in 0.. {
        core.step(0);
        if core.scheduler.pages.is_settled() {
            break;
        }
        assert!(steps < 1000, "{:?}", core.scheduler.pages.tiers());
    }
    let pages = &mut core.scheduler.pages;
    for group in 0..SHAPE.len() {
        pages.cache.trim(group, 0);
        assert_eq!(pages.cache.free(group), SHAPE[group].0, "group {group} leaks");
    }
}

#[test]
fn a_prefix_in_flight_is_computed_once() {
    // A step has room for both.
    let mut core = core(&shape(8, 128, 4, &[(40, None), (30, Some(20))]));
    let text = prompt(1, 44);
    let both = [[&text[..], &prompt(2, 5)].concat(), [&text[..], &prompt(3, 5)].concat()];
    let listeners = both.each_ref().map(|text| submit(&mut core, text, 2).0);
    settle(&mut core);
    for (text, events) in both.iter().zip(&listeners) {
        assert_eq!(finished(events).ids, answer(text, 2));
    }
    // The second computes what it has for itself, the end of a page that it copies, and each its answer's first token.
    assert_eq!(computed(&core), 49 + 1 + 5 + 1);
    assert_eq!(core.stats.cache.hit_tokens, 44);
}

#[test]
fn and_twice_for_two_tenants() {
    let mut core = core(&shape(8, 16, 4, &[(40, None)]));
    for salt in ["a", "b"] {
        let (submission, _) = submission(&prompt(1, 44), 1);
        core.submit(Submission { salt: salt.into(), ..submission });
    }
    settle(&mut core);
    assert_eq!(computed(&core), 2 * 44);
}

/// Half pages read, and tokens computed, for requests that continue `text`, all at once.
fn at_once(text: &[u32], latency: u64, requests: u32) -> (u64, u64) {
    let mut core = on_the_host(text, latency);
    let before = (core.stats.tiers[0].calls.hits, computed(&core));
    let texts: Vec<_> = (0..requests).map(|i| [text, &prompt(4 + i, 3)].concat()).collect();
    let listeners: Vec<_> = texts.iter().map(|text| submit(&mut core, text, 1).0).collect();
    settle(&mut core);
    for (text, events) in texts.iter().zip(&listeners) {
        assert_eq!(finished(events).ids, answer(text, 1), "latency {latency}");
    }
    let after = (core.stats.tiers[0].calls.hits - before.0, computed(&core) - before.1);
    nothing_is_left(&mut core);
    after
}

#[test]
fn a_prefix_on_its_way_up_is_loaded_once() {
    let text = prompt(1, 44);
    for latency in [0, 5] {
        let (reads, tokens) = at_once(&text, latency, 1);
        assert!(reads >= 12 && tokens == 3, "{reads} {tokens}");
        assert_eq!(at_once(&text, latency, 3), (reads, 9), "latency {latency}");
    }
}

/// Only so many loads hold device pages at once; the others wait for them instead of computing what a tier has.
#[test]
fn more_requests_than_loads_find_their_pages_too() {
    for latency in [0, 5] {
        let mut core = tiered(&shape(8, 32, 16, &[(120, None)]), host(1 << 20), latency);
        let texts: Vec<_> = (0..12).map(|i| prompt(10 + i, 44)).collect();
        for text in &texts {
            run(&mut core, text, 1);
        }
        crowd_out(&mut core, 2);
        let before = computed(&core);
        let turns: Vec<_> = texts.iter().map(|text| [text, &prompt(3, 3)[..]].concat()).collect();
        let listeners: Vec<_> = turns.iter().map(|turn| submit(&mut core, turn, 1).0).collect();
        settle(&mut core);
        for (turn, events) in turns.iter().zip(&listeners) {
            assert_eq!(finished(events).ids, answer(turn, 1), "latency {latency}");
        }
        assert_eq!((computed(&core) - before, core.stats.cache.missed.crowded), (12 * 3, 0), "latency {latency}");
    }
}

#[test]
fn a_request_that_is_cancelled_while_its_pages_load_leaves_nothing() {
    let text = prompt(1, 44);
    for latency in [1, 4, 9] {
        for steps in 0..14 {
            let mut core = on_the_host(&text, latency);
            let (events, cancelled) = submit(&mut core, &[&text[..], &prompt(4, 3)].concat(), 4);
            let (other, _) = submit(&mut core, &prompt(6, 20), 5);
            (0..steps).for_each(|_| core.step(0));
            assert!(steps != 1 || is_loading(&core), "nothing is on its way, latency {latency}");
            cancelled.store(true, Ordering::Relaxed);
            nothing_is_left(&mut core);
            let done = finished(&events);
            assert!(done.reason == FinishReason::Cancelled || done.ids.len() == 4, "{done:?}");
            assert_eq!(finished(&other).ids, answer(&prompt(6, 20), 5), "latency {latency}, {steps} steps");
            // And the next one has it all.
            assert_eq!(run(&mut core, &[&text[..], &prompt(4, 3)].concat(), 1), 3, "latency {latency}, {steps} steps");
        }
    }
}

/// A running sequence that needs the pages that are being loaded for a waiting one gets them.
#[test]
fn a_running_request_takes_the_pages_of_a_load() {
    let text = prompt(1, 44);
    for latency in [1, 3, 8] {
        let mut core = on_the_host(&text, latency);
        let (first, _) = submit(&mut core, &prompt(6, 10), 80);
        core.step(0);
        let (second, _) = submit(&mut core, &[&text[..], &prompt(4, 3)].concat(), 2);
        let mut loading = false;
        for _ in 0..10 {
            core.step(0);
            loading |= is_loading(&core);
        }
        settle(&mut core);
        assert!(loading, "nothing was on its way, latency {latency}");
        assert_eq!(finished(&first).ids, answer(&prompt(6, 10), 80), "latency {latency}");
        let text = [&text[..], &prompt(4, 3)].concat();
        assert_eq!(finished(&second).ids, answer(&text, 2), "latency {latency}");
        nothing_is_left(&mut core);
    }
}

/// Sequences that give way and whose pages are evicted come back through the tier, while others do the same.
#[test]
fn sequences_that_give_way_while_others_load_come_back() {
    for latency in [0, 2, 6] {
        let mut core = tiered(&shape(8, 16, 4, &SHAPE), host(1 << 20), latency);
        let texts: Vec<_> = (0..4).map(|i| prompt(i, 30)).collect();
        let listeners: Vec<_> = texts.iter().map(|text| submit(&mut core, text, 50).0).collect();
        let mut loading = 0;
        while !core.is_idle() {
            core.step(0);
            loading += usize::from(is_loading(&core));
        }
        nothing_is_left(&mut core);
        for (text, events) in texts.iter().zip(&listeners) {
            assert_eq!(finished(events).ids, answer(text, 50), "latency {latency}");
        }
        assert!(core.stats.preemptions > 2 && loading > 0, "latency {latency}: {loading} {:?}", core.stats);
    }
}

/// Holds all reads until it is opened.
#[derive(Default)]
struct Gate(Mutex<(bool, usize)>, Condvar);

impl Gate {
    fn pass(&self) {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        self.1.notify_all();
        drop(self.1.wait_while(state, |state| !state.0).unwrap());
    }

    fn set(&self, open: bool) {
        self.0.lock().unwrap().0 = open;
        self.1.notify_all();
    }

    /// Waits until somebody stands before it.
    fn visited(&self) {
        let state = self.0.lock().unwrap();
        let (state, late) = self.1.wait_timeout_while(state, Duration::from_secs(60), |s| s.1 == 0).unwrap();
        assert!(!late.timed_out() && state.1 > 0, "nothing was read");
    }
}

#[test]
fn an_engine_that_ends_while_pages_load_ends_its_streams_and_threads() {
    let shape = shape(8, 16, 4, &SHAPE);
    let (store, gate) = (Arc::new(HostStore::new(1 << 20)), Arc::new(Gate::default()));
    gate.set(true);
    let read = Arc::clone(&gate);
    let stores: Vec<Box<dyn Store>> = vec![Box::new(Before(Arc::clone(&store), move || read.pass()))];
    let core = tiered_at(&shape, stores, 1, None, Arc::new(crate::kv::tier::RealClock::default()));
    let engine = Inner::start(core.runner, core.scheduler, None, 1 << 20).unwrap();
    let text = prompt(1, 44);
    engine.submit(text.clone(), &request(1), vec![]).unwrap().wait().unwrap();
    engine.submit(prompt(2, 90), &request(2), vec![]).unwrap().wait().unwrap();
    while !engine.call(|scheduler| scheduler.pages.is_settled()).unwrap() {
        std::thread::yield_now();
    }
    gate.set(false);
    let stream = engine.submit([&text[..], &prompt(3, 3)].concat(), &request(4), vec![]).unwrap();
    gate.visited();
    let opener = std::thread::spawn({
        let gate = Arc::clone(&gate);
        move || {
            std::thread::sleep(Duration::from_millis(100));
            gate.set(true);
        }
    });
    drop(engine);
    opener.join().unwrap();
    let error = stream.wait().unwrap_err().to_string();
    assert!(error.contains("engine has ended"), "{error}");
    assert_eq!(Arc::strong_count(&store), 1, "a thread of a tier outlives the engine");
}
