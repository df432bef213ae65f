//! A request while it is served.
use super::config::PENALTY_WINDOW;
use super::output::Output;
use crate::backend::SampleParams;
use crate::kv::cache::Expected;
use crate::kv::{Keys, Lease};

/// A request on its way to the engine's thread.
#[derive(Debug)]
pub(super) struct Submission {
    pub prompt: Vec<u32>,
    /// Whose pages it may find.
    pub salt: Vec<u8>,
    /// Whether it refuses pages restored from quantised copies.
    pub exact: bool,
    /// Before whom it is served.
    pub priority: i32,
    /// Tokens at most, prompt included.
    pub limit: usize,
    pub sampling: SampleParams,
    pub output: Output,
    /// Further answers to the same prompt.
    pub twins: Vec<Twin>,
}

/// A further answer to a prompt that is still being computed.
#[derive(Debug)]
pub(super) struct Twin {
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
    /// Brings up its pages from below, while it waits.
    pub load: Option<u64>,
    /// Whether the tiers were asked for its pages since it last began to wait.
    pub looked: bool,
    /// Whether it ran before and gave its pages up.
    pub preempted: bool,
    /// Tokens that were in its pages then.
    pub had: usize,
    /// Whether it takes pages restored from quantised copies.
    pub lossy: bool,
    pub priority: i32,
    /// Whether the cache was told, while it waits, what it will ask for, and what of that is cached.
    pub asked: bool,
    pub expected: Option<Expected>,
    /// Tokens of the prompt that were found when it first ran.
    pub found: usize,
    pub sampling: SampleParams,
    pub output: Output,
    /// Become sequences of their own when the prompt is computed.
    pub twins: Vec<Twin>,
}

impl Sequence {
    /// A request that has not run yet; `keys` are those of its prompt.
    pub fn new(keys: Keys, submission: Submission) -> Self {
        let Submission { prompt, limit, exact, priority, sampling, output, twins, .. } = submission;
        let prompt = prompt.len();
        Sequence {
            keys,
            prompt,
            limit,
            lease: None,
            load: None,
            looked: false,
            preempted: false,
            had: 0,
            lossy: !exact,
            priority,
            asked: false,
            expected: None,
            found: 0,
            sampling,
            output,
            twins,
        }
    }

    /// The sequence of a twin, on pages shared with this one.
    pub fn fork(&self, twin: Twin, lease: Option<Lease>) -> Self {
        let Twin { sampling, output } = twin;
        let (keys, found) = (self.keys.clone(), self.prompt);
        let expected = None;
        Sequence { keys, lease, preempted: false, expected, found, sampling, output, twins: Vec::new(), ..*self }
    }

    /// Sequences that it is or will be.
    pub fn seats(&self) -> usize {
        1 + self.twins.len()
    }

    /// Takes away the answers that nobody waits for any more, but not the last one.
    pub fn prune(&mut self) -> Vec<Output> {
        let mut gone: Vec<Output> =
            self.twins.extract_if(.., |twin| twin.output.is_cancelled()).map(|twin| twin.output).collect();
        if self.output.is_cancelled() && !self.twins.is_empty() {
            let Twin { sampling, output } = self.twins.remove(0);
            self.sampling = sampling;
            gone.push(std::mem::replace(&mut self.output, output));
        }
        gone
    }

    /// Those who listen, in the order of the draws.
    pub fn outputs(&self) -> impl Iterator<Item = &Output> {
        std::iter::once(&self.output).chain(self.twins.iter().map(|twin| &twin.output))
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

    /// Parameters of the next draws: its own, and those of its twins.
    pub fn draws(&self) -> impl Iterator<Item = SampleParams> {
        let step = (self.tokens().len() - self.prompt) as u32;
        let all = std::iter::once(self.sampling).chain(self.twins.iter().map(|twin| twin.sampling));
        all.map(move |sampling| SampleParams { step, ..sampling })
    }

    /// What the repeat penalty looks at.
    pub fn recent(&self) -> &[u32] {
        if self.sampling.repeat_penalty == 1.0 {
            return &[];
        }
        &self.tokens()[self.tokens().len().saturating_sub(PENALTY_WINDOW)..]
    }
}
