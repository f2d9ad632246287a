//! Reports: what runs and comparisons came to, as one HTML file that needs nothing else, with charts drawn as SVG; or those
//! charts alone, a file each.
//!
//! [`svg`] draws; a module for each kind of chart; [`run`] and [`comparison`] say what is told of either; [`html`] puts it
//! together.

mod bars;
mod comparison;
mod html;
mod percentiles;
mod ratios;
mod run;
mod svg;
mod timeline;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::html::Page;
use crate::compare::result::{self, Comparison};
use crate::document::{self, Document};

/// The style of charts, wherever they are.
const STYLE: &str = include_str!("style.css");

/// The command line of a report.
#[derive(Args)]
pub(crate) struct ReportArgs {
    /// What --json wrote: runs, comparisons, or both
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Writes a page to this file, to be looked at in a browser
    #[arg(long, value_name = "FILE", required_unless_present = "svg")]
    html: Option<PathBuf>,
    /// Writes every chart to this directory, an SVG file each
    #[arg(long, value_name = "DIRECTORY")]
    svg: Option<PathBuf>,
}

/// What a report is about.
enum Source {
    Run(Box<Document>),
    Comparison(Box<Comparison>),
}

/// Writes a report of what is in files.
pub(crate) fn report(args: &ReportArgs) -> Result<(), String> {
    let sources: Vec<Source> = args.files.iter().map(|path| Source::read(path)).collect::<Result<_, _>>()?;
    let page = page(&sources);
    if let Some(path) = &args.html {
        write(path, &page.finish())?;
    }
    let Some(directory) = &args.svg else { return Ok(()) };
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    page.charts
        .iter()
        .try_for_each(|(name, chart)| write(&directory.join(format!("{name}.svg")), &alone(chart)))
}

/// Writes a report of one run.
pub(crate) fn write_run(path: &Path, run: &Document) -> Result<(), String> {
    let mut page = Page::default();
    run::tell(&mut page, run);
    write(path, &page.finish())
}

/// Writes a report of one comparison.
pub(crate) fn write_comparison(path: &Path, comparison: &Comparison) -> Result<(), String> {
    let mut page = Page::default();
    comparison::tell(&mut page, comparison);
    write(path, &page.finish())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn page(sources: &[Source]) -> Page {
    let mut page = Page::default();
    let runs: Vec<&Document> = sources.iter().filter_map(Source::run).collect();
    if runs.len() > 1 {
        run::tell_together(&mut page, &runs);
    }
    for source in sources {
        match source {
            Source::Run(run) => run::tell(&mut page, run),
            Source::Comparison(comparison) => comparison::tell(&mut page, comparison),
        }
    }
    page
}

/// A chart that brings its style along.
fn alone(chart: &str) -> String {
    chart.replacen(">\n", &format!(">\n<style>{STYLE}\nsvg {{ background: var(--paper); }}</style>\n"), 1)
}

impl Source {
    fn read(path: &Path) -> Result<Source, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Source::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<Source, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        match value["format"].as_str() {
            Some(document::FORMAT) => Ok(Source::Run(Box::new(of_version(value, document::VERSION)?))),
            Some(result::FORMAT) => Ok(Source::Comparison(Box::new(of_version(value, result::VERSION)?))),
            _ => Err("it is neither a run nor a comparison: --json of moongate-load writes those".to_owned()),
        }
    }

    fn run(&self) -> Option<&Document> {
        match self {
            Source::Run(run) => Some(run),
            Source::Comparison(_) => None,
        }
    }
}

fn of_version<T: DeserializeOwned>(value: Value, version: u32) -> Result<T, String> {
    let found = &value["version"];
    if *found != version {
        return Err(format!(
            "it is of version {found}, and this tool reads version {version}: measure again with it"
        ));
    }
    serde_json::from_value(value).map_err(|error| format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::result::tests::complete;
    use crate::document::tests::complete as complete_run;

    fn sources() -> Vec<Source> {
        let run = serde_json::to_string(&complete_run()).expect("serializable");
        let comparison = serde_json::to_string(&complete(true)).expect("serializable");
        [run.clone(), run, comparison].map(|text| Source::parse(&text).expect("what was written")).into()
    }

    #[test]
    fn a_page_tells_where_what_and_how_to_repeat_it() {
        let html = page(&sources()).finish();
        let machine = complete_run().origin.machine;
        for part in [
            machine.processor.as_str(),
            machine.kernel.as_str(),
            "moongate-load fanout 127.0.0.1:19080 --subscribers 1000",
            "CPU per delivery",
            "latency",
            "ksoftirqd",
            "fan-out to 100",
            "connection refused",
            "1.10 × floor",
            "prefers-color-scheme: dark",
        ] {
            assert!(html.contains(part), "no {part:?} in {html}");
        }
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let html = page(&sources()).finish();
        for word in ["<script", "<link", "<img", "@import", "url(", "src="] {
            assert!(!html.contains(word), "{word}");
        }
        // Names of formats are no addresses that anything is taken from.
        let addresses = html.matches("http").count();
        assert_eq!(addresses, html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    }

    #[test]
    fn every_chart_can_stand_alone() {
        let page = page(&sources());
        assert!(page.charts.len() >= 8, "{}", page.charts.len());
        let mut names: Vec<&String> = page.charts.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), page.charts.len(), "a name is given once");
        for (name, chart) in &page.charts {
            let alone = alone(chart);
            assert!(alone.starts_with("<svg ") && alone.contains("<style>:root"), "{name}: {alone}");
            assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-'), "{name}");
        }
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for (text, expect) in [
            ("", "it is no JSON"),
            ("{}", "neither a run nor a comparison"),
            (r#"{"format":"moongate-load run","version":99}"#, "it is of version 99"),
            (r#"{"format":"moongate-load run","version":1}"#, "it cannot be read"),
        ] {
            let why = Source::parse(text).err().expect("refused");
            assert!(why.contains(expect), "{why}");
        }
    }
}
