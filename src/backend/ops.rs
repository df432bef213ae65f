//! Arguments of the fused operations. `T` = tokens of the batch, `R` = rows that need logits, `d` = model width.
use super::{Buffer, DeviceBatch, KvGroup, Weight};

/// `out[t] = table[tokens[t]] * scale`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Embed<'a> {
    pub batch: &'a DeviceBatch,
    /// `[vocab, d]`, also the LM head where that is tied.
    pub table: &'a Weight,
    /// Gemma: sqrt(d).
    pub scale: f32,
    /// f32 `[T, d]`.
    pub out: &'a Buffer,
}

/// Rotary position embedding of adjacent pairs.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Rope {
    /// f32 `[positions, dims / 2, 2]`: cos and sin, computed on the host in fp64.
    pub table: Buffer,
    /// Rotated elements of a head (<= head_dim, even).
    pub dims: usize,
    /// Rows of the table.
    pub positions: usize,
}

/// RMSNorm over each head of Q and K, before RoPE (Gemma 3, Qwen 3).
#[derive(Debug)]
#[allow(missing_docs)]
pub struct QkNorm<'a> {
    /// f32 `[head_dim]`, in the pair order of the rows of Q.
    pub q: &'a Buffer,
    /// f32 `[head_dim]`.
    pub k: &'a Buffer,
    pub eps: f32,
}

/// `q, k, v = split(norm(x) * W^T + bias)`, then QK-norm, RoPE, and K and V into the pages at `slot_mapping`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Qkv<'a> {
    pub batch: &'a DeviceBatch,
    /// f32 `[T, d]`.
    pub x: &'a Buffer,
    /// f32 `[d]`.
    pub norm: &'a Buffer,
    pub eps: f32,
    /// Q, K, V concatenated: `[(heads + 2 * kv_heads) * head_dim, d]`.
    pub weight: &'a Weight,
    /// f32 `[(heads + 2 * kv_heads) * head_dim]`.
    pub bias: Option<&'a Buffer>,
    pub qk_norm: Option<QkNorm<'a>>,
    pub rope: &'a Rope,
    pub heads: usize,
    /// Where K and V go; its layout gives kv_heads and head_dim.
    pub kv: &'a KvGroup,
    /// Index of the group, and of the layer in it.
    pub group: usize,
    pub layer: usize,
    /// Compute type `[T, heads, head_dim]`.
    pub q: &'a Buffer,
}

/// `out[t] = softmax(scale * q k^T) v` over the pages of the token's sequence, keys `j <= position` and, with a window,
/// `position - j < window`; with a soft cap c, scores become `c * tanh(s / c)`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Attention<'a> {
    pub batch: &'a DeviceBatch,
    /// Compute type `[T, heads, head_dim]`.
    pub q: &'a Buffer,
    pub heads: usize,
    pub kv: &'a KvGroup,
    pub group: usize,
    pub layer: usize,
    pub scale: f32,
    pub softcap: Option<f32>,
    pub window: Option<usize>,
    /// Compute type `[T, heads, head_dim]`.
    pub out: &'a Buffer,
}

/// RMSNorm of a projection's output before it joins the residual stream (Gemma).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct PostNorm<'a> {
    /// f32 `[d]`.
    pub weight: &'a Buffer,
    pub eps: f32,
}

/// `x += post_norm(input * W^T + bias)`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct LinearResidual<'a> {
    pub batch: &'a DeviceBatch,
    /// Compute type `[T, weight.cols]`.
    pub input: &'a Buffer,
    /// `[d, cols]`.
    pub weight: &'a Weight,
    /// f32 `[d]`.
    pub bias: Option<&'a Buffer>,
    pub post_norm: Option<PostNorm<'a>>,
    /// f32 `[T, d]`, read and written.
    pub x: &'a Buffer,
}

/// The gate's non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `v * sigmoid(v)`.
    Silu,
    /// GELU, tanh form.
    GeluTanh,
}

/// `out = act(norm(x) * Wgate^T) * (norm(x) * Wup^T)`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct NormGateUp<'a> {
    pub batch: &'a DeviceBatch,
    /// f32 `[T, d]`.
    pub x: &'a Buffer,
    /// f32 `[d]`.
    pub norm: &'a Buffer,
    pub eps: f32,
    /// Gate and up interleaved: `[2 * ff, d]`.
    pub weight: &'a Weight,
    pub activation: Activation,
    /// Compute type `[T, ff]`.
    pub out: &'a Buffer,
}

/// `logits[r] = cap(norm(x[logit_rows[r]]) * W^T)`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct NormLmHead<'a> {
    pub batch: &'a DeviceBatch,
    /// f32 `[T, d]`.
    pub x: &'a Buffer,
    /// f32 `[d]`.
    pub norm: &'a Buffer,
    pub eps: f32,
    /// `[vocab, d]`.
    pub weight: &'a Weight,
    pub softcap: Option<f32>,
    /// f32 `[R, vocab]`.
    pub logits: &'a Buffer,
}

/// One token per logits row, by the [`super::SampleParams`] of the batch.
///
/// Temperature 0 takes the largest penalised logit, the lowest id of equal ones. Otherwise, in the order of the field's
/// other engines:
/// 1. repeat penalty r: each token of the row's `recent` set has its logit divided by r if positive, else multiplied;
/// 2. weights `p[i] = exp((logit[i] - max) / temperature)`; tokens are ranked by logit, lower ids first among equals;
/// 3. top-k keeps the first k ranks; top-p keeps the shortest prefix of those with at least `top_p` of their weight;
///    min-p drops those with `p[i] < min_p` (the largest weight is 1);
/// 4. the draw is by inverse CDF over the kept tokens *in the order of their ids*: the first one with
///    `p[0] + .. + p[i] > u * sum`, where `u = (x0 * 2^32 + x1) / 2^64` and x0, x1 are the first two words of Philox4x32-10
///    with key (seed low, seed high) and counter (step, 0, 0, 0). So a seed repeats its text whatever the batch.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Sample<'a> {
    pub batch: &'a DeviceBatch,
    /// f32 `[R, vocab]`; the operation may overwrite it.
    pub logits: &'a Buffer,
    pub vocab: usize,
    /// u32 `[R]`.
    pub out: &'a Buffer,
}

/// `out[i] = [sum of K, sum of V]` of page `pages[i]` over all layers of the group, by [`crate::checksum::sum`].
#[derive(Debug)]
#[allow(missing_docs)]
pub struct PageChecksums<'a> {
    pub kv: &'a KvGroup,
    /// u32 `[count]`.
    pub pages: &'a Buffer,
    pub count: usize,
    /// u64 `[count, 2]`.
    pub out: &'a Buffer,
}
