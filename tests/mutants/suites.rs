//! The checks that a mutated kernel must fail: those of the property tests, over the instances that are compiled for it.
use crate::common::attention::{Kind, against_oracle, cut_prompt, moved_pages, split_keys};
use crate::common::batch::Seq;
use crate::common::device::Device;
use crate::common::sampling::{against_reference, greedy};
use kvick::backend::Float;
use kvick::device::{Gpu, select};
use kvick::launch::Cuda;
use std::sync::Arc;

/// Drops instances of other compute types and head sizes: they take most of the compiler's time.
pub fn only_tested_instances(source: &str) -> String {
    let tested = |line: &&str| !line.starts_with("INSTANCE(") || line.contains("_f16_d64,");
    source.lines().filter(tested).flat_map(|line| [line, "\n"]).collect()
}

/// Runs the checks of `kernels/{file}.cu` with this PTX; panics where one fails.
pub fn run(file: &str, ptx: &str) {
    let tested = std::env::var("KVICK_TEST_DEVICE").unwrap_or_else(|_| "emulator".into());
    let gpu = Gpu::open(&select(&tested).expect("a device").0).expect("an open device");
    let file = kvick::device::PTX.iter().map(|p| p.0).find(|stem| *stem == file).expect("a kernel file");
    gpu.replace_ptx(file, ptx.into());
    let cuda = Cuda::new(gpu, Float::F16).expect("a backend");
    let devices = [Device::open("cpu", Float::F16), Device { name: tested, backend: Arc::new(cuda) }];
    match file {
        "attention_decode" => decode(&devices),
        "attention_prefill" => prefill(&devices),
        "sample" => sample(&devices),
        _ => panic!("no checks for {file}"),
    }
}

const KIND: Kind =
    Kind { float: Float::F16, head_dim: 64, kv_heads: 2, group: 3, page_tokens: 16, window: None, softcap: None };

fn decode(devices: &[Device]) {
    let seqs: Vec<Seq> = [0, 6, 40, 131, 255].map(|cached| Seq { new: 1, cached }).to_vec();
    against_oracle(devices, 1, KIND, &seqs);
    against_oracle(devices, 2, Kind { window: Some(33), page_tokens: 8, ..KIND }, &seqs);
    against_oracle(devices, 3, Kind { softcap: Some(2.0), group: 8, page_tokens: 32, ..KIND }, &seqs);
    moved_pages(&devices[1], 4, KIND, &seqs);
    split_keys(&devices[1], 5, Kind { kv_heads: 1, ..KIND });
}

fn prefill(devices: &[Device]) {
    let seqs = [Seq { new: 75, cached: 0 }, Seq { new: 9, cached: 200 }, Seq { new: 40, cached: 29 }];
    against_oracle(devices, 1, KIND, &seqs);
    against_oracle(devices, 2, Kind { window: Some(33), page_tokens: 8, ..KIND }, &seqs);
    against_oracle(devices, 3, Kind { softcap: Some(2.0), group: 8, page_tokens: 32, ..KIND }, &seqs);
    moved_pages(&devices[1], 4, KIND, &seqs);
    cut_prompt(&devices[1], 5, KIND, 21, 70);
}

fn sample(devices: &[Device]) {
    (0..24).for_each(|seed| against_reference(devices, seed));
    (100..106).for_each(|seed| greedy(&devices[1], seed));
}
