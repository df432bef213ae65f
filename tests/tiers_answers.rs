//! What comes back from a tier does not change an answer: conversations over a device too small for them, with host and disk
//! below it and restarts in between, against an engine that computes every prompt whole and alone. Bit-equal on `cpu`; on a
//! device whose kernels choose their shapes by the batch, within the project's bound.
#![cfg(feature = "engine")]
mod common;
use common::conversations::{Load, device, engine, pages};
use kvick::engine::{StoreSecret, TierPlace, TierSpec};
use kvick::{Engine, EngineConfig};
use std::collections::BTreeMap;

/// A choice of tiers, and how the engine is told of them.
struct Below {
    name: &'static str,
    tiers: Vec<TierSpec>,
    verify: bool,
    secret: bool,
}

fn open(model: &str, device: &str, memory: u64, below: &Below) -> Engine {
    engine(model, device, |config: &mut EngineConfig| {
        config.kv_memory = Some(memory);
        config.tiers = below.tiers.clone();
        (config.verify, config.verify_every) = (below.verify, 2);
        config.store_secret = below.secret.then(|| StoreSecret::new(b"a secret of this test").unwrap());
    })
}

/// Serves a random load on a device of `held` pages with a restart after every `life` rounds; tokens that each tier served.
fn serve(model: &str, device: &str, seed: u64, rounds: usize, life: usize, below: &Below) -> BTreeMap<String, u64> {
    let mut load = Load::new(model, device, seed);
    load.what += &format!(", {}", below.name);
    let memory = pages(load.alone(), 16);
    let mut hits = BTreeMap::new();
    for first in (0..rounds).step_by(life) {
        let shared = open(model, device, memory, below);
        (first..first + life).for_each(|round| load.round(round, &[&shared]));
        let stats = shared.stats();
        for tier in &stats.tiers {
            let refused: u64 = tier.calls.refused.iter().sum();
            assert_eq!((refused, tier.calls.failed), (0, 0), "{}: {tier:?}", load.what);
            assert!(tier.bytes <= tier.budget, "{}: {tier:?}", load.what);
            *hits.entry(tier.name.clone()).or_default() += tier.hit_tokens;
        }
        // Also where the same tokens were computed in batches of other shapes.
        assert!((stats.verified.pages > 0) == below.verify && stats.verified.differed == 0, "{}: {stats:?}", load.what);
        let cache = stats.cache;
        let below: u64 = stats.tiers.iter().map(|tier| tier.hit_tokens).sum();
        assert!(
            cache.hit_tokens + cache.missed.tokens() == cache.tokens,
            "{}: {below} from below, {cache:?}",
            load.what
        );
    }
    hits
}

fn disk(dir: &tempfile::TempDir, bytes: u64) -> TierSpec {
    TierPlace::Disk { path: dir.path().into(), bytes }.into()
}

fn every_choice(dirs: &[tempfile::TempDir; 2]) -> [Below; 3] {
    let host = |bytes| TierSpec::from(TierPlace::Host { bytes });
    [
        Below { name: "host", tiers: vec![host(64 << 20)], verify: false, secret: false },
        Below { name: "disk, verified", tiers: vec![disk(&dirs[0], 64 << 20)], verify: true, secret: true },
        Below {
            name: "a small host tier and disk",
            tiers: vec![disk(&dirs[1], 64 << 20), host(1 << 20)],
            verify: false,
            secret: false,
        },
    ]
}

fn check(device: &str, rounds: usize, life: usize) {
    for (seed, model) in [(21, "llama"), (22, "gemma3")] {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for below in every_choice(&dirs) {
            let hits = serve(model, device, seed, rounds, life, &below);
            for tier in &below.tiers {
                assert!(hits[tier.name()] > 0, "{model} on {device}, {}: {hits:?}", below.name);
            }
        }
    }
}

#[test]
fn answers_do_not_depend_on_tiers() {
    check("cpu", 45, 15);
}

#[test]
fn nor_on_the_device() {
    check(&device(), 16, 8);
}
