//! What a token costs, counted: launches, instructions and traffic of SmolLM2 on the emulated GPU stay within bounds.
//!
//! The counts are the same in every run, so a bound here is a promise: who makes a kernel worse sees it, who makes one
//! better tightens the bound.
#![cfg(feature = "engine")]
#[path = "common/models.rs"]
mod models;

use kvick::{Engine, EngineConfig, Prompt, Request};
use kvick_emulator::KernelCounters;

const LAYERS: u64 = 30;
const PROMPT: usize = 100;

/// Counters of a prompt of 100 tokens and `tokens` of answer; `seed` makes a prompt that no other shares a prefix with.
fn run(engine: &Engine, seed: u32, tokens: usize) -> Vec<KernelCounters> {
    let ids = (0..PROMPT as u32).map(|i| (i * 7919 + seed * 104_729 + 17) % 49_152).collect();
    let request = Request { max_tokens: tokens, ignore_eos: true, ..Request::new(Prompt::Ids(ids)) };
    kvick_emulator::reset_counters();
    let done = engine.complete(request).unwrap();
    assert_eq!(done.ids.len(), tokens);
    kvick_emulator::counters()
}

fn sum(counters: &[KernelCounters], of: impl Fn(&KernelCounters) -> u64) -> u64 {
    counters.iter().map(of).sum()
}

fn kernel<'a>(counters: &'a [KernelCounters], start: &str) -> &'a KernelCounters {
    let found: Vec<_> = counters.iter().filter(|c| c.name.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "kernels called {start}*: {:?}", counters.iter().map(|c| &c.name).collect::<Vec<_>>());
    found[0]
}

#[test]
fn work_of_a_token_stays_within_bounds() {
    let path = models::path("smollm2");
    let config = EngineConfig { device: "emulator".into(), ..EngineConfig::default() };
    let engine = Engine::load_path(&path, &config).unwrap();
    let prefill = run(&engine, 1, 1);
    let with_decodes = run(&engine, 2, 5);

    // Five launches a layer, and embedding, LM head, sampling.
    let launches = sum(&with_decodes, |c| c.launches) - sum(&prefill, |c| c.launches);
    assert_eq!(launches, 4 * (5 * LAYERS + 3), "launches of four decoded tokens");

    let decode = (sum(&with_decodes, |c| c.warp_instructions) - sum(&prefill, |c| c.warp_instructions)) / 4;
    assert!(decode <= 21_500_000, "{decode} warp instructions a decoded token");
    let prompt = sum(&prefill, |c| c.warp_instructions) / PROMPT as u64;
    assert!(prompt <= 460_000, "{prompt} warp instructions a token of a prompt of {PROMPT}");

    // The LM head reads its matrix once: 34 bytes for 32 weights. What is over is x, which each block reads for itself.
    let head = kernel(&prefill, "norm_lm_head");
    let matrix = 49_152 * 576 / 32 * 34;
    let traffic = head.load_sectors * 32;
    assert!(traffic >= matrix && traffic * 100 <= matrix * 107, "LM head: {traffic} bytes in sectors for {matrix}");
    assert_eq!(head.store_bytes, 49_152 * 4, "each logit is written once");

    // K and V and the rows of x are written in whole sectors.
    for name in ["qkv", "linear_residual", "attention_decode", "attention_prefill", "gemm", "norm_rows"] {
        let k = kernel(&with_decodes, name);
        assert!(
            k.store_bytes * 100 >= k.store_sectors * 32 * 99,
            "{name}: {} bytes in {} sectors",
            k.store_bytes,
            k.store_sectors
        );
    }
    // A tile of 128 tokens for 100, and nothing else wasted on tensor cores.
    let useful = PROMPT as u64 * LAYERS * (960 * 576 + 576 * 576 + 3072 * 576 + 576 * 1536);
    let gemm = kernel(&prefill, "gemm").tensor_macs;
    assert!(gemm * 100 <= useful * 140, "projections of the prompt: {gemm} multiply-adds for {useful}");
}
