//! What an engine is made of, and how device memory is divided.
use super::tier_spec::{StoreSecret, TierSpec};
use crate::backend::{Backend, Float, KvLayout, KvTypes};
use crate::error::{Error, Result};
use crate::models::{GroupSpec, MemoryPlan, ModelConfig, StepLimits};
use crate::weights::ModelFile;
use std::time::Duration;

/// Choices of an [`super::Engine`].
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// A name that kvick fetches, `hf:owner/name[:file]`, or the path of a GGUF file or checkpoint folder.
    pub model: String,
    /// `auto`, `cuda:N`, `emulator` or `cpu`.
    pub device: String,
    /// Compute type.
    pub float: Float,
    /// Element types of the KV pages; `None`: the compute type.
    pub kv_types: Option<KvTypes>,
    /// Bytes for KV pages; `None`: one sequence of the whole context, at least 512 MiB, at most 90 % of what is free.
    pub kv_memory: Option<u64>,
    /// Longest sequence, prompt and answer together; `None`: what the model was trained for.
    pub context: Option<usize>,
    /// Sequences that run at once.
    pub max_seqs: usize,
    /// Tokens of a step: decodes, and as much of the prompts as fits beside them.
    pub step_tokens: usize,
    /// Tokens of a KV page: 8, 16 or 32.
    pub page_tokens: usize,
    /// Keep the pages of what was computed while there is room, for prompts that begin alike.
    pub prefix_cache: bool,
    /// Estimate beside the work what other amounts of KV memory and other policies would find; see [`crate::CacheStats`].
    pub cache_curve: bool,
    /// Where pages go that are kept below the device; asked in the order host, disk, Redis, S3.
    pub tiers: Vec<TierSpec>,
    /// Authenticates the pages of tiers, so that one who can write to a store cannot forge them. Engines that share one have
    /// the same.
    pub store_secret: Option<StoreSecret>,
    /// How long a shared store may take to answer.
    pub store_timeout: Duration,
    /// Names the pages of this engine apart from those of engines with another epoch. One that is started again is given the
    /// epoch of the last [`super::Invalidated`], so that what was invalidated stays so on tiers that outlive it.
    pub kv_epoch: u64,
    /// Check pages from tiers once more, on the device, before they are used, and compute a sample of the pages that prompts find
    /// again, to compare.
    pub verify: bool,
    /// With `verify`: one in so many found pages is computed again, when the device has nothing else to do or now and then.
    pub verify_every: u64,
}

/// The KV pages of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvPlan {
    /// Of each group.
    pub pages: Vec<usize>,
    /// Of all of them.
    pub bytes: u64,
}

/// Tokens that the repeat penalty looks back at.
pub(super) const PENALTY_WINDOW: usize = 64;
const DEFAULT_KV: u64 = 512 << 20;
/// Bytes of a group at most: kernels count 16-byte units of it in 32 bits.
const GROUP_BYTES: u64 = (16 << 32) - 1;

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            model: crate::store::MODELS.first().map_or(String::new(), |m| m.name.into()),
            device: "auto".into(),
            float: Float::F16,
            kv_types: None,
            kv_memory: None,
            context: None,
            max_seqs: 16,
            step_tokens: 512,
            page_tokens: 16,
            prefix_cache: true,
            cache_curve: true,
            tiers: Vec::new(),
            store_secret: None,
            kv_epoch: 0,
            store_timeout: Duration::from_secs(2),
            verify: false,
            verify_every: 64,
        }
    }
}

impl EngineConfig {
    /// The default choices for a model.
    pub fn new(model: impl Into<String>) -> Self {
        EngineConfig { model: model.into(), ..Self::default() }
    }

    /// Refuses what cannot run.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |message: &str| Err(Error::Request(message.into()));
        if ![8, 16, 32].contains(&self.page_tokens) {
            return bad("a KV page has 8, 16 or 32 tokens");
        }
        if self.max_seqs == 0 || self.max_seqs > 1024 || self.step_tokens < self.max_seqs || self.step_tokens > 1 << 16
        {
            return bad("max_seqs must be 1 to 1024, and step_tokens at least max_seqs and at most 65536");
        }
        if self.context == Some(0) {
            return bad("a context of 0 tokens holds no prompt");
        }
        self.check_tiers()
    }

    fn check_tiers(&self) -> Result<()> {
        let bad = |message: String| Err(Error::Request(message));
        if self.verify && !self.prefix_cache {
            return bad("--kv-verify checks pages that are found, --no-prefix-cache finds none; drop one".into());
        }
        if self.verify_every == 0 {
            return bad("--kv-verify-every computes one in so many pages again; give it at least 1".into());
        }
        if self.tiers.is_empty() {
            if self.store_secret.is_some() {
                return bad("--kv-store-secret is for pages of tiers, and there are none; give --kv-tier too".into());
            }
            return Ok(());
        }
        if !self.prefix_cache {
            return bad(
                "--kv-tier keeps pages for prompts that begin alike, --no-prefix-cache forbids that; drop one".into()
            );
        }
        if self.store_timeout.is_zero() {
            return bad("a store that may take no time is never used; give --kv-store-timeout more than 0".into());
        }
        for tier in &self.tiers {
            let completes = |other: &TierSpec| other.packing == tier.packing && other.half != tier.half;
            if tier.half.is_some() && !self.tiers.iter().any(completes) {
                return bad(format!(
                    "--kv-tier {tier}: no tier of the same dtype keeps the other half, and half a page is of no use; give one"
                ));
            }
        }
        for (i, tier) in self.tiers.iter().enumerate() {
            if self.tiers[..i].iter().any(|other| other.name() == tier.name()) {
                return bad(format!("there are two tiers on {}; give --kv-tier {}= once", tier.name(), tier.name()));
            }
        }
        Ok(())
    }

    /// Element types of the KV pages.
    pub fn kv_types(&self) -> KvTypes {
        self.kv_types.unwrap_or(self.float.into())
    }

    /// The limits of a step of this model.
    pub fn step_limits(&self, model: &ModelConfig) -> StepLimits {
        StepLimits {
            tokens: self.step_tokens,
            seqs: self.max_seqs,
            logit_rows: self.max_seqs,
            context: self.context.unwrap_or(model.context).min(model.context),
            page_tokens: self.page_tokens,
            recent: self.max_seqs * PENALTY_WINDOW,
        }
    }

    /// The device memory that the model of a file needs under these choices.
    pub fn plan_memory(
        &self,
        backend: &dyn Backend,
        file: &ModelFile,
        model: &ModelConfig,
        step: &StepLimits,
    ) -> MemoryPlan {
        let packed = self.tiers.iter().any(|tier| !tier.packing.is_exact());
        MemoryPlan::new(backend, file, model, step, self.kv_types(), (!self.tiers.is_empty()).then_some(packed))
    }

    /// Divides the device memory that everything else leaves into KV pages.
    ///
    /// # Errors
    /// The device's memory does not hold the model, or the KV memory not one page of each group; or the model's heads or the
    /// compute type do not go with the types of the pages.
    pub fn plan_kv(
        &self,
        backend: &dyn Backend,
        model: &ModelConfig,
        plan: &MemoryPlan,
        step: &StepLimits,
    ) -> Result<KvPlan> {
        self.kv_types().check(backend.float(), model.head_dim)?;
        let (free, needed) = (backend.memory()?.free, plan.fixed());
        let too_large = || Error::OutOfMemory { what: "the model without its KV pages".into(), needed, free };
        let bytes = self.kv_bytes(free.checked_sub(needed).ok_or_else(too_large)?, plan.kv_per_sequence())?;
        let layouts = model.kv_layouts(step.page_tokens, self.kv_types());
        let pages = divide(bytes, &model.groups, &layouts, step, self.prefix_cache && self.kv_memory.is_some())?;
        let bytes = pages.iter().zip(&layouts).map(|(&n, l)| n as u64 * l.page_bytes() as u64).sum();
        Ok(KvPlan { pages, bytes })
    }

    /// Bytes for KV pages where `free` bytes are left beside everything else, and a sequence of the whole context takes
    /// `sequence`.
    pub(super) fn kv_bytes(&self, free: u64, sequence: u64) -> Result<u64> {
        match self.kv_memory {
            Some(needed) if needed > free => Err(Error::OutOfMemory { what: "KV pages".into(), needed, free }),
            Some(bytes) => Ok(bytes),
            None => Ok(sequence.max(DEFAULT_KV).min(free / 10 * 9)),
        }
    }
}

/// Pages that a sequence of `len` tokens holds at most while it is computed `step` tokens at a time.
pub(super) fn pages_for(window: Option<usize>, page_tokens: usize, step: usize, len: usize) -> usize {
    let all = len.div_ceil(page_tokens);
    // The window, the step, and a page that both ends may only touch.
    window.map_or(all, |w| all.min((w + step).div_ceil(page_tokens) + 1))
}

/// Pages that two steps fill in `groups` groups: while one step's are copied to a tier, the next step's come.
pub(super) fn pages_of_two_steps(step: usize, page_tokens: usize, groups: usize) -> usize {
    2 * groups * step.div_ceil(page_tokens)
}

/// Divides `bytes` among the groups' pools: as many full sequences as fit; a group with a window never gets more pages than
/// those sequences can hold together. More than `step.seqs` of them only where what
/// ended is kept for `reuse`.
pub(super) fn divide(
    bytes: u64,
    groups: &[GroupSpec],
    layouts: &[KvLayout],
    step: &StepLimits,
    reuse: bool,
) -> Result<Vec<usize>> {
    let per_sequence = step.context.div_ceil(step.page_tokens);
    let pages = |full: usize| -> Vec<usize> {
        let seqs = step.seqs.max(full / per_sequence);
        let most = |g: &GroupSpec| seqs * pages_for(g.window, step.page_tokens, step.tokens, step.context);
        groups.iter().map(|g| full.min(most(g))).collect()
    };
    let cost =
        |full: usize| -> u64 { pages(full).iter().zip(layouts).map(|(&n, l)| n as u64 * l.page_bytes() as u64).sum() };
    let largest = layouts.iter().map(KvLayout::page_bytes).max().unwrap_or(1).max(1) as u64;
    // A token has more than 16 bytes in its group, so slots within these pages fit 32 bits too.
    let addressable = (bytes.min(GROUP_BYTES) / largest) as usize;
    let most = if reuse { addressable } else { addressable.min(step.seqs * per_sequence) };
    let (mut fits, mut over) = (0, most + 1);
    while over - fits > 1 {
        let middle = fits + (over - fits) / 2;
        if cost(middle) <= bytes { fits = middle } else { over = middle }
    }
    if fits == 0 {
        return Err(Error::Request(format!(
            "{bytes} bytes of KV memory hold no page of {} tokens; give --kv-memory at least {} bytes",
            step.page_tokens,
            cost(1)
        )));
    }
    Ok(pages(fits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{RopeScaling, RopeSpec};

    fn step(context: usize) -> StepLimits {
        StepLimits { tokens: 64, seqs: 4, logit_rows: 4, context, page_tokens: 16, recent: 0 }
    }

    fn group(window: Option<usize>) -> GroupSpec {
        GroupSpec { layers: vec![0], window, rope: RopeSpec { base: 1e4, dims: 64, scaling: RopeScaling::None } }
    }

    #[test]
    fn window_groups_get_what_their_sequences_can_hold() {
        let types = EngineConfig::default().kv_types();
        let layout = KvLayout { layers: 1, kv_heads: 1, head_dim: 64, page_tokens: 16, types };
        let page = layout.page_bytes() as u64;
        let groups = [group(None), group(Some(128))];
        let window_pages = 4 * pages_for(Some(128), 16, 64, 4096);
        assert_eq!(window_pages, 4 * 13);
        let bytes = page * (500 + window_pages as u64);
        assert_eq!(divide(bytes, &groups, &[layout; 2], &step(4096), false).unwrap(), [500, window_pages]);
        assert_eq!(divide(10 * page, &groups, &[layout; 2], &step(4096), false).unwrap(), [5, 5]);
        // What ended is kept: the rest of the memory is for that, 14 times the pages of a window to those of a context.
        let more = page * 14 * (256 + 13);
        assert_eq!(divide(more, &groups, &[layout; 2], &step(4096), true).unwrap(), [14 * 256, 14 * 13]);
        assert_eq!(divide(u64::MAX, &groups, &[layout; 2], &step(4096), false).unwrap(), [1024, window_pages]);
        let error = divide(2 * page - 1, &groups, &[layout; 2], &step(4096), false).unwrap_err().to_string();
        assert!(error.contains(&format!("at least {} bytes", 2 * page)), "{error}");
    }

    #[test]
    fn no_group_has_more_than_kernels_can_address() {
        let types = EngineConfig::default().kv_types();
        let layout = KvLayout { layers: 32, kv_heads: 8, head_dim: 128, page_tokens: 16, types };
        for reuse in [false, true] {
            let pages = divide(u64::MAX, &[group(None)], &[layout], &step(1 << 20), reuse).unwrap()[0];
            assert_eq!(pages as u64, GROUP_BYTES / layout.page_bytes() as u64, "reuse {reuse}");
        }
    }

    #[test]
    fn default_memory_is_one_context_or_what_is_free() {
        let config = EngineConfig::new("m");
        assert_eq!(config.kv_bytes(10 << 30, 1 << 30).unwrap(), 1 << 30);
        assert_eq!(config.kv_bytes(10 << 30, 1 << 20).unwrap(), 512 << 20);
        assert_eq!(config.kv_bytes(1000, 1 << 30).unwrap(), 900);
        let wanted = EngineConfig { kv_memory: Some(2000), ..config };
        assert!(matches!(wanted.kv_bytes(1000, 1), Err(Error::OutOfMemory { needed: 2000, free: 1000, .. })));
    }
}
