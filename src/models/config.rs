//! What a decoder looks like: read from a file by its architecture, checked once, then trusted.
use super::rope::RopeSpec;
use crate::backend::{Activation, BatchLimits, KvLayout, KvTypes};

/// Layers with the same attention: they share one KV pool and one RoPE table.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    /// Layers, in order.
    pub layers: Vec<usize>,
    /// Tokens that a token sees, itself included; `None` = all before it.
    pub window: Option<usize>,
    /// Rotary position embedding of these layers.
    pub rope: RopeSpec,
}

/// A decoder-only transformer with gated feed-forward layers.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct ModelConfig {
    /// As the registry names it.
    pub architecture: &'static str,
    pub layers: usize,
    pub width: usize,
    pub ff: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    /// Longest sequence that the model was trained for.
    pub context: usize,
    /// Epsilon of every RMSNorm.
    pub eps: f32,
    /// One per attention kind; every layer is in exactly one.
    pub groups: Vec<GroupSpec>,
    pub activation: Activation,
    /// Factor of the token embeddings.
    pub embed_scale: f32,
    /// Factor of the attention scores.
    pub attention_scale: f32,
    pub attention_softcap: Option<f32>,
    pub final_softcap: Option<f32>,
    /// RMSNorm of each head of Q and K.
    pub qk_norm: bool,
    /// RMSNorm of the attention's and the feed-forward's output before they join the residual stream.
    pub post_norms: bool,
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
}

/// How much a step may hold; with the model's shape this makes [`BatchLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StepLimits {
    pub tokens: usize,
    pub seqs: usize,
    pub logit_rows: usize,
    /// Longest sequence.
    pub context: usize,
    pub page_tokens: usize,
    /// Tokens over all rows that the repeat penalty looks at.
    pub recent: usize,
}

impl ModelConfig {
    /// Group of a layer and the layer's index in it.
    pub fn group_of(&self, layer: usize) -> Option<(usize, usize)> {
        let find = |(g, group): (usize, &GroupSpec)| Some((g, group.layers.iter().position(|&l| l == layer)?));
        self.groups.iter().enumerate().find_map(find)
    }

    /// Page geometry of each group.
    pub fn kv_layouts(&self, page_tokens: usize, types: KvTypes) -> Vec<KvLayout> {
        let layout = |group: &GroupSpec| KvLayout {
            layers: group.layers.len(),
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            page_tokens,
            types,
        };
        self.groups.iter().map(layout).collect()
    }

    /// The limits of a batch for this model.
    pub fn limits(&self, step: &StepLimits) -> BatchLimits {
        BatchLimits {
            tokens: step.tokens,
            seqs: step.seqs,
            logit_rows: step.logit_rows,
            pages_per_seq: step.context.div_ceil(step.page_tokens),
            groups: self.groups.len(),
            recent: step.recent,
            width: self.width,
            ff: self.ff,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocab: self.vocab,
        }
    }

    /// Refuses sizes that no model has, so that later arithmetic cannot overflow, and parts that contradict each other.
    pub(super) fn check(self) -> Result<Self, String> {
        let sizes = [
            ("layers", self.layers, 1 << 12),
            ("width", self.width, 1 << 20),
            ("feed-forward width", self.ff, 1 << 22),
            ("heads", self.heads, 1 << 12),
            ("KV heads", self.kv_heads, 1 << 12),
            ("head size", self.head_dim, 1 << 12),
            ("vocabulary", self.vocab, 1 << 24),
            ("context", self.context, 1 << 26),
        ];
        if let Some((what, n, max)) = sizes.into_iter().find(|&(_, n, max)| n == 0 || n > max) {
            return Err(format!("{what} of {n}; 1 to {max} are believed"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads cannot share {} KV heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(8) || !self.width.is_multiple_of(8) || !self.ff.is_multiple_of(8) {
            return Err(format!(
                "head size {}, width {} and feed-forward width {} must be multiples of 8",
                self.head_dim, self.width, self.ff
            ));
        }
        let finite = [self.eps, self.embed_scale, self.attention_scale].iter().all(|x| x.is_finite() && *x > 0.0);
        if !finite {
            return Err("an epsilon or scale that is not a positive number".into());
        }
        for group in &self.groups {
            group.rope.check(self.head_dim)?;
            if group.window == Some(0) || group.layers.is_empty() {
                return Err("an attention group without layers or with a window of 0".into());
            }
        }
        Ok(self)
    }
}
