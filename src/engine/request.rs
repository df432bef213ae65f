//! What a user asks for and hears.
use crate::backend::SampleParams;
use crate::error::{Error, Result};
use crate::text::{Message, Spelling};
use std::hash::{BuildHasher, RandomState};

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text, with the bos that the model wants, and what control tokens' spellings in it mean.
    Text(String, Spelling),
    /// A conversation, by the model's chat template.
    Chat(Vec<Message>),
    /// Token ids as they are.
    Ids(Vec<u32>),
}

/// How tokens are drawn. The default is greedy.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token.
    pub temperature: f32,
    /// Draw from this many best tokens; 0 = all.
    pub top_k: u32,
    /// Draw from the best tokens that together have this probability; 1 = all.
    pub top_p: f32,
    /// Draw from tokens with at least this part of the best one's probability; 0 = all.
    pub min_p: f32,
    /// Divides the logits of tokens among the last 64; 1 = off.
    pub repeat_penalty: f32,
    /// The same seed gives the same text, whatever runs beside it; `None` takes a random one.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, seed: None }
    }
}

impl Sampling {
    /// Parameters of the first draw.
    pub(super) fn params(&self) -> Result<SampleParams> {
        let checks = [
            (self.temperature >= 0.0 && self.temperature.is_finite(), "temperature must be 0 or more"),
            (self.top_p > 0.0 && self.top_p <= 1.0, "top_p must be above 0 and at most 1"),
            ((0.0..=1.0).contains(&self.min_p), "min_p must be 0 to 1"),
            (self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite(), "repeat_penalty must be above 0"),
        ];
        if let Some((_, message)) = checks.into_iter().find(|(good, _)| !good) {
            return Err(Error::Request(message.into()));
        }
        Ok(SampleParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed.unwrap_or_else(|| RandomState::new().hash_one(0)),
            step: 0,
        })
    }

    /// Parameters of answer `sample` to one prompt: the first one's are those of a single answer.
    pub(super) fn of_sample(params: SampleParams, sample: u64) -> SampleParams {
        // The golden ratio: seeds of two samples do not meet again within a request.
        SampleParams { seed: params.seed.wrapping_add(sample.wrapping_mul(0x9e37_79b9_7f4a_7c15)), ..params }
    }
}

/// One generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is to be continued.
    pub prompt: Prompt,
    /// Tokens at most; the model's context may end it sooner.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Go on past the tokens with which the model ends a text.
    pub ignore_eos: bool,
    /// Report this many of the largest logits with each token.
    pub top_logits: usize,
    /// Keeps tenants apart: a request finds only what requests with the same salt have computed.
    pub salt: Vec<u8>,
    /// Take no pages that were restored from quantised copies, nor what was computed on top of such: the answer is what computing
    /// from scratch gives. Without a tier that quantises ([`super::TierSpec`]) every answer is.
    pub exact: bool,
    /// Requests of higher priority leave the queue first; what runs is not interrupted for them.
    pub priority: i32,
}

impl Request {
    /// Greedy, 64 tokens.
    pub fn new(prompt: Prompt) -> Self {
        Request {
            prompt,
            max_tokens: 64,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_eos: false,
            top_logits: 0,
            salt: Vec::new(),
            exact: false,
            priority: 0,
        }
    }

    /// Continues a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Prompt::Text(text.into(), Spelling::Text))
    }

    /// Answers a conversation.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self::new(Prompt::Chat(messages))
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended the text, or a stop text came.
    Stop,
    /// `max_tokens`, the context, or the KV memory was reached.
    Length,
    /// The stream was cancelled.
    Cancelled,
}

impl FinishReason {
    /// `stop`, `length` or `cancelled`.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// The distribution that a token was drawn from, before sampling.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogits {
    /// Token and logit, largest first.
    pub top: Vec<(u32, f32)>,
    /// Over the whole vocabulary.
    pub logsumexp: f64,
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// All text, as streamed.
    pub text: String,
    /// Generated tokens, without the one that ended the text.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, found in the KV cache, or shared with another answer to the same prompt.
    pub cached_tokens: usize,
    /// One per entry of `ids` where [`Request::top_logits`] is not 0.
    pub logits: Vec<TokenLogits>,
}

/// What a stream tells. [`Event::Finished`] or [`Event::Failed`] is the last one.
#[derive(Debug)]
pub enum Event {
    /// More text: whole characters, never a part of a stop text.
    Text(String),
    /// The end.
    Finished(Completion),
    /// The device failed or a value overflowed; other requests may have failed with it.
    Failed(Error),
}
