//! Host memory that plays device memory. Locks make it safe to share; an operation holds those of its buffers while it runs.
use crate::backend::{Buffer, DeviceMemory};
use crate::error::{Error, Result};
use std::any::Any;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Zeroed memory in 64-bit words, so that every element type is aligned.
pub struct CpuMemory {
    bytes: usize,
    words: RwLock<Vec<u64>>,
}

impl CpuMemory {
    /// Zeroed memory, or an error where the machine has none.
    pub fn new(what: &str, bytes: usize) -> Result<Self> {
        let count = bytes.div_ceil(8);
        let mut words = Vec::new();
        if words.try_reserve_exact(count).is_err() {
            return Err(Error::OutOfMemory {
                what: what.into(),
                needed: bytes as u64,
                free: super::free_memory().free,
            });
        }
        words.resize(count, 0);
        Ok(CpuMemory { bytes, words: RwLock::new(words) })
    }
}

impl DeviceMemory for CpuMemory {
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn memory(buffer: &Buffer) -> Result<&CpuMemory> {
    buffer.downcast().ok_or_else(|| Error::Device("a buffer of another backend was given to the cpu backend".into()))
}

/// A buffer locked for reading.
pub struct Reading<'a>(&'a CpuMemory, RwLockReadGuard<'a, Vec<u64>>);

/// A buffer locked for writing.
pub struct Writing<'a>(&'a CpuMemory, RwLockWriteGuard<'a, Vec<u64>>);

/// Locks a buffer for reading.
pub fn read(buffer: &Buffer) -> Result<Reading<'_>> {
    let memory = memory(buffer)?;
    // A poisoned lock means that a thread died while writing; the bytes are still bytes.
    Ok(Reading(memory, memory.words.read().unwrap_or_else(PoisonError::into_inner)))
}

/// Locks a buffer for writing.
pub fn write(buffer: &Buffer) -> Result<Writing<'_>> {
    let memory = memory(buffer)?;
    Ok(Writing(memory, memory.words.write().unwrap_or_else(PoisonError::into_inner)))
}

/// Whether two handles are of the same memory.
pub fn same(a: &Buffer, b: &Buffer) -> Result<bool> {
    Ok(std::ptr::eq(memory(a)?, memory(b)?))
}

impl Reading<'_> {
    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.1)[..self.0.bytes]
    }

    /// The first `count` elements.
    pub fn get<T: bytemuck::AnyBitPattern>(&self, op: &'static str, count: usize) -> Result<&[T]> {
        let have = self.0.bytes / size_of::<T>();
        let all: &[T] = bytemuck::cast_slice(&self.1);
        all.get(..count).filter(|_| count <= have).ok_or_else(|| too_small(op, have, count))
    }
}

impl Writing<'_> {
    /// All bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.1)[..self.0.bytes]
    }

    /// The first `count` elements.
    pub fn get<T: bytemuck::Pod>(&mut self, op: &'static str, count: usize) -> Result<&mut [T]> {
        let have = self.0.bytes / size_of::<T>();
        let all: &mut [T] = bytemuck::cast_slice_mut(&mut self.1);
        all.get_mut(..count).filter(|_| count <= have).ok_or_else(|| too_small(op, have, count))
    }
}

fn too_small(op: &'static str, have: usize, need: usize) -> Error {
    Error::Shape { op, message: format!("a buffer has {have} elements, {need} are needed") }
}
