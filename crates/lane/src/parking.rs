//! Whether a consumer's thread sleeps.

use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};

use crate::sync::{AtomicBool, fence};

/// The flag next to a bell: says whether the thread that the bell would wake sleeps, or is about to.
///
/// The consumer calls [`park`](Parking::park), then looks at its lanes once more, and sleeps only if all are empty. A
/// producer pushes, then asks [`must_wake`](Parking::must_wake), and rings the bell only if told so. Each side writes
/// one place and then reads the other's, with a `SeqCst` fence in between; so at least one of them sees what the
/// other wrote: the consumer the item, or the producer the flag.
///
/// The bell must stay rung until it is heard (as an eventfd does): it may ring before the consumer sleeps.
pub struct Parking {
    parked: AtomicBool,
}

impl Parking {
    /// The flag of a thread that is awake.
    pub fn new() -> Parking {
        Parking { parked: AtomicBool::new(false) }
    }

    /// For the consumer: about to sleep. It must look at its lanes after this, and before it sleeps.
    pub fn park(&self) {
        // A swap, not a store: it acquires from the swap of a producer that saw an earlier `park` and came late, which
        // therefore is in the past of whoever sees this flag, and can never be taken for news.
        self.parked.swap(true, AcqRel);
        fence(SeqCst);
    }

    /// For the consumer: awake again, whatever woke it.
    pub fn unpark(&self) {
        self.parked.store(false, Relaxed);
    }

    /// For a producer, after a push: whether to ring the bell. Of all producers, one is told so per
    /// [`park`](Parking::park).
    #[must_use = "a consumer that is not woken sleeps for good"]
    pub fn must_wake(&self) -> bool {
        fence(SeqCst);
        // The load keeps the cache line shared among producers while the consumer is awake, which is when it is hot.
        self.parked.load(Relaxed) && self.parked.swap(false, AcqRel)
    }
}

impl Default for Parking {
    fn default() -> Parking {
        Parking::new()
    }
}

impl fmt::Debug for Parking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.parked.load(Relaxed) { "Parking(parked)" } else { "Parking(awake)" })
    }
}
