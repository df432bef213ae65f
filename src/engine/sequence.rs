//! A request while it is served.
use super::config::PENALTY_WINDOW;
use super::output::Output;
use super::pages::Tables;
use crate::backend::SampleParams;

/// Tokens, how many of them are in the cache and where, and what becomes of new ones.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// How many of them the prompt is.
    pub prompt: usize,
    /// Tokens at most, prompt included.
    pub limit: usize,
    /// Tokens that are in the cache.
    pub computed: usize,
    pub tables: Tables,
    pub sampling: SampleParams,
    pub output: Output,
}

impl Sequence {
    /// Tokens that are not in the cache yet. With more than one it is prefilling.
    pub fn remaining(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Parameters of the next draw.
    pub fn draw(&self) -> SampleParams {
        SampleParams { step: (self.tokens.len() - self.prompt) as u32, ..self.sampling }
    }

    /// What the repeat penalty looks at.
    pub fn recent(&self) -> &[u32] {
        if self.sampling.repeat_penalty == 1.0 {
            return &[];
        }
        &self.tokens[self.tokens.len().saturating_sub(PENALTY_WINDOW)..]
    }
}
