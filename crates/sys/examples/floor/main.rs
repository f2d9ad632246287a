//! The floor: what it costs to send the same bytes to the same sockets by bare batched sends, with nothing else.
//!
//! It answers a WebSocket's head with 101 and from then on joins whatever is said on a path into runs of bytes, each sent
//! to every connection of that path by one `IORING_OP_SEND`. It has no limits, no policies and no back-pressure: those are
//! what the gateway is compared with. The same client drives both, so that they differ in the server alone:
//!
//! ```text
//! cargo run --release -p moongate-sys --example floor -- --listen 127.0.0.1:0
//! moongate-load fanout 127.0.0.1:PORT --subscribers 1000 --window 16
//! ```
//!
//! [`kernel`] holds the ring and all that is unsafe, [`group`] the runs of one path, [`speech`] the little HTTP there is,
//! and [`worker`] the loop.

mod figures;
mod group;
mod kernel;
mod options;
mod peer;
mod speech;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use moongate_sys::{EventBell, Listener, SocketOptions, bind, machine};

use figures::Figures;
use options::Options;
use worker::{Neighbour, Paths, Setup, Worker};

/// As the gateway's listeners have it.
const BACKLOG: u32 = 65_535;
const USER_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => return fail(&why),
    };
    if let Err(error) = machine::raise_open_files() {
        return fail(&format!("cannot raise the limit of open files: {error}"));
    }
    let sockets =
        SocketOptions { notsent_lowat: options.unsent_bytes, user_timeout: USER_TIMEOUT, backlog: BACKLOG };
    let (address, listeners) = match bind(options.listen, options.threads, false, &sockets) {
        Ok(bound) => bound,
        Err(error) => return fail(&error.to_string()),
    };
    println!("listening on {address}");
    match serve(&options, listeners) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

/// Runs one worker on each listener; comes back only when one has failed.
fn serve(options: &Options, listeners: Vec<Listener>) -> Result<(), String> {
    let paths = Arc::new(Paths::default());
    let figures: Arc<[Figures]> = listeners.iter().map(|_| Figures::default()).collect();
    let mut inboxes = Vec::new();
    let mut neighbours = Vec::new();
    for _ in &listeners {
        let (sender, inbox) = mpsc::channel();
        let bell = EventBell::new().map_err(|error| format!("cannot make an eventfd: {error}"))?;
        neighbours.push(Neighbour::new(sender, bell));
        inboxes.push(inbox);
    }
    let neighbours: Arc<[Neighbour]> = neighbours.into();
    let cpus = machine::allowed_cpus().map_err(|error| format!("cannot ask for the CPUs: {error}"))?;
    let pinned = listeners.len() <= cpus.len();
    let mut threads = Vec::new();
    for (index, (listener, inbox)) in listeners.into_iter().zip(inboxes).enumerate() {
        let setup = Setup {
            index,
            pace: options.pace,
            neighbours: Arc::clone(&neighbours),
            paths: Arc::clone(&paths),
            figures: Arc::clone(&figures),
        };
        let cpu = pinned.then(|| cpus[index]);
        // A ring of one issuer belongs to the thread that makes it.
        threads.push(thread::spawn(move || -> Result<(), String> {
            if let Some(cpu) = cpu {
                machine::pin(cpu).map_err(|error| format!("cannot stay on CPU {cpu}: {error}"))?;
            }
            Worker::new(setup, listener, inbox)
                .map_err(|error| format!("cannot set up a ring: {error}"))?
                .run()
        }));
    }
    for thread in threads {
        thread.join().map_err(|_| "a thread has panicked".to_owned())??;
    }
    Ok(())
}

fn fail(why: &str) -> ExitCode {
    eprintln!("floor: {why}");
    ExitCode::from(2)
}
