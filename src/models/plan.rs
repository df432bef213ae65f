//! Device memory that a model needs, known before anything is loaded.
use super::config::{ModelConfig, StepLimits};
use super::workspace::Workspace;
use crate::backend::{Backend, KvTypes, Sections};
use crate::weights::ModelFile;

/// Bytes by purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights; repacking does not change their size.
    pub weights: u64,
    /// cos/sin tables.
    pub rope: u64,
    /// Activations of a step.
    pub workspace: u64,
    /// Metadata of a step.
    pub batch: u64,
    /// The backend's own.
    pub scratch: u64,
    /// For copies of KV pages to and from tiers.
    pub transfers: u64,
    /// A page of each KV group.
    pub kv_page: Vec<u64>,
    /// Pages that one sequence of the full context takes, of each group.
    pub kv_pages_per_sequence: Vec<u64>,
}

impl MemoryPlan {
    /// Plans for a file's model under these limits, with KV pages of these types. `transfers`: pages are copied to tiers and
    /// back, and whether they may be packed on the way.
    pub fn new(
        backend: &dyn Backend,
        file: &ModelFile,
        config: &ModelConfig,
        step: &StepLimits,
        types: KvTypes,
        transfers: Option<bool>,
    ) -> Self {
        let limits = config.limits(step);
        let layouts = config.kv_layouts(step.page_tokens, types);
        // A window may begin and end within a page.
        let pages = |window: Option<usize>| match window {
            Some(w) => (w.div_ceil(step.page_tokens) + 1).min(limits.pages_per_seq),
            None => limits.pages_per_seq,
        };
        MemoryPlan {
            weights: file.tensors().map(|t| t.bytes.len() as u64).sum(),
            rope: config.groups.iter().map(|g| g.rope.table_bytes(step.context) as u64).sum(),
            workspace: Workspace::bytes(backend, config, &limits),
            batch: Sections::new(&limits).total as u64 * 4,
            scratch: backend.scratch_bytes(&limits),
            transfers: transfers.map_or(0, |packed| backend.transfer_bytes(&layouts, packed)),
            kv_page: layouts.iter().map(|l| l.page_bytes() as u64).collect(),
            kv_pages_per_sequence: config.groups.iter().map(|g| pages(g.window) as u64).collect(),
        }
    }

    /// Everything but the KV pages.
    pub fn fixed(&self) -> u64 {
        self.weights + self.rope + self.workspace + self.batch + self.scratch + self.transfers
    }

    /// KV pages of one sequence of the full context.
    pub fn kv_per_sequence(&self) -> u64 {
        self.kv_page.iter().zip(&self.kv_pages_per_sequence).map(|(bytes, pages)| bytes * pages).sum()
    }
}
