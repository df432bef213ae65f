//! A load keeps one copy of the weights: the mapped file's pages are given back as they are copied.
#![cfg(all(feature = "engine", target_os = "linux"))]
mod common;
use common::device::Device;
use kvick::backend::Float;
use kvick::models::{LoadOptions, load_file};

/// A field of `/proc/self/status` in bytes.
fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn weights_are_in_memory_once() {
    let path = common::models::path("smollm2");
    let size = std::fs::metadata(&path).unwrap().len() as usize;
    let device = Device::open("cpu", Float::F16);
    let file = kvick::weights::open(&path).unwrap();
    let before = status("VmRSS:");
    let model = load_file(&file, &device.backend, &LoadOptions { context: Some(512) }).unwrap();
    let grown = status("VmRSS:") - before;
    assert!(grown <= size * 5 / 4, "{grown} bytes for a model of {size}");
    // What was given back is still readable.
    let tensor = file.tensor("token_embd.weight").unwrap();
    assert!(tensor.bytes.iter().any(|&b| b != 0));
    assert_eq!(model.config().layers, 30);
}
