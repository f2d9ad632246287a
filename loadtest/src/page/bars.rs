//! Bars beside each other: a figure of several servers with its spread and its ratio to one of them; and the parts that a
//! server's CPU time consists of.

use super::svg::{Anchor, CHARACTER, Scale, Svg, colour};
use crate::compare::digits;
use crate::compare::result::{Compared, Measured};
use crate::document::CpuPer;
use crate::host::Growth;

const WIDTH: f64 = 860.0;
const ROW: f64 = 34.0;
const BAR: f64 = 16.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 34.0;
const NAME_MAX: f64 = 220.0;

/// How wide names are, at most [`NAME_MAX`].
fn names_width<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or_default();
    (longest as f64 * CHARACTER + 14.0).min(NAME_MAX)
}

/// The figure `compared` of a measure, in the colours of the variants named; none where nothing was measured.
pub(super) fn compared(measure: &Measured, compared: &Compared, colours: &[String]) -> Option<String> {
    let most = compared.variants.iter().filter_map(|valued| valued.value).map(|value| value.max);
    let most = most.max_by(f64::total_cmp)?;
    let left = names_width(compared.variants.iter().map(|valued| valued.name.as_str()));
    let right = WIDTH - 230.0;
    let rows = compared.variants.len() as f64;
    let (mut svg, bottom) = (Svg::new(WIDTH, TOP + rows * ROW + BOTTOM), TOP + rows * ROW);
    let x = Scale::linear(most, left, right);
    scale(&mut svg, &x, TOP, bottom, &compared.unit);
    svg.text((WIDTH - 150.0, TOP - 10.0), Anchor::End, "unit", "median");
    svg.text((WIDTH, TOP - 10.0), Anchor::End, "unit", &format!("ratio to {}", measure.reference));

    let of_reference = compared.variants.iter().find(|valued| valued.name == measure.reference);
    if let Some(value) = of_reference.and_then(|valued| valued.value) {
        let place = x.place(value.median);
        svg.line((place, TOP), (place, bottom), "reference");
    }
    for (index, valued) in compared.variants.iter().enumerate() {
        let middle = TOP + (index as f64 + 0.5) * ROW;
        svg.text((left - 10.0, middle + 4.0), Anchor::End, "label", &valued.name);
        let Some(value) = valued.value else {
            svg.text((left + 6.0, middle + 4.0), Anchor::Start, "unit", "not measured");
            continue;
        };
        let series = colours.iter().position(|name| *name == valued.name).unwrap_or(index);
        let end = x.place(value.median);
        svg.rect((left, middle - BAR / 2.0), (end - left, BAR), &format!("fill {}", colour(series)));
        whisker(&mut svg, (x.place(value.min), x.place(value.max)), middle);
        svg.text((WIDTH - 150.0, middle + 4.0), Anchor::End, "value", &digits(value.median));
        if let Some(ratio) = valued.ratio {
            let text = if valued.name == measure.reference {
                "1".to_owned()
            } else {
                format!("{:.2} ({:.2} – {:.2})", ratio.median, ratio.min, ratio.max)
            };
            svg.text((WIDTH, middle + 4.0), Anchor::End, "value", &text);
        }
    }
    Some(svg.finish(&format!("{}: {}", measure.name, compared.label)))
}

/// The spread of a value, in a line with an end on either side.
fn whisker(svg: &mut Svg, (least, most): (f64, f64), middle: f64) {
    svg.line((least, middle), (most, middle), "whisker");
    for end in [least, most] {
        svg.line((end, middle - 5.0), (end, middle + 5.0), "whisker");
    }
}

fn scale(svg: &mut Svg, x: &Scale, top: f64, bottom: f64, unit: &str) {
    for tick in x.ticks() {
        let place = x.place(tick);
        svg.line((place, top), (place, bottom), "grid");
        svg.text((place, bottom + 16.0), Anchor::Middle, "tick", &tidy(tick));
    }
    if !unit.is_empty() {
        svg.text((x.place(x.most) + 22.0, bottom + 16.0), Anchor::Start, "unit", unit);
    }
}

/// A round number without needless digits.
fn tidy(value: f64) -> String {
    if value >= 10_000.0 {
        return digits(value);
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Something that consists of parts: a bar for each, of which it is known how much each part is.
pub(super) struct Stack<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    /// What the parts are, and their colours.
    pub(super) parts: &'a [(usize, &'a str)],
    /// Names and amounts, in the order of the parts.
    pub(super) rows: Vec<(&'a str, Vec<f64>)>,
}

impl Stack<'_> {
    /// The chart; none where there is nothing.
    pub(super) fn chart(&self) -> Option<String> {
        let rows = &self.rows;
        let total = |amounts: &[f64]| amounts.iter().sum::<f64>();
        let most = rows.iter().map(|(_, amounts)| total(amounts)).max_by(f64::total_cmp)?;
        let left = if rows.len() > 1 { names_width(rows.iter().map(|(name, _)| *name)) } else { 10.0 };
        let top = TOP + 14.0;
        let bottom = top + rows.len() as f64 * ROW;
        let mut svg = Svg::new(WIDTH, bottom + BOTTOM);
        svg.legend((left, 14.0), self.parts);
        let x = Scale::linear(most, left, WIDTH - 110.0);
        scale(&mut svg, &x, top, bottom, self.unit);
        for (index, (name, amounts)) in rows.iter().enumerate() {
            let middle = top + (index as f64 + 0.5) * ROW;
            if rows.len() > 1 {
                svg.text((left - 10.0, middle + 4.0), Anchor::End, "label", name);
            }
            let mut from = 0.0;
            for ((series, _), amount) in self.parts.iter().zip(amounts) {
                let (begin, end) = (x.place(from), x.place(from + amount));
                svg.rect(
                    (begin, middle - BAR / 2.0),
                    (end - begin, BAR),
                    &format!("fill {}", colour(*series)),
                );
                from += amount.max(0.0);
            }
            let text = format!("{} {}", digits(total(amounts)), self.unit);
            svg.text((x.place(from) + 8.0, middle + 4.0), Anchor::Start, "value", &text);
        }
        Some(svg.finish(self.name))
    }
}

/// Of what the server's CPU time consists, run by run.
pub(super) fn cpu_parts(runs: &[(&str, &CpuPer)]) -> Option<String> {
    let parts_of = |cpu: &CpuPer| vec![cpu.user, cpu.system, cpu.softirq.unwrap_or(0.0)];
    let rows = runs.iter().map(|(name, cpu)| (*name, parts_of(cpu))).collect();
    let parts = &[(0, "user"), (1, "system"), (3, "soft interrupts (ksoftirqd)")];
    Stack { name: "CPU time of the server", unit: "µs", parts, rows }.chart()
}

/// What a connection takes, run by run.
pub(super) fn memory_parts(runs: &[(&str, &Growth)]) -> Option<String> {
    let rows =
        runs.iter().map(|(name, growth)| (*name, vec![growth.pss, growth.slab.unwrap_or(0.0)])).collect();
    let parts = &[(2, "server (PSS)"), (4, "kernel slab, both ends")];
    Stack { name: "memory of a connection", unit: "B", parts, rows }.chart()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::result::tests::complete;

    #[test]
    fn each_variant_has_a_bar_with_its_ratio() {
        let comparison = complete(true);
        let measure = &comparison.measures[0];
        let svg = compared(measure, &measure.figures[0], &[]).expect("a chart");
        for part in ["moongate", "(1.05 – 1.10)", "ratio to floor", "not measured", "class=\"reference\""] {
            assert!(svg.contains(part), "no {part:?} in {svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 2, "{svg}");
    }

    #[test]
    fn parts_follow_each_other() {
        let run = crate::document::tests::complete();
        let cpu = run.server_cpu_per.expect("it is complete");
        let svg = cpu_parts(&[("one", &cpu), ("two", &cpu)]).expect("a chart");
        // Three for the legend, three of each.
        assert_eq!(svg.matches("<rect").count(), 9, "{svg}");
        let growth = run.bytes_per_connection.expect("it is complete");
        let svg = memory_parts(&[("one", &growth)]).expect("a chart");
        assert!(svg.matches("<rect").count() == 4 && !svg.contains(">one<"), "{svg}");
        assert_eq!((cpu_parts(&[]), memory_parts(&[])), (None, None));
        assert_eq!([0.5, 2.0, 0.25, 20_000.0].map(tidy), ["0.5", "2", "0.25", "20,000"]);
    }
}
