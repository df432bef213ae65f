//! One half page as bytes: what every tier stores.
//!
//! ```text
//!   0  magic and version, 8 bytes       112  payload bytes, u32     128  checksum of the payload, u64
//!   8  fingerprint, 32                  116  tokens, u16            136  checksum of bytes 0..136 and the tokens, u64
//!  40  key, 32                          118  group, u16             144  keyed BLAKE3 of all else, or zeros, 32
//!  72  key of the page before, 32       120  half, element, flags   176  token ids, u32 each, padded to 64 bytes
//! 104  epoch, u64                       123  zeros                       payload
//! ```
//! Integers are little-endian. [`decode`] checks everything that can be checked and says which check failed; nothing of a
//! record is used before.
use super::super::integrity;
use super::super::key::{Fingerprint, Key};

const MAGIC: [u8; 8] = *b"KVPAGE\0\x01";
const HEADER: usize = 176;
const LOSSY: u8 = 1;

/// Which half of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Half {
    /// Keys of all layers.
    K,
    /// Values of all layers.
    V,
}

impl Half {
    /// Both.
    pub const ALL: [Half; 2] = [Half::K, Half::V];

    /// 0 or 1.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// What a record says of its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Of the model and everything else that makes pages interchangeable.
    pub fingerprint: Fingerprint,
    /// The page.
    pub key: Key,
    /// The page before it.
    pub parent: Key,
    /// Of the tenant when it was computed.
    pub epoch: u64,
    /// KV group.
    pub group: u16,
    /// Which half.
    pub half: Half,
    /// Element type of the payload, a code of the engine's.
    pub element: u8,
    /// The payload is a quantised copy, or was computed from one.
    pub lossy: bool,
    /// Token ids of the page.
    pub tokens: Vec<u32>,
}

/// Why a record was not believed. Every one of these costs time, never a wrong token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Too short or too long for what it says.
    Torn,
    /// Not a record, or of another version of the format.
    Format,
    /// Of another model, type, page size or numerics.
    Fingerprint,
    /// Another page's or group's, or the other half.
    Swapped,
    /// Of an epoch before an invalidation.
    Stale,
    /// Other token ids under the same key.
    Tokens,
    /// The header is damaged.
    Header,
    /// The payload is damaged.
    Checksum,
    /// Not authenticated by this store's secret.
    Forged,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 9] = [
        Cause::Torn,
        Cause::Format,
        Cause::Fingerprint,
        Cause::Swapped,
        Cause::Stale,
        Cause::Tokens,
        Cause::Header,
        Cause::Checksum,
        Cause::Forged,
    ];

    /// For reports.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Torn => "torn",
            Cause::Format => "other format",
            Cause::Fingerprint => "other fingerprint",
            Cause::Swapped => "swapped",
            Cause::Stale => "stale",
            Cause::Tokens => "other tokens",
            Cause::Header => "damaged header",
            Cause::Checksum => "failed checksum",
            Cause::Forged => "not authenticated",
        }
    }
}

/// What the asker knows of the page that it asked for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Of the engine.
    pub fingerprint: &'a Fingerprint,
    /// The page.
    pub key: &'a Key,
    /// KV group.
    pub group: u16,
    /// Which half.
    pub half: Half,
    /// The tenant's epoch now.
    pub epoch: u64,
    /// The page's token ids.
    pub tokens: &'a [u32],
    /// Bytes of the payload for each element type that is welcome: `(element, bytes)`.
    pub sizes: &'a [(u8, usize)],
    /// Whether it is a quantised copy, or of a page computed from one.
    pub lossy: bool,
}

impl Expected<'_> {
    /// What it is kept under.
    pub fn name(&self) -> super::RecordKey {
        super::RecordKey { key: *self.key, group: self.group, half: self.half }
    }
}

/// Bytes of a record.
pub fn size(tokens: usize, payload: usize) -> usize {
    payload_at(tokens) + payload
}

fn payload_at(tokens: usize) -> usize {
    (HEADER + 4 * tokens).next_multiple_of(64)
}

/// Makes a record. `sum` is [`integrity::sum`] of the payload as the device computed it before the copy, so that damage on
/// the way to the host is seen too; `secret` authenticates it against forgery.
pub fn encode(meta: &Meta, payload: &[u8], sum: u64, secret: Option<&[u8; 32]>) -> Vec<u8> {
    let start = payload_at(meta.tokens.len());
    let mut out = vec![0u8; start + payload.len()];
    out[..8].copy_from_slice(&MAGIC);
    out[8..40].copy_from_slice(meta.fingerprint.bytes());
    out[40..72].copy_from_slice(&meta.key.0);
    out[72..104].copy_from_slice(&meta.parent.0);
    out[104..112].copy_from_slice(&meta.epoch.to_le_bytes());
    out[112..116].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out[116..118].copy_from_slice(&(meta.tokens.len() as u16).to_le_bytes());
    out[118..120].copy_from_slice(&meta.group.to_le_bytes());
    out[120] = meta.half.code();
    out[121] = meta.element;
    out[122] = if meta.lossy { LOSSY } else { 0 };
    let bound = integrity::finalise(sum, payload.len() as u64, &meta.key, meta.half.code(), meta.element, meta.epoch);
    out[128..136].copy_from_slice(&bound.to_le_bytes());
    for (at, id) in out[HEADER..].chunks_exact_mut(4).zip(&meta.tokens) {
        at.copy_from_slice(&id.to_le_bytes());
    }
    out[start..].copy_from_slice(payload);
    let head = header_sum(&out, start);
    out[136..144].copy_from_slice(&head.to_le_bytes());
    if let Some(secret) = secret {
        let mac = authenticate(&out, secret);
        out[144..176].copy_from_slice(mac.as_bytes());
    }
    out
}

fn header_sum(record: &[u8], start: usize) -> u64 {
    let key = Key([0; 32]);
    let head = integrity::finalise(integrity::sum(&record[..136]), 136, &key, 0, 0, 0);
    integrity::finalise(integrity::sum(&record[HEADER..start]), head, &key, 1, 0, 0)
}

/// Keyed BLAKE3 of everything but the field it is kept in.
fn authenticate(record: &[u8], secret: &[u8; 32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&record[..144]);
    hasher.update(&record[HEADER..]);
    hasher.finalize()
}

fn word<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&record[at..at + N]);
    out
}

/// Checks a record against what was asked for. Returns what it says and where its payload begins.
pub fn decode(record: &[u8], expected: &Expected<'_>, secret: Option<&[u8; 32]>) -> Result<(Meta, usize), Cause> {
    if record.len() < HEADER {
        return Err(Cause::Torn);
    }
    if record[..8] != MAGIC {
        return Err(Cause::Format);
    }
    let payload = u32::from_le_bytes(word(record, 112)) as usize;
    let count = u16::from_le_bytes(word(record, 116)) as usize;
    let start = payload_at(count);
    if record.len() != start + payload {
        return Err(Cause::Torn);
    }
    if u64::from_le_bytes(word(record, 136)) != header_sum(record, start) {
        return Err(Cause::Header);
    }
    let meta = read_meta(record, count).ok_or(Cause::Format)?;
    let bound = integrity::finalise(
        integrity::sum(&record[start..]),
        payload as u64,
        &meta.key,
        meta.half.code(),
        meta.element,
        meta.epoch,
    );
    if bound != u64::from_le_bytes(word(record, 128)) {
        return Err(Cause::Checksum);
    }
    if let Some(secret) = secret
        && authenticate(record, secret) != blake3::Hash::from_bytes(word(record, 144))
    {
        return Err(Cause::Forged);
    }
    agrees(&meta, expected, payload)?;
    Ok((meta, start))
}

fn read_meta(record: &[u8], count: usize) -> Option<Meta> {
    let ids = record[HEADER..HEADER + 4 * count].chunks_exact(4);
    Some(Meta {
        fingerprint: Fingerprint::from_bytes(word(record, 8)),
        key: Key(word(record, 40)),
        parent: Key(word(record, 72)),
        epoch: u64::from_le_bytes(word(record, 104)),
        group: u16::from_le_bytes(word(record, 118)),
        half: *Half::ALL.get(record[120] as usize)?,
        element: record[121],
        lossy: record[122] & LOSSY != 0,
        tokens: ids.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    })
}

fn agrees(meta: &Meta, expected: &Expected<'_>, payload: usize) -> Result<(), Cause> {
    if meta.fingerprint != *expected.fingerprint {
        return Err(Cause::Fingerprint);
    }
    if (meta.key, meta.group, meta.half) != (*expected.key, expected.group, expected.half) {
        return Err(Cause::Swapped);
    }
    if meta.epoch != expected.epoch {
        return Err(Cause::Stale);
    }
    if meta.tokens != expected.tokens {
        return Err(Cause::Tokens);
    }
    if !expected.sizes.contains(&(meta.element, payload)) || meta.lossy != expected.lossy {
        return Err(Cause::Format);
    }
    Ok(())
}

/// The name and parent of a record, if its header is whole: for stores that list what they hold.
pub fn identify(record: &[u8]) -> Option<(super::RecordKey, Key)> {
    if record.len() < HEADER || record[..8] != MAGIC {
        return None;
    }
    let half = *Half::ALL.get(record[120] as usize)?;
    let group = u16::from_le_bytes(word(record, 118));
    Some((super::RecordKey { key: Key(word(record, 40)), group, half }, Key(word(record, 72))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Meta, Vec<u8>) {
        let meta = Meta {
            fingerprint: Fingerprint::new([("model", &b"m"[..])]),
            key: Key([3; 32]),
            parent: Key([2; 32]),
            epoch: 4,
            group: 1,
            half: Half::V,
            element: 1,
            lossy: false,
            tokens: (0..16).collect(),
        };
        (meta, (0..256u32).map(|i| (i * 7) as u8).collect())
    }

    fn expect(meta: &Meta) -> Expected<'_> {
        Expected {
            fingerprint: &meta.fingerprint,
            key: &meta.key,
            group: meta.group,
            half: meta.half,
            epoch: meta.epoch,
            tokens: &meta.tokens,
            sizes: &[(1, 256)],
            lossy: false,
        }
    }

    #[test]
    fn comes_back_whole() {
        let (meta, payload) = sample();
        for secret in [None, Some([9; 32])] {
            let record = encode(&meta, &payload, integrity::sum(&payload), secret.as_ref());
            assert_eq!(record.len(), size(16, 256));
            let (seen, at) = decode(&record, &expect(&meta), secret.as_ref()).unwrap();
            assert_eq!(seen, meta);
            assert_eq!(record[at..], payload);
            assert_eq!(identify(&record).unwrap().0.key, meta.key);
        }
    }

    #[test]
    fn every_bit_and_every_length_is_checked() {
        let (meta, payload) = sample();
        let secret = [9; 32];
        let record = encode(&meta, &payload, integrity::sum(&payload), Some(&secret));
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad, &expect(&meta), Some(&secret)).is_err(), "bit {bit} of byte {}", bit / 8);
        }
        for n in 0..record.len() {
            let cause = decode(&record[..n], &expect(&meta), Some(&secret)).unwrap_err();
            assert_eq!(cause, Cause::Torn, "length {n}");
        }
    }

    #[test]
    fn each_cause_is_told_apart() {
        let (meta, payload) = sample();
        let record = encode(&meta, &payload, integrity::sum(&payload), None);
        let other = Fingerprint::new([("model", &b"n"[..])]);
        let cases = [
            (Expected { fingerprint: &other, ..expect(&meta) }, Cause::Fingerprint),
            (Expected { key: &Key([8; 32]), ..expect(&meta) }, Cause::Swapped),
            (Expected { half: Half::K, ..expect(&meta) }, Cause::Swapped),
            (Expected { group: 0, ..expect(&meta) }, Cause::Swapped),
            (Expected { epoch: 5, ..expect(&meta) }, Cause::Stale),
            (Expected { tokens: &meta.tokens[1..], ..expect(&meta) }, Cause::Tokens),
            (Expected { sizes: &[(2, 256), (1, 255)], ..expect(&meta) }, Cause::Format),
            (Expected { lossy: true, ..expect(&meta) }, Cause::Format),
        ];
        for (expected, cause) in cases {
            assert_eq!(decode(&record, &expected, None).unwrap_err(), cause);
        }
        let wrong_sum = encode(&meta, &payload, integrity::sum(&payload) ^ 1, None);
        assert_eq!(decode(&wrong_sum, &expect(&meta), None).unwrap_err(), Cause::Checksum);
        assert_eq!(decode(&record, &expect(&meta), Some(&[1; 32])).unwrap_err(), Cause::Forged);
    }
}
