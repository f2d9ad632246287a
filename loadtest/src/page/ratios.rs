//! All measures of a comparison at a glance: for each a line, on it a dot for each server where its ratio to the reference
//! is.

use super::svg::{Anchor, CHARACTER, Scale, Svg, colour};
use crate::compare::Spread;
use crate::compare::result::{Comparison, Measured};

const WIDTH: f64 = 860.0;
const ROW: f64 = 40.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 40.0;
const NAME_MAX: f64 = 330.0;

/// Ratios that may be on the axis, as far as there is room.
const ROUND: [f64; 21] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0,
    100.0,
];

/// Pixels between two of them at least.
const APART: f64 = 44.0;

/// The chart; none where there are no ratios.
pub(super) fn chart(comparison: &Comparison, colours: &[String]) -> Option<String> {
    let measures = &comparison.measures;
    let spreads = || measures.iter().flat_map(ratios).map(|(_, ratio)| ratio);
    let least = spreads().map(|ratio| ratio.min).min_by(f64::total_cmp)?.min(0.9);
    let most = spreads().map(|ratio| ratio.max).max_by(f64::total_cmp)?.max(1.1);

    let longest =
        measures.iter().map(|measure| measure.name.chars().count().max(beside(measure).chars().count()));
    let longest = longest.max()?;
    let left = (longest as f64 * CHARACTER + 14.0).min(NAME_MAX);
    let bottom = TOP + measures.len() as f64 * ROW;
    let mut svg = Svg::new(WIDTH, bottom + BOTTOM);
    let names: Vec<_> = colours.iter().enumerate().map(|(index, name)| (index, name.as_str())).collect();
    svg.legend((left, 16.0), &names);
    let x = Scale::among(&ROUND, (least, most), left, WIDTH - 20.0);
    for tick in ticks(&x) {
        let (place, class) = (x.place(tick), if tick == 1.0 { "reference" } else { "grid" });
        svg.line((place, TOP), (place, bottom), class);
        svg.text((place, bottom + 16.0), Anchor::Middle, "tick", &format!("{tick} ×"));
    }
    svg.text((WIDTH - 20.0, bottom + 34.0), Anchor::End, "unit", "ratio to the reference");
    for (index, measure) in measures.iter().enumerate() {
        let middle = TOP + (index as f64 + 0.5) * ROW;
        svg.line((left, middle + ROW / 2.0), (WIDTH - 20.0, middle + ROW / 2.0), "grid");
        svg.text((left - 10.0, middle - 2.0), Anchor::End, "label", &fit(&measure.name, left - 14.0));
        let beside = fit(&beside(measure), left - 14.0);
        svg.text((left - 10.0, middle + 12.0), Anchor::End, "unit", &beside);
        for bar in &measure.bar {
            let place = x.place(bar.bar.at_most);
            svg.line((place, middle - 15.0), (place, middle + 15.0), "bar");
        }
        dots(&mut svg, measure, colours, &x, middle);
    }
    Some(svg.finish("ratios to the reference"))
}

/// What is compared, and to whom.
fn beside(measure: &Measured) -> String {
    let what = measure.figures.first().map(|figure| figure.label.as_str()).unwrap_or_default();
    format!("{what}, ÷ {}", measure.reference)
}

/// The one first, then whichever still have room, from there outwards.
fn ticks(x: &Scale) -> Vec<f64> {
    let mut outwards: Vec<f64> =
        ROUND.into_iter().filter(|ratio| (x.least..=x.most).contains(ratio)).collect();
    outwards.sort_by(|left, right| left.ln().abs().total_cmp(&right.ln().abs()));
    let mut ticks: Vec<f64> = Vec::new();
    for ratio in outwards {
        if ticks.iter().all(|tick| (x.place(*tick) - x.place(ratio)).abs() >= APART) {
            ticks.push(ratio);
        }
    }
    ticks
}

/// The ratios of a measure's first figure; that of the reference to itself says nothing.
fn ratios(measure: &Measured) -> impl Iterator<Item = (&str, Spread)> {
    let variants = measure.figures.first().map(|figure| figure.variants.as_slice()).unwrap_or_default();
    let others = variants.iter().filter(|valued| valued.name != measure.reference);
    others.filter_map(|valued| Some((valued.name.as_str(), valued.ratio?)))
}

fn dots(svg: &mut Svg, measure: &Measured, colours: &[String], x: &Scale, middle: f64) {
    let all: Vec<_> = ratios(measure).collect();
    for (index, (name, ratio)) in all.iter().enumerate() {
        // One below the other, so that none hides another.
        let y = middle + (index as f64 - (all.len() as f64 - 1.0) / 2.0) * (24.0 / all.len() as f64);
        let series = colours.iter().position(|colour| colour == name).unwrap_or_default();
        let class = colour(series);
        svg.line((x.place(ratio.min), y), (x.place(ratio.max), y), &format!("spread {class}"));
        svg.dot((x.place(ratio.median), y), 4.0, &format!("fill {class}"));
    }
}

/// As much of `text` as `width` has room for.
fn fit(text: &str, width: f64) -> String {
    let room = (width / CHARACTER) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::result::tests::complete;

    #[test]
    fn every_ratio_has_a_dot() {
        let names: Vec<String> = ["moongate", "floor", "rival"].map(str::to_owned).into();
        let svg = chart(&complete(false), &names).expect("a chart");
        // The reference has none; the bar is there.
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"bar\"").count(), 1, "{svg}");
        assert!(svg.contains("fan-out to 100") && svg.contains("÷ floor"), "{svg}");
    }

    #[test]
    fn ticks_do_not_crowd() {
        for (least, most, expect) in [
            (0.9, 1.1, vec![1.0, 1.1, 0.9]),
            (0.4, 2.0, vec![1.0, 1.2, 0.8, 1.5, 0.5, 2.0, 0.3]),
            (0.9, 40.0, vec![1.0, 1.5, 3.0, 5.0, 10.0, 20.0, 50.0]),
        ] {
            let x = Scale::among(&ROUND, (least, most), 0.0, 600.0);
            assert_eq!(ticks(&x), expect, "{x:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(fit("short", 100.0), "short");
        assert_eq!(fit("a name that is far too long", 10.0 * CHARACTER), "a name th…");
    }
}
