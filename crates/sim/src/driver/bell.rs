//! A shard's bell in virtual time: a flag that its driver looks at.

use std::sync::atomic::{AtomicBool, Ordering};

use moongate_io::Bell;

/// Rung until its driver has heard it.
#[derive(Default)]
pub struct SimBell(AtomicBool);

impl SimBell {
    /// Whether it was rung since the last time.
    pub(super) fn heard(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Bell for SimBell {
    fn ring(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
