//! A circuit breaker: a store that fails again and again is left alone for a while, so that its timeouts are not paid by
//! every request.
use std::time::Duration;

/// Failures in a row after which a store is left alone.
const PATIENCE: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether a store may be asked.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// Not asked before this time.
    closed_until: Duration,
    pause: Duration,
}

impl Breaker {
    /// May the store be asked at time `now`? After a pause one call is let through to try it; more wait for its result.
    pub fn allows(&mut self, now: Duration) -> bool {
        if self.failures < PATIENCE {
            return true;
        }
        if now < self.closed_until {
            return false;
        }
        self.closed_until = now + self.pause;
        true
    }

    /// It answered.
    pub fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// It failed at time `now`.
    pub fn failed(&mut self, now: Duration) {
        self.failures += 1;
        if self.failures >= PATIENCE {
            self.pause = if self.pause.is_zero() { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
            self.closed_until = now + self.pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_waits_longer_each_time_and_closes() {
        let mut b = Breaker::default();
        let mut now = Duration::ZERO;
        for _ in 0..PATIENCE {
            assert!(b.allows(now));
            b.failed(now);
        }
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let from = now;
            while !b.allows(now) {
                now += Duration::from_millis(100);
            }
            pauses.push(now - from);
            assert!(!b.allows(now), "a second call was let through while the first tries");
            b.failed(now);
        }
        assert!(
            pauses.is_sorted() && pauses[0] == FIRST_PAUSE && *pauses.last().unwrap() == LONGEST_PAUSE,
            "{pauses:?}"
        );
        now += LONGEST_PAUSE;
        assert!(b.allows(now));
        b.succeeded();
        assert!(b.allows(now) && b.allows(now));
    }
}
