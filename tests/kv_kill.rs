//! kill -9 while the disk tier writes: what is found again is whole, the budget holds, nothing is lost for good.
//!
//! The test runs itself as the victim. `KVICK_KILLS=1000` runs the long form.
#![cfg(feature = "kv")]
use kvick::kv::tier::{DiskStore, Expected, Fetched, Half, Meta, RealClock, RecordKey, Store, StoreError, Tiers};
use kvick::kv::{Fingerprint, integrity};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const PAYLOAD: usize = 20_000;
const BUDGET: u64 = 40 * 24_704;

fn fingerprint() -> Fingerprint {
    Fingerprint::new([("model", &b"kill"[..])])
}

/// Version `version` of page `n`: the payload says which, so that a mixture of two is seen.
fn page(n: u32, version: u64) -> (Meta, Vec<u8>) {
    let (fingerprint, tokens) = (fingerprint(), vec![n; 4]);
    let parent = fingerprint.root(b"", 0);
    let key = parent.child(&tokens);
    let mut payload = vec![0u8; PAYLOAD];
    for (i, chunk) in payload.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(
            &(version.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(n) << 32) ^ i as u64).to_le_bytes(),
        );
    }
    payload[..8].copy_from_slice(&version.to_le_bytes());
    (Meta { fingerprint, key, parent, epoch: 0, group: 0, half: Half::K, element: 1, lossy: false, tokens }, payload)
}

fn open(dir: &Path) -> Tiers {
    let mut tiers = Tiers::new(fingerprint(), None, Arc::new(RealClock::default()));
    tiers.push(Box::new(DiskStore::open(dir, BUDGET, &fingerprint()).unwrap()));
    tiers
}

/// Writes, replaces and removes until it is killed.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os("KVICK_KILL_DIR") else { return };
    let tiers = open(Path::new(&dir));
    println!("writing");
    let mut x = 1 + u64::from(std::process::id());
    for version in 1.. {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let n = (x % 60) as u32;
        let (meta, payload) = page(n, version);
        if let Err(StoreError::Full(_)) = tiers.put(0, &meta, &payload, integrity::sum(&payload)) {
            let (other, _) = page((x >> 8) as u32 % 60, 0);
            tiers.remove(&[RecordKey { key: other.key, group: 0, half: Half::K }]);
        }
    }
}

fn kill_once(dir: &Path, after: Duration) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["victim", "--exact", "--nocapture"]).env("KVICK_KILL_DIR", dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut seen = Vec::new();
    let mut out = child.stdout.take().unwrap();
    let mut byte = [0];
    while !seen.ends_with(b"writing\n") {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the victim ended early: {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_writers_leave_only_whole_pages() {
    let kills: u64 = std::env::var("KVICK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let dir = tempfile::tempdir().unwrap();
    let mut served = 0;
    for kill in 0..kills {
        kill_once(dir.path(), Duration::from_micros(kill * 7919 % 20_000));
        let tiers = open(dir.path());
        let usage = tiers.stores().next().unwrap().usage();
        assert!(usage.bytes <= BUDGET, "kill {kill}: {usage:?}");
        for n in 0..60 {
            let (meta, _) = page(n, 0);
            let expected = Expected {
                fingerprint: &meta.fingerprint,
                key: &meta.key,
                group: 0,
                half: Half::K,
                epoch: 0,
                tokens: &meta.tokens,
                sizes: &[(1, PAYLOAD)],
                lossy: false,
            };
            let Fetched::Hit { record, payload, .. } = &tiers.fetch(&[expected])[0] else { continue };
            let body = &record[*payload..];
            let version = u64::from_le_bytes(body[..8].try_into().unwrap());
            assert_eq!(body, page(n, version).1, "kill {kill}: page {n} is not what version {version} wrote");
            served += 1;
        }
    }
    assert!(served > kills * 5, "only {served} pages were found in {kills} restarts");
}

#[test]
fn a_table_of_ten_gigabytes_of_pages_is_found_again() {
    // Slots of 184 KiB: a half page of SmolLM2. Sparse files: the table is what a restart reads.
    let dir = tempfile::tempdir().unwrap();
    let small = 4096 + 128;
    let records = (10u64 << 30) / (184 << 10);
    {
        let store = DiskStore::open(dir.path(), records * small, &fingerprint()).unwrap();
        for n in 0..records as u32 {
            let (meta, _) = page(n, 0);
            store.put(&[(RecordKey { key: meta.key, group: 0, half: Half::K }, &[1u8; 64])])[0].clone().unwrap();
        }
    }
    let store = DiskStore::open(dir.path(), records * small, &fingerprint()).unwrap();
    assert_eq!(store.usage().records as u64, records);
    assert_eq!(store.list().unwrap().len() as u64, records);
}
