//! Kill: all who are connected vanish at once, while newcomers arrive at a rate. How long do these wait for their answer,
//! and when is the place of the others free again?
//!
//! A newcomer stays until it is answered. A handshake counts as a delivery: it is due when it begins and heard when it is
//! answered. In the end all who vanished come back, which proves that their places are free.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::metrics::Metrics;
use super::{End, Place, Scenario, Scene, Turn, heard_what_nobody_said};
use crate::clock::{self, SECOND};
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Format, Manner, Opening};
use crate::link::Leave;
use crate::report::Part;

/// Seconds that a newcomer may wait before there is no link left for another one.
const PATIENCE: f64 = 5.0;

/// How many come back at a time.
const RETURNS_MAX: u32 = 128;

/// How often the server is asked how many are connected.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the server calls that figure.
const METRIC: &str = "moongate_connections";

/// What such a run consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) victims: u32,
    /// How many newcomers arrive in a second.
    pub(crate) rate: f64,
    /// How long newcomers arrive before everybody vanishes, in nanoseconds.
    pub(crate) before: u64,
    /// And after it.
    pub(crate) after: u64,
    /// Where the server says how many are connected.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) topics: u32,
    /// What the topics' names begin with.
    pub(crate) name: String,
    pub(crate) manner: Manner,
}

impl Options {
    /// How many links newcomers have.
    pub(crate) fn newcomers(&self) -> u32 {
        (self.rate * PATIENCE).ceil().max(16.0) as u32
    }

    pub(crate) fn plan(&self) -> String {
        let Options { victims, rate, topics, .. } = self;
        let (before, after) = (self.before as f64 / SECOND as f64, self.after as f64 / SECOND as f64);
        format!(
            "{victims} connections on {topics} topics vanish, {rate} newcomers/s for {before} s before and {after} s \
             after"
        )
    }
}

/// One thread's share.
pub(crate) struct Kill {
    options: Options,
    place: Place,
    /// Links of newcomers that may be opened.
    free: Vec<u32>,
    newcomers: u32,
    came: u64,
    began: Option<u64>,
    killed_at: Option<u64>,
    /// Victims that are to come back, and that are on their way.
    to_return: Vec<u32>,
    returning: u32,
    watch: Option<Arc<Watch>>,
    progress: Progress,
}

/// What the thread that asks the server shares with its scenario.
#[derive(Default)]
struct Watch {
    /// How many newcomers there are.
    newcomers: AtomicU64,
    /// When the server said that nobody else is connected; 0 until then.
    empty_at: AtomicU64,
}

impl Kill {
    pub(crate) fn new(options: Options, place: Place) -> Kill {
        let first = place.count_below(options.victims);
        let free: Vec<u32> = (first..place.count()).rev().collect();
        Kill {
            newcomers: free.len() as u32,
            free,
            came: 0,
            began: None,
            killed_at: None,
            to_return: Vec::new(),
            returning: 0,
            watch: None,
            progress: Progress::default(),
            options,
            place,
        }
    }

    fn is_victim(&self, link: u32) -> bool {
        self.place.number(link) < self.options.victims
    }

    fn victims(&self) -> u32 {
        self.place.count_below(self.options.victims)
    }

    fn run(&mut self, scene: &mut Scene<'_>) -> Turn {
        let now = scene.now;
        let began = *self.began.get_or_insert(now);
        scene.part.first_sent.get_or_insert(began);
        let (kill_at, end) = (began + self.options.before, began + self.options.before + self.options.after);
        if now >= kill_at && self.killed_at.is_none() {
            self.kill(scene);
        }
        if let Some(watch) = &self.watch {
            watch.newcomers.store(u64::from(self.newcomers) - self.free.len() as u64, Ordering::Relaxed);
        }
        if now >= end {
            return self.bring_back(scene);
        }
        let next = if self.killed_at.is_none() { kill_at } else { end };
        let due = self.receive(began, scene);
        Turn { wake_at: Some(due.map_or(next, |due| due.min(next))), ..Turn::default() }
    }

    /// Has newcomers arrive whose time has come; says when the next does.
    fn receive(&mut self, began: u64, scene: &mut Scene<'_>) -> Option<u64> {
        let rate = self.options.rate / f64::from(self.place.threads);
        loop {
            let due = began + (self.came as f64 * SECOND as f64 / rate) as u64;
            if due > scene.now {
                return Some(due);
            }
            let Some(link) = self.free.pop() else {
                scene.part.found.count("newcomers were not sent, for too many still waited", 1);
                self.came += 1;
                continue;
            };
            scene.part.lag.record(scene.now - due);
            scene.links.open(link, due);
            self.came += 1;
            self.progress.sent += 1;
            self.progress.due += 1;
        }
    }

    fn kill(&mut self, scene: &mut Scene<'_>) {
        self.killed_at = Some(scene.now);
        self.to_return = (0..self.victims()).rev().collect();
        scene.links.vanish((0..self.victims()).collect());
        scene.part.found.count("vanished", self.victims().into());
        let Some(metrics) = self.options.metrics.filter(|_| self.place.thread == 0) else { return };
        let watch = Arc::new(Watch::default());
        self.watch = Some(Arc::clone(&watch));
        let (threads, until) = (u64::from(self.place.threads), scene.now + self.options.after);
        // Without this thread nothing is known of the server's own count, which is said in the end.
        let _ = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            while clock::now() < until {
                let others = watch.newcomers.load(Ordering::Relaxed) * threads;
                let connections = Metrics::read(metrics).and_then(|metrics| metrics.sum(METRIC));
                if connections.is_some_and(|connections| connections <= others) {
                    watch.empty_at.store(clock::now(), Ordering::Relaxed);
                    return;
                }
                thread::sleep(LOOK_EVERY);
            }
        });
    }

    /// Has those come back who vanished; all of them have, when this has finished.
    fn bring_back(&mut self, scene: &mut Scene<'_>) -> Turn {
        while self.returning < RETURNS_MAX
            && let Some(link) = self.to_return.pop()
        {
            self.returning += 1;
            scene.links.open(link, scene.now);
            self.progress.sent += 1;
            self.progress.due += 1;
        }
        Turn { finished: self.returning == 0, ..Turn::default() }
    }
}

impl Scenario for Kill {
    fn opening(&self, number: u32) -> Opening {
        self.options.manner.opening(&format!("{}-{}", self.options.name, number % self.options.topics))
    }

    fn opened(&mut self, link: u32, due: u64, scene: &mut Scene<'_>) {
        let took = scene.now - due;
        if self.is_victim(link) {
            if self.killed_at.is_some() {
                self.returning -= 1;
                self.progress.heard += 1;
                scene.part.found.count("came back", 1);
            }
            return;
        }
        self.progress.heard += 1;
        scene.part.last_heard = Some(scene.now);
        scene.part.latency.record(took);
        let after = self.killed_at.is_some_and(|killed_at| due >= killed_at);
        scene.part.found.time(if after { "after" } else { "before" }, took);
        scene.links.leave(link, Leave::Politely);
    }

    fn ended(&mut self, link: u32, end: End<'_>, scene: &mut Scene<'_>) -> bool {
        if self.is_victim(link) {
            let End::Refused(why) = end else { return matches!(end, End::Left) };
            if self.killed_at.is_none() {
                return false;
            }
            self.returning -= 1;
            scene.part.faults.lost += 1;
            scene.part.faults.name(|| format!("lost: a place that is not free again: {why}"));
            return true;
        }
        self.free.push(link);
        match end {
            End::Left => true,
            End::Refused(_) => {
                // It was answered, if not as it wished.
                self.progress.heard += 1;
                scene.part.found.count("newcomers were refused", 1);
                if let Some(killed_at) = self.killed_at {
                    scene.part.found.time("refused", scene.now - killed_at);
                }
                true
            }
            End::Cut(_) => false,
        }
    }

    fn hear(&mut self, link: u32, _: Format, _: &[u8], scene: &mut Scene<'_>) {
        heard_what_nobody_said(self.place.number(link), scene.part);
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        let mut turn = if stage == Stage::Run { self.run(scene) } else { Turn::default() };
        turn.settled = stage == Stage::Settle && self.free.len() as u32 == self.newcomers;
        scene.control.add(mem::take(&mut self.progress));
        turn
    }

    fn report(&mut self, _: &Control, part: &mut Part) {
        let (Some(watch), Some(killed_at)) = (&self.watch, self.killed_at) else { return };
        match watch.empty_at.load(Ordering::Relaxed) {
            0 => part.found.count("time in which the server never said that all had gone", 1),
            at => part.found.time("all gone", at - killed_at),
        }
    }
}
