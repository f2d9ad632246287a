//! A driver's end: the kernel still points into its memory, so it cannot go before its last operation has ended (N1).

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How long no operation may end before the process is taken down.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the kernel to let go.
pub(crate) struct Farewell {
    /// The fewest operations that were ever left.
    fewest: usize,
    /// Until when there have to be fewer.
    until: Instant,
}

impl Farewell {
    pub(crate) fn new() -> Farewell {
        Farewell { fewest: usize::MAX, until: Instant::now() + PATIENCE }
    }

    /// To be told again and again how many operations are `left`. Takes the process down once their number has not fallen
    /// for too long: neither can their memory be given back, nor may the driver wait for ever.
    pub(crate) fn wait_for(&mut self, left: usize) {
        let now = Instant::now();
        if left < self.fewest {
            self.fewest = left;
            self.until = now + PATIENCE;
        } else if now > self.until {
            // Not by `eprintln`: what a test prints by that is lost when the process goes.
            let _ = writeln!(
                io::stderr(),
                "the kernel holds on to {left} operations and their memory, and none has ended for {} s: the process ends \
                 here. Please report this with the kernel's version",
                PATIENCE.as_secs()
            );
            std::process::abort();
        }
    }
}
