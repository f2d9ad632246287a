//! What a worker has done so far, for `GET /metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Written by one worker, read by all. On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Figures {
    /// Messages that were said on a path.
    pub(crate) messages: Figure,
    /// Runs that were made of them.
    pub(crate) runs: Figure,
    /// Sends of runs, the rests of short ones included.
    pub(crate) sends: Figure,
    /// Sends that took less than there was.
    pub(crate) short_sends: Figure,
    /// Runs of windows that did not become complete in time.
    pub(crate) incomplete: Figure,
}

/// A number that one thread adds to.
#[derive(Default)]
pub(crate) struct Figure(AtomicU64);

impl Figure {
    pub(crate) fn add(&self, more: u64) {
        // One thread writes, so no other's addition can be lost between the two.
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}

/// The figures of all workers together, in the text format of Prometheus.
pub(crate) fn text(all: &[Figures]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, of: fn(&Figures) -> &Figure| {
        let sum: u64 = all.iter().map(|figures| of(figures).0.load(Ordering::Relaxed)).sum();
        text.push_str(&format!("# TYPE {name} counter\n{name} {sum}\n"));
    };
    line("floor_messages_total", |figures| &figures.messages);
    line("floor_runs_total", |figures| &figures.runs);
    line("floor_sends_total", |figures| &figures.sends);
    line("floor_short_sends_total", |figures| &figures.short_sends);
    line("floor_incomplete_windows_total", |figures| &figures.incomplete);
    text
}
