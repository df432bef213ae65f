//! The engine as a user holds it: a thread that steps the model.
use super::config::EngineConfig;
use super::core::{Core, validate};
use super::output::Output;
use super::request::{Completion, Prompt, Request};
use super::runner::{ModelRunner, Runner};
use super::scheduler::Scheduler;
use super::sequence::Submission;
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::kv::cache::Counters;
use crate::models::{Model, ModelConfig};
use crate::text::Tokenizer;
use crate::{open, store, weights};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Counts since the engine was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps of the model.
    pub steps: u64,
    /// Tokens computed in pieces of more than one.
    pub prefill_tokens: u64,
    /// Tokens computed one by one.
    pub decode_tokens: u64,
    /// Times that a sequence gave up its pages and went on later.
    pub preemptions: u64,
    /// Pages of each KV group that no request held after the last step: empty, or cached for those that come.
    pub free_pages: Vec<usize>,
    /// What prompts found in the cache, and why not more.
    pub cache: Counters,
}

/// A loaded model that serves requests, also from several threads at once. Dropping it ends what still runs.
///
/// ```no_run
/// use kvick::{Engine, EngineConfig, Request};
///
/// let engine = Engine::load(EngineConfig::new("smollm2-135m"))?;
/// let mut stream = engine.submit(Request::text("The capital of France is"))?;
/// while let Some(text) = stream.next_text()? {
///     print!("{text}");
/// }
/// # Ok::<(), kvick::Error>(())
/// ```
pub struct Engine {
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    notice: Option<String>,
    inner: Inner,
}

/// The part that does not depend on a real model.
pub(super) struct Inner {
    /// `None` once the engine is being dropped.
    requests: Mutex<Option<Sender<Submission>>>,
    pub stats: Arc<Mutex<Stats>>,
    thread: Option<JoinHandle<()>>,
    capacity: usize,
    context: usize,
}

impl Engine {
    /// Opens the device, fetches the model if it is given by name and is not there, and loads it.
    ///
    /// # Errors
    /// No such model or device, a damaged file, too little memory; the message names the cure.
    pub fn load(config: EngineConfig) -> Result<Self> {
        config.check()?;
        let path = store::resolve(&config.model, &mut ())?;
        Self::load_path(&path, &config)
    }

    /// Like [`Engine::load`], with a path in place of the configuration's model.
    pub fn load_path(path: &Path, config: &EngineConfig) -> Result<Self> {
        config.check()?;
        let opened = open::backend(&config.device, config.float)?;
        let file = weights::open(path)?;
        let tokenizer = Arc::new(Tokenizer::load(&file.tokenizer())?);
        let (runner, pages) = ModelRunner::load(&file, &opened.backend, config)?;
        let model = Arc::clone(runner.model());
        let step = config.step_limits(model.config());
        let scheduler = Scheduler::new(pages, step.tokens, step.seqs);
        let inner = Inner::start(runner, scheduler, Some(Arc::clone(&tokenizer)), step.context)?;
        Ok(Engine { model, tokenizer, notice: opened.notice, inner })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Error::Request`] for what can never be served: no token, longer than the context or the KV memory, bad parameters.
    pub fn submit(&self, request: Request) -> Result<Stream> {
        let ids = match &request.prompt {
            Prompt::Text(text, spelling) => self.tokenizer.encode(text, *spelling)?,
            Prompt::Chat(messages) => self.tokenizer.encode_chat(messages)?,
            Prompt::Ids(ids) => ids.clone(),
        };
        let vocab = self.model.config().vocab;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::Request(format!("token {id} is not in the vocabulary of {vocab}")));
        }
        let stops = self.tokenizer.stops().iter().chain(&self.model.config().eos).copied();
        let stops = if request.ignore_eos { Vec::new() } else { stops.collect() };
        self.inner.submit(ids, &request, stops)
    }

    /// Queues a request and waits for its end.
    pub fn complete(&self, request: Request) -> Result<Completion> {
        self.submit(request)?.wait()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model's shape.
    pub fn model(&self) -> &ModelConfig {
        self.model.config()
    }

    /// What the device is called.
    pub fn device(&self) -> String {
        self.model.backend().name()
    }

    /// A line for the user where `auto` had to take the emulated GPU.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Longest prompt that can be served, in tokens.
    pub fn longest_prompt(&self) -> usize {
        self.inner.capacity.min(self.inner.context) - 1
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        self.inner.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Inner {
    pub fn start<R: Runner + 'static>(
        runner: R,
        scheduler: Scheduler,
        tokenizer: Option<Arc<Tokenizer>>,
        context: usize,
    ) -> Result<Self> {
        let capacity = scheduler.pages.capacity();
        let stats = Stats { free_pages: scheduler.pages.free(), ..Stats::default() };
        let shared = Arc::new(Mutex::new(stats.clone()));
        let core = Core { scheduler, runner, tokenizer, stats };
        let (sender, receiver) = channel();
        let published = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("kvick-engine".into())
            .spawn(move || serve(core, &receiver, &published))
            .map_err(|e| Error::Device(format!("no thread for the engine: {e}")))?;
        let requests = Mutex::new(Some(sender));
        Ok(Inner { requests, stats: shared, thread: Some(thread), capacity, context })
    }

    pub fn submit(&self, ids: Vec<u32>, request: &Request, stop_tokens: Vec<u32>) -> Result<Stream> {
        validate(ids.len(), self.capacity, self.context)?;
        if request.max_tokens == 0 {
            return Err(Error::Request("max_tokens is 0; ask for at least one token".into()));
        }
        let sampling = request.sampling.params()?;
        let (sender, events) = channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut output = Output::new(sender, Arc::clone(&cancelled));
        output.stop_tokens = stop_tokens;
        output.stop = request.stop.iter().filter(|s| !s.is_empty()).cloned().collect();
        output.top_logits = request.top_logits;
        let limit = ids.len().saturating_add(request.max_tokens).min(self.capacity).min(self.context);
        let submission = Submission { prompt: ids, salt: request.salt.clone(), limit, sampling, output };
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = requests.as_ref().is_some_and(|r| r.send(submission).is_ok());
        if sent { Ok(Stream::new(events, cancelled)) } else { Err(Error::Device("the engine has ended".into())) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The engine's thread: takes requests, steps, and ends when nobody can send any more.
fn serve<R: Runner>(mut core: Core<R>, requests: &Receiver<Submission>, stats: &Mutex<Stats>) {
    use std::sync::mpsc::TryRecvError;
    let start = Instant::now();
    loop {
        if core.is_idle() {
            match requests.recv() {
                Ok(submission) => core.submit(submission),
                Err(_) => return,
            }
        }
        loop {
            match requests.try_recv() {
                Ok(submission) => core.submit(submission),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        core.step(start.elapsed().as_millis() as u64);
        stats.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&core.stats);
    }
}
