//! Echo: every connection keeps some messages in flight to `/echo` and must get each back, in order.

use serde::{Deserialize, Serialize};

use super::{Extent, Place, Scenario, Turn, format_of, read_message};
use crate::clock;
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Manner, Opening};
use crate::links::Links;
use crate::pattern::{Pattern, Stamp};
use crate::report::Part;
use crate::verify::{Receiver, Verdict};

/// What an echo run consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) connections: u32,
    /// Messages of a connection that are on their way at a time.
    pub(crate) depth: u32,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) text: bool,
    pub(crate) manner: Manner,
    pub(crate) extent: Extent,
}

/// One thread's share.
pub(crate) struct Echo {
    options: Options,
    place: Place,
    pattern: Pattern,
    connections: Vec<Connection>,
    progress: Progress,
    /// How many messages are on their way.
    outstanding: u64,
    began: Option<u64>,
    /// Whether messages may still be sent.
    sending: bool,
    message: Vec<u8>,
}

struct Connection {
    sent: u64,
    /// How many it is to send, where that is set.
    count: u64,
    receiver: Receiver,
}

impl Echo {
    pub(crate) fn new(options: Options, place: Place) -> Echo {
        let pattern = Pattern::new(options.size);
        let share = |number: u32| match options.extent.count {
            Some(count) => count.saturating_sub(number.into()).div_ceil(options.connections.into()),
            None => u64::MAX,
        };
        let connections = (0..place.count())
            .map(|index| Connection {
                sent: 0,
                count: share(place.number(index)),
                receiver: Receiver::new(1),
            })
            .collect();
        Echo {
            options,
            place,
            pattern,
            connections,
            progress: Progress::default(),
            outstanding: 0,
            began: None,
            sending: false,
            message: Vec::new(),
        }
    }

    fn send(&mut self, links: &mut Links, link: u32, now: u64) {
        let connection = &mut self.connections[link as usize];
        if !self.sending || connection.sent == connection.count {
            return;
        }
        let stamp = Stamp { publisher: self.place.number(link), sequence: connection.sent, time: now };
        self.pattern.write(stamp, &mut self.message);
        links.say(link, format_of(self.options.text), &self.message);
        connection.sent += 1;
        self.progress.sent += 1;
        self.progress.due += 1;
        self.outstanding += 1;
    }

    fn fill(&mut self, links: &mut Links, now: u64) {
        self.sending = true;
        for link in 0..self.connections.len() as u32 {
            for _ in 0..self.options.depth {
                self.send(links, link, now);
            }
        }
    }

    /// So many are not on their way any more.
    fn came(&mut self, count: u64) {
        self.progress.heard += count;
        self.outstanding = self.outstanding.saturating_sub(count);
    }

    fn is_through(&self) -> bool {
        self.connections.iter().all(|connection| connection.sent == connection.count)
    }
}

impl Scenario for Echo {
    fn opening(&self, _: u32) -> Opening {
        self.options.manner.opening("")
    }

    fn hear(
        &mut self,
        links: &mut Links,
        link: u32,
        format: Format,
        payload: &[u8],
        now: u64,
        part: &mut Part,
    ) {
        let number = self.place.number(link);
        let expect = format_of(self.options.text);
        // Whatever came stands for one that was sent, so that the others go on.
        self.send(links, link, now);
        let Some(stamp) = read_message(&self.pattern, expect, format, payload, part, number) else {
            self.came(1);
            return;
        };
        let Stamp { publisher, sequence, time } = stamp;
        if publisher != number {
            part.faults.corrupted += 1;
            part.faults.name(|| format!("corrupted: connection {number} heard what {publisher} said"));
            return;
        }
        match self.connections[link as usize].receiver.hear(0, sequence) {
            Verdict::Next => self.came(1),
            Verdict::Skipped(count) => self.came(1 + count),
            Verdict::Late => {
                part.faults.reordered += 1;
                part.faults
                    .name(|| format!("reordered: message {sequence} came late on connection {number}"));
            }
            Verdict::Again => {
                part.faults.doubled += 1;
                part.faults.name(|| format!("doubled: message {sequence} came again on connection {number}"));
            }
        }
        part.latency.record(now.saturating_sub(time));
    }

    fn turn(&mut self, stage: Stage, links: &mut Links, control: &Control, part: &mut Part) -> Turn {
        let mut turn = Turn::default();
        if stage == Stage::Run {
            let now = clock::now();
            if self.began.is_none() {
                self.began = Some(now);
                part.first_sent = Some(now);
                self.fill(links, now);
            }
            let deadline = self.began.zip(self.options.extent.nanos).map(|(began, nanos)| began + nanos);
            let is_over = deadline.is_some_and(|deadline| now >= deadline);
            self.sending = !is_over;
            turn = Turn { wake_at: deadline, finished: is_over || self.is_through(), settled: false };
        }
        turn.settled = stage == Stage::Settle && self.outstanding == 0;
        control.add(std::mem::take(&mut self.progress));
        turn
    }

    fn report(&mut self, _: &Control, part: &mut Part) {
        for (index, connection) in self.connections.iter().enumerate() {
            let (lost, first) = connection.receiver.lost([connection.sent].into_iter());
            part.faults.lost += lost;
            if let Some((_, sequence)) = first {
                let number = self.place.number(index as u32);
                part.faults.name(|| {
                    format!("lost: {lost} messages on connection {number}, first message {sequence}")
                });
            }
        }
    }
}
