//! Eight threads on one engine, each request's answer checked against one computed alone: submit, fork, cancel, evict, pin,
//! prefetch, demote, invalidate; on the device alone, and with host and disk below it. Afterwards every page is free, no tier
//! keeps anything of what was invalidated, and memory did not grow.
//!
//! `KVICK_SOAK=600 cargo test --release --test kv_soak -- --test-threads 1` runs each for ten minutes.
#![cfg(feature = "engine")]
mod common;
use common::reference::tiny;
use common::rng::Rng;
use common::soak::Clock;
use kvick::{Completion, Engine, EngineConfig, FinishReason, Prompt, Request};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PAGE: usize = 8;
const TEXTS: u32 = 12;
const PROMPT: usize = 40;
const ANSWER: usize = 12;
const SALTS: usize = 3;

/// What a text's prompts and their greedy answers are.
struct Text {
    prompt: Vec<u32>,
    /// Prompt lengths asked for, and the answers to them.
    answers: Vec<(usize, Vec<u32>)>,
}

fn folder() -> PathBuf {
    tiny("gemma3").folder
}

fn config(pages: usize) -> EngineConfig {
    let shape = kvick::models::read_config(&kvick::weights::open(&folder()).unwrap()).unwrap();
    let layouts = shape.kv_layouts(PAGE, EngineConfig::default().kv_types());
    let page: usize = layouts.iter().map(|layout| layout.page_bytes()).sum();
    EngineConfig {
        device: "cpu".into(),
        page_tokens: PAGE,
        context: Some(64),
        step_tokens: 48,
        max_seqs: 6,
        kv_memory: Some((pages * page) as u64),
        ..EngineConfig::default()
    }
}

fn request(ids: &[u32], tokens: usize) -> Request {
    Request { max_tokens: tokens, ignore_eos: true, ..Request::new(Prompt::Ids(ids.to_vec())) }
}

/// Texts that begin alike, a few at each of several lengths.
fn texts() -> Vec<Text> {
    let alone = Engine::load_path(&folder(), &EngineConfig { prefix_cache: false, ..config(16) }).unwrap();
    let text = |text: u32| {
        let shared = 9 * (text as usize % 4);
        let token = |at: usize| (at as u32 * 31 + if at < shared { 0 } else { text * 101 }) % 250 + 2;
        let prompt: Vec<u32> = (0..PROMPT).map(token).collect();
        let answer = |len| (len, alone.complete(request(&prompt[..len], ANSWER)).unwrap().ids);
        Text { answers: [9, 16, 27, 40].map(answer).to_vec(), prompt }
    };
    (0..TEXTS).map(text).collect()
}

struct Soak {
    engine: Engine,
    texts: Vec<Text>,
    clock: Clock,
}

impl Soak {
    fn check(&self, seed: u64, text: &Text, which: usize, done: &Completion, tokens: usize) {
        let (len, expected) = &text.answers[which];
        assert_eq!(done.ids, expected[..done.ids.len()], "seed {seed}, {len} tokens of {:?}", text.prompt);
        assert!(done.reason == FinishReason::Cancelled || done.ids.len() == tokens, "seed {seed}: {done:?}");
    }

    /// Samples of one prompt, of which some are cancelled.
    fn request(&self, rng: &mut Rng, seed: u64) {
        let (text, which) = (&self.texts[rng.below(self.texts.len())], rng.below(4));
        let (tokens, salt) = (1 + rng.below(ANSWER), vec![rng.below(SALTS) as u8]);
        let priority = rng.below(3) as i32;
        let request = Request { salt, priority, ..request(&text.prompt[..text.answers[which].0], tokens) };
        let streams = self.engine.submit_samples(request, 1 + rng.below(3)).unwrap();
        for stream in streams {
            match rng.below(8) {
                0 => stream.cancel(),
                // Dropped while it runs.
                1 => continue,
                _ => {}
            }
            self.check(seed, text, which, &stream.wait().unwrap(), tokens);
        }
    }

    /// A session that pins, forks and goes on.
    fn session(&self, rng: &mut Rng, seed: u64) {
        let (text, which) = (&self.texts[rng.below(self.texts.len())], rng.below(4));
        let mut session = self.engine.session([rng.below(SALTS) as u8]);
        session.set_priority(rng.below(3) as i32).unwrap();
        session.extend(&Prompt::Ids(text.prompt[..text.answers[which].0].to_vec())).unwrap();
        let ttl = (rng.below(2) == 0).then(|| Duration::from_millis(rng.below(30) as u64));
        session.pin(ttl).unwrap();
        let first = session.submit(request(&[], 4)).unwrap().wait().unwrap();
        self.check(seed, text, which, &first, 4);
        session.accept(&first).unwrap();
        session.pin(ttl).unwrap();
        let mut fork = session.fork().unwrap().session;
        let next = fork.submit(request(&[], 5)).unwrap().wait().unwrap();
        assert_eq!(next.ids, text.answers[which].1[4..9], "seed {seed}");
        match rng.below(6) {
            4 => drop(session.demote().unwrap()),
            5 => drop(session.prefetch().unwrap()),
            0 => drop(session.discard().unwrap()),
            1 => drop(session.expire_after(Duration::from_millis(rng.below(20) as u64)).unwrap()),
            2 => drop(session.unpin().unwrap()),
            _ => {}
        }
    }

    fn invalidate(&self, rng: &mut Rng) {
        let salt = [rng.below(SALTS) as u8];
        let text = &self.texts[rng.below(self.texts.len())];
        let done = match rng.below(6) {
            0 => self.engine.invalidate_model(),
            1 | 2 => self.engine.invalidate_salt(&salt),
            _ => self.engine.invalidate_prefix(&salt, &Prompt::Ids(text.prompt[..1 + rng.below(PROMPT)].to_vec())),
        };
        done.unwrap();
    }

    fn thread(&self, seed: u64) {
        let mut rng = Rng::new(seed);
        while !self.clock.is_over() {
            match rng.below(20) {
                0 => self.invalidate(&mut rng),
                1..6 => self.session(&mut rng, seed),
                _ => self.request(&mut rng, seed),
            }
        }
    }
}

/// Waits until nothing is on its way to the tiers; what is pinned with a time to live is free by then.
fn settle(engine: &Engine, all: &[usize]) {
    assert!(engine.settle(Duration::from_secs(30)).unwrap(), "copies do not end: {:?}", engine.stats().tiers);
    let late = Instant::now() + Duration::from_secs(10);
    while engine.stats().free_pages != all {
        assert!(Instant::now() < late, "pages are still held: {:?}", engine.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn soak(config: &EngineConfig, seconds: u64) -> Engine {
    let engine = Engine::load_path(&folder(), config).unwrap();
    let all = engine.stats().free_pages;
    let soak = Soak { engine, texts: texts(), clock: Clock::start(seconds) };
    std::thread::scope(|scope| {
        for seed in 1..=8 {
            let soak = &soak;
            scope.spawn(move || soak.thread(seed));
        }
        soak.clock.watch_memory();
    });
    // Whole requests of all salts wait for what was dropped or cancelled to leave.
    for salt in 0..SALTS as u8 {
        let last = Request { salt: vec![salt], ..request(&soak.texts[0].prompt, 1) };
        soak.engine.complete(last).unwrap();
    }
    settle(&soak.engine, &all);
    let (report, stats) = (soak.engine.cache_stats().unwrap(), soak.engine.stats());
    assert!(report.hit_tokens() > 1000 && stats.cache.evicted > 100, "{report:?} {stats:?}");
    assert_eq!(report.tokens, report.hit_tokens() + report.missed.tokens());
    assert_eq!(stats.verified.differed, 0, "{:?}", stats.verified);
    soak.engine.invalidate_model().unwrap();
    settle(&soak.engine, &all);
    let stats = soak.engine.stats();
    assert_eq!((stats.free_pages, stats.cached_pages), (all, vec![0, 0]));
    soak.engine
}

#[test]
fn eight_threads_on_one_engine_leave_nothing_behind() {
    // Room for two requests: most pages leave by eviction.
    soak(&config(16), 5);
}

#[test]
fn nor_on_its_tiers() {
    let dir = tempfile::tempdir().unwrap();
    // Tiers of about 20 and 60 pages, so that they evict as well.
    let tiers = ["host=300KB".to_string(), format!("disk={},1MB", dir.path().display())];
    let tiers = tiers.iter().map(|tier| tier.parse().unwrap()).collect();
    let engine = soak(&EngineConfig { tiers, verify: true, verify_every: 8, ..config(16) }, 10);
    let stats = engine.stats();
    for tier in &stats.tiers {
        let refused: u64 = tier.calls.refused.iter().sum();
        assert!(tier.hit_tokens > 0 && tier.evicted > 0 && refused == 0, "{tier:?}");
        assert_eq!((tier.pages, tier.bytes), (0, 0), "{tier:?}");
    }
    assert!(stats.verified.pages > 0 && stats.comebacks.loaded + stats.comebacks.kept > 0, "{stats:?}");
}
