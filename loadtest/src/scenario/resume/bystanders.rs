//! Those who stay, on a topic of their own, with its publisher. They have a thread of their own, so that what they notice is
//! the server's doing and not that this tool has thousands of others to look after.

use std::mem;

use super::members::Members;
use super::options::{Options, Role};
use super::{LOOK_EVERY, read_message};
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Opening};
use crate::pattern::{Pattern, Stamp};
use crate::report::Part;
use crate::scenario::{End, Place, Scenario, Scene, Turn};

/// All of them.
pub(crate) struct Bystanders {
    options: Options,
    place: Place,
    pattern: Pattern,
    members: Members,
    /// When the run began; later where time stood still while the server was replaced.
    began: Option<u64>,
    /// Since when time stands still.
    paused_at: Option<u64>,
    /// Links that were cut off while it does.
    absent: Vec<u32>,
    /// How many messages were said.
    said: u64,
    message: Vec<u8>,
    /// Messages that were due since travellers began to come back: when, and how long each took.
    since_return: Vec<(u64, u64)>,
    progress: Progress,
}

impl Bystanders {
    pub(crate) fn new(options: Options, place: Place) -> Bystanders {
        Bystanders {
            pattern: Pattern::new(options.size, options.filling),
            members: Members::new(&options, place),
            began: None,
            paused_at: None,
            absent: Vec::new(),
            said: 0,
            message: Vec::new(),
            since_return: Vec::new(),
            progress: Progress::default(),
            options,
            place,
        }
    }

    fn run(&mut self, scene: &mut Scene<'_>) -> Turn {
        let began = *self.began.get_or_insert(scene.now);
        scene.part.first_sent.get_or_insert(began);
        let pauses = self.options.restart.is_some() && self.options.course.resumed_at().is_none();
        if pauses && scene.now - began >= self.options.before {
            self.paused_at.get_or_insert(began + self.options.before);
        }
        let next = self.speak(scene);
        if self.paused_at.is_some() && !self.wait_for_another(scene) {
            return Turn { wake_at: Some(scene.now + LOOK_EVERY), ..Turn::default() };
        }
        let pause_at = pauses.then(|| began + self.options.before);
        Turn {
            wake_at: [next, pause_at].into_iter().flatten().min(),
            finished: next.is_none(),
            ..Turn::default()
        }
    }

    /// Comes back once the server is replaced. Whether time goes on.
    fn wait_for_another(&mut self, scene: &mut Scene<'_>) -> bool {
        let course = &self.options.course;
        if !course.is_quiet() {
            // Told before it is, for whoever hears of it looks whether all has been heard.
            scene.control.add(mem::take(&mut self.progress));
            course.fall_quiet();
        }
        if course.is_replaced() && self.absent.len() as u32 == self.place.count() {
            self.absent.drain(..).for_each(|link| scene.links.open(link, scene.now));
        }
        if course.is_replaced() && (0..self.place.count()).all(|link| scene.links.is_open(link)) {
            course.rejoin();
        }
        let Some(now) = course.resumed_at() else { return false };
        self.began = self.began.zip(self.paused_at.take()).map(|(began, paused)| began + now - paused);
        true
    }

    /// Says what is due; when the next message is, if there is one and time does not stand still.
    fn speak(&mut self, scene: &mut Scene<'_>) -> Option<u64> {
        let (began, topic) = (self.began?, self.options.topics);
        let until = self.paused_at.unwrap_or(scene.now) - began;
        while self.said < self.options.said(topic) {
            let due = self.options.due(topic, self.said);
            if due >= until {
                return Some(began + due);
            }
            scene.part.lag.record(until - due);
            let stamp = Stamp { publisher: topic, sequence: self.said, time: began + due };
            self.pattern.write(stamp, &mut self.message);
            scene.links.say(self.place.count() - 1, Format::Text, &self.message);
            self.said += 1;
            self.progress.sent += 1;
            self.progress.due += self.options.audience(topic);
        }
        None
    }
}

impl Scenario for Bystanders {
    fn opening(&self, _: u32) -> Opening {
        self.options.opening(self.options.topics)
    }

    fn ended(&mut self, link: u32, end: End<'_>, _: &mut Scene<'_>) -> bool {
        let expected = matches!(end, End::Cut(_)) && self.paused_at.is_some();
        if expected {
            self.absent.push(link);
        }
        expected || matches!(end, End::Left)
    }

    fn hear(&mut self, link: u32, format: Format, payload: &[u8], scene: &mut Scene<'_>) {
        let number = self.place.number(link);
        let manner = &self.options.manner;
        let read = read_message(&mut self.pattern, Format::Text, format, payload, manner, scene.part, number);
        let Some(stamp) = read else { return };
        self.progress.heard += self.members.hear(link, stamp, scene.part);
        let (Role::Bystander, Some(began)) = (self.options.role(number), self.began) else { return };
        let latency = scene.now.saturating_sub(stamp.time);
        scene.part.latency.record(latency);
        match stamp.time.saturating_sub(began) {
            at if at < self.options.before => scene.part.found.time("before", latency),
            at if at < self.options.return_at() => scene.part.found.time("away", latency),
            _ => self.since_return.push((stamp.time, latency)),
        }
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        let mut turn = if stage == Stage::Run { self.run(scene) } else { Turn::default() };
        turn.settled = stage == Stage::Settle && self.members.outstanding == 0;
        scene.control.add(mem::take(&mut self.progress));
        turn
    }

    fn report(&mut self, _: &Control, part: &mut Part) {
        let live_at = self.options.course.live_at();
        for (at, latency) in self.since_return.drain(..) {
            let returning = live_at.is_none_or(|live_at| at < live_at);
            part.found.time(if returning { "returning" } else { "after" }, latency);
        }
        self.members.report(&self.options, part);
    }
}
