//! The turns of a chat by `kvick bench --turns`: where earlier pages are on the device or on a tier, a turn costs what its new
//! tokens cost, also in a process that has never seen the chat.
#![cfg(feature = "cli")]
#[path = "common/models.rs"]
mod models;
#[cfg(all(feature = "kv-redis", feature = "kv-s3"))]
#[path = "common/servers.rs"]
mod servers;

use serde_json::Value;
use std::process::Command;

const TURNS: usize = 3;

/// The last turn of a short chat of the real model on the emulated GPU.
fn last_turn(args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvick"));
    command.args(["bench", "--turns", &TURNS.to_string(), "--device", "emulator", "--json", "--model"]);
    command.arg(models::path("smollm2")).args(["--prompt-tokens", "260", "--new-tokens", "20", "--tokens", "3"]);
    let done = command.args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {stderr}");
    let result: Value = serde_json::from_slice(&done.stdout).unwrap();
    let turns = result["turns"].as_array().unwrap();
    assert_eq!(turns.len(), TURNS, "{result}");
    turns[TURNS - 1].clone()
}

fn costs_its_new_tokens(args: &[&str]) {
    let turn = last_turn(args);
    let ratio = turn["ratio"].as_f64().unwrap();
    assert!(ratio <= 1.1, "{args:?}: {ratio} times the new tokens alone: {turn}");
    assert_eq!(turn["cached_tokens"], 260 + 20 + 2 * 3 - 1, "{args:?}: {turn}");
}

#[test]
fn a_turn_costs_its_new_tokens_from_the_device_and_from_tiers() {
    let dir = tempfile::tempdir().unwrap();
    let disk = format!("disk={},1GiB", dir.path().display());
    costs_its_new_tokens(&[]);
    costs_its_new_tokens(&["--evict", "--kv-tier", "host=1GiB"]);
    costs_its_new_tokens(&["--restart", "--kv-tier", &disk, "--kv-verify"]);
}

/// Else the measurement could not fail.
#[test]
fn a_turn_in_another_process_without_tiers_computes_everything() {
    let turn = last_turn(&["--restart"]);
    assert!(turn["ratio"].as_f64().unwrap() > 1.5 && turn["cached_tokens"] == 0, "{turn}");
}

#[cfg(all(feature = "kv-redis", feature = "kv-s3"))]
#[test]
fn nor_more_from_redis_and_s3() {
    let port = servers::free_port();
    let _s3 = servers::s3(port);
    servers::create_bucket(port, "chat");
    let redis = servers::Redis::start(servers::free_port(), &[]);
    let url = format!("redis={}", redis.url());
    for tier in [url.as_str(), "s3=s3://chat/x"] {
        costs_its_new_tokens(&["--restart", "--kv-tier", tier, "--kv-store-timeout", "20"]);
    }
}
