//! Sampling on every backend: each draw against a scalar reference, and many draws against their distribution.
#![cfg(feature = "engine")]
mod common;

use common::device::all;
use common::rng::Rng;
use common::sampling::{Rows, against_reference, greedy, kept, random_params, random_row};
use kvick::backend::{Float, SampleParams};

#[test]
fn every_draw_is_that_of_the_reference() {
    let devices = all(Float::F16);
    (0..24).for_each(|seed| against_reference(&devices, seed));
}

#[test]
fn greedy_takes_the_lowest_id_of_the_largest() {
    for device in &all(Float::F16) {
        (100..106).for_each(|seed| greedy(device, seed));
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for device in &all(Float::F16) {
        let mut rng = Rng::new(200);
        let vocab = 999;
        let params: Vec<_> = (0..5).map(|_| random_params(&mut rng, vocab)).collect();
        let logits: Vec<f32> = (0..5).flat_map(|_| random_row(&mut rng, vocab)).collect();
        let together = Rows { vocab, logits, params, recent: vec![vec![3, 3, 9]; 5] };
        let ids = together.run(device);
        for (r, &id) in ids.iter().enumerate() {
            let (logits, params) = (together.row(r).to_vec(), vec![together.params[r]]);
            let alone = Rows { vocab, logits, params, recent: vec![vec![9, 3]] };
            assert_eq!(alone.run(device), [id], "{} seed 200 row {r}", device.name);
        }
    }
}

/// Chi-squared over the tokens that are drawn often enough.
#[test]
fn draws_follow_their_distribution() {
    let (vocab, draws) = (40, 1500);
    for device in &all(Float::F16)[1..] {
        let mut rng = Rng::new(300);
        let row = rng.normals(vocab, 1.5);
        let base = SampleParams { temperature: 0.8, top_k: 30, top_p: 0.95, seed: 300, ..SampleParams::default() };
        let params: Vec<_> = (0..draws).map(|step| SampleParams { step, ..base }).collect();
        let recent = vec![vec![]; draws as usize];
        let rows = Rows { vocab, logits: row.repeat(draws as usize), params, recent };
        let mut counts = vec![0usize; vocab];
        rows.run(device).into_iter().for_each(|id| counts[id as usize] += 1);

        let kept = kept(&row, &base, f64::from(base.top_p), 0.0);
        let total: f64 = kept.iter().map(|k| k.1).sum();
        let (mut chi, mut cells, mut seen) = (0.0, 0, 0);
        for &(id, weight) in &kept {
            let expected = weight / total * f64::from(draws);
            seen += counts[id as usize];
            if expected >= 5.0 {
                chi += (counts[id as usize] as f64 - expected).powi(2) / expected;
                cells += 1;
            }
        }
        assert_eq!(seen, draws as usize, "{} seed 300: a token outside the kept set was drawn", device.name);
        // Five standard deviations above the mean of the chi-squared distribution.
        let limit = f64::from(cells) + 5.0 * (2.0 * f64::from(cells)).sqrt();
        assert!(cells > 5 && chi < limit, "{} seed 300: chi-squared {chi:.1} over {cells} cells", device.name);
    }
}
