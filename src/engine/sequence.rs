//! A request while it is served.
use super::config::PENALTY_WINDOW;
use super::output::Output;
use crate::backend::SampleParams;
use crate::kv::{Keys, Lease};

/// A request on its way to the engine's thread.
#[derive(Debug)]
pub(super) struct Submission {
    pub prompt: Vec<u32>,
    /// Whose pages it may find.
    pub salt: Vec<u8>,
    /// Tokens at most, prompt included.
    pub limit: usize,
    pub sampling: SampleParams,
    pub output: Output,
}

/// Tokens, how many of them are in the cache and where, and what becomes of new ones.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Prompt and answer so far, and the names of their pages.
    pub keys: Keys,
    /// How many tokens the prompt is.
    pub prompt: usize,
    /// Tokens at most, prompt included.
    pub limit: usize,
    /// Its pages, while it runs.
    pub lease: Option<Lease>,
    /// Whether it ran before and gave its pages up.
    pub preempted: bool,
    pub sampling: SampleParams,
    pub output: Output,
}

impl Sequence {
    /// A request that has not run yet; `keys` are those of its prompt.
    pub fn new(keys: Keys, submission: Submission) -> Self {
        let Submission { prompt, limit, sampling, output, .. } = submission;
        Sequence { keys, prompt: prompt.len(), limit, lease: None, preempted: false, sampling, output }
    }

    /// Prompt and answer so far.
    pub fn tokens(&self) -> &[u32] {
        self.keys.tokens()
    }

    /// Tokens whose K and V are in its pages.
    pub fn computed(&self) -> usize {
        self.lease.as_ref().map_or(0, Lease::filled)
    }

    /// Tokens that are not in its pages yet. With more than one it is prefilling.
    pub fn remaining(&self) -> usize {
        self.tokens().len() - self.computed()
    }

    /// Tokens that may be found in the cache: all but the last, whose logits are wanted.
    pub fn findable(&self) -> usize {
        self.tokens().len() - 1
    }

    /// Physical pages of group `g`; `u32::MAX` for one that left the window.
    pub fn table(&self, g: usize) -> &[u32] {
        self.lease.as_ref().map_or(&[], |lease| lease.table(g))
    }

    /// Parameters of the next draw.
    pub fn draw(&self) -> SampleParams {
        SampleParams { step: (self.tokens().len() - self.prompt) as u32, ..self.sampling }
    }

    /// What the repeat penalty looks at.
    pub fn recent(&self) -> &[u32] {
        if self.sampling.repeat_penalty == 1.0 {
            return &[];
        }
        &self.tokens()[self.tokens().len().saturating_sub(PENALTY_WINDOW)..]
    }
}
