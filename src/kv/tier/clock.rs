//! Time as tiers see it: the machine's, or one that tests turn by hand so that slow stores and open breakers cost nothing.
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A source of time that never goes back.
pub trait Clock: Send + Sync {
    /// Time since some moment.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn sleep(&self, time: Duration);
}

/// The machine's clock.
pub struct RealClock(Instant);

impl Default for RealClock {
    fn default() -> Self {
        RealClock(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A clock that moves only when somebody sleeps.
#[derive(Default)]
pub struct VirtualClock(Mutex<Duration>);

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn sleep(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) += time;
    }
}
