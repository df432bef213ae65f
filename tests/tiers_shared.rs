//! Several engines on one Redis and one S3: what one computes another finds, in this process and in others, a server that dies
//! changes no answer, and no credential is shown.
mod common;
use common::conversations::{Load, device, engine, pages};
use common::servers::{Redis, create_bucket, free_port, s3};
use kvick::engine::{StoreSecret, TierSpec};
use kvick::{Engine, EngineConfig};
use std::time::Duration;

/// A busy machine must not look like a dead server.
const PATIENT: Duration = Duration::from_secs(20);

fn open(model: &str, device: &str, memory: u64, tier: &TierSpec, timeout: Duration) -> Engine {
    engine(model, device, |config: &mut EngineConfig| {
        config.kv_memory = Some(memory);
        config.tiers = vec![tier.clone()];
        config.store_timeout = timeout;
        config.store_secret = Some(StoreSecret::new(b"of both engines").unwrap());
    })
}

/// Two engines answer turn about; then a third, which has never seen a prompt, goes on.
fn share(model: &str, device: &str, seed: u64, rounds: usize, tier: &TierSpec) {
    let mut load = Load::new(model, device, seed);
    load.what += &format!(", {tier}");
    let memory = pages(load.alone(), 16);
    let both = [(); 2].map(|()| open(model, device, memory, tier, PATIENT));
    (0..rounds).for_each(|round| load.round(round, &[&both[0], &both[1]]));
    let hits = both.map(|engine| engine.stats().tiers[0].hit_tokens);
    let third = open(model, device, memory, tier, PATIENT);
    (rounds..2 * rounds).for_each(|round| load.round(round, &[&third]));
    let stats = third.stats();
    assert!(hits.iter().all(|&n| n > 0) && stats.tiers[0].hit_tokens > 0, "{}: {hits:?}, {stats:?}", load.what);
    assert_eq!(stats.tiers[0].calls.refused.iter().sum::<u64>(), 0, "{}: {stats:?}", load.what);
}

#[test]
fn engines_share_what_they_computed() {
    let port = free_port();
    let _s3 = s3(port);
    create_bucket(port, "pages");
    let redis = Redis::start(free_port(), &[]);
    for (seed, model) in [(31, "llama"), (32, "gemma3")] {
        let tiers = [format!("redis={}", redis.url()), format!("s3=s3://pages/{model}")];
        for tier in tiers {
            let tier = tier.parse().unwrap();
            share(model, "cpu", seed, 12, &tier);
            if model == "gemma3" {
                share(model, &device(), seed + 10, 4, &tier);
            }
        }
    }
}

#[test]
fn a_server_that_dies_changes_no_answer() {
    let port = free_port();
    let mut server = Some(Redis::start(port, &[]));
    let tier = format!("redis=redis://127.0.0.1:{port}/").parse().unwrap();
    let mut load = Load::new("gemma3", "cpu", 41);
    let memory = pages(load.alone(), 16);
    let shared = open("gemma3", "cpu", memory, &tier, Duration::from_millis(500));
    for round in 0..24 {
        load.round(round, &[&shared]);
        match round % 6 {
            2 => drop(server.take()),
            5 => server = Some(Redis::start(port, &[])),
            _ => {}
        }
    }
    let tier = &shared.stats().tiers[0];
    assert!(tier.calls.failed > 0, "the server was killed four times: {tier:?}");
}

#[test]
fn refusals_say_what_to_do_without_credentials() {
    let server = Redis::start(free_port(), &["--requirepass", "right-secret"]);
    let folder = common::reference::tiny("llama").folder;
    let refusal = |tier: String| {
        let tiers = vec![tier.parse().unwrap()];
        let config = EngineConfig { device: "cpu".into(), tiers, ..EngineConfig::default() };
        let message = Engine::load_path(&folder, &config).err().unwrap_or_else(|| panic!("{tier} was opened"));
        format!("{message} {config:?}")
    };
    for (tier, says) in [
        (format!("redis=redis://user:wrong-secret@127.0.0.1:{}/", server.port), "password"),
        (format!("redis=redis://127.0.0.1:{}/", server.port), "password"),
        ("redis=redis://:wrong-secret@127.0.0.1:1/".into(), "cannot be reached"),
    ] {
        let message = refusal(tier.clone());
        assert!(message.contains(says) && message.contains("--kv-tier redis="), "{message}");
        assert!(!message.contains("secret@") && !message.contains("wrong"), "a credential in {message}");
    }
}
