//! Runs steps of a model.
use super::config::{EngineConfig, pages_of_two_steps};
use super::fingerprint::fingerprint;
use super::io::{self, EngineIo};
use super::pages::Pages;
use super::request::TokenLogits;
use super::stores;
use super::verify::{Pair, Verifier, same_page};
use crate::backend::{Backend, DeviceBatch, HostBatch, KvGroup, KvHalf, KvLayout, Sample};
use crate::error::Result;
use crate::kv::cache::PageCopy;
use crate::kv::curve::CurveConfig;
use crate::kv::policy::Kind;
use crate::kv::tier::Tiers;
use crate::kv::{Fingerprint, GroupConfig, PageId};
use crate::models::{self, LoadOptions, Model, Workspace, log_sum_exp};
use crate::weights::ModelFile;
use std::sync::Arc;
use std::time::Duration;

/// What the engine needs of a model.
pub(super) trait Runner: Send {
    /// Copies pages in the order given, then runs a step and gives one token for each of its logit rows, with the largest
    /// logits of as many as `top` says.
    fn run(&mut self, copies: &[PageCopy], batch: &HostBatch, top: &[usize]) -> Result<Vec<Drawn>>;

    /// Whether the pages of each pair hold the same, as far as the device gives the same in batches of any shape.
    fn same(&mut self, pairs: &[Pair]) -> Result<bool>;

    /// How long the last step took, if that is not what a clock on the wall says.
    fn took(&self) -> Option<Duration> {
        None
    }
}

/// A sampled token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drawn {
    pub id: u32,
    pub logits: Option<TokenLogits>,
}

/// A model ready to run.
pub(super) struct Loaded {
    pub runner: ModelRunner,
    pub pages: Pages,
    /// Where there are tiers.
    pub below: Option<Below>,
}

/// What is below the device.
pub(super) struct Below {
    pub tiers: Tiers,
    /// Copies between its pages and theirs.
    pub io: EngineIo,
    /// Element code and bytes of K and of V of a page, for each group.
    pub halves: Vec<[(u8, usize); 2]>,
    /// What each tier keeps of them.
    pub kept: stores::Kept,
}

/// A model with its KV pages and buffers, everything allocated.
pub(super) struct ModelRunner {
    model: Arc<Model>,
    batch: DeviceBatch,
    kv: Vec<KvGroup>,
    workspace: Workspace,
    /// u32 `[R]`.
    drawn: crate::backend::Buffer,
}

impl ModelRunner {
    /// Plans device memory, loads the model, and makes the pools that go with its pages.
    pub fn load(file: &ModelFile, backend: &Arc<dyn Backend>, config: &EngineConfig) -> Result<Loaded> {
        let shape = models::read_config(file)?;
        let step = config.step_limits(&shape);
        let limits = shape.limits(&step);
        let plan = config.plan_memory(&**backend, file, &shape, &step);
        let counts = config.plan_kv(&**backend, &shape, &plan, &step)?.pages;
        let layouts = shape.kv_layouts(step.page_tokens, config.kv_types());
        let options = LoadOptions { context: Some(step.context) };
        let model = Arc::new(models::load_file(file, backend, &options)?);
        backend.reserve(&limits)?;
        let group = |(layout, &pages): (KvLayout, &usize)| {
            let data = backend.alloc("KV pages", pages * layout.page_bytes())?;
            Ok(KvGroup { layout, pages, data })
        };
        let runner = ModelRunner {
            batch: DeviceBatch::new(&**backend, limits)?,
            kv: layouts.into_iter().zip(&counts).map(group).collect::<Result<_>>()?,
            workspace: Workspace::new(&**backend, &shape, &limits)?,
            drawn: backend.alloc("sampled tokens", limits.logit_rows * 4)?,
            model,
        };
        let group = |(pages, spec): (usize, &models::GroupSpec)| GroupConfig { pages, window: spec.window };
        let groups: Vec<_> = counts.into_iter().zip(&shape.groups).map(group).collect();
        let (fingerprint, below) = if config.tiers.is_empty() {
            // Pages stay in this process.
            (Fingerprint::new([]), None)
        } else {
            let fingerprint = fingerprint(file, &shape, &**backend, config);
            (fingerprint, Some(runner.below(fingerprint, config)?))
        };
        let mut pages = Pages::new(fingerprint, step.page_tokens, step.tokens, &groups, config.prefix_cache);
        pages.cache.set_epoch(config.kv_epoch);
        let watched = groups.iter().find(|group| group.window.is_none());
        if let (Some(group), true) = (watched, config.prefix_cache && config.cache_curve) {
            pages.cache.watch(CurveConfig::new(Kind::Kvick, group.pages, step.page_tokens));
        }
        pages.verifier = config.verify.then(|| Verifier::new(config.verify_every));
        Ok(Loaded { runner, pages, below })
    }

    /// Opens what is below the device.
    fn below(&self, fingerprint: Fingerprint, config: &EngineConfig) -> Result<Below> {
        let layouts: Vec<KvLayout> = self.kv.iter().map(|kv| kv.layout).collect();
        let (tiers, kept) = stores::open(config, fingerprint, &layouts)?;
        let packed = kept.forms.iter().any(Option::is_some);
        let transfers =
            Arc::clone(self.model.backend()).transfers(&self.kv, host_bytes(&self.kv, config.step_tokens), packed)?;
        let halves = layouts.iter().map(|l| KvHalf::BOTH.map(|half| (io::element(l.types, half), l.half_bytes(half))));
        Ok(Below { tiers, kept, io: EngineIo::new(transfers, config.verify), halves: halves.collect() })
    }

    /// Bytes of a page of each KV group.
    pub fn page_bytes(&self) -> Vec<u64> {
        self.kv.iter().map(|group| group.layout.page_bytes() as u64).collect()
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Logits of the rows that report them, read before sampling, which may overwrite them.
    fn top_logits(&self, top: &[usize]) -> Result<Vec<Option<TokenLogits>>> {
        let mut row = vec![0f32; self.model.config().vocab];
        let mut read = |(r, &n): (usize, &usize)| -> Result<Option<TokenLogits>> {
            if n == 0 {
                return Ok(None);
            }
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut row);
            self.model.backend().download(&self.workspace.logits, r * bytes.len(), bytes)?;
            Ok(Some(TokenLogits::of(&row, n)))
        };
        top.iter().enumerate().map(&mut read).collect()
    }
}

/// Host memory for copies: 128 MiB or what two steps fill, if that is more; no more than all pages, and at least eight of the
/// largest.
fn host_bytes(kv: &[KvGroup], step_tokens: usize) -> usize {
    let all = kv.iter().map(|kv| kv.pages * kv.layout.page_bytes()).sum::<usize>();
    let largest = kv.iter().map(|kv| kv.layout.page_bytes()).max().unwrap_or(0);
    let steps = |kv: &KvGroup| pages_of_two_steps(step_tokens, kv.layout.page_tokens, 1) * kv.layout.page_bytes();
    all.min(kv.iter().map(steps).sum::<usize>().max(128 << 20)).max(8 * largest)
}

impl Runner for ModelRunner {
    fn run(&mut self, copies: &[PageCopy], batch: &HostBatch, top: &[usize]) -> Result<Vec<Drawn>> {
        let backend = Arc::clone(self.model.backend());
        for copy in copies {
            let KvGroup { layout, data, .. } = &self.kv[copy.group];
            let page = layout.page_bytes();
            backend.copy(data, copy.from.index() * page, data, copy.to.index() * page, page)?;
        }
        self.batch.load(&*backend, batch)?;
        self.model.forward(&self.batch, &self.kv, &self.workspace)?;
        let rows = batch.logit_rows.len();
        if rows == 0 {
            backend.finish()?;
            return Ok(Vec::new());
        }
        let logits = if top.iter().any(|&n| n > 0) { self.top_logits(top)? } else { vec![None; rows] };
        let (logits_buffer, vocab) = (&self.workspace.logits, self.model.config().vocab);
        backend.sample(&Sample { batch: &self.batch, logits: logits_buffer, vocab, out: &self.drawn })?;
        backend.finish()?;
        let mut ids = vec![0u32; rows];
        backend.download(&self.drawn, 0, bytemuck::cast_slice_mut(&mut ids))?;
        Ok(ids.into_iter().zip(logits).map(|(id, logits)| Drawn { id, logits }).collect())
    }

    fn same(&mut self, pairs: &[Pair]) -> Result<bool> {
        let backend = self.model.backend();
        for pair in pairs {
            let KvGroup { layout, data, .. } = &self.kv[pair.group];
            let read = |page: PageId| {
                let mut bytes = vec![0; layout.page_bytes()];
                backend.download(data, page.index() * bytes.len(), &mut bytes).map(|()| bytes)
            };
            if !same_page(layout, backend.is_batch_invariant(), &read(pair.computed)?, &read(pair.found)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl TokenLogits {
    /// The `n` largest logits of a row; of equal ones the lowest id first.
    pub fn of(row: &[f32], n: usize) -> Self {
        let n = n.min(row.len());
        let mut ids: Vec<u32> = (0..row.len() as u32).collect();
        let order = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
        if n < ids.len() {
            ids.select_nth_unstable_by(n, order);
            ids.truncate(n);
        }
        ids.sort_unstable_by(order);
        TokenLogits { top: ids.into_iter().map(|id| (id, row[id as usize])).collect(), logsumexp: log_sum_exp(row) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_logits_are_sorted_and_ties_go_to_the_lower_id() {
        let logits = TokenLogits::of(&[1.0, 3.0, 2.0, 3.0], 3);
        assert_eq!(logits.top, [(1, 3.0), (3, 3.0), (2, 2.0)]);
        let expected = [1.0f64, 3.0, 2.0, 3.0].iter().map(|x| x.exp()).sum::<f64>().ln();
        assert!((logits.logsumexp - expected).abs() < 1e-12);
        assert_eq!(TokenLogits::of(&[1.0], 5).top.len(), 1);
    }
}
