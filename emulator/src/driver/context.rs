//! Contexts: their streams and settings, and the order between the legacy default stream and the others.
//!
//! Invariant: work enters the queues of a context under one lock, so that what the legacy stream waits for, and what
//! waits for it, is exact.

use super::error::{CuError, CuResult};
use super::queue::Marker;
use super::state::{Driver, lock};
use super::stream::Stream;
use super::work::Work;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

/// A context of the one GPU. Memory and modules are the GPU's; streams are the context's.
pub struct Context {
    pub driver: &'static Driver,
    pub id: u64,
    pub flags: AtomicU32,
    pub cache_config: AtomicU32,
    /// `CU_LIMIT_*` values that were set.
    pub limits: Mutex<HashMap<u32, usize>>,
    legacy: Arc<Stream>,
    /// Default streams of threads that ask for their own (`CU_STREAM_PER_THREAD`).
    per_thread: Mutex<HashMap<ThreadId, Arc<Stream>>>,
    /// Destroyed ones too while they have work: it still counts as the context's.
    streams: Mutex<Vec<Arc<Stream>>>,
    order: Mutex<()>,
}

impl Context {
    pub fn new(driver: &'static Driver, flags: u32) -> Arc<Context> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Context {
            driver,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            flags: AtomicU32::new(flags),
            cache_config: AtomicU32::new(0),
            limits: Mutex::default(),
            legacy: Stream::new(driver, true, 0, 0),
            per_thread: Mutex::default(),
            streams: Mutex::default(),
            order: Mutex::new(()),
        })
    }

    /// A new stream; `blocking` ones keep order with the legacy stream.
    pub fn create_stream(&self, flags: u32, priority: i32) -> Arc<Stream> {
        let stream = Stream::new(self.driver, false, flags, priority);
        lock(&self.streams).push(Arc::clone(&stream));
        stream
    }

    /// The stream of a handle: 0 and 1 are the legacy stream, 2 is the thread's own.
    pub fn stream(&self, handle: usize) -> CuResult<Arc<Stream>> {
        match handle {
            0 | 1 => Ok(Arc::clone(&self.legacy)),
            2 => {
                let mut own = lock(&self.per_thread);
                let thread = std::thread::current().id();
                Ok(Arc::clone(own.entry(thread).or_insert_with(|| self.create_stream(0, 0))))
            }
            _ => self.driver.streams.get(handle),
        }
    }

    fn live_streams(&self) -> Vec<Arc<Stream>> {
        let mut streams = lock(&self.streams);
        streams.retain(|s| !s.queue().has_ended());
        streams.clone()
    }

    /// Gives `stream` work, or a node to the graph it is captured into. `None` for a captured node.
    pub fn submit(&self, stream: &Arc<Stream>, work: Work) -> CuResult<Option<Marker>> {
        self.driver.check_fault()?;
        if let Some(capture) = stream.capture() {
            return capture.add(stream, work).map(|()| None);
        }
        let _order = lock(&self.order);
        if stream.is_legacy() {
            self.legacy_waits()?;
        } else if stream.is_blocking() {
            wait_for(stream, &self.legacy);
        }
        Ok(Some(stream.queue().submit(work)))
    }

    /// The legacy stream's next work comes after all work of the blocking streams.
    fn legacy_waits(&self) -> CuResult {
        let blocking: Vec<_> = self.live_streams().into_iter().filter(|s| s.is_blocking()).collect();
        if let Some(capture) = blocking.iter().find_map(|s| s.capture()) {
            capture.invalidate();
            return Err(CuError::STREAM_CAPTURE_IMPLICIT);
        }
        blocking.iter().for_each(|other| wait_for(&self.legacy, other));
        Ok(())
    }

    /// Gives work and waits for it.
    pub fn submit_and_wait(&self, stream: &Arc<Stream>, work: Work) -> CuResult {
        if let Some(marker) = self.submit(stream, work)? {
            marker.wait();
        }
        self.driver.check_fault()
    }

    /// Waits for all work of all streams.
    pub fn synchronise(&self) -> CuResult {
        self.driver.check_fault()?;
        self.drain();
        self.driver.check_fault()
    }

    fn drain(&self) {
        let all: Vec<Marker> = self.live_streams().iter().chain([&self.legacy]).map(|s| s.queue().latest()).collect();
        all.iter().for_each(Marker::wait);
    }

    /// Ends the context: its work is finished, its workers stop.
    pub fn destroy(&self) {
        self.drain();
        self.live_streams().iter().chain([&self.legacy]).for_each(|s| s.queue().close());
        self.driver.report_leaks();
    }
}

fn wait_for(stream: &Arc<Stream>, other: &Arc<Stream>) {
    let latest = other.queue().latest();
    if !latest.is_past() {
        stream.queue().submit(Work::Wait(latest));
    }
}
