//! The architectures that kvick knows: how each reads its configuration and names its tensors.
//!
//! Adding one that is a variation of the decoder: a file beside this one with its two readers, and an entry here.
use super::config::ModelConfig;
use super::{gemma3, llama};
use crate::error::{Error, Result};
use crate::weights::{Checkpoint, Gguf, ModelFile};

/// Reads a configuration; the message of an error is about the file.
pub(super) struct Architecture {
    /// Its name in GGUF's `general.architecture` and in kvick.
    pub name: &'static str,
    /// `model_type` in config.json.
    pub model_type: &'static str,
    pub from_gguf: fn(&GgufKeys<'_>) -> Result<ModelConfig>,
    pub from_json: fn(&JsonKeys<'_>) -> Result<ModelConfig>,
    pub gguf: Layout,
    pub checkpoint: Layout,
}

/// How a file format lays an architecture out.
pub(super) struct Layout {
    pub names: &'static Names,
    /// Q and K pair element i of a head with i + dims / 2.
    pub half_split: bool,
    /// Norm weights are stored less 1.
    pub norms_less_one: bool,
}

/// Tensor names. Those of layers follow `layer` and the layer's number and a dot.
pub(super) struct Names {
    pub embed: &'static str,
    pub final_norm: &'static str,
    pub head: &'static str,
    pub layer: &'static str,
    pub attn_norm: &'static str,
    /// `.weight` or `.bias` follows.
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub o: &'static str,
    pub q_norm: &'static str,
    pub k_norm: &'static str,
    pub post_attn_norm: &'static str,
    pub ffn_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub post_ffn_norm: &'static str,
    /// Tensors that repeat what the configuration says.
    pub ignored: &'static [&'static str],
}

/// GGUF names the parts of all decoders alike.
pub(super) const GGUF_NAMES: Names = Names {
    embed: "token_embd.weight",
    final_norm: "output_norm.weight",
    head: "output.weight",
    layer: "blk.",
    attn_norm: "attn_norm.weight",
    q: "attn_q",
    k: "attn_k",
    v: "attn_v",
    o: "attn_output",
    q_norm: "attn_q_norm.weight",
    k_norm: "attn_k_norm.weight",
    post_attn_norm: "post_attention_norm.weight",
    ffn_norm: "ffn_norm.weight",
    gate: "ffn_gate",
    up: "ffn_up",
    down: "ffn_down",
    post_ffn_norm: "post_ffw_norm.weight",
    ignored: &["rope_freqs.weight"],
};

static ARCHITECTURES: [Architecture; 2] = [llama::ARCHITECTURE, gemma3::ARCHITECTURE];

/// Finds the architecture of a file and reads its configuration.
pub(super) fn read(file: &ModelFile) -> Result<(ModelConfig, &'static Layout)> {
    let (config, layout) = match file {
        ModelFile::Gguf(gguf) => {
            let name = required(file, gguf.string("general.architecture")?, "general.architecture")?;
            let known = ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| unknown(name))?;
            ((known.from_gguf)(&GgufKeys { file, gguf, prefix: known.name })?, &known.gguf)
        }
        ModelFile::Checkpoint(checkpoint) => {
            let keys = JsonKeys { file, checkpoint };
            let name = required(file, checkpoint.config()["model_type"].as_str(), "model_type")?;
            let known = ARCHITECTURES.iter().find(|a| a.model_type == name).ok_or_else(|| unknown(name))?;
            ((known.from_json)(&keys)?, &known.checkpoint)
        }
    };
    Ok((config.check().map_err(|message| Error::model_file(file.path(), message))?, layout))
}

fn unknown(name: &str) -> Error {
    let known: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name).collect();
    Error::Unsupported(format!("architecture {name}; kvick runs {}", known.join(" and ")))
}

fn required<T>(file: &ModelFile, value: Option<T>, key: &str) -> Result<T> {
    value.ok_or_else(|| Error::model_file(file.path(), format!("{key} is missing from its configuration")))
}

/// Metadata of a GGUF file, under the architecture's prefix.
pub(super) struct GgufKeys<'a> {
    pub file: &'a ModelFile,
    pub gguf: &'a Gguf,
    prefix: &'static str,
}

impl GgufKeys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    pub fn maybe_size(&self, key: &str) -> Result<Option<usize>> {
        let value = self.gguf.unsigned(&self.key(key))?;
        Ok(value.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        required(self.file, self.maybe_size(key)?, &self.key(key))
    }

    pub fn maybe_float(&self, key: &str) -> Result<Option<f64>> {
        self.gguf.float(&self.key(key))
    }

    pub fn float(&self, key: &str) -> Result<f64> {
        required(self.file, self.maybe_float(key)?, &self.key(key))
    }

    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.gguf.string(&self.key(key))
    }

    /// Rows of the embedding table: the size of the vocabulary.
    pub fn vocab(&self) -> Result<usize> {
        Ok(self.file.tensor(GGUF_NAMES.embed)?.shape[0])
    }

    /// A token id of the tokenizer's metadata.
    pub fn token(&self, key: &str) -> Result<Option<u32>> {
        let id = self.gguf.unsigned(&format!("tokenizer.ggml.{key}_token_id"))?;
        Ok(id.and_then(|n| u32::try_from(n).ok()))
    }

    /// Tokens that end a text: eos and, where it differs, the end of a chat turn.
    pub fn eos(&self) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.token("eos")?.into_iter().chain(self.token("eot")?).collect();
        ids.dedup();
        Ok(ids)
    }
}

/// `config.json`.
pub(super) struct JsonKeys<'a> {
    pub file: &'a ModelFile,
    checkpoint: &'a Checkpoint,
}

impl JsonKeys<'_> {
    pub fn value(&self, key: &str) -> &serde_json::Value {
        &self.checkpoint.config()[key]
    }

    pub fn maybe_size(&self, key: &str) -> Result<Option<usize>> {
        size_of(self.file, self.value(key), key)
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        required(self.file, self.maybe_size(key)?, key)
    }

    pub fn maybe_float(&self, key: &str) -> Result<Option<f64>> {
        float_of(self.file, self.value(key), key)
    }

    pub fn float(&self, key: &str) -> Result<f64> {
        required(self.file, self.maybe_float(key)?, key)
    }

    /// The configuration contradicts itself.
    pub fn lie(&self, message: String) -> Error {
        Error::model_file(self.file.path(), message)
    }

    /// A number of an object inside the configuration.
    pub fn float_in(&self, object: &serde_json::Value, key: &str) -> Result<f64> {
        required(self.file, float_of(self.file, &object[key], key)?, key)
    }

    /// Refuses options that change what the model computes.
    pub fn must_be(&self, key: &str, expected: &[&str]) -> Result<()> {
        match self.value(key).as_str() {
            Some(other) if !expected.contains(&other) => {
                Err(Error::Unsupported(format!("{key} {other}; kvick runs {}", expected.join(" and "))))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an option that kvick does not have.
    pub fn must_be_off(&self, key: &str) -> Result<()> {
        if self.value(key) == true {
            return Err(Error::Unsupported(format!("{key}: kvick runs this architecture without it")));
        }
        Ok(())
    }

    /// `eos_token_id`, a number or a list.
    pub fn eos(&self) -> Vec<u32> {
        let value = self.value("eos_token_id");
        let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    }

    pub fn bos(&self) -> Option<u32> {
        u32::try_from(self.value("bos_token_id").as_u64()?).ok()
    }
}

fn size_of(file: &ModelFile, value: &serde_json::Value, key: &str) -> Result<Option<usize>> {
    match value {
        serde_json::Value::Null => Ok(None),
        value => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(Error::model_file(file.path(), format!("{key} is {value}, not a size"))),
        },
    }
}

fn float_of(file: &ModelFile, value: &serde_json::Value, key: &str) -> Result<Option<f64>> {
    match value {
        serde_json::Value::Null => Ok(None),
        value => match value.as_f64() {
            Some(x) => Ok(Some(x)),
            None => Err(Error::model_file(file.path(), format!("{key} is {value}, not a number"))),
        },
    }
}
