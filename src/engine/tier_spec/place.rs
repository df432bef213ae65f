//! Where a tier is, as a user writes it.
//!
//! Invariant: what `Display` and `Debug` show of a URL is host and database, and no message repeats more than a place's name: the
//! text may be a URL with a password under a misspelt one.
use super::USAGE;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a tier is. Nearer ones are asked first, in the order of this enum.
#[derive(Clone, PartialEq, Eq)]
pub enum TierPlace {
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

impl TierPlace {
    /// As [`crate::engine::Stats`] and reports name it.
    pub fn name(&self) -> &'static str {
        match self {
            TierPlace::Host { .. } => "host",
            TierPlace::Disk { .. } => "disk",
            TierPlace::Redis { .. } => "redis",
            TierPlace::S3 { .. } => "s3",
        }
    }

    /// Nearest first.
    pub(in crate::engine) fn rank(&self) -> usize {
        match self {
            TierPlace::Host { .. } => 0,
            TierPlace::Disk { .. } => 1,
            TierPlace::Redis { .. } => 2,
            TierPlace::S3 { .. } => 3,
        }
    }
}

impl FromStr for TierPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or(USAGE)?;
        match name {
            "host" => Ok(TierPlace::Host { bytes: size(rest)? }),
            "disk" => {
                let (path, bytes) = rest.rsplit_once(',').ok_or("disk= takes a folder and a size: disk=PATH,10GiB")?;
                if path.is_empty() {
                    return Err("disk= takes a folder and a size: disk=PATH,10GiB".into());
                }
                Ok(TierPlace::Disk { path: path.into(), bytes: size(bytes)? })
            }
            "redis" if rest.starts_with("redis://") || rest.starts_with("rediss://") => {
                Ok(TierPlace::Redis { url: rest.into() })
            }
            "redis" => Err("redis= takes redis://[user:password@]host[:port][/database]".into()),
            "s3" if rest.strip_prefix("s3://").is_some_and(|r| !r.is_empty() && !r.starts_with('/')) => {
                Ok(TierPlace::S3 { address: rest.into() })
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

impl fmt::Display for TierPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TierPlace::Host { bytes } => write!(f, "host={bytes}"),
            TierPlace::Disk { path, bytes } => write!(f, "disk={},{bytes}", path.display()),
            TierPlace::Redis { url } => {
                let place = url.split_once("://").map_or("", |(_, rest)| rest);
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                write!(f, "redis={}", place.split(['?', '#']).next().unwrap_or_default())
            }
            TierPlace::S3 { address } => write!(f, "s3={address}"),
        }
    }
}

impl fmt::Debug for TierPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
