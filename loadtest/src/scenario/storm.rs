//! Storm: connections are opened and closed again as soon as they stand, as fast as possible or at a rate.
//!
//! A handshake counts as a delivery: it is due when it begins and heard when it is answered.

use std::mem;

use serde::{Deserialize, Serialize};

use super::{End, Extent, Place, Scenario, Scene, Turn, heard_what_nobody_said};
use crate::clock::SECOND;
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Manner, Opening};
use crate::link::Leave;
use crate::report::Part;

/// What a storm consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    /// How many connections there are at a time, at most.
    pub(crate) connections: u32,
    /// Open loop: so many handshakes a second; otherwise as many as can be.
    pub(crate) rate: Option<f64>,
    /// How each connection ends.
    pub(crate) leave: Leave,
    pub(crate) topics: u32,
    /// What the topics' names begin with.
    pub(crate) name: String,
    pub(crate) manner: Manner,
    pub(crate) extent: Extent,
}

impl Options {
    pub(crate) fn plan(&self) -> String {
        let Options { connections, topics, .. } = self;
        let pace = match self.rate {
            Some(rate) => format!("{rate} handshakes/s"),
            None => "as fast as possible".to_owned(),
        };
        format!("{connections} connections at a time, {topics} topics, {pace}, each ended {:?}", self.leave)
            .to_lowercase()
    }
}

/// One thread's share.
pub(crate) struct Storm {
    options: Options,
    place: Place,
    /// Links that may be opened.
    free: Vec<u32>,
    begun: u64,
    began: Option<u64>,
    /// When no link was free last: what is late by then is the server's doing.
    held_back_at: u64,
    progress: Progress,
}

impl Storm {
    pub(crate) fn new(options: Options, place: Place) -> Storm {
        let free = (0..place.count()).rev().collect();
        Storm { options, place, free, begun: 0, began: None, held_back_at: 0, progress: Progress::default() }
    }

    /// A thread's share of `all`, as of the connections.
    fn share(&self) -> f64 {
        f64::from(self.place.count()) / f64::from(self.options.connections)
    }

    fn run(&mut self, scene: &mut Scene<'_>) -> Turn {
        let now = scene.now;
        let began = *self.began.get_or_insert(now);
        scene.part.first_sent.get_or_insert(began);
        let deadline = self.options.extent.nanos.map(|nanos| began + nanos);
        let count = self.options.extent.count.map(|count| (count as f64 * self.share()).round() as u64);
        let rate = self.options.rate.map(|rate| rate * self.share());
        loop {
            let is_over = deadline.is_some_and(|deadline| now >= deadline);
            if is_over || self.place.count() == 0 || count.is_some_and(|count| self.begun >= count) {
                return Turn { finished: true, ..Turn::default() };
            }
            let due = rate.map_or(now, |rate| began + (self.begun as f64 * SECOND as f64 / rate) as u64);
            if due > now {
                let wake_at = deadline.map_or(due, |deadline| deadline.min(due));
                return Turn { wake_at: Some(wake_at), ..Turn::default() };
            }
            let Some(link) = self.free.pop() else {
                self.held_back_at = now;
                return Turn { wake_at: deadline, ..Turn::default() };
            };
            if rate.is_some() {
                scene.part.lag.record(now - due.max(self.held_back_at));
            }
            scene.links.open(link, due);
            self.begun += 1;
            self.progress.sent += 1;
            self.progress.due += 1;
        }
    }
}

impl Scenario for Storm {
    fn opening(&self, number: u32) -> Opening {
        self.options.manner.opening(&format!("{}-{}", self.options.name, number % self.options.topics))
    }

    fn opened(&mut self, link: u32, due: u64, scene: &mut Scene<'_>) {
        self.progress.heard += 1;
        scene.part.latency.record(scene.now - due);
        scene.part.last_heard = Some(scene.now);
        scene.links.leave(link, self.options.leave);
    }

    fn ended(&mut self, link: u32, end: End<'_>, scene: &mut Scene<'_>) -> bool {
        self.free.push(link);
        match end {
            End::Left => true,
            // With so many handshakes, one that fails is a result.
            End::Refused(why) => {
                scene.part.faults.closed += 1;
                scene.part.faults.name(|| format!("refused: {why}"));
                true
            }
            End::Cut(_) => false,
        }
    }

    fn hear(&mut self, link: u32, _: Format, _: &[u8], scene: &mut Scene<'_>) {
        heard_what_nobody_said(self.place.number(link), scene.part);
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        let mut turn = if stage == Stage::Run { self.run(scene) } else { Turn::default() };
        turn.settled = stage == Stage::Settle && self.free.len() as u32 == self.place.count();
        scene.control.add(mem::take(&mut self.progress));
        turn
    }

    fn report(&mut self, _: &Control, part: &mut Part) {
        let left = u64::from(self.place.count()) - self.free.len() as u64;
        if left > 0 {
            part.faults.lost += left;
            part.faults.name(|| format!("lost: {left} handshakes or goodbyes that were never answered"));
        }
    }
}
