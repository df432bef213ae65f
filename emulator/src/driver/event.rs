//! Events: a place in a stream, real or captured, and when it was reached.

use super::capture::Capture;
use super::error::{CuError, CuResult};
use super::queue::Marker;
use super::state::lock;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// `CU_EVENT_DISABLE_TIMING`
const DISABLE_TIMING: u32 = 2;

/// An event.
pub struct Event {
    flags: u32,
    record: Mutex<Record>,
}

/// What an event was last recorded as.
#[derive(Clone)]
pub enum Record {
    Never,
    /// In a stream: its place, and the time when it is reached.
    Placed(Marker, Arc<OnceLock<Instant>>),
    /// In a capture, after these nodes.
    Captured(Arc<Capture>, Vec<usize>),
}

impl Event {
    pub fn new(flags: u32) -> Event {
        Event { flags, record: Mutex::new(Record::Never) }
    }

    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    pub fn set(&self, record: Record) {
        *lock(&self.record) = record;
    }

    /// When it was reached.
    fn time(&self) -> CuResult<Instant> {
        match self.record() {
            _ if self.flags & DISABLE_TIMING != 0 => Err(CuError::INVALID_HANDLE),
            Record::Never => Err(CuError::INVALID_HANDLE),
            Record::Captured(..) => Err(CuError::CAPTURED_EVENT),
            Record::Placed(marker, time) => match time.get() {
                Some(time) if marker.is_done() => Ok(*time),
                _ => Err(CuError::NOT_READY),
            },
        }
    }

    /// Milliseconds from `start` to this event.
    pub fn milliseconds_since(&self, start: &Event) -> CuResult<f32> {
        let (end, start) = (self.time()?, start.time()?);
        let forward = end.saturating_duration_since(start).as_secs_f64();
        let backward = start.saturating_duration_since(end).as_secs_f64();
        Ok(((forward - backward) * 1e3) as f32)
    }
}
