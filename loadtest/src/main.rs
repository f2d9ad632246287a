//! The load tool: opens many WebSockets, speaks on them, and checks every delivery: content, order, loss, duplicates.
//!
//! A run's way: [`cli`] says what it is, [`conduct`] takes it from stage to stage, [`crew`] holds its threads and
//! processes, each thread is an [`engine`] that plays a [`scenario`], and [`output`] says what came of it.

mod cli;
mod clock;
mod conduct;
mod control;
mod crew;
mod engine;
mod limits;
mod link;
mod output;
mod pattern;
mod report;
mod scenario;
mod server;
mod verify;

use std::fs;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Job};

/// Something came otherwise than it was sent.
const WRONG: u8 = 1;
/// The run could not take place.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command.into_job() {
        Ok(None) => crew::work(),
        Ok(Some(job)) => run(&job).unwrap_or_else(|why| fail(&why)),
        Err(why) => fail(&why),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(FAILED)
}

fn run(job: &Job) -> Result<ExitCode, String> {
    let pid = job.pid.or_else(|| server::find(job.spec.server.port()));
    println!("{}", output::plan(&job.spec, pid));
    let outcome = conduct::conduct(&job.spec, pid, job.patience)?;
    print!("{}", output::lines(&job.spec, &outcome));
    if let Some(path) = &job.json {
        let text = format!("{:#}\n", output::json(&job.spec, &outcome));
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if output::is_right(&outcome) { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}
