//! Prompts that find pages of others: what is found, and that no answer depends on it.
use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;

/// Runs requests one after another: what each found, and that its answer is right.
pub(super) fn one_by_one(core: &mut Core<FakeRunner>, requests: &[(&[u32], usize, &str)]) -> Vec<u64> {
    let mut found = Vec::new();
    for &(prompt, tokens, salt) in requests {
        let before = core.stats.cache.hit_tokens;
        let (submission, events) = submission(prompt, tokens);
        core.submit(Submission { salt: salt.into(), ..submission });
        for step in 0.. {
            core.step(0);
            if core.is_idle() {
                break;
            }
            assert!(step < 1000, "not finished");
        }
        assert_eq!(finished(&events).ids, answer(prompt, tokens));
        found.push(core.stats.cache.hit_tokens - before);
    }
    found
}

#[test]
fn a_prompt_finds_what_was_computed_of_it() {
    let mut core = core(&shape(8, 16, 4, &[(100, None), (30, Some(20))]));
    let first = prompt(1, 44);
    let turn = [&first[..], &answer(&first, 10), &prompt(2, 5)].concat();
    let mut other = first.clone();
    other[20] += 1;
    let requests = [
        (&first[..], 10, ""),
        // All but the token whose logits are wanted, and all that was computed: the last token drawn was not.
        (&first, 1, ""),
        (&turn, 1, ""),
        (&other, 1, ""),
        (&first, 1, "another tenant"),
        (&first, 1, "another tenant"),
    ];
    assert_eq!(one_by_one(&mut core, &requests), [0, 43, 53, 20, 0, 43]);
}

#[test]
fn without_the_prefix_cache_nothing_is_found() {
    let mut core = core(&Shape { reuse: false, ..shape(8, 16, 4, &[(100, None)]) });
    let ids = prompt(1, 44);
    assert_eq!(one_by_one(&mut core, &[(&ids, 10, ""), (&ids, 10, "")]), [0, 0]);
    assert_eq!(core.stats.prefill_tokens + core.stats.decode_tokens, 2 * 53);
}

#[test]
fn a_found_page_without_room_for_its_copy_is_computed() {
    let mut core = core(&shape(8, 16, 4, &[(4, None)]));
    let ids = prompt(1, 30);
    assert_eq!(one_by_one(&mut core, &[(&ids, 1, ""), (&ids, 2, "")]), [0, 24]);
    assert_eq!((core.stats.cache.missed.crowded, core.stats.preemptions), (5, 0));
}

#[test]
fn a_preempted_sequence_goes_on_from_its_pages() {
    let work = |reuse| {
        let mut core = core(&Shape { reuse, ..shape(8, 32, 2, &[(8, None)]) });
        let requests: Vec<_> = (0..2).map(|i| (prompt(i, 20), submission(&prompt(i, 20), 30))).collect();
        let mut events = Vec::new();
        for (prompt, (submission, receiver)) in requests {
            core.submit(submission);
            events.push((prompt, receiver));
        }
        while !core.is_idle() {
            core.step(0);
        }
        for (prompt, receiver) in &events {
            assert_eq!(finished(receiver).ids, answer(prompt, 30));
        }
        assert!(core.stats.preemptions > 0);
        assert_eq!(core.stats.cache.hit_tokens, 0, "its own pages are no hits");
        core.stats.prefill_tokens + core.stats.decode_tokens
    };
    let (found, again) = (work(true), work(false));
    assert!(2 * 49 < found && found < again, "{found} tokens computed, {again} without finding any");
}

/// One request of a random load.
#[derive(Clone, Debug)]
struct Load {
    /// Continues the request before, prompt and answer, instead of one of three texts.
    follows: bool,
    text: u32,
    shared: usize,
    own: usize,
    tokens: usize,
    salt: u8,
    /// Step at which it is submitted, and at which it is cancelled.
    at: usize,
    cancelled: Option<usize>,
}

fn load() -> impl Strategy<Value = Load> {
    let cancelled = prop_oneof![5 => Just(None), 1 => (0usize..40).prop_map(Some)];
    let shape = (any::<bool>(), 0u32..3, 0usize..60, 0usize..20, 1usize..40);
    (shape, 0u8..2, 0usize..60, cancelled).prop_map(|((follows, text, shared, own, tokens), salt, at, cancelled)| {
        Load { follows, text, shared, own, tokens, salt, at, cancelled }
    })
}

/// Prompts and answer lengths of a load, each within the capacity.
fn requests(loads: &[Load], capacity: usize) -> Vec<(Vec<u32>, usize)> {
    let mut requests: Vec<(Vec<u32>, usize)> = Vec::new();
    for (i, load) in loads.iter().enumerate() {
        let mut ids = match requests.last() {
            Some((before, tokens)) if load.follows => [&before[..], &answer(before, *tokens)].concat(),
            _ => prompt(load.text, load.shared),
        };
        ids.extend(prompt(100 + i as u32, load.own.max(usize::from(ids.is_empty()))));
        ids.truncate(capacity - 1);
        let tokens = load.tokens.min(capacity - ids.len());
        requests.push((ids, tokens));
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_load_gives_every_request_its_own_answer(
        page in prop_oneof![Just(8usize), Just(16)],
        step in 8usize..80,
        seqs in 1usize..8,
        full in 8usize..40,
        window in 1usize..60,
        reuse in prop_oneof![1 => Just(false), 4 => Just(true)],
        loads in proptest::collection::vec(load(), 1..16),
    ) {
        let wide = crate::engine::config::pages_for(Some(window), page, step, usize::MAX / 2);
        let groups = [(full, None), (wide.min(full) + window % 7, Some(window))];
        let shape = Shape { reuse, ..shape(page, step.max(seqs), seqs, &groups) };
        let mut core = core(&shape);
        let requests = requests(&loads, core.scheduler.pages.capacity());
        let mut events: Vec<Option<(Receiver<Event>, Arc<AtomicBool>)>> = loads.iter().map(|_| None).collect();
        for step in 0..20_000 {
            for (i, load) in loads.iter().enumerate() {
                if load.at == step {
                    let (prompt, tokens) = &requests[i];
                    let (submission, receiver) = submission(prompt, *tokens);
                    events[i] = Some((receiver, Arc::clone(&submission.output.cancelled)));
                    core.submit(Submission { salt: vec![load.salt], ..submission });
                }
                if load.cancelled.is_some_and(|after| step == load.at + after) {
                    events[i].as_ref().unwrap().1.store(true, Ordering::Relaxed);
                }
            }
            core.step(100 * step as u64);
            if events.iter().all(Option::is_some) && core.is_idle() {
                break;
            }
            prop_assert!(step < 19_999, "does not finish: {shape:?}");
        }
        let mut whole = true;
        let mut work = 0;
        for ((prompt, tokens), events) in requests.iter().zip(&events) {
            let (done, expected) = (finished(&events.as_ref().unwrap().0), answer(prompt, *tokens));
            if done.reason == FinishReason::Cancelled {
                whole = false;
                prop_assert_eq!(&done.ids, &expected[..done.ids.len()]);
            } else {
                prop_assert_eq!(&done.ids, &expected);
            }
            work += (prompt.len() + tokens - 1) as u64;
        }
        let pages: Vec<usize> = shape.groups.iter().map(|g| g.0).collect();
        prop_assert_eq!(core.scheduler.pages.free(), pages);
        let stats = &core.stats;
        prop_assert_eq!(stats.cache.tokens, stats.cache.hit_tokens + stats.cache.missed.tokens());
        if whole && stats.preemptions == 0 {
            prop_assert_eq!(stats.prefill_tokens + stats.decode_tokens, work - stats.cache.hit_tokens);
        }
    }
}
