//! Streams: a queue, its flags, and the capture it may be part of.

use super::capture::Capture;
use super::queue::Queue;
use super::state::{Driver, lock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// `CU_STREAM_NON_BLOCKING`
pub const NON_BLOCKING: u32 = 1;

/// A stream of a context.
pub struct Stream {
    pub id: u64,
    pub flags: u32,
    pub priority: i32,
    legacy: bool,
    queue: Arc<Queue>,
    capture: Mutex<Option<Arc<Capture>>>,
}

impl Stream {
    pub fn new(driver: &'static Driver, legacy: bool, flags: u32, priority: i32) -> Arc<Stream> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Stream { id, flags, priority, legacy, queue: Queue::new(driver), capture: Mutex::new(None) })
    }

    pub fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// Does it keep order with the legacy stream?
    pub fn is_blocking(&self) -> bool {
        !self.legacy && self.flags & NON_BLOCKING == 0
    }

    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The capture in progress.
    pub fn capture(&self) -> Option<Arc<Capture>> {
        lock(&self.capture).clone()
    }

    pub fn set_capture(&self, capture: Option<Arc<Capture>>) {
        *lock(&self.capture) = capture;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.queue.close();
    }
}
