//! Tiers below the device: where half pages rest, and how they are trusted again.
//!
//! A [`Store`] keeps bytes under a [`RecordKey`]: host memory, disk, Redis, S3. It decides nothing and is trusted with
//! nothing: a [`record`] carries all that is needed to tell whether it is whole, in place, current and ours, and the
//! checks are made in one place on the way back. What makes room is the cache's policy; a store that has none left says
//! [`StoreError::Full`].
pub mod breaker;
pub mod clock;
pub mod disk;
pub mod fault;
pub mod host;
pub mod io;
pub mod manager;
mod queue;
pub mod record;
#[cfg(feature = "kv-redis")]
pub mod redis;
#[cfg(feature = "kv-s3")]
pub mod s3;
pub mod stack;
pub mod state;

pub use clock::{Clock, RealClock, VirtualClock};
pub use disk::DiskStore;
pub use fault::{FaultPlan, FaultStore};
pub use host::HostStore;
pub use io::{Arrival, CopiedHalf, Done, IoError, MemoryIo, MemoryPages, Packer, PageIo, Payload};
pub use manager::{Form, Manager, ManagerConfig, PageShape, TierReport};
pub use record::{Cause, Expected, Half, Meta};
pub use stack::{Fetched, Tiers};

use super::key::Key;

/// Names one record of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// The page.
    pub key: Key,
    /// KV group: all groups of a model name their pages alike.
    pub group: u16,
    /// Which half of it.
    pub half: Half,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The budget, the disk or the server's memory is used up. Remove something first.
    #[error("{0} is full")]
    Full(String),
    /// It cannot be reached, timed out or is being left alone after failures.
    #[error("{0}")]
    Unavailable(String),
    /// The record can never fit.
    #[error("a record of {bytes} bytes does not fit a tier of {budget} bytes")]
    TooLarge {
        /// Size of the record.
        bytes: usize,
        /// Size of the tier.
        budget: u64,
    },
    /// It could not be opened or set up; the message names the cure.
    #[error("{0}")]
    Setup(String),
}

/// A record that a store already held when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: RecordKey,
    /// Key of the page before it, for rebuilding the tree.
    pub parent: Key,
    /// Bytes.
    pub bytes: usize,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Records.
    pub records: usize,
    /// Bytes they take, as the budget counts them.
    pub bytes: u64,
    /// The most it may take; `u64::MAX` where the store is somebody else's.
    pub budget: u64,
}

/// Bytes under names. Safe to use from many threads; every call may block, so the engine calls it from copy workers only.
pub trait Store: Send + Sync {
    /// For reports: `host`, `disk`, `redis`, `s3`.
    fn name(&self) -> &str;

    /// Keeps each record, replacing one of the same name. One answer per item.
    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>>;

    /// The records, `None` where there is none.
    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>>;

    /// Whether each is there, without reading it.
    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>>;

    /// Forgets each; one that is not there is no error.
    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>>;

    /// What is in a store of our own, written longest ago first; empty for a shared one, which is asked by name.
    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        Ok(Vec::new())
    }

    /// What it takes.
    fn usage(&self) -> Usage;

    /// Bytes of the budget that a record of `bytes` takes.
    fn cost(&self, bytes: usize) -> u64 {
        bytes as u64
    }
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        (**self).put(items)
    }
    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        (**self).get(names)
    }
    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        (**self).has(names)
    }
    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        (**self).remove(names)
    }
    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        (**self).list()
    }
    fn usage(&self) -> Usage {
        (**self).usage()
    }
    fn cost(&self, bytes: usize) -> u64 {
        (**self).cost(bytes)
    }
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        (**self).put(items)
    }
    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        (**self).get(names)
    }
    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        (**self).has(names)
    }
    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        (**self).remove(names)
    }
    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        (**self).list()
    }
    fn usage(&self) -> Usage {
        (**self).usage()
    }
    fn cost(&self, bytes: usize) -> u64 {
        (**self).cost(bytes)
    }
}
