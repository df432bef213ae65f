//! Stream-ordered memory pools: their attributes. Memory itself comes from the GPU at once and goes back in stream order.

use super::state::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A `CUmemoryPool`.
#[derive(Default)]
pub struct Pool {
    /// Attributes that were set, by `CUmemPool_attribute`.
    attributes: Mutex<HashMap<u32, u64>>,
    used: AtomicUsize,
    high: AtomicUsize,
}

const REUSE_FOLLOW_EVENT_DEPENDENCIES: u32 = 1;
const REUSE_ALLOW_INTERNAL_DEPENDENCIES: u32 = 3;
const RELEASE_THRESHOLD: u32 = 4;
const RESERVED_CURRENT: u32 = 5;
const RESERVED_HIGH: u32 = 6;
const USED_CURRENT: u32 = 7;
const USED_HIGH: u32 = 8;

impl Pool {
    pub fn new() -> Pool {
        Pool::default()
    }

    /// Counts an allocation's bytes.
    pub fn took(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.high.fetch_max(used, Ordering::Relaxed);
    }

    /// An attribute's value, and whether it is 64 bits wide (the reuse flags are ints); `None` if there is no such one.
    pub fn attribute(&self, attribute: u32) -> Option<(u64, bool)> {
        let value = match attribute {
            RESERVED_CURRENT | USED_CURRENT => self.used.load(Ordering::Relaxed) as u64,
            RESERVED_HIGH | USED_HIGH => self.high.load(Ordering::Relaxed) as u64,
            REUSE_FOLLOW_EVENT_DEPENDENCIES..=RELEASE_THRESHOLD => {
                let default = u64::from(attribute != RELEASE_THRESHOLD);
                lock(&self.attributes).get(&attribute).copied().unwrap_or(default)
            }
            _ => return None,
        };
        Some((value, attribute > REUSE_ALLOW_INTERNAL_DEPENDENCIES))
    }

    /// Sets an attribute; the high-water marks can only be reset. False if it cannot be set.
    pub fn set_attribute(&self, attribute: u32, value: u64) -> bool {
        match attribute {
            RESERVED_HIGH | USED_HIGH if value == 0 => {
                self.high.store(self.used.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            REUSE_FOLLOW_EVENT_DEPENDENCIES..=RELEASE_THRESHOLD => {
                lock(&self.attributes).insert(attribute, value);
            }
            _ => return false,
        }
        true
    }
}

/// Is the attribute a 64-bit one?
pub fn is_wide(attribute: u32) -> bool {
    attribute > REUSE_ALLOW_INTERNAL_DEPENDENCIES
}
