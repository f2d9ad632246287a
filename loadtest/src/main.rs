//! The load tool: opens many connections, speaks on them, and checks every delivery: content, order, loss, duplicates.
//!
//! A run's way: [`cli`] says what it is, [`conduct`] takes it from stage to stage, [`crew`] holds its threads and
//! processes, each thread is an [`engine`] that plays a [`scenario`] in some [`dialect`], and [`output`] says
//! what came of it.

mod cli;
mod clock;
mod compare;
mod conduct;
mod control;
mod crew;
mod dialect;
mod document;
mod engine;
mod found;
mod host;
mod limits;
mod link;
mod links;
mod output;
mod page;
mod pattern;
mod report;
mod scenario;
mod timeline;
mod upstream;
mod verify;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use serde::Serialize;

use crate::cli::{Cli, Command, Job};
use crate::compare::CompareArgs;
use crate::document::Document;

/// Something came otherwise than it was sent.
const WRONG: u8 = 1;
/// The run could not take place.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Compare(args) => compare(&args),
        Command::Report(args) => page::report(&args).map(|()| ExitCode::SUCCESS),
        Command::Upstream(args) => upstream::serve(&args).map(|()| ExitCode::SUCCESS),
        command => match command.into_job() {
            Ok(None) => return crew::work(),
            Ok(Some(job)) => run(&job),
            Err(why) => Err(why),
        },
    };
    done.unwrap_or_else(|why| fail(&why))
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
        version: job.server_version.clone(),
    };
    let process = pid.map_or("unknown".to_owned(), |pid| pid.to_string());
    // Where the document goes to standard output, it goes there alone.
    let quiet = job.json.as_deref() == Some(Path::new("-"));
    if !quiet {
        println!("{}; server {address} (pid {process})", output::plan(&job.spec));
    }
    let outcome = conduct::conduct(&job.spec, pid, &job.with, job.patience)?;
    let document = Document::new(&job.spec, server, &outcome);
    if !quiet {
        print!("{}", output::lines(&document));
    }
    write_json(job.json.as_deref(), &document)?;
    job.html.as_ref().map_or(Ok(()), |path| page::write_run(path, &document))?;
    Ok(if document.right { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}

fn compare(args: &CompareArgs) -> Result<ExitCode, String> {
    let comparison = compare::compare(args)?;
    write_json(args.json.as_deref(), &comparison)?;
    args.html.as_ref().map_or(Ok(()), |path| page::write_comparison(path, &comparison))?;
    Ok(comparison.verdict().into())
}

fn write_json(path: Option<&Path>, document: &impl Serialize) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(document).map_err(|error| error.to_string())?;
    if path == Path::new("-") {
        println!("{text}");
        return Ok(());
    }
    fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
}
