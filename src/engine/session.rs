//! The engine as a user holds it: a thread that steps the model.
use super::comeback::Comebacks;
use super::config::{EngineConfig, pages_of_two_steps};
use super::core::{Core, validate};
use super::output::Output;
use super::request::{Completion, Prompt, Request, Sampling};
use super::runner::{Below, Loaded, ModelRunner, Runner};
use super::scheduler::Scheduler;
use super::sequence::{Submission, Twin};
use super::stores::Kept;
use super::stream::Stream;
use super::verify::Verified;
use crate::error::{Error, Result};
use crate::kv::cache::{Counters, Probes};
use crate::kv::tier::{ManagerConfig, TierReport};
use crate::models::{Model, ModelConfig};
use crate::text::Tokenizer;
use crate::{open, store, weights};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
    /// How their tokens came back.
    pub comebacks: Comebacks,
    /// Pages of each KV group that no request held after the last step: empty, or cached for those that come.
    pub free_pages: Vec<usize>,
    /// Tokens of steps that computed only prompts, and how long these took in microseconds.
    pub prompt_step_tokens: u64,
    /// See `prompt_step_tokens`.
    pub prompt_step_micros: u64,
    /// Pages of each KV group that were copied because two sequences go on differently from one.
    pub copied_pages: Vec<u64>,
    /// Pages of each KV group that can be found.
    pub cached_pages: Vec<usize>,
    /// How hard the index worked.
    pub probes: Probes,
    /// What prompts found in the cache, and why not more.
    pub cache: Counters,
    /// What each tier below the device holds and did, nearest first.
    pub tiers: Vec<TierReport>,
    /// Found pages that were computed again, to compare.
    pub verified: Verified,
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
    /// Bytes of a page of each KV group.
    pub(super) page_bytes: Vec<u64>,
    pub(super) inner: Inner,
}

/// What reaches the engine's thread between two steps.
pub(super) enum Message {
    Submit(Box<Submission>),
    /// Runs on the thread, then, once the counts are published, what it returns.
    Call(Call),
}

type Call = Box<dyn FnOnce(&mut Scheduler) -> Reply + Send>;
pub(super) type Reply = Box<dyn FnOnce() + Send>;

/// The part that does not depend on a real model.
pub(super) struct Inner {
    /// `None` once the engine is being dropped.
    messages: Mutex<Option<Sender<Message>>>,
    pub stats: Arc<Mutex<Stats>>,
    thread: Option<JoinHandle<()>>,
    capacity: usize,
    context: usize,
    /// Sequences that run at once.
    seats: usize,
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
        let Loaded { runner, mut pages, below } = ModelRunner::load(&file, &opened.backend, config)?;
        if let Some(Below { tiers, io, halves, kept: Kept { forms, halves: parts } }) = below {
            let failed = |e| Error::Device(format!("no thread for a tier: {e}"));
            let usual = ManagerConfig::new(halves);
            let two_steps = pages_of_two_steps(config.step_tokens, config.page_tokens, usual.shapes.len());
            let copying = usual.copying.max(two_steps);
            let config = ManagerConfig { forms, halves: parts, copying, ..usual };
            pages = pages.with_tiers(Box::new(io), tiers, config).map_err(failed)?;
        }
        let (model, page_bytes) = (Arc::clone(runner.model()), runner.page_bytes());
        let step = config.step_limits(model.config());
        let scheduler = Scheduler::new(pages, step.tokens, step.seqs);
        let inner = Inner::start(runner, scheduler, Some(Arc::clone(&tokenizer)), step.context)?;
        Ok(Engine { model, tokenizer, notice: opened.notice, page_bytes, inner })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Error::Request`] for what can never be served: no token, longer than the context or the KV memory, bad parameters.
    pub fn submit(&self, request: Request) -> Result<Stream> {
        let ids = self.encode(&request.prompt)?;
        self.submit_ids(ids, &request)
    }

    /// Queues `samples` answers to one prompt, which is computed once: their pages are shared as long as they are the same.
    /// Answer 0 is the one that [`Engine::submit`] gives, the others are drawn with other seeds.
    ///
    /// # Errors
    /// As [`Engine::submit`], and if there are no samples or more than [`EngineConfig::max_seqs`].
    pub fn submit_samples(&self, request: Request, samples: usize) -> Result<Vec<Stream>> {
        let ids = self.encode(&request.prompt)?;
        self.inner.submit_samples(ids, &request, self.stops(&request), samples)
    }

    /// The tokens of a prompt.
    pub(super) fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let ids = match prompt {
            Prompt::Text(text, spelling) => self.tokenizer.encode(text, *spelling)?,
            Prompt::Chat(messages) => self.tokenizer.encode_chat(messages)?,
            Prompt::Ids(ids) => ids.clone(),
        };
        let vocab = self.model.config().vocab;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => Err(Error::Request(format!("token {id} is not in the vocabulary of {vocab}"))),
            None => Ok(ids),
        }
    }

    /// Queues a request for these tokens in place of its prompt.
    pub(super) fn submit_ids(&self, ids: Vec<u32>, request: &Request) -> Result<Stream> {
        self.inner.submit(ids, request, self.stops(request))
    }

    /// Tokens that end an answer.
    fn stops(&self, request: &Request) -> Vec<u32> {
        let stops = self.tokenizer.stops().iter().chain(&self.model.config().eos).copied();
        if request.ignore_eos { Vec::new() } else { stops.collect() }
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

    /// Waits until what was computed is on the tiers or given up, `patience` at most; whether it is.
    pub fn settle(&self, patience: Duration) -> Result<bool> {
        let start = Instant::now();
        while !self.inner.call(|scheduler| scheduler.pages.is_settled())? {
            if start.elapsed() >= patience {
                return Ok(false);
            }
            std::thread::sleep(MOVING);
        }
        Ok(true)
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
        let (capacity, seats) = (scheduler.pages.capacity(), scheduler.max_seqs());
        let (free_pages, copied_pages) = (scheduler.pages.free(), vec![0; scheduler.pages.groups()]);
        let stats = Stats { free_pages, copied_pages, ..Stats::default() };
        let shared = Arc::new(Mutex::new(stats.clone()));
        let core = Core { scheduler, runner, tokenizer, stats, stalled: false };
        let (sender, receiver) = channel();
        let published = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("kvick-engine".into())
            .spawn(move || serve(core, &receiver, &published))
            .map_err(|e| Error::Device(format!("no thread for the engine: {e}")))?;
        let messages = Mutex::new(Some(sender));
        Ok(Inner { messages, stats: shared, thread: Some(thread), capacity, context, seats })
    }

    pub fn submit(&self, ids: Vec<u32>, request: &Request, stops: Vec<u32>) -> Result<Stream> {
        self.submit_samples(ids, request, stops, 1)?.pop().ok_or(Error::Cancelled)
    }

    pub fn submit_samples(
        &self,
        ids: Vec<u32>,
        request: &Request,
        stops: Vec<u32>,
        samples: usize,
    ) -> Result<Vec<Stream>> {
        validate(ids.len(), self.capacity, self.context)?;
        if request.max_tokens == 0 {
            return Err(Error::Request("max_tokens is 0; ask for at least one token".into()));
        }
        if samples == 0 || samples > self.seats {
            let most = self.seats;
            return Err(Error::Request(format!(
                "{samples} samples of a prompt; ask for 1 to {most}, or raise --max-seqs"
            )));
        }
        let sampling = request.sampling.params()?;
        let limit = ids.len().saturating_add(request.max_tokens).min(self.capacity).min(self.context);
        let (mut streams, mut twins) = (Vec::new(), VecDeque::new());
        for sample in 0..samples {
            let (sender, events) = channel();
            let cancelled = Arc::new(AtomicBool::new(false));
            let mut output = Output::new(sender, Arc::clone(&cancelled));
            output.stop_tokens = stops.clone();
            output.stop = request.stop.iter().filter(|s| !s.is_empty()).cloned().collect();
            output.top_logits = request.top_logits;
            streams.push(Stream::new(events, cancelled));
            twins.push_back(Twin { sampling: Sampling::of_sample(sampling, sample as u64), output });
        }
        if let Some(Twin { sampling, output }) = twins.pop_front() {
            let (salt, exact, priority, twins) = (request.salt.clone(), request.exact, request.priority, twins.into());
            let submission = Submission { prompt: ids, salt, exact, priority, limit, sampling, output, twins };
            self.send(Message::Submit(Box::new(submission)))?;
        }
        Ok(streams)
    }

    pub fn send(&self, message: Message) -> Result<()> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = messages.as_ref().is_some_and(|sender| sender.send(message).is_ok());
        if sent { Ok(()) } else { Err(Error::Device("the engine has ended".into())) }
    }

    /// Lets the engine's thread do something between two steps, and waits for it.
    pub fn call<T: Send + 'static>(&self, job: impl FnOnce(&mut Scheduler) -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = channel();
        self.send(Message::Call(Box::new(move |scheduler| {
            let result = job(scheduler);
            // A caller that is gone wants no answer.
            Box::new(move || drop(sender.send(result)))
        })))?;
        receiver.recv().map_err(|_| Error::Device("the engine has ended".into()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long the engine's thread sleeps where it has nothing to do but to see copies and stores end.
const MOVING: Duration = Duration::from_micros(100);

/// The engine's thread: takes messages, steps, and ends when nobody can send any more.
fn serve<R: Runner>(mut core: Core<R>, messages: &Receiver<Message>, stats: &Mutex<Stats>) {
    use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
    let start = Instant::now();
    let mut replies = Vec::new();
    loop {
        let message = match (core.is_idle(), core.scheduler.pages.is_moving()) {
            (true, false) => match core.scheduler.pages.next_expiry() {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => messages.recv_timeout(Duration::from_millis(until.saturating_sub(millis(start)))),
            },
            (true, true) => messages.recv_timeout(MOVING),
            (false, _) if core.stalled => messages.recv_timeout(MOVING),
            (false, _) => Err(RecvTimeoutError::Timeout),
        };
        match message {
            Ok(message) => replies.extend(core.take(message, millis(start))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return core.scheduler.pages.flush(),
        }
        loop {
            match messages.try_recv() {
                Ok(message) => replies.extend(core.take(message, millis(start))),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return core.scheduler.pages.flush(),
            }
        }
        if !replies.is_empty() {
            core.observe();
            stats.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&core.stats);
            replies.drain(..).for_each(|reply| reply());
        }
        core.step(millis(start));
        stats.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&core.stats);
    }
}

fn millis(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}
