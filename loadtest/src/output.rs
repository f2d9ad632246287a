//! What a run comes to: lines for a person, what they must know to judge it, and the exit code.

use std::fmt::Write as _;

use crate::conduct::{Outcome, When};
use crate::crew::Spec;
use crate::document::{CpuPer, Distribution, Document, Note, NoteKind};
use crate::host::{Counted, Growth, Participant};

/// Past this share of a core a thread of this tool is what limits the run.
const BUSY: f64 = 0.9;

/// Past this many nanoseconds, at the 99th percentile, this tool itself does not keep the rate.
const LAG_MAX: u64 = 5_000_000;

/// Past this share of a core, others disturb the run.
const OTHERS_MAX: f64 = 0.1;

/// What is to be run, in one line.
pub(crate) fn plan(spec: &Spec) -> String {
    let what = spec.kind.plan();
    let (processes, threads) = (spec.processes, spec.threads);
    format!("{what}; processes {processes}, threads of each {threads}")
}

/// Whether all that was sent came as it was sent.
pub(crate) fn is_right(outcome: &Outcome) -> bool {
    outcome.part.faults.count() == 0 && !is_short(outcome)
}

/// Whether deliveries are missing that nobody missed, or nothing was delivered at all: then nothing is proved.
fn is_short(outcome: &Outcome) -> bool {
    let accounted = outcome.progress.heard + outcome.part.found.missed;
    accounted < outcome.progress.due || outcome.progress.heard == 0
}

/// What a reader must know to judge the figures.
pub(crate) fn notes(spec: &Spec, outcome: &Outcome) -> Vec<Note> {
    let (usage, threads) = (&outcome.usage, spec.threads);
    let mut notes = Vec::new();
    let mut note = |kind, text| notes.push(Note { kind, text });
    let busy = outcome.part.busiest_thread;
    if busy > BUSY {
        let text = format!("a thread of it took {:.0} % of a core (--threads is {threads})", busy * 100.0);
        note(NoteKind::Bottleneck, text);
    }
    if let Some(lag) = outcome.part.lag.percentile(99.0).filter(|lag| *lag > LAG_MAX) {
        let text = format!("one message in a hundred was sent {} late", span(lag as f64 / 1e9));
        note(NoteKind::Bottleneck, text);
    }
    for (share, who) in [(usage.others_share(), "others"), (usage.stolen_share(), "other virtual machines")] {
        if let Some(share) = share.filter(|share| *share > OTHERS_MAX) {
            let text =
                format!("{who} took {:.0} % of a core where the server and this tool run", share * 100.0);
            note(NoteKind::Disturbed, text);
        }
    }
    let Some(server) = &usage.server else { return notes };
    if server.softirq.is_none() {
        let text = "the kernel's ksoftirqd threads cannot be seen from here; what they did for the server is missing";
        note(NoteKind::Unknown, text.to_owned());
    }
    if server.counted == Counted::Ticks {
        let text = "threads of the server ended meanwhile: its CPU time is only known in ticks of the clock";
        note(NoteKind::Unknown, text.to_owned());
    }
    notes
}

/// What came of it, for a person.
pub(crate) fn lines(document: &Document) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_lines(document, &mut out);
    out
}

fn write_lines(run: &Document, out: &mut String) -> std::fmt::Result {
    let (opened, opening) = (run.connections, run.opening_seconds);
    if opened > 0 {
        let rate = opened as f64 / opening;
        writeln!(out, "opened     {opened} connections in {opening:.2} s ({rate:.0}/s)")?;
    }
    write!(out, "sent       {} messages", run.sent)?;
    if let Some(seconds) = run.seconds {
        let rates = (run.sent as f64 / seconds, run.delivered as f64 / seconds);
        writeln!(out, " in {seconds:.2} s ({:.0}/s)", rates.0)?;
        writeln!(out, "delivered  {} of {} ({:.0}/s)", run.delivered, run.due, rates.1)?;
    } else {
        writeln!(out, "\ndelivered  {} of {}", run.delivered, run.due)?;
    }
    writeln!(out, "latency    {}", percentiles(&run.latency_seconds))?;
    if run.send_lag_seconds.count > 0 {
        let lag = percentiles(&run.send_lag_seconds);
        writeln!(out, "send lag   {lag} (of this tool; part of the latency)")?;
    }
    for (what, times) in &run.found_seconds {
        writeln!(out, "{what:<10} {} ({} times)", percentiles(times), times.count)?;
    }
    for (what, count) in &run.found_counts {
        writeln!(out, "found      {count} {what}")?;
    }
    write_cpu(run, out)?;
    write_memory(run, out)?;
    if let Some(own) = run.cpu.own {
        let (all, busiest) = (100.0 * own.total() / run.cpu.seconds, 100.0 * run.own_busiest_thread);
        writeln!(out, "this tool  {all:.0} % of a core, its busiest thread {busiest:.0} %")?;
    }
    for Note { kind, text } in &run.notes {
        match kind {
            NoteKind::Bottleneck => writeln!(out, "NOTE       this tool is the bottleneck: {text}")?,
            NoteKind::Disturbed => writeln!(out, "NOTE       disturbed: {text}")?,
            NoteKind::Unknown => writeln!(out, "NOTE       {text}")?,
        }
    }
    if run.right {
        return writeln!(out, "verified   nothing lost, doubled, reordered or corrupted");
    }
    let faults = &run.faults;
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

fn write_cpu(run: &Document, out: &mut String) -> std::fmt::Result {
    let Some(server) = &run.cpu.server else {
        return writeln!(out, "server     its process is not known here: --pid says which");
    };
    write!(out, "server     ")?;
    if let Some(CpuPer { unit, user, system, softirq, total, .. }) = &run.server_cpu_per {
        let softirq = softirq.map(|softirq| format!(", {softirq:.2} soft interrupts")).unwrap_or_default();
        write!(out, "{total:.2} µs CPU per {unit} ({user:.2} user, {system:.2} system{softirq}), ")?;
    }
    let share = 100.0 * server.total() / run.cpu.seconds;
    writeln!(out, "{share:.0} % of a core, on {}", cores(&server.cores))?;
    for Participant { pid, cpu } in &run.cpu.with {
        let share = 100.0 * cpu.total() / run.cpu.seconds;
        writeln!(out, "beside it  {share:.0} % of a core by process {pid}, which takes part")?;
    }
    Ok(())
}

fn write_memory(run: &Document, out: &mut String) -> std::fmt::Result {
    let open = run.memory.iter().filter(|sized| sized.when == When::Open);
    for sized in open {
        let (connections, footprint) = (sized.connections, &sized.footprint);
        let (rss, pss, files) = (footprint.rss / 1024, footprint.pss / 1024, footprint.files);
        write!(
            out,
            "memory     {connections} connections: RSS {rss} KiB, PSS {pss} KiB, {files} open files"
        )?;
        match &footprint.kernel {
            Some(kernel) => writeln!(out, "; kernel {}", size((kernel.slab + kernel.tcp) as f64))?,
            None => writeln!(out)?,
        }
    }
    if let Some(after) = run.memory.iter().find(|sized| sized.when == When::After) {
        let (rss, pss) = (after.footprint.rss / 1024, after.footprint.pss / 1024);
        writeln!(out, "           when all had come: RSS {rss} KiB, PSS {pss} KiB")?;
    }
    let Some(Growth { rss, pss, slab, tcp, caches }) = &run.bytes_per_connection else { return Ok(()) };
    let slope = run.memory.iter().filter(|sized| sized.when == When::Open).count() > 1;
    let how = if slope { "slope" } else { "since before the run" };
    writeln!(out, "           {rss:.0} bytes RSS, {pss:.0} bytes PSS per connection ({how})")?;
    if let (Some(slab), Some(tcp)) = (slab, tcp) {
        let named: Vec<_> = caches.iter().take(3).map(|(name, by)| format!("{name} {by:.0}")).collect();
        let named = if named.is_empty() { String::new() } else { format!(": {}, …", named.join(", ")) };
        writeln!(
            out,
            "           {slab:.0} bytes kernel slab{named}; {tcp:.0} bytes TCP buffers (both ends)"
        )?;
    }
    Ok(())
}

/// Cores in words.
pub(crate) fn cores(cores: &[u32]) -> String {
    let list: Vec<String> = cores.iter().map(u32::to_string).collect();
    match list.as_slice() {
        [one] => format!("core {one}"),
        _ => format!("cores {}", list.join(", ")),
    }
}

fn percentiles(times: &Distribution) -> String {
    let shown = [
        ("p50", times.p50),
        ("p90", times.p90),
        ("p99", times.p99),
        ("p99.9", times.p999),
        ("max", times.max),
    ]
    .map(|(name, time)| format!("{name} {}", time.map_or("-".to_owned(), span)));
    shown.join(", ")
}

/// A time in seconds, for a person.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        ..0.000_01 => format!("{:.1} µs", seconds * 1e6),
        ..0.001 => format!("{:.0} µs", seconds * 1e6),
        ..0.01 => format!("{:.1} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..10.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// A number of bytes, for a person.
pub(crate) fn size(bytes: f64) -> String {
    match bytes.abs() {
        ..10_240.0 => format!("{bytes:.0} B"),
        ..10_485_760.0 => format!("{:.0} KiB", bytes / 1024.0),
        _ => format!("{:.0} MiB", bytes / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::conduct::Sized;
    use crate::control::Progress;
    use crate::dialect::{Manner, Tongue};
    use crate::document::Server;
    use crate::host::{Cpu, Footprint, ServerUsage, Usage};
    use crate::report::Part;
    use crate::scenario::{Kind, idle};

    fn spec() -> Spec {
        let manner = Manner { tongue: Tongue::WebSocket, path: "/topics/{topic}".to_owned(), lenient: false };
        let options = idle::Options { connections: 100, topics: 1, name: "load".to_owned(), manner, hold: 0 };
        let server = "127.0.0.1:8080".parse().expect("an address");
        Spec { server, kind: Kind::Idle(options), threads: 1, processes: 1 }
    }

    fn outcome(part: Part) -> Outcome {
        let sized = |connections: u32, rss| Sized {
            when: When::Open,
            connections,
            footprint: Footprint { rss, pss: rss / 2, files: 9, ..Footprint::default() },
        };
        let server = ServerUsage {
            cpu: Cpu { user: 0.0001, system: 0.0004 },
            softirq: Some(0.0001),
            cores: vec![0],
            cores_shared: false,
            counted: Counted::Nanoseconds,
        };
        Outcome {
            progress: Progress { opened: 100, sent: 1, due: 100, heard: 100, finished: 1, settled: 1 },
            part,
            opening: 0.5,
            usage: Usage {
                seconds: 2.0,
                server: Some(server),
                own: Some(Cpu { user: 0.5, system: 0.5 }),
                with: vec![Participant { pid: 77, cpu: Cpu { user: 0.2, system: 0.4 } }],
                cores: vec![0, 1],
                others: Some(0.0),
                stolen: Some(0.0),
            },
            footprints: vec![sized(20, 1_000_000), sized(100, 1_080_000)],
            timeline: Vec::new(),
        }
    }

    fn document(outcome: &Outcome) -> Document {
        let server = Server { address: "127.0.0.1:8080".to_owned(), program: None, version: None };
        Document::new(&spec(), server, outcome)
    }

    #[test]
    fn figures_are_per_delivery_and_per_connection() {
        let mut outcome = outcome(Part::default());
        (outcome.part.first_sent, outcome.part.last_heard) = (Some(1), Some(500_000_001));
        let lines = lines(&document(&outcome));
        for line in [
            "opened     100 connections in 0.50 s (200/s)",
            "delivered  100 of 100 (200/s)",
            "server     6.00 µs CPU per delivery (1.00 user, 4.00 system, 1.00 soft interrupts), 0 % of a core, on core 0",
            "beside it  30 % of a core by process 77, which takes part",
            "1000 bytes RSS, 500 bytes PSS per connection (slope)",
            "this tool  50 % of a core, its busiest thread 0 %",
            "verified   nothing lost",
        ] {
            assert!(lines.contains(line), "no {line:?} in: {lines}");
        }
        assert!(!lines.contains("NOTE") && is_right(&outcome));
    }

    #[test]
    fn a_document_comes_back_as_it_was_written() {
        let mut outcome = outcome(Part::default());
        (1..=1000).for_each(|micros| outcome.part.latency.record(micros * 1000));
        let written = serde_json::to_string(&document(&outcome)).expect("serializable");
        let read: Document = serde_json::from_str(&written).expect("what was written");
        let again = serde_json::to_string(&read).expect("serializable");
        assert_eq!(again, written);
        let value: Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!(value["bytes_per_connection"]["rss"], 1000.0);
        assert_eq!(value["spec"]["kind"]["idle"]["connections"], 100);
        assert!(value["latency_seconds"]["p99.9"].as_f64() > Some(0.000_99), "{value}");
        assert!(value["machine"]["processors"].as_u64() > Some(0), "{value}");
    }

    #[test]
    fn it_says_what_makes_figures_doubtful() {
        let (mut late, mut busy) = (Part::default(), Part::default());
        (0..100).for_each(|_| late.lag.record(10_000_000));
        busy.busiest_thread = 0.95;
        let usual = || outcome(Part::default());
        let changed = |change: fn(&mut Usage, &mut ServerUsage)| {
            let mut outcome = usual();
            let mut server = outcome.usage.server.take().expect("it is known");
            change(&mut outcome.usage, &mut server);
            outcome.usage.server = Some(server);
            outcome
        };
        for (outcome, expect) in [
            (outcome(busy), "this tool is the bottleneck: a thread of it took 95 % of a core"),
            (outcome(late), "this tool is the bottleneck: one message in a hundred was sent 10 ms late"),
            (changed(|usage, _| usage.others = Some(0.5)), "disturbed: others took 25 % of a core"),
            (changed(|usage, _| usage.stolen = Some(0.5)), "disturbed: other virtual machines took 25 %"),
            (changed(|_, server| server.softirq = None), "ksoftirqd threads cannot be seen"),
            (changed(|_, server| server.counted = Counted::Ticks), "only known in ticks"),
        ] {
            let lines = lines(&document(&outcome));
            assert!(lines.contains(&format!("NOTE       {expect}")) || lines.contains(expect), "{lines}");
            assert_eq!(lines.matches("NOTE").count(), 1, "{lines}");
        }
    }

    #[test]
    fn nothing_delivered_proves_nothing() {
        let mut outcome = outcome(Part::default());
        outcome.progress.heard = 99;
        assert!(!is_right(&outcome) && lines(&document(&outcome)).contains("FAILED"));
        (outcome.progress.heard, outcome.progress.due) = (0, 0);
        assert!(!is_right(&outcome));
    }

    #[test]
    fn times_and_sizes_are_short() {
        for (seconds, expect) in [
            (0.000_004_21, "4.2 µs"),
            (0.000_5, "500 µs"),
            (0.001_52, "1.5 ms"),
            (0.15, "150 ms"),
            (12.3, "12 s"),
        ] {
            assert_eq!(span(seconds), expect);
        }
        for (bytes, expect) in [(167.4, "167 B"), (20_480.0, "20 KiB"), (52_428_800.0, "50 MiB")] {
            assert_eq!(size(bytes), expect);
        }
        assert_eq!((cores(&[0]), cores(&[1, 2])), ("core 0".to_owned(), "cores 1, 2".to_owned()));
    }
}
