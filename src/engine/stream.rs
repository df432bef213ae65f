//! What the user of an engine holds of a request: its events, and the flag that ends it.
use super::request::{Completion, Event};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::task::Poll;
use std::time::Duration;

/// The answer to one request, as it comes. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream {
    events: Receiver<Event>,
    cancelled: Arc<AtomicBool>,
    completion: Option<Completion>,
}

/// Ends a request from any thread, also while another waits for its text.
#[derive(Clone, Debug)]
pub struct Canceller(Arc<AtomicBool>);

impl Stream {
    pub(super) fn new(events: Receiver<Event>, cancelled: Arc<AtomicBool>) -> Self {
        Stream { events, cancelled, completion: None }
    }

    /// The next event; `None` after the last one.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// The next piece of text; `None` at the end, after which [`Stream::completion`] has the result.
    pub fn next_text(&mut self) -> Result<Option<String>> {
        if self.completion.is_some() {
            return Ok(None);
        }
        let event = self.next_event();
        self.text_of(event)
    }

    /// Like [`Stream::next_text`], but waits `timeout` at most: [`Poll::Pending`] if nothing came.
    pub fn poll_text(&mut self, timeout: Duration) -> Result<Poll<Option<String>>> {
        if self.completion.is_some() {
            return Ok(Poll::Ready(None));
        }
        match self.events.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => Ok(Poll::Pending),
            event => self.text_of(event.ok()).map(Poll::Ready),
        }
    }

    fn text_of(&mut self, event: Option<Event>) -> Result<Option<String>> {
        match event {
            Some(Event::Text(text)) => Ok(Some(text)),
            Some(Event::Finished(completion)) => {
                self.completion = Some(completion);
                Ok(None)
            }
            Some(Event::Failed(error)) => Err(error),
            None => Err(Error::Device("the engine has ended".into())),
        }
    }

    /// The result, once the text is at its end.
    pub fn completion(&self) -> Option<&Completion> {
        self.completion.as_ref()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Result<Completion> {
        while self.next_text()?.is_some() {}
        self.completion.take().ok_or(Error::Cancelled)
    }

    /// Ends the request before the engine's next step; its last event says so.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// For a thread that does not have the stream.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.cancelled))
    }
}

impl Canceller {
    /// As [`Stream::cancel`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
    }
}
