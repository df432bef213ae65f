//! Tables of handles: an integer for every object the caller may name, so that a stale or foreign handle is an error
//! and never a dangling pointer.

use super::abi::Handle;
use super::error::{CuError, CuResult};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Objects of one kind by handle.
pub struct Table<T> {
    base: Handle,
    next: AtomicUsize,
    objects: RwLock<HashMap<Handle, Arc<T>>>,
}

impl<T> Table<T> {
    /// `kind` tells the handles of different tables apart.
    pub fn new(kind: usize) -> Self {
        Table { base: (0x4b00 | kind) << 32, next: AtomicUsize::new(1), objects: RwLock::default() }
    }

    pub fn insert(&self, object: Arc<T>) -> Handle {
        let handle = self.base + 16 * self.next.fetch_add(1, Ordering::Relaxed);
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(handle, object);
        handle
    }

    pub fn get(&self, handle: Handle) -> CuResult<Arc<T>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(&handle).cloned().ok_or(CuError::INVALID_HANDLE)
    }

    pub fn remove(&self, handle: Handle) -> CuResult<Arc<T>> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.remove(&handle).ok_or(CuError::INVALID_HANDLE)
    }

    pub fn all(&self) -> Vec<Arc<T>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
