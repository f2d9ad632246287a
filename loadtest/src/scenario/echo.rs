//! Echo: every connection sends messages and must get each back, in order. Each keeps some on their way, or all together
//! send so many a second. Where they come back does not matter: at the gateway, or at the far end of a tunnel.

use std::mem;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Extent, Place, Scenario, Scene, Turn, format_of, read_message};
use crate::clock::{self, SECOND};
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Manner, Opening};
use crate::pattern::{Filling, Pattern, Stamp};
use crate::report::Part;
use crate::verify::{Receiver, Verdict};

/// Messages sent in one turn, so that what comes in is read in time.
const TURN_MESSAGES_MAX: u32 = 256;

/// What an echo run consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) connections: u32,
    /// Messages of a connection that are on their way at a time, where there is no rate.
    pub(crate) depth: u32,
    /// Open loop: so many messages a second, all connections together.
    pub(crate) rate: Option<f64>,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) text: bool,
    pub(crate) filling: Filling,
    pub(crate) manner: Manner,
    pub(crate) extent: Extent,
}

impl Options {
    pub(crate) fn plan(&self) -> String {
        let Options { connections, depth, size, .. } = self;
        let pace = match self.rate {
            Some(rate) => format!("{rate} messages/s"),
            None => format!("{depth} in flight on each"),
        };
        format!("{connections} connections, {pace}, {size} bytes, at {}", self.manner.path)
    }
}

/// One thread's share.
pub(crate) struct Echo {
    options: Options,
    place: Place,
    /// The links that are its own.
    links: Range<u32>,
    pattern: Pattern,
    connections: Vec<Connection>,
    progress: Progress,
    /// How many messages are on their way.
    outstanding: u64,
    began: Option<u64>,
    /// Whether messages may still be sent.
    sending: bool,
    /// How many were sent because their time had come.
    paced: u64,
    message: Vec<u8>,
}

struct Connection {
    sent: u64,
    /// How many it is to send, where that is set.
    count: u64,
    receiver: Receiver,
}

impl Echo {
    /// For the links of these indexes.
    pub(crate) fn new(options: Options, place: Place, links: Range<u32>) -> Echo {
        let pattern = Pattern::new(options.size, options.filling);
        // Other scenarios' links may come first.
        let first = place.links - options.connections;
        let share = |number: u32| match options.extent.count {
            Some(count) => count.saturating_sub((number - first).into()).div_ceil(options.connections.into()),
            None => u64::MAX,
        };
        let connection =
            |index| Connection { sent: 0, count: share(place.number(index)), receiver: Receiver::new(1) };
        Echo {
            connections: links.clone().map(connection).collect(),
            options,
            place,
            links,
            pattern,
            progress: Progress::default(),
            outstanding: 0,
            began: None,
            sending: false,
            paced: 0,
            message: Vec::new(),
        }
    }

    /// Sends a message that counts from `time`, if any is left to be sent.
    fn send(&mut self, link: u32, time: u64, scene: &mut Scene<'_>) {
        let connection = &mut self.connections[(link - self.links.start) as usize];
        if !self.sending || connection.sent == connection.count {
            return;
        }
        let stamp = Stamp { publisher: self.place.number(link), sequence: connection.sent, time };
        self.pattern.write(stamp, &mut self.message);
        scene.links.say(link, format_of(self.options.text), &self.message);
        connection.sent += 1;
        self.progress.sent += 1;
        self.progress.due += 1;
        self.outstanding += 1;
    }

    /// So many are not on their way any more.
    fn came(&mut self, count: u64) {
        self.progress.heard += count;
        self.outstanding = self.outstanding.saturating_sub(count);
    }

    fn fill(&mut self, scene: &mut Scene<'_>) {
        for link in self.links.clone() {
            for _ in 0..self.options.depth {
                self.send(link, scene.now, scene);
            }
        }
    }

    /// Sends what is due at a rate, and says when more is.
    fn keep_pace(&mut self, rate: f64, began: u64, scene: &mut Scene<'_>) -> u64 {
        // Each thread has its share of the rate, as of the connections.
        let rate = rate * self.connections.len() as f64 / f64::from(self.options.connections);
        for _ in 0..TURN_MESSAGES_MAX {
            let due = began + (self.paced as f64 * SECOND as f64 / rate) as u64;
            if due > scene.now || self.is_through() {
                return due;
            }
            scene.part.lag.record(scene.now - due);
            let turn = (self.paced % self.connections.len() as u64) as u32;
            self.send(self.links.start + turn, due, scene);
            self.paced += 1;
        }
        scene.now
    }

    fn run(&mut self, scene: &mut Scene<'_>) -> Turn {
        if self.connections.is_empty() {
            return Turn { finished: true, ..Turn::default() };
        }
        let is_first = self.began.is_none();
        let began = *self.began.get_or_insert(scene.now);
        scene.part.first_sent.get_or_insert(began);
        let deadline = self.options.extent.nanos.map(|nanos| began + nanos);
        let is_over = deadline.is_some_and(|deadline| scene.now >= deadline);
        self.sending = !is_over;
        let mut wake_at = deadline;
        match self.options.rate {
            _ if is_over => {}
            Some(rate) => {
                let due = self.keep_pace(rate, began, scene);
                wake_at = Some(deadline.map_or(due, |deadline| deadline.min(due)));
            }
            None if is_first => self.fill(scene),
            None => {}
        }
        Turn { wake_at, finished: is_over || self.is_through(), settled: false }
    }

    fn is_through(&self) -> bool {
        self.connections.iter().all(|connection| connection.sent == connection.count)
    }
}

impl Scenario for Echo {
    fn opening(&self, _: u32) -> Opening {
        self.options.manner.opening("")
    }

    fn hear(&mut self, link: u32, format: Format, payload: &[u8], scene: &mut Scene<'_>) {
        let number = self.place.number(link);
        let expect = format_of(self.options.text);
        if self.options.rate.is_none() {
            // Whatever came stands for one that was sent, so that the others go on.
            self.send(link, clock::now(), scene);
        }
        let Options { manner, .. } = &self.options;
        let read = read_message(&mut self.pattern, expect, format, payload, manner, scene.part, number);
        let Some(Stamp { publisher, sequence, time }) = read else { return self.came(1) };
        let faults = &mut scene.part.faults;
        if publisher != number {
            faults.corrupted += 1;
            faults.name(|| format!("corrupted: connection {number} heard what {publisher} said"));
            return;
        }
        match self.connections[(link - self.links.start) as usize].receiver.hear(0, sequence) {
            Verdict::Next => self.came(1),
            Verdict::Skipped(count) => self.came(1 + count),
            Verdict::Late => {
                faults.reordered += 1;
                faults.name(|| format!("reordered: message {sequence} came late on connection {number}"));
            }
            Verdict::Again => {
                faults.doubled += 1;
                faults.name(|| format!("doubled: message {sequence} came again on connection {number}"));
            }
        }
        scene.part.latency.record(scene.now.saturating_sub(time));
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        let mut turn = if stage == Stage::Run { self.run(scene) } else { Turn::default() };
        turn.settled = stage == Stage::Settle && self.outstanding == 0;
        scene.control.add(mem::take(&mut self.progress));
        turn
    }

    fn report(&mut self, _: &Control, part: &mut Part) {
        for (index, connection) in self.links.clone().zip(&self.connections) {
            let (lost, first) = connection.receiver.lost([connection.sent].into_iter());
            part.faults.lost += lost;
            if let Some((_, sequence)) = first {
                let number = self.place.number(index);
                part.faults.name(|| {
                    format!("lost: {lost} messages on connection {number}, first message {sequence}")
                });
            }
        }
    }
}
