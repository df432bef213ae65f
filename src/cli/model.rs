//! Arguments that name a model, a device and their memory.
use super::output::{Progress, Usage, note};
use anyhow::Context;
use clap::ValueEnum;
use kvick::backend::{Backend, Float, KvTypes};
use kvick::engine::{StoreSecret, TierSpec, parse_size};
use kvick::models::{Evaluator, ModelConfig};
use kvick::text::{Spelling, Tokenizer};
use kvick::{Engine, EngineConfig, models, open, store, weights};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Which model.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// A name (`kvick models`), hf:owner/name[:file], or the path of a GGUF file or checkpoint folder
    #[arg(long, default_value = store::MODELS[0].name)]
    pub model: String,
}

/// Where it runs, and in what.
#[derive(Debug, clap::Args)]
pub struct DeviceArgs {
    /// auto, cuda:N, emulator or cpu
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Compute type
    #[arg(long, value_enum, default_value_t = Dtype::F16)]
    pub dtype: Dtype,
    /// Type of the KV cache: f16, bf16, int8 or fp8, or k=TYPE,v=TYPE [default: the compute type]
    #[arg(long, value_name = "TYPE")]
    pub kv_dtype: Option<KvTypes>,
}

/// How the engine serves.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Memory for the KV cache, for example 512MiB [default: one sequence of the whole context, at least 512MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub kv_memory: Option<u64>,
    /// Longest sequence in tokens [default: the model's]
    #[arg(long, value_name = "TOKENS")]
    pub context: Option<usize>,
    /// Tokens computed in one step: decodes and pieces of prompts
    #[arg(long, value_name = "TOKENS", default_value_t = EngineConfig::default().step_tokens)]
    pub step_tokens: usize,
    /// Sequences that run at once
    #[arg(long, value_name = "N", default_value_t = EngineConfig::default().max_seqs)]
    pub max_seqs: usize,
    /// Compute every prompt whole, whatever others have in common with it
    #[arg(long)]
    pub no_prefix_cache: bool,
    #[command(flatten)]
    pub tiers: TierArgs,
}

/// Where pages of the KV cache go that are kept below the device.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "KV tiers")]
pub struct TierArgs {
    /// host=SIZE, disk=PATH,SIZE, redis=URL or s3=s3://bucket/prefix (may be given once each); behind it ,dtype=int8 (fp8, int4
    /// or k=TYPE,v=TYPE) to keep pages quantised, and ,error=0.05 for the most that K or V of a page may lose by that;
    /// ,half=k or ,half=v to keep only that half of pages, the other one being on another tier
    // Text, since clap would repeat what it cannot parse, and that may be a URL with a password.
    #[arg(long = "kv-tier", value_name = "TIER")]
    tiers: Vec<String>,
    /// Authenticate pages with the secret in FILE; $KVICK_KV_STORE_SECRET has the secret itself
    #[arg(long = "kv-store-secret", value_name = "FILE")]
    secret: Option<PathBuf>,
    /// How long Redis and S3 may take to answer
    #[arg(long = "kv-store-timeout", value_name = "SECONDS", default_value_t = 2.0)]
    timeout: f64,
    /// Use only pages of tiers that were computed under this epoch; raise it to invalidate them all
    #[arg(long = "kv-epoch", value_name = "N", default_value_t = 0)]
    epoch: u64,
    /// Check pages from tiers once more, on the device, and compute a sample of the pages found again, to compare
    #[arg(long = "kv-verify")]
    verify: bool,
    /// With --kv-verify: one in N found pages is computed again
    #[arg(long = "kv-verify-every", value_name = "N", default_value_t = 64)]
    pub verify_every: u64,
}

/// The variable with the secret, for those who would rather not have it in a file.
const SECRET: &str = "KVICK_KV_STORE_SECRET";

impl TierArgs {
    /// The tiers in the order given.
    fn tiers(&self) -> anyhow::Result<Vec<TierSpec>> {
        let parse = |text: &String| text.parse().map_err(|e| Usage(format!("--kv-tier: {e}")).into());
        self.tiers.iter().map(parse).collect()
    }

    /// The secret, if there are tiers to use it for.
    fn secret(&self) -> anyhow::Result<Option<StoreSecret>> {
        let text = match &self.secret {
            Some(file) => std::fs::read(file).with_context(|| format!("--kv-store-secret {}", file.display()))?,
            None if self.tiers.is_empty() => return Ok(None),
            None => match std::env::var_os(SECRET) {
                Some(text) => text.into_encoded_bytes(),
                None => return Ok(None),
            },
        };
        StoreSecret::new(text.trim_ascii()).map(Some).map_err(anyhow::Error::msg)
    }

    fn timeout(&self) -> anyhow::Result<Duration> {
        Duration::try_from_secs_f64(self.timeout)
            .map_err(|_| Usage("--kv-store-timeout takes a number of seconds, for example 0.5".into()).into())
    }
}

/// Compute types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    F16,
    Bf16,
}

impl From<Dtype> for Float {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Float::F16,
            Dtype::Bf16 => Float::BF16,
        }
    }
}

impl ModelArgs {
    /// The model's path; it is fetched first if that is needed.
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        Ok(store::resolve(&self.model, &mut Progress::new())?)
    }

    /// Its shape.
    pub fn shape(&self) -> anyhow::Result<ModelConfig> {
        Ok(models::read_config(&open_file(&self.path()?)?)?)
    }

    /// Bytes of the KV pages of one sequence of this length, and some.
    pub fn kv_bytes(&self, tokens: usize, spare: usize, config: EngineConfig) -> anyhow::Result<u64> {
        let layouts = self.shape()?.kv_layouts(config.page_tokens, config.kv_types());
        let pages = tokens.div_ceil(config.page_tokens) + spare;
        Ok(layouts.iter().map(|layout| (pages * layout.page_bytes()) as u64).sum())
    }

    /// Only its tokenizer.
    pub fn tokenizer(&self) -> anyhow::Result<Tokenizer> {
        Ok(Tokenizer::open(&self.path()?)?)
    }
}

impl DeviceArgs {
    /// Opens the device, and says so where `auto` took the emulated one.
    pub fn open(&self) -> anyhow::Result<Arc<dyn Backend>> {
        let opened = open::backend(&self.device, self.dtype.into())?;
        if let Some(notice) = opened.notice {
            note(&format!("kvick: {notice}"));
        }
        Ok(opened.backend)
    }

    /// A model that evaluates sequences of up to `context` tokens.
    pub fn evaluator(&self, path: &Path, context: usize) -> anyhow::Result<Evaluator> {
        const PIECE: usize = 512;
        let backend = self.open()?;
        let options = models::LoadOptions { context: Some(context) };
        let model = Arc::new(models::load(path, &backend, &options)?);
        anyhow::ensure!(
            context <= model.config().context,
            "{context} tokens are more than the model's context of {}; shorten the text",
            model.config().context
        );
        Ok(Evaluator::new(model, self.kv_types(), context, PIECE)?)
    }

    /// Types of the KV pages.
    fn kv_types(&self) -> KvTypes {
        self.kv_dtype.unwrap_or(Float::from(self.dtype).into())
    }
}

impl EngineArgs {
    /// Loads the engine.
    pub fn load(&self) -> anyhow::Result<Engine> {
        let path = self.model.path()?;
        let engine = Engine::load_path(&path, &self.config()?)?;
        if let Some(notice) = engine.notice() {
            note(&format!("kvick: {notice}"));
        }
        Ok(engine)
    }

    /// The same choices for the library.
    pub fn config(&self) -> anyhow::Result<EngineConfig> {
        Ok(EngineConfig {
            device: self.device.device.clone(),
            float: self.device.dtype.into(),
            kv_types: self.device.kv_dtype,
            kv_memory: self.kv_memory,
            context: self.context,
            step_tokens: self.step_tokens,
            max_seqs: self.max_seqs,
            prefix_cache: !self.no_prefix_cache,
            tiers: self.tiers.tiers()?,
            store_secret: self.tiers.secret()?,
            store_timeout: self.tiers.timeout()?,
            verify: self.tiers.verify,
            verify_every: self.tiers.verify_every,
            kv_epoch: self.tiers.epoch,
            ..EngineConfig::new(self.model.model.clone())
        })
    }
}

/// What control tokens' spellings in a text mean.
pub fn spelling(special: bool) -> Spelling {
    if special { Spelling::Control } else { Spelling::Text }
}

/// A text file, `-` for stdin.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = match path.to_str() {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("stdin")?;
            bytes
        }
        _ => std::fs::read(path).with_context(|| path.display().to_string())?,
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow::anyhow!("{}: not UTF-8 at byte {at}; convert it first", path.display())
    })
}

/// Opens a model file for its metadata.
pub fn open_file(path: &Path) -> anyhow::Result<weights::ModelFile> {
    Ok(weights::open(path)?)
}
