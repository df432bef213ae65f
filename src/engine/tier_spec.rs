//! What a user writes of a tier, and what is refused before anything is opened.
//!
//! A tier keeps pages as they are unless it is told to quantise them (`dtype=`); then it keeps none that loses more than it may
//! (`error=`), and what it restores is given only to requests that take it ([`super::Request::exact`]).
//!
//! Invariant: neither `Display` nor `Debug` nor an error shows a credential: of a URL they show host and database only.
use crate::backend::{KvHalf, Packing, Packings};
use std::fmt;
use std::str::FromStr;

mod place;

pub use place::{TierPlace, parse_size};

/// A tier below the device: where it is, and behind it `,dtype=int8`, `,dtype=fp8`, `,dtype=int4` or
/// `,dtype=k=TYPE,v=TYPE` if it quantises pages, and `,error=0.05` for the most that K or V of a page may lose by that (root mean
/// square over that of what it was). `,half=k` or `,half=v` keeps only that half of each page, the other one being on another tier.
#[derive(Clone, PartialEq)]
pub struct TierSpec {
    /// Where pages go.
    pub place: TierPlace,
    /// What becomes of them on the way.
    pub packing: Packings,
    /// The most that a half may lose; `None`: what is usual for its packing.
    pub error: Option<f32>,
    /// The half of each page that it keeps, so that another tier has to keep the other one; `None`: both.
    pub half: Option<KvHalf>,
}

/// What every spelling looks like.
const USAGE: &str = "a tier is host=SIZE, disk=PATH,SIZE, redis=URL or s3=s3://bucket/prefix, and may end in ,dtype=int8 (or \
                     fp8, int4, k=TYPE,v=TYPE) ,error=0.05 and \
                     ,half=k (or v)";

impl TierSpec {
    /// As [`super::Stats`] and reports name it.
    pub fn name(&self) -> &'static str {
        self.place.name()
    }

    /// Nearest first.
    pub(super) fn rank(&self) -> usize {
        self.place.rank()
    }

    /// The most that a half may lose.
    pub(super) fn most(&self, half: KvHalf) -> f32 {
        self.error.unwrap_or(usual_error(self.packing.of(half)))
    }
}

/// About three times what packing usually loses, so that only pages go that it does not suit.
fn usual_error(packing: Packing) -> f32 {
    match packing {
        Packing::Exact => 0.0,
        Packing::Int8 => 0.02,
        Packing::Fp8 => 0.08,
        Packing::Int4 => 0.25,
    }
}

impl From<TierPlace> for TierSpec {
    fn from(place: TierPlace) -> Self {
        TierSpec { place, packing: Packings::EXACT, error: None, half: None }
    }
}

impl FromStr for TierSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut place, mut packing, mut error, mut half) = (text, None, None, None);
        // From the end: a folder or a URL may have commas.
        loop {
            let option = |name: &'static str| place.rfind(name).map(|at| (at, name));
            let Some((at, name)) = [",dtype=", ",error=", ",half="].into_iter().filter_map(option).max() else { break };
            let value = &place[at + name.len()..];
            let again = match name {
                ",dtype=" => packing.replace(value.parse::<Packings>().map_err(|_| DTYPES)?).is_some(),
                ",half=" => half.replace(read_half(value)?).is_some(),
                _ => error.replace(read_error(value)?).is_some(),
            };
            if again {
                return Err(format!("a tier has one {}; give it once", &name[1..]));
            }
            place = &place[..at];
        }
        let packing = packing.unwrap_or_default();
        if error.is_some() && packing.is_exact() {
            return Err(
                "error= bounds what quantising loses, and the tier does not quantise; give it dtype= too".into()
            );
        }
        let place: TierPlace = place.parse()?;
        if half.is_some() && matches!(place, TierPlace::Redis { .. } | TierPlace::S3 { .. }) {
            return Err("half= is for tiers of one engine, host= and disk=; a shared store keeps whole pages".into());
        }
        Ok(TierSpec { place, packing, error, half })
    }
}

/// Messages repeat no value: it may be the end of a password.
const DTYPES: &str = "dtype= takes int8, fp8, int4 or exact, or k=TYPE,v=TYPE";

fn read_error(text: &str) -> Result<f32, String> {
    let error = text.parse().ok().filter(|error: &f32| *error > 0.0 && error.is_finite());
    error.ok_or_else(|| "error= takes a part of the values' size above 0, for example 0.05".into())
}

fn read_half(text: &str) -> Result<KvHalf, String> {
    match text {
        "k" => Ok(KvHalf::K),
        "v" => Ok(KvHalf::V),
        _ => Err("half= takes k or v".into()),
    }
}

impl fmt::Display for TierSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        if !self.packing.is_exact() {
            write!(f, ",dtype={}", self.packing)?;
        }
        if let Some(error) = self.error {
            write!(f, ",error={error}")?;
        }
        match self.half {
            None => Ok(()),
            Some(KvHalf::K) => f.write_str(",half=k"),
            Some(KvHalf::V) => f.write_str(",half=v"),
        }
    }
}

impl fmt::Debug for TierSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What authenticates the pages of one's own engines against forgery. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreSecret([u8; 32]);

impl StoreSecret {
    /// From a text of any length, which had better be long and random.
    ///
    /// # Errors
    /// An empty text.
    pub fn new(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the secret of the store is empty; give one of 16 random characters or more".into());
        }
        Ok(StoreSecret(blake3::derive_key("kvick 2026 store secret", text)))
    }

    pub(super) fn key(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in
            [("0", 0), ("1000", 1000), ("2KiB", 2048), ("1.5 MB", 1_500_000), ("3g", 3 << 30), ("1TiB", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for bad in ["", "MiB", "1.2.3", "5 apples", "-1", "99999999999GB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_spelling_and_what_is_none() {
        let tier = |text: &str| text.parse::<TierSpec>();
        let place = |text: &str| {
            let spec = tier(text).unwrap();
            assert_eq!((spec.packing, spec.error, spec.half), (Packings::EXACT, None, None));
            spec.place
        };
        assert_eq!(place("host=2GiB"), TierPlace::Host { bytes: 2 << 30 });
        assert_eq!(place("disk=/a,b/c,10MB"), TierPlace::Disk { path: "/a,b/c".into(), bytes: 10_000_000 });
        assert_eq!(place("redis=redis://h:1/2"), TierPlace::Redis { url: "redis://h:1/2".into() });
        assert_eq!(place("s3=s3://b/p"), TierPlace::S3 { address: "s3://b/p".into() });
        let bad = [
            ("host", "host=SIZE"),
            ("hots=1GiB", "host=SIZE"),
            ("host=", "not a number"),
            ("host=0", "0 bytes"),
            ("host=lots", "512MiB"),
            ("disk=/a", "PATH"),
            ("disk=,1GiB", "PATH"),
            ("redis=http://h", "redis://"),
            ("s3=bucket", "AWS_ENDPOINT"),
            ("s3=s3:///p", "AWS_ENDPOINT"),
            ("host=1GiB,dtype=int3", "k=TYPE"),
            ("host=1GiB,dtype=", "k=TYPE"),
            ("host=1GiB,dtype=int8,dtype=int8", "once"),
            ("host=1GiB,error=0.1", "dtype= too"),
            ("host=1GiB,dtype=exact,error=0.1", "dtype= too"),
            ("host=1GiB,dtype=int8,error=0", "0.05"),
            ("host=1GiB,dtype=int8,error=much", "0.05"),
            ("disk=/a,dtype=int8", "PATH"),
            ("host=1GiB,half=q", "k or v"),
            ("host=1GiB,half=k,half=v", "once"),
            ("redis=redis://h,half=k", "whole pages"),
        ];
        for (text, says) in bad {
            let message = tier(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
    }

    #[test]
    fn quantised_tiers_are_written_as_they_are_read() {
        let int8 = Packings::both(Packing::Int8);
        let mixed = Packings { k: Packing::Int4, v: Packing::Fp8 };
        for (text, packing, error) in [
            ("host=1000,dtype=int8", int8, None),
            ("disk=/a,dtype/c,1000,dtype=k=int4,v=fp8,error=0.5", mixed, Some(0.5)),
            ("s3=s3://b/p,dtype=k=exact,v=int8", Packings { k: Packing::Exact, v: Packing::Int8 }, None),
        ] {
            let tier: TierSpec = text.parse().unwrap();
            assert_eq!((tier.packing, tier.error, tier.to_string()), (packing, error, text.to_string()));
        }
        let swapped: TierSpec = "host=1000,error=0.5,dtype=k=int4,v=fp8".parse().unwrap();
        assert_eq!(
            (swapped.packing, swapped.most(KvHalf::K), swapped.place),
            (mixed, 0.5, TierPlace::Host { bytes: 1000 })
        );
        let half: TierSpec = "disk=/a,1000,dtype=int8,error=0.5,half=v".parse().unwrap();
        assert_eq!(
            (half.half, half.to_string().as_str()),
            (Some(KvHalf::V), "disk=/a,1000,dtype=int8,error=0.5,half=v")
        );
        let usual: TierSpec = "redis=redis://h,dtype=k=int4,v=exact".parse().unwrap();
        assert!(usual.most(KvHalf::K) > 0.0 && usual.most(KvHalf::V) == 0.0);
    }

    #[test]
    fn no_credential_is_shown() {
        for text in [
            "redis=redis://user:hunter2@h:6379/1",
            "redis=redis://:hunter2@h",
            "redis=redis://u:hun@ter2@h/?password=hunter2",
            "rediss=redis://:hunter2@h",
            "redis=http://:hunter2@h",
            "redis=redis://:hunter2@h,dtype=int8,error=0.1",
            "redis=redis://h,dtype=int8:hunter2@h",
            "hunter2",
        ] {
            let shown = match text.parse::<TierSpec>() {
                Ok(tier) => format!("{tier} {tier:?}"),
                Err(message) => message,
            };
            assert!(!shown.contains("ter2"), "{text}: {shown}");
        }
        let secret = StoreSecret::new(b"hunter2").unwrap();
        assert!(format!("{secret:?}") == "StoreSecret(..)");
        assert!(StoreSecret::new(b"").is_err());
    }
}
