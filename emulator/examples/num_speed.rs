//! Times the numerics on this machine: nanoseconds for one warp operation, best of several runs.
//!
//! `cargo run --release -p kvick-emulator --example num_speed`

use kvick_emulator::num::mma::{Fragments, Mma};
use kvick_emulator::num::{Lanes, Rn, approx, bits, half, lanes};
use std::hint::black_box;
use std::time::Instant;

/// Best time of `f` in nanoseconds.
fn time(mut f: impl FnMut()) -> f64 {
    const CALLS: u32 = 50_000;
    let run = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| f());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..10).map(|_| run(&mut f)).fold(f64::INFINITY, f64::min)
}

/// Applies `f` to each lane, compiled as the executor's handlers are.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn each_lane(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes, f: impl Fn(u32, u32, u32) -> u32) {
    for l in 0..32 {
        d[l] = f(a[l], b[l], c[l]);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn each_lane(a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes, f: impl Fn(u32, u32, u32) -> u32) {
    for l in 0..32 {
        d[l] = f(a[l], b[l], c[l]);
    }
}

fn each(name: &str, f: impl Fn(u32, u32, u32) -> u32 + Copy) {
    let (a, b, c) = ([0x3c01_3c02; 32], [0x4100_3a00; 32], [0x3800_0204; 32]);
    let mut d = [0; 32];
    // SAFETY: example for machines with AVX2; checked in `main`.
    #[allow(unused_unsafe, reason = "a plain function elsewhere")]
    let best = time(|| unsafe { each_lane(black_box(&a), black_box(&b), black_box(&c), black_box(&mut d), f) });
    println!("{name:32} {best:7.1} ns");
}

fn registers(name: &str, f: impl Fn(&Lanes, &Lanes, &Lanes) -> Lanes) {
    let x = [0x3c01_3c02; 32];
    let best = time(|| _ = black_box(f(black_box(&x), black_box(&x), black_box(&x))));
    println!("{name:32} {best:7.1} ns");
}

fn tensor(form: &str) {
    let Some(mma) = Mma::parse(&form.split('.').collect::<Vec<_>>()) else { return println!("{form}: no such form") };
    let x = [0x3c00_3c00; 32];
    let f = Fragments { a: [&x; 4], b: [&x; 2], c: [&x; 4] };
    let mut d = [[0; 32]; 4];
    let best = time(|| mma.run(black_box(&f), black_box(&mut d)));
    println!("{form:32} {best:7.1} ns");
}

fn main() {
    #[cfg(target_arch = "x86_64")]
    assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "needs AVX2 and FMA");
    let only = std::env::args().nth(1);
    for form in [
        "m16n8k16.row.col.f32.f16.f16.f32",
        "m16n8k16.row.col.f32.bf16.bf16.f32",
        "m16n8k16.row.col.f16.f16.f16.f16",
        "m16n8k8.row.col.f32.tf32.tf32.f32",
        "m16n8k32.row.col.f32.e4m3.e4m3.f32",
        "m16n8k32.row.col.s32.s8.s8.s32",
        "m16n8k16.row.col.s32.u8.s8.s32",
    ] {
        if only.as_deref().is_none_or(|o| form.contains(o)) {
            tensor(form);
        }
    }
    if only.is_some() {
        return;
    }
    use half::Bf16;
    each("add.s32", |a, b, _| a.wrapping_add(b));
    let table = black_box(0xea);
    each("lop3.b32", move |a, b, c| bits::lop3(a, b, c, table));
    each("bfe.u32", bits::bfe_u32);
    each("shf.r.wrap.b32", bits::shf_r::<true>);
    each("cvt.f32.f16", |a, _, _| half::f16_to_f32(a as u16).to_bits());
    each("cvt.rn.f16.f32", |a, _, _| u32::from(half::f32_to_f16::<Rn>(f32::from_bits(a))));
    each("cvt.rn.bf16x2.f32", |a, b, _| half::pack::<Bf16>(f32::from_bits(a), f32::from_bits(b)));
    registers("fma.rn.f16x2", lanes::fma_f16x2);
    registers("fma.rn.bf16x2", lanes::fma_bf16x2);
    registers("prmt.b32", lanes::prmt);
    each("ex2.approx.ftz.f32", |a, _, _| approx::ex2::<true>(f32::from_bits(a)).to_bits());
    each("lg2.approx.f32", |a, _, _| approx::lg2::<false>(f32::from_bits(a)).to_bits());
    each("sin.approx.f32", |a, _, _| approx::sin::<false>(f32::from_bits(a)).to_bits());
    each("tanh.approx.f32", |a, _, _| approx::tanh(f32::from_bits(a)).to_bits());
    each("rsqrt.approx.f32", |a, _, _| approx::rsqrt::<false>(f32::from_bits(a)).to_bits());
}
