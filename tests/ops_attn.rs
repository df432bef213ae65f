//! Paged attention on every backend: against the oracle, and against itself where the result must not depend on where
//! pages lie, how the keys are split, or how a prompt is cut.
#![cfg(feature = "engine")]
mod common;

use common::attention::{Kind, against_oracle, cut_prompt, moved_pages, random_kind, random_seqs, split_keys};
use common::batch::Seq;
use common::device::all;
use common::rng::Rng;
use kvick::backend::{Float, KvType, KvTypes};

fn random_cases(float: Float, seeds: std::ops::Range<u64>) {
    let devices = all(float);
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let kind = random_kind(&mut rng, float);
        let seqs = random_seqs(&mut rng);
        against_oracle(&devices, seed, kind, &seqs);
    }
}

#[test]
fn attention_f16() {
    random_cases(Float::F16, 0..40);
}

#[test]
fn attention_bf16() {
    random_cases(Float::BF16, 1000..1020);
}

/// Every head_dim and page size with small, large and two-tile groups, and with every pair of types, whatever the random
/// cases drew.
#[test]
fn attention_of_every_shape() {
    let kinds = [KvType::F16, KvType::Int8, KvType::Fp8];
    let devices = all(Float::F16);
    for (i, head_dim) in [64, 96, 128, 256].into_iter().enumerate() {
        for (j, page_tokens) in [8, 16, 32].into_iter().enumerate() {
            for (n, &k) in kinds.iter().enumerate() {
                let kind = Kind {
                    float: Float::F16,
                    types: KvTypes { k, v: kinds[(i + j + n) % 3] },
                    head_dim,
                    kv_heads: 2,
                    group: [1, 5, 8, 9][(i + j + n) % 4],
                    page_tokens,
                    window: None,
                    softcap: None,
                };
                let seqs = [Seq { new: 1, cached: 70 }, Seq { new: 19, cached: 50 }, Seq { new: 1, cached: 0 }];
                against_oracle(&devices, 2000 + (9 * i + 3 * j + n) as u64, kind, &seqs);
            }
        }
    }
}

#[test]
fn where_pages_lie_does_not_matter() {
    for device in &all(Float::F16) {
        for seed in 3000..3006 {
            let mut rng = Rng::new(seed);
            let kind = random_kind(&mut rng, Float::F16);
            moved_pages(device, seed, kind, &random_seqs(&mut rng));
        }
    }
}

#[test]
fn how_keys_are_split_does_not_matter() {
    for device in &all(Float::F16)[1..] {
        let (float, mixed) = (Float::F16.into(), KvTypes { k: KvType::Int8, v: KvType::Fp8 });
        for (seed, head_dim, window, types) in [
            (4000, 64, None, float),
            (4001, 128, Some(1500), float),
            (4002, 256, None, float),
            (4003, 128, None, mixed),
        ] {
            let kind = Kind {
                float: Float::F16,
                types,
                head_dim,
                kv_heads: 1,
                group: 4,
                page_tokens: 16,
                window,
                softcap: None,
            };
            split_keys(device, seed, kind);
        }
    }
}

#[test]
fn how_a_prompt_is_cut_does_not_matter() {
    for device in &all(Float::F16)[1..] {
        for seed in 5000..5006 {
            let mut rng = Rng::new(seed);
            let kind = random_kind(&mut rng, Float::F16);
            let (cached, new) = (rng.below(100), 2 + rng.below(80));
            cut_prompt(device, seed, kind, cached, new);
        }
    }
}
