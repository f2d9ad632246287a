//! One slice: a run of this program as a child of its own.

use std::env;
use std::io::{IsTerminal as _, stderr};
use std::process::{Command, Stdio};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde_json::Value;

use super::figure::Figure;
use super::plan::{Measure, Variant};
use super::table::amount;
use crate::document::{Document, NoteKind};

/// A slice as it was taken.
pub(super) struct Slice {
    pub(super) round: u32,
    pub(super) run: Document,
    /// The same as it was read, for figures that have no name.
    pub(super) raw: Value,
    /// It was taken again, for others had used the cores.
    pub(super) repeated: bool,
}

impl Slice {
    /// Whether others used the cores, also when it was taken again.
    pub(super) fn is_disturbed(&self) -> bool {
        self.run.notes.iter().any(|note| note.kind == NoteKind::Disturbed)
    }
}

/// Takes a slice; once more, if others disturbed it.
pub(super) fn take(
    measure: &Measure,
    variant: &Variant,
    round: Option<u32>,
    teller: &mut Teller,
) -> Result<Slice, String> {
    teller.taking(&variant.name, round);
    let words = measure.command(variant);
    let mut slice = attempt(&words, round);
    // A warm-up counts for nothing, disturbed or not.
    if round.is_some() && slice.as_ref().is_ok_and(Slice::is_disturbed) {
        slice = attempt(&words, round).map(|slice| Slice { repeated: true, ..slice });
    }
    teller.taken(&variant.name, round, slice.as_ref(), measure);
    slice
}

fn attempt(words: &[String], round: Option<u32>) -> Result<Slice, String> {
    let raw = run(words)?;
    let run = serde_json::from_value(raw.clone())
        .map_err(|error| format!("what a run came to cannot be read: {error}"))?;
    Ok(Slice { round: round.unwrap_or_default(), run, raw, repeated: false })
}

/// Runs this program with `words`; what came of it, be it right or wrong.
fn run(words: &[String]) -> Result<Value, String> {
    let program = env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let output = Command::new(program)
        .args(words)
        .args(["--json", "-"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("starting a run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let why = || {
        let last = said.trim_end().lines().last().unwrap_or("it said nothing");
        format!("moongate-load {} ended with {}: {last}", words.join(" "), output.status)
    };
    if output.status.code().is_none_or(|code| code == i32::from(crate::FAILED)) {
        return Err(why());
    }
    serde_json::from_slice(&output.stdout).map_err(|_| why())
}

/// Tells how far it has come: a bar on a terminal, a line for each slice elsewhere.
pub(super) struct Teller {
    bar: Option<ProgressBar>,
    measure: String,
}

impl Teller {
    pub(super) fn new(slices: usize) -> Teller {
        let bar = stderr().is_terminal().then(|| {
            let style = "{bar:24} {pos}/{len} slices, {eta} left: {prefix} {msg}";
            let style = ProgressStyle::with_template(style).expect("a valid template");
            let bar = ProgressBar::new(slices as u64).with_finish(ProgressFinish::AndClear);
            bar.with_style(style)
        });
        Teller { bar, measure: String::new() }
    }

    pub(super) fn begin(&mut self, measure: &str) {
        measure.clone_into(&mut self.measure);
        match &self.bar {
            Some(bar) => bar.set_prefix(format!("{measure},")),
            None => eprintln!("{measure}"),
        }
    }

    fn taking(&self, variant: &str, round: Option<u32>) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}, {variant}", round_name(round)));
            bar.tick();
        }
    }

    fn taken(&self, variant: &str, round: Option<u32>, slice: Result<&Slice, &String>, measure: &Measure) {
        self.skip();
        if self.bar.is_none() {
            eprintln!("  {:<8} {variant}: {}", round_name(round), news(slice, measure));
        }
    }

    /// One slice less to come.
    pub(super) fn skip(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Prints lines above the bar.
    pub(super) fn print(&self, lines: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print!("{lines}")),
            None => print!("{lines}"),
        }
    }
}

fn round_name(round: Option<u32>) -> String {
    round.map_or("warm-up".to_owned(), |round| format!("round {round}"))
}

fn news(slice: Result<&Slice, &String>, measure: &Measure) -> String {
    let slice = match slice {
        Ok(slice) => slice,
        Err(why) => return format!("FAILED: {why}"),
    };
    let values = measure.figures.iter().filter_map(|name| {
        let figure = Figure::named(name).ok()?;
        Some(format!("{name} {}", amount(figure.of(&slice.raw)?, &figure.unit)))
    });
    let mut news = values.collect::<Vec<_>>().join(", ");
    for (is, what) in [
        (slice.repeated, "taken again, for others used the cores"),
        (slice.is_disturbed(), "others used the cores"),
        (!slice.run.right, "WRONG"),
    ] {
        if is {
            news = format!("{news} ({what})");
        }
    }
    news
}
