//! Stream capture: work becomes nodes of a graph instead of running.
//!
//! Invariants: the frontier of a stream is the set of nodes its next work comes after; a capture ends with one frontier
//! that all nodes lead to, or it is an error; once invalidated it accepts nothing more.

use super::error::{CuError, CuResult};
use super::graph::{Graph, Node};
use super::state::lock;
use super::stream::Stream;
use super::work::Work;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::ThreadId;

/// How strictly other calls are refused during a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

impl Mode {
    pub fn from_code(code: u32) -> CuResult<Mode> {
        match code {
            0 => Ok(Mode::Global),
            1 => Ok(Mode::ThreadLocal),
            2 => Ok(Mode::Relaxed),
            _ => Err(CuError::INVALID_VALUE),
        }
    }

    pub fn code(self) -> u32 {
        self as u32
    }
}

/// A capture in progress.
pub struct Capture {
    pub id: u64,
    mode: Mode,
    thread: ThreadId,
    origin: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    /// By stream id.
    frontiers: HashMap<u64, Vec<usize>>,
    streams: Vec<Weak<Stream>>,
    invalid: bool,
}

/// Captures in progress, for the calls they forbid.
static ACTIVE: Mutex<Vec<Weak<Capture>>> = Mutex::new(vec![]);

thread_local! {
    static THREAD_MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// `cuThreadExchangeStreamCaptureMode`
pub fn exchange_thread_mode(mode: Mode) -> Mode {
    THREAD_MODE.replace(mode)
}

/// Refuses a call that could break a capture in progress: an allocation, a synchronous copy, a query. Such a call
/// during a capture that forbids it ends the capture.
pub fn check_unsafe_call() -> CuResult {
    let own = THREAD_MODE.get();
    let here = std::thread::current().id();
    let captures: Vec<_> = lock(&ACTIVE).iter().filter_map(Weak::upgrade).collect();
    let forbids = |c: &&Arc<Capture>| match (own, c.mode) {
        (Mode::Relaxed, _) | (_, Mode::Relaxed) => false,
        (Mode::Global, Mode::Global) => true,
        _ => c.thread == here,
    };
    match captures.iter().find(forbids) {
        Some(capture) => {
            capture.invalidate();
            Err(CuError::STREAM_CAPTURE_UNSUPPORTED)
        }
        None => Ok(()),
    }
}

impl Capture {
    /// Begins to capture `stream`.
    pub fn begin(stream: &Arc<Stream>, mode: Mode) -> CuResult {
        if stream.is_legacy() {
            return Err(CuError::STREAM_CAPTURE_UNSUPPORTED);
        }
        if stream.capture().is_some() {
            return Err(CuError::ILLEGAL_STATE);
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let state = State { streams: vec![Arc::downgrade(stream)], ..State::default() };
        let capture = Arc::new(Capture {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            mode,
            thread: std::thread::current().id(),
            origin: stream.id,
            state: Mutex::new(state),
        });
        let mut active = lock(&ACTIVE);
        active.retain(|c| c.strong_count() > 0);
        active.push(Arc::downgrade(&capture));
        stream.set_capture(Some(capture));
        Ok(())
    }

    /// After this the capture accepts nothing, and ends with an error.
    pub fn invalidate(&self) {
        lock(&self.state).invalid = true;
    }

    pub fn is_invalid(&self) -> bool {
        lock(&self.state).invalid
    }

    fn valid(&self) -> CuResult<std::sync::MutexGuard<'_, State>> {
        let state = lock(&self.state);
        if state.invalid { Err(CuError::STREAM_CAPTURE_INVALIDATED) } else { Ok(state) }
    }

    /// A node for `work` after the stream's frontier.
    pub fn add(&self, stream: &Stream, work: Work) -> CuResult {
        let mut state = self.valid()?;
        let after = state.frontiers.get(&stream.id).cloned().unwrap_or_default();
        state.nodes.push(Node { work, after });
        let node = state.nodes.len() - 1;
        state.frontiers.insert(stream.id, vec![node]);
        Ok(())
    }

    /// The nodes that the stream's next work comes after.
    pub fn frontier(&self, stream: &Stream) -> CuResult<Vec<usize>> {
        Ok(self.valid()?.frontiers.get(&stream.id).cloned().unwrap_or_default())
    }

    /// Makes the stream's next work come after `nodes` too; a stream outside joins the capture.
    pub fn join(self: &Arc<Self>, stream: &Arc<Stream>, nodes: &[usize]) -> CuResult {
        let mut state = self.valid()?;
        match stream.capture() {
            Some(other) if !Arc::ptr_eq(&other, self) => {
                state.invalid = true;
                drop(state);
                other.invalidate();
                return Err(CuError::STREAM_CAPTURE_MERGE);
            }
            Some(_) => {}
            None => {
                state.streams.push(Arc::downgrade(stream));
                stream.set_capture(Some(Arc::clone(self)));
            }
        }
        let frontier = state.frontiers.entry(stream.id).or_default();
        for &node in nodes {
            if !frontier.contains(&node) {
                frontier.push(node);
            }
        }
        Ok(())
    }

    /// Ends the capture that began in `stream`.
    pub fn end(self: &Arc<Self>, stream: &Stream) -> CuResult<Graph> {
        if self.origin != stream.id {
            return Err(CuError::STREAM_CAPTURE_UNMATCHED);
        }
        if self.mode != Mode::Relaxed && self.thread != std::thread::current().id() {
            return Err(CuError::STREAM_CAPTURE_WRONG_THREAD);
        }
        let mut state = lock(&self.state);
        state.streams.iter().filter_map(Weak::upgrade).for_each(|s| s.set_capture(None));
        lock(&ACTIVE).retain(|c| c.upgrade().is_some_and(|c| !Arc::ptr_eq(&c, self)));
        let invalid = std::mem::replace(&mut state.invalid, true);
        if invalid {
            return Err(CuError::STREAM_CAPTURE_INVALIDATED);
        }
        let last = state.frontiers.get(&self.origin).cloned().unwrap_or_default();
        let graph = Graph::from_nodes(std::mem::take(&mut state.nodes));
        if graph.all_lead_to(&last) { Ok(graph) } else { Err(CuError::STREAM_CAPTURE_UNJOINED) }
    }
}
