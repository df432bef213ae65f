//! How long a soak runs, and that its memory stays flat meanwhile.
use std::time::{Duration, Instant};

/// A soak's time: `$KVICK_SOAK` seconds, or what the test takes without it.
pub struct Clock {
    start: Instant,
    length: Duration,
}

impl Clock {
    pub fn start(seconds: u64) -> Self {
        let wanted = std::env::var("KVICK_SOAK").ok();
        let seconds = wanted.map_or(seconds, |s| s.parse().expect("KVICK_SOAK is a number of seconds"));
        Clock { start: Instant::now(), length: Duration::from_secs(seconds) }
    }

    pub fn is_over(&self) -> bool {
        self.start.elapsed() >= self.length
    }

    pub fn millis(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Waits for the end. Memory must not grow in the second half: by then pools, tables and what is remembered of pages that
    /// are gone have their sizes.
    pub fn watch_memory(&self) {
        std::thread::sleep(self.length / 2);
        let half = resident();
        std::thread::sleep(self.length.saturating_sub(self.start.elapsed()));
        let end = resident();
        assert!(end <= half + half / 20 + (4 << 20), "memory grew from {half} to {end} bytes in the second half");
    }
}

/// Bytes of memory that the process holds.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = pages.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}
