//! Who listens, where each stands in its topic, and whether each hears what it must.

use super::options::{Options, Role};
use crate::dialect::{Position, Told};
use crate::pattern::Stamp;
use crate::report::Part;
use crate::scenario::Place;
use crate::verify::{Receiver, Verdict};

/// Those of a thread, by their links' index.
pub(super) struct Members {
    list: Vec<Member>,
    place: Place,
    /// The epoch of each topic, as an event stream was told before anybody was away.
    epochs: Vec<Option<u64>>,
    /// How many travellers are on their way and have not heard all they missed.
    pub(super) behind: u32,
    /// How many deliveries are to come.
    pub(super) outstanding: u64,
}

struct Member {
    number: u32,
    topic: u32,
    role: Role,
    is_stream: bool,
    receiver: Receiver,
    /// How many of its topic's messages it has heard.
    heard: u64,
    /// Where it stands, as it was told.
    position: Option<Position>,
    /// Whether it is on its way back, or heard what it missed only in part.
    behind: bool,
    /// Whether it was told, since it came back, that it has heard everything.
    recovered: Option<bool>,
}

impl Members {
    pub(super) fn new(options: &Options, place: Place) -> Members {
        let member = |index| {
            let number = place.number(index);
            Member {
                number,
                topic: options.topic(number),
                role: options.role(number),
                is_stream: options.is_stream(number),
                receiver: Receiver::new(1),
                heard: 0,
                position: None,
                behind: false,
                recovered: None,
            }
        };
        let list: Vec<Member> = (0..place.count()).map(member).collect();
        let outstanding = list.iter().map(|member| options.said(member.topic)).sum();
        Members { list, place, epochs: vec![None; options.topics as usize], behind: 0, outstanding }
    }

    /// Where the member on link number `number` stands; none where nobody said which epoch it is.
    pub(super) fn position(&self, number: u32) -> Option<Position> {
        let member = &self.list[((number - self.place.thread) / self.place.threads) as usize];
        if member.is_stream {
            return member.position;
        }
        // Its publisher is the only one, so that offsets count its messages.
        let epoch = (*self.epochs.get(member.topic as usize)?)?;
        Some(Position { epoch, offset: member.heard })
    }

    /// Whether all travellers know where they stand, and have heard something, if anything was said.
    pub(super) fn are_placed(&self, options: &Options) -> bool {
        let mut travellers = self.list.iter().filter(|member| member.role == Role::Traveller);
        let silent = options.said_before_cut() == 0;
        travellers.all(|member| (silent || member.heard > 0) && self.position(member.number).is_some())
    }

    /// Whether the publishers of this thread have heard what each has `said`.
    pub(super) fn have_publishers_heard(&self, said: &[u64]) -> bool {
        let publishers = &self.list[self.list.len() - said.len()..];
        publishers.iter().zip(said).all(|(publisher, said)| publisher.heard >= *said)
    }

    /// Takes note that all travellers, the first links, are about to come back.
    pub(super) fn depart(&mut self, travellers: u32) {
        self.behind = travellers;
        for member in &mut self.list[..travellers as usize] {
            member.behind = true;
        }
    }

    pub(super) fn told(&mut self, link: u32, told: Told) {
        let member = &mut self.list[link as usize];
        match told {
            Told::At(position) => {
                if let Some(epoch @ None) = self.epochs.get_mut(member.topic as usize) {
                    *epoch = Some(position.epoch);
                }
                member.position = Some(position);
            }
            Told::Gap(_) => member.recovered = Some(false),
            Told::Recovered(recovered) => member.recovered = Some(recovered),
        }
    }

    /// Takes a message. How many deliveries need not be waited for any more.
    pub(super) fn hear(&mut self, link: u32, stamp: Stamp, part: &mut Part) -> u64 {
        let Member { number, topic, receiver, heard, .. } = &mut self.list[link as usize];
        let Stamp { publisher, sequence, .. } = stamp;
        if publisher != *topic {
            part.faults.corrupted += 1;
            part.faults.name(|| format!("corrupted: receiver {number} of topic {topic} heard {publisher}"));
            return 0;
        }
        let came = match receiver.hear(0, sequence) {
            Verdict::Next => 1,
            Verdict::Skipped(count) => 1 + count,
            verdict @ (Verdict::Late | Verdict::Again) => {
                let (count, what, how) = if verdict == Verdict::Late {
                    (&mut part.faults.reordered, "reordered", "after a later one")
                } else {
                    (&mut part.faults.doubled, "doubled", "again")
                };
                *count += 1;
                part.faults.name(|| {
                    format!("{what}: message {sequence} of topic {topic} came {how} at receiver {number}")
                });
                return 0;
            }
        };
        *heard += came;
        self.outstanding -= came;
        came
    }

    /// Whether the traveller on `link` has just heard the last of what it missed.
    pub(super) fn is_live_now(&mut self, link: u32, options: &Options) -> bool {
        let member = &mut self.list[link as usize];
        let live = member.behind && member.heard >= options.said_before_return(member.topic);
        if live {
            member.behind = false;
            self.behind -= 1;
        }
        live
    }

    /// At the end: what is missing, and who was not told how things stand.
    pub(super) fn report(&self, options: &Options, part: &mut Part) {
        for member in &self.list {
            let Member { number, topic, receiver, .. } = member;
            let (lost, first) = receiver.lost([options.said(*topic)].into_iter());
            part.faults.lost += lost;
            if let Some((_, sequence)) = first {
                part.faults.name(|| {
                    format!("lost: {lost} messages at receiver {number}, first message {sequence} of topic {topic}")
                });
            }
            if let Some(why) = member.is_misled(options.restart.is_some()) {
                part.faults.lost += 1;
                part.faults.name(|| format!("lost: receiver {number} came back and {why}"));
            }
        }
        part.found.count("came back", self.list.iter().filter(|member| member.is_back()).count() as u64);
    }
}

impl Member {
    fn is_back(&self) -> bool {
        self.role == Role::Traveller && !self.behind
    }

    /// What it was told otherwise than it is. To an event stream nothing needs to be said of what it does not miss.
    fn is_misled(&self, replaced: bool) -> Option<&'static str> {
        if !self.is_back() {
            return None;
        }
        match (replaced, self.recovered) {
            (true, Some(false)) | (false, Some(true)) => None,
            (false, None) if self.is_stream => None,
            (true, _) => Some("was not told that nobody knows its place"),
            (false, Some(false)) => Some("was told that it has missed something"),
            (false, None) => Some("was not told whether it has missed something"),
        }
    }
}
