//! Random calls, everything checked after each.
use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Call {
    Start { salt: u8, stem: u8, stem_tokens: usize, end: Vec<u32> },
    Step { which: usize, tokens: usize, generated: u32 },
    Fork(usize),
    Finish(usize),
    Cancel(usize),
    Trim(usize),
    Forgo(usize),
    Preempt(usize),
    Reserve(usize),
    InvalidatePrefix(usize),
    InvalidateSalt(u8),
    InvalidateAll,
}

fn call() -> impl Strategy<Value = Call> {
    let end = prop::collection::vec(0..3u32, 0..10);
    prop_oneof![
        3 => (0..2u8, 0..3u8, 0..24usize, end)
            .prop_map(|(salt, stem, stem_tokens, end)| Call::Start { salt, stem, stem_tokens, end }),
        8 => (any::<usize>(), 1..14usize, 0..3u32)
            .prop_map(|(which, tokens, generated)| Call::Step { which, tokens, generated }),
        1 => any::<usize>().prop_map(Call::Fork),
        2 => any::<usize>().prop_map(Call::Finish),
        1 => any::<usize>().prop_map(Call::Cancel),
        1 => (0..12usize).prop_map(Call::Trim),
        1 => any::<usize>().prop_map(Call::Forgo),
        1 => any::<usize>().prop_map(Call::Preempt),
        1 => any::<usize>().prop_map(Call::Reserve),
        1 => any::<usize>().prop_map(Call::InvalidatePrefix),
        1 => (0..2u8).prop_map(Call::InvalidateSalt),
        1 => Just(Call::InvalidateAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn never_serves_another_page_and_never_leaks(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        groups in prop::sample::select(vec![vec![full(20)], vec![full(20), windowed(14)], vec![windowed(14)]]),
        ghosts in prop::sample::select(vec![0, 5, 1000]),
        calls in prop::collection::vec(call(), 0..120),
    ) {
        let mut world = World::new(kind, &groups, ghosts);
        for call in calls {
            let live = world.live.len();
            match call {
                Call::Start { salt, stem, stem_tokens, end } if live < 6 => {
                    let mut tokens: Vec<u32> = (0..stem_tokens as u32).map(|at| at + 100 * u32::from(stem)).collect();
                    tokens.extend(end);
                    if !tokens.is_empty() {
                        let hit = world.start(&[salt], &tokens);
                        prop_assert!(hit < tokens.len());
                    }
                }
                Call::Step { which, tokens, generated } if live > 0 => { world.step(which % live, tokens, generated); }
                Call::Fork(which) if live > 0 && live < 6 => world.fork(which % live),
                Call::Finish(which) if live > 0 => world.finish(which % live),
                Call::Cancel(which) if live > 0 => {
                    let Sequence { lease, .. } = world.live.swap_remove(which % live);
                    world.cache.cancel(lease);
                }
                Call::Forgo(which) if live > 0 => {
                    let lease = &mut world.live[which % live].lease;
                    let before = lease.filled();
                    prop_assert_eq!(world.cache.forgo_partial(lease), lease.filled() < before);
                }
                Call::Preempt(which) if live > 0 => {
                    let Sequence { lease, keys } = world.live.swap_remove(which % live);
                    let computed = lease.filled();
                    world.cache.finish(lease, &keys, computed, world.now);
                    let lease = world.cache.resume(&keys, keys.tokens().len() - 1, world.now);
                    world.live.push(Sequence { lease, keys });
                }
                Call::Reserve(group) => {
                    let (group, most) = (group % groups.len(), world.cache.available(group % groups.len()));
                    prop_assert!(!world.cache.reserve(group, most + 1) && world.cache.reserve(group, most));
                }
                Call::InvalidatePrefix(which) if live > 0 => {
                    let keys = world.live[which % live].keys.clone();
                    world.cache.invalidate_prefix(&keys);
                    let found = world.cache.hold(&keys, world.now);
                    prop_assert!(found.filled() < keys.tokens().len(), "found what is invalid");
                    world.cache.cancel(found);
                }
                Call::InvalidateSalt(salt) => { world.cache.invalidate_salt(&[salt]); }
                Call::InvalidateAll => {
                    world.cache.invalidate_all();
                    prop_assert_eq!(world.cache.shared(&world.cache.keys(&[0], &[1; 9]), 9, world.now)[0], 0);
                }
                Call::Trim(pages) => (0..groups.len()).for_each(|group| world.cache.trim(group, pages)),
                _ => {}
            }
            let counters = world.cache.counters();
            prop_assert_eq!(counters.tokens, counters.hit_tokens + counters.missed.tokens());
        }
        world.close();
    }
}
