//! A measure in lines for a person.

use std::fmt::Write as _;

use super::ratio::Spread;
use super::result::{Compared, Kept, Measured, Reached, Taken, Valued};

/// A table of every figure of `measure`, and what a reader must know of it.
pub(super) fn lines(measure: &Measured) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_lines(measure, &mut out);
    out
}

fn write_lines(measure: &Measured, out: &mut String) -> std::fmt::Result {
    let Measured { name, reference, rounds, variants, figures, bar } = measure;
    writeln!(out, "\n{name}: {rounds} rounds, ratios to {reference}")?;
    let rows: Vec<[String; 5]> = figures.iter().flat_map(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    for row in &rows {
        write!(out, "  {:<width$}", row[0], width = widths[0])?;
        for (cell, width) in row.iter().zip(widths).skip(1) {
            write!(out, "  {cell:>width$}")?;
        }
        writeln!(out)?;
    }
    for variant in variants {
        for remark in remarks(variant, *rounds) {
            writeln!(out, "  NOTE {}: {remark}", variant.name)?;
        }
    }
    for Reached { bar, ratio, reached } in bar {
        let ratio = ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.3}"));
        let verdict = if *reached { "reached" } else { "MISSED" };
        writeln!(out, "  bar: {} at most {:.2} × {reference}: {ratio}, {verdict}", bar.variant, bar.at_most)?;
    }
    Ok(())
}

/// The head and the lines of a figure.
fn rows(figure: &Compared) -> Vec<[String; 5]> {
    let Compared { label, unit, variants, .. } = figure;
    let title = if unit.is_empty() { label.clone() } else { format!("{label}, {unit}") };
    let head = [title.as_str(), "median", "min – max", "ratio", "min – max"].map(str::to_owned);
    let row = |valued: &Valued| {
        let [median, range] = cells(valued.value, digits);
        let [ratio, ratio_range] = cells(valued.ratio, |ratio| format!("{ratio:.3}"));
        [format!("  {}", valued.name), median, range, ratio, ratio_range]
    };
    [head].into_iter().chain(variants.iter().map(row)).collect()
}

fn cells(spread: Option<Spread>, show: impl Fn(f64) -> String) -> [String; 2] {
    let Some(Spread { median, min, max }) = spread else { return ["-".to_owned(), "-".to_owned()] };
    [show(median), format!("{} – {}", show(min), show(max))]
}

/// What a reader must know of the slices of a variant.
pub(crate) fn remarks(variant: &Taken, rounds: u32) -> Vec<String> {
    let count = |is: fn(&Kept) -> bool| variant.slices.iter().filter(|slice| is(slice)).count();
    let lost: u64 = variant.slices.iter().map(|slice| slice.lost).sum();
    let mut remarks: Vec<String> = variant.failure.iter().map(|why| format!("failed: {why}")).collect();
    for (count, what) in [
        (count(|slice| !slice.right), format!("were WRONG ({lost} deliveries lost)")),
        (count(|slice| slice.repeated), "were taken again, for others used the cores".to_owned()),
        (count(|slice| slice.disturbed), "stayed disturbed".to_owned()),
        (count(|slice| slice.bottleneck), "were limited by this tool, not by the server".to_owned()),
    ] {
        if count > 0 {
            remarks.push(format!("{count} of {rounds} slices {what}"));
        }
    }
    remarks
}

/// A value with its unit.
pub(crate) fn amount(value: f64, unit: &str) -> String {
    let digits = digits(value);
    if unit.is_empty() { digits } else { format!("{digits} {unit}") }
}

/// A value with as many digits as mean something.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        10_000.0.. => grouped(value),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.001.. => format!("{value:.3}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2e}"),
    }
}

/// A large value with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::result::tests::complete;

    #[test]
    fn a_table_has_a_row_for_each_and_says_what_was_odd() {
        let lines = lines(&complete(false).measures[0]);
        for line in [
            "fan-out to 100: 2 rounds, ratios to floor\n",
            "  CPU per delivery, µs  median        min – max  ratio      min – max\n",
            "    moongate              6.50      4.20 – 8.80  1.075  1.050 – 1.100\n",
            "    floor                 6.00      4.00 – 8.00  1.000  1.000 – 1.000\n",
            "  latency, 99 %, µs     median ",
            "  NOTE rival: 2 of 2 slices were WRONG (0 deliveries lost)\n",
            "  NOTE moongate: 1 of 2 slices were taken again, for others used the cores\n",
            "  bar: moongate at most 1.10 × floor: 1.075, reached\n",
        ] {
            assert!(lines.contains(line), "no {line:?} in:\n{lines}");
        }
    }

    #[test]
    fn what_failed_has_no_figures() {
        let lines = lines(&complete(true).measures[0]);
        assert!(lines.contains("  NOTE rival: failed: connection refused\n"), "{lines}");
        assert!(lines.lines().any(|line| line.starts_with("    rival  ") && line.ends_with('-')), "{lines}");
    }

    #[test]
    fn values_have_the_digits_that_mean_something() {
        for (value, expect) in [
            (0.0, "0"),
            (0.000_012, "1.20e-5"),
            (0.25, "0.250"),
            (4.567, "4.57"),
            (-45.67, "-45.7"),
            (456.7, "457"),
            (12_345.6, "12,346"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(digits(value), expect);
        }
        assert_eq!((amount(4.567, "µs"), amount(2.0, "")), ("4.57 µs".to_owned(), "2.00".to_owned()));
    }
}
