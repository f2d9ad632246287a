//! Idle: many connections that hear nothing for a while, and at the end one message each.
//!
//! The first connection on each topic says that message itself.

use serde::{Deserialize, Serialize};

use super::{Place, Scenario, Scene, Turn, read_message};
use crate::clock;
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Manner, Opening};
use crate::pattern::{Filling, Pattern, STAMP_BYTES, Stamp};
use crate::report::Part;

/// Messages sent in one turn.
const TURN_MESSAGES_MAX: u32 = 256;

/// What an idle run consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) connections: u32,
    pub(crate) topics: u32,
    /// What the topics' names begin with.
    pub(crate) name: String,
    pub(crate) manner: Manner,
    /// How long everything is held, in nanoseconds.
    pub(crate) hold: u64,
}

/// One thread's share.
pub(crate) struct Idle {
    options: Options,
    place: Place,
    pattern: Pattern,
    /// How often each connection heard its message.
    times_heard: Vec<u8>,
    /// How many of them have not.
    outstanding: u32,
    /// The next link that may have to say something.
    next: u32,
    progress: Progress,
}

impl Options {
    pub(crate) fn plan(&self) -> String {
        format!("{} connections, {} topics", self.connections, self.topics)
    }

    /// How many hear what is said on `topic`.
    fn audience(&self, topic: u32) -> u64 {
        self.connections.saturating_sub(topic).div_ceil(self.topics).into()
    }
}

impl Idle {
    pub(crate) fn new(options: Options, place: Place) -> Idle {
        let times_heard = vec![0; place.count() as usize];
        let pattern = Pattern::new(STAMP_BYTES, Filling::Noise);
        let outstanding = place.count();
        Idle { options, place, pattern, times_heard, outstanding, next: 0, progress: Progress::default() }
    }

    /// Lets the next few links that are the first on their topic speak.
    fn speak(&mut self, scene: &mut Scene<'_>) -> Turn {
        let mut message = Vec::new();
        for _ in 0..TURN_MESSAGES_MAX {
            let topic = self.place.number(self.next);
            if self.next == self.place.count() || topic >= self.options.topics {
                return Turn { finished: true, ..Turn::default() };
            }
            let now = clock::now();
            scene.part.first_sent.get_or_insert(now);
            self.pattern.write(Stamp { publisher: topic, sequence: 0, time: now }, &mut message);
            scene.links.say(self.next, Format::Binary, &message);
            self.next += 1;
            self.progress.sent += 1;
            self.progress.due += self.options.audience(topic);
        }
        Turn { wake_at: Some(clock::now()), ..Turn::default() }
    }
}

impl Scenario for Idle {
    fn opening(&self, number: u32) -> Opening {
        self.options.manner.opening(&format!("{}-{}", self.options.name, number % self.options.topics))
    }

    fn hear(&mut self, link: u32, format: Format, payload: &[u8], scene: &mut Scene<'_>) {
        let (number, part) = (self.place.number(link), &mut *scene.part);
        let Options { manner, .. } = &self.options;
        let read = read_message(&mut self.pattern, Format::Binary, format, payload, manner, part, number);
        let Some(Stamp { publisher, sequence, time }) = read else { return };
        if (publisher, sequence) != (number % self.options.topics, 0) {
            part.faults.corrupted += 1;
            part.faults.name(|| {
                format!("corrupted: connection {number} heard message {sequence} of publisher {publisher}")
            });
            return;
        }
        let times = &mut self.times_heard[link as usize];
        *times = times.saturating_add(1);
        if *times == 1 {
            self.progress.heard += 1;
            self.outstanding -= 1;
        } else {
            part.faults.doubled += 1;
            part.faults.name(|| format!("doubled: the message came again on connection {number}"));
        }
        part.latency.record(scene.now.saturating_sub(time));
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        let turn = match stage {
            Stage::Run => self.speak(scene),
            _ => Turn { settled: self.outstanding == 0, ..Turn::default() },
        };
        scene.control.add(std::mem::take(&mut self.progress));
        turn
    }

    fn report(&mut self, _: &Control, part: &mut Part) {
        for (index, times) in self.times_heard.iter().enumerate() {
            if *times == 0 {
                part.faults.lost += 1;
                let number = self.place.number(index as u32);
                part.faults.name(|| format!("lost: connection {number} never heard its message"));
            }
        }
    }
}
