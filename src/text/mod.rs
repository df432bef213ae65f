//! Text to tokens and back: tokenizers of GGUF metadata and of `tokenizer.json`, chat templates, streams of whole characters.
//!
//! Invariants:
//! * Text is text. The spelling of a control token in text is that token only where the caller asks for it
//!   ([`Spelling::Control`]) or where a chat template itself wrote it.
//! * Every token means bytes; text leaves a [`TextStream`] only in whole characters.
mod chat;
mod control;
mod gguf;
mod hub;
mod pieces;
mod spm;
mod stream;
mod tokenizer;

pub use chat::Message;
pub use stream::TextStream;
pub use tokenizer::{Spelling, Tokenizer};
