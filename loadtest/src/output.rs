//! What a run comes to: lines for a person, JSON for a program, and the exit code.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::conduct::{Outcome, Sized};
use crate::crew::Spec;
use crate::report::Times;
use crate::scenario::Kind;
use crate::scenario::fanout::Pace;

/// Past this share of a core a thread of this tool is what limits the run.
const BUSY: f64 = 0.9;

/// Past this many nanoseconds, at the 99th percentile, this tool itself does not keep the rate.
const LAG_MAX: u64 = 5_000_000;

const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

/// What is to be run, in one line.
pub(crate) fn plan(spec: &Spec, pid: Option<u32>) -> String {
    let what = match &spec.kind {
        Kind::Fanout(options) => {
            let pace = match options.pace {
                Pace::Window(window) => format!("window {window}"),
                Pace::Rate(rate) => format!("{rate} messages/s"),
            };
            format!(
                "fanout: {} subscribers, {} publishers, {} topics, {} bytes, {pace}",
                options.subscribers, options.publishers, options.topics, options.size
            )
        }
        Kind::Echo(options) => format!(
            "echo: {} connections, {} in flight on each, {} bytes",
            options.connections, options.depth, options.size
        ),
        Kind::Idle(options) => {
            format!("idle: {} connections, {} topics", options.connections, options.topics)
        }
    };
    let pid = pid.map_or("unknown".to_owned(), |pid| pid.to_string());
    let (processes, threads) = (spec.processes, spec.threads);
    format!("{what}; server {} (pid {pid}); processes {processes}, threads of each {threads}", spec.server)
}

/// What came of it, for a person.
pub(crate) fn lines(spec: &Spec, outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_lines(spec, outcome, &mut out);
    out
}

fn write_lines(spec: &Spec, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    let Outcome { progress, part, opening, server_cpu, own_cpu, running, footprints } = outcome;
    let opened = progress.opened;
    writeln!(out, "opened     {opened} connections in {opening:.2} s ({:.0}/s)", opened as f64 / opening)?;
    write!(out, "sent       {} messages", progress.sent)?;
    if let Some(seconds) = part.seconds() {
        let rates = (progress.sent as f64 / seconds, progress.heard as f64 / seconds);
        writeln!(out, " in {seconds:.2} s ({:.0}/s)", rates.0)?;
        writeln!(out, "delivered  {} of {} ({:.0}/s)", progress.heard, progress.due, rates.1)?;
    } else {
        writeln!(out, "\ndelivered  {} of {}", progress.heard, progress.due)?;
    }
    writeln!(out, "latency    {}", percentiles(&part.latency))?;
    if part.lag.percentile(100.0).is_some() {
        writeln!(out, "send lag   {} (of this tool; part of the latency)", percentiles(&part.lag))?;
    }
    match server_cpu {
        Some(cpu) => {
            let each = |seconds: f64| seconds * 1e6 / progress.heard.max(1) as f64;
            writeln!(
                out,
                "server     {:.2} µs CPU per delivery ({:.2} user, {:.2} system), {:.0} % of a core",
                each(cpu.total()),
                each(cpu.user),
                each(cpu.system),
                100.0 * cpu.total() / running
            )?;
        }
        None => writeln!(out, "server     its process is not known here: --pid says which")?,
    }
    for Sized { connections, footprint } in footprints {
        let (rss, pss) = (footprint.rss / 1024, footprint.pss / 1024);
        let files = footprint.files;
        writeln!(
            out,
            "memory     {connections} connections: RSS {rss} KiB, PSS {pss} KiB, {files} open files"
        )?;
    }
    if let Some((rss, pss)) = slope(footprints) {
        writeln!(out, "           {rss:.0} bytes RSS, {pss:.0} bytes PSS per connection (slope)")?;
    }
    if let Some(cpu) = own_cpu {
        let (all, busiest) = (100.0 * cpu.total() / running, 100.0 * part.busiest_thread);
        writeln!(out, "this tool  {all:.0} % of a core, its busiest thread {busiest:.0} %")?;
    }
    for why in bottlenecks(spec, outcome) {
        writeln!(out, "NOTE       this tool is the bottleneck: {why}")?;
    }
    let faults = &part.faults;
    if faults.count() == 0 && !is_short(outcome) {
        return writeln!(out, "verified   nothing lost, doubled, reordered or corrupted");
    }
    writeln!(
        out,
        "FAILED     {} lost, {} doubled, {} reordered, {} corrupted, {} connections closed",
        faults.lost, faults.doubled, faults.reordered, faults.corrupted, faults.closed
    )?;
    for fault in &faults.named {
        writeln!(out, "           {fault}")?;
    }
    Ok(())
}

/// Whether all that was sent came as it was sent.
pub(crate) fn is_right(outcome: &Outcome) -> bool {
    outcome.part.faults.count() == 0 && !is_short(outcome)
}

/// Whether deliveries are missing that nobody missed, or nothing was delivered at all: then nothing is proved.
fn is_short(outcome: &Outcome) -> bool {
    outcome.progress.heard < outcome.progress.due || outcome.progress.due == 0
}

/// Bytes per connection between the first and the last size, of RSS and PSS.
fn slope(footprints: &[Sized]) -> Option<(f64, f64)> {
    let [first, .., last] = footprints else { return None };
    let connections = f64::from(last.connections - first.connections);
    let per = |last: u64, first: u64| (last as f64 - first as f64) / connections;
    Some((per(last.footprint.rss, first.footprint.rss), per(last.footprint.pss, first.footprint.pss)))
}

/// Why the figures say more about this tool than about the server.
fn bottlenecks(spec: &Spec, outcome: &Outcome) -> Vec<String> {
    let mut reasons = Vec::new();
    let busy = outcome.part.busiest_thread;
    if busy > BUSY {
        let threads = spec.threads;
        reasons.push(format!("a thread of it took {:.0} % of a core (--threads is {threads})", busy * 100.0));
    }
    if let Some(lag) = outcome.part.lag.percentile(99.0).filter(|lag| *lag > LAG_MAX) {
        reasons.push(format!("one message in a hundred was sent {} late", span(lag)));
    }
    reasons
}

fn percentiles(times: &Times) -> String {
    let shown = PERCENTILES.map(|(name, percent)| {
        let time = times.percentile(percent).map_or("-".to_owned(), span);
        format!("{name} {time}")
    });
    shown.join(", ")
}

fn span(nanos: u64) -> String {
    match nanos {
        0..10_000_000 => format!("{:.0} µs", nanos as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.0} ms", nanos as f64 / 1e6),
        _ => format!("{:.0} s", nanos as f64 / 1e9),
    }
}

/// What came of it, for a program. Times are in seconds, sizes in bytes.
pub(crate) fn json(spec: &Spec, outcome: &Outcome) -> Value {
    let Outcome { progress, part, opening, server_cpu, own_cpu, running, footprints } = outcome;
    let times = |times: &Times| {
        let pairs = PERCENTILES.iter().map(|(name, percent)| {
            let seconds = times.percentile(*percent).map(|nanos| nanos as f64 / 1e9);
            ((*name).to_owned(), json!(seconds))
        });
        Value::Object(pairs.collect())
    };
    let seconds = part.seconds();
    let slope = slope(footprints).map(|(rss, pss)| json!({ "rss": rss, "pss": pss }));
    json!({
        "spec": spec,
        "right": is_right(outcome),
        "faults": part.faults,
        "connections": progress.opened,
        "opening_seconds": opening,
        "sent": progress.sent,
        "due": progress.due,
        "delivered": progress.heard,
        "seconds": seconds,
        "deliveries_per_second": seconds.map(|seconds| progress.heard as f64 / seconds),
        "latency_seconds": times(&part.latency),
        "send_lag_seconds": times(&part.lag),
        "running_seconds": running,
        "server_cpu_seconds": server_cpu,
        "own_cpu_seconds": own_cpu,
        "own_busiest_thread": part.busiest_thread,
        "own_bottlenecks": bottlenecks(spec, outcome),
        "memory": footprints,
        "bytes_per_connection": slope,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Progress;
    use crate::report::Part;
    use crate::scenario::idle;
    use crate::server::{Cpu, Footprint};

    fn spec() -> Spec {
        let options = idle::Options { connections: 100, topics: 1, name: "load".to_owned(), hold: 0 };
        let server = "127.0.0.1:8080".parse().expect("an address");
        Spec { server, kind: Kind::Idle(options), threads: 1, processes: 1 }
    }

    fn outcome(part: Part) -> Outcome {
        let sized = |connections: u32, rss| Sized {
            connections,
            footprint: Footprint { rss, pss: rss / 2, files: 9 },
        };
        Outcome {
            progress: Progress { opened: 100, sent: 1, due: 100, heard: 100, finished: 1 },
            part,
            opening: 0.5,
            running: 2.0,
            server_cpu: Some(Cpu { user: 0.0001, system: 0.0004 }),
            own_cpu: Some(Cpu { user: 0.5, system: 0.5 }),
            footprints: vec![sized(20, 1_000_000), sized(100, 1_080_000)],
        }
    }

    #[test]
    fn figures_are_per_delivery_and_per_connection() {
        let mut outcome = outcome(Part::default());
        (outcome.part.first_sent, outcome.part.last_heard) = (Some(1), Some(500_000_001));
        let lines = lines(&spec(), &outcome);
        for line in [
            "opened     100 connections in 0.50 s (200/s)",
            "delivered  100 of 100 (200/s)",
            "server     5.00 µs CPU per delivery (1.00 user, 4.00 system), 0 % of a core",
            "1000 bytes RSS, 500 bytes PSS per connection (slope)",
            "this tool  50 % of a core, its busiest thread 0 %",
            "verified   nothing lost",
        ] {
            assert!(lines.contains(line), "no {line:?} in: {lines}");
        }
        assert!(!lines.contains("NOTE") && is_right(&outcome));
        assert_eq!(json(&spec(), &outcome)["bytes_per_connection"]["rss"], 1000.0);
    }

    #[test]
    fn it_says_when_it_is_itself_the_bottleneck() {
        let (mut late, mut busy) = (Part::default(), Part::default());
        (0..100).for_each(|_| late.lag.record(10_000_000));
        busy.busiest_thread = 0.95;
        for (part, expect) in [
            (busy, "a thread of it took 95 % of a core"),
            (late, "one message in a hundred was sent 10 ms late"),
        ] {
            let lines = lines(&spec(), &outcome(part));
            assert!(lines.contains(&format!("this tool is the bottleneck: {expect}")), "{lines}");
        }
    }

    #[test]
    fn nothing_delivered_proves_nothing() {
        let mut outcome = outcome(Part::default());
        outcome.progress.heard = 99;
        assert!(!is_right(&outcome) && lines(&spec(), &outcome).contains("FAILED"));
        (outcome.progress.heard, outcome.progress.due) = (0, 0);
        assert!(!is_right(&outcome));
    }
}
