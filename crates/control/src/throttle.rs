//! A bound on how many lines a second one cause may write to the log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// How many lines pass per second.
const LINES_PER_SECOND_MAX: u64 = 10;

/// Lets so many lines per second pass and counts the others.
pub(crate) struct Throttle {
    start: Instant,
    /// The second that is counted, since `start`.
    second: AtomicU64,
    passed: AtomicU64,
    suppressed: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let zero = || AtomicU64::new(0);
        Throttle { start: Instant::now(), second: zero(), passed: zero(), suppressed: zero() }
    }
}

impl Throttle {
    /// Whether a line may be written now; if so, how many were not since the last.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(self.start.elapsed().as_secs())
    }

    fn pass_at(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Relaxed) != second {
            self.passed.store(0, Relaxed);
        }
        if self.passed.fetch_add(1, Relaxed) < LINES_PER_SECOND_MAX {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_suppressed_is_said_with_the_next_line() {
        let throttle = Throttle::default();
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(throttle.pass_at(0), Some(0));
        }
        assert_eq!(throttle.pass_at(0), None);
        assert_eq!(throttle.pass_at(0), None);
        assert_eq!(throttle.pass_at(3), Some(2));
        assert_eq!(throttle.pass_at(3), Some(0));
    }
}
