//! The checks that a mutated kernel must fail: those of the property tests, over the instances that are compiled for it.
use crate::common::attention::{Kind, against_oracle, cut_prompt, moved_pages, split_keys};
use crate::common::batch::Seq;
use crate::common::device::Device;
use crate::common::pack::{Case, against_description};
use crate::common::products;
use crate::common::sampling::{against_reference, greedy};
use kvick::backend::{DType, Float, KvType, KvTypes, Packing, Packings};
use kvick::device::{Gpu, select};
use kvick::launch::Cuda;
use std::sync::Arc;

/// Drops instances of other compute types, head sizes and weight types: they take most of the compiler's time.
pub fn only_tested_instances(source: &str) -> String {
    let tested = |line: &&str| {
        let text = line.trim_start();
        let other = |start: &str, kept: &str| text.starts_with(start) && !text.contains(kept);
        let instance = other("INSTANCE(", "_f16_d64,") && other("INSTANCE(", "_f16, ");
        let instance = instance || other("ENTRIES(", "kQ4_1") || other("ENTRY(q", "kQ4_1");
        let case = other("case k", "kQ4_1") && text.contains("gemv_part<");
        !instance && !case
    };
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
        "embed" => (1..4).for_each(|seed| products::embed(&devices, seed, DType::Q4_1)),
        // Few rows, and more than one tile-row a block.
        "linear_residual" => (1..17).for_each(|seed| linear_residual(&devices, seed, 1 + seed as usize % 8)),
        "norm_gate_up" => [1, 3, 8, 5].iter().zip(1..).for_each(|(&t, seed)| norm_gate_up(&devices, seed, t)),
        "norm_lm_head" => (1..7).for_each(|seed| products::norm_lm_head(&devices, seed, DType::Q4_1, 4)),
        "qkv" => [1, 3, 8, 5, 2, 7].iter().zip(1..).for_each(|(&t, seed)| qkv(&devices, seed, t, false)),
        // Many rows.
        "gemm" | "post_norm" => {
            [9, 33, 150, 70, 21, 40, 12, 80].iter().zip(1..).for_each(|(&t, seed)| linear_residual(&devices, seed, t));
        }
        "norm_rows" => [9, 40, 17].iter().zip(1..).for_each(|(&t, seed)| norm_gate_up(&devices, seed, t)),
        "qk_norm_rope" => {
            // With head_dim 64, the instance that is compiled.
            let seeds = (1..200).filter(|&seed| products::head_dim(seed) == 64).take(5);
            seeds.zip([1, 8, 40, 3, 20]).for_each(|(seed, t)| qkv(&devices, seed, t, true));
        }
        "page_pack" => page_pack(&devices),
        _ => panic!("no checks for {file}"),
    }
}

const KIND: Kind = Kind {
    float: Float::F16,
    types: KvTypes::both(KvType::F16),
    head_dim: 64,
    kv_heads: 2,
    group: 3,
    page_tokens: 16,
    window: None,
    softcap: None,
};

fn decode(devices: &[Device]) {
    let seqs: Vec<Seq> = [0, 6, 40, 131, 255].map(|cached| Seq { new: 1, cached }).to_vec();
    against_oracle(devices, 1, KIND, &seqs);
    against_oracle(devices, 2, Kind { window: Some(33), page_tokens: 8, ..KIND }, &seqs);
    against_oracle(devices, 3, Kind { softcap: Some(2.0), group: 8, page_tokens: 32, ..KIND }, &seqs);
    quantised(devices, &seqs);
    moved_pages(&devices[1], 4, KIND, &seqs);
    split_keys(&devices[1], 5, Kind { kv_heads: 1, ..KIND });
}

fn quantised(devices: &[Device], seqs: &[Seq]) {
    let kinds = [KvType::F16, KvType::Int8, KvType::Fp8];
    for (seed, k) in (10..).zip(kinds) {
        for (seed, v) in (10 * seed..).zip(kinds) {
            let page_tokens = [8, 16, 32][seed as usize % 3];
            against_oracle(
                devices,
                seed,
                Kind { types: KvTypes { k, v }, window: Some(70), page_tokens, ..KIND },
                seqs,
            );
        }
    }
}

fn prefill(devices: &[Device]) {
    let seqs = [Seq { new: 75, cached: 0 }, Seq { new: 9, cached: 200 }, Seq { new: 40, cached: 29 }];
    against_oracle(devices, 1, KIND, &seqs);
    against_oracle(devices, 2, Kind { window: Some(33), page_tokens: 8, ..KIND }, &seqs);
    against_oracle(devices, 3, Kind { softcap: Some(2.0), group: 8, page_tokens: 32, ..KIND }, &seqs);
    quantised(devices, &seqs);
    moved_pages(&devices[1], 4, KIND, &seqs);
    cut_prompt(&devices[1], 5, KIND, 21, 70);
}

fn sample(devices: &[Device]) {
    (0..24).for_each(|seed| against_reference(devices, seed));
    (100..106).for_each(|seed| greedy(&devices[1], seed));
}

/// Every packing of both halves, with every size of page.
fn page_pack(devices: &[Device]) {
    let packings = [Packing::Int8, Packing::Fp8, Packing::Int4];
    let sizes = [(64, 8), (96, 16), (256, 32), (128, 16)];
    for (seed, (packing, size)) in packings.into_iter().flat_map(|p| sizes.map(|size| (p, size))).enumerate() {
        let case = Case { packings: Packings::both(packing), ..Case::new(Float::F16, seed as u64, size) };
        against_description(devices, &case);
    }
}

fn linear_residual(devices: &[Device], seed: u64, tokens: usize) {
    products::linear_residual(devices, seed, DType::Q4_1, tokens);
}

fn norm_gate_up(devices: &[Device], seed: u64, tokens: usize) {
    products::norm_gate_up(devices, seed, DType::Q4_1, tokens);
}

fn qkv(devices: &[Device], seed: u64, tokens: usize, with_qk_norm: bool) {
    let kinds = [KvType::F16, KvType::Int8, KvType::Fp8];
    let types = KvTypes { k: kinds[seed as usize % 3], v: kinds[seed as usize / 3 % 3] };
    products::qkv(devices, seed, [DType::Q4_1; 3], tokens, with_qk_norm, types);
}
