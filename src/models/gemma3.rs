//! Gemma 3: QK-norm, post-norms, windows on all but every sixth layer, a RoPE base of its own for each of the two kinds.
use super::config::{GroupSpec, ModelConfig};
use super::llama::{gguf_scaling, json_scaling};
use super::registry::{Architecture, GGUF_NAMES, GgufKeys, JsonKeys, Layout, Names};
use super::rope::{RopeScaling, RopeSpec};
use crate::backend::Activation;
use crate::error::Result;
use serde_json::Value;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma3",
    model_type: "gemma3_text",
    from_gguf,
    from_json,
    gguf: Layout { names: &GGUF_NAMES, half_split: true, norms_less_one: false },
    checkpoint: Layout { names: &CHECKPOINT_NAMES, half_split: true, norms_less_one: true },
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
    post_attn_norm: "post_attention_layernorm.weight",
    ffn_norm: "pre_feedforward_layernorm.weight",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    post_ffn_norm: "post_feedforward_layernorm.weight",
    ignored: &["rotary_emb.inv_freq"],
};

/// Every sixth layer sees all tokens.
const PATTERN: usize = 6;
/// RoPE base of layers with a window, where the file does not tell.
const WINDOW_BASE: f64 = 1e4;

/// What both readers fill in.
struct Parts {
    layers: usize,
    width: usize,
    ff: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    context: usize,
    eps: f64,
    window: usize,
    /// Layers with a window.
    windowed: Vec<bool>,
    full_rope: RopeSpec,
    window_rope: RopeSpec,
    attention_scale: f64,
    attention_softcap: Option<f64>,
    final_softcap: Option<f64>,
    bos: Option<u32>,
    eos: Vec<u32>,
}

impl Parts {
    fn config(self) -> ModelConfig {
        let layers = |windowed: bool| -> Vec<usize> {
            self.windowed.iter().enumerate().filter(|&(_, w)| *w == windowed).map(|(layer, _)| layer).collect()
        };
        let mut groups = vec![
            GroupSpec { layers: layers(false), window: None, rope: self.full_rope.clone() },
            GroupSpec { layers: layers(true), window: Some(self.window), rope: self.window_rope.clone() },
        ];
        groups.retain(|g| !g.layers.is_empty());
        ModelConfig {
            architecture: "gemma3",
            layers: self.layers,
            width: self.width,
            ff: self.ff,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocab: self.vocab,
            context: self.context,
            eps: self.eps as f32,
            groups,
            activation: Activation::GeluTanh,
            embed_scale: (self.width as f32).sqrt(),
            attention_scale: self.attention_scale as f32,
            attention_softcap: self.attention_softcap.map(|c| c as f32),
            final_softcap: self.final_softcap.map(|c| c as f32),
            qk_norm: true,
            post_norms: true,
            bos: self.bos,
            eos: self.eos,
        }
    }
}

fn every_sixth_is_full(layers: usize) -> Vec<bool> {
    (0..layers.min(1 << 16)).map(|layer| !(layer + 1).is_multiple_of(PATTERN)).collect()
}

fn from_gguf(keys: &GgufKeys<'_>) -> Result<ModelConfig> {
    let (layers, width, heads) =
        (keys.size("block_count")?, keys.size("embedding_length")?, keys.size("attention.head_count")?);
    let head_dim = keys.size("attention.key_length")?;
    let window_base = keys.maybe_float("rope.freq_base_swa")?.unwrap_or(WINDOW_BASE);
    let full_base = keys.maybe_float("rope.freq_base")?.unwrap_or(1e6);
    // The metadata does not hold the scale; the 27B model, known by its layers, is the one with another.
    let scaled_by = if layers == 62 { width as f64 / heads.max(1) as f64 } else { head_dim as f64 };
    let parts = Parts {
        layers,
        width,
        ff: keys.size("feed_forward_length")?,
        heads,
        kv_heads: keys.size("attention.head_count_kv")?,
        head_dim,
        vocab: keys.vocab()?,
        context: keys.size("context_length")?,
        eps: keys.float("attention.layer_norm_rms_epsilon")?,
        window: keys.size("attention.sliding_window")?,
        windowed: every_sixth_is_full(layers),
        full_rope: RopeSpec { base: full_base, dims: head_dim, scaling: gguf_scaling(keys)? },
        window_rope: RopeSpec { base: window_base, dims: head_dim, scaling: RopeScaling::None },
        attention_scale: scaled_by.powf(-0.5),
        attention_softcap: keys.maybe_float("attn_logit_softcapping")?,
        final_softcap: keys.maybe_float("final_logit_softcapping")?,
        bos: keys.token("bos")?,
        eos: keys.eos()?,
    };
    Ok(parts.config())
}

fn from_json(keys: &JsonKeys<'_>) -> Result<ModelConfig> {
    keys.must_be("hidden_activation", &["gelu_pytorch_tanh"])?;
    keys.must_be_off("use_bidirectional_attention")?;
    let (layers, head_dim) = (keys.size("num_hidden_layers")?, keys.size("head_dim")?);
    let (full_rope, window_rope) = json_ropes(keys, head_dim)?;
    let parts = Parts {
        layers,
        width: keys.size("hidden_size")?,
        ff: keys.size("intermediate_size")?,
        heads: keys.size("num_attention_heads")?,
        kv_heads: keys.size("num_key_value_heads")?,
        head_dim,
        vocab: keys.size("vocab_size")?,
        context: keys.size("max_position_embeddings")?,
        eps: keys.float("rms_norm_eps")?,
        window: keys.size("sliding_window")?,
        windowed: json_windows(keys, layers)?,
        full_rope,
        window_rope,
        attention_scale: keys.maybe_float("query_pre_attn_scalar")?.unwrap_or(head_dim as f64).powf(-0.5),
        attention_softcap: keys.maybe_float("attn_logit_softcapping")?,
        final_softcap: keys.maybe_float("final_logit_softcapping")?,
        bos: keys.bos(),
        eos: keys.eos(),
    };
    Ok(parts.config())
}

/// `layer_types`, or the pattern of older files.
fn json_windows(keys: &JsonKeys<'_>, layers: usize) -> Result<Vec<bool>> {
    let Some(types) = keys.value("layer_types").as_array() else {
        let pattern = keys.maybe_size("sliding_window_pattern")?.unwrap_or(PATTERN).max(1);
        return Ok((0..layers.min(1 << 16)).map(|layer| !(layer + 1).is_multiple_of(pattern)).collect());
    };
    if types.len() != layers {
        return Err(keys.lie(format!("layer_types has {} entries for {layers} layers", types.len())));
    }
    let windowed = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(keys.lie(format!("layer type {kind}; Gemma 3 has sliding_attention and full_attention"))),
    };
    types.iter().map(windowed).collect()
}

/// RoPE of full and of windowed layers; newer files keep one object per kind.
fn json_ropes(keys: &JsonKeys<'_>, dims: usize) -> Result<(RopeSpec, RopeSpec)> {
    let parameters = keys.value("rope_parameters");
    if let (full @ Value::Object(_), window @ Value::Object(_)) =
        (&parameters["full_attention"], &parameters["sliding_attention"])
    {
        let spec = |object: &Value| {
            let base = keys.float_in(object, "rope_theta")?;
            Ok(RopeSpec { base, dims, scaling: json_scaling(keys, object)? })
        };
        return Ok((spec(full)?, spec(window)?));
    }
    let full = RopeSpec {
        base: keys.maybe_float("rope_theta")?.unwrap_or(1e6),
        dims,
        scaling: json_scaling(keys, keys.value("rope_scaling"))?,
    };
    let base = keys.maybe_float("rope_local_base_freq")?.unwrap_or(WINDOW_BASE);
    Ok((full, RopeSpec { base, dims, scaling: RopeScaling::None }))
}
