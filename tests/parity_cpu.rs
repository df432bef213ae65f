//! The oracle backend against fp32 transformers on the real models.
mod common;
use common::reference::{Distance, cases};
use kvick::backend::{Backend, Float};
use kvick::cpu::Cpu;
use kvick::models::{Evaluator, LoadOptions, load};
use std::sync::Arc;

fn check(model: &str, names: &[&str]) {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Float::F16));
    let options = LoadOptions { context: Some(2048) };
    let model_ = load(&common::models::path(model), &backend, &options).unwrap();
    let mut evaluator = Evaluator::new(Arc::new(model_), 2048, 64).unwrap();
    let mut distance = Distance::default();
    for case in cases(model, names) {
        distance.add(&case, &mut evaluator);
        eprintln!(
            "{model} {}: mean KL {:.2e}, p99 {:.2e}, largest difference {}",
            case.name,
            distance.mean(),
            distance.percentile(0.99),
            distance.largest_logit_difference
        );
    }
    distance.assert_close(model);
}

#[test]
fn smollm2() {
    check("smollm2", &["france", "multilingual", "chat", "kjv_512"]);
}

#[test]
fn gemma3() {
    check("gemma3", &["france", "multilingual"]);
}
