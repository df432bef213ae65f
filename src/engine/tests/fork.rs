//! Several answers to one prompt on shared pages, pins and priorities.
use super::super::sequence::Twin;
use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;

/// Parameters under which answers of different seeds differ.
fn drawn(seed: u64) -> SampleParams {
    SampleParams { temperature: 1.0, seed, ..SampleParams::default() }
}

/// What an undisturbed engine answers under a seed.
fn sampled(prompt: &[u32], tokens: usize, seed: u32) -> Vec<u32> {
    let mut history = prompt.to_vec();
    for _ in 0..tokens {
        history.push(history.iter().fold(NOTHING, |h, &t| hash(h, t)).wrapping_add(seed) % VOCAB);
    }
    history.split_off(prompt.len())
}

/// One listener of a request: its events, and the flag that cancels it.
type Listener = (Receiver<Event>, Arc<AtomicBool>);

/// A request for answers of seeds 0, 1, ...
fn samples(prompt: &[u32], tokens: usize, samples: u64) -> (Submission, Vec<Listener>) {
    let (first, events) = submission(prompt, tokens);
    let mut listeners = vec![(events, Arc::clone(&first.output.cancelled))];
    let mut twin = |seed| {
        let (twin, events) = submission(prompt, tokens);
        listeners.push((events, Arc::clone(&twin.output.cancelled)));
        Twin { sampling: drawn(seed), output: twin.output }
    };
    let twins = (1..samples).map(&mut twin).collect();
    (Submission { sampling: drawn(0), twins, ..first }, listeners)
}

fn run(core: &mut Core<FakeRunner>) {
    for step in 0..10_000 {
        core.step(100 * step);
        if core.is_idle() {
            return;
        }
    }
    panic!("not finished");
}

#[test]
fn a_prompt_of_several_answers_is_computed_once() {
    for len in [31, 32, 33, 1] {
        let mut core = core(&shape(8, 64, 4, &[(40, None), (30, Some(20))]));
        let (submission, listeners) = samples(&prompt(1, len), 10, 4);
        core.submit(submission);
        run(&mut core);
        for (seed, (events, _)) in listeners.iter().enumerate() {
            let done = finished(events);
            assert_eq!((done.ids, done.prompt_tokens), (sampled(&prompt(1, len), 10, seed as u32), len));
            assert_eq!(done.cached_tokens, if seed == 0 { 0 } else { len });
        }
        let computed = core.stats.prefill_tokens + core.stats.decode_tokens;
        assert_eq!(computed, len as u64 + 4 * 9, "the prompt, and of each answer all but the last token");
        assert_eq!(core.stats.cache.forked_tokens, 3 * len as u64);
        assert_eq!(core.stats.free_pages, [40, 30]);
    }
}

#[test]
fn answers_of_one_prompt_are_cancelled_one_by_one() {
    let mut core = core(&shape(8, 16, 4, &[(40, None)]));
    let (submission, listeners) = samples(&prompt(1, 40), 10, 3);
    core.submit(submission);
    core.step(0);
    for cancelled in [0, 2] {
        listeners[cancelled].1.store(true, Ordering::Relaxed);
    }
    run(&mut core);
    let done: Vec<Completion> = listeners.iter().map(|(events, _)| finished(events)).collect();
    assert_eq!(done[1].ids, sampled(&prompt(1, 40), 10, 1));
    assert_eq!([&done[0], &done[2]].map(|done| (done.reason, done.ids.len())), [(FinishReason::Cancelled, 0); 2]);
    assert_eq!(core.stats.prefill_tokens + core.stats.decode_tokens, 40 + 9);
    assert_eq!(core.stats.free_pages, [40]);
}

#[test]
fn a_failed_prompt_tells_all_who_wait_for_it() {
    let mut core = core(&shape(8, 16, 4, &[(40, None)]));
    core.runner.fail_at = 1;
    let (submission, listeners) = samples(&prompt(1, 40), 10, 3);
    core.submit(submission);
    run(&mut core);
    for (events, _) in &listeners {
        assert!(matches!(events.try_iter().last(), Some(Event::Failed(Error::Overflow(_)))));
    }
    assert_eq!(core.stats.free_pages, [40]);
}

#[test]
fn more_samples_than_seats_are_refused() {
    let engine = inner(&shape(8, 16, 2, &[(40, None)]), 100);
    let refused = |n| engine.submit_samples(prompt(1, 5), &request(1), vec![], n).unwrap_err().to_string();
    assert!(refused(3).contains("1 to 2") && refused(0).contains("1 to 2"));
    let streams = engine.submit_samples(prompt(1, 5), &request(6), vec![], 2).unwrap();
    for stream in streams {
        assert_eq!(stream.wait().unwrap().ids, answer(&prompt(1, 5), 6));
    }
}

#[test]
fn higher_priority_leaves_the_queue_first_and_equal_ones_in_order() {
    let mut core = core(&shape(8, 16, 1, &[(40, None)]));
    let mut listeners = Vec::new();
    for (seed, priority) in [(0, 0), (1, 0), (2, 5), (3, -1), (4, 5)] {
        let (submission, events) = submission(&prompt(seed, 20), 3);
        core.submit(Submission { priority, ..submission });
        listeners.push((seed, events));
    }
    let mut order = Vec::new();
    while !core.is_idle() {
        core.step(0);
        order.extend(listeners.iter().filter(|(_, events)| events.try_iter().last().is_some()).map(|(seed, _)| *seed));
    }
    assert_eq!(order, [2, 4, 0, 1, 3]);
}

/// Keys of what `prompt` and its answer leave in the cache.
fn cached_keys(core: &Core<FakeRunner>, prompt: &[u32], tokens: usize) -> crate::kv::Keys {
    let all = [prompt, &answer(prompt, tokens)].concat();
    core.scheduler.pages.keys(b"", &all[..all.len() - 1])
}

fn one(core: &mut Core<FakeRunner>, prompt: &[u32], tokens: usize) {
    let (submission, events) = submission(prompt, tokens);
    core.submit(submission);
    run(core);
    assert_eq!(finished(&events).ids, answer(prompt, tokens));
}

#[test]
fn pinned_pages_outlast_others_until_their_time_is_over() {
    let mut core = core(&shape(8, 32, 2, &[(12, None), (12, Some(20))]));
    one(&mut core, &prompt(1, 30), 4);
    let keys = cached_keys(&core, &prompt(1, 30), 4);
    let (pin, pinned) = core.scheduler.pages.pin(&keys, 0, 500_000);
    // Five pages of the full group, and of the other the partly filled one and three before it.
    assert_eq!((pinned.tokens, pinned.pages, pinned.missing), (33, 5 + 4, 0));
    for seed in 10..20 {
        one(&mut core, &prompt(seed, 40), 4);
    }
    assert_eq!(core.scheduler.pages.cached(&keys), 33);
    assert!(pin.is_some_and(|pin| core.scheduler.pages.pinned_until(pin) == Some(500_000)));
    assert_eq!(core.stats.free_pages, [7, 8]);
    core.step(500_000);
    core.observe();
    assert_eq!((core.stats.free_pages.clone(), core.scheduler.pages.unpin(pin.unwrap())), (vec![12, 12], 0));
    let (pin, pinned) = core.scheduler.pages.pin(&core.scheduler.pages.keys(b"", &prompt(99, 20)), 0, u64::MAX);
    assert_eq!((pin, pinned.pages, pinned.missing), (None, 0, 20));
}

#[test]
fn pins_yield_to_what_could_not_run_otherwise_least_priority_first() {
    let mut core = core(&shape(8, 32, 2, &[(12, None)]));
    let mut pins = Vec::new();
    for (seed, priority) in [(1, 1), (2, 0), (3, 1)] {
        one(&mut core, &prompt(seed, 15), 2);
        let keys = cached_keys(&core, &prompt(seed, 15), 2);
        pins.push((core.scheduler.pages.pin(&keys, priority, u64::MAX).0.unwrap(), keys));
    }
    core.observe();
    assert_eq!(core.stats.free_pages, [6]);
    one(&mut core, &prompt(4, 50), 4);
    assert!(pins.iter().all(|(pin, _)| core.scheduler.pages.pinned_until(*pin).is_none() == (*pin == pins[1].0)));
    one(&mut core, &prompt(5, 80), 4);
    assert!(pins.iter().all(|(pin, _)| core.scheduler.pages.pinned_until(*pin).is_none()));
    assert_eq!(core.stats.free_pages, [12]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_load_of_samples_gives_each_its_own_answer(
        page in prop_oneof![Just(8usize), Just(16)],
        step in 8usize..40,
        full in 8usize..30,
        window in 1usize..40,
        loads in proptest::collection::vec((0u32..3, 1usize..60, 1usize..30, 1u64..5, 0usize..40, 0usize..30), 1..8),
    ) {
        let wide = crate::engine::config::pages_for(Some(window), page, step, usize::MAX / 2);
        let mut core = core(&shape(page, step, 5, &[(full, None), (wide.min(full), Some(window))]));
        let capacity = core.scheduler.pages.capacity();
        let mut all: Vec<(Vec<u32>, usize, Vec<Listener>)> = Vec::new();
        for at in 0..10_000 {
            for &(text, len, tokens, n, start, _) in loads.iter().filter(|load| load.4 == at) {
                let prompt = prompt(text, len.min(capacity - 1));
                let tokens = tokens.min(capacity - prompt.len());
                let (submission, listeners) = samples(&prompt, tokens, n);
                core.submit(submission);
                all.push((prompt, tokens, listeners));
                prop_assert!(start == at);
            }
            for (load, (_, _, listeners)) in loads.iter().zip(&all).filter(|(load, _)| load.4 + load.5 == at) {
                if load.5 % 2 == 1 {
                    listeners[load.5 % listeners.len()].1.store(true, Ordering::Relaxed);
                }
            }
            core.step(100 * at as u64);
            if all.len() == loads.len() && core.is_idle() {
                break;
            }
            prop_assert!(at < 9_999, "does not finish");
        }
        for (prompt, tokens, listeners) in &all {
            for (seed, (events, _)) in listeners.iter().enumerate() {
                let (done, expected) = (finished(events), sampled(prompt, *tokens, seed as u32));
                prop_assert_eq!(&done.ids, &expected[..done.ids.len()]);
                prop_assert!(done.reason == FinishReason::Cancelled || done.ids.len() == *tokens);
            }
        }
        prop_assert_eq!(core.scheduler.pages.free(), vec![full, wide.min(full)]);
    }
}
