//! What keeping pages below the device costs where nobody asks for them again: at most 2 % more warp instructions, and each
//! byte of a page is read once by the device and written once below. In a process of its own: the counts are the process's.
#![cfg(feature = "engine")]
#[path = "common/models.rs"]
mod models;

use kvick::engine::TierPlace;
use kvick::{Engine, EngineConfig, Prompt, Request};
use kvick_emulator::KernelCounters;
use std::time::Duration;

const PROMPT: usize = 100;
const ANSWER: usize = 6;
const REQUESTS: u32 = 2;

fn sum(counters: &[KernelCounters]) -> u64 {
    counters.iter().map(|c| c.warp_instructions).sum()
}

/// Counters of requests that have nothing in common.
fn work(engine: &Engine) -> Vec<KernelCounters> {
    kvick_emulator::reset_counters();
    for seed in 0..REQUESTS {
        let ids = (0..PROMPT as u32).map(|i| (i * 7919 + seed * 104_729 + 17) % 49_152).collect();
        engine.complete(Request { max_tokens: ANSWER, ignore_eos: true, ..Request::new(Prompt::Ids(ids)) }).unwrap();
    }
    // Pages are still on their way when an answer is complete.
    assert!(
        engine.settle(Duration::from_secs(60)).unwrap(),
        "pages are on their way for ever: {:?}",
        engine.stats().tiers
    );
    kvick_emulator::counters()
}

/// Pages that the requests leave: the last token of an answer is not computed.
fn kept() -> u64 {
    u64::from(REQUESTS) * (PROMPT + ANSWER - 1).div_ceil(EngineConfig::default().page_tokens) as u64
}

#[test]
fn tiers_cost_next_to_nothing_without_reuse() {
    let path = models::path("smollm2");
    let engine = |tiers| {
        let config = EngineConfig { device: "emulator".into(), tiers, ..EngineConfig::default() };
        Engine::load_path(&path, &config).unwrap()
    };
    let without = work(&engine(Vec::new()));
    let tiered = engine(vec![TierPlace::Host { bytes: 1 << 30 }.into()]);
    let with = work(&tiered);
    let (less, more) = (sum(&without), sum(&with));
    assert!(more * 100 <= less * 102, "{more} warp instructions with tiers, {less} without");

    let layout = tiered.model().kv_layouts(16, EngineConfig::default().kv_types())[0];
    let bytes = kept() * layout.page_bytes() as u64;
    let sums = with.iter().find(|c| c.name == "page_checksum").expect("sums of the pages");
    // Beside its part of the page each thread reads the page's number, and of sums those of its block.
    let beside = sums.load_bytes - bytes;
    assert!(beside <= kept() * 2 * 512 * 8, "the device reads {} bytes for the sums of {bytes}", sums.load_bytes);
    let tier = &tiered.stats().tiers[0];
    assert_eq!((tier.written, tier.busy), (kept(), 0), "{tier:?}");
    let written = tier.calls.bytes_written;
    assert!(written >= bytes && written <= bytes + kept() * 1024, "{written} bytes written for {bytes} in pages");
}
