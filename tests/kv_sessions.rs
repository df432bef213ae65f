//! Sessions over a real model on `cpu`: forks, samples and beams have the bits that computing from scratch has; pins, priorities,
//! expiry and invalidation do what they say.
#![cfg(feature = "engine")]
mod common;
use common::reference::tiny;
use kvick::engine::Pinned;
use kvick::{Completion, Engine, EngineConfig, Prompt, Request, Sampling, Session, TokenLogits};
use std::time::Duration;

const PAGE: usize = 8;
const VOCAB: usize = 256;

/// An engine with room for `pages` pages of each group.
fn engine(model: &str, pages: usize, reuse: bool) -> Engine {
    load(model, pages, |config| config.prefix_cache = reuse)
}

fn load(model: &str, pages: usize, change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let folder = tiny(model).folder;
    let shape = kvick::models::read_config(&kvick::weights::open(&folder).unwrap()).unwrap();
    let layouts = shape.kv_layouts(PAGE, EngineConfig::default().kv_types());
    let page: usize = layouts.iter().map(|layout| layout.page_bytes()).sum();
    let mut config = EngineConfig {
        device: "cpu".into(),
        page_tokens: PAGE,
        context: Some(128),
        step_tokens: 40,
        max_seqs: 4,
        kv_memory: Some((pages * page) as u64),
        ..EngineConfig::default()
    };
    change(&mut config);
    Engine::load_path(&folder, &config).unwrap()
}

fn ids(seed: u32, tokens: usize) -> Vec<u32> {
    (0..tokens as u32).map(|i| (i * 31 + seed * 101) % 250 + 2).collect()
}

fn request(ids: &[u32], tokens: usize) -> Request {
    Request { max_tokens: tokens, ignore_eos: true, top_logits: VOCAB, ..Request::new(Prompt::Ids(ids.to_vec())) }
}

/// Logits after some tokens, computed whole and alone.
fn scratch(engine: &Engine, ids: &[u32]) -> TokenLogits {
    engine.complete(request(ids, 1)).unwrap().logits.remove(0)
}

/// Tokens computed so far.
fn computed(engine: &Engine) -> u64 {
    engine.cache_stats().unwrap();
    let stats = engine.stats();
    stats.prefill_tokens + stats.decode_tokens
}

#[test]
fn samples_have_the_bits_of_prompts_computed_alone() {
    for model in ["llama", "gemma3"] {
        let (engine, alone) = (engine(model, 64, true), engine(model, 32, false));
        for len in [21, 24, 41] {
            let prompt = ids(len as u32, len);
            let sampling = Sampling { temperature: 1.5, seed: Some(11), ..Sampling::default() };
            let before = computed(&engine);
            let streams = engine.submit_samples(Request { sampling, ..request(&prompt, 7) }, 4).unwrap();
            let done: Vec<Completion> = streams.into_iter().map(|stream| stream.wait().unwrap()).collect();
            assert_eq!(computed(&engine) - before, len as u64 + 4 * 6, "the prompt once, {len} tokens of {model}");
            assert!(done.iter().skip(1).any(|other| other.ids != done[0].ids));
            for (sample, done) in done.iter().enumerate() {
                for token in 0..7 {
                    let expected = scratch(&alone, &[&prompt[..], &done.ids[..token]].concat());
                    assert!(done.logits[token] == expected, "{model}, {len}, sample {sample}, token {token}");
                }
            }
        }
        assert!(engine.stats().copied_pages.iter().all(|&copied| copied >= 2 * 3), "tails are copied on write");
    }
}

/// Beam search of a given width: each beam is a session forked from the one it continues.
fn beams(engine: &Engine, alone: &Engine, prompt: &[u32], width: usize, depth: usize) -> u64 {
    let mut first = engine.session("beams");
    first.extend(&Prompt::Ids(prompt.to_vec())).unwrap();
    let mut beams: Vec<(f64, Session)> = vec![(0.0, first)];
    let before = computed(engine);
    for step in 0..depth {
        let nothing = request(&[], 1);
        let streams: Vec<_> = beams.iter_mut().map(|(_, beam)| beam.submit(nothing.clone()).unwrap()).collect();
        let mut next = Vec::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let logits = stream.wait().unwrap().logits.remove(0);
            let (score, beam) = &beams[index];
            assert!(logits == scratch(alone, beam.ids()), "step {step}, beam {index}: {:?}", beam.ids());
            let scored =
                logits.top[..width].iter().map(|&(id, l)| (score + f64::from(l) - logits.logsumexp, index, id));
            next.extend(scored);
        }
        next.sort_by(|a, b| b.0.total_cmp(&a.0));
        next.truncate(width);
        let grown = next.into_iter().map(|(score, index, id)| {
            let mut beam = beams[index].1.fork().unwrap().session;
            beam.extend(&Prompt::Ids(vec![id])).unwrap();
            (score, beam)
        });
        beams = grown.collect();
    }
    computed(engine) - before
}

#[test]
fn beams_have_the_bits_of_texts_computed_alone() {
    for model in ["llama", "gemma3"] {
        let (engine, alone) = (engine(model, 64, true), engine(model, 32, false));
        let prompt = ids(3, 29);
        let computed = beams(&engine, &alone, &prompt, 3, 9);
        assert_eq!(computed, 29 + 8 * 3, "{model}: the prompt, and one token a beam and step");
    }
}

#[test]
fn a_session_goes_on_from_its_pages_and_forks_share_them() {
    let engine = engine("gemma3", 64, true);
    let mut chat = engine.session("tenant");
    let first = chat.submit(request(&ids(1, 30), 5)).unwrap().wait().unwrap();
    assert_eq!((first.cached_tokens, chat.accept(&first).unwrap(), chat.ids().len()), (0, 5, 35));
    let second = chat.submit(request(&ids(2, 4), 3)).unwrap().wait().unwrap();
    assert_eq!((second.prompt_tokens, second.cached_tokens), (39, 34), "all but the token drawn last and the new ones");
    let forked = chat.fork().unwrap();
    assert_eq!((forked.shared, forked.pinned, forked.session.ids()), (39, None, chat.ids()));
    let mut stranger = engine.session("another tenant");
    stranger.extend(&Prompt::Ids(chat.ids().to_vec())).unwrap();
    assert_eq!((chat.cached().unwrap(), stranger.cached().unwrap()), (39, 0));
    let mut text = engine.session("");
    assert!(text.extend(&Prompt::Text("ab".into(), kvick::text::Spelling::Text)).unwrap() > 0);
    let empty = engine.session("").submit(request(&[], 1)).unwrap_err().to_string();
    assert!(empty.contains("no token"), "{empty}");
}

#[test]
fn pins_hold_until_they_end_and_tell_what_they_hold() {
    let engine = engine("gemma3", 20, true);
    let fill = |seed: u32| (0..4).for_each(|i| drop(engine.complete(request(&ids(seed + i, 90), 1)).unwrap()));
    let mut chat = engine.session("");
    chat.extend(&Prompt::Ids(ids(1, 40))).unwrap();
    assert_eq!(chat.pin(None).unwrap(), Pinned { tokens: 0, pages: 0, missing: 40 });
    chat.submit(request(&[], 1)).unwrap().wait().unwrap();
    // Five pages of the full group, and the one before the next token in the window of 8.
    assert_eq!(chat.pin(None).unwrap(), Pinned { tokens: 40, pages: 5 + 1, missing: 0 });
    let forked = chat.fork().unwrap();
    assert_eq!(forked.pinned.map(|pinned| pinned.pages), Some(6));
    assert_eq!((chat.set_priority(3).unwrap(), chat.set_priority(4).unwrap()), (0, 3));
    fill(100);
    assert_eq!((chat.cached().unwrap(), chat.unpin().unwrap(), chat.unpin().unwrap()), (40, 6, 0));
    fill(200);
    assert_eq!(chat.cached().unwrap(), 40, "the fork has a pin of its own");
    drop(forked);
    fill(300);
    assert_eq!(chat.cached().unwrap(), 0);

    chat.submit(request(&[], 1)).unwrap().wait().unwrap();
    assert_eq!(chat.pin(Some(Duration::from_millis(1))).unwrap().tokens, 40);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(chat.unpin().unwrap(), 0, "its time is over");
    chat.pin(None).unwrap();
    engine.complete(request(&ids(400, 120), 4)).unwrap();
    assert_eq!(chat.unpin().unwrap(), 0, "a request that needs all pages goes first");
}

#[test]
fn expiry_discarding_and_invalidation_reach_what_they_name() {
    let engine = engine("llama", 64, true);
    let compute = |salt: &str, seed: u32| {
        let mut session = engine.session(salt);
        session.submit(request(&ids(seed, 40), 1)).unwrap().wait().unwrap();
        session
    };
    let (a, b, c) = (compute("x", 1), compute("x", 2), compute("y", 1));
    let cached = || [&a, &b, &c].map(|session| session.cached().unwrap());
    assert_eq!(cached(), [40; 3]);
    assert_eq!(engine.cache_stats().unwrap().other_salt_tokens, 40, "one text under two salts");
    assert_eq!(engine.invalidate_prefix(b"x", &Prompt::Ids(ids(1, 16))).unwrap().pages, 4);
    assert_eq!(cached(), [8, 40, 40]);
    assert_eq!(b.expire_after(Duration::from_millis(1)).unwrap(), 40);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(cached(), [8, 0, 40]);
    engine.complete(Request { salt: b"x".to_vec(), ..request(&ids(1, 40), 1) }).unwrap();
    assert_eq!(cached(), [40, 0, 40]);
    assert!(engine.invalidate_salt(b"x").unwrap().pages >= 5);
    assert_eq!(cached(), [0, 0, 40]);
    assert_eq!(engine.invalidate_model().unwrap().pages, 5);
    assert_eq!((cached(), engine.stats().cached_pages), ([0; 3], vec![0]));

    let (long, short) = (compute("z", 5), {
        let mut short = engine.session("z");
        short.submit(request(&[ids(5, 20), ids(9, 20)].concat(), 1)).unwrap().wait().unwrap();
        short
    });
    assert_eq!(short.discard().unwrap(), 3, "its own pages, from the one in which it differs");
    assert_eq!(long.cached().unwrap(), 40);
    assert_eq!(long.discard().unwrap(), 5);
    assert_eq!(engine.stats().cached_pages, [0]);
}

/// Tries until a session has nothing left on the device: pages are written to tiers in the background.
fn demote(session: &mut Session) -> usize {
    let mut pages = 0;
    for _ in 0..2000 {
        let demoted = session.demote().unwrap();
        pages += demoted.pages;
        if demoted.left == 0 {
            return pages;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the tiers do not take the pages: {:?}", session.cached());
}

#[test]
fn sessions_go_down_to_a_tier_and_come_up_again() {
    for model in ["llama", "gemma3"] {
        let engine = load(model, 40, |config| config.tiers = vec!["host=64MiB".parse().unwrap()]);
        let alone = self::engine(model, 32, false);
        let mut chat = engine.session("tenant");
        chat.submit(request(&ids(1, 44), 1)).unwrap().wait().unwrap();
        chat.pin(None).unwrap();
        assert!(demote(&mut chat) >= 6, "the pin ends with it");
        assert_eq!(chat.cached().unwrap(), 0);
        let up = chat.prefetch().unwrap();
        assert_eq!((up.device, up.loaded, up.missing), (0, 44, 0), "{model}: the partly filled page, too");
        assert_eq!((chat.cached().unwrap(), chat.prefetch().unwrap().device), (44, 44));
        let next = chat.submit(request(&ids(7, 1), 1)).unwrap().wait().unwrap();
        assert_eq!(next.cached_tokens, 44);
        assert!(next.logits[0] == scratch(&alone, chat.ids()), "{model}: the bits differ");
        let report = engine.cache_stats().unwrap();
        assert_eq!(report.tokens, report.hit_tokens() + report.missed.tokens());
        assert_eq!(report.tiers.iter().map(|tier| tier.name.as_str()).collect::<Vec<_>>(), ["device", "host"]);
        assert!(report.tiers[1].bytes_up > 0 && report.tiers[1].bytes_down >= report.tiers[1].bytes_up, "{report:?}");
        engine.invalidate_salt(b"tenant").unwrap();
        assert_eq!(chat.prefetch().unwrap().missing, chat.ids().len(), "gone on every tier");
    }
    let engine = engine("llama", 20, true);
    let mut chat = engine.session("");
    chat.submit(request(&ids(1, 16), 1)).unwrap().wait().unwrap();
    let (up, down) = (chat.prefetch().unwrap(), chat.demote().unwrap());
    assert_eq!((up.device, up.loaded, down.pages, down.left), (16, 0, 0, 2), "without tiers");
}
