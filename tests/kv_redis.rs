//! The Redis tier against a real server: sharing, refusals, a full server, one that dies and one that hangs.
//!
//! Needs `redis-server` (or `valkey-server`) on PATH; `KVICK_KILLS=N` sets how often the server is killed (20).
#[path = "common/pages.rs"]
mod pages;
#[allow(dead_code, reason = "each test program uses a part")]
#[path = "common/servers.rs"]
mod servers;

use kvick::kv::tier::redis::{RedisStore, Timeouts};
use kvick::kv::tier::{RealClock, Store, StoreError, Tiers};
use pages::{fingerprint, hits, keep, page};
use servers::{Redis, free_port};
use std::sync::Arc;
use std::time::{Duration, Instant};

const QUICK: Timeouts = Timeouts { connect: Duration::from_millis(300), answer: Duration::from_millis(400) };

/// For servers that are well: a busy machine must not look like a dead one.
const PATIENT: Timeouts = Timeouts { connect: Duration::from_secs(10), answer: Duration::from_secs(20) };

fn engine(url: &str, model: &str, timeouts: Timeouts) -> Tiers {
    let mut tiers = Tiers::new(fingerprint(model), None, Arc::new(RealClock::default()));
    let store = RedisStore::open(url, &fingerprint(model), PATIENT).unwrap();
    tiers.push(Box::new(store.with_timeouts(timeouts)));
    tiers
}

#[test]
fn engines_share_pages_and_models_do_not() {
    let server = Redis::start(free_port(), &[]);
    let (a, b, other) =
        (engine(&server.url(), "m", PATIENT), engine(&server.url(), "m", PATIENT), engine(&server.url(), "n", PATIENT));
    assert_eq!(keep(&a, fingerprint("m"), 0..150), 150);
    assert_eq!(hits(&b, fingerprint("m"), 0..150), 150, "more than two batches, from another engine");
    assert_eq!(hits(&other, fingerprint("n"), 0..10), 0);
    let (meta, _) = page(fingerprint("m"), 3);
    let name = kvick::kv::tier::RecordKey { key: meta.key, group: 0, half: meta.half };
    assert_eq!(b.locate(&[name]), [Some(0)]);
    b.remove(&[name]);
    assert_eq!(a.locate(&[name]), [None]);
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let server = Redis::start(free_port(), &["--requirepass", "right-secret"]);
    let cases = [
        (format!("redis://:wrong-secret@127.0.0.1:{}/", server.port), "password"),
        (server.url(), "password"),
        ("redis://:wrong-secret@127.0.0.1:1/".into(), "cannot be reached"),
        ("http://:wrong-secret@x".into(), "redis://"),
    ];
    for (url, says) in cases {
        let message = RedisStore::open(&url, &fingerprint("m"), PATIENT).err().unwrap().to_string();
        assert!(message.contains(says) && message.contains("--kv-tier redis="), "{message}");
        assert!(!message.contains("secret"), "a credential in {message}");
    }
    let good = format!("redis://:right-secret@127.0.0.1:{}/", server.port);
    assert_eq!(keep(&engine(&good, "m", PATIENT), fingerprint("m"), 0..2), 2);
}

#[test]
fn a_full_server_is_full_and_not_broken() {
    let server = Redis::start(free_port(), &["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let store = RedisStore::open(&server.url(), &fingerprint("m"), PATIENT).unwrap();
    let record = vec![7u8; 100_000];
    let names: Vec<_> = (0..60)
        .map(|n| kvick::kv::tier::RecordKey {
            key: page(fingerprint("m"), n).0.key,
            group: 0,
            half: kvick::kv::tier::Half::V,
        })
        .collect();
    let items: Vec<_> = names.iter().map(|n| (*n, &record[..])).collect();
    let done = store.put(&items);
    assert!(done.iter().any(Result::is_ok) && done.iter().any(|d| matches!(d, Err(StoreError::Full(_)))), "{done:?}");
    assert!(done.iter().all(|d| !matches!(d, Err(StoreError::Unavailable(_)))), "{done:?}");
    let got = store.get(&names);
    for (done, got) in done.iter().zip(got) {
        assert_eq!(got.unwrap().is_some(), done.is_ok(), "what was taken is there, what was refused is not");
    }
}

#[test]
fn a_server_that_dies_costs_time_and_never_a_wrong_page() {
    let kills: u32 = std::env::var("KVICK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let port = free_port();
    let mut server = Some(Redis::start(port, &[]));
    let tiers = engine(&server.as_ref().unwrap().url(), "m", PATIENT);
    let mut served = 0;
    for kill in 0..kills {
        assert!(keep(&tiers, fingerprint("m"), 0..8) > 0 || kill > 0);
        served += hits(&tiers, fingerprint("m"), 0..8);
        server.take().unwrap().signal("-9");
        for _ in 0..8 {
            assert_eq!(hits(&tiers, fingerprint("m"), 0..8), 0, "kill {kill}: a dead server served");
        }
        let asked_while_dead = tiers.counters()[0].left_alone;
        assert!(asked_while_dead > 0, "the breaker never opened");
        server = Some(Redis::start(port, &[]));
        // The breaker lets a call through after its pause; the server is empty, so pages are computed and kept again.
        let start = Instant::now();
        while keep(&tiers, fingerprint("m"), 0..8) < 8 {
            assert!(start.elapsed() < Duration::from_secs(60), "kill {kill}: never used again");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(hits(&tiers, fingerprint("m"), 0..8), 8, "kill {kill}");
    }
    assert_eq!(served, 8 * kills as usize);
}

#[test]
fn a_server_that_hangs_is_left_alone() {
    let server = Redis::start(free_port(), &[]);
    let tiers = engine(&server.url(), "m", QUICK);
    let start = Instant::now();
    while keep(&tiers, fingerprint("m"), 0..4) < 4 {
        assert!(start.elapsed() < Duration::from_secs(60), "a server that is well is not used");
    }
    server.signal("-STOP");
    for _ in 0..50 {
        assert_eq!(hits(&tiers, fingerprint("m"), 0..4), 0);
    }
    let counters = &tiers.counters()[0];
    assert!(counters.left_alone >= 4 * 40, "{counters:?}: most calls must not wait for a timeout");
    server.signal("-CONT");
    let start = Instant::now();
    while hits(&tiers, fingerprint("m"), 0..4) < 4 {
        assert!(start.elapsed() < Duration::from_secs(60), "never used again");
        std::thread::sleep(Duration::from_millis(50));
    }
}
