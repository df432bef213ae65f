//! What quantised KV pages cost and save on the emulated GPU, counted: the same launches, little more than half the bytes.
#![cfg(feature = "engine")]
#[path = "common/models.rs"]
mod models;

use kvick::backend::{KvType, KvTypes};
use kvick::{Engine, EngineConfig, Prompt, Request};
use kvick_emulator::KernelCounters;

const LAYERS: u64 = 30;
const KV_HEADS: u64 = 3;
const HEAD_DIM: u64 = 64;
const PROMPT: usize = 400;
const DECODES: u64 = 2;

/// Launches of a decoded token, and what decode attention did for one.
fn decode(types: KvTypes) -> (u64, KernelCounters) {
    let config = EngineConfig {
        device: "emulator".into(),
        kv_types: Some(types),
        kv_memory: Some(64 << 20),
        context: Some(512),
        ..EngineConfig::default()
    };
    let engine = Engine::load_path(&models::path("smollm2"), &config).unwrap();
    let ids: Vec<u32> = (0..PROMPT as u32).map(|i| (i * 7919 + 17) % 49_152).collect();
    let run = |tokens: usize| {
        let request =
            Request { max_tokens: tokens, ignore_eos: true, ..Request::new(Prompt::Ids(ids[..PROMPT].to_vec())) };
        kvick_emulator::reset_counters();
        assert_eq!(engine.complete(request).unwrap().ids.len(), tokens);
        kvick_emulator::counters()
    };
    // The prompt is in the cache from then on, but for its last token.
    run(1);
    let (few, many) = (run(1), run(1 + DECODES as usize));
    let launches = |counters: &[KernelCounters]| counters.iter().map(|c| c.launches).sum::<u64>();
    let attention = |counters: &[KernelCounters]| {
        counters.iter().find(|c| c.name.starts_with("attention_decode")).cloned().unwrap_or_default()
    };
    let (all, once) = (attention(&many), attention(&few));
    let per_token = KernelCounters {
        warp_instructions: (all.warp_instructions - once.warp_instructions) / DECODES,
        load_sectors: (all.load_sectors - once.load_sectors) / DECODES,
        ..all
    };
    ((launches(&many) - launches(&few)) / DECODES, per_token)
}

#[test]
fn codes_take_little_more_than_half_the_bytes() {
    let (launches, floats) = decode(KvTypes::both(KvType::F16));
    assert_eq!(launches, 5 * LAYERS + 3, "launches of a decoded token");
    let least = |bytes_of_32: u64| 2 * LAYERS * KV_HEADS * PROMPT as u64 * HEAD_DIM / 32 * bytes_of_32;
    let traffic = |c: &KernelCounters| c.load_sectors * 32;
    assert!(traffic(&floats) >= least(64) && traffic(&floats) <= least(64) * 116 / 100, "f16: {floats:?}");
    for types in ["int8", "fp8", "k=int8,v=fp8"] {
        let (same, codes) = decode(types.parse().unwrap());
        assert_eq!(same, launches, "{types}: launches of a decoded token");
        // The pages are 17/32 of those of f16; queries, page tables and partial results are what they were.
        let bytes = traffic(&codes);
        assert!(bytes >= least(34) && bytes * 100 <= traffic(&floats) * 60, "{types}: {bytes} bytes: {codes:?}");
        // A byte takes more work than two: dequantisation.
        let work = codes.warp_instructions as f64 / floats.warp_instructions as f64;
        assert!(work <= 2.2, "{types}: {work:.2} times the warp instructions of f16");
        println!(
            "{types}: {} warp instructions and {bytes} bytes of decode attention a token; f16: {} and {}",
            codes.warp_instructions,
            floats.warp_instructions,
            traffic(&floats)
        );
    }
}
