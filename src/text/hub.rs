//! Tokenizers from `tokenizer.json`, with the special tokens and the chat template of `tokenizer_config.json`.
use super::control::{Control, ControlToken};
use super::pieces::Pieces;
use super::tokenizer::{Tokenizer, stops};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;
use tokenizers::decoders::DecoderWrapper;

/// Reads the files; `config` and `chat_template` may be absent.
pub(super) fn load(path: &Path, config: Option<&Path>, chat_template: Option<&Path>) -> Result<Tokenizer> {
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::model_file(
            path.parent().unwrap_or(path),
            "it has no tokenizer.json; put the model's own beside its weights",
        ),
        _ => Error::io(path, e),
    })?;
    let bad = |e: tokenizers::Error| Error::model_file(path, format!("not a sound tokenizer: {e}"));
    let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(bad)?;
    inner.with_truncation(None).map_err(bad)?.with_padding(None);
    inner.set_encode_special_tokens(true);
    let pieces = inner.get_decoder().and_then(convention).ok_or_else(|| {
        Error::Unsupported(format!(
            "{}: its decoder; kvick has ByteLevel, ByteFallback and Metaspace (BPE of GPT-2 and SentencePiece)",
            path.display()
        ))
    })?;
    let added = inner.get_added_tokens_decoder();
    let special = added.iter().filter(|(_, token)| token.special);
    let control =
        Control::new(special.map(|(&id, token)| {
            (token.content.clone(), ControlToken { id, lstrip: token.lstrip, rstrip: token.rstrip })
        }))?;
    let (prefix, suffix) = around(&inner).map_err(bad)?;
    let config = config.map(read_json).transpose()?.unwrap_or(Value::Null);
    let named = |key: &str| special_token(&config, key).and_then(|t| inner.token_to_id(t));
    let (bos, eos) = (named("bos_token").or(prefix.first().copied()), named("eos_token"));
    let template = match chat_template {
        Some(file) => Some(std::fs::read_to_string(file).map_err(|e| Error::io(file, e))?),
        None => template(&config).map(str::to_string),
    };
    let stops = stops(&control, eos);
    Ok(Tokenizer { inner, control, pieces, prefix, suffix, stops, bos, eos, template, origin: path.into() })
}

fn convention(decoder: &DecoderWrapper) -> Option<Pieces> {
    match decoder {
        DecoderWrapper::ByteLevel(_) => Some(Pieces::ByteLevel),
        DecoderWrapper::ByteFallback(_) | DecoderWrapper::Metaspace(_) => Some(Pieces::Spm),
        DecoderWrapper::Sequence(parts) => parts.get_decoders().iter().find_map(convention),
        _ => None,
    }
}

/// What the post-processor puts before and after a text.
fn around(inner: &tokenizers::Tokenizer) -> std::result::Result<(Vec<u32>, Vec<u32>), tokenizers::Error> {
    let (bare, whole) = (inner.encode_fast("a", false)?, inner.encode_fast("a", true)?);
    let (bare, whole) = (bare.get_ids(), whole.get_ids());
    let at = (0..=whole.len().saturating_sub(bare.len())).find(|&at| whole[at..].starts_with(bare)).unwrap_or(0);
    Ok((whole[..at].to_vec(), whole.get(at + bare.len()..).unwrap_or(&[]).to_vec()))
}

/// A special token of the configuration: a string, or an object with its content.
fn special_token<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The chat template: a string, or the one called "default" of several.
fn template(config: &Value) -> Option<&str> {
    let value = config.get("chat_template")?;
    let named = || {
        let all = value.as_array()?;
        let default = all.iter().find(|t| t["name"] == "default").or(all.first())?;
        default.get("template")?.as_str()
    };
    value.as_str().or_else(named)
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_slice(&text).map_err(|e| Error::model_file(path, format!("not JSON: {e}")))
}
