//! Drawing: shapes as SVG, scales, and ticks where a person would put them. Colours are classes, so that the style sheet
//! decides them for light and dark.

use std::fmt::Write as _;

/// Pixels that a character of a chart's text takes, roughly: enough to leave room for it.
pub(super) const CHARACTER: f64 = 7.2;

/// How many colours there are for series; past them they begin again.
pub(super) const SERIES_COLOURS: usize = 7;

/// Where a text is held.
#[derive(Copy, Clone)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing. Its own units are pixels; it is shown as wide as there is room.
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Svg {
        Svg { width, height, body: String::new() }
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    pub(super) fn rect(&mut self, at: (f64, f64), size: (f64, f64), class: &str) {
        let ((x, y), (width, height)) = (at, (size.0.max(0.0), size.1.max(0.0)));
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2"/>"#
        ));
    }

    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, class: &str) {
        let (x, y) = at;
        self.add(format_args!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"/>"#));
    }

    pub(super) fn text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let (x, y) = at;
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.add(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// A line through `points`.
    pub(super) fn curve(&mut self, points: &[(f64, f64)], class: &str) {
        let path = path(points);
        self.add(format_args!(r#"<path class="{class}" d="{path}"/>"#));
    }

    /// What lies between `points` and the height `floor`.
    pub(super) fn area(&mut self, points: &[(f64, f64)], floor: f64, class: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let path = path(points);
        let (left, right) = (first.0, last.0);
        self.add(format_args!(
            r#"<path class="{class}" d="{path}L{right:.1} {floor:.1}L{left:.1} {floor:.1}Z"/>"#
        ));
    }

    /// Names of series with their colours, side by side from `at`.
    pub(super) fn legend(&mut self, at: (f64, f64), series: &[(usize, &str)]) {
        let (mut x, mut y) = at;
        for (index, name) in series {
            let wide = 32.0 + name.chars().count() as f64 * CHARACTER;
            if x + wide > self.width && x > at.0 {
                (x, y) = (at.0, y + 18.0);
            }
            self.rect((x, y - 8.0), (12.0, 8.0), &format!("fill {}", colour(*index)));
            self.text((x + 17.0, y), Anchor::Start, "label", name);
            x += wide;
        }
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }

    /// The whole, with a name for those who cannot see it.
    pub(super) fn finish(self, name: &str) -> String {
        let Svg { width, height, body } = self;
        let name = escape(name);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             aria-label=\"{name}\">\n{body}</svg>\n"
        )
    }
}

/// The class of a series' colour.
pub(super) fn colour(series: usize) -> String {
    format!("s{}", series % SERIES_COLOURS + 1)
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    path
}

/// `text` so that HTML and SVG show it as it is.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}

/// From values to places.
#[derive(Copy, Clone, Debug)]
pub(super) struct Scale {
    logarithmic: bool,
    /// The values at either end.
    pub(super) least: f64,
    pub(super) most: f64,
    /// Where those are, in pixels.
    from: f64,
    to: f64,
}

impl Scale {
    /// From zero to a round value that is at least `most`.
    pub(super) fn linear(most: f64, from: f64, to: f64) -> Scale {
        let most = if most > 0.0 { most } else { 1.0 };
        let step = round_step(most / 6.0);
        Scale { logarithmic: false, least: 0.0, most: (most / step - 1e-9).ceil() * step, from, to }
    }

    /// From exactly `least` to `most`.
    pub(super) fn exact(least: f64, most: f64, from: f64, to: f64) -> Scale {
        Scale { logarithmic: false, least, most: if most > least { most } else { least + 1.0 }, from, to }
    }

    /// A logarithmic one from one of the round values to another, which must rise, so that all from `least` to `most` have
    /// room.
    pub(super) fn among(round: &[f64], (least, most): (f64, f64), from: f64, to: f64) -> Scale {
        let below = round.iter().rev().find(|value| **value <= least).or(round.first());
        let above = round.iter().find(|value| **value >= most).or(round.last());
        let (least, most) = (below.copied().unwrap_or(least), above.copied().unwrap_or(most));
        Scale { logarithmic: true, least, most, from, to }
    }

    /// A logarithmic one that has room for all from `least` to `most`, and begins and ends at a tick.
    pub(super) fn logarithmic(least: f64, most: f64, from: f64, to: f64) -> Scale {
        let least = if least > 0.0 { least } else { 1e-9 };
        let most = most.max(least);
        let ticks = log_ticks(least / 10.0, most * 10.0);
        let below = ticks.iter().rev().find(|tick| **tick <= least * 1.000_001);
        let above = ticks.iter().find(|tick| **tick >= most * 0.999_999 && Some(*tick) != below);
        Scale {
            logarithmic: true,
            least: below.copied().unwrap_or(least),
            most: above.copied().unwrap_or(most * 2.0),
            from,
            to,
        }
    }

    /// Where `value` is.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.least).ln() / (self.most / self.least).ln()
        } else {
            (value - self.least) / (self.most - self.least)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values from end to end.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let all = log_ticks(self.least, self.most);
            // Over many decades only their beginnings are told.
            let decades = (self.most / self.least).log10();
            let is_decade = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-6;
            return all.into_iter().filter(|tick| decades <= 3.1 || is_decade(tick)).collect();
        }
        let step = round_step((self.most - self.least) / 6.0);
        let first = (self.least / step - 1e-9).ceil() as i64;
        (first..)
            .map(|index| index as f64 * step)
            .take_while(|tick| *tick <= self.most + step * 1e-6)
            .collect()
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= step * (1.0 - 1e-9));
    times.unwrap_or(10.0) * power
}

/// 1, 2 and 5 times powers of ten within the bounds.
fn log_ticks(least: f64, most: f64) -> Vec<f64> {
    let first = least.log10().floor() as i32;
    let last = most.log10().ceil() as i32;
    let each = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10_f64.powi(power)));
    each.filter(|tick| *tick >= least * 0.999_999 && *tick <= most * 1.000_001).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let shown =
            |scale: Scale| -> Vec<String> { scale.ticks().iter().map(|tick| format!("{tick:.4}")).collect() };
        for (scale, expect) in [
            (Scale::linear(4.4, 0.0, 1.0), "0.0000 1.0000 2.0000 3.0000 4.0000 5.0000"),
            (Scale::linear(0.93, 0.0, 1.0), "0.0000 0.2000 0.4000 0.6000 0.8000 1.0000"),
            (Scale::linear(0.0, 0.0, 1.0), "0.0000 0.2000 0.4000 0.6000 0.8000 1.0000"),
            (Scale::exact(0.0, 2.3, 0.0, 1.0), "0.0000 0.5000 1.0000 1.5000 2.0000"),
            (Scale::logarithmic(0.03, 0.4, 0.0, 1.0), "0.0200 0.0500 0.1000 0.2000 0.5000"),
            (Scale::logarithmic(1.0, 1.0, 0.0, 1.0), "1.0000 2.0000"),
            (
                Scale::logarithmic(0.9, 90_000.0, 0.0, 1.0),
                "1.0000 10.0000 100.0000 1000.0000 10000.0000 100000.0000",
            ),
        ] {
            assert_eq!(shown(scale).join(" "), expect, "{scale:?}");
        }
    }

    #[test]
    fn values_have_places() {
        let linear = Scale::linear(100.0, 10.0, 110.0);
        assert_eq!((linear.place(0.0), linear.place(50.0), linear.place(200.0)), (10.0, 60.0, 110.0));
        let scale = Scale::logarithmic(1.0, 100.0, 0.0, 100.0);
        assert_eq!((scale.place(1.0), scale.place(10.0).round(), scale.place(0.0)), (0.0, 50.0, 0.0));
    }

    #[test]
    fn what_is_shown_is_text() {
        assert_eq!(escape(r#"<b> "a" & 'b'"#), "&lt;b&gt; &quot;a&quot; &amp; &#39;b&#39;");
        let mut svg = Svg::new(10.0, 10.0);
        svg.text((1.0, 2.0), Anchor::Middle, "label", "<script>");
        svg.curve(&[(0.0, 1.0), (2.0, 3.0)], "curve");
        let svg = svg.finish("a \"name\"");
        for part in ["&lt;script&gt;", "M0.0 1.0L2.0 3.0", "aria-label=\"a &quot;name&quot;\""] {
            assert!(svg.contains(part), "{svg}");
        }
    }
}
