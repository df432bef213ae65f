//! Embedding, projections and what is fused with them, on every backend against the oracle: every storage type, both compute
//! types, few rows and many, shapes that fill no tile.
#![cfg(feature = "engine")]
mod common;

use common::device::{Device, all};
use common::products::{done, embed, linear_residual, norm_gate_up, norm_lm_head, qkv, shape, step};
use common::rng::Rng;
use common::tensors::weight;
use kvick::backend::{Activation, DType, Float, Fuse, KvType, KvTypes, NormGateUp};
use kvick::error::Error;

/// Tokens of a step: both ways, and both sides of every tile.
const TOKENS: [usize; 12] = [1, 2, 3, 5, 8, 9, 17, 32, 33, 64, 129, 150];

fn both() -> [Vec<Device>; 2] {
    [Float::F16, Float::BF16].map(all)
}

#[test]
fn embed_is_exact() {
    for devices in both() {
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            embed(&devices, 100 + i as u64, dtype);
        }
    }
}

#[test]
fn output_and_down_projection() {
    for devices in both() {
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            for (j, tokens) in TOKENS.into_iter().enumerate().filter(|(j, _)| (i + j) % 3 == 0) {
                linear_residual(&devices, 1000 + 100 * i as u64 + j as u64, dtype, tokens);
            }
        }
    }
}

#[test]
fn gate_and_up_projection() {
    for devices in both() {
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            for (j, tokens) in TOKENS.into_iter().enumerate().filter(|(j, _)| (i + j) % 4 == 1) {
                norm_gate_up(&devices, 3000 + 100 * i as u64 + j as u64, dtype, tokens);
            }
        }
    }
}

#[test]
fn final_norm_and_head() {
    for devices in both() {
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            for (j, sequences) in [1, 4, 8, 20, 40].into_iter().enumerate().filter(|(j, _)| (i + j) % 2 == 0) {
                norm_lm_head(&devices, 5000 + 100 * i as u64 + j as u64, dtype, sequences);
            }
        }
    }
}

#[test]
fn qkv_projection() {
    use DType::*;
    let mixes = [[F32; 3], [Q4_1; 3], [Q5_0, Q5_0, Q8_0], [Q4_K, Q4_K, Q6_K], [Q8_0, F16, Q4_0], [BF16, Q6_K, F32]];
    for devices in both() {
        for (i, dtypes) in mixes.into_iter().enumerate() {
            for (j, tokens) in TOKENS.into_iter().enumerate().filter(|(j, _)| (i + j) % 4 == 0) {
                let types = devices[0].float().into();
                qkv(&devices, 7000 + 100 * i as u64 + j as u64, dtypes, tokens, (i + j) % 8 == 0, types);
            }
        }
    }
}

/// K and V quantised on their way to the pages: rows by the warp and by the tile, with and without QK-norm.
#[test]
fn qkv_projection_to_codes() {
    let dtypes = [[DType::Q8_0; 3], [DType::F16, DType::Q4_K, DType::Q6_K]];
    for devices in both() {
        for (i, tokens) in TOKENS.into_iter().enumerate() {
            let kinds = [devices[0].float().into(), KvType::Int8, KvType::Fp8];
            for (j, &k) in kinds.iter().enumerate() {
                let v = kinds[1 + (i + j) % 2];
                let seed = 7600 + 10 * i as u64 + j as u64;
                qkv(&devices, seed, dtypes[i % 2], tokens, (i + j) % 3 == 0, KvTypes { k, v });
            }
        }
    }
}

/// Up to eight rows, a token's bits are the same alone as among others.
#[test]
fn few_rows_do_not_touch_each_other() {
    let devices = all(Float::F16);
    let mut rng = Rng::new(9000);
    let (width, ff, tokens) = (576, 80, 7);
    let parts = ["gate", "up"].map(|name| weight(&mut rng, name, DType::Q4_1, ff, width));
    let (x, norm) = (rng.normals(tokens * width, 3.0), rng.normals(width, 1.0));
    for device in &devices {
        let matrix = device.weight(&parts, Fuse::Interleave);
        let mut run = |x: &[f32]| -> Vec<u16> {
            let count = x.len() / width;
            let step = step(&mut rng, shape(width), count);
            let (batch, out) = (step.load(device), device.poisoned(count * ff * 2));
            let (x, norm) = (device.upload(x), device.upload(&norm));
            let activation = Activation::Silu;
            let op =
                NormGateUp { batch: &batch, x: &x, norm: &norm, eps: 1e-5, weight: &matrix, activation, out: &out };
            done(device, "norm_gate_up", device.backend.norm_gate_up(&op));
            device.download(&out, count * ff)
        };
        let together = run(&x);
        for t in 0..tokens {
            let alone = run(&x[t * width..][..width]);
            assert_eq!(alone, together[t * ff..][..ff], "{}: token {t}", device.name);
        }
    }
}

/// A product beyond f16 is named once, and the next step starts clean.
#[test]
fn an_overflow_of_f16_is_reported() {
    for (device, tokens) in all(Float::F16).iter().flat_map(|d| [(d, 2), (d, 40)]) {
        let mut rng = Rng::new(9100);
        let (width, ff) = (64, 16);
        let step = step(&mut rng, shape(width), tokens);
        let batch = step.load(device);
        let parts = ["gate", "up"].map(|name| weight(&mut rng, name, DType::F16, ff, width));
        let matrix = device.weight(&parts, Fuse::Interleave);
        let x = device.upload(&rng.normals(tokens * width, 1.0));
        let out = device.poisoned(tokens * ff * 2);
        let mut run = |scale: f32| {
            let norm = device.upload(&rng.normals(width, scale));
            let activation = Activation::Silu;
            let op =
                NormGateUp { batch: &batch, x: &x, norm: &norm, eps: 1e-5, weight: &matrix, activation, out: &out };
            device.backend.norm_gate_up(&op).and_then(|()| device.backend.finish())
        };
        assert!(matches!(run(2000.0), Err(Error::Overflow(_))), "{}: {tokens} tokens", device.name);
        assert!(run(1.0).is_ok(), "{}: {tokens} tokens", device.name);
    }
}

/// What kernels cannot do is refused in words when the model is loaded.
#[test]
fn unfit_matrices_are_refused() {
    for device in &all(Float::F16)[1..] {
        let mut rng = Rng::new(9200);
        let narrow = weight(&mut rng, "narrow", DType::F16, 16, 12);
        assert!(matches!(device.backend.load_weight(&[narrow], Fuse::Concat), Err(Error::Unsupported(_))));
        let a = weight(&mut rng, "a", DType::F16, 16, 64);
        let b = weight(&mut rng, "b", DType::Q8_0, 16, 64);
        assert!(matches!(device.backend.load_weight(&[a, b], Fuse::Interleave), Err(Error::Shape { .. })));
        assert!(matches!(device.backend.load_weight(&[], Fuse::Concat), Err(Error::Shape { .. })));
    }
}
