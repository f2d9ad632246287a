//! Fan-out: publishers say something on topics, and every subscriber of a topic must hear all of it, once, in one order.
//! Publishers that speak on WebSockets also hear their topic.
//!
//! Some subscribers may read slowly, and some may leave and be replaced while messages flow: what they hear must be as
//! right, from the moment they joined. What those who stay must hear is what is *due*; the others add to it as they hear.

mod members;
mod source;

use std::mem;

use serde::{Deserialize, Serialize};

use super::{End, Extent, Place, Scenario, Scene, Turn, format_of};
use crate::clock::SECOND;
use crate::control::{Control, Stage};
use crate::dialect::{Format, Manner, Opening, Tongue};
use crate::link::Leave;
use crate::pattern::{Filling, Pattern};
use crate::report::Part;
use members::Members;
pub(crate) use source::Pace;
use source::Source;

/// How often those who read slowly may read on.
const DRAIN_EVERY: u64 = SECOND / 50;

/// How those leave who are replaced, in turn.
const LEAVES: [Leave; 3] = [Leave::Politely, Leave::Silently, Leave::Abruptly];

/// What a fan-out consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) subscribers: u32,
    /// How many links of others have their numbers between the subscribers' and the publishers'.
    pub(crate) others: u32,
    pub(crate) publishers: u32,
    /// How many of the publishers speak by a request for each message; the last ones.
    pub(crate) posters: u32,
    pub(crate) topics: u32,
    /// What the topics' names begin with.
    pub(crate) name: String,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) text: bool,
    pub(crate) filling: Filling,
    pub(crate) manner: Manner,
    /// How many of the subscribers listen to event streams, spread among them.
    pub(crate) streams: u32,
    /// The first subscribers.
    pub(crate) slow: Slow,
    /// Those after them.
    pub(crate) churn: Churn,
    /// Whether deliveries may be lost, and subscribers be cut: then both are counted and are no faults.
    pub(crate) losses_allowed: bool,
    pub(crate) pace: Pace,
    pub(crate) extent: Extent,
}

/// Subscribers that read slowly.
#[derive(Copy, Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slow {
    pub(crate) subscribers: u32,
    /// How fast each reads while messages are sent; 0: not at all.
    pub(crate) bytes_per_second: u64,
}

/// Subscribers that leave and are replaced.
#[derive(Copy, Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Churn {
    pub(crate) subscribers: u32,
    /// How many leave in a second.
    pub(crate) rate: f64,
}

/// What a subscriber is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Role {
    Steady,
    Slow,
    Mover,
}

impl Options {
    /// The topic of link number `number`.
    fn topic(&self, number: u32) -> u32 {
        match self.publisher(number) {
            Some(publisher) => publisher % self.topics,
            None => number % self.topics,
        }
    }

    /// Which publisher link number `number` is; none if it is a subscriber's.
    fn publisher(&self, number: u32) -> Option<u32> {
        number.checked_sub(self.subscribers + self.others)
    }

    /// Whether `publisher` speaks by requests.
    fn is_poster(&self, publisher: u32) -> bool {
        publisher >= self.publishers - self.posters
    }

    fn role(&self, number: u32) -> Role {
        match number {
            _ if number < self.slow.subscribers => Role::Slow,
            _ if number < self.slow.subscribers + self.churn.subscribers => Role::Mover,
            _ => Role::Steady,
        }
    }

    /// Whether subscriber number `number` listens to an event stream.
    fn is_stream(&self, number: u32) -> bool {
        let before = |number: u32| u64::from(number) * u64::from(self.streams) / u64::from(self.subscribers);
        before(number + 1) > before(number)
    }

    /// How many of `count` in turn fall on `topic`.
    fn share(&self, count: u32, topic: u32) -> u32 {
        count.saturating_sub(topic).div_ceil(self.topics)
    }

    /// How many must hear what is said on `topic`.
    fn audience(&self, topic: u32) -> u64 {
        let moving = self.share(self.slow.subscribers + self.churn.subscribers, topic);
        let steady = self.share(self.subscribers, topic) - moving;
        u64::from(steady) + u64::from(self.share(self.publishers - self.posters, topic))
    }

    /// How many messages each publisher of `topic` has sent.
    fn of_topic<'a>(&self, totals: &'a [u64], topic: u32) -> impl Iterator<Item = u64> + use<'a> {
        totals.iter().skip(topic as usize).step_by(self.topics as usize).copied()
    }

    /// How many messages each publisher of `topic` has sent when it is so many in all.
    fn of_topic_after(&self, sent: u64, topic: u32) -> impl Iterator<Item = u64> + use<> {
        let publishers = u64::from(self.publishers);
        let of_topic = (topic..self.publishers).step_by(self.topics as usize);
        of_topic.map(move |publisher| sent.saturating_sub(publisher.into()).div_ceil(publishers))
    }

    pub(crate) fn plan(&self) -> String {
        let Options { subscribers, publishers, topics, size, .. } = self;
        let mut plan =
            format!("{subscribers} subscribers, {publishers} publishers, {topics} topics, {size} bytes");
        plan += &match self.pace {
            Pace::Window(window) => format!(", window {window}"),
            Pace::Volley(messages) => format!(", volleys of {messages}"),
            Pace::Rate(rate) => format!(", {rate} messages/s"),
            Pace::Unbounded => ", unbounded".to_owned(),
        };
        if self.streams > 0 {
            plan += &format!(", {} event streams", self.streams);
        }
        if self.posters > 0 {
            plan += &format!(", {} publishers by POST", self.posters);
        }
        let Slow { subscribers, bytes_per_second } = self.slow;
        match bytes_per_second {
            _ if subscribers == 0 => {}
            0 => plan += &format!(", {subscribers} do not read"),
            rate => plan += &format!(", {subscribers} read {rate} bytes/s"),
        }
        if self.churn.subscribers > 0 {
            plan += &format!(", {} of which {} leave a second", self.churn.subscribers, self.churn.rate);
        }
        plan
    }
}

/// One thread's share.
pub(crate) struct Fanout {
    options: Options,
    place: Place,
    pattern: Pattern,
    members: Members,
    source: Option<Source>,
    /// Indexes of the links that read slowly.
    slow: Vec<u32>,
    drained_at: Option<u64>,
    /// Indexes of the links that leave, in turn.
    movers: Vec<u32>,
    moves: u64,
    /// When those who leave began to.
    moving_since: Option<u64>,
    /// How many deliveries are still to come, once it is known how many there were.
    outstanding: Option<u64>,
}

impl Fanout {
    pub(crate) fn new(options: Options, place: Place) -> Fanout {
        let pattern = Pattern::new(options.size, options.filling);
        let with = |role| -> Vec<u32> {
            let of_subscribers = 0..place.count_below(options.subscribers);
            of_subscribers.filter(|index| options.role(place.number(*index)) == role).collect()
        };
        Fanout {
            members: Members::new(&options, place),
            source: (place.thread == 0).then(|| Source::new(&options, place)),
            slow: with(Role::Slow),
            drained_at: None,
            movers: with(Role::Mover),
            moves: 0,
            moving_since: None,
            outstanding: None,
            pattern,
            options,
            place,
        }
    }

    /// Lets those who read slowly read what they may.
    fn drain(&mut self, now: u64, scene: &mut Scene<'_>) -> Option<u64> {
        let rate = self.options.slow.bytes_per_second;
        if self.slow.is_empty() || rate == 0 {
            return None;
        }
        let since = now - *self.drained_at.get_or_insert(now);
        if since >= DRAIN_EVERY {
            // As much as it may in the time that has passed, for it was not more that was there to be read.
            let bytes = (rate as f64 * since as f64 / SECOND as f64) as usize;
            for link in &self.slow {
                scene.links.allow(*link, Some(bytes.max(1)));
            }
            self.drained_at = Some(now);
        }
        self.drained_at.map(|at| at + DRAIN_EVERY)
    }

    /// Has those leave who are to.
    fn churn(&mut self, now: u64, scene: &mut Scene<'_>) -> Option<u64> {
        if self.movers.is_empty() {
            return None;
        }
        let since = *self.moving_since.get_or_insert(now);
        let rate = self.options.churn.rate / f64::from(self.place.threads);
        loop {
            let due = since + ((self.moves + 1) as f64 * SECOND as f64 / rate) as u64;
            if due > now {
                return Some(due);
            }
            let turn = self.moves as usize;
            let link = self.movers[turn % self.movers.len()];
            if scene.links.is_open(link) {
                scene.links.leave(link, LEAVES[turn % LEAVES.len()]);
                self.members.bid_farewell();
                scene.part.found.count("left and were replaced", 1);
            }
            self.moves += 1;
        }
    }

    fn run(&mut self, scene: &mut Scene<'_>) -> Turn {
        let wake_ats = [self.drain(scene.now, scene), self.churn(scene.now, scene)];
        let mut turn = match &mut self.source {
            Some(source) => source.publish(&self.options, &self.pattern, scene),
            None => Turn { finished: true, ..Turn::default() },
        };
        turn.wake_at = wake_ats.into_iter().chain([turn.wake_at]).flatten().min();
        turn
    }

    fn settle(&mut self, scene: &mut Scene<'_>) -> Turn {
        if let Some(source) = &self.source {
            // Where the window never opened again, this is not known yet.
            scene.control.set_totals(source.sent.clone());
        }
        let Some(totals) = scene.control.totals() else { return Turn::default() };
        // Who reads slowly must hear what is left, or find that it was cut.
        for link in mem::take(&mut self.slow) {
            scene.links.allow(link, None);
        }
        if self.outstanding.is_none() && self.members.are_all_there() {
            self.outstanding = Some(self.members.behind(&self.options, totals));
        }
        Turn { settled: self.outstanding == Some(0), ..Turn::default() }
    }

    /// So many deliveries are not to come any more.
    fn came(&mut self, count: u64) {
        self.outstanding = self.outstanding.map(|outstanding| outstanding.saturating_sub(count));
    }
}

impl Scenario for Fanout {
    fn opening(&self, number: u32) -> Opening {
        let options = &self.options;
        let mut opening = options.manner.opening(&format!("{}-{}", options.name, options.topic(number)));
        match (options.publisher(number), &self.source) {
            (Some(publisher), Some(source)) if options.is_poster(publisher) => {
                opening.tongue = Tongue::Post(format_of(options.text));
                opening.body = source.body(publisher);
            }
            (None, _) if options.is_stream(number) => opening.tongue = Tongue::Events,
            _ => {}
        }
        opening
    }

    fn opened(&mut self, link: u32, due: u64, scene: &mut Scene<'_>) {
        let number = self.place.number(link);
        if let Some(publisher) = self.options.publisher(number) {
            if self.options.is_poster(publisher) {
                scene.part.found.time("POST", scene.now - due);
            }
            return;
        }
        match self.options.role(number) {
            Role::Slow => scene.links.allow(link, Some(0)),
            Role::Mover => {
                if self.moving_since.is_some() {
                    scene.part.found.time("joining", scene.now - due);
                }
                self.members.join(link, &self.options, self.place, scene.control);
            }
            Role::Steady => {}
        }
    }

    fn ended(&mut self, link: u32, end: End<'_>, scene: &mut Scene<'_>) -> bool {
        let number = self.place.number(link);
        if let Some(publisher) = self.options.publisher(number) {
            // The server ends a request's connection behind its answer.
            return self.options.is_poster(publisher) && !matches!(end, End::Refused(_));
        }
        match (end, self.options.role(number)) {
            (End::Left, Role::Mover) => {
                self.members.leave(link, scene.part);
                scene.links.open(link, scene.now);
                true
            }
            (End::Cut(why), role) if self.options.losses_allowed => {
                let what = match role {
                    Role::Slow => "slow subscribers were cut",
                    Role::Steady | Role::Mover => "other subscribers were cut",
                };
                scene.part.found.count(what, 1);
                scene.part.found.count(&format!("connections ended: {why}"), 1);
                let behind = self.members.cut(link, &self.options, scene.control.totals());
                self.came(behind);
                true
            }
            (End::Left, _) => true,
            (End::Refused(_) | End::Cut(_), _) => false,
        }
    }

    fn hear(&mut self, link: u32, format: Format, payload: &[u8], scene: &mut Scene<'_>) {
        let count = self.members.hear(link, format, payload, &self.options, &mut self.pattern, scene);
        self.came(count);
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        let progress = self.members.take_progress();
        scene.control.add(progress);
        if progress.heard > 0 && self.source.is_none() && self.options.pace.is_closed() {
            scene.control.wake_first();
        }
        match stage {
            Stage::Run => self.run(scene),
            Stage::Settle => self.settle(scene),
            Stage::Open | Stage::Close => Turn::default(),
        }
    }

    fn report(&mut self, control: &Control, part: &mut Part) {
        if let Some(totals) = control.totals() {
            self.members.report(&self.options, totals, part);
        }
    }
}
