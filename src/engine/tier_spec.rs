//! What a user writes of a tier, and what is refused before anything is opened.
//!
//! Invariant: neither `Display` nor `Debug` nor an error shows a credential: of a URL they show host and database only.
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A tier below the device. Nearer ones are asked first, in the order of this enum.
#[derive(Clone, PartialEq, Eq)]
pub enum TierSpec {
    /// `host=2GiB`: memory of this process.
    Host {
        /// At most.
        bytes: u64,
    },
    /// `disk=PATH,10GiB`: a folder, found again after a restart.
    Disk {
        /// The folder; made if it is not there.
        path: PathBuf,
        /// At most.
        bytes: u64,
    },
    /// `redis=redis://[user:password@]host[:port][/database]`: Redis or Valkey, shared with others.
    Redis {
        /// May hold a password.
        url: String,
    },
    /// `s3=s3://bucket/prefix`: a bucket, shared with others. Endpoint and credentials come from the AWS_* variables.
    S3 {
        /// Bucket and prefix.
        address: String,
    },
}

/// What every spelling looks like.
const USAGE: &str = "a tier is host=SIZE, disk=PATH,SIZE, redis=URL or s3=s3://bucket/prefix";

impl TierSpec {
    /// As [`super::Stats`] and reports name it.
    pub fn name(&self) -> &'static str {
        match self {
            TierSpec::Host { .. } => "host",
            TierSpec::Disk { .. } => "disk",
            TierSpec::Redis { .. } => "redis",
            TierSpec::S3 { .. } => "s3",
        }
    }

    /// Nearest first.
    pub(super) fn rank(&self) -> usize {
        match self {
            TierSpec::Host { .. } => 0,
            TierSpec::Disk { .. } => 1,
            TierSpec::Redis { .. } => 2,
            TierSpec::S3 { .. } => 3,
        }
    }
}

impl FromStr for TierSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may be a URL with a password under a misspelt name, so no message repeats more than the name.
        let (name, rest) = text.split_once('=').ok_or(USAGE)?;
        match name {
            "host" => Ok(TierSpec::Host { bytes: size(rest)? }),
            "disk" => {
                let (path, bytes) = rest.rsplit_once(',').ok_or("disk= takes a folder and a size: disk=PATH,10GiB")?;
                if path.is_empty() {
                    return Err("disk= takes a folder and a size: disk=PATH,10GiB".into());
                }
                Ok(TierSpec::Disk { path: path.into(), bytes: size(bytes)? })
            }
            "redis" if rest.starts_with("redis://") || rest.starts_with("rediss://") => {
                Ok(TierSpec::Redis { url: rest.into() })
            }
            "redis" => Err("redis= takes redis://[user:password@]host[:port][/database]".into()),
            "s3" if rest.strip_prefix("s3://").is_some_and(|r| !r.is_empty() && !r.starts_with('/')) => {
                Ok(TierSpec::S3 { address: rest.into() })
            }
            "s3" => Err("s3= takes s3://bucket/prefix; endpoint, region and credentials come from AWS_ENDPOINT, \
                         AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .into()),
            _ => Err(USAGE.into()),
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a tier of 0 bytes holds nothing; leave it out".into()),
        bytes => Ok(bytes),
    }
}

impl fmt::Display for TierSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TierSpec::Host { bytes } => write!(f, "host={bytes}"),
            TierSpec::Disk { path, bytes } => write!(f, "disk={},{bytes}", path.display()),
            TierSpec::Redis { url } => {
                let place = url.split_once("://").map_or("", |(_, rest)| rest);
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                write!(f, "redis={}", place.split(['?', '#']).next().unwrap_or_default())
            }
            TierSpec::S3 { address } => write!(f, "s3={address}"),
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

/// A number of bytes: plain, or with KB, MB, GB (thousands) or KiB, MiB, GiB (1024s).
///
/// # Errors
/// Another text; the message says what a size looks like.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err("a size is a number and a unit, for example 512MiB or 2GB".into()),
    };
    match number.parse::<f64>() {
        Ok(n) if n * (factor as f64) < 9e18 => Ok((n * factor as f64) as u64),
        _ => Err(format!("{number:?} is not a number of bytes that a device could have")),
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
        assert_eq!(tier("host=2GiB"), Ok(TierSpec::Host { bytes: 2 << 30 }));
        assert_eq!(tier("disk=/a,b/c,10MB"), Ok(TierSpec::Disk { path: "/a,b/c".into(), bytes: 10_000_000 }));
        assert_eq!(tier("redis=redis://h:1/2"), Ok(TierSpec::Redis { url: "redis://h:1/2".into() }));
        assert_eq!(tier("s3=s3://b/p"), Ok(TierSpec::S3 { address: "s3://b/p".into() }));
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
        ];
        for (text, says) in bad {
            let message = tier(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
    }

    #[test]
    fn no_credential_is_shown() {
        for text in [
            "redis=redis://user:hunter2@h:6379/1",
            "redis=redis://:hunter2@h",
            "redis=redis://u:hun@ter2@h/?password=hunter2",
            "rediss=redis://:hunter2@h",
            "redis=http://:hunter2@h",
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
