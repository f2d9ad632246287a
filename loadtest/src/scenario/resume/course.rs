//! What the thread of the bystanders and the others of its process tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a run has come. The first three only matter where the server is replaced, in this order.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Whether the bystanders say nothing until it is.
    quiet: AtomicBool,
    /// Whether it is, and they may come back.
    replaced: AtomicBool,
    /// Whether they have.
    rejoined: AtomicBool,
    /// When time went on after that; 0 until then.
    resumed_at: AtomicU64,
    /// When the last traveller had heard all it missed; 0 until then.
    live_at: AtomicU64,
}

impl Course {
    pub(super) fn fall_quiet(&self) {
        self.quiet.store(true, Ordering::Release);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    pub(super) fn rejoin(&self) {
        self.rejoined.store(true, Ordering::Release);
    }

    pub(super) fn have_rejoined(&self) -> bool {
        self.rejoined.load(Ordering::Acquire)
    }

    pub(super) fn resume(&self, now: u64) {
        self.resumed_at.store(now, Ordering::Release);
    }

    pub(super) fn resumed_at(&self) -> Option<u64> {
        Some(self.resumed_at.load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    /// All travellers of one thread have heard all they missed.
    pub(super) fn live(&self, now: u64) {
        self.live_at.fetch_max(now, Ordering::AcqRel);
    }

    pub(super) fn live_at(&self) -> Option<u64> {
        Some(self.live_at.load(Ordering::Acquire)).filter(|at| *at > 0)
    }
}
