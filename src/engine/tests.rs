//! The engine over a runner that has no model: what it keeps of a token is a hash of all tokens up to it, made from what the
//! page tables say is kept of the token before it. A wrong slot, a page given away too early or shared with another history,
//! a lost or doubled token changes the answer.
use super::core::Core;
use super::output::Output;
use super::pages::Pages;
use super::request::{Completion, Event, FinishReason, Request, Sampling};
use super::scheduler::Scheduler;
use super::sequence::{Sequence, Submission};
use super::session::{Inner, Stats};
use super::stream::Stream;
use crate::backend::{HostBatch, SampleParams};
use crate::error::{Error, Result};
use crate::kv::cache::PageCopy;
use crate::kv::{Fingerprint, GroupConfig};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

mod comeback;
mod fake;
mod fork;
mod isolation;
mod prefix;
mod tiers;
mod verify;

use fake::*;

fn scheduler(shape: &Shape) -> Scheduler {
    let groups: Vec<_> = shape.groups.iter().map(|&(pages, window)| GroupConfig { pages, window }).collect();
    let pages = Pages::new(Fingerprint::new([]), shape.page_tokens, shape.step_tokens, &groups, shape.reuse);
    Scheduler::new(pages, shape.step_tokens, shape.max_seqs)
}

fn core(shape: &Shape) -> Core<FakeRunner> {
    let stats = Stats { copied_pages: vec![0; shape.groups.len()], ..Stats::default() };
    let runner = FakeRunner::new(shape);
    Core { scheduler: scheduler(shape), runner, tokenizer: None, stats, stalled: false }
}

/// A request for a core without a session, and where its events arrive.
fn submission(prompt: &[u32], tokens: usize) -> (Submission, Receiver<Event>) {
    let (sender, receiver) = channel();
    let submission = Submission {
        prompt: prompt.to_vec(),
        salt: Vec::new(),
        exact: false,
        priority: 0,
        limit: prompt.len() + tokens,
        sampling: Sampling { seed: Some(0), ..Sampling::default() }.params().unwrap(),
        output: Output::new(sender, Arc::default()),
        twins: Vec::new(),
    };
    (submission, receiver)
}

/// A sequence that nobody listens to.
pub(super) fn sequence_of(pages: &Pages, tokens: &[u32]) -> Sequence {
    Sequence::new(pages.keys(b"", tokens), submission(tokens, 1).0)
}

/// Tokens computed so far.
fn computed(core: &Core<FakeRunner>) -> u64 {
    core.stats.prefill_tokens + core.stats.decode_tokens
}

fn finished(events: &Receiver<Event>) -> Completion {
    match events.try_iter().last() {
        Some(Event::Finished(completion)) => completion,
        other => panic!("{other:?}"),
    }
}

fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| next(&[seed, i])).collect()
}

#[test]
fn a_step_mixes_decodes_with_pieces_of_prompts() {
    let shape = shape(8, 16, 4, &[(100, None)]);
    let mut core = core(&shape);
    let (first, first_events) = submission(&prompt(1, 10), 12);
    core.submit(first);
    core.step(0);
    let (long, long_events) = submission(&prompt(2, 40), 2);
    core.submit(long);
    let mut steps = 1;
    while !core.is_idle() {
        core.step(0);
        steps += 1;
        assert!(steps < 100);
    }
    let seen = core.runner.seen.lock().unwrap().clone();
    assert_eq!(seen[..5], [(1, 10), (2, 16), (2, 16), (2, 11), (2, 2)]);
    assert_eq!(finished(&first_events).ids, answer(&prompt(1, 10), 12));
    assert_eq!(finished(&long_events).ids, answer(&prompt(2, 40), 2));
    assert_eq!(core.stats.free_pages, [100]);
}

#[test]
fn the_youngest_gives_way_and_every_request_finishes() {
    let shape = shape(8, 32, 4, &[(8, None)]);
    let mut core = core(&shape);
    let requests: Vec<_> = (0..4).map(|i| (prompt(i, 9), submission(&prompt(i, 9), 40))).collect();
    let mut events = Vec::new();
    for (prompt, (submission, receiver)) in requests {
        core.submit(submission);
        events.push((prompt, receiver));
    }
    let mut order = Vec::new();
    for step in 0..2000 {
        core.step(0);
        for (i, (prompt, receiver)) in events.iter().enumerate() {
            for event in receiver.try_iter() {
                let Event::Finished(done) = event else { panic!("{event:?}") };
                assert_eq!((done.ids, done.reason), (answer(prompt, 40), FinishReason::Length));
                order.push(i);
            }
        }
        if core.is_idle() {
            break;
        }
        assert!(step < 1999, "not finished");
    }
    assert_eq!(order, [0, 1, 2, 3]);
    assert!(core.stats.preemptions > 0);
    assert_eq!(core.stats.free_pages, [8]);
}

#[test]
fn a_failed_step_ends_its_sequences_and_no_others() {
    let shape = shape(8, 8, 1, &[(8, None)]);
    let mut core = core(&shape);
    core.runner.fail_at = 2;
    let (first, first_events) = submission(&prompt(1, 4), 10);
    let (second, second_events) = submission(&prompt(2, 4), 10);
    core.submit(first);
    core.submit(second);
    for _ in 0..3 {
        core.step(0);
    }
    assert!(matches!(first_events.try_iter().last(), Some(Event::Failed(Error::Overflow(_)))));
    core.runner.fail_at = usize::MAX;
    while !core.is_idle() {
        core.step(0);
    }
    assert_eq!(finished(&second_events).ids, answer(&prompt(2, 4), 10));
    assert_eq!(core.stats.free_pages, [8]);
}

fn inner(shape: &Shape, context: usize) -> Inner {
    Inner::start(FakeRunner::new(shape), scheduler(shape), None, context).unwrap()
}

fn request(max_tokens: usize) -> Request {
    Request { max_tokens, ..Request::text("") }
}

#[test]
fn what_could_never_run_is_refused() {
    let shape = shape(8, 16, 2, &[(4, None)]);
    let engine = inner(&shape, 30);
    let refused = |ids: Vec<u32>, request: &Request| engine.submit(ids, request, vec![]).unwrap_err().to_string();
    assert!(refused(vec![], &request(1)).contains("no token"));
    assert!(refused(prompt(1, 30), &request(1)).contains("context of 30"));
    assert!(refused(vec![1], &request(0)).contains("at least one"));
    let hot = Request { sampling: Sampling { temperature: f32::NAN, ..Sampling::default() }, ..request(1) };
    assert!(refused(vec![1], &hot).contains("temperature"));
    let small = inner(&shape, 1000);
    let error = small.submit(prompt(1, 32), &request(1), vec![]).unwrap_err().to_string();
    assert!(error.contains("--kv-memory"), "{error}");
    let done = small.submit(prompt(1, 20), &request(100), vec![]).unwrap().wait().unwrap();
    assert_eq!((done.ids, done.reason), (answer(&prompt(1, 20), 12), FinishReason::Length));
}

#[test]
fn a_stop_token_ends_the_text_and_is_not_part_of_it() {
    let shape = shape(8, 16, 2, &[(40, None)]);
    let ids = answer(&prompt(3, 5), 8);
    let done = inner(&shape, 100).submit(prompt(3, 5), &request(8), vec![ids[5]]).unwrap().wait().unwrap();
    assert_eq!((done.ids, done.reason, done.prompt_tokens), (ids[..5].to_vec(), FinishReason::Stop, 5));
}

#[test]
fn cancelled_and_dropped_streams_give_their_pages_back() {
    let shape = shape(8, 64, 4, &[(1000, None)]);
    let engine = inner(&shape, 1 << 20);
    drop(engine.submit(prompt(1, 50), &request(1 << 19), vec![]).unwrap());
    let cancelled = engine.submit(prompt(2, 50), &request(1 << 19), vec![]).unwrap();
    cancelled.cancel();
    assert_eq!(cancelled.wait().unwrap().reason, FinishReason::Cancelled);
    let done = engine.submit(prompt(3, 50), &request(4), vec![]).unwrap().wait().unwrap();
    assert_eq!(done.ids, answer(&prompt(3, 50), 4));
    let deadline = Instant::now() + Duration::from_secs(10);
    while engine.stats.lock().unwrap().free_pages != [1000] {
        assert!(Instant::now() < deadline, "pages are still held");
        std::thread::yield_now();
    }
}

/// Also where nobody asks for anything meanwhile.
#[test]
fn a_pin_ends_when_its_time_is_over() {
    let shape = shape(8, 64, 4, &[(40, None)]);
    let engine = inner(&shape, 1 << 20);
    engine.submit(prompt(1, 50), &request(2), vec![]).unwrap().wait().unwrap();
    let pin = |scheduler: &mut Scheduler| {
        let keys = scheduler.pages.keys(b"", &prompt(1, 50));
        let until = scheduler.pages.now + 500;
        scheduler.pages.pin(&keys, 0, until).1.pages
    };
    let pages = engine.call(pin).unwrap();
    assert!(pages >= 6, "{pages}");
    assert_eq!(engine.stats.lock().unwrap().free_pages, [40 - pages]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while engine.stats.lock().unwrap().free_pages != [40] {
        assert!(Instant::now() < deadline, "the pin does not end");
        std::thread::yield_now();
    }
}

#[test]
fn a_stream_is_polled_and_cancelled_from_another_thread() {
    let shape = shape(8, 64, 1, &[(1 << 17, None)]);
    let engine = inner(&shape, 1 << 20);
    let _running = engine.submit(prompt(1, 50), &request(1 << 19), vec![]).unwrap();
    let mut waiting = engine.submit(prompt(2, 50), &request(4), vec![]).unwrap();
    assert_eq!(waiting.poll_text(Duration::ZERO).unwrap(), Poll::Pending);
    let canceller = waiting.canceller();
    std::thread::spawn(move || canceller.cancel());
    assert_eq!(waiting.poll_text(Duration::from_secs(60)).unwrap(), Poll::Ready(None));
    assert_eq!(waiting.poll_text(Duration::ZERO).unwrap(), Poll::Ready(None), "the end stays the end");
    assert_eq!(waiting.completion().unwrap().reason, FinishReason::Cancelled);
}

#[test]
fn a_dropped_engine_ends_its_streams() {
    let shape = shape(8, 64, 4, &[(1 << 18, None)]);
    let engine = inner(&shape, 1 << 30);
    let stream: Stream = engine.submit(prompt(1, 5), &request(1 << 20), vec![]).unwrap();
    drop(engine);
    let error = stream.wait().unwrap_err().to_string();
    assert!(error.contains("ended"), "{error}");
}

#[test]
fn threads_submit_at_once() {
    let shape = shape(8, 32, 8, &[(60, None), (30, Some(20))]);
    let engine = inner(&shape, 1000);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let (engine, served) = (&engine, &served);
            scope.spawn(move || {
                for i in 0..20 {
                    let prompt = prompt(thread * 100 + i, 1 + (i as usize * 7) % 50);
                    let done = engine.submit(prompt.clone(), &request(10), vec![]).unwrap().wait().unwrap();
                    assert_eq!(done.ids, answer(&prompt, 10));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(served.into_inner(), 160);
}
