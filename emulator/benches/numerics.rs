//! Times the numerics on this machine: nanoseconds for one warp operation, best of several runs.
//!
//! `cargo bench -p kvick-emulator --bench numerics -- [FORM]`; with `FORM`, only the `mma` forms whose name has it.
use kvick_emulator::num::mma::{Fragments, Mma};
use kvick_emulator::num::{Lanes, lanes};
use std::hint::black_box;
use std::time::Instant;

const MMA: [&str; 6] = [
    "m16n8k16.row.col.f32.f16.f16.f32",
    "m16n8k16.row.col.f32.bf16.bf16.f32",
    "m16n8k16.row.col.f16.f16.f16.f16",
    "m16n8k8.row.col.f32.tf32.tf32.f32",
    "m16n8k32.row.col.f32.e4m3.e4m3.f32",
    "m16n8k32.row.col.s32.s8.s8.s32",
];

/// Prints the best time of `f`.
fn time(name: &str, mut f: impl FnMut()) {
    const CALLS: u32 = 20_000;
    let run = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| f());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    let best = (0..10).map(|_| run(&mut f)).fold(f64::INFINITY, f64::min);
    println!("{name:44} {best:7.1} ns");
}

/// `form` with columns that differ, and with columns that are alike.
fn tensor(form: &str) {
    let mma = Mma::parse(&form.split('.').collect::<Vec<_>>()).expect("a form of mma");
    let alike = [0x3c00_3c00; 32];
    let apart: Lanes = std::array::from_fn(|lane| 0x3c00_3c00 + lane as u32);
    for (name, b) in [("", &apart), (", columns alike", &alike)] {
        let f = Fragments { a: [&apart; 4], b: [b; 2], c: [&alike; 4] };
        let mut d = [[0; 32]; 4];
        time(&format!("mma {form}{name}"), || mma.run(black_box(&f), black_box(&mut d)));
    }
}

fn main() {
    // Cargo adds `--bench`.
    let only = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    MMA.into_iter().filter(|form| only.as_deref().is_none_or(|o| form.contains(o))).for_each(tensor);
    if only.is_some() {
        return;
    }
    // 1.0 and 1.001 are exact in a sum with a product of theirs; thirds are not.
    let (exact, thirds): (Lanes, Lanes) = ([0x3c00_3c01; 32], [0x3555_3555; 32]);
    time("fma.rn.f16x2, exact", || _ = black_box(lanes::fma_f16x2(black_box(&exact), &exact, &exact)));
    time("fma.rn.f16x2, rounded", || _ = black_box(lanes::fma_f16x2(black_box(&thirds), &thirds, &exact)));
    time("fma.rn.bf16x2", || _ = black_box(lanes::fma_bf16x2(black_box(&exact), &exact, &exact)));
    time("sub.rn.f16x2", || _ = black_box(lanes::sub_f16x2(black_box(&exact), &thirds)));
    time("mul.rn.f16x2", || _ = black_box(lanes::mul_f16x2(black_box(&exact), &thirds)));
    time("prmt.b32", || _ = black_box(lanes::prmt(black_box(&exact), &thirds, &exact)));
}
