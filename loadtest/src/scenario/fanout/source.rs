//! Who speaks: publishers in turn, at some pace. All of them are links of the first thread, so that the window and the
//! rate are kept in one place.

use serde::{Deserialize, Serialize};

use super::Options;
use crate::clock::{self, SECOND};
use crate::control::Progress;
use crate::pattern::{Pattern, Stamp};
use crate::scenario::{Place, Scene, Turn, format_of};

/// Messages sent in one turn, so that what comes in is read in time.
const TURN_MESSAGES_MAX: u32 = 256;

/// Bytes sent in one turn where nothing else holds a publisher back.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// Bytes that may wait in this tool for a server that does not take them.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// When a message is sent.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pace {
    /// Closed loop: as soon as no more than so many are on their way to all who hear them.
    Window(u64),
    /// Closed loop: so many at once, as soon as all have heard those before. Whatever the tool and the server make of the time
    /// between two messages, it is the same volley that each subscriber is to be sent.
    Volley(u64),
    /// Open loop: so many a second, whatever comes back.
    Rate(f64),
    /// As soon as the server's kernel has taken what was sent before.
    Unbounded,
}

impl Pace {
    /// Whether what is sent waits for what is heard.
    pub(super) fn is_closed(self) -> bool {
        matches!(self, Pace::Window(_) | Pace::Volley(_))
    }
}

/// Speaks, in the first thread.
pub(super) struct Source {
    /// Index of the first publisher's link.
    first: u32,
    /// How many messages each publisher has sent.
    pub(super) sent: Vec<u64>,
    sent_all: u64,
    /// How many deliveries those call for.
    due: u64,
    /// How many of those the others were told of.
    told: u64,
    /// How many messages of the volley are still to be sent.
    volley: u64,
    began: Option<u64>,
    /// When the server last took too little to send more: what is late by then is not this tool's doing.
    held_back_at: u64,
    message: Vec<u8>,
    /// What each publisher has to say that does so by requests.
    bodies: Vec<Vec<u8>>,
}

/// Whether a message may be sent now.
enum Leave {
    /// It counts from this time.
    Now(u64),
    /// Not before this time.
    At(u64),
    /// Not before something happens.
    Wait,
}

impl Source {
    pub(super) fn new(options: &Options, place: Place) -> Source {
        Source {
            first: place.count_below(place.links),
            sent: vec![0; options.publishers as usize],
            sent_all: 0,
            due: 0,
            told: 0,
            volley: 0,
            began: None,
            held_back_at: 0,
            message: Vec::new(),
            bodies: vec![Vec::new(); options.publishers as usize],
        }
    }

    /// What publisher number `publisher` has to say by a request.
    pub(super) fn body(&self, publisher: u32) -> Vec<u8> {
        self.bodies[publisher as usize].clone()
    }

    /// Sends all that may be sent now.
    pub(super) fn publish(&mut self, options: &Options, pattern: &Pattern, scene: &mut Scene<'_>) -> Turn {
        let began = *self.began.get_or_insert_with(clock::now);
        let deadline = options.extent.nanos.map(|nanos| began + nanos);
        let sent_before = self.sent_all;
        let mut turn = Turn { wake_at: deadline, ..Turn::default() };
        let mut bytes = 0;
        for step in 0.. {
            let now = clock::now();
            if options.extent.count.is_some_and(|count| self.sent_all >= count)
                || deadline.is_some_and(|deadline| now >= deadline)
            {
                turn.finished = true;
                scene.control.set_totals(self.sent.clone());
                break;
            }
            if step == TURN_MESSAGES_MAX || bytes >= TURN_BYTES_MAX {
                turn.wake_at = Some(now);
                break;
            }
            let publisher = (self.sent_all % u64::from(options.publishers)) as u32;
            match self.may_send(publisher, began, now, step == 0, options, scene) {
                Leave::Now(time) => {
                    self.say(publisher, time, options, pattern, scene);
                    bytes += options.size;
                }
                Leave::At(due) => {
                    turn.wake_at = Some(deadline.map_or(due, |deadline| deadline.min(due)));
                    break;
                }
                Leave::Wait => break,
            }
        }
        // Unbounded, what this turn has sent may be gone when it ends, and then nobody would say so.
        if let (Pace::Unbounded, true) = (options.pace, bytes > 0 && !turn.finished) {
            turn.wake_at = Some(began);
        }
        if scene.part.first_sent.is_none() && self.sent_all > 0 {
            scene.part.first_sent = Some(began);
        }
        let (sent, due) = (self.sent_all - sent_before, self.due - self.told);
        self.told = self.due;
        scene.control.set_published(self.sent_all);
        scene.control.add(Progress { sent, due, ..Progress::default() });
        turn
    }

    /// Whether `publisher` may send; `first`: it would be the first message of this turn.
    fn may_send(
        &mut self,
        publisher: u32,
        began: u64,
        now: u64,
        first: bool,
        options: &Options,
        scene: &mut Scene<'_>,
    ) -> Leave {
        let link = self.first + publisher;
        let held_back = if options.is_poster(publisher) {
            !scene.links.is_gone(link)
        } else if let Pace::Unbounded = options.pace {
            first && scene.links.waiting(link) > 0
        } else {
            scene.links.waiting(link) > WAITING_BYTES_MAX
        };
        if held_back {
            self.held_back_at = now;
            return Leave::Wait;
        }
        match options.pace {
            Pace::Unbounded => Leave::Now(now),
            Pace::Window(window) => {
                let audience = options.audience(publisher % options.topics);
                let on_the_way = (self.due + audience).saturating_sub(self.heard(scene));
                if on_the_way > window * audience { Leave::Wait } else { Leave::Now(now) }
            }
            Pace::Volley(_) if self.volley == 0 && self.heard(scene) < self.due => Leave::Wait,
            Pace::Volley(messages) => {
                self.volley = if self.volley == 0 { messages } else { self.volley } - 1;
                Leave::Now(now)
            }
            Pace::Rate(rate) => {
                let due = began + (self.sent_all as f64 * SECOND as f64 / rate) as u64;
                if due > now {
                    return Leave::At(due);
                }
                scene.part.lag.record(now - due.max(self.held_back_at));
                Leave::Now(due)
            }
        }
    }

    /// How many deliveries have come of those that the window counts.
    fn heard(&self, scene: &Scene<'_>) -> u64 {
        let progress = scene.control.progress();
        // What is due beside that is due only when it has come.
        let beside = progress.due.saturating_sub(self.told);
        progress.heard.saturating_sub(beside)
    }

    fn say(
        &mut self,
        publisher: u32,
        time: u64,
        options: &Options,
        pattern: &Pattern,
        scene: &mut Scene<'_>,
    ) {
        let sequence = &mut self.sent[publisher as usize];
        let stamp = Stamp { publisher, sequence: *sequence, time };
        let link = self.first + publisher;
        if options.is_poster(publisher) {
            pattern.write(stamp, &mut self.bodies[publisher as usize]);
            scene.links.open(link, time);
        } else {
            pattern.write(stamp, &mut self.message);
            scene.links.say(link, format_of(options.text), &self.message);
        }
        *sequence += 1;
        self.sent_all += 1;
        self.due += options.audience(publisher % options.topics);
    }
}
