//! Tiers that quantise, under an engine: a request that refuses what they restore is answered as if they were not there, to the
//! bit on `cpu`, whatever was restored before; one that takes it is answered nearly so.
#![cfg(feature = "engine")]
mod common;
use common::conversations::{Load, device, engine, pages, request, row, same};
use common::reference::divergence;
use kvick::{Engine, Request};
use std::collections::BTreeMap;

/// What a load did.
#[derive(Default)]
struct Seen {
    /// Tokens found in restored pages, by requests that take them.
    lossy_tokens: u64,
    /// Of their first tokens, the divergence from computing everything.
    divergence: Vec<f64>,
    /// Tokens that each tier served.
    hits: BTreeMap<String, u64>,
}

fn open(model: &str, device: &str, memory: u64, tiers: &[String]) -> Engine {
    engine(model, device, |config| {
        config.kv_memory = Some(memory);
        config.tiers = tiers.iter().map(|tier| tier.parse().unwrap()).collect();
    })
}

/// Serves conversations of which about half take restored pages, on a device of 16 pages and over restarts.
fn serve(model: &str, device: &str, seed: u64, (lives, rounds): (usize, usize), tiers: &[String]) -> Seen {
    let mut load = Load::new(model, device, seed);
    let what = format!("{}, {tiers:?}", load.what);
    let memory = pages(load.alone(), 16);
    let mut seen = Seen::default();
    for life in 0..lives {
        let shared = open(model, device, memory, tiers);
        for round in 0..rounds {
            let what = format!("{what}, life {life}, round {round}");
            let asked: Vec<(Vec<u32>, usize, bool)> =
                (0..1 + load.below(4)).map(|_| (load.text(), 1 + load.below(7), load.below(2) == 0)).collect();
            let submit = |(ids, tokens, exact): &(Vec<u32>, usize, bool)| {
                shared.submit(Request { exact: *exact, ..request(ids, *tokens) }).unwrap()
            };
            let streams: Vec<_> = asked.iter().map(submit).collect();
            for (stream, (ids, tokens, exact)) in streams.into_iter().zip(asked) {
                let (actual, expected) =
                    (stream.wait().unwrap(), load.alone().complete(request(&ids, tokens)).unwrap());
                if exact {
                    same(&what, device == "cpu", &expected, &actual);
                } else {
                    seen.divergence.push(divergence(&row(&expected, 0), &row(&actual, 0)));
                }
                load.keep([&ids[..], &actual.ids].concat());
            }
        }
        let stats = shared.stats();
        for tier in &stats.tiers {
            assert_eq!((tier.calls.refused.iter().sum::<u64>(), tier.calls.failed), (0, 0), "{what}: {tier:?}");
            assert_eq!(tier.too_lossy, 0, "{what}: {tier:?}");
            *seen.hits.entry(tier.name.clone()).or_default() += tier.hit_tokens;
        }
        let cache = stats.cache;
        assert_eq!(cache.hit_tokens + cache.missed.tokens(), cache.tokens, "{what}: {cache:?}");
        assert_eq!(shared.cache_stats().unwrap().lossy_tokens, cache.lossy_tokens, "{what}");
        seen.lossy_tokens += cache.lossy_tokens;
    }
    seen
}

/// The bounds on the mean divergence are for models of random weights, whose choices nearly tie.
fn check(device: &str, size: (usize, usize)) {
    for (seed, model) in [(31, "llama"), (32, "gemma3")] {
        let dir = tempfile::tempdir().unwrap();
        let disk = |dtype: &str| format!("disk={},64MiB,dtype={dtype}", dir.path().join(dtype).display());
        for (tiers, most) in [
            (vec!["host=64MiB,dtype=int8".to_string()], 5e-4),
            (vec!["host=1MiB,dtype=k=fp8,v=int8".to_string(), disk("int4")], 5e-2),
            (vec![disk("int8"), "host=1MiB".to_string()], 5e-4),
            (vec![disk("k=int8,v=fp8") + ",half=v", "host=64MiB,dtype=k=int8,v=fp8,half=k".to_string()], 1e-3),
        ] {
            let seen = serve(model, device, seed, size, &tiers);
            let mean = seen.divergence.iter().sum::<f64>() / seen.divergence.len() as f64;
            let what = format!("{model} on {device}, seed {seed}, {tiers:?}");
            assert!(mean <= most, "{what}: mean KL {mean:.2e} over {} answers", seen.divergence.len());
            assert!(mean > 0.0 && seen.lossy_tokens > 0, "{what}: {} restored tokens", seen.lossy_tokens);
        }
    }
}

#[test]
fn exact_answers_do_not_depend_on_what_was_restored() {
    check("cpu", (3, 15));
}

#[test]
fn nor_on_the_device() {
    check(&device(), (2, 8));
}
