//! What the control thread counts of itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Counts by name. The names are labels of reasons and outcomes, so there are only so many.
#[derive(Default)]
pub(crate) struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    pub(crate) fn add(&self, name: &'static str) {
        // Only this thread takes the lock, and never across an await: it is there because handlers must be `Send`.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(name).or_default() += 1;
    }

    pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(name, count)| (*name, *count)).collect()
    }
}

/// All counts.
#[derive(Default)]
pub(crate) struct Tally {
    /// Messages that were to be published, by what became of them.
    pub(crate) publishes: Counts,
    /// Requests that were refused, by reason.
    pub(crate) refusals: Counts,
}
