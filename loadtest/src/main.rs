//! The load tool: opens many connections, speaks on them, and checks every delivery: content, order, loss, duplicates.
//!
//! A run's way: [`cli`] says what it is, [`conduct`] takes it from stage to stage, [`crew`] holds its threads and
//! processes, each thread is an [`engine`] that plays a [`scenario`] in some [`dialect`], and [`output`] says
//! what came of it.

mod cli;
mod clock;
mod conduct;
mod control;
mod crew;
mod dialect;
mod document;
mod engine;
mod host;
mod limits;
mod link;
mod links;
mod output;
mod pattern;
mod report;
mod scenario;
mod timeline;
mod verify;

use std::fs;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Job};
use crate::document::Document;

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
    let address = job.spec.server;
    let pid = job.pid.or_else(|| host::find(address.port()));
    let server = document::Server {
        address: address.to_string(),
        program: pid.and_then(host::Program::read),
        version: None,
    };
    let process = pid.map_or("unknown".to_owned(), |pid| pid.to_string());
    println!("{}; server {address} (pid {process})", output::plan(&job.spec));
    let outcome = conduct::conduct(&job.spec, pid, job.patience)?;
    let document = Document::new(&job.spec, server, &outcome);
    print!("{}", output::lines(&document));
    if let Some(path) = &job.json {
        let text = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if document.right { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}
