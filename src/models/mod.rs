//! Models: a file's configuration, its weights on a device, and the forward pass over [`crate::backend::Backend`].
//!
//! ```text
//! registry   architecture by name -> configuration and tensor names
//! llama, gemma3   what each architecture says about itself
//! loader     tensors -> fused, permuted weights
//! decoder    the forward pass
//! evaluate   logits and perplexity of a text, one sequence at a time
//! repack     its pages packed and unpacked, as a tier that packs them gives them back
//! plan       device memory needed, before the load
//! ```
mod config;
mod decoder;
mod evaluate;
mod gemma3;
mod llama;
mod loader;
mod plan;
mod registry;
mod repack;
mod rope;
mod workspace;

pub use config::{GroupSpec, ModelConfig, StepLimits};
pub use decoder::Model;
pub use evaluate::{Evaluator, Perplexity, log_sum_exp};
pub use plan::MemoryPlan;
pub use repack::HalfLoss;
pub use rope::{RopeScaling, RopeSpec};
pub use workspace::Workspace;

use crate::backend::Backend;
use crate::error::Result;
use crate::weights::{self, ModelFile};
use std::path::Path;
use std::sync::Arc;

/// Choices of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Longest sequence that will be run; the RoPE tables end there. `None`: the model's whole context.
    pub context: Option<usize>,
}

/// Opens a model file or folder and takes it to a device.
pub fn load(path: &Path, backend: &Arc<dyn Backend>, options: &LoadOptions) -> Result<Model> {
    load_file(&weights::open(path)?, backend, options)
}

/// Takes an opened model to a device. The file may be dropped afterwards.
pub fn load_file(file: &ModelFile, backend: &Arc<dyn Backend>, options: &LoadOptions) -> Result<Model> {
    let (config, layout) = registry::read(file)?;
    let positions = options.context.unwrap_or(config.context).min(config.context);
    Model::load(Arc::clone(backend), file, config, layout, positions)
}

/// Reads only the configuration.
pub fn read_config(file: &ModelFile) -> Result<ModelConfig> {
    registry::read(file).map(|(config, _)| config)
}
