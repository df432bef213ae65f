//! The complete comparison with fp32 transformers: all reference cases and all chunks of perplexity, both real models.
//!
//! `cargo bench --bench parity -- DEVICE [f16|bf16] [MODEL]...` prints a JSON object per model.
#[path = "../tests/common/mod.rs"]
mod common;

use common::device::Device;
use common::reference::{Distance, cases, text};
use kvick::backend::Float;
use kvick::models::{Evaluator, LoadOptions, load};
use kvick::text::{Spelling, Tokenizer};
use std::sync::Arc;

const CASES: [&str; 5] = ["france", "multilingual", "chat", "kjv_512", "kjv_1536"];

fn measure(device: &Device, model: &str) -> serde_json::Value {
    let path = common::models::path(model);
    let loaded = load(&path, &device.backend, &LoadOptions { context: Some(2048) }).unwrap();
    let mut evaluator = Evaluator::new(Arc::new(loaded), device.float(), 2048, 64).unwrap();
    let mut distance = Distance::default();
    for case in cases(model, &CASES) {
        distance.add(&case, &mut evaluator);
    }
    let tokenizer = Tokenizer::open(&path).unwrap();
    let ids = tokenizer.encode(&text(), Spelling::Text).unwrap();
    let result = evaluator.perplexity(&ids, tokenizer.bos_rule(), 512, None, |_| {}).unwrap();
    serde_json::json!({
        "model": model,
        "device": device.backend.name(),
        "dtype": format!("{:?}", device.float()),
        "positions": distance.kl.len(),
        "mean_kl": distance.mean(),
        "p99_kl": distance.percentile(0.99),
        "largest_logit_difference": distance.largest_logit_difference,
        "first_token_disagreements": distance.disagreements,
        "perplexity": result.perplexity,
        "scored": result.scored,
    })
}

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let device = args.first().map_or("cpu", String::as_str);
    let float = if args.iter().any(|a| a == "bf16") { Float::BF16 } else { Float::F16 };
    let device = Device::open(device, float);
    for model in ["smollm2", "gemma3"] {
        if args.len() < 3 || args[2..].iter().any(|a| a == model) {
            println!("{}", measure(&device, model));
        }
    }
}
