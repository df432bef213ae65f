//! The tokenizer of a model.
use super::chat::{self, Message};
use super::control::{Control, Part};
use super::pieces::Pieces;
use super::{gguf, hub};
use crate::error::{Error, Result};
use crate::weights::TokenizerSource;
use std::path::Path;

/// What the spelling of a control token in a text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// Its characters.
    #[default]
    Text,
    /// The control token.
    Control,
}

/// Text to token ids and back, by the rules of one model. Immutable; share it between threads.
#[derive(Debug)]
pub struct Tokenizer {
    pub(super) inner: tokenizers::Tokenizer,
    pub(super) control: Control,
    pub(super) pieces: Pieces,
    /// Tokens put before and after a text (bos, eos), where the model wants them.
    pub(super) prefix: Vec<u32>,
    pub(super) suffix: Vec<u32>,
    /// Tokens that end a generation, in rising order.
    pub(super) stops: Vec<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) template: Option<String>,
    /// For messages.
    pub(super) origin: std::path::PathBuf,
}

/// Control tokens that end a turn or a text in the known model families, whatever the metadata calls eos.
pub(super) const STOP_SPELLINGS: [&str; 8] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<EOT>"];

impl Tokenizer {
    /// Reads a model's tokenizer.
    ///
    /// # Errors
    /// A tokenizer that is missing, damaged, or of a kind that kvick does not have; the message says which it has.
    pub fn load(source: &TokenizerSource<'_>) -> Result<Self> {
        match source {
            TokenizerSource::Gguf(file) => gguf::load(file),
            TokenizerSource::Files { tokenizer, config, chat_template } => {
                hub::load(tokenizer, config.as_deref(), chat_template.as_deref())
            }
        }
    }

    /// Opens a model file only for its tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        Self::load(&crate::weights::open(path)?.tokenizer())
    }

    /// Token ids of a text, with the bos and eos that the model wants around it. Empty for an empty text of a model that
    /// wants neither.
    pub fn encode(&self, text: &str, spelling: Spelling) -> Result<Vec<u32>> {
        let inner = self.encode_inner(text, spelling)?;
        let bos = spelling == Spelling::Control && self.prefix.first().is_some_and(|bos| inner.starts_with(&[*bos]));
        let prefix = &self.prefix[usize::from(bos)..];
        Ok([prefix, &inner, &self.suffix].concat())
    }

    /// Token ids of a text that continues another: without what the model wants around a whole one.
    pub fn encode_inner(&self, text: &str, spelling: Spelling) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        match spelling {
            Spelling::Text => self.encode_into(text, &mut ids)?,
            Spelling::Control => {
                for part in self.control.split(text) {
                    self.encode_part(part, |text| text.into(), &mut ids)?;
                }
            }
        }
        Ok(ids)
    }

    /// Token ids of a conversation by the model's chat template, ending where the assistant's answer begins.
    ///
    /// # Errors
    /// The model has no template, or the template refuses the conversation.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let (text, mark) = chat::render(self, messages)?;
        let mut ids = Vec::new();
        for part in self.control.split(&text) {
            self.encode_part(part, |text| mark.remove(text), &mut ids)?;
        }
        Ok(ids)
    }

    /// Whether the model has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    fn encode_part<'a>(
        &self,
        part: Part<'a>,
        clean: impl Fn(&'a str) -> std::borrow::Cow<'a, str>,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        match part {
            Part::Token(id) => ids.push(id),
            Part::Text(text) => self.encode_into(&clean(text), ids)?,
        }
        Ok(())
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if !text.is_empty() {
            let encoding = self.inner.encode_fast(text, false).map_err(|e| self.failed(e))?;
            ids.extend_from_slice(encoding.get_ids());
        }
        Ok(())
    }

    fn failed(&self, e: impl std::fmt::Display) -> Error {
        Error::model_file(&self.origin, format!("its tokenizer failed: {e}"))
    }

    /// Bytes of a token as text: none for a control token or an id outside the vocabulary.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        if self.control.spelling(id).is_some() {
            return Vec::new();
        }
        match self.inner.id_to_token(id) {
            Some(token) if self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) => {
                if self.pieces == Pieces::Spm { self.pieces.bytes(&token) } else { token.into_bytes() }
            }
            Some(token) => self.pieces.bytes(&token),
            None => Vec::new(),
        }
    }

    /// Text of tokens, without control tokens; bytes that are no character become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A token as a person should see it: its text, or a control token's spelling.
    pub fn show(&self, id: u32) -> String {
        match self.control.spelling(id) {
            Some(spelling) => spelling.to_string(),
            None => String::from_utf8_lossy(&self.bytes(id)).into_owned(),
        }
    }

    /// Tokens that end a generation.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// The token that begins a text, where the model wants one.
    pub fn bos_rule(&self) -> Option<u32> {
        self.prefix.first().copied()
    }

    /// The spelling of a special token for the chat template.
    pub(super) fn spelling(&self, id: Option<u32>) -> String {
        id.map(|id| self.show(id)).unwrap_or_default()
    }
}

/// The sorted ids of `declared` and of the control tokens that are known to end a turn.
pub(super) fn stops(control: &Control, declared: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let known = STOP_SPELLINGS.iter().filter_map(|s| control.id(s));
    let mut stops: Vec<u32> = declared.into_iter().chain(known).collect();
    stops.sort_unstable();
    stops.dedup();
    stops
}
