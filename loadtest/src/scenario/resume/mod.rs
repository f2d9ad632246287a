//! Resume: many listen, are cut off, miss what is said meanwhile, come back at once to where they were, and must have heard
//! everything in the end, once and in order. [`Bystanders`] stay on a topic of their own: what do they notice?
//!
//! Instead of the cut, a command may replace the server by another one. Then everybody is cut off by its end, and those
//! who come back name a place that the new one cannot know: each must be told so, and hear what was kept since. Nothing is on
//! its way when the command is run, so that nothing may be missing here either.
//!
//! Those who come back are the travellers. An event stream tells them their place; a WebSocket only says which messages
//! there were, so that it takes the topic's epoch from an event stream beside it.

mod bystanders;
mod course;
mod members;
mod options;

use std::mem;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread;

pub(crate) use self::bystanders::Bystanders;
use self::members::Members;
pub(crate) use self::options::Options;
use self::options::Role;
use super::metrics::Metrics;
use super::{End, Place, Scenario, Scene, Turn, read_message};
use crate::clock::{self, SECOND};
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Opening, Told, Tongue};
use crate::host::{self, Reading, Watch};
use crate::pattern::{Pattern, Stamp};
use crate::report::Part;

/// How often it is looked whether the server is replaced.
const LOOK_EVERY: u64 = SECOND / 100;

/// What the server counts of what it does for those who come back, and what it is called here.
const METRICS: [(&str, &str); 4] = [
    ("moongate_resumes_total", "places were resumed from"),
    ("moongate_replay_encodings_total", "kept messages were encoded for that"),
    ("moongate_messages_replayed_total", "messages were sent from those"),
    ("moongate_messages_replayed_bytes_total", "bytes of messages were sent from those"),
];

/// How far a run has come.
enum Phase {
    /// All listen. Nobody is cut off who does not know its place.
    Before,
    /// What was said is on its way, and nothing more is said until the server is replaced.
    Quiet,
    /// The command runs.
    Replacing(Arc<OnceLock<Result<(), String>>>),
    /// Those who stay come back to the new server.
    Rejoining,
    /// The travellers are away. They come back when all they are to miss was said, as the publishers hear.
    Away,
    /// They come back.
    Returning,
    /// All have heard what they missed.
    After,
}

/// What the server had done before travellers came back.
struct Ledger {
    metrics: Vec<Option<u64>>,
    watch: Watch,
    /// What it had computed when they began to.
    reading: Option<Reading>,
}

/// One thread's share.
pub(crate) struct Resume {
    options: Options,
    place: Place,
    pattern: Pattern,
    members: Members,
    phase: Phase,
    /// When the run began; later where time stood still while the server was replaced.
    began: Option<u64>,
    /// Since when time stands still.
    paused_at: Option<u64>,
    /// Links that were cut off.
    absent: Vec<u32>,
    returning: u32,
    /// How many messages were said on each topic, by the thread that publishes.
    said: Vec<u64>,
    message: Vec<u8>,
    ledger: Option<Ledger>,
    /// Nanoseconds that the server computed while they came back.
    server_nanos: Option<u64>,
    progress: Progress,
}

impl Resume {
    pub(crate) fn new(options: Options, place: Place) -> Resume {
        let topics = if place.thread == 0 { options.topics } else { 0 };
        Resume {
            pattern: Pattern::new(options.size, options.filling),
            members: Members::new(&options, place),
            phase: Phase::Before,
            began: None,
            paused_at: None,
            absent: Vec::new(),
            returning: 0,
            said: vec![0; topics as usize],
            message: Vec::new(),
            ledger: None,
            server_nanos: None,
            progress: Progress::default(),
            options,
            place,
        }
    }

    fn role(&self, link: u32) -> Role {
        self.options.role(self.place.number(link))
    }

    fn travellers(&self) -> u32 {
        self.place.count_below(self.options.travellers)
    }

    /// How much of the run's time has passed.
    fn elapsed(&self, now: u64) -> u64 {
        self.began.map_or(0, |began| self.paused_at.unwrap_or(now) - began)
    }

    fn run(&mut self, scene: &mut Scene<'_>) -> Turn {
        if self.began.is_none() {
            self.begin(scene);
        }
        let mut next_message = self.speak(scene);
        while self.step(scene) {
            next_message = self.speak(scene);
        }
        let next_phase = match self.phase {
            Phase::Before if self.elapsed(scene.now) >= self.options.before => None,
            Phase::Before => self.began.map(|began| began + self.options.before),
            Phase::Quiet | Phase::Replacing(_) | Phase::Rejoining => Some(scene.now + LOOK_EVERY),
            Phase::Away if self.elapsed(scene.now) >= self.options.return_at() => None,
            Phase::Away => self.began.map(|began| began + self.options.return_at()),
            Phase::Returning => None,
            Phase::After => self.began.map(|began| began + self.options.end()),
        };
        let over = matches!(self.phase, Phase::After) && self.elapsed(scene.now) >= self.options.end();
        let wake_at = [next_message, next_phase].into_iter().flatten().min();
        Turn { wake_at, finished: over && next_message.is_none(), ..Turn::default() }
    }

    fn begin(&mut self, scene: &mut Scene<'_>) {
        self.began = Some(scene.now);
        scene.part.first_sent = Some(scene.now);
        self.ledger = (self.place.thread == 0).then(|| Ledger::open(&self.options, self.options.pid));
        if self.options.restart.is_some() && self.place.threads > 1 {
            scene.control.fail("--restart needs one thread in one process: see ulimit -n".to_owned());
        }
    }

    /// Enters the next phase, if its time has come.
    fn step(&mut self, scene: &mut Scene<'_>) -> bool {
        let elapsed = self.elapsed(scene.now);
        let next = match &self.phase {
            Phase::Before if elapsed >= self.options.before && self.members.are_placed(&self.options) => {
                if self.options.restart.is_some() {
                    self.paused_at = self.began.map(|began| began + self.options.before);
                    Phase::Quiet
                } else {
                    scene.links.vanish((0..self.travellers()).collect());
                    scene.part.found.count("were cut off", self.travellers().into());
                    Phase::Away
                }
            }
            Phase::Quiet
                if self.progress.heard == 0 && self.options.course.is_quiet() && is_quiet(scene.control) =>
            {
                Phase::Replacing(self.replace())
            }
            Phase::Replacing(outcome) => match outcome.get() {
                Some(Ok(())) if self.absent.len() as u32 == self.place.count() => {
                    let first = self.travellers();
                    scene.part.found.count("were cut off", first.into());
                    self.absent.retain(|link| *link < first);
                    for link in first..self.place.count() {
                        scene.links.open(link, scene.now);
                    }
                    self.options.course.replace();
                    Phase::Rejoining
                }
                Some(Err(why)) => {
                    scene.control.fail(format!("--restart: {why}"));
                    return false;
                }
                _ => return false,
            },
            Phase::Rejoining
                if self.options.course.have_rejoined()
                    && (self.travellers()..self.place.count()).all(|link| scene.links.is_open(link)) =>
            {
                let pid = host::find(self.options.server.port());
                self.ledger = Some(Ledger::open(&self.options, pid));
                // Time goes on.
                let now = clock::now();
                self.options.course.resume(now);
                self.began =
                    self.began.zip(self.paused_at.take()).map(|(began, paused)| began + now - paused);
                Phase::Away
            }
            Phase::Away
                if elapsed >= self.options.return_at()
                    && self.absent.len() as u32 == self.travellers()
                    && self.members.have_publishers_heard(&self.said) =>
            {
                if let Some(ledger) = &mut self.ledger {
                    ledger.reading = Some(ledger.watch.read(&[]));
                }
                self.members.depart(self.travellers());
                Phase::Returning
            }
            Phase::Returning => {
                self.bring_back(scene);
                if self.members.behind > 0 {
                    return false;
                }
                self.options.course.live(scene.now);
                self.server_nanos = self.ledger.as_ref().and_then(Ledger::server_nanos);
                Phase::After
            }
            _ => return false,
        };
        self.phase = next;
        true
    }

    /// Runs the command that replaces the server, on a thread of its own.
    fn replace(&self) -> Arc<OnceLock<Result<(), String>>> {
        let outcome = Arc::new(OnceLock::new());
        let (command, told) = (self.options.restart.clone().unwrap_or_default(), Arc::clone(&outcome));
        let run = move || {
            let ended = Command::new("sh").args(["-c", &command]).status();
            let _ = told.set(match ended {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("{command:?} ended with {status}")),
                Err(error) => Err(format!("{command:?}: {error}")),
            });
        };
        if let Err(error) = thread::Builder::new().name("restart".to_owned()).spawn(run) {
            let _ = outcome.set(Err(format!("starting a thread: {error}")));
        }
        outcome
    }

    /// Has travellers come back, as many at a time as may.
    fn bring_back(&mut self, scene: &mut Scene<'_>) {
        let due = self.began.map_or(scene.now, |began| began + self.options.return_at());
        while self.returning < self.options.at_a_time
            && let Some(link) = self.absent.pop()
        {
            self.returning += 1;
            scene.links.open(link, due);
        }
    }

    /// Says what is due; when the next message is.
    fn speak(&mut self, scene: &mut Scene<'_>) -> Option<u64> {
        let began = self.began.filter(|_| self.paused_at.is_none())?;
        let (elapsed, first) = (self.elapsed(scene.now), self.place.count_below(self.place.links));
        let mut next = None;
        for topic in 0..self.said.len() as u32 {
            let total = self.options.said(topic);
            let said = &mut self.said[topic as usize];
            while *said < total {
                let due = self.options.due(topic, *said);
                if due > elapsed {
                    next = Some(next.map_or(due, |next: u64| next.min(due)));
                    break;
                }
                let stamp = Stamp { publisher: topic, sequence: *said, time: began + due };
                self.pattern.write(stamp, &mut self.message);
                scene.links.say(first + topic, Format::Text, &self.message);
                *said += 1;
                self.progress.sent += 1;
                self.progress.due += self.options.audience(topic);
            }
        }
        next.map(|due| began + due)
    }

    /// Takes note of how long a traveller took, if it has heard all it missed by now.
    fn notice_live(&mut self, link: u32, scene: &mut Scene<'_>) {
        if let (true, Some(began)) = (self.members.is_live_now(link, &self.options), self.began) {
            scene.part.found.time("live again", scene.now - began - self.options.return_at());
        }
    }
}

/// Whether all that was said has been heard.
fn is_quiet(control: &Control) -> bool {
    let progress = control.progress();
    progress.heard >= progress.due
}

impl Ledger {
    /// For the server in process `pid`.
    fn open(options: &Options, pid: Option<u32>) -> Ledger {
        let metrics = options.metrics.and_then(Metrics::read);
        let metrics = METRICS.iter().map(|(name, _)| metrics.as_ref()?.sum(name)).collect();
        Ledger { metrics, watch: Watch::new(pid), reading: None }
    }

    /// What the server has computed since travellers began to come back.
    fn server_nanos(&self) -> Option<u64> {
        let server = self.watch.read(&[]).since(self.reading.as_ref()?).server?;
        Some((server.total() * 1e9) as u64)
    }

    /// What the server says it did, and what it took for that.
    fn report(&self, options: &Options, server_nanos: Option<u64>, part: &mut Part) {
        let Some(metrics) = options.metrics.and_then(Metrics::read) else { return };
        for ((name, what), before) in METRICS.iter().zip(&self.metrics) {
            let Some(more) = metrics.sum(name).zip(*before).map(|(now, before)| now - before) else {
                continue;
            };
            part.found.count(what, more);
            if let ("moongate_messages_replayed_total", Some(nanos)) = (*name, server_nanos) {
                let each = nanos / more.max(1);
                part.found
                    .count("ns of the server's CPU for each of those, all it did meanwhile included", each);
            }
        }
    }
}

impl Scenario for Resume {
    fn opening(&self, number: u32) -> Opening {
        let mut opening = self.options.opening(self.options.topic(number));
        if self.options.is_stream(number) {
            opening.tongue = Tongue::Events;
        }
        if let (Phase::Returning, Role::Traveller) = (&self.phase, self.options.role(number))
            && let Some(position) = self.members.position(number)
        {
            opening.target += &format!("?since={position}");
        }
        opening
    }

    fn opened(&mut self, link: u32, due: u64, scene: &mut Scene<'_>) {
        if let (Phase::Returning, Role::Traveller) = (&self.phase, self.role(link)) {
            self.returning -= 1;
            scene.part.found.time("answered", scene.now - due);
            self.notice_live(link, scene);
        }
    }

    fn ended(&mut self, link: u32, end: End<'_>, _: &mut Scene<'_>) -> bool {
        let expected = match end {
            End::Left => true,
            End::Cut(_) => matches!(self.phase, Phase::Replacing(_)),
            End::Refused(_) => false,
        };
        if expected {
            self.absent.push(link);
        }
        expected
    }

    fn told(&mut self, link: u32, told: Told, _: &mut Scene<'_>) {
        self.members.told(link, told);
    }

    fn hear(&mut self, link: u32, format: Format, payload: &[u8], scene: &mut Scene<'_>) {
        let number = self.place.number(link);
        let manner = &self.options.manner;
        let read = read_message(&mut self.pattern, Format::Text, format, payload, manner, scene.part, number);
        let Some(stamp) = read else { return };
        self.progress.heard += self.members.hear(link, stamp, scene.part);
        if self.options.role(number) == Role::Traveller {
            self.notice_live(link, scene);
        }
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        scene.control.add(mem::take(&mut self.progress));
        let mut turn = if stage == Stage::Run { self.run(scene) } else { Turn::default() };
        turn.settled = stage == Stage::Settle && self.members.outstanding == 0;
        scene.control.add(mem::take(&mut self.progress));
        turn
    }

    fn report(&mut self, _: &Control, part: &mut Part) {
        self.members.report(&self.options, part);
        if let Some(ledger) = &self.ledger {
            ledger.report(&self.options, self.server_nanos, part);
        }
    }
}
