//! Records in host memory, within a budget of bytes.
use super::{RecordKey, Store, StoreError, Usage};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The tier just below the device.
pub struct HostStore {
    budget: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    records: HashMap<RecordKey, Box<[u8]>>,
    bytes: u64,
}

impl HostStore {
    /// An empty store of at most `budget` bytes of records.
    pub fn new(budget: u64) -> Self {
        HostStore { budget, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_one(&self, name: RecordKey, record: &[u8]) -> Result<(), StoreError> {
        if record.len() as u64 > self.budget {
            return Err(StoreError::TooLarge { bytes: record.len(), budget: self.budget });
        }
        let mut held = self.held();
        let old = held.records.get(&name).map_or(0, |r| r.len() as u64);
        let bytes = held.bytes - old + record.len() as u64;
        if bytes > self.budget {
            return Err(StoreError::Full("the host tier".into()));
        }
        held.bytes = bytes;
        held.records.insert(name, record.into());
        Ok(())
    }
}

impl Store for HostStore {
    fn name(&self) -> &str {
        "host"
    }

    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        items.iter().map(|(name, record)| self.put_one(*name, record)).collect()
    }

    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        let held = self.held();
        names.iter().map(|n| Ok(held.records.get(n).map(|r| r.to_vec()))).collect()
    }

    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        let held = self.held();
        names.iter().map(|n| Ok(held.records.contains_key(n))).collect()
    }

    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        let mut held = self.held();
        for name in names {
            if let Some(record) = held.records.remove(name) {
                held.bytes -= record.len() as u64;
            }
        }
        names.iter().map(|_| Ok(())).collect()
    }

    fn usage(&self) -> Usage {
        let held = self.held();
        Usage { records: held.records.len(), bytes: held.bytes, budget: self.budget }
    }
}
