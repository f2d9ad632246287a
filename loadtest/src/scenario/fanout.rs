//! Fan-out: publishers say something on topics, and every subscriber of a topic, publishers included, must hear all of
//! it, once, in one order.
//!
//! All publishers are links of the first thread, so that the window and the rate are kept in one place.

use serde::{Deserialize, Serialize};

use super::{Extent, Place, Scenario, Turn, format_of, read_message};
use crate::clock::{self, SECOND};
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Manner, Opening};
use crate::links::Links;
use crate::pattern::{Pattern, Stamp};
use crate::report::Part;
use crate::verify::{Receiver, Verdict};

/// Messages sent in one turn, so that what comes in is read in time.
const TURN_MESSAGES_MAX: u32 = 256;

/// Bytes that may wait in this tool for a server that does not take them.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// What a fan-out consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) subscribers: u32,
    pub(crate) publishers: u32,
    pub(crate) topics: u32,
    /// What the topics' names begin with.
    pub(crate) name: String,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) text: bool,
    pub(crate) manner: Manner,
    pub(crate) pace: Pace,
    pub(crate) extent: Extent,
}

/// When a message is sent.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pace {
    /// Closed loop: as soon as no more than so many are on their way to all who hear them.
    Window(u64),
    /// Open loop: so many a second, whatever comes back.
    Rate(f64),
}

/// One thread's share.
pub(crate) struct Fanout {
    options: Options,
    place: Place,
    pattern: Pattern,
    receivers: Vec<Receiver>,
    /// Publishes, in the first thread.
    source: Option<Source>,
    /// Deliveries that the others were not told of.
    heard: u64,
    /// How many deliveries are still to come, once it is known how many there were.
    outstanding: Option<u64>,
}

struct Source {
    /// Index of the first publisher's link.
    first: u32,
    /// How many messages each publisher has sent.
    sent: Vec<u64>,
    sent_all: u64,
    /// How many deliveries those call for.
    due: u64,
    began: Option<u64>,
    /// When the server last took too little to send more: what is late by then is not this tool's doing.
    held_back_at: u64,
    message: Vec<u8>,
}

impl Options {
    /// The topic of link number `number`.
    fn topic(&self, number: u32) -> u32 {
        match number.checked_sub(self.subscribers) {
            Some(publisher) => publisher % self.topics,
            None => number % self.topics,
        }
    }

    /// How many of `count` in turn fall on `topic`.
    fn share(&self, count: u32, topic: u32) -> u32 {
        count.saturating_sub(topic).div_ceil(self.topics)
    }

    /// How many messages each publisher of `topic` has sent.
    fn of_topic<'a>(&self, totals: &'a [u64], topic: u32) -> impl Iterator<Item = u64> + use<'a> {
        totals.iter().skip(topic as usize).step_by(self.topics as usize).copied()
    }

    /// How many hear what is said on `topic`.
    fn audience(&self, topic: u32) -> u64 {
        u64::from(self.share(self.subscribers, topic)) + u64::from(self.share(self.publishers, topic))
    }
}

impl Fanout {
    pub(crate) fn new(options: Options, place: Place) -> Fanout {
        let pattern = Pattern::new(options.size);
        let publishers = |index| options.share(options.publishers, options.topic(place.number(index)));
        let receivers = (0..place.count()).map(|index| Receiver::new(publishers(index))).collect();
        let source = (place.thread == 0).then(|| Source {
            first: place.count_below(place.links),
            sent: vec![0; options.publishers as usize],
            sent_all: 0,
            due: 0,
            began: None,
            held_back_at: 0,
            message: Vec::new(),
        });
        Fanout { options, place, pattern, receivers, source, heard: 0, outstanding: None }
    }

    /// Sends all that may be sent now.
    fn publish(&mut self, links: &mut Links, control: &Control, part: &mut Part) -> Turn {
        let Some(source) = &mut self.source else { return Turn { finished: true, ..Turn::default() } };
        let began = *source.began.get_or_insert_with(clock::now);
        let deadline = self.options.extent.nanos.map(|nanos| began + nanos);
        let before = (source.sent_all, source.due);
        let mut turn = Turn { wake_at: deadline, ..Turn::default() };
        for step in 0.. {
            let now = clock::now();
            if self.options.extent.count.is_some_and(|count| source.sent_all >= count)
                || deadline.is_some_and(|deadline| now >= deadline)
            {
                turn.finished = true;
                control.set_totals(source.sent.clone());
                break;
            }
            if step == TURN_MESSAGES_MAX {
                turn.wake_at = Some(now);
                break;
            }
            let publisher = (source.sent_all % u64::from(self.options.publishers)) as u32;
            if links.waiting(source.first + publisher) > WAITING_BYTES_MAX {
                source.held_back_at = now;
                break;
            }
            let audience = self.options.audience(publisher % self.options.topics);
            let time = match self.options.pace {
                Pace::Window(window) => {
                    let on_the_way = (source.due + audience).saturating_sub(control.progress().heard);
                    if on_the_way > window * audience {
                        break;
                    }
                    now
                }
                Pace::Rate(rate) => {
                    let due = began + (source.sent_all as f64 * SECOND as f64 / rate) as u64;
                    if due > now {
                        turn.wake_at = Some(deadline.map_or(due, |deadline| deadline.min(due)));
                        break;
                    }
                    part.lag.record(now - due.max(source.held_back_at));
                    due
                }
            };
            let sequence = &mut source.sent[publisher as usize];
            self.pattern.write(Stamp { publisher, sequence: *sequence, time }, &mut source.message);
            links.say(source.first + publisher, format_of(self.options.text), &source.message);
            *sequence += 1;
            source.sent_all += 1;
            source.due += audience;
        }
        if part.first_sent.is_none() && source.sent_all > 0 {
            part.first_sent = Some(began);
        }
        let (sent, due) = (source.sent_all - before.0, source.due - before.1);
        control.add(Progress { sent, due, ..Progress::default() });
        turn
    }

    /// So many deliveries are not to come any more.
    fn came(&mut self, count: u64) {
        self.heard += count;
        self.outstanding = self.outstanding.map(|outstanding| outstanding.saturating_sub(count));
    }

    fn settle(&mut self, control: &Control) -> Turn {
        if let Some(source) = &self.source {
            // Where the window never opened again, this is not known yet.
            control.set_totals(source.sent.clone());
        }
        let Some(totals) = control.totals() else { return Turn::default() };
        if self.outstanding.is_none() {
            let behind = |(index, receiver): (usize, &Receiver)| {
                let topic = self.options.topic(self.place.number(index as u32));
                receiver.behind(self.options.of_topic(totals, topic))
            };
            self.outstanding = Some(self.receivers.iter().enumerate().map(behind).sum());
        }
        Turn { settled: self.outstanding == Some(0), ..Turn::default() }
    }
}

impl Scenario for Fanout {
    fn opening(&self, number: u32) -> Opening {
        self.options.manner.opening(&format!("{}-{}", self.options.name, self.options.topic(number)))
    }

    fn hear(&mut self, _: &mut Links, link: u32, format: Format, payload: &[u8], now: u64, part: &mut Part) {
        let number = self.place.number(link);
        let expect = format_of(self.options.text);
        let Some(stamp) = read_message(&self.pattern, expect, format, payload, part, number) else { return };
        let Stamp { publisher, sequence, time } = stamp;
        let topic = self.options.topic(number);
        if publisher >= self.options.publishers || publisher % self.options.topics != topic {
            part.faults.corrupted += 1;
            part.faults.name(|| {
                format!(
                    "corrupted: receiver {number} on topic {topic} heard publisher {publisher} of another"
                )
            });
            return;
        }
        let which = || format!("message {sequence} of publisher {publisher} at receiver {number}");
        match self.receivers[link as usize].hear(publisher / self.options.topics, sequence) {
            Verdict::Next => self.came(1),
            // Those skipped will not come, or late; either way nobody waits for them.
            Verdict::Skipped(count) => self.came(1 + count),
            Verdict::Late => {
                part.faults.reordered += 1;
                part.faults.name(|| format!("reordered: {} came after a later one", which()));
            }
            Verdict::Again => {
                part.faults.doubled += 1;
                part.faults.name(|| format!("doubled: {} came again", which()));
            }
        }
        part.latency.record(now.saturating_sub(time));
    }

    fn turn(&mut self, stage: Stage, links: &mut Links, control: &Control, part: &mut Part) -> Turn {
        let heard = std::mem::take(&mut self.heard);
        control.add(Progress { heard, ..Progress::default() });
        if heard > 0 && self.source.is_none() && matches!(self.options.pace, Pace::Window(_)) {
            control.wake_first();
        }
        match stage {
            Stage::Run => self.publish(links, control, part),
            Stage::Settle => self.settle(control),
            Stage::Open | Stage::Close => Turn::default(),
        }
    }

    fn report(&mut self, control: &Control, part: &mut Part) {
        let Some(totals) = control.totals() else { return };
        for (index, receiver) in self.receivers.iter().enumerate() {
            let number = self.place.number(index as u32);
            let topic = self.options.topic(number);
            let (lost, first) = receiver.lost(self.options.of_topic(totals, topic));
            part.faults.lost += lost;
            if let Some((of_topic, sequence)) = first {
                let publisher = of_topic * self.options.topics + topic;
                part.faults.name(|| {
                    format!(
                        "lost: {lost} messages at receiver {number}, first message {sequence} of publisher \
                         {publisher}"
                    )
                });
            }
            part.add_order(topic, number, receiver.order());
        }
    }
}
