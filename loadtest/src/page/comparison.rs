//! What is told of a comparison.

use super::html::{Page, origin_facts, program, shell};
use super::{bars, percentiles, ratios};
use crate::compare::result::{Comparison, Kept, Measured, Taken, Valued};
use crate::compare::{Spread, digits, remarks};
use crate::document::Distribution;

/// Adds all that is told of `comparison`.
pub(super) fn tell(page: &mut Page, comparison: &Comparison) {
    page.title(&comparison.plan.title);
    let date = comparison.origin.date.replace('T', " ").replace('Z', " UTC");
    page.soft(&format!(
        "{date}. Slices were taken in turn, one server after the other and again from the first; a ratio is between two \
         slices of one round."
    ));
    let colours = variants(comparison);
    if comparison.measures.len() > 1 {
        page.chart("All measures at a glance", "ratios", ratios::chart(comparison, &colours));
        page.soft("Dots are medians, lines reach from the least ratio to the greatest; a red line is what is to be reached.");
    }
    for measure in &comparison.measures {
        tell_measure(page, measure, &colours);
    }
    page.heading("Where and how");
    let mut facts = origin_facts(&comparison.origin);
    let servers = servers(comparison);
    facts.extend(servers.iter().map(|(name, server)| (name.as_str(), server.clone())));
    page.facts(&facts);
    page.soft("To repeat it:");
    page.code(&shell(&comparison.origin.command));
    page.folded("The plan", |page| {
        page.code(&serde_json::to_string_pretty(&comparison.plan).unwrap_or_default());
    });
}

/// The names of all variants, in the order of their colours.
fn variants(comparison: &Comparison) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for variant in comparison.measures.iter().flat_map(|measure| &measure.variants) {
        if !names.contains(&variant.name) {
            names.push(variant.name.clone());
        }
    }
    names
}

/// Each variant with which program it is.
fn servers(comparison: &Comparison) -> Vec<(String, String)> {
    let taken = || comparison.measures.iter().flat_map(|measure| &measure.variants);
    let server =
        |name: &String| taken().find(|taken| taken.name == *name && taken.server.is_some())?.server.as_ref();
    let tell = |name: String| {
        let server = server(&name)?;
        let version = server.version.as_ref().map(|version| format!("{version}, ")).unwrap_or_default();
        let known = server.program.as_ref().map_or("its process is not known".to_owned(), program);
        Some((name, format!("{version}{}, {known}", server.address)))
    };
    variants(comparison).into_iter().filter_map(tell).collect()
}

fn tell_measure(page: &mut Page, measure: &Measured, colours: &[String]) {
    page.heading(&measure.name);
    if let Some(first) = measure.variants.iter().find(|variant| !variant.summary.is_empty()) {
        page.soft(&format!("{}. {} rounds.", first.summary, measure.rounds));
    }
    for bar in &measure.bar {
        let what = format!("{} at most {:.2} × {}", bar.bar.variant, bar.bar.at_most, measure.reference);
        let found = bar.ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.3}"));
        let verdict = if bar.reached { "reached" } else { "missed" };
        page.verdict(bar.reached, &format!("{what}: {found}, {verdict}."));
    }
    for (index, figure) in measure.figures.iter().enumerate() {
        let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
        let name = format!("{} {}", measure.name, figure.figure);
        // The first is what the measure is about; the others have their place in the table.
        if index == 0 {
            page.chart(&format!("{}{unit}", figure.label), &name, bars::compared(measure, figure, colours));
        }
    }
    latency(page, measure, colours);
    page.table(&["figure", "variant", "median", "min – max", "ratio", "min – max"], &rows(measure));
    let remark = |variant: &Taken| {
        let all = remarks(variant, measure.rounds).into_iter();
        all.map(|remark| format!("{}: {remark}.", variant.name)).collect::<Vec<_>>()
    };
    page.notes(&measure.variants.iter().flat_map(remark).collect::<Vec<_>>());
    page.folded("Every slice, and its command", |page| slices(page, measure));
}

fn latency(page: &mut Page, measure: &Measured, colours: &[String]) {
    let series: Vec<(usize, &str, &Distribution)> = measure
        .variants
        .iter()
        .filter_map(|variant| {
            let colour = colours.iter().position(|name| *name == variant.name)?;
            Some((colour, variant.name.as_str(), variant.latency_seconds.as_ref()?))
        })
        .collect();
    let heading = "Latency, in the slice in the middle";
    let chart = percentiles::chart(&format!("{}: latency", measure.name), &series);
    page.chart(heading, &format!("{} latency", measure.name), chart);
}

fn rows(measure: &Measured) -> Vec<Vec<String>> {
    let cells = |spread: Option<Spread>, show: fn(f64) -> String| match spread {
        Some(Spread { median, min, max }) => [show(median), format!("{} – {}", show(min), show(max))],
        None => ["-".to_owned(), "-".to_owned()],
    };
    let row = |label: &str, valued: &Valued| {
        let [median, range] = cells(valued.value, digits);
        let [ratio, ratio_range] = cells(valued.ratio, |ratio| format!("{ratio:.3}"));
        vec![label.to_owned(), valued.name.clone(), median, range, ratio, ratio_range]
    };
    let figures = measure.figures.iter().map(|figure| {
        let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
        (format!("{}{unit}", figure.label), &figure.variants)
    });
    figures
        .flat_map(|(label, variants)| {
            let label = move |index: usize| if index == 0 { label.clone() } else { String::new() };
            variants.iter().enumerate().map(move |(index, valued)| row(&label(index), valued))
        })
        .collect()
}

fn slices(page: &mut Page, measure: &Measured) {
    let names = measure.figures.iter().map(|figure| figure.figure.as_str());
    let head: Vec<&str> = ["variant", "round"].into_iter().chain(names).chain(["remarks"]).collect();
    let row = |variant: &Taken, slice: &Kept| {
        let values = slice.values.iter().map(|value| value.map_or("-".to_owned(), digits));
        let remarks = [
            (!slice.right, "wrong"),
            (slice.repeated, "taken again"),
            (slice.disturbed, "disturbed"),
            (slice.bottleneck, "limited by this tool"),
        ];
        let remarks: Vec<&str> = remarks.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        let named = [variant.name.clone(), slice.round.to_string()];
        named.into_iter().chain(values).chain([remarks.join(", ")]).collect()
    };
    let each = |variant| move |slice| row(variant, slice);
    let rows: Vec<Vec<String>> =
        measure.variants.iter().flat_map(|variant| variant.slices.iter().map(each(variant))).collect();
    page.table(&head, &rows);
    let commands: Vec<String> = measure.variants.iter().map(|variant| shell(&variant.command)).collect();
    page.code(&commands.join("\n"));
}
