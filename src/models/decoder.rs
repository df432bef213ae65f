//! The decoder: embedding, layers of attention and gated feed-forward, final norm and LM head. Written once over
//! [`Backend`]; architectures differ in their [`ModelConfig`] and in which optional parts are there.
use super::config::ModelConfig;
use super::loader::{Loader, Matrix};
use super::registry::Layout;
use super::workspace::Workspace;
use crate::backend::{
    Attention, Backend, Buffer, DeviceBatch, Embed, Fuse, KvGroup, LinearResidual, NormGateUp, NormLmHead, PostNorm,
    QkNorm, Qkv, Rope, Weight,
};
use crate::error::{Error, Result};
use crate::weights::ModelFile;
use std::sync::Arc;

/// A model on a device.
pub struct Model {
    backend: Arc<dyn Backend>,
    config: ModelConfig,
    embed: Weight,
    /// `None` where the embedding table is also the head.
    head: Option<Weight>,
    final_norm: Buffer,
    layers: Vec<Layer>,
    /// One per group.
    ropes: Vec<Rope>,
}

/// A matrix and its bias.
struct Linear {
    weight: Weight,
    bias: Option<Buffer>,
}

/// Weights of one layer.
struct Layer {
    /// Its group and its index there.
    group: usize,
    index: usize,
    attn_norm: Buffer,
    qkv: Linear,
    qk_norm: Option<(Buffer, Buffer)>,
    output: Linear,
    post_attn_norm: Option<Buffer>,
    ffn_norm: Buffer,
    gate_up: Weight,
    down: Linear,
    post_ffn_norm: Option<Buffer>,
}

impl Model {
    pub(super) fn load(
        backend: Arc<dyn Backend>,
        file: &ModelFile,
        config: ModelConfig,
        layout: &'static Layout,
        positions: usize,
    ) -> Result<Self> {
        let loader = Loader::new(&*backend, file, &config, layout)?;
        let (vocab, width) = (config.vocab, config.width);
        let embed = loader.matrix(loader.names.embed.into(), vocab, width)?;
        let tied = !loader.has(loader.names.head) || says_tied(file);
        let head = if tied { None } else { Some(loader.matrix(loader.names.head.into(), vocab, width)?) };
        let final_norm = loader.norm(loader.names.final_norm, width, false)?;
        let layers = (0..config.layers).map(|layer| Layer::load(&loader, &config, layer)).collect::<Result<_>>()?;
        loader.finish(tied)?;
        let ropes = config.groups.iter().map(|g| g.rope.upload(&*backend, positions)).collect::<Result<_>>()?;
        Ok(Model { backend, config, embed, head, final_norm, layers, ropes })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device that it is on.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Queues a step: K and V of the batch's tokens are appended to `kv`, and the logits of its logit rows are left in
    /// `ws.logits`, f32 `[R, vocab]`. Without logit rows the head is left out.
    pub fn forward(&self, batch: &DeviceBatch, kv: &[KvGroup], ws: &Workspace) -> Result<()> {
        if kv.len() != self.config.groups.len() {
            let message = format!("{} KV groups given, the model has {}", kv.len(), self.config.groups.len());
            return Err(Error::Shape { op: "forward", message });
        }
        let scale = self.config.embed_scale;
        self.backend.embed(&Embed { batch, table: &self.embed, scale, out: &ws.x })?;
        for layer in &self.layers {
            self.attention(layer, batch, &kv[layer.group], ws)?;
            self.feed_forward(layer, batch, ws)?;
        }
        if batch.counts.logit_rows == 0 {
            return Ok(());
        }
        self.backend.norm_lm_head(&NormLmHead {
            batch,
            x: &ws.x,
            norm: &self.final_norm,
            eps: self.config.eps,
            weight: self.head.as_ref().unwrap_or(&self.embed),
            softcap: self.config.final_softcap,
            logits: &ws.logits,
        })
    }

    fn attention(&self, layer: &Layer, batch: &DeviceBatch, kv: &KvGroup, ws: &Workspace) -> Result<()> {
        let c = &self.config;
        let (group, index) = (layer.group, layer.index);
        self.backend.qkv(&Qkv {
            batch,
            x: &ws.x,
            norm: &layer.attn_norm,
            eps: c.eps,
            weight: &layer.qkv.weight,
            bias: layer.qkv.bias.as_ref(),
            qk_norm: layer.qk_norm.as_ref().map(|(q, k)| QkNorm { q, k, eps: c.eps }),
            rope: &self.ropes[group],
            heads: c.heads,
            kv,
            group,
            layer: index,
            q: &ws.q,
        })?;
        self.backend.attention(&Attention {
            batch,
            q: &ws.q,
            heads: c.heads,
            kv,
            group,
            layer: index,
            scale: c.attention_scale,
            softcap: c.attention_softcap,
            window: c.groups[group].window,
            out: &ws.attention,
        })?;
        self.project(&layer.output, &layer.post_attn_norm, batch, &ws.attention, ws)
    }

    fn feed_forward(&self, layer: &Layer, batch: &DeviceBatch, ws: &Workspace) -> Result<()> {
        self.backend.norm_gate_up(&NormGateUp {
            batch,
            x: &ws.x,
            norm: &layer.ffn_norm,
            eps: self.config.eps,
            weight: &layer.gate_up,
            activation: self.config.activation,
            out: &ws.hidden,
        })?;
        self.project(&layer.down, &layer.post_ffn_norm, batch, &ws.hidden, ws)
    }

    /// A projection into the residual stream.
    fn project(
        &self,
        linear: &Linear,
        post_norm: &Option<Buffer>,
        batch: &DeviceBatch,
        input: &Buffer,
        ws: &Workspace,
    ) -> Result<()> {
        let eps = self.config.eps;
        self.backend.linear_residual(&LinearResidual {
            batch,
            input,
            weight: &linear.weight,
            bias: linear.bias.as_ref(),
            post_norm: post_norm.as_ref().map(|weight| PostNorm { weight, eps }),
            x: &ws.x,
        })
    }
}

/// Whether the configuration says that the head is the embedding table, whatever else is in the file.
fn says_tied(file: &ModelFile) -> bool {
    match file {
        ModelFile::Gguf(_) => false,
        ModelFile::Checkpoint(checkpoint) => checkpoint.config()["tie_word_embeddings"] == true,
    }
}

impl Layer {
    fn load(loader: &Loader<'_>, c: &ModelConfig, layer: usize) -> Result<Self> {
        let names = loader.names;
        let name = |part: &str| loader.in_layer(layer, part);
        let matrix = |part: &str, rows: usize, cols: usize, rotated: bool| Matrix {
            name: name(&format!("{part}.weight")),
            rows,
            cols,
            rotated,
        };
        let linear = |parts: &[Matrix]| {
            Ok::<_, Error>(Linear { weight: loader.matrices(parts, Fuse::Concat)?, bias: loader.bias(parts)? })
        };
        let norm = |part: &str| loader.norm(&name(part), c.width, false);
        let head_norm = |part: &str| loader.norm(&name(part), c.head_dim, true);
        let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let missing = || Error::Unsupported(format!("layer {layer} is in no attention group"));
        let (group, index) = c.group_of(layer).ok_or_else(missing)?;
        Ok(Layer {
            group,
            index,
            attn_norm: norm(names.attn_norm)?,
            qkv: linear(&[
                matrix(names.q, q_width, c.width, true),
                matrix(names.k, kv_width, c.width, true),
                matrix(names.v, kv_width, c.width, false),
            ])?,
            qk_norm: if c.qk_norm { Some((head_norm(names.q_norm)?, head_norm(names.k_norm)?)) } else { None },
            output: linear(&[matrix(names.o, c.width, q_width, false)])?,
            post_attn_norm: if c.post_norms { Some(norm(names.post_attn_norm)?) } else { None },
            ffn_norm: norm(names.ffn_norm)?,
            gate_up: loader.matrices(
                &[matrix(names.gate, c.ff, c.width, false), matrix(names.up, c.ff, c.width, false)],
                Fuse::Interleave,
            )?,
            down: linear(&[matrix(names.down, c.width, c.ff, false)])?,
            post_ffn_norm: if c.post_norms { Some(norm(names.post_ffn_norm)?) } else { None },
        })
    }
}
