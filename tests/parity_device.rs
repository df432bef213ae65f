//! The backend under test against fp32 transformers on the real models: short cases. A process of its own, as each device
//! has; `benches/parity.rs` runs all cases.
#![cfg(feature = "engine")]
mod common;
use common::device;
use common::reference::{Distance, cases, tiny};
use kvick::backend::Float;
use kvick::models::{Evaluator, LoadOptions, load};
use std::sync::Arc;

fn check(model: &str, names: &[&str], float: Float) {
    let device = device::under_test(float);
    let options = LoadOptions { context: Some(512) };
    let loaded = load(&common::models::path(model), &device.backend, &options).unwrap();
    let mut evaluator = Evaluator::new(Arc::new(loaded), float, 512, 64).unwrap();
    let mut distance = Distance::default();
    for case in cases(model, names) {
        distance.add(&case, &mut evaluator);
    }
    distance.assert_close(&format!("{model} on {}", device.name), float);
}

#[test]
fn smollm2() {
    check("smollm2", &["france", "multilingual"], Float::F16);
}

#[test]
fn gemma3() {
    check("gemma3", &["france"], Float::F16);
}

#[test]
fn smollm2_bf16() {
    check("smollm2", &["france"], Float::BF16);
}

#[test]
fn checkpoints() {
    for float in [Float::F16, Float::BF16] {
        let device = device::under_test(float);
        tiny("llama").assert_close(&device);
        tiny("gemma3").assert_close(&device);
    }
}
