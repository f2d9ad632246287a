//! What is told of a run.

use super::html::{Page, origin_facts, program, shell};
use super::{bars, percentiles, timeline};
use crate::compare::digits;
use crate::conduct::When;
use crate::document::{CpuPer, Distribution, Document, NoteKind};
use crate::host::{Growth, Participant};
use crate::output::{cores, size, span};

/// Adds all that is told of `run`.
pub(super) fn tell(page: &mut Page, run: &Document) {
    page.title(&run.summary);
    page.soft(&format!("{}, {}", run.server.address, run.origin.date.replace('T', " ").replace('Z', " UTC")));
    verdict(page, run);
    page.tiles(&tiles(run));
    page.notes(&notes(run));
    page.chart("Latency", "latency", percentiles::chart("latency", &[(0, "", &run.latency_seconds)]));
    found(page, run);
    page.chart("How it went", "timeline", timeline::chart(&run.timeline));
    if let Some(cpu) = &run.server_cpu_per {
        page.chart(&format!("CPU time of the server per {}", cpu.unit), "cpu", bars::cpu_parts(&[("", cpu)]));
    }
    memory(page, run);
    settings(page, run);
}

/// Adds charts of several runs together.
pub(super) fn tell_together(page: &mut Page, runs: &[&Document]) {
    page.title(&format!("{} runs", runs.len()));
    let names: Vec<String> = runs.iter().map(|run| name(run)).collect();
    let times: Vec<(usize, &str, &Distribution)> = (0..)
        .zip(runs)
        .zip(&names)
        .map(|((index, run), name)| (index, name.as_str(), &run.latency_seconds))
        .collect();
    page.chart("Latency of all", "latency-all", percentiles::chart("latency of all runs", &times));
    let cpu: Vec<(&str, &CpuPer)> = names
        .iter()
        .zip(runs)
        .filter_map(|(name, run)| Some((name.as_str(), run.server_cpu_per.as_ref()?)))
        .collect();
    page.chart("CPU time of the server, each per unit of its work", "cpu-all", bars::cpu_parts(&cpu));
    let memory: Vec<(&str, &Growth)> = names
        .iter()
        .zip(runs)
        .filter_map(|(name, run)| Some((name.as_str(), run.bytes_per_connection.as_ref()?)))
        .collect();
    page.chart("Memory of a connection", "memory-all", bars::memory_parts(&memory));
}

/// What a run is called among others: its scenario and when it was.
fn name(run: &Document) -> String {
    let scenario = run.summary.split(':').next().unwrap_or_default();
    let time = run.origin.date.get(11..19).unwrap_or_default();
    format!("{scenario} {time}")
}

fn verdict(page: &mut Page, run: &Document) {
    let faults = &run.faults;
    if run.right {
        let text = format!("Verified: all {} deliveries came once, in order, byte for byte.", run.delivered);
        return page.verdict(true, &text);
    }
    let text = format!(
        "Failed: {} lost, {} doubled, {} reordered, {} corrupted, {} connections closed; {} of {} delivered.",
        faults.lost,
        faults.doubled,
        faults.reordered,
        faults.corrupted,
        faults.closed,
        run.delivered,
        run.due
    );
    page.verdict(false, &text);
    page.notes(&faults.named);
}

fn tiles(run: &Document) -> Vec<(String, String)> {
    let mut tiles = Vec::new();
    let mut tile = |figure: Option<String>, what: String| tiles.extend(figure.map(|figure| (figure, what)));
    tile(run.deliveries_per_second.map(digits), "deliveries per second".to_owned());
    tile(run.latency_seconds.p50.map(span), "latency, median".to_owned());
    tile(run.latency_seconds.p99.map(span), "latency, 99 %".to_owned());
    if let Some(cpu) = &run.server_cpu_per {
        tile(Some(format!("{} µs", digits(cpu.total))), format!("server CPU per {}", cpu.unit));
    }
    if let Some(server) = &run.cpu.server {
        let share = format!("{:.0} %", 100.0 * server.total() / run.cpu.seconds);
        tile(Some(share), format!("of a core, on {}", cores(&server.cores)));
    }
    if let Some(growth) = &run.bytes_per_connection {
        tile(Some(size(growth.pss)), "PSS per connection".to_owned());
    }
    tiles
}

fn notes(run: &Document) -> Vec<String> {
    let note = |note: &crate::document::Note| match note.kind {
        NoteKind::Bottleneck => format!("This tool was the bottleneck: {}.", note.text),
        NoteKind::Disturbed => format!("Disturbed: {}.", note.text),
        NoteKind::Unknown => format!("Note: {}.", note.text),
    };
    run.notes.iter().map(note).collect()
}

/// What the scenario found beside deliveries.
fn found(page: &mut Page, run: &Document) {
    for (what, times) in &run.found_seconds {
        let chart = percentiles::chart(what, &[(2, "", times)]);
        page.chart(&format!("Times: {what}"), what, chart);
    }
    let counts: Vec<_> =
        run.found_counts.iter().map(|(what, count)| (what.as_str(), count.to_string())).collect();
    if !counts.is_empty() {
        page.facts(&counts);
    }
}

fn memory(page: &mut Page, run: &Document) {
    if run.memory.is_empty() {
        return;
    }
    page.heading("Memory");
    let rows: Vec<Vec<String>> = run
        .memory
        .iter()
        .map(|sized| {
            let (footprint, kernel) = (&sized.footprint, sized.footprint.kernel.as_ref());
            let when = match sized.when {
                When::Before => "before the run".to_owned(),
                When::Open => format!("{} connections open", sized.connections),
                When::After => "when all had come".to_owned(),
            };
            let of_kernel = |of: Option<u64>| of.map_or("-".to_owned(), |bytes| size(bytes as f64));
            vec![
                when,
                size(footprint.rss as f64),
                size(footprint.pss as f64),
                footprint.files.to_string(),
                of_kernel(kernel.map(|kernel| kernel.slab)),
                of_kernel(kernel.map(|kernel| kernel.tcp)),
                kernel.map_or("-".to_owned(), |kernel| kernel.sockets.to_string()),
            ]
        })
        .collect();
    let head = ["", "RSS", "PSS", "open files", "kernel slab", "TCP buffers", "TCP sockets"];
    page.table(&head, &rows);
    let Some(growth) = &run.bytes_per_connection else { return };
    let slab =
        growth.slab.map(|slab| format!(", {} of kernel slab for both ends", size(slab))).unwrap_or_default();
    page.chart("Memory of a connection", "memory", bars::memory_parts(&[("", growth)]));
    page.soft(&format!(
        "A connection: {} RSS, {} PSS{slab}. What the kernel holds is counted for the whole machine.",
        size(growth.rss),
        size(growth.pss)
    ));
    let caches: Vec<Vec<String>> =
        growth.caches.iter().map(|(name, by)| vec![name.clone(), size(*by)]).collect();
    if !caches.is_empty() {
        page.folded("Slab caches that grew most", |page| {
            page.table(&["cache", "a connection, both ends"], &caches);
        });
    }
}

fn settings(page: &mut Page, run: &Document) {
    page.heading("Where and how");
    let mut facts = origin_facts(&run.origin);
    facts.push(("server", run.server.address.clone()));
    facts.extend(run.server.version.clone().map(|version| ("version", version)));
    facts.extend(run.server.program.as_ref().map(|server| ("program", program(server))));
    let cpu = &run.cpu;
    let share = |seconds: f64| format!("{:.0} % of a core", 100.0 * seconds / cpu.seconds);
    facts.extend(cpu.own.map(|own| ("this tool took", share(own.total()))));
    let took = |with: &Participant| {
        ("beside the server", format!("process {}: {}", with.pid, share(with.cpu.total())))
    };
    facts.extend(cpu.with.iter().map(took));
    let others = cpu.others.map(|others| format!("{} on {}", share(others), cores(&cpu.cores)));
    facts.extend(others.map(|others| ("others took", others)));
    page.facts(&facts);
    page.soft("To repeat it:");
    page.code(&shell(&run.origin.command));
    page.folded("Every setting", |page| page.code(&format!("{:#}", run.spec)));
    page.folded("Every percentile", |page| {
        let row = |(percent, seconds): &(f64, f64)| vec![format!("{percent:.6} %"), span(*seconds)];
        let rows: Vec<Vec<String>> = run.latency_seconds.curve.iter().map(row).collect();
        page.table(&["share of deliveries", "took no longer than"], &rows);
    });
}
