//! Tokenizers from GGUF metadata (`tokenizer.ggml.*`): BPE (`gpt2`) and SentencePiece's BPE (`llama`).
use super::control::{Control, ControlToken};
use super::pieces::{Pieces, byte_token};
use super::spm;
use super::tokenizer::{Tokenizer, stops};
use crate::error::{Error, Result};
use crate::weights::Gguf;
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// Token types of GGUF.
mod kind {
    pub const UNKNOWN: i64 = 2;
    pub const CONTROL: i64 = 3;
    pub const USER_DEFINED: i64 = 4;
    pub const UNUSED: i64 = 5;
    pub const BYTE: i64 = 6;
}

/// How Llama 3 and Qwen 2 cut text; they differ in the length of a run of digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The metadata, checked against each other.
struct Vocabulary<'a> {
    file: &'a Gguf,
    tokens: Vec<&'a str>,
    types: Vec<i64>,
}

/// Builds the tokenizer that the metadata describes.
pub(super) fn load(file: &Gguf) -> Result<Tokenizer> {
    let vocabulary = Vocabulary::read(file)?;
    let model = file.string("tokenizer.ggml.model")?.unwrap_or_default();
    let (mut inner, pieces, default_bos) = match model {
        "gpt2" => vocabulary.bpe()?,
        "llama" => vocabulary.spm()?,
        other => {
            return Err(Error::Unsupported(format!(
                "{}: tokenizer {other:?}; kvick has gpt2 (BPE) and llama (SentencePiece BPE)",
                file.path().display()
            )));
        }
    };
    let user: Vec<AddedToken> = vocabulary
        .of_kind(|k| k == kind::USER_DEFINED)
        .map(|(t, _)| AddedToken::from(t, false).normalized(false))
        .collect();
    inner.add_tokens(user).map_err(|e| vocabulary.bad(format!("user-defined tokens: {e}")))?;
    let token = |id| ControlToken { id, lstrip: false, rstrip: false };
    let control = vocabulary.of_kind(|k| matches!(k, kind::CONTROL | kind::UNKNOWN | kind::UNUSED));
    let control = Control::new(control.map(|(t, id)| (t.to_string(), token(id))))?;
    let (bos, eos) = (vocabulary.special("bos")?, vocabulary.special("eos")?);
    let add = |key: &str, default| Ok::<_, Error>(file.bool(&format!("tokenizer.ggml.{key}"))?.unwrap_or(default));
    let declared = [eos, vocabulary.special("eot")?, vocabulary.special("eom")?];
    Ok(Tokenizer {
        prefix: bos.filter(|_| add("add_bos_token", default_bos).unwrap_or(false)).into_iter().collect(),
        suffix: eos.filter(|_| add("add_eos_token", false).unwrap_or(false)).into_iter().collect(),
        stops: stops(&control, declared.into_iter().flatten()),
        template: file.string("tokenizer.chat_template")?.map(str::to_string),
        origin: file.path().into(),
        inner,
        control,
        pieces,
        bos,
        eos,
    })
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a Gguf) -> Result<Self> {
        let bad = |message: &str| Error::model_file(file.path(), message);
        let tokens = file.strings("tokenizer.ggml.tokens")?.unwrap_or_default();
        if tokens.is_empty() {
            return Err(bad("it has no tokenizer (tokenizer.ggml.tokens); use a file that was converted with one"));
        }
        let types = file.integers("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![1; tokens.len()]);
        if types.len() != tokens.len() {
            return Err(bad("tokenizer.ggml.token_type and tokens differ in length"));
        }
        Ok(Vocabulary { file, tokens, types })
    }

    fn bad(&self, message: impl Into<String>) -> Error {
        Error::model_file(self.file.path(), message)
    }

    fn of_kind(&self, wanted: impl Fn(i64) -> bool) -> impl Iterator<Item = (&'a str, u32)> {
        let kinds = self.types.iter().copied();
        let tokens = self.tokens.iter().copied().zip(kinds).zip(0u32..);
        tokens.filter(move |((_, k), _)| wanted(*k)).map(|((t, _), id)| (t, id))
    }

    /// `tokenizer.ggml.{name}_token_id`, which must be a token.
    fn special(&self, name: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match self.file.unsigned(&key)? {
            Some(id) if id >= self.tokens.len() as u64 => {
                Err(self.bad(format!("{key} is {id}, but there are {} tokens", self.tokens.len())))
            }
            id => Ok(id.map(|id| id as u32)),
        }
    }

    /// What merging may read and make.
    fn mergeable(&self) -> HashMap<&'a str, u32> {
        self.of_kind(|k| !matches!(k, kind::CONTROL | kind::UNKNOWN | kind::UNUSED | kind::BYTE)).collect()
    }

    /// Tokenizer, convention, and whether bos is added by default.
    fn bpe(&self) -> Result<(tokenizers::Tokenizer, Pieces, bool)> {
        let ids = self.mergeable();
        let mut merges = Vec::new();
        for merge in self.file.strings("tokenizer.ggml.merges")?.unwrap_or_default() {
            let (left, right) =
                merge.split_once(' ').ok_or_else(|| self.bad(format!("merge {merge:?} is not two tokens")))?;
            let whole = format!("{left}{right}");
            if let Some(missing) = [left, right, &whole].into_iter().find(|t| !ids.contains_key(t)) {
                return Err(self.bad(format!("merge {merge:?} needs {missing:?}, which is no token")));
            }
            merges.push((left.to_string(), right.to_string()));
        }
        let name = self.file.string("tokenizer.ggml.pre")?.unwrap_or("default");
        let (pre, llama3) = self.pre_tokenizer(name)?;
        let vocab = ids.iter().map(|(t, id)| (t.to_string(), *id)).collect::<HashMap<_, _>>();
        let builder = BPE::builder().vocab_and_merges(to_vocab(vocab), merges).ignore_merges(llama3);
        let model = builder.build().map_err(|e| self.bad(format!("BPE: {e}")))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(pre));
        Ok((inner, Pieces::ByteLevel, llama3))
    }

    /// By the name that the converter gave it, and whether it is of Llama 3's family.
    fn pre_tokenizer(&self, name: &str) -> Result<(PreTokenizerWrapper, bool)> {
        let split = |regex: &str| {
            Split::new(SplitPattern::Regex(regex.into()), SplitDelimiterBehavior::Isolated, false)
                .map_err(|e| self.bad(format!("pre-tokenizer: {e}")))
        };
        let bytes = |regex: bool| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, regex));
        let parts = match name {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" => vec![bytes(true)],
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" => {
                vec![PreTokenizerWrapper::Digits(Digits::new(true)), bytes(true)]
            }
            "llama3" | "llama-v3" | "llama-bpe" => vec![PreTokenizerWrapper::Split(split(LLAMA3)?), bytes(false)],
            "qwen2" => vec![PreTokenizerWrapper::Split(split(QWEN2)?), bytes(false)],
            other => {
                return Err(Error::Unsupported(format!(
                    "{}: pre-tokenizer {other:?}; kvick has gpt-2, smollm, starcoder, llama-bpe and qwen2",
                    self.file.path().display()
                )));
            }
        };
        let llama3 = matches!(name, "llama3" | "llama-v3" | "llama-bpe");
        Ok((PreTokenizerWrapper::Sequence(PreTokenizers::new(parts)), llama3))
    }

    /// Tokenizer, convention, and whether bos is added by default.
    fn spm(&self) -> Result<(tokenizers::Tokenizer, Pieces, bool)> {
        let scores = self.file.floats("tokenizer.ggml.scores")?.unwrap_or_default();
        if scores.len() != self.tokens.len() {
            return Err(self.bad("tokenizer.ggml.scores and tokens differ in length"));
        }
        let ids = self.mergeable();
        let text = |id: u32| self.tokens[id as usize].to_string();
        let merges = spm::merges(&ids, &scores).into_iter().map(|(l, r)| (text(l), text(r))).collect();
        let mut vocab: HashMap<String, u32> = ids.into_iter().map(|(t, id)| (t.to_string(), id)).collect();
        let bytes = self.of_kind(|k| k == kind::BYTE).filter(|(t, _)| byte_token(t).is_some());
        vocab.extend(bytes.map(|(t, id)| (t.to_string(), id)));
        let mut builder = BPE::builder().byte_fallback(true).fuse_unk(true);
        if let Some(id) = self.special("unknown")? {
            vocab.insert(text(id), id);
            builder = builder.unk_token(text(id));
        }
        let model =
            builder.vocab_and_merges(to_vocab(vocab), merges).build().map_err(|e| self.bad(format!("BPE: {e}")))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let space = Replace::new(" ", "\u{2581}").map_err(|e| self.bad(format!("normalizer: {e}")))?;
        let mut steps = vec![space.into()];
        if self.file.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
            steps.insert(0, Prepend::new("\u{2581}".into()).into());
        }
        inner.with_normalizer(Some(Normalizers::new(steps))).map_err(|e| self.bad(format!("normalizer: {e}")))?;
        Ok((inner, Pieces::Spm, true))
    }
}

fn to_vocab(tokens: HashMap<String, u32>) -> tokenizers::models::bpe::Vocab {
    tokens.into_iter().collect()
}
