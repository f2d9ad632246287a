//! How many of a hundred took how long: a line for each run, both axes logarithmic, so that the slow few have as much room
//! as the many.

use super::svg::{Anchor, CHARACTER, Scale, Svg, colour};
use crate::document::Distribution;
use crate::output::span;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 46.0;

/// The few that were faster than these would take half of the chart for what nobody asks.
const FIRST_PERCENT: f64 = 5.0;

/// The chart of some series: which colour, a name, times.
pub(super) fn chart(name: &str, series: &[(usize, &str, &Distribution)]) -> Option<String> {
    let series: Vec<_> = series.iter().filter(|(.., times)| times.curve.len() > 1).copied().collect();
    let all = || series.iter().flat_map(|(.., times)| &times.curve);
    let usual = all().filter(|(percent, _)| *percent >= FIRST_PERCENT).map(|(_, seconds)| *seconds);
    let least = usual.min_by(f64::total_cmp)?;
    let most = all().map(|(_, seconds)| *seconds).max_by(f64::total_cmp)?;
    let count = series.iter().map(|(.., times)| times.count).max()?;

    let mut svg = Svg::new(WIDTH, HEIGHT);
    let names: Vec<_> = series.iter().map(|(index, name, _)| (*index, *name)).collect();
    let top = if names.len() > 1 { 44.0 } else { 22.0 };
    if names.len() > 1 {
        svg.legend((LEFT, 16.0), &names);
    }
    let depth = depth(count);
    let (x, y) = (
        Scale::exact(0.0, depth, LEFT, WIDTH - RIGHT),
        Scale::logarithmic(least, most, HEIGHT - BOTTOM, top),
    );
    axes(&mut svg, &x, &y, top, depth);
    for (index, _, times) in &series {
        let points = points(times, &x, &y);
        svg.curve(&points, &format!("curve {}", colour(*index)));
    }
    if let [(index, _, times)] = series.as_slice() {
        marks(&mut svg, times, &x, &y, *index);
    }
    Some(svg.finish(name))
}

/// How many nines there are to be shown for so many times.
fn depth(count: u64) -> f64 {
    (count.max(10) as f64).log10().min(7.0)
}

/// How many nines a percentage has.
fn nines(percent: f64, depth: f64) -> f64 {
    let rest = 1.0 - percent / 100.0;
    if rest <= 0.0 { depth } else { (-rest.log10()).clamp(0.0, depth) }
}

fn axes(svg: &mut Svg, x: &Scale, y: &Scale, top: f64, depth: f64) {
    let bottom = HEIGHT - BOTTOM;
    for tick in y.ticks() {
        let place = y.place(tick);
        svg.line((LEFT, place), (WIDTH - RIGHT, place), "grid");
        svg.text((LEFT - 8.0, place + 4.0), Anchor::End, "tick", &short(tick));
    }
    let percents = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999, 99.99999];
    for percent in percents.into_iter().filter(|percent| nines(*percent, f64::MAX) <= depth + 1e-9) {
        let place = x.place(nines(percent, depth));
        svg.line((place, top), (place, bottom), "grid");
        svg.text((place, bottom + 18.0), Anchor::Middle, "tick", &format!("{percent} %"));
    }
    svg.line((LEFT, bottom), (WIDTH - RIGHT, bottom), "axis");
    svg.text((LEFT - 8.0, top - 10.0), Anchor::End, "unit", "latency");
    svg.text((WIDTH - RIGHT, HEIGHT - 6.0), Anchor::End, "unit", "share of deliveries that took no longer");
}

/// A stair is flattened to its upper ends: each percentage with the time that it does not exceed.
fn points(times: &Distribution, x: &Scale, y: &Scale) -> Vec<(f64, f64)> {
    let depth = depth(times.count);
    times
        .curve
        .iter()
        .map(|(percent, seconds)| (x.place(nines(*percent, depth)), y.place(*seconds)))
        .collect()
}

/// The percentiles that everybody asks for, named where they are.
fn marks(svg: &mut Svg, times: &Distribution, x: &Scale, y: &Scale, series: usize) {
    let depth = depth(times.count);
    let asked =
        [(50.0, times.p50), (90.0, times.p90), (99.0, times.p99), (99.9, times.p999), (100.0, times.max)];
    let mut taken = f64::MIN;
    for (percent, seconds) in asked {
        let Some(seconds) = seconds.filter(|_| nines(percent, f64::MAX) <= depth || percent == 100.0) else {
            continue;
        };
        let at = (x.place(nines(percent, depth)), y.place(seconds));
        svg.dot(at, 3.5, &format!("fill {}", colour(series)));
        let text = span(seconds);
        let wide = text.chars().count() as f64 * CHARACTER;
        let left = (at.0 - wide - 8.0).max(LEFT + 4.0);
        // Where two are near each other, the first is named.
        if left > taken {
            svg.text((left, at.1 - 8.0), Anchor::Start, "value", &text);
            taken = left + wide;
        }
    }
}

/// A round time for an axis.
fn short(seconds: f64) -> String {
    let (value, unit) = match seconds {
        ..0.000_000_999 => (seconds * 1e9, "ns"),
        ..0.000_999 => (seconds * 1e6, "µs"),
        ..0.999 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    format!("{} {unit}", value.round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_of_nines() {
        for (percent, expect) in
            [(0.0, 0.0), (90.0, 1.0), (99.0, 2.0), (99.99, 4.0), (99.999_999, 5.0), (100.0, 5.0)]
        {
            assert!((nines(percent, 5.0) - expect).abs() < 1e-6, "{percent}");
        }
        assert_eq!([1e-6, 2e-5, 5e-3, 10.0].map(short), ["1 µs", "20 µs", "5 ms", "10 s"]);
    }

    #[test]
    fn only_series_with_times_are_drawn() {
        let empty = Distribution::default();
        assert_eq!(chart("latency", &[(0, "a", &empty)]), None);
        let run = crate::document::tests::complete();
        let one = chart("latency", &[(0, "a", &run.latency_seconds), (1, "b", &empty)]).expect("a chart");
        assert_eq!(one.matches("class=\"curve").count(), 1, "{one}");
        assert!(
            one.contains("99.9 %") && one.contains(&span(run.latency_seconds.max.expect("there is one")))
        );
        let two = chart("latency", &[(0, "a", &run.latency_seconds), (1, "b<", &run.latency_seconds)]);
        let two = two.expect("a chart");
        assert!(two.matches("class=\"curve").count() == 2 && two.contains("b&lt;"), "{two}");
    }
}
