//! Half pages for the tests of shared tiers: what page `n` of a model holds, and how to ask for it.
use kvick::kv::tier::{Expected, Fetched, Half, Meta, Tiers};
use kvick::kv::{Fingerprint, integrity};

pub const PAYLOAD: usize = 40_000;
const SIZES: [(u8, usize); 1] = [(1, PAYLOAD)];

pub fn fingerprint(model: &str) -> Fingerprint {
    Fingerprint::new([("model", model.as_bytes())])
}

pub fn page(fingerprint: Fingerprint, n: u32) -> (Meta, Vec<u8>) {
    let tokens = vec![n; 4];
    let parent = fingerprint.root(b"", 0);
    let key = parent.child(&tokens);
    let mut x = u64::from(n) * 2 + 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    let payload = (0..PAYLOAD).map(|_| next()).collect();
    (Meta { fingerprint, key, parent, epoch: 0, group: 0, half: Half::K, element: 1, lossy: false, tokens }, payload)
}

/// Keeps pages on the first tier; how many were taken.
pub fn keep(tiers: &Tiers, fingerprint: Fingerprint, pages: std::ops::Range<u32>) -> usize {
    let put = |n| {
        let (meta, payload) = page(fingerprint, n);
        tiers.put(0, &meta, &payload, integrity::sum(&payload)).is_ok()
    };
    pages.filter(|&n| put(n)).count()
}

/// Asks for pages; how many came. Panics if one is not what was kept.
pub fn hits(tiers: &Tiers, fingerprint: Fingerprint, pages: std::ops::Range<u32>) -> usize {
    let all: Vec<(Meta, Vec<u8>)> = pages.map(|n| page(fingerprint, n)).collect();
    let wanted: Vec<Expected<'_>> = all
        .iter()
        .map(|(m, _)| Expected {
            fingerprint: &m.fingerprint,
            key: &m.key,
            group: 0,
            half: m.half,
            epoch: 0,
            tokens: &m.tokens,
            sizes: &SIZES,
            lossy: false,
        })
        .collect();
    let mut found = 0;
    for (fetched, (meta, right)) in tiers.fetch(&wanted).iter().zip(&all) {
        if let Fetched::Hit { record, payload, .. } = fetched {
            assert_eq!(record[*payload..], right[..], "page {:?} is not what was kept", meta.tokens);
            found += 1;
        }
    }
    found
}
