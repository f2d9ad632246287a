//! The result of a run as one document, complete in itself: what was run, where, against whom, and what came of it.
//!
//! It is what `--json` writes, and all that [`crate::compare`] and [`crate::page`] know of a run. Times are in seconds and
//! sizes in bytes unless a name says otherwise.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conduct::{Outcome, Sized, When};
use crate::crew::Spec;
use crate::host::{Growth, Machine, Program, Usage};
use crate::output;
use crate::report::Times;
use crate::timeline::Moment;
use crate::verify::Faults;

/// What a document of one run calls itself.
pub(crate) const FORMAT: &str = "moongate-load run";

/// Goes up when a field changes its meaning or goes; new ones may come.
pub(crate) const VERSION: u32 = 1;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) format: String,
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) origin: Origin,
    /// What was run, in one line.
    pub(crate) summary: String,
    pub(crate) server: Server,
    /// Every setting of the run.
    pub(crate) spec: Value,
    /// Whether all came as it was sent.
    pub(crate) right: bool,
    pub(crate) faults: Faults,
    pub(crate) notes: Vec<Note>,
    pub(crate) connections: u64,
    pub(crate) opening_seconds: f64,
    pub(crate) sent: u64,
    pub(crate) due: u64,
    pub(crate) delivered: u64,
    /// From the first message sent to the last one read.
    pub(crate) seconds: Option<f64>,
    pub(crate) deliveries_per_second: Option<f64>,
    pub(crate) latency_seconds: Distribution,
    /// By how much this tool itself was late, where there is a rate; part of the latency.
    pub(crate) send_lag_seconds: Distribution,
    /// What else the scenario counted, by what a person calls it.
    #[serde(default)]
    pub(crate) found_counts: BTreeMap<String, u64>,
    /// What else it timed.
    #[serde(default)]
    pub(crate) found_seconds: BTreeMap<String, Distribution>,
    pub(crate) cpu: Usage,
    /// The server's CPU time for each unit of its work; none where its process is not known.
    pub(crate) server_cpu_per: Option<CpuPer>,
    /// The share of a core that this tool's busiest thread took.
    pub(crate) own_busiest_thread: f64,
    pub(crate) memory: Vec<Sized>,
    pub(crate) bytes_per_connection: Option<Growth>,
    pub(crate) timeline: Vec<Moment>,
}

/// Where and when a document was made, and by what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The version of this tool.
    pub(crate) tool: String,
    /// When, as RFC 3339 has it, in UTC.
    pub(crate) date: String,
    /// The command line that does it again.
    pub(crate) command: Vec<String>,
    pub(crate) machine: Machine,
}

/// Who was loaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) address: String,
    /// Its process, if it is on this machine.
    pub(crate) program: Option<Program>,
    pub(crate) version: Option<String>,
}

/// What a reader must know to judge the figures.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) kind: NoteKind,
    pub(crate) text: String,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoteKind {
    /// This tool limited the run, not the server.
    Bottleneck,
    /// Others used the cores.
    Disturbed,
    /// Something could not be measured, or less exactly.
    Unknown,
}

/// A distribution of times in seconds; none without any.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p99: Option<f64>,
    #[serde(rename = "p99.9")]
    pub(crate) p999: Option<f64>,
    pub(crate) max: Option<f64>,
    /// Percentages, and the times that so many of a hundred do not exceed.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// CPU time of the server for a unit of its work, in microseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct CpuPer {
    /// What is counted: a delivery, an echo, a handshake.
    pub(crate) unit: String,
    pub(crate) count: u64,
    pub(crate) user: f64,
    pub(crate) system: f64,
    /// Of `ksoftirqd` on the server's cores; none where that cannot be seen.
    pub(crate) softirq: Option<f64>,
    pub(crate) total: f64,
}

impl Document {
    /// What came of running `spec` against `server`.
    pub(crate) fn new(spec: &Spec, server: Server, outcome: &Outcome) -> Document {
        let Outcome { progress, part, opening, usage, footprints, timeline } = outcome;
        let seconds = part.seconds();
        Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            origin: Origin::here(),
            summary: output::plan(spec),
            server,
            spec: serde_json::to_value(spec).unwrap_or_default(),
            right: output::is_right(outcome),
            faults: part.faults.clone(),
            notes: output::notes(spec, outcome),
            connections: spec.kind.opened_before().into(),
            opening_seconds: *opening,
            sent: progress.sent,
            due: progress.due,
            delivered: progress.heard,
            seconds,
            deliveries_per_second: seconds.map(|seconds| progress.heard as f64 / seconds),
            latency_seconds: Distribution::from(&part.latency),
            send_lag_seconds: Distribution::from(&part.lag),
            found_counts: part.found.counts.clone(),
            found_seconds: part
                .found
                .times
                .iter()
                .map(|(what, times)| (what.clone(), Distribution::from(times)))
                .collect(),
            server_cpu_per: CpuPer::new(usage, spec.kind.unit(), progress.heard),
            cpu: usage.clone(),
            own_busiest_thread: part.busiest_thread,
            bytes_per_connection: growth(footprints),
            memory: footprints.clone(),
            timeline: timeline.clone(),
        }
    }
}

impl Origin {
    /// Here and now, by this program as it was called.
    pub(crate) fn here() -> Origin {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        Origin {
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            date: date(now),
            command: command.collect(),
            machine: Machine::read(),
        }
    }
}

/// The time so many seconds after the beginning of 1970, as RFC 3339 has it.
pub(crate) fn date(seconds: u64) -> String {
    // Years are taken to begin in March, so that the odd day of a leap year is a year's last.
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

impl From<&Times> for Distribution {
    fn from(times: &Times) -> Distribution {
        let at = |percent| times.percentile(percent).map(|nanos| nanos as f64 / 1e9);
        Distribution {
            count: times.count(),
            mean: times.mean().map(|nanos| nanos / 1e9),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: at(100.0),
            curve: times.curve().into_iter().map(|(percent, nanos)| (percent, nanos as f64 / 1e9)).collect(),
        }
    }
}

impl CpuPer {
    fn new(usage: &Usage, unit: &str, count: u64) -> Option<CpuPer> {
        let server = usage.server.as_ref().filter(|_| count > 0)?;
        let each = |seconds: f64| seconds * 1e6 / count as f64;
        Some(CpuPer {
            unit: unit.to_owned(),
            count,
            user: each(server.cpu.user),
            system: each(server.cpu.system),
            softirq: server.softirq.map(each),
            total: each(server.total()),
        })
    }
}

/// Bytes per connection between the first and the last size with connections; with one size, since before the run.
fn growth(footprints: &[Sized]) -> Option<Growth> {
    let open: Vec<&Sized> = footprints.iter().filter(|sized| sized.when == When::Open).collect();
    let first = if open.len() > 1 { open.first().copied() } else { footprints.first() }?;
    let last = open.last()?;
    let connections = f64::from(last.connections.checked_sub(first.connections).filter(|more| *more > 0)?);
    Some(last.footprint.growth(&first.footprint, connections))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::host::Footprint;

    /// A run of which everything is known.
    pub(crate) fn complete() -> Document {
        serde_json::from_str(include_str!("../tests/fixtures/run.json")).expect("a run")
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), expect, "{seconds}");
        }
    }

    #[test]
    fn memory_grows_between_sizes_or_from_nothing() {
        let sized = |when, connections, rss| Sized {
            when,
            connections,
            footprint: Footprint { rss, ..Footprint::default() },
        };
        let before = sized(When::Before, 0, 500_000);
        let open = [sized(When::Open, 20, 1_000_000), sized(When::Open, 100, 1_080_000)];
        let after = sized(When::After, 100, 9_000_000);
        for (name, footprints, expect) in [
            ("a slope", vec![before.clone(), open[0].clone(), open[1].clone(), after.clone()], Some(1000.0)),
            ("since before", vec![before.clone(), open[1].clone(), after.clone()], Some(5800.0)),
            ("nothing open", vec![before.clone(), after], None),
            ("no connections", vec![before.clone(), sized(When::Open, 0, 1)], None),
            ("nothing known", vec![], None),
        ] {
            assert_eq!(growth(&footprints).map(|growth| growth.rss), expect, "{name}");
        }
    }
}
