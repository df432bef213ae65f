//! Records on disk, within a budget, found again after a restart or a crash.
//!
//! ```text
//! DIR/<fingerprint, 16 hex digits>/lock          held by the one process that uses it
//!                                  SLOT.table     an entry of 128 bytes for each slot
//!                                  SLOT.pages     slots of SLOT bytes
//! ```
//! Records of one size class (rounded up to 4 KiB) share a pair of files. The halves of a group's pages have one size, so
//! there are few classes, the budget holds by construction, and a restart reads the tables alone. A general disk cache
//! would evict in blocks and by an order of its own; here each slot is one record and the cache's policy picks it.
//!
//! Invariants: an entry is cleared before its slot is overwritten and written after the slot, so whatever moment a process
//! dies at, an entry names a slot whose record is whole, or one that the record's own checks refuse (after a power cut,
//! which may reorder writes: nothing is synced, this is a cache). Folders of other fingerprints are never read; those that
//! no process holds give way when the budget is needed.
use super::{Listed, RecordKey, Store, StoreError, Usage};
use crate::kv::key::Fingerprint;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

mod class;
use class::Class;

/// Slots are multiples of this.
const ALIGN: usize = 4096;

/// A folder of records.
pub struct DiskStore {
    dir: PathBuf,
    budget: u64,
    held: Mutex<Held>,
    _lock: File,
}

struct Held {
    classes: BTreeMap<usize, Class>,
    index: HashMap<RecordKey, (usize, u32)>,
    /// Bytes of slots that hold a record, tables included.
    bytes: u64,
    /// Bytes of other fingerprints' folders.
    foreign: u64,
    sequence: u64,
}

fn setup(path: &Path, e: &io::Error) -> StoreError {
    let cure = match e.kind() {
        io::ErrorKind::StorageFull => "free some space or name another folder in --kv-tier disk=PATH,SIZE",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "it is not a folder; name one in --kv-tier disk=PATH,SIZE"
        }
        _ => "make it writable or name another folder in --kv-tier disk=PATH,SIZE",
    };
    StoreError::Setup(format!("{}: {e}; {cure}", path.display()))
}

impl DiskStore {
    /// Opens `dir` for pages of `fingerprint`, creating what is missing and finding what an earlier process left.
    ///
    /// # Errors
    /// The folder cannot be written, or another process uses it for the same fingerprint.
    pub fn open(dir: &Path, budget: u64, fingerprint: &Fingerprint) -> Result<Self, StoreError> {
        let name: String = fingerprint.bytes()[..8].iter().map(|b| format!("{b:02x}")).collect();
        let own = dir.join(name);
        fs::create_dir_all(&own).map_err(|e| setup(&own, &e))?;
        let lock = File::create(own.join("lock")).map_err(|e| setup(&own, &e))?;
        lock.try_lock().map_err(|_| {
            StoreError::Setup(format!(
                "{} is in use by another process with the same model; give each a folder of its own, or share pages \
                 through --kv-tier redis= or s3=",
                own.display()
            ))
        })?;
        let mut held = Held {
            classes: BTreeMap::new(),
            index: HashMap::new(),
            bytes: 0,
            foreign: foreign_bytes(dir, &own),
            sequence: 0,
        };
        held.recover(&own).map_err(|e| setup(&own, &e))?;
        Ok(DiskStore { dir: own, budget, held: Mutex::new(held), _lock: lock })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_one(&self, name: RecordKey, record: &[u8]) -> Result<(), StoreError> {
        let slot = record.len().next_multiple_of(ALIGN);
        let needed = self.cost(record.len());
        if needed > self.budget {
            return Err(StoreError::TooLarge { bytes: record.len(), budget: self.budget });
        }
        let mut guard = self.held();
        let held = &mut *guard;
        held.forget(name).map_err(|e| self.failed(&e))?;
        if held.bytes + held.foreign + needed > self.budget && held.foreign > 0 {
            held.foreign = drop_foreign(&self.dir);
        }
        if held.bytes + held.foreign + needed > self.budget {
            return Err(StoreError::Full(format!("the disk tier ({})", self.dir.display())));
        }
        if let std::collections::btree_map::Entry::Vacant(e) = held.classes.entry(slot) {
            let class = Class::open(&self.dir, slot).map_err(|e| self.failed(&e))?;
            e.insert(class);
        }
        held.sequence += 1;
        let sequence = held.sequence;
        let Some(class) = held.classes.get_mut(&slot) else { return Err(self.failed(&io::ErrorKind::NotFound.into())) };
        let place = class.write(name, record, sequence).map_err(|e| self.failed(&e))?;
        held.index.insert(name, (slot, place));
        held.bytes += needed;
        Ok(())
    }

    fn get_one(&self, name: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let held = self.held();
        let Some(&(slot, place)) = held.index.get(name) else { return Ok(None) };
        let Some(class) = held.classes.get(&slot) else { return Ok(None) };
        class.read(place).map(Some).map_err(|e| self.failed(&e))
    }

    fn failed(&self, e: &io::Error) -> StoreError {
        if e.kind() == io::ErrorKind::StorageFull {
            return StoreError::Full(format!("the disk under {}", self.dir.display()));
        }
        StoreError::Unavailable(format!("{}: {e}", self.dir.display()))
    }
}

impl Held {
    /// Reads every table of the folder; of two records of one name the later one counts.
    fn recover(&mut self, dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let slot = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<usize>().ok());
            let Some(slot) =
                slot.filter(|s| *s > 0 && s.is_multiple_of(ALIGN) && path.extension().is_some_and(|e| e == "table"))
            else {
                continue;
            };
            let class = Class::open(dir, slot)?;
            self.classes.insert(slot, class);
        }
        let mut found = Vec::new();
        for (&slot, class) in &self.classes {
            found.extend(class.live().map(|(place, name, sequence)| (sequence, slot, place, name)));
        }
        found.sort_unstable_by_key(|(sequence, ..)| *sequence);
        for (sequence, slot, place, name) in found {
            self.forget(name)?;
            self.index.insert(name, (slot, place));
            self.bytes += (slot + class::ENTRY) as u64;
            self.sequence = self.sequence.max(sequence);
        }
        Ok(())
    }

    fn forget(&mut self, name: RecordKey) -> io::Result<()> {
        let Some((slot, place)) = self.index.remove(&name) else { return Ok(()) };
        self.bytes -= (slot + class::ENTRY) as u64;
        self.classes.get_mut(&slot).map_or(Ok(()), |class| class.clear(place))
    }
}

/// Folders of other fingerprints beside `own` that hold our kind of files.
fn foreign_dirs(parent: &Path, own: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|e| e.path());
    entries.filter(|p| p != own && p.join("lock").is_file()).collect()
}

fn dir_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| allocated(&m)).sum()
}

#[cfg(unix)]
fn allocated(m: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    m.blocks() * 512
}

#[cfg(not(unix))]
fn allocated(m: &fs::Metadata) -> u64 {
    m.len()
}

fn foreign_bytes(parent: &Path, own: &Path) -> u64 {
    foreign_dirs(parent, own).iter().map(|d| dir_bytes(d)).sum()
}

/// Removes what no process holds; returns the bytes that stay.
fn drop_foreign(own: &Path) -> u64 {
    let Some(parent) = own.parent() else { return 0 };
    for dir in foreign_dirs(parent, own) {
        let free = File::open(dir.join("lock")).is_ok_and(|f| f.try_lock().is_ok());
        if free && let Err(e) = fs::remove_dir_all(&dir) {
            tracing::warn!("cannot remove {}: {e}", dir.display());
        }
    }
    foreign_bytes(parent, own)
}

impl Store for DiskStore {
    fn name(&self) -> &str {
        "disk"
    }

    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        items.iter().map(|(name, record)| self.put_one(*name, record)).collect()
    }

    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        names.iter().map(|name| self.get_one(name)).collect()
    }

    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        let held = self.held();
        names.iter().map(|n| Ok(held.index.contains_key(n))).collect()
    }

    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        let mut held = self.held();
        names.iter().map(|n| held.forget(*n).map_err(|e| self.failed(&e))).collect()
    }

    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let held = self.held();
        let mut found = Vec::with_capacity(held.index.len());
        for (slot, class) in &held.classes {
            let current = class.live().filter(|(place, name, _)| held.index.get(name) == Some(&(*slot, *place)));
            found.extend(current.map(|(place, name, sequence)| {
                (sequence, Listed { name, parent: class.parent(place), bytes: class.bytes(place) })
            }));
        }
        found.sort_unstable_by_key(|(sequence, _)| *sequence);
        Ok(found.into_iter().map(|(_, listed)| listed).collect())
    }

    fn usage(&self) -> Usage {
        let held = self.held();
        Usage { records: held.index.len(), bytes: held.bytes, budget: self.budget }
    }

    fn cost(&self, bytes: usize) -> u64 {
        (bytes.next_multiple_of(ALIGN) + class::ENTRY) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::key::Key;
    use crate::kv::tier::Half;

    fn fingerprint(n: u8) -> Fingerprint {
        Fingerprint::new([("n", &[n][..])])
    }

    fn name(n: u8) -> RecordKey {
        RecordKey { key: Key([n; 32]), group: 0, half: Half::K }
    }

    fn record(n: u8, bytes: usize) -> Vec<u8> {
        vec![n; bytes]
    }

    #[test]
    fn keeps_its_budget_and_finds_its_records_again() {
        let dir = tempfile::tempdir().unwrap();
        let budget = 5 * (8192 + class::ENTRY as u64);
        {
            let store = DiskStore::open(dir.path(), budget, &fingerprint(1)).unwrap();
            for n in 0..5 {
                assert_eq!(store.put(&[(name(n), &record(n, 5000))]), [Ok(())]);
            }
            assert!(matches!(store.put(&[(name(9), &record(9, 5000))])[0], Err(StoreError::Full(_))));
            store.remove(&[name(2)]);
            assert_eq!(store.put(&[(name(9), &record(9, 5001))]), [Ok(())]);
            assert_eq!(store.put(&[(name(4), &record(44, 5000))]), [Ok(())], "replacing takes no new room");
            assert_eq!(store.usage(), Usage { records: 5, bytes: budget, budget });
        }
        let store = DiskStore::open(dir.path(), budget, &fingerprint(1)).unwrap();
        assert_eq!(store.usage().records, 5);
        let got = store.get(&[name(0), name(2), name(9), name(4)]);
        assert_eq!(got, [Ok(Some(record(0, 5000))), Ok(None), Ok(Some(record(9, 5001))), Ok(Some(record(44, 5000)))]);
        assert_eq!(store.list().unwrap().len(), 5);
        let pages: u64 = dir_bytes(&store.dir);
        assert!(pages <= budget + 4096, "{pages} bytes on disk for a budget of {budget}");
    }

    #[test]
    fn one_process_at_a_time_and_foreign_folders_give_way() {
        let dir = tempfile::tempdir().unwrap();
        let budget = 3 * (4096 + class::ENTRY as u64) + 4096;
        let first = DiskStore::open(dir.path(), budget, &fingerprint(1)).unwrap();
        let message = DiskStore::open(dir.path(), budget, &fingerprint(1)).err().unwrap().to_string();
        assert!(message.contains("in use"), "{message}");
        for n in 0..3 {
            assert_eq!(first.put(&[(name(n), &record(n, 100))]), [Ok(())]);
        }
        let second = DiskStore::open(dir.path(), budget, &fingerprint(2)).unwrap();
        assert!(second.get(&[name(0)]) == [Ok(None)], "a foreign record was served");
        assert!(
            matches!(second.put(&[(name(7), &record(7, 100))])[0], Err(StoreError::Full(_))),
            "the first is in use"
        );
        drop(first);
        assert_eq!(second.put(&[(name(7), &record(7, 100))]), [Ok(())], "now it gives way");
    }

    #[test]
    fn a_file_where_the_folder_should_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        let message = DiskStore::open(&file, 1 << 20, &fingerprint(1)).err().unwrap().to_string();
        assert!(message.contains("--kv-tier disk="), "{message}");
    }
}
