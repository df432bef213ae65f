//! How fast the device computes prompts, learnt from the steps it ran: what a page costs if it is lost.
//!
//! A token takes some time of its own, and some more for each token before it, which attention reads. Both are fitted to the
//! steps' times by least squares, in which old steps count less and less.

/// What of its weight a step keeps when another one is measured.
const KEPT: f64 = 0.9;
/// Below this part of the mean squared context, what varies between steps says nothing about the context.
const TELLING: f64 = 1e-3;

/// The speed of prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Weighted sums over steps, each with mean context `x` and seconds per token `y`: 1, x, y, x², xy.
    sums: [f64; 5],
}

impl Pace {
    /// A device that is known to take so many seconds for a token, and so many more for each token before it.
    pub fn of(per_token: f64, per_context: f64) -> Self {
        let mut pace = Pace::default();
        pace.add(0.0, per_token);
        pace.add(1.0, per_token + per_context);
        pace
    }

    /// A step of `tokens` took `seconds`; `context` is the sum over its tokens of how many are before each.
    pub fn measure(&mut self, tokens: usize, context: u64, seconds: f64) {
        if tokens > 0 {
            self.sums.iter_mut().for_each(|sum| *sum *= KEPT);
            self.add(context as f64 / tokens as f64, seconds / tokens as f64);
        }
    }

    fn add(&mut self, x: f64, y: f64) {
        self.sums.iter_mut().zip([1.0, x, y, x * x, x * y]).for_each(|(sum, new)| *sum += new);
    }

    /// Seconds of a token, and of each token before it; `None` before the first step.
    pub fn seconds(&self) -> Option<(f64, f64)> {
        let [n, x, y, xx, xy] = self.sums;
        if n == 0.0 {
            return None;
        }
        let (x, y, xx, xy) = (x / n, y / n, xx / n, xy / n);
        let (variance, covariance) = (xx - x * x, xy - x * y);
        let slope = if variance > TELLING * xx { (covariance / variance).max(0.0) } else { 0.0 };
        match y - slope * x {
            own if own >= 0.0 => Some((own, slope)),
            // Neither part of the time is negative.
            _ => Some((0.0, xy / xx)),
        }
    }

    /// Seconds that computing `tokens` after `before` others takes; `None` before the first step.
    pub fn compute(&self, before: usize, tokens: usize) -> Option<f64> {
        let (own, slope) = self.seconds()?;
        Some(own * tokens as f64 + slope * context(before, tokens) as f64)
    }
}

/// Sum over `tokens` that follow `before` others of how many are before each.
pub fn context(before: usize, tokens: usize) -> u64 {
    let (before, tokens) = (before as u64, tokens as u64);
    before * tokens + tokens * tokens.saturating_sub(1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::workload::Random;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 + 1e-6 * b.abs()
    }

    #[test]
    fn finds_what_a_token_and_its_context_cost() {
        let mut pace = Pace::default();
        assert_eq!(pace.compute(0, 10), None);
        for (before, tokens) in [(0, 100), (700, 30), (1500, 64), (90, 200)] {
            let context = context(before, tokens);
            pace.measure(tokens, context, 1e-3 * tokens as f64 + 2e-6 * context as f64);
        }
        let (own, slope) = pace.seconds().unwrap();
        assert!(close(own, 1e-3) && close(slope, 2e-6), "{own} {slope}");
        assert!(close(pace.compute(10, 2).unwrap(), 2e-3 + 2e-6 * 21.0));
        assert_eq!(Pace::of(1e-3, 2e-6).seconds().map(|(own, _)| close(own, 1e-3)), Some(true));
    }

    #[test]
    fn follows_a_device_that_changes_and_is_never_negative() {
        let mut random = Random::new(5);
        let mut pace = Pace::default();
        for step in 0..200 {
            let per_token = if step < 100 { 1e-3 } else { 3e-3 };
            let (before, tokens) = (random.below(4000), 16 + random.below(100));
            let noise = 0.5 + random.unit();
            pace.measure(tokens, context(before, tokens), per_token * tokens as f64 * noise);
            let (own, slope) = pace.seconds().unwrap();
            assert!(own >= 0.0 && slope >= 0.0 && own + slope > 0.0, "step {step}: {own} {slope}");
        }
        let each = pace.compute(2000, 100).unwrap() / 100.0;
        assert!((2e-3..4e-3).contains(&each), "{each}");
    }

    #[test]
    fn steps_alike_say_nothing_about_the_context() {
        let mut pace = Pace::default();
        (0..20).for_each(|_| pace.measure(64, context(100, 64), 0.064));
        assert_eq!(pace.seconds().map(|(own, slope)| (close(own, 1e-3), slope)), Some((true, 0.0)));
    }
}
