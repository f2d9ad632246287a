//! What a run of comings back consists of, and when each message of it is due.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::course::Course;
use crate::clock::SECOND;
use crate::dialect::{Manner, Opening};
use crate::pattern::Filling;

/// What such a run consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Those who are cut off and come back; the first links.
    pub(crate) travellers: u32,
    /// Their topics, each with a publisher who stays.
    pub(crate) topics: u32,
    /// The share of them that listens to event streams.
    pub(crate) streams: f64,
    /// Those who stay, on a topic of their own.
    pub(crate) bystanders: u32,
    /// Messages a second on theirs.
    pub(crate) bystander_rate: f64,
    /// Messages a second on each other topic, while all are there.
    pub(crate) rate: f64,
    /// How many are said on each while they are away.
    pub(crate) missed: u32,
    /// How long all listen before the cut, in nanoseconds.
    pub(crate) before: u64,
    /// How long they are away.
    pub(crate) away: u64,
    /// And how long messages are said after that.
    pub(crate) after: u64,
    /// How many are on their way back at a time.
    pub(crate) at_a_time: u32,
    /// What replaces the server by another, instead of a cut.
    pub(crate) restart: Option<String>,
    /// Where the server says what it did.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) server: SocketAddr,
    /// Its process, where it is known.
    pub(crate) pid: Option<u32>,
    /// What the topics' names begin with.
    pub(crate) name: String,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) filling: Filling,
    pub(crate) manner: Manner,
    /// How far the run has come in this process.
    #[serde(skip)]
    pub(crate) course: Arc<Course>,
}

/// What a link is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Traveller,
    Bystander,
    Publisher,
}

impl Options {
    pub(crate) fn plan(&self) -> String {
        let Options { travellers, topics, missed, bystanders, bystander_rate, .. } = self;
        let how = if self.restart.is_some() { "the server is replaced" } else { "cut off" };
        format!(
            "{travellers} subscribers of {topics} topics, {:.0} % of them event streams; {how}, {missed} messages of {} bytes \
             missed on each topic, back {} at a time; {bystanders} bystanders at {bystander_rate} messages/s",
            self.streams * 100.0,
            self.size,
            self.at_a_time
        )
    }

    /// How many links the bystanders' thread has: theirs, and their publisher's, which is the last.
    pub(crate) fn aside(&self) -> u32 {
        self.bystanders + 1
    }

    /// How a link to `topic` is opened.
    pub(super) fn opening(&self, topic: u32) -> Opening {
        self.manner.opening(&format!("{}-{topic}", self.name))
    }

    pub(super) fn role(&self, number: u32) -> Role {
        match number {
            _ if number < self.travellers => Role::Traveller,
            _ if number < self.travellers + self.topics => Role::Publisher,
            _ if number < self.travellers + self.topics + self.bystanders => Role::Bystander,
            _ => Role::Publisher,
        }
    }

    /// The topic of link number `number`; the bystanders' is the last.
    pub(super) fn topic(&self, number: u32) -> u32 {
        match self.role(number) {
            Role::Traveller => number % self.topics,
            Role::Bystander => self.topics,
            Role::Publisher => (number - self.travellers).min(self.topics),
        }
    }

    /// Whether traveller number `number` listens to an event stream: on each topic they are spread, and the first does.
    pub(super) fn is_stream(&self, number: u32) -> bool {
        let before = |rank: u32| (f64::from(rank) * self.streams).ceil();
        let rank = number / self.topics;
        self.role(number) == Role::Traveller && before(rank + 1) > before(rank)
    }

    /// How many hear what is said on `topic`.
    pub(super) fn audience(&self, topic: u32) -> u64 {
        let others = if topic == self.topics {
            self.bystanders
        } else {
            self.travellers.saturating_sub(topic).div_ceil(self.topics)
        };
        u64::from(others) + 1
    }

    /// How many messages are said on each of the travellers' topics before the cut.
    pub(super) fn said_before_cut(&self) -> u64 {
        self.live(self.before)
    }

    /// How many messages are said on `topic` before all come back.
    pub(super) fn said_before_return(&self, topic: u32) -> u64 {
        debug_assert!(topic < self.topics, "bystanders stay");
        self.live(self.before) + u64::from(self.missed)
    }

    /// How many messages are said on `topic` in all.
    pub(super) fn said(&self, topic: u32) -> u64 {
        if topic == self.topics {
            return (self.bystander_rate * self.end() as f64 / SECOND as f64) as u64;
        }
        self.said_before_return(topic) + self.live(self.after)
    }

    fn live(&self, nanos: u64) -> u64 {
        (self.rate * nanos as f64 / SECOND as f64) as u64
    }

    /// When all come back, in nanoseconds from the beginning.
    pub(super) fn return_at(&self) -> u64 {
        self.before + self.away
    }

    /// When the last message is due.
    pub(super) fn end(&self) -> u64 {
        self.return_at() + self.after
    }

    /// When message number `sequence` of `topic` is due, in nanoseconds from the beginning. Topics take turns, for all of them
    /// together would be a burst of their own.
    pub(super) fn due(&self, topic: u32, sequence: u64) -> u64 {
        let at = |index: f64, rate: f64| (index * SECOND as f64 / rate) as u64;
        if topic == self.topics {
            return at(sequence as f64, self.bystander_rate);
        }
        let turn = f64::from(topic) / f64::from(self.topics);
        let (before, missed) = (self.live(self.before), u64::from(self.missed));
        match sequence {
            _ if sequence < before => at(sequence as f64 + turn, self.rate).min(self.before - 1),
            _ if sequence < before + missed => {
                // First the server must notice who has gone, or it would work for them still.
                let (index, half) = ((sequence - before) as f64 + turn, self.away / 2);
                self.before + half + (half as f64 * index / missed as f64) as u64
            }
            _ => {
                let index = (sequence - before - missed) as f64 + turn;
                self.return_at() + at(index, self.rate).min(self.after - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Tongue;

    fn options() -> Options {
        Options {
            travellers: 10,
            topics: 3,
            streams: 0.5,
            bystanders: 2,
            bystander_rate: 10.0,
            rate: 2.0,
            missed: 5,
            before: 2 * SECOND,
            away: SECOND,
            after: SECOND,
            at_a_time: 4,
            restart: None,
            metrics: None,
            server: "127.0.0.1:8080".parse().expect("an address"),
            pid: None,
            name: "load".to_owned(),
            size: 128,
            filling: Filling::Noise,
            manner: Manner { tongue: Tongue::WebSocket, path: "/topics/{topic}".to_owned(), lenient: false },
            course: Arc::default(),
        }
    }

    #[test]
    fn every_link_has_a_topic_and_every_topic_its_audience() {
        let options = options();
        let mut heard = vec![0; options.topics as usize + 1];
        for number in 0..options.travellers + options.topics + options.aside() {
            heard[options.topic(number) as usize] += 1;
        }
        let audiences: Vec<u64> = (0..=options.topics).map(|topic| options.audience(topic)).collect();
        assert_eq!((heard, audiences.as_slice()), (vec![5, 4, 4, 3], [5, 4, 4, 3].as_slice()));
        let streams: Vec<u32> = (0..15).filter(|number| options.is_stream(*number)).collect();
        assert_eq!(streams, [0, 1, 2, 6, 7, 8]);
    }

    #[test]
    fn what_is_missed_is_due_while_all_are_away() {
        let options = options();
        assert_eq!((options.said(0), options.said(3)), (4 + 5 + 2, 40));
        for topic in 0..=options.topics {
            let dues: Vec<u64> =
                (0..options.said(topic)).map(|sequence| options.due(topic, sequence)).collect();
            assert!(dues.is_sorted() && *dues.last().expect("some") < options.end(), "{dues:?}");
            if topic < options.topics {
                let away = |due: &&u64| (options.before..options.return_at()).contains(*due);
                assert_eq!(dues.iter().filter(away).count(), 5, "{dues:?}");
                let before = |due: &&u64| **due < options.return_at();
                assert_eq!(dues.iter().filter(before).count() as u64, options.said_before_return(topic));
            }
        }
    }
}
