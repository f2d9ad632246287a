//! A run from its start to its end: opens connections, lets them speak, waits for what is on its way, and looks at the
//! server meanwhile.

use std::io::{IsTerminal as _, stderr};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;

use crate::control::{Control, Progress, Stage};
use crate::crew::{Crew, Spec};
use crate::report::Part;
use crate::scenario::Kind;
use crate::server::{self, Cpu, Footprint};

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
    /// How long messages were sent and awaited, in seconds.
    pub(crate) running: f64,
    /// What the server's process computed in that time.
    pub(crate) server_cpu: Option<Cpu>,
    /// What this tool's processes computed in that time.
    pub(crate) own_cpu: Option<Cpu>,
    /// The server with so many connections.
    pub(crate) footprints: Vec<Sized>,
}

/// The server's footprint with some connections.
#[derive(Copy, Clone, Debug, Serialize)]
pub(crate) struct Sized {
    pub(crate) connections: u32,
    #[serde(flatten)]
    pub(crate) footprint: Footprint,
}

/// Runs `spec` against the server in process `pid`. `patience`: how long nothing may happen while something is due.
pub(crate) fn conduct(spec: &Spec, pid: Option<u32>, patience: Duration) -> Result<Outcome, String> {
    let crew = Crew::start(spec).map_err(|error| format!("starting: {error}"))?;
    let mut run = Run { crew, spec, pid, patience };
    let played = run.play();
    run.crew.set_stage(Stage::Close);
    let failure = run.crew.control().failure().map(str::to_owned);
    let progress = run.crew.control().progress();
    let mut part = run.crew.finish();
    part.compare_orders();
    if let Some(why) = failure {
        return Err(why);
    }
    let Played { opening, running, server_cpu, own_cpu, footprints } = played?;
    Ok(Outcome { progress, part, opening, running, server_cpu, own_cpu, footprints })
}

struct Run<'a> {
    crew: Crew,
    spec: &'a Spec,
    pid: Option<u32>,
    patience: Duration,
}

struct Played {
    opening: f64,
    running: f64,
    server_cpu: Option<Cpu>,
    own_cpu: Option<Cpu>,
    footprints: Vec<Sized>,
}

impl Run<'_> {
    fn play(&mut self) -> Result<Played, String> {
        let begin = Instant::now();
        let mut opening = 0.0;
        let mut footprints = Vec::new();
        for target in self.sizes() {
            self.open(target)?;
            opening = begin.elapsed().as_secs_f64();
            footprints.extend(self.footprint(target));
        }
        self.hold();

        let begin = Instant::now();
        let (server_before, own_before) = (self.server_cpu(), self.own_cpu());
        self.run();
        let since = |after: Option<Cpu>, before: Option<Cpu>| Some(after?.since(before?));
        Ok(Played {
            opening,
            running: begin.elapsed().as_secs_f64(),
            server_cpu: since(self.server_cpu(), server_before),
            own_cpu: since(self.own_cpu(), own_before),
            footprints,
        })
    }

    /// How many connections are opened at a time. Memory is looked at after each: two sizes make a slope.
    fn sizes(&self) -> Vec<u32> {
        let all = self.spec.kind.links() + self.spec.kind.publishers();
        match &self.spec.kind {
            Kind::Idle(_) if all > 1 => vec![all.div_ceil(5), all],
            _ => vec![all],
        }
    }

    fn open(&mut self, target: u32) -> Result<(), String> {
        self.crew.set_target(target);
        let control = self.crew.control();
        let goal = u64::from(target);
        let opened = wait("opening", goal, self.patience, control, |progress| progress.opened);
        let count = control.progress().opened;
        if opened || control.failure().is_some() {
            return Ok(());
        }
        Err(format!("{count} of {target} connections opened, and then no more for {:?}", self.patience))
    }

    fn footprint(&self, connections: u32) -> Option<Sized> {
        let (Kind::Idle(_), Some(pid)) = (&self.spec.kind, self.pid) else { return None };
        thread::sleep(REST);
        Some(Sized { connections, footprint: server::footprint(pid)? })
    }

    fn hold(&self) {
        let Kind::Idle(options) = &self.spec.kind else { return };
        let until = Instant::now() + Duration::from_nanos(options.hold);
        while Instant::now() < until && self.crew.control().failure().is_none() {
            thread::sleep(LOOK_EVERY);
        }
    }

    fn run(&mut self) {
        self.crew.set_stage(Stage::Run);
        let threads = u64::from(self.spec.threads * self.spec.processes);
        wait("sending", threads, self.patience, self.crew.control(), |progress| progress.finished);
        self.crew.set_stage(Stage::Settle);
        let control = self.crew.control();
        let due = control.progress().due;
        wait("settling", due, self.patience, control, |progress| progress.heard);
    }

    fn server_cpu(&self) -> Option<Cpu> {
        server::cpu(self.pid?)
    }

    fn own_cpu(&self) -> Option<Cpu> {
        let mut all = server::cpu(std::process::id())?;
        for pid in self.crew.pids() {
            let cpu = server::cpu(pid)?;
            all = Cpu { user: all.user + cpu.user, system: all.system + cpu.system };
        }
        Some(all)
    }
}

/// Waits until `reached` is at `goal`, or nothing has happened for as long as `patience` although something should, or
/// the run has failed. Says whether it is reached.
fn wait(
    what: &str,
    goal: u64,
    patience: Duration,
    control: &Control,
    reached: impl Fn(&Progress) -> u64,
) -> bool {
    let bar = bar(what);
    let tell_every = TELL_EVERY[usize::from(bar.is_none())];
    let (mut last, mut moved_at, mut told_at) = (control.progress(), Instant::now(), Instant::now());
    loop {
        let progress = control.progress();
        if reached(&progress) >= goal {
            return true;
        }
        // Where all that is due has come, whoever sends takes their time: that is theirs to say.
        let pausing = control.stage() == Stage::Run && progress.heard >= progress.due;
        if progress != last || pausing {
            (last, moved_at) = (progress, Instant::now());
        }
        if moved_at.elapsed() > patience || control.failure().is_some() {
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
