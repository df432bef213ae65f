//! The oracle backend against fp32 transformers on the real models.
#![cfg(feature = "engine")]
mod common;
use common::device::Device;
use common::reference::{Distance, cases};
use kvick::backend::Float;
use kvick::models::{Evaluator, LoadOptions, load};
use std::sync::Arc;

fn check(model: &str, names: &[&str], float: Float) {
    let device = Device::open("cpu", float);
    let loaded = load(&common::models::path(model), &device.backend, &LoadOptions { context: Some(512) }).unwrap();
    let mut evaluator = Evaluator::new(Arc::new(loaded), float, 512, 64).unwrap();
    let mut distance = Distance::default();
    for case in cases(model, names) {
        distance.add(&case, &mut evaluator);
    }
    distance.assert_close(&format!("{model} on cpu"), float);
}

#[test]
fn smollm2() {
    check("smollm2", &["france", "multilingual", "chat"], Float::F16);
}

#[test]
fn gemma3() {
    check("gemma3", &["france", "multilingual"], Float::F16);
}

#[test]
fn smollm2_bf16() {
    check("smollm2", &["france", "chat"], Float::BF16);
}

#[test]
fn gemma3_bf16() {
    check("gemma3", &["france"], Float::BF16);
}
