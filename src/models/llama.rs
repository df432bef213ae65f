//! Llama and what is built like it (SmolLM2): one attention kind, SiLU, RoPE possibly stretched for long contexts.
use super::config::{GroupSpec, ModelConfig};
use super::registry::{Architecture, GGUF_NAMES, GgufKeys, JsonKeys, Layout, Names};
use super::rope::{RopeScaling, RopeSpec};
use crate::backend::Activation;
use crate::error::{Error, Result};
use serde_json::Value;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "llama",
    model_type: "llama",
    from_gguf,
    from_json,
    gguf: Layout { names: &GGUF_NAMES, half_split: false, norms_less_one: false },
    checkpoint: Layout { names: &CHECKPOINT_NAMES, half_split: true, norms_less_one: false },
};

const CHECKPOINT_NAMES: Names = Names {
    embed: "model.embed_tokens.weight",
    final_norm: "model.norm.weight",
    head: "lm_head.weight",
    layer: "model.layers.",
    attn_norm: "input_layernorm.weight",
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    o: "self_attn.o_proj",
    q_norm: "self_attn.q_norm.weight",
    k_norm: "self_attn.k_norm.weight",
    post_attn_norm: "",
    ffn_norm: "post_attention_layernorm.weight",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    post_ffn_norm: "",
    ignored: &["rotary_emb.inv_freq"],
};

/// What both readers fill in.
struct Sizes {
    layers: usize,
    width: usize,
    ff: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    context: usize,
    eps: f64,
}

fn config(s: Sizes, rope: RopeSpec, bos: Option<u32>, eos: Vec<u32>) -> ModelConfig {
    ModelConfig {
        architecture: "llama",
        layers: s.layers,
        width: s.width,
        ff: s.ff,
        heads: s.heads,
        kv_heads: s.kv_heads,
        head_dim: s.head_dim,
        vocab: s.vocab,
        context: s.context,
        eps: s.eps as f32,
        groups: vec![GroupSpec { layers: (0..s.layers.min(1 << 16)).collect(), window: None, rope }],
        activation: Activation::Silu,
        embed_scale: 1.0,
        attention_scale: 1.0 / (s.head_dim as f32).sqrt(),
        attention_softcap: None,
        final_softcap: None,
        qk_norm: false,
        post_norms: false,
        bos,
        eos,
    }
}

fn from_gguf(keys: &GgufKeys<'_>) -> Result<ModelConfig> {
    let (width, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
    let head_dim = keys.maybe_size("attention.key_length")?.unwrap_or(width / heads.max(1));
    let sizes = Sizes {
        layers: keys.size("block_count")?,
        width,
        ff: keys.size("feed_forward_length")?,
        heads,
        kv_heads: keys.maybe_size("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab: keys.vocab()?,
        context: keys.size("context_length")?,
        eps: keys.float("attention.layer_norm_rms_epsilon")?,
    };
    let rope = RopeSpec {
        base: keys.maybe_float("rope.freq_base")?.unwrap_or(1e4),
        dims: keys.maybe_size("rope.dimension_count")?.unwrap_or(head_dim),
        scaling: gguf_scaling(keys)?,
    };
    Ok(config(sizes, rope, keys.token("bos")?, keys.eos()?))
}

/// Stretching as GGUF describes it: one divisor per frequency as a tensor (Llama 3), or one for all.
pub(super) fn gguf_scaling(keys: &GgufKeys<'_>) -> Result<RopeScaling> {
    if let Some(factors) = keys.file.find("rope_freqs.weight") {
        return Ok(RopeScaling::Factors(factors.to_f32()));
    }
    match keys.string("rope.scaling.type")? {
        None | Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear(keys.float("rope.scaling.factor")?)),
        Some(other) => Err(unknown_scaling(other)),
    }
}

fn from_json(keys: &JsonKeys<'_>) -> Result<ModelConfig> {
    keys.must_be("hidden_act", &["silu"])?;
    keys.must_be_off("mlp_bias")?;
    let (width, heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
    let sizes = Sizes {
        layers: keys.size("num_hidden_layers")?,
        width,
        ff: keys.size("intermediate_size")?,
        heads,
        kv_heads: keys.maybe_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim: keys.maybe_size("head_dim")?.unwrap_or(width / heads.max(1)),
        vocab: keys.size("vocab_size")?,
        context: keys.maybe_size("max_position_embeddings")?.unwrap_or(2048),
        eps: keys.float("rms_norm_eps")?,
    };
    // Newer files keep base and scaling in one object.
    let parameters = keys.value("rope_parameters");
    let base = match parameters {
        Value::Null => keys.maybe_float("rope_theta")?.unwrap_or(1e4),
        object => keys.float_in(object, "rope_theta")?,
    };
    let scaling = json_scaling(keys, if parameters.is_null() { keys.value("rope_scaling") } else { parameters })?;
    let rope = RopeSpec { base, dims: sizes.head_dim, scaling };
    Ok(config(sizes, rope, keys.bos(), keys.eos()))
}

/// Stretching as config.json describes it.
pub(super) fn json_scaling(keys: &JsonKeys<'_>, object: &Value) -> Result<RopeScaling> {
    let kind = object["rope_type"].as_str().or(object["type"].as_str());
    match kind {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear(keys.float_in(object, "factor")?)),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: keys.float_in(object, "factor")?,
            low: keys.float_in(object, "low_freq_factor")?,
            high: keys.float_in(object, "high_freq_factor")?,
            original: keys.float_in(object, "original_max_position_embeddings")?,
        }),
        Some(other) => Err(unknown_scaling(other)),
    }
}

fn unknown_scaling(kind: &str) -> Error {
    Error::Unsupported(format!("RoPE scaling {kind}; kvick has none, linear and llama3"))
}
