//! Every fault that a tier can have, many times: whatever a store does, a page that comes back is the page that was kept.
//!
//! Small pages, three tiers, a clock that only moves when somebody sleeps. `KVICK_FAULTS=1000000` runs the long form.
#![cfg(feature = "kv")]
#[path = "common/tiered.rs"]
mod tiered;

use kvick::kv::tier::{
    Clock, DiskStore, Expected, FaultPlan, FaultStore, Fetched, Half, HostStore, Meta, RecordKey, Store, StoreError,
    Tiers, VirtualClock,
};
use kvick::kv::{Fingerprint, Key, integrity};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

const PAYLOAD: usize = 96;
const SIZES: [(u8, usize); 1] = [(1, PAYLOAD)];

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Page `n` as computed in epoch `epoch`: what the model would have made of it.
fn page(fingerprint: Fingerprint, n: usize, half: Half, epoch: u64) -> (Meta, Vec<u8>) {
    let tokens: Vec<u32> = (0..4).map(|t| (n * 4 + t) as u32).collect();
    let parent = fingerprint.root(b"", epoch);
    let key = parent.child(&tokens);
    let mut rng = Rng(1 + n as u64 * 4 + half.code() as u64 * 2 + epoch * 1_000_003);
    let payload = (0..PAYLOAD).map(|_| rng.next() as u8).collect();
    (Meta { fingerprint, key, parent, epoch, group: 0, half, element: 1, lossy: false, tokens }, payload)
}

fn expected(meta: &Meta) -> Expected<'_> {
    Expected {
        fingerprint: &meta.fingerprint,
        key: &meta.key,
        group: 0,
        half: meta.half,
        epoch: meta.epoch,
        tokens: &meta.tokens,
        sizes: &SIZES,
        lossy: false,
    }
}

/// What the test believes to be on each tier, as the cache's tree would.
type Known = [BTreeSet<RecordKey>; 3];

/// Keeps a page on a tier, making room by dropping a random page that is known to be there.
fn keep(tiers: &Tiers, tier: usize, meta: &Meta, payload: &[u8], rng: &mut Rng, known: &mut Known) {
    for _ in 0..4 {
        match tiers.put(tier, meta, payload, integrity::sum(payload)) {
            Ok(()) => {
                known[tier].insert(RecordKey { key: meta.key, group: 0, half: meta.half });
                return;
            }
            Err(StoreError::Full(_)) if !known[tier].is_empty() => {
                let victim = *known[tier].iter().nth(rng.below(known[tier].len())).unwrap();
                drop_from(tiers, tier, victim, known);
            }
            Err(_) => return,
        }
    }
}

/// Forgets a page on a tier; a store that fails is asked again, as the cache does before it forgets a slot.
fn drop_from(tiers: &Tiers, tier: usize, victim: RecordKey, known: &mut Known) {
    let store = tiers.stores().nth(tier).unwrap();
    while store.remove(&[victim])[0].is_err() {}
    known[tier].remove(&victim);
}

#[test]
fn no_fault_ever_serves_a_wrong_page() {
    let wanted = wanted();
    let seed = 0x5eed_0001;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::default());
    let own = Fingerprint::new([("model", &b"a"[..])]);
    let foreign = Fingerprint::new([("model", &b"b"[..])]);
    let faulty = |store: Box<dyn Store>, n: u64| FaultStore::new(store, FaultPlan::all(60), seed + n, clock.clone());
    let injectors = [
        Arc::new(faulty(Box::new(HostStore::new(40 * 400)), 1)),
        Arc::new(faulty(Box::new(DiskStore::open(dir.path(), 60 * 4300, &own).unwrap()), 2)),
        Arc::new(faulty(Box::new(HostStore::new(80 * 400)), 3)),
    ];
    let mut tiers = Tiers::new(own, Some([7; 32]), clock.clone());
    for injector in &injectors {
        tiers.push(Box::new(injector.clone()));
    }
    let mut rng = Rng(seed);
    let mut known = Known::default();
    let (mut epoch, mut hits, mut steps) = (0, 0u64, 0u64);
    let injected = || injectors.iter().map(|i| i.injected()).sum::<u64>();
    while injected() < wanted {
        steps += 1;
        if steps.is_multiple_of(5000) {
            epoch += 1;
        }
        let half = Half::ALL[rng.below(2)];
        let n = rng.below(64);
        let (meta, payload) = page(own, n, half, epoch);
        let tier = rng.below(3);
        match rng.below(8) {
            0..3 => {
                keep(&tiers, tier, &meta, &payload, &mut rng, &mut known);
            }
            3 => {
                // A page of another model, or of an earlier epoch, under the name that will be asked for.
                let (mut bad, _) = page(foreign, n, half, epoch);
                bad.key = meta.key;
                if rng.below(2) == 0 {
                    bad = Meta { epoch: epoch.wrapping_sub(1), ..meta.clone() };
                }
                keep(&tiers, tier, &bad, &payload, &mut rng, &mut known);
            }
            4 => drop_from(&tiers, tier, RecordKey { key: meta.key, group: 0, half }, &mut known),
            _ => {
                let (other, other_payload) = page(own, rng.below(64), half, epoch);
                let got = tiers.fetch(&[expected(&meta), expected(&other)]);
                for (fetched, right) in got.iter().zip([&payload, &other_payload]) {
                    if let Fetched::Hit { record, payload, .. } = fetched {
                        assert_eq!(
                            &record[*payload..],
                            &right[..],
                            "seed {seed:#x}, step {steps}: a wrong page was served"
                        );
                        hits += 1;
                    }
                }
            }
        }
        clock.sleep(std::time::Duration::from_millis(20));
    }
    assert!(hits > wanted / 100, "only {hits} hits in {steps} steps: the test exercised nothing");
    let mut causes: HashMap<&str, u64> = HashMap::new();
    for counters in tiers.counters() {
        for (cause, n) in kvick::kv::tier::Cause::ALL.iter().zip(counters.refused) {
            *causes.entry(cause.name()).or_default() += n;
        }
    }
    for cause in ["torn", "other fingerprint", "swapped", "stale", "failed checksum", "damaged header"] {
        assert!(causes[cause] > 0, "no record was refused as {cause}: {causes:?}");
    }
    for tier in 0..3 {
        let usage = tiers.stores().nth(tier).unwrap().usage();
        assert!(usage.bytes <= usage.budget, "tier {tier}: {usage:?}");
        for victim in known[tier].clone() {
            drop_from(&tiers, tier, victim, &mut known);
        }
        let left = tiers.stores().nth(tier).unwrap().usage();
        assert_eq!((left.records, left.bytes), (0, 0), "tier {tier} leaked");
    }
    println!("{} faults, {steps} steps, {hits} hits, refused: {causes:?}", injected());
}

/// How many faults are wanted.
fn wanted() -> u64 {
    std::env::var("KVICK_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

#[test]
fn no_fault_reaches_a_request_or_leaks_a_page() {
    let seed = 0x5eed_0002;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::default());
    let own = tiered::fingerprint();
    let faulty =
        |store: Box<dyn Store>, n: u64| Arc::new(FaultStore::new(store, FaultPlan::all(40), seed + n, clock.clone()));
    let injectors = [
        faulty(Box::new(HostStore::new(12_000)), 1),
        faulty(Box::new(DiskStore::open(dir.path(), 60 * 2 * 4224, &own).unwrap()), 2),
        faulty(Box::new(HostStore::new(1 << 20)), 3),
    ];
    let stores: Vec<Box<dyn Store>> = vec![
        Box::new(injectors[0].clone()),
        Box::new(injectors[1].clone()),
        Box::new(tiered::Foreign(injectors[2].clone())),
    ];
    // Disk and shared store keep two bytes or one of four, and half of the requests take what they restore.
    let forms = [None, Some([tiered::TWO; 2]), Some([tiered::ONE; 2])];
    let mut world =
        tiered::World::with_forms(&[tiered::full(20), tiered::windowed(14)], clock.clone(), stores, 1, &forms);
    let injected = || injectors.iter().map(|i| i.injected()).sum::<u64>();
    let mut rng = Rng(seed);
    let mut loaded = 0;
    while injected() < wanted() {
        let salt = [rng.below(2) as u8];
        let stem = 100 * rng.below(4) as u32;
        let mut prompt: Vec<u32> = (stem..stem + rng.below(50) as u32).collect();
        prompt.extend((0..1 + rng.below(10) as u32).map(|i| 1000 + i + 20 * stem));
        match rng.below(40) {
            0 => drop(world.cache.invalidate_salt(&salt)),
            1..4 => {
                let keys = world.cache.keys(&salt, &prompt);
                if let Some(load) = world.begin(&keys, rng.below(2) == 0) {
                    (0..rng.below(10)).for_each(|_| world.poll());
                    world.manager.abandon(&mut world.cache, load);
                }
            }
            // Checks every token that was found.
            _ => loaded += world.serve(&salt, &prompt, rng.below(2) == 0).1,
        }
        for (report, injector) in world.report().iter().zip(&injectors) {
            let usage = injector.usage();
            assert!(usage.bytes <= usage.budget && report.bytes <= report.budget, "{report:?}, {usage:?}");
        }
    }
    assert!(loaded as u64 > wanted() / 50, "only {loaded} tokens came from below");
    assert!(world.lossy_tokens > wanted() / 200, "only {} tokens were found in restored pages", world.lossy_tokens);
    let refused = world.report().iter().flat_map(|tier| tier.calls.refused).sum::<u64>();
    assert!(refused > wanted() / 1000, "only {refused} records were refused");
    world.cache.invalidate_all();
    world.settle();
    for injector in &injectors[..2] {
        let left = injector.usage();
        assert_eq!((left.records, left.bytes), (0, 0), "seed {seed:#x}: {} leaked", injector.name());
    }
    world.close();
}

#[test]
fn a_record_without_the_secret_is_refused() {
    let own = Fingerprint::new([("model", &b"a"[..])]);
    let clock = Arc::new(VirtualClock::default());
    let store = Arc::new(HostStore::new(1 << 20));
    let mut forger = Tiers::new(own, None, clock.clone());
    forger.push(Box::new(store.clone()));
    let mut engine = Tiers::new(own, Some([1; 32]), clock);
    engine.push(Box::new(store));
    let (meta, mut payload) = page(own, 1, Half::K, 0);
    payload[0] ^= 1;
    forger.put(0, &meta, &payload, integrity::sum(&payload)).unwrap();
    assert!(matches!(forger.fetch(&[expected(&meta)])[0], Fetched::Hit { .. }), "the forgery is consistent in itself");
    assert_eq!(engine.fetch(&[expected(&meta)])[0], Fetched::Miss);
    let refused: u64 = engine.counters()[0].refused.iter().sum();
    assert_eq!(refused, 1);
    assert_eq!(engine.locate(&[RecordKey { key: Key(meta.key.0), group: 0, half: Half::K }]), [None], "it was removed");
}
