//! The threads of a run, and its other processes where one may not open enough files: started, told the stage, heard,
//! and added up.
//!
//! Another process is this program again, as `moongate-load worker`. It reads its orders and writes its news as lines of
//! JSON, and ends when its orders do.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::{Control, Progress, Stage};
use crate::engine::Engine;
use crate::limits;
use crate::report::Part;
use crate::scenario::{Kind, Place};

/// How often a worker process tells its news. A window that spans processes opens by so much later.
const NEWS_EVERY: Duration = Duration::from_millis(1);

/// What every process of a run must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) server: SocketAddr,
    pub(crate) kind: Kind,
    /// How many threads each process has.
    pub(crate) threads: u32,
    /// How many processes there are.
    pub(crate) processes: u32,
}

/// What a worker process is told.
#[derive(Serialize, Deserialize)]
enum Order {
    /// The first: be this process of the run.
    Start { spec: Box<Spec>, process: u32 },
    /// So many connections are to be open, over all processes.
    Target(u32),
    /// The next stage.
    Stage(Stage),
    /// How many messages each publisher has sent.
    Totals(Vec<u64>),
}

/// What a worker process tells.
#[derive(Serialize, Deserialize)]
enum News {
    /// What was done since the last such news.
    Progress(Progress),
    /// The run cannot go on.
    Failure(String),
    /// The last: what it found.
    Part(Box<Part>),
}

/// Everyone who takes part.
pub(crate) struct Crew {
    control: Arc<Control>,
    threads: Vec<JoinHandle<Part>>,
    workers: Vec<Worker>,
}

struct Worker {
    child: Child,
    orders: ChildStdin,
    news: JoinHandle<Part>,
}

impl Crew {
    /// Starts all threads and processes of a run.
    pub(crate) fn start(spec: &Spec) -> io::Result<Crew> {
        let mut crew = Crew::start_threads(spec, 0)?;
        for process in 1..spec.processes {
            let worker = Worker::start(spec, process, Arc::clone(&crew.control))?;
            crew.workers.push(worker);
        }
        Ok(crew)
    }

    fn start_threads(spec: &Spec, process: u32) -> io::Result<Crew> {
        let control = Arc::new(Control::default());
        let mut engines = Vec::new();
        let threads = spec.processes * spec.threads;
        let own = process * spec.threads..(process + 1) * spec.threads;
        let aside = (process == 0 && spec.kind.aside() > 0).then_some(threads);
        for thread in own.chain(aside) {
            let place = Place {
                thread,
                threads,
                links: spec.kind.links(),
                publishers: spec.kind.publishers(),
                aside: spec.kind.aside(),
                is_alone: spec.processes == 1,
            };
            engines.push(Engine::new(place, spec.server, spec.kind.build(place), Arc::clone(&control))?);
        }
        control.set_wakers(engines.iter().map(Engine::waker).collect::<Result<_, _>>()?);
        let spawn = |engine: Engine| thread::Builder::new().name("engine".to_owned()).spawn(|| engine.run());
        let threads = engines.into_iter().map(spawn).collect::<Result<_, _>>()?;
        Ok(Crew { control, threads, workers: Vec::new() })
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// The other processes.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.workers.iter().map(|worker| worker.child.id())
    }

    /// Has so many connections opened.
    pub(crate) fn set_target(&mut self, target: u32) {
        self.control.set_target(target);
        self.order(&Order::Target(target));
    }

    /// Enters a stage.
    pub(crate) fn set_stage(&mut self, stage: Stage) {
        if let (Stage::Settle | Stage::Close, Some(totals)) = (stage, self.control.totals()) {
            self.order(&Order::Totals(totals.to_vec()));
        }
        self.order(&Order::Stage(stage));
        self.control.set_stage(stage);
    }

    fn order(&mut self, order: &Order) {
        for worker in &mut self.workers {
            // One that has ended is noticed by the end of its news.
            let _ = write_line(&mut worker.orders, order);
        }
    }

    /// Waits for everyone, who must have been told [`Stage::Close`], and adds up what they found.
    pub(crate) fn finish(self) -> Part {
        let mut all = Part::default();
        for thread in self.threads {
            all.add(thread.join().expect("a panic is reported where it happens"));
        }
        for mut worker in self.workers {
            drop(worker.orders);
            all.add(worker.news.join().expect("a panic is reported where it happens"));
            // It has told its last news, or never will.
            let _ = worker.child.wait();
        }
        all
    }
}

impl Worker {
    fn start(spec: &Spec, process: u32, control: Arc<Control>) -> io::Result<Worker> {
        let mut child = Command::new(env::current_exe()?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(mut orders), Some(news)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a worker process without pipes"));
        };
        write_line(&mut orders, &Order::Start { spec: Box::new(spec.clone()), process })?;
        let news = thread::Builder::new().name("news".to_owned()).spawn(move || {
            listen(BufReader::new(news), &control).unwrap_or_else(|why| {
                control.fail(format!("worker process {process}: {why}"));
                Part::default()
            })
        })?;
        Ok(Worker { child, orders, news })
    }
}

/// Hears a worker process out.
fn listen(news: impl BufRead, control: &Control) -> Result<Part, String> {
    for line in news.lines() {
        let line = line.map_err(|error| error.to_string())?;
        match serde_json::from_str(&line).map_err(|error| error.to_string())? {
            News::Progress(progress) => {
                control.add(progress);
                if progress.heard > 0 {
                    control.wake_first();
                }
            }
            News::Failure(why) => control.fail(why),
            News::Part(part) => return Ok(*part),
        }
    }
    Err("it ended early".to_owned())
}

fn write_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    to.write_all(line.as_bytes())?;
    to.flush()
}

/// The life of a worker process.
pub(crate) fn work() -> ExitCode {
    limits::raise_open_files();
    match follow() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moongate-load worker: {error}");
            ExitCode::from(2)
        }
    }
}

fn follow() -> io::Result<()> {
    // Not locked: the lock could not go to another thread.
    let mut orders = BufReader::new(io::stdin()).lines();
    let Some(Order::Start { spec, process }) = next_order(&mut orders)? else {
        return Err(io::Error::other("started by hand; moongate-load starts its workers itself"));
    };
    let crew = Crew::start_threads(&spec, process)?;
    let control = Arc::clone(&crew.control);
    thread::Builder::new().name("orders".to_owned()).spawn(move || obey(orders, &control))?;
    let mut told = Progress::default();
    let mut out = io::stdout().lock();
    while crew.control.stage() != Stage::Close {
        thread::sleep(NEWS_EVERY);
        let progress = crew.control.progress();
        if progress != told {
            write_line(&mut out, &News::Progress(progress.since(told)))?;
            told = progress;
        }
        if let Some(why) = crew.control.failure() {
            write_line(&mut out, &News::Failure(why.to_owned()))?;
            break;
        }
    }
    let part = crew.finish();
    write_line(&mut out, &News::Part(Box::new(part)))
}

/// Does what it is told; without orders there is nothing left to do.
fn obey(mut orders: impl Iterator<Item = io::Result<String>>, control: &Control) {
    while let Ok(Some(order)) = next_order(&mut orders) {
        match order {
            Order::Start { .. } => break,
            Order::Target(target) => control.set_target(target),
            Order::Stage(stage) => control.set_stage(stage),
            Order::Totals(totals) => control.set_totals(totals),
        }
    }
    control.set_stage(Stage::Close);
}

fn next_order(lines: &mut impl Iterator<Item = io::Result<String>>) -> io::Result<Option<Order>> {
    let Some(line) = lines.next().transpose()? else { return Ok(None) };
    Ok(Some(serde_json::from_str(&line)?))
}
