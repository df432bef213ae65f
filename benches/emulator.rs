//! How fast the emulated GPU executes: warp instructions a second of CPU time, checks on, for projections of one row.
//!
//! `cargo bench --bench emulator` prints a JSON object per kernel. The bound that the README's figures rest on is 120
//! million a second on the Q8_0 projection; CPU time is what counts, so that a busy machine and the number of worker
//! threads change little.
#[path = "../tests/common/mod.rs"]
mod common;

use common::batch::{Seq, Shape, Step};
use common::device::Device;
use common::rng::Rng;
use common::tensors::weight;
use kvick::backend::{DType, Float, Fuse, LinearResidual};

/// Width of the projection: rows and columns.
const WIDTH: usize = 1536;
/// CPU time to measure for, in seconds.
const LONG_ENOUGH: f64 = 2.0;
/// Least warp instructions a second on Q8_0.
const BOUND: f64 = 120e6;

/// CPU time of this process in user mode, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux's /proc");
    // The name, in parentheses, may hold spaces; `utime` is the 12th field after it, in ticks of 10 ms.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(11).and_then(|t| t.parse::<f64>().ok()).expect("utime") / 100.0
}

fn instructions() -> u64 {
    kvick_emulator::counters().iter().map(|k| k.warp_instructions).sum()
}

/// Warp instructions a second of CPU time of the projection by a matrix of `dtype`.
fn rate(device: &Device, dtype: DType) -> f64 {
    let mut rng = Rng::new(1);
    let shape = Shape { width: WIDTH, ff: 64, heads: 2, kv_heads: 1, head_dim: 64, vocab: 100 };
    let step = Step::random(&mut rng, shape, &[Seq { new: 1, cached: 0 }], 16, &[None]);
    let matrix = weight(&mut rng, "projection", dtype, WIDTH, WIDTH);
    let (batch, x) = (step.load(device), device.upload(&rng.normals(WIDTH, 2.0)));
    let input = device.upload_floats(&rng.normals(WIDTH, 1.0));
    let weight = device.weight(std::slice::from_ref(&matrix), Fuse::Concat);
    let op = LinearResidual { batch: &batch, input: &input, weight: &weight, bias: None, post_norm: None, x: &x };
    let run = || {
        device.backend.linear_residual(&op).expect("a launch");
        device.backend.finish().expect("no fault");
    };
    run();
    let (start, before) = (cpu_seconds(), instructions());
    while cpu_seconds() - start < LONG_ENOUGH {
        (0..20).for_each(|_| run());
    }
    (instructions() - before) as f64 / (cpu_seconds() - start)
}

fn main() {
    let device = Device::open("emulator", Float::F16);
    for dtype in [DType::Q8_0, DType::Q4_1, DType::Q4_K, DType::F16] {
        let rate = rate(&device, dtype);
        let mut line = serde_json::json!({
            "kernel": format!("linear_residual {dtype:?}"),
            "warp_instructions_per_cpu_second": rate.round(),
        });
        if dtype == DType::Q8_0 {
            line["bound"] = serde_json::json!(BOUND);
            line["ratio_to_bound"] = serde_json::json!((rate / BOUND * 100.0).round() / 100.0);
        }
        println!("{line}");
    }
}
