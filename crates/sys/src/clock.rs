//! What time it is for a shard: it stands still within a tick, and what passes between two waits is the tick's own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moongate_io::Time;

use crate::machine;

/// The time at the end of the last wait.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) now: Time,
    /// Since the Unix epoch.
    pub(crate) wall: Duration,
    /// Nanoseconds between the ends of waits and the beginnings of the next.
    pub(crate) busy_nanos: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let mut clock = Clock { now: Time::ZERO, wall: Duration::ZERO, busy_nanos: 0 };
        clock.wait_ends();
        clock
    }

    pub(crate) fn wait_begins(&mut self) {
        self.busy_nanos += machine::monotonic().since(self.now).as_nanos() as u64;
    }

    pub(crate) fn wait_ends(&mut self) {
        self.now = machine::monotonic();
        self.wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    }
}
