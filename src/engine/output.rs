//! What becomes of a sequence's tokens: text for the stream, stop texts, the completion.
use super::request::{Completion, Event, FinishReason, TokenLogits};
use crate::error::Error;
use crate::text::TextStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

/// The receiving end and what it was told.
#[derive(Debug)]
pub(super) struct Output {
    pub events: Sender<Event>,
    pub cancelled: Arc<AtomicBool>,
    /// Tokens that end the text, and texts that do.
    pub stop_tokens: Vec<u32>,
    pub stop: Vec<String>,
    /// Logits to report with each token.
    pub top_logits: usize,
    stream: TextStream,
    text: String,
    /// Bytes of `text` that were sent.
    sent: usize,
    ids: Vec<u32>,
    logits: Vec<TokenLogits>,
}

impl Output {
    pub fn new(events: Sender<Event>, cancelled: Arc<AtomicBool>) -> Self {
        Output {
            events,
            cancelled,
            stop_tokens: Vec::new(),
            stop: Vec::new(),
            top_logits: 0,
            stream: TextStream::new(),
            text: String::new(),
            sent: 0,
            ids: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// This one, leaving one that tells nobody anything.
    pub fn take(&mut self) -> Self {
        let (events, _) = std::sync::mpsc::channel();
        std::mem::replace(self, Output::new(events, Arc::clone(&self.cancelled)))
    }

    /// Whether nobody listens any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Takes a new token, sends the text that is certain by now; true if the text is at its end.
    pub fn push(&mut self, id: u32, bytes: &[u8], logits: Option<TokenLogits>) -> bool {
        if self.stop_tokens.contains(&id) {
            return true;
        }
        self.ids.push(id);
        self.logits.extend(logits);
        let before = self.text.len();
        let new = self.stream.push(bytes);
        self.text.push_str(&new);
        self.send(before)
    }

    /// Sends what can be sent of the text, `before` bytes of which were searched for stop texts already; true if one came.
    fn send(&mut self, before: usize) -> bool {
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let mut from = before.saturating_sub(longest).max(self.sent);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        let found = self.stop.iter().filter_map(|s| self.text[from..].find(s.as_str())).min();
        if let Some(at) = found {
            self.text.truncate(from + at);
        }
        let end = if found.is_some() { self.text.len() } else { self.certain() };
        if end > self.sent {
            // A receiver that is gone is seen by the cancelled flag, which its drop sets.
            let _ = self.events.send(Event::Text(self.text[self.sent..end].to_string()));
            self.sent = end;
        }
        found.is_some()
    }

    /// Where the longest end of the text starts that a stop text may begin with.
    fn certain(&self) -> usize {
        let begins = |&at: &usize| self.stop.iter().any(|s| s.starts_with(&self.text[at..]));
        let tail = self.text[self.sent..].char_indices().map(|(at, _)| self.sent + at);
        tail.into_iter().find(begins).unwrap_or(self.text.len())
    }

    /// Sends the rest and the completion.
    pub fn finish(mut self, reason: FinishReason, prompt_tokens: usize, cached_tokens: usize) {
        if reason != FinishReason::Stop {
            self.text.push_str(&self.stream.finish());
        }
        if self.sent < self.text.len() {
            let _ = self.events.send(Event::Text(self.text[self.sent..].to_string()));
        }
        let Output { events, text, ids, logits, .. } = self;
        let _ = events.send(Event::Finished(Completion { text, ids, reason, prompt_tokens, cached_tokens, logits }));
    }

    /// Tells of a failure.
    pub fn fail(self, error: Error) {
        let _ = self.events.send(Event::Failed(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn output(stop: &[&str]) -> (Output, Receiver<Event>) {
        let (sender, receiver) = channel();
        let mut output = Output::new(sender, Arc::default());
        output.stop = stop.iter().map(|s| s.to_string()).collect();
        output.stop_tokens = vec![9];
        (output, receiver)
    }

    /// Texts sent, and the text of the completion.
    fn heard(receiver: &Receiver<Event>) -> (Vec<String>, Option<Completion>) {
        let (mut texts, mut done) = (Vec::new(), None);
        for event in receiver.try_iter() {
            match event {
                Event::Text(text) => texts.push(text),
                Event::Finished(completion) => done = Some(completion),
                Event::Failed(error) => panic!("{error}"),
            }
        }
        (texts, done)
    }

    #[test]
    fn a_stop_text_is_held_back_and_cut_off() {
        let (mut out, rx) = output(&["END", "STOP"]);
        assert!(!out.push(1, b"a E", None));
        assert_eq!(heard(&rx).0, ["a "]);
        assert!(!out.push(2, b"N", None));
        assert!(heard(&rx).0.is_empty());
        assert!(!out.push(3, b"T S", None));
        assert_eq!(heard(&rx).0, ["ENT "]);
        assert!(out.push(4, b"TOP rest", None));
        out.finish(FinishReason::Stop, 7, 0);
        let (texts, done) = heard(&rx);
        assert!(texts.is_empty());
        let done = done.unwrap();
        assert_eq!((done.text.as_str(), &done.ids[..], done.prompt_tokens), ("a ENT ", &[1, 2, 3, 4][..], 7));
    }

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let (mut out, rx) = output(&["END"]);
        assert!(!out.push(1, b"the EN", None));
        assert!(out.push(9, b"", None));
        out.finish(FinishReason::Stop, 1, 0);
        let (texts, done) = heard(&rx);
        assert_eq!((texts.concat().as_str(), done.unwrap().text.as_str()), ("the EN", "the EN"));
    }

    #[test]
    fn characters_are_whole_and_an_unfinished_one_is_replaced() {
        let crab = "🦀".as_bytes();
        let (mut out, rx) = output(&[]);
        out.push(1, &crab[..2], None);
        assert!(heard(&rx).0.is_empty());
        out.push(2, &crab[2..], None);
        assert_eq!(heard(&rx).0, ["🦀"]);
        out.push(3, &crab[..1], None);
        out.finish(FinishReason::Length, 1, 0);
        assert_eq!(heard(&rx).1.unwrap().text, "🦀\u{fffd}");
    }

    #[test]
    fn the_earliest_stop_text_wins() {
        let (mut out, rx) = output(&["bb", "ab"]);
        assert!(out.push(1, b"xaabb", None));
        out.finish(FinishReason::Stop, 1, 0);
        assert_eq!(heard(&rx).1.unwrap().text, "xa");
    }
}
