//! Opens the tiers that a configuration names, and refuses those that cannot work before a model is served with them.
use super::config::EngineConfig;
use super::io;
use super::tier_spec::{TierPlace, TierSpec};
use crate::backend::{KvHalf, KvLayout};
use crate::error::{Error, Result};
use crate::kv::Fingerprint;
use crate::kv::tier::{DiskStore, Form, Half, HostStore, PageShape, RealClock, Store, Tiers, record};
use std::path::Path;
use std::sync::Arc;

/// Bytes that every store may take for a record beside it: an entry, and what rounds it up to a slot of the disk.
const SLACK: usize = 4096 + 128;

/// The tiers of a configuration, nearest first, and what each keeps of pages and how; none is not an error.
///
/// # Errors
/// A folder that cannot be used, a server that does not answer or refuses, a size that the machine does not have or that
/// holds no page; pages that cannot be quantised so; a tier that this program was built without.
pub(super) fn open(config: &EngineConfig, fingerprint: Fingerprint, layouts: &[KvLayout]) -> Result<(Tiers, Kept)> {
    let secret = config.store_secret.as_ref().map(|secret| secret.key());
    let mut tiers = Tiers::new(fingerprint, secret, Arc::new(RealClock::default()));
    let mut specs: Vec<&TierSpec> = config.tiers.iter().collect();
    specs.sort_by_key(|spec| spec.rank());
    let mut kept = Kept::default();
    for spec in specs {
        let quantised = |error| Error::Request(format!("--kv-tier {spec}: {error}"));
        layouts.iter().try_for_each(|layout| spec.packing.check(layout)).map_err(quantised)?;
        check_size(spec, layouts.iter().map(|layout| page_bytes(spec, layout)).max().unwrap_or(0) as u64)?;
        tiers.push(open_one(spec, config, &kept_as(fingerprint, spec))?);
        let shapes = layouts.iter().map(|layout| shape(spec, layout)).collect();
        let error = KvHalf::BOTH.map(|half| spec.most(half));
        kept.forms.push((!spec.packing.is_exact()).then_some(Form { shapes, error }));
        kept.halves.push(spec.half.map(io::record_half));
    }
    Ok((tiers, kept))
}

/// What each tier keeps of pages: see [`crate::kv::tier::ManagerConfig`].
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub forms: Vec<Option<Form>>,
    pub halves: Vec<Option<Half>>,
}

/// Elements and bytes of the halves of a page as a tier keeps it.
fn shape(spec: &TierSpec, layout: &KvLayout) -> PageShape {
    KvHalf::BOTH.map(|half| {
        let packing = spec.packing.of(half);
        (io::code(packing, io::element(layout.types, half)), layout.packed_half_bytes(half, packing))
    })
}

/// Stores keep pages of different dtypes apart: their names are the same.
fn kept_as(fingerprint: Fingerprint, spec: &TierSpec) -> Fingerprint {
    match spec.packing.is_exact() {
        true => fingerprint,
        false => Fingerprint::new([
            ("pages", fingerprint.bytes().as_slice()),
            ("kept as", spec.packing.to_string().as_bytes()),
        ]),
    }
}

/// What a tier needs for what it keeps of a page.
fn page_bytes(spec: &TierSpec, layout: &KvLayout) -> usize {
    let halves = KvHalf::BOTH.into_iter().zip(shape(spec, layout));
    let kept = halves.filter(|(half, _)| spec.half.is_none_or(|kept| kept == *half));
    kept.map(|(_, (_, bytes))| record::size(layout.page_tokens, bytes) + SLACK).sum()
}

fn check_size(spec: &TierSpec, page: u64) -> Result<()> {
    let (bytes, most, of) = match &spec.place {
        TierPlace::Host { bytes } => (*bytes, machine_memory(), "memory"),
        TierPlace::Disk { path, bytes } => (*bytes, disk_size(path), "disk"),
        TierPlace::Redis { .. } | TierPlace::S3 { .. } => return Ok(()),
    };
    if bytes < page {
        return Err(Error::Request(format!(
            "--kv-tier {spec}: a page of this model takes {page} bytes; give the tier more, or leave it out"
        )));
    }
    match most {
        Some(most) if bytes > most => {
            Err(Error::Request(format!("--kv-tier {spec}: the machine has {most} bytes of {of}; give the tier less")))
        }
        _ => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn machine_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some(info.totalram as u64 * u64::from(info.mem_unit))
}

#[cfg(not(target_os = "linux"))]
fn machine_memory() -> Option<u64> {
    None
}

/// Size of the file system that `path`, or the first folder above it that is there, lies on.
#[cfg(unix)]
fn disk_size(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find(|p| p.exists())?;
    let size = rustix::fs::statvfs(there).ok()?;
    size.f_blocks.checked_mul(size.f_frsize)
}

#[cfg(not(unix))]
fn disk_size(_path: &Path) -> Option<u64> {
    None
}

fn open_one(spec: &TierSpec, config: &EngineConfig, fingerprint: &Fingerprint) -> Result<Box<dyn Store>> {
    match &spec.place {
        TierPlace::Host { bytes } => Ok(Box::new(HostStore::new(*bytes))),
        TierPlace::Disk { path, bytes } => DiskStore::open(path, *bytes, fingerprint).map(boxed).map_err(refused),
        TierPlace::Redis { url } => redis(url, config, fingerprint),
        TierPlace::S3 { address } => s3(address, config, fingerprint),
    }
}

fn boxed(store: impl Store + 'static) -> Box<dyn Store> {
    Box::new(store)
}

fn refused(error: crate::kv::tier::StoreError) -> Error {
    Error::Request(error.to_string())
}

#[cfg(feature = "kv-redis")]
fn redis(url: &str, config: &EngineConfig, fingerprint: &Fingerprint) -> Result<Box<dyn Store>> {
    use crate::kv::tier::redis::{RedisStore, Timeouts};
    let timeouts = Timeouts { connect: config.store_timeout, answer: config.store_timeout };
    RedisStore::open(url, fingerprint, timeouts).map(boxed).map_err(refused)
}

#[cfg(not(feature = "kv-redis"))]
fn redis(_url: &str, _config: &EngineConfig, _fingerprint: &Fingerprint) -> Result<Box<dyn Store>> {
    Err(Error::Unsupported("this program was built without Redis; build it with --features kv-redis".into()))
}

#[cfg(feature = "kv-s3")]
fn s3(address: &str, config: &EngineConfig, fingerprint: &Fingerprint) -> Result<Box<dyn Store>> {
    use crate::kv::tier::s3::S3Store;
    S3Store::open(address, fingerprint, config.store_timeout).map(boxed).map_err(refused)
}

#[cfg(not(feature = "kv-s3"))]
fn s3(_address: &str, _config: &EngineConfig, _fingerprint: &Fingerprint) -> Result<Box<dyn Store>> {
    Err(Error::Unsupported("this program was built without S3; build it with --features kv-s3".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Float;

    fn open_these(tiers: &[&str]) -> Result<(Tiers, Kept)> {
        let tiers = tiers.iter().map(|t| t.parse().unwrap()).collect();
        let config = EngineConfig { tiers, ..EngineConfig::new("m") };
        config.check()?;
        let layout = KvLayout { layers: 2, kv_heads: 1, head_dim: 64, page_tokens: 16, types: Float::F16.into() };
        open(&config, Fingerprint::new([]), &[layout])
    }

    fn refusal(tiers: &[&str]) -> String {
        open_these(tiers).err().unwrap_or_else(|| panic!("{tiers:?} were opened")).to_string()
    }

    #[test]
    fn tiers_are_opened_nearest_first() {
        let dir = tempfile::tempdir().unwrap();
        let disk = format!("disk={},1MiB", dir.path().join("new/folder").display());
        let (tiers, kept) = open_these(&[&disk, "host=1MiB,dtype=k=exact,v=int8"]).unwrap();
        let form = Form { shapes: vec![[(1, 4096), (17, 2176)]], error: [0.0, 0.02] };
        assert_eq!(kept, Kept { forms: vec![Some(form), None], halves: vec![None; 2] });
        let (_, kept) = open_these(&[&(disk.replace("new", "other") + ",half=v"), "host=1MiB,half=k"]).unwrap();
        assert_eq!(kept, Kept { forms: vec![None, None], halves: vec![Some(Half::K), Some(Half::V)] });
        assert_eq!(tiers.stores().map(|s| s.name().to_string()).collect::<Vec<_>>(), ["host", "disk"]);
        assert_eq!(open_these(&[]).unwrap().0.stores().count(), 0);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_cure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let half = format!("disk={},1MiB,half=v", dir.path().join("new").display());
        let not_a_folder = format!("disk={},1MiB", file.display());
        let huge = format!("disk={},900PiB", dir.path().display()).replace("900PiB", "900000TiB");
        let cases = [
            (vec!["host=10KB"], "takes"),
            (vec!["host=8000TiB"], "of memory"),
            (vec![huge.as_str()], "of disk"),
            (vec![not_a_folder.as_str()], "--kv-tier disk="),
            (vec!["host=1MiB", "host=2MiB"], "two"),
            (vec!["host=1MiB,half=k"], "other half"),
            (vec!["host=1MiB,half=k,dtype=int8", &half], "same dtype"),
            #[cfg(not(feature = "kv-redis"))]
            (vec!["redis=redis://:hunter2@h"], "--features kv-redis"),
            #[cfg(feature = "kv-redis")]
            (vec!["redis=redis://:hunter2@127.0.0.1:1"], "cannot be reached"),
            #[cfg(not(feature = "kv-s3"))]
            (vec!["s3=s3://b/p"], "--features kv-s3"),
        ];
        for (tiers, says) in cases {
            let message = refusal(&tiers);
            assert!(message.contains(says) && !message.contains("hunter2"), "{tiers:?}: {message}");
        }
    }
}
