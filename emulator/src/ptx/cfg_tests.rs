//! The control-flow facts against their definitions, on random graphs and on a kernel.

use super::*;
use proptest::prelude::*;

/// Blocks reachable from `start` without entering `without`.
fn reach(graph: &[Vec<u32>], start: u32, without: Option<u32>) -> Vec<bool> {
    let mut seen = vec![false; graph.len()];
    let mut todo = vec![start];
    while let Some(block) = todo.pop() {
        if Some(block) != without && !std::mem::replace(&mut seen[block as usize], true) {
            todo.extend(&graph[block as usize]);
        }
    }
    seen
}

/// Does every path from `block` to a return pass `other`? False if there is no such path.
fn post_dominates(graph: &[Vec<u32>], returns: &[bool], other: u32, block: u32) -> bool {
    let over = |seen: Vec<bool>| (0..graph.len()).any(|b| seen[b] && returns[b]);
    other != block && over(reach(graph, block, None)) && !over(reach(graph, block, Some(other)))
}

/// A graph of 1 to 10 blocks with at most two successors each, and which of them return.
fn graphs() -> impl Strategy<Value = (Vec<Vec<u32>>, Vec<bool>)> {
    (1usize..10).prop_flat_map(|n| {
        let successors = prop::collection::btree_set(0..n as u32, 0..=2.min(n));
        let graph = prop::collection::vec(successors.prop_map(|s| s.into_iter().collect::<Vec<_>>()), n);
        graph.prop_map(|g| (g.clone(), g.iter().map(|s| s.is_empty()).collect()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn post_dominators_follow_their_definition((graph, returns) in graphs()) {
        let found = post_dominators(&graph, &returns);
        for block in 0..graph.len() as u32 {
            let all: Vec<u32> = (0..graph.len() as u32).filter(|&p| post_dominates(&graph, &returns, p, block)).collect();
            // The immediate one is post-dominated by all others.
            let immediate = all.iter().copied().find(|&p| all.iter().all(|&q| q == p || post_dominates(&graph, &returns, q, p)));
            prop_assert_eq!(found[block as usize], immediate, "block {} of {:?}", block, graph);
        }
    }

    #[test]
    fn loops_are_contiguous_and_run_before_what_follows_them((graph, _) in graphs()) {
        let order = weak_topological_order(&graph);
        let mut place = vec![usize::MAX; graph.len()];
        order.iter().enumerate().for_each(|(at, &b)| place[b as usize] = at);
        prop_assert!(order.len() == graph.len() && !place.contains(&usize::MAX));
        let reaches: Vec<Vec<bool>> = (0..graph.len() as u32).map(|b| reach(&graph, b, None)).collect();
        let together = |a: usize, b: usize| reaches[a][b] && reaches[b][a];
        for a in (0..graph.len()).filter(|&a| reaches[0][a]) {
            for b in 0..graph.len() {
                let gap = (0..graph.len()).find(|&c| place[a] < place[c] && place[c] < place[b] && !together(a, c));
                prop_assert!(gap.is_none() || !together(a, b), "{:?} splits the loop of {} and {} in {:?}", gap, a, b, graph);
                if reaches[a][b] && !reaches[b][a] {
                    prop_assert!(place[a] < place[b], "{} runs after {} in {:?}", a, b, graph);
                }
            }
        }
    }
}

#[test]
fn a_kernel_with_a_loop_and_an_early_exit() {
    let text = ".version 8.0 .target sm_80 .address_size 64 .entry k() { .reg .pred p; .reg .b32 r;
        setp.eq.s32 p, 1, 1;
        @p bra OUT;
        LOOP: @p bra FOUND;
        add.s32 r, r, 1;
        @p bra LOOP;
        bra.uni OUT;
        FOUND: add.s32 r, r, 2;
        OUT: ret; }";
    let module = crate::ptx::parse(text).unwrap();
    let cfg = Cfg::new(&module.functions[0]);
    let successors: Vec<_> = cfg.blocks.iter().map(|b| b.successors.as_slice()).collect();
    let expected: [&[u32]; 6] = [&[5, 1], &[4, 2], &[1, 3], &[5], &[5], &[]];
    assert_eq!(successors, expected);
    let priorities: Vec<_> = cfg.blocks.iter().map(|b| b.priority).collect();
    assert_eq!(priorities, [0, 1, 2, 3, 4, 5]);
    let meets: Vec<_> = cfg.blocks.iter().map(|b| b.post_dominator).collect();
    assert_eq!(meets, [Some(5), Some(5), Some(5), Some(5), Some(5), None]);
    for (index, block) in cfg.blocks.iter().enumerate() {
        assert!(block.stmts.clone().all(|s| cfg.block_of(s) as usize == index));
    }
}
