//! A stream's queue: work in order, done by one worker thread.
//!
//! Invariants: work is numbered from 1 and done in that order; `completed` never passes `submitted`; a worker thread
//! exists while there is work, or from the first work until [`Queue::close`]. Copies between the device and pinned
//! memory, and graphs with such copies, are held back until somebody asks for them (waits or polls) or the copy delay
//! is over: a program that forgot to synchronise reads old bytes, as it would on a busy GPU.

use super::state::{Driver, trace};
use super::work::Work;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long pinned copies are held back, in microseconds.
static COPY_DELAY: AtomicU64 = AtomicU64::new(1000);

/// How long an asynchronous copy to or from pinned memory may be held back when nobody waits for it. The default is
/// one millisecond; a test of missing synchronisation sets it longer than its own run.
pub fn set_copy_delay(delay: Duration) {
    COPY_DELAY.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Work in order.
pub struct Queue {
    driver: &'static Driver,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Instant, Work)>,
    submitted: u64,
    completed: u64,
    /// The number up to which somebody waits or has asked.
    demanded: u64,
    closed: bool,
    working: bool,
}

/// A place in a queue: all work up to a number.
#[derive(Clone)]
pub struct Marker {
    queue: Arc<Queue>,
    number: u64,
}

impl Marker {
    /// Blocks until the work is done.
    pub fn wait(&self) {
        let mut state = self.queue.demand(self.number);
        while state.completed < self.number {
            state = self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Is the work done? Asking lets held-back copies go.
    pub fn is_done(&self) -> bool {
        self.queue.demand(self.number).completed >= self.number
    }

    /// Is this work of `queue`? Then its order needs no wait.
    pub fn is_in(&self, queue: &Arc<Queue>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }

    /// As [`Marker::is_done`], without letting copies go.
    pub fn is_past(&self) -> bool {
        self.queue.lock().completed >= self.number
    }
}

impl Queue {
    pub fn new(driver: &'static Driver) -> Arc<Queue> {
        Arc::new(Queue { driver, state: Mutex::default(), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand(&self, number: u64) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.demanded < number {
            state.demanded = number;
            self.changed.notify_all();
        }
        state
    }

    /// Appends work; its place.
    pub fn submit(self: &Arc<Self>, work: Work) -> Marker {
        let mut state = self.lock();
        state.submitted += 1;
        let number = state.submitted;
        state.waiting.push_back((number, Instant::now(), work));
        if !state.working {
            state.working = true;
            let queue = Arc::clone(self);
            let started = std::thread::Builder::new().name("emulated-stream".into()).spawn(move || queue.work());
            if let Err(error) = started {
                // Without a thread the work is done here and now: late, but in order.
                drop(state);
                trace(&format!("no thread for a stream ({error}); its work runs on the caller's"));
                self.drain();
                self.lock().working = false;
                return Marker { queue: Arc::clone(self), number };
            }
        }
        drop(state);
        self.changed.notify_all();
        Marker { queue: Arc::clone(self), number }
    }

    /// All work submitted so far.
    pub fn latest(self: &Arc<Self>) -> Marker {
        Marker { queue: Arc::clone(self), number: self.lock().submitted }
    }

    /// Ends the worker once its work is done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Closed, and all its work done.
    pub fn has_ended(&self) -> bool {
        let state = self.lock();
        state.closed && state.completed >= state.submitted
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                if state.closed {
                    state.working = false;
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(self.hold_back(state));
            self.drain_one();
        }
    }

    /// Waits while the next work is a pinned copy that nobody has asked for.
    fn hold_back<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while let Some(&(number, since, ref work)) = state.waiting.front() {
            let delay = Duration::from_micros(COPY_DELAY.load(Ordering::Relaxed));
            let left = delay.saturating_sub(since.elapsed());
            if !work.is_pinned_copy() || state.demanded >= number || state.closed || left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn drain(&self) {
        while !self.lock().waiting.is_empty() {
            self.drain_one();
        }
    }

    fn drain_one(&self) {
        let Some((number, _, work)) = self.lock().waiting.pop_front() else { return };
        work.run(self.driver);
        drop(work);
        self.lock().completed = number;
        self.changed.notify_all();
    }
}
