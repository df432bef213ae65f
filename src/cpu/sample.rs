//! Sampling, as [`Sample`] defines it.
use super::batch::BatchView;
use super::memory;
use crate::backend::{Sample, SampleParams};
use crate::error::Result;
use rayon::prelude::*;

pub fn run(op: &Sample<'_>) -> Result<()> {
    let batch = BatchView::new(op.batch)?;
    let rows = batch.counts().logit_rows;
    let mut logits = memory::write(op.logits)?;
    let logits = logits.get::<f32>("sample", rows * op.vocab)?;
    let mut out = memory::write(op.out)?;
    let out = out.get::<u32>("sample", rows)?;
    out.par_iter_mut().zip(logits.par_chunks_mut(op.vocab)).enumerate().try_for_each(|(r, (out, row))| {
        let params = if batch.counts().sampling { batch.sample(r)? } else { SampleParams::default() };
        if params.repeat_penalty != 1.0 {
            penalise(row, batch.recent(r)?, params.repeat_penalty);
        }
        *out = if params.temperature > 0.0 { draw(row, &params) } else { largest(row) };
        Ok(())
    })
}

/// Each token that occurs is penalised once.
fn penalise(row: &mut [f32], recent: &[u32], penalty: f32) {
    let mut seen = recent.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(logit) = row.get_mut(id as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// The lowest id of the largest logit.
fn largest(row: &[f32]) -> u32 {
    let better = |best: usize, (i, &x): (usize, &f32)| if x > row[best] { i } else { best };
    row.iter().enumerate().fold(0, better) as u32
}

fn draw(row: &[f32], params: &SampleParams) -> u32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |&x: &f32| ((f64::from(x) - f64::from(max)) / f64::from(params.temperature)).exp();
    let weights: Vec<f64> = row.iter().map(weight).collect();
    let kept = kept(&weights, params);
    let target = uniform(params.seed, params.step) * kept.iter().map(|&id| weights[id as usize]).sum::<f64>();
    let mut sum = 0.0;
    let drawn = kept.iter().find(|&&id| {
        sum += weights[id as usize];
        sum > target
    });
    // Rounding may leave the sum just short of the target.
    drawn.or(kept.last()).copied().unwrap_or(0)
}

/// The tokens that top-k, top-p and min-p keep, in the order of their ids.
fn kept(weights: &[f64], params: &SampleParams) -> Vec<u32> {
    let mut ranks: Vec<u32> = (0..weights.len() as u32).collect();
    let weight = |id: u32| weights[id as usize];
    if params.top_k > 0 || params.top_p < 1.0 {
        ranks.sort_unstable_by(|&a, &b| weight(b).total_cmp(&weight(a)).then(a.cmp(&b)));
    }
    if params.top_k > 0 {
        ranks.truncate(params.top_k as usize);
    }
    if params.top_p < 1.0 {
        let target = f64::from(params.top_p) * ranks.iter().map(|&id| weight(id)).sum::<f64>();
        let mut sum = 0.0;
        let enough = ranks.iter().position(|&id| {
            sum += weight(id);
            sum >= target
        });
        ranks.truncate(enough.map_or(ranks.len(), |n| n + 1));
    }
    ranks.retain(|&id| weight(id) >= f64::from(params.min_p));
    ranks.sort_unstable();
    ranks
}

/// Uniform in [0, 1).
fn uniform(seed: u64, step: u32) -> f64 {
    let [high, low, ..] = philox([step, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    (u64::from(high) << 32 | u64::from(low)) as f64 / 2f64.powi(64)
}

/// Philox4x32-10.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| {
        let wide = u64::from(a) * u64::from(b);
        ((wide >> 32) as u32, wide as u32)
    };
    for _ in 0..10 {
        let (high0, low0) = product(0xD251_1F53, counter[0]);
        let (high1, low1) = product(0xCD9E_8D57, counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 distribution.
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn filters() {
        let weights = [0.5, 1.0, 0.25, 0.5, 0.01];
        let base = SampleParams { temperature: 1.0, ..SampleParams::default() };
        assert_eq!(kept(&weights, &base), [0, 1, 2, 3, 4]);
        assert_eq!(kept(&weights, &SampleParams { top_k: 1, ..base }), [1]);
        assert_eq!(kept(&weights, &SampleParams { top_k: 2, ..base }), [0, 1], "the lower id of equal weights");
        assert_eq!(kept(&weights, &SampleParams { top_p: 0.3, ..base }), [1]);
        assert_eq!(kept(&weights, &SampleParams { top_p: 0.9, ..base }), [0, 1, 2, 3]);
        assert_eq!(kept(&weights, &SampleParams { min_p: 0.2, ..base }), [0, 1, 2, 3]);
        assert_eq!(kept(&weights, &SampleParams { top_k: 4, top_p: 0.99, min_p: 0.3, ..base }), [0, 1, 3]);
    }

    #[test]
    fn draws_follow_the_weights() {
        let row = [1.0f32, 2.0, 0.0, 2.5];
        let params = SampleParams { temperature: 0.7, seed: 11, ..SampleParams::default() };
        let n = 20_000;
        let mut counts = [0usize; 4];
        (0..n).for_each(|step| counts[draw(&row, &SampleParams { step, ..params }) as usize] += 1);
        let weights = row.map(|x| (f64::from(x) / f64::from(params.temperature)).exp());
        let total: f64 = weights.iter().sum();
        for (id, (&count, w)) in counts.iter().zip(weights).enumerate() {
            let (p, share) = (w / total, count as f64 / f64::from(n));
            let deviation = (p * (1.0 - p) / f64::from(n)).sqrt();
            assert!((share - p).abs() < 4.0 * deviation, "seed 11, token {id}: drawn {share}, expected {p}");
        }
    }

    #[test]
    fn penalty_and_ties() {
        let mut row = [2.0, -1.0, 4.0, 4.0];
        assert_eq!(largest(&row), 2);
        penalise(&mut row, &[2, 2, 1, 99], 2.0);
        assert_eq!(row, [2.0, -2.0, 2.0, 4.0]);
        assert_eq!(largest(&row), 3);
    }
}
