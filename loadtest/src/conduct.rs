//! A run from its start to its end: opens connections, lets them speak, waits for what is on its way, and looks at the
//! server meanwhile.

use std::io::{IsTerminal as _, stderr};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::control::{Progress, Stage};
use crate::crew::{Crew, Spec};
use crate::host::{Footprint, Usage, Watch};
use crate::report::Part;
use crate::scenario::Kind;
use crate::timeline::{Moment, Timeline};

/// How often it is looked how far the run has come.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How often it is told on a terminal, and where there is none.
const TELL_EVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// How long connections rest before memory is looked at.
const REST: Duration = Duration::from_millis(500);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) progress: Progress,
    pub(crate) part: Part,
    /// How long it took to open all connections, in seconds.
    pub(crate) opening: f64,
    /// Who computed what while messages were sent and awaited.
    pub(crate) usage: Usage,
    /// Memory before the run, with its connections, and after it.
    pub(crate) footprints: Vec<Sized>,
    pub(crate) timeline: Vec<Moment>,
}

/// When memory was looked at.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    /// Before the run opened anything.
    Before,
    /// When its connections were open.
    Open,
    /// When all that was sent had come.
    After,
}

/// The footprint of the server and the kernel with some connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sized {
    pub(crate) when: When,
    pub(crate) connections: u32,
    #[serde(flatten)]
    pub(crate) footprint: Footprint,
}

/// Runs `spec` against the server in process `pid`. `with`: processes that take part beside it. `patience`: how long nothing
/// may happen while something is due.
pub(crate) fn conduct(
    spec: &Spec,
    pid: Option<u32>,
    with: &[u32],
    patience: Duration,
) -> Result<Outcome, String> {
    let watch = Watch::new(pid).with(with)?;
    let mut footprints = Vec::new();
    footprints.extend(look(pid, When::Before, 0));
    let crew = Crew::start(spec).map_err(|error| format!("starting: {error}"))?;
    let timeline = Timeline::new(pid);
    let mut run = Run { crew, spec, pid, patience, watch, footprints, timeline };
    let played = run.play();
    run.crew.set_stage(Stage::Close);
    let failure = run.crew.control().failure().map(str::to_owned);
    let progress = run.crew.control().progress();
    let mut part = run.crew.finish();
    part.compare_orders();
    if let Some(why) = failure {
        return Err(why);
    }
    let (opening, usage) = played?;
    let (footprints, timeline) = (run.footprints, run.timeline.into_moments());
    Ok(Outcome { progress, part, opening, usage, footprints, timeline })
}

fn look(pid: Option<u32>, when: When, connections: u32) -> Option<Sized> {
    Some(Sized { when, connections, footprint: Footprint::read(pid?)? })
}

struct Run<'a> {
    crew: Crew,
    spec: &'a Spec,
    pid: Option<u32>,
    patience: Duration,
    watch: Watch,
    footprints: Vec<Sized>,
    timeline: Timeline,
}

impl Run<'_> {
    /// How long it took to open all connections, and who computed what afterwards.
    fn play(&mut self) -> Result<(f64, Usage), String> {
        let begin = Instant::now();
        let mut opening = 0.0;
        for target in self.sizes() {
            self.open(target)?;
            opening = begin.elapsed().as_secs_f64();
            if let Kind::Idle(_) = self.spec.kind {
                thread::sleep(REST);
            }
            self.footprints.extend(look(self.pid, When::Open, target));
        }
        self.hold();

        let own: Vec<u32> = [std::process::id()].into_iter().chain(self.crew.pids()).collect();
        let before = self.watch.read(&own);
        self.run();
        let usage = self.watch.read(&own).since(&before);
        self.footprints.extend(look(self.pid, When::After, self.crew.control().progress().opened as u32));
        Ok((opening, usage))
    }

    /// How many connections are opened at a time. Memory is looked at after each: two sizes make a slope.
    fn sizes(&self) -> Vec<u32> {
        let all = self.spec.kind.opened_before();
        match &self.spec.kind {
            Kind::Idle(_) if all > 1 => vec![all.div_ceil(15), all],
            _ => vec![all],
        }
    }

    fn open(&mut self, target: u32) -> Result<(), String> {
        self.crew.set_target(target);
        let opened = self.wait("opening", u64::from(target), |progress| progress.opened);
        let control = self.crew.control();
        let count = control.progress().opened;
        if opened || control.failure().is_some() {
            return Ok(());
        }
        Err(format!("{count} of {target} connections opened, and then no more for {:?}", self.patience))
    }

    fn hold(&mut self) {
        let Kind::Idle(options) = &self.spec.kind else { return };
        let until = Instant::now() + Duration::from_nanos(options.hold);
        while Instant::now() < until && self.crew.control().failure().is_none() {
            self.timeline.look(self.crew.control());
            thread::sleep(LOOK_EVERY);
        }
    }

    fn run(&mut self) {
        self.crew.set_stage(Stage::Run);
        let threads = u64::from(self.spec.kind.threads(self.spec.threads * self.spec.processes));
        self.wait("sending", threads, |progress| progress.finished);
        self.crew.set_stage(Stage::Settle);
        self.wait("settling", threads, |progress| progress.settled);
    }

    /// Waits until `reached` is at `goal`, or nothing has happened for as long as patience lasts although something
    /// should, or the run has failed. Says whether it is reached.
    fn wait(&mut self, what: &str, goal: u64, reached: impl Fn(&Progress) -> u64) -> bool {
        let control = self.crew.control();
        let bar = bar(what);
        let tell_every = TELL_EVERY[usize::from(bar.is_none())];
        let (mut last, mut moved_at, mut told_at) = (control.progress(), Instant::now(), Instant::now());
        loop {
            let progress = control.progress();
            self.timeline.look(control);
            if reached(&progress) >= goal {
                return true;
            }
            // Where all that is due has come, whoever sends takes their time: that is theirs to say.
            let pausing = control.stage() == Stage::Run && progress.heard >= progress.due;
            if progress != last || pausing {
                (last, moved_at) = (progress, Instant::now());
            }
            if moved_at.elapsed() > self.patience || control.failure().is_some() {
                return false;
            }
            if told_at.elapsed() > tell_every {
                match &bar {
                    Some(bar) => bar.set_message(tell(&progress)),
                    None => eprintln!("{what}: {}", tell(&progress)),
                }
                told_at = Instant::now();
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// On a terminal; it goes when it is dropped.
fn bar(what: &str) -> Option<ProgressBar> {
    if !stderr().is_terminal() {
        return None;
    }
    let style = ProgressStyle::with_template("{spinner} {prefix} {msg}").expect("a valid template");
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    Some(bar.with_style(style).with_prefix(what.to_owned()))
}

fn tell(progress: &Progress) -> String {
    let Progress { opened, sent, due, heard, .. } = progress;
    format!("{opened} connections, {sent} messages sent, {heard} of {due} deliveries heard")
}
