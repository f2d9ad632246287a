//! How a run went: what had been done, and what the server held, at moments as far apart as lets a few hundred tell it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::{Control, Progress, Stage};
use crate::host::{self, Reading, Watch};

/// How far apart moments are at first.
const EVERY: Duration = Duration::from_millis(50);

/// When there are so many, every second one is let go, and those to come are twice as far apart.
const MOMENTS_MAX: usize = 400;

/// A moment of a run. Counts are from its beginning.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Seconds from the run's beginning.
    pub(crate) at: f64,
    pub(crate) stage: Stage,
    /// Connections opened.
    pub(crate) opened: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Deliveries that came.
    pub(crate) heard: u64,
    /// Seconds that the server has computed, soft interrupts included.
    pub(crate) server_cpu: Option<f64>,
    /// Bytes that the server has resident.
    pub(crate) rss: Option<u64>,
    /// Bytes that the buffers of all TCP sockets of this machine take.
    pub(crate) tcp: Option<u64>,
}

/// Moments as they are collected.
pub(crate) struct Timeline {
    pid: Option<u32>,
    watch: Watch,
    began: Instant,
    first: Reading,
    every: Duration,
    due: Duration,
    moments: Vec<Moment>,
}

impl Timeline {
    /// Begins one for the server in process `pid`.
    pub(crate) fn new(pid: Option<u32>) -> Timeline {
        let watch = Watch::new(pid);
        let first = watch.read(&[]);
        let (began, moments) = (Instant::now(), Vec::new());
        Timeline { pid, watch, began, first, every: EVERY, due: Duration::ZERO, moments }
    }

    /// Notes how things are, if the time has come.
    pub(crate) fn look(&mut self, control: &Control) {
        let at = self.began.elapsed();
        if at < self.due {
            return;
        }
        let usage = self.watch.read(&[]).since(&self.first);
        let Progress { opened, sent, heard, .. } = control.progress();
        self.add(Moment {
            at: at.as_secs_f64(),
            stage: control.stage(),
            opened,
            sent,
            heard,
            server_cpu: usage.server.map(|server| server.total()),
            rss: self.pid.and_then(host::resident),
            tcp: host::tcp_bytes(),
        });
    }

    fn add(&mut self, moment: Moment) {
        self.due = Duration::from_secs_f64(moment.at) + self.every;
        self.moments.push(moment);
        if self.moments.len() >= MOMENTS_MAX {
            let mut index = 0;
            self.moments.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }

    pub(crate) fn into_moments(self) -> Vec<Moment> {
        self.moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_told_by_as_many_moments() {
        let mut timeline = Timeline::new(None);
        let control = Control::default();
        timeline.look(&control);
        let first = timeline.moments[0].clone();
        assert_eq!((first.heard, first.stage, first.rss), (0, Stage::Open, None));
        for step in 1..5000 {
            timeline.add(Moment { at: f64::from(step), ..first.clone() });
        }
        let every = timeline.every;
        let moments = timeline.into_moments();
        assert!((MOMENTS_MAX / 2..MOMENTS_MAX).contains(&moments.len()), "{}", moments.len());
        assert!(moments.is_sorted_by_key(|moment| moment.at) && every > EVERY);
        assert!(moments.last().is_some_and(|last| last.at > 4900.0), "{every:?}");
    }
}
