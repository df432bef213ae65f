//! The step: schedule, build the batch, run, postprocess.
use super::batch;
use super::request::FinishReason;
use super::runner::{Drawn, Runner};
use super::scheduler::{Chunk, End, Scheduler};
use super::sequence::{Sequence, Submission};
use super::session::{Message, Reply, Stats};
use super::verify::Verifier;
use crate::error::{Error, Result};
use crate::kv::cache::PageCopy;
use crate::kv::pace::context;
use crate::text::Tokenizer;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sequences and the model that computes them, on one thread.
pub(super) struct Core<R> {
    pub scheduler: Scheduler,
    pub runner: R,
    pub tokenizer: Option<Arc<Tokenizer>>,
    pub stats: Stats,
    /// Whether the last step had nothing to compute.
    pub stalled: bool,
}

/// Tokens of a prompt from which a step's time tells how fast prompts are computed.
const TELLING: usize = 16;

impl<R: Runner> Core<R> {
    /// Takes a new request.
    pub fn submit(&mut self, submission: Submission) {
        let keys = self.scheduler.pages.keys(&submission.salt, &submission.prompt);
        self.scheduler.queue(Sequence::new(keys, submission));
    }

    /// Takes what was sent, at a time in ms; returns how to answer it.
    pub fn take(&mut self, message: Message, now: u64) -> Option<Reply> {
        self.scheduler.pages.now = now;
        match message {
            Message::Submit(submission) => self.submit(*submission),
            Message::Call(call) => return Some(call(&mut self.scheduler)),
        }
        None
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        let checks = self.scheduler.pages.verifier.as_ref().is_some_and(Verifier::is_waiting);
        self.scheduler.running.is_empty() && self.scheduler.waiting.is_empty() && !checks
    }

    /// Computes one step, at a time in ms. An error of the device ends the sequences of the step, and only those.
    pub fn step(&mut self, now: u64) {
        self.scheduler.pages.now = now;
        self.scheduler.pages.expire_pins();
        self.cancel();
        self.scheduler.pages.poll();
        let chunks = self.scheduler.schedule();
        self.stalled = chunks.is_empty();
        if self.stalled {
            self.verify();
            self.observe();
            return;
        }
        let step = batch::build(&chunks, &self.scheduler.running, &self.scheduler.pages);
        let copies = self.scheduler.pages.take_copies();
        let top = self.top_logits(&chunks);
        let start = Instant::now();
        let result = self.runner.run(&copies, &step, &top);
        self.measure(&chunks, self.runner.took().unwrap_or_else(|| start.elapsed()));
        self.count(&chunks, &copies, start.elapsed());
        match result {
            Ok(drawn) => self.postprocess(&chunks, drawn),
            Err(error) => self.fail(&chunks, &error),
        }
        self.verify();
        self.observe();
    }

    /// Learns from a step how fast prompts are computed, and what pages cost by that.
    fn measure(&mut self, chunks: &[Chunk], time: Duration) {
        if chunks.iter().any(|c| c.tokens >= TELLING) {
            let tokens = chunks.iter().map(|c| c.tokens).sum();
            let before = |c: &Chunk| context(self.scheduler.running[c.seq].computed(), c.tokens);
            let context = chunks.iter().map(before).sum();
            self.scheduler.pace.measure(tokens, context, time.as_secs_f64());
            self.scheduler.pages.weigh(&self.scheduler.pace);
        }
    }

    /// How many logits each drawing chunk reports.
    fn top_logits(&self, chunks: &[Chunk]) -> Vec<usize> {
        let seqs = chunks.iter().map(|c| (c, &self.scheduler.running[c.seq]));
        let drawing = seqs.filter(|(c, s)| c.tokens == s.remaining());
        drawing.flat_map(|(_, s)| s.outputs().map(|output| output.top_logits)).collect()
    }

    /// Ends the answers that nobody waits for any more.
    fn cancel(&mut self) {
        for s in self.scheduler.running.iter_mut().chain(&mut self.scheduler.waiting) {
            for output in s.prune() {
                output.finish(FinishReason::Cancelled, s.prompt, s.found);
            }
        }
        // One that is cancelled only now, with twins, is pruned in the next step.
        self.finish(|s| (s.twins.is_empty() && s.output.is_cancelled()).then_some(FinishReason::Cancelled));
    }

    /// Gives the new tokens to their sequences and ends those that are done.
    fn postprocess(&mut self, chunks: &[Chunk], drawn: Vec<Drawn>) {
        let mut drawn = drawn.into_iter();
        let mut done = vec![None; self.scheduler.running.len()];
        for chunk in chunks {
            let s = &mut self.scheduler.running[chunk.seq];
            self.scheduler.pages.publish(s, s.computed() + chunk.tokens);
            if s.remaining() > 0 {
                continue;
            }
            let twins = std::mem::take(&mut s.twins);
            let pages = &mut self.scheduler.pages;
            let forks: Vec<_> = twins.into_iter().map(|twin| s.fork(twin, pages.fork(s))).collect();
            done[chunk.seq] = deliver(s, drawn.next(), self.tokenizer.as_deref());
            for mut fork in forks {
                done.push(deliver(&mut fork, drawn.next(), self.tokenizer.as_deref()));
                self.scheduler.running.push(fork);
            }
        }
        let mut done = done.into_iter();
        self.finish(|_| done.next().flatten());
    }

    /// Ends sequences for a reason, running ones first.
    fn finish(&mut self, mut reason: impl FnMut(&Sequence) -> Option<FinishReason>) {
        let mut ended = Vec::new();
        self.scheduler.remove(|s| match reason(s) {
            Some(reason) => {
                let output = s.output.take();
                ended.push((output, reason, s.prompt, s.found));
                Some(End::Finished)
            }
            None => None,
        });
        for (output, reason, prompt, found) in ended {
            output.finish(reason, prompt, found);
        }
    }

    /// Ends the sequences of a failed step.
    fn fail(&mut self, chunks: &[Chunk], error: &Error) {
        let mut index = 0..;
        self.scheduler.remove(|s| {
            let failed = index.next().is_some_and(|i| chunks.iter().any(|c| c.seq == i));
            if failed {
                s.output.take().fail(share(error));
                s.twins.drain(..).for_each(|twin| twin.output.fail(share(error)));
            }
            failed.then_some(End::Failed)
        });
    }

    fn count(&mut self, chunks: &[Chunk], copies: &[PageCopy], time: Duration) {
        self.stats.steps += 1;
        let tokens = |one: bool| chunks.iter().filter(|c| (c.tokens == 1) == one).map(|c| c.tokens as u64).sum::<u64>();
        self.stats.decode_tokens += tokens(true);
        self.stats.prefill_tokens += tokens(false);
        if chunks.iter().all(|chunk| chunk.tokens > 1) {
            self.stats.prompt_step_tokens += tokens(false);
            self.stats.prompt_step_micros += time.as_micros() as u64;
        }
        for copy in copies {
            self.stats.copied_pages[copy.group] += 1;
        }
    }

    /// Brings the counts of others up to date.
    pub fn observe(&mut self) {
        self.stats.preemptions = self.scheduler.preemptions;
        self.stats.comebacks = self.scheduler.pages.comebacks;
        self.stats.free_pages = self.scheduler.pages.free();
        self.stats.cached_pages = self.scheduler.pages.cached_pages();
        self.stats.probes = self.scheduler.pages.cache.probes();
        self.stats.cache = self.scheduler.pages.counters();
        self.stats.tiers = self.scheduler.pages.tiers();
        self.stats.verified =
            self.scheduler.pages.verifier.as_ref().map(|verifier| verifier.report).unwrap_or_default();
    }
}

/// Gives a sequence its next token; why it ends, if it does.
fn deliver(s: &mut Sequence, drawn: Option<Drawn>, tokenizer: Option<&Tokenizer>) -> Option<FinishReason> {
    let Drawn { id, logits } = drawn?;
    let bytes = tokenizer.map_or(Vec::new(), |t| t.bytes(id));
    s.keys.extend(&[id]);
    match s.output.push(id, &bytes, logits) {
        true => Some(FinishReason::Stop),
        false if s.tokens().len() >= s.limit => Some(FinishReason::Length),
        false => None,
    }
}

/// The same error for one more listener.
fn share(error: &Error) -> Error {
    match error {
        Error::Overflow(place) => Error::Overflow(place.clone()),
        Error::OutOfMemory { what, needed, free } => {
            Error::OutOfMemory { what: what.clone(), needed: *needed, free: *free }
        }
        Error::Device(message) => Error::Device(message.clone()),
        other => Error::Device(other.to_string()),
    }
}

/// Refuses prompts that could not be served even alone.
pub(super) fn validate(tokens: usize, capacity: usize, context: usize) -> Result<()> {
    if tokens == 0 {
        return Err(Error::Request("the prompt has no token; give it some text".into()));
    }
    if tokens >= context {
        return Err(Error::Request(format!(
            "the prompt has {tokens} tokens, and the context of {context} must hold one more; shorten it"
        )));
    }
    if tokens >= capacity {
        return Err(Error::Request(format!(
            "the prompt has {tokens} tokens, and the KV memory holds {capacity}; shorten it or raise --kv-memory"
        )));
    }
    Ok(())
}
