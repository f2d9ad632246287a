//! What the threads of a run share: the stage it is in, and how far it has come.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use mio::Waker;
use serde::{Deserialize, Serialize};

/// The stages of a run, one after the other.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Connections are opened.
    Open,
    /// Messages are sent.
    Run,
    /// What is still on its way comes in.
    Settle,
    /// It is over: connections are closed.
    Close,
}

const STAGES: [Stage; 4] = [Stage::Open, Stage::Run, Stage::Settle, Stage::Close];

/// How far a run has come, in one process or since the last such report.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Connections that are open.
    pub(crate) opened: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Deliveries that those call for.
    pub(crate) due: u64,
    /// Deliveries that came.
    pub(crate) heard: u64,
    /// Threads that have sent all they are to send.
    pub(crate) finished: u64,
    /// Threads that, after that, have heard all they are to hear.
    pub(crate) settled: u64,
}

impl Progress {
    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Progress) -> Progress {
        Progress {
            opened: self.opened - earlier.opened,
            sent: self.sent - earlier.sent,
            due: self.due - earlier.due,
            heard: self.heard - earlier.heard,
            finished: self.finished - earlier.finished,
            settled: self.settled - earlier.settled,
        }
    }
}

/// Shared by the threads of a process, and by those that speak for its other processes.
#[derive(Default)]
pub(crate) struct Control {
    stage: AtomicU8,
    /// How many connections are to be open, over all processes.
    target: AtomicU32,
    opened: AtomicU64,
    sent: AtomicU64,
    due: AtomicU64,
    heard: AtomicU64,
    finished: AtomicU64,
    settled: AtomicU64,
    /// How many messages publishers were about to send, at least; only known in their own process.
    published: AtomicU64,
    /// How many messages each publisher has sent; known once it is over.
    totals: OnceLock<Vec<u64>>,
    /// Why the run cannot go on.
    failure: OnceLock<String>,
    wakers: OnceLock<Vec<Waker>>,
}

impl Control {
    /// Gives it the means to wake its threads, in order.
    pub(crate) fn set_wakers(&self, wakers: Vec<Waker>) {
        assert!(self.wakers.set(wakers).is_ok(), "threads are made once");
    }

    pub(crate) fn stage(&self) -> Stage {
        STAGES[self.stage.load(Ordering::Acquire) as usize]
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        self.wake_all();
    }

    pub(crate) fn target(&self) -> u32 {
        self.target.load(Ordering::Acquire)
    }

    pub(crate) fn set_target(&self, target: u32) {
        self.target.store(target, Ordering::Release);
        self.wake_all();
    }

    /// Adds what one of its threads or processes has done.
    pub(crate) fn add(&self, more: Progress) {
        for (counter, more) in [
            (&self.opened, more.opened),
            (&self.sent, more.sent),
            (&self.due, more.due),
            (&self.finished, more.finished),
            (&self.settled, more.settled),
            (&self.heard, more.heard),
        ] {
            if more > 0 {
                counter.fetch_add(more, Ordering::AcqRel);
            }
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        // Heard before due: it must never look as if more had been heard than was due.
        let heard = self.heard.load(Ordering::Acquire);
        Progress {
            opened: self.opened.load(Ordering::Acquire),
            sent: self.sent.load(Ordering::Acquire),
            due: self.due.load(Ordering::Acquire),
            heard,
            finished: self.finished.load(Ordering::Acquire),
            settled: self.settled.load(Ordering::Acquire),
        }
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Says how many messages publishers are about to send; before the first of them is on its way.
    pub(crate) fn set_published(&self, count: u64) {
        self.published.store(count, Ordering::Release);
    }

    pub(crate) fn totals(&self) -> Option<&[u64]> {
        self.totals.get().map(Vec::as_slice)
    }

    /// Says how many messages each publisher has sent. Whoever says it first is right: only one does.
    pub(crate) fn set_totals(&self, totals: Vec<u64>) {
        let _ = self.totals.set(totals);
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Ends the run; the first reason is the one that is told.
    pub(crate) fn fail(&self, why: String) {
        let _ = self.failure.set(why);
    }

    /// Wakes the thread that publishes: its window may be open again.
    pub(crate) fn wake_first(&self) {
        wake(self.wakers().first());
    }

    fn wake_all(&self) {
        for waker in self.wakers() {
            wake(Some(waker));
        }
    }

    fn wakers(&self) -> &[Waker] {
        self.wakers.get().map_or(&[], Vec::as_slice)
    }
}

/// An eventfd that cannot be written is full, and a full one wakes.
fn wake(waker: Option<&Waker>) {
    if let Some(waker) = waker {
        let _ = waker.wake();
    }
}
