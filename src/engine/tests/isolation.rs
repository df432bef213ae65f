//! What a tenant may notice of another: how much it does, and not what. Whether tenant A holds or computes the tokens that
//! tenant B asks for, or other ones, everything the engine does for B is the same, step by step.
use super::*;
use crate::kv::cache::Probes;
use proptest::prelude::*;

/// All that could tell: each step's copies, shapes, page tables and slots, and the counts after it.
type Trace = (Vec<(Vec<PageCopy>, HostBatch)>, Vec<(Stats, Probes)>);

#[derive(Clone, Debug)]
struct Case {
    pages: usize,
    window: usize,
    seqs: usize,
    /// Tokens of A's and B's answers.
    a_tokens: usize,
    b_tokens: usize,
    /// Step in which B comes, and whether a third tenant is there.
    start: usize,
    crowd: bool,
}

/// `salt` is A's.
fn trace(case: &Case, salt: &str, held: &[u32], asked: &[u32]) -> Trace {
    let wide = crate::engine::config::pages_for(Some(case.window), 8, 16, usize::MAX / 2);
    let groups = [(case.pages, None), (wide.min(case.pages), Some(case.window))];
    let mut core = core(&shape(8, 16, case.seqs, &groups));
    let mut listeners = Vec::new();
    let mut submit = |core: &mut Core<FakeRunner>, salt: &str, prompt: &[u32], tokens: usize| {
        let (submission, events) = submission(prompt, tokens);
        core.submit(Submission { salt: salt.into(), ..submission });
        listeners.push(events);
    };
    submit(&mut core, salt, held, case.a_tokens);
    if case.crowd {
        submit(&mut core, "C", &prompt(77, 30), 9);
    }
    let mut counts = Vec::new();
    let mut turn = 0;
    for step in 0..5_000 {
        // The same prompt twice, then its next turn.
        if step >= case.start && turn < 3 && (step - case.start).is_multiple_of(20) {
            let next = [asked, &answer(asked, 1), &prompt(5, 3)].concat();
            submit(&mut core, "B", if turn < 2 { asked } else { &next }, case.b_tokens);
            turn += 1;
        }
        core.step(1_000 * step as u64);
        counts.push((Stats { prompt_step_micros: 0, ..core.stats.clone() }, core.scheduler.pages.cache.probes()));
        if turn == 3 && core.is_idle() {
            break;
        }
        assert!(step < 4_999, "not finished");
    }
    assert!(listeners.iter().all(|events| finished(events).reason == FinishReason::Length));
    (std::mem::take(&mut core.runner.log), counts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_tenant_sees_nothing_of_what_another_holds(
        pages in 10usize..40,
        window in 1usize..40,
        seqs in 1usize..4,
        (len, a_tokens, b_tokens) in (1usize..60, 1usize..14, 1usize..14),
        start in 0usize..30,
        crowd in any::<bool>(),
    ) {
        let case = Case { pages, window, seqs, a_tokens, b_tokens, start, crowd };
        let asked = prompt(1, len);
        let same = trace(&case, "A", &asked, &asked);
        let other = trace(&case, "A", &prompt(2, len), &asked);
        prop_assert_eq!(same.0.len(), other.0.len());
        for (step, (same, other)) in same.0.iter().zip(&other.0).enumerate() {
            prop_assert_eq!(same, other, "step {}", step);
        }
        for (step, (same, other)) in same.1.iter().zip(&other.1).enumerate() {
            prop_assert_eq!(same, other, "after step {}", step);
        }
    }
}

/// The comparison can fail: with one salt, B finds what A holds, and is told apart by it.
#[test]
fn one_salt_tells() {
    let case = Case { pages: 40, window: 20, seqs: 2, a_tokens: 3, b_tokens: 3, start: 10, crowd: false };
    let asked = prompt(1, 40);
    let steps = |held: &[u32], salt| trace(&case, salt, held, &asked).0.len();
    assert_eq!(steps(&asked, "A"), steps(&prompt(2, 40), "A"));
    assert!(steps(&asked, "B") < steps(&prompt(2, 40), "B"));
}
