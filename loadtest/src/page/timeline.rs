//! How a run went: panels below each other over one axis of time.

use super::svg::{Anchor, Scale, Svg, colour};
use crate::control::Stage;
use crate::timeline::Moment;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 24.0;
const PANEL: f64 = 92.0;
const GAP: f64 = 34.0;

/// A line over time: seconds and values.
type Line = Vec<(f64, f64)>;

struct Panel {
    title: String,
    lines: Vec<(usize, String, Line)>,
    show: fn(f64) -> String,
    filled: bool,
}

/// The chart; none where there are too few moments.
pub(super) fn chart(moments: &[Moment]) -> Option<String> {
    let last = moments.last().filter(|_| moments.len() > 2)?.at;
    let panels: Vec<Panel> = panels(moments).into_iter().filter(Panel::says_something).collect();
    let height = panels.len() as f64 * (PANEL + GAP) + 30.0;
    let mut svg = Svg::new(WIDTH, height);
    let x = Scale::exact(0.0, last, LEFT, WIDTH - RIGHT);
    for (index, panel) in panels.iter().enumerate() {
        let top = index as f64 * (PANEL + GAP) + GAP - 6.0;
        panel.draw(&mut svg, &x, top);
    }
    let bottom = height - 30.0 - 6.0;
    for tick in x.ticks() {
        svg.text((x.place(tick), bottom + 18.0), Anchor::Middle, "tick", &format!("{} s", round(tick)));
    }
    if let Some(begin) = moments.iter().find(|moment| moment.stage >= Stage::Run) {
        let place = x.place(begin.at);
        svg.line((place, GAP - 6.0), (place, bottom), "reference");
        let right = WIDTH - RIGHT;
        svg.line((right - 114.0, GAP - 18.0), (right - 88.0, GAP - 18.0), "reference");
        svg.text((right, GAP - 14.0), Anchor::End, "unit", "sending begins");
    }
    Some(svg.finish("how the run went"))
}

fn panels(moments: &[Moment]) -> Vec<Panel> {
    let line = |of: &dyn Fn(&Moment) -> Option<f64>| -> Line {
        moments.iter().filter_map(|moment| Some((moment.at, of(moment)?))).collect()
    };
    let rate = |of: &dyn Fn(&Moment) -> Option<f64>| rate(&line(of));
    vec![
        Panel {
            title: "connections".to_owned(),
            lines: vec![(4, String::new(), line(&|moment| Some(moment.opened as f64)))],
            show: whole,
            filled: true,
        },
        Panel {
            title: "deliveries per second".to_owned(),
            lines: vec![(0, String::new(), rate(&|moment| Some(moment.heard as f64)))],
            show: whole,
            filled: true,
        },
        Panel {
            title: "server CPU, share of a core".to_owned(),
            lines: vec![(1, String::new(), rate(&|moment| moment.server_cpu))],
            show: |share| format!("{:.0} %", share * 100.0),
            filled: true,
        },
        Panel {
            title: "memory".to_owned(),
            lines: vec![
                (2, "server, resident".to_owned(), line(&|moment| Some(mebibytes(moment.rss?)))),
                (3, "TCP buffers of this machine".to_owned(), line(&|moment| Some(mebibytes(moment.tcp?)))),
            ],
            show: |size| format!("{} MiB", round(size)),
            filled: false,
        },
    ]
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// By how much a line rises, a second.
fn rate(line: &Line) -> Line {
    let each = line.windows(2).filter_map(|pair| {
        let [(before, from), (now, to)] = pair else { return None };
        (now > before).then(|| (*now, (to - from).max(0.0) / (now - before)))
    });
    each.collect()
}

impl Panel {
    fn says_something(&self) -> bool {
        self.lines.iter().flat_map(|(.., line)| line).any(|(_, value)| *value > 0.0)
    }

    fn draw(&self, svg: &mut Svg, x: &Scale, top: f64) {
        let bottom = top + PANEL;
        let values = self.lines.iter().flat_map(|(.., line)| line).map(|(_, value)| *value);
        let y = Scale::linear(values.fold(0.0, f64::max), bottom, top);
        svg.text((LEFT, top - 8.0), Anchor::Start, "panel", &self.title);
        let named: Vec<_> =
            self.lines.iter().filter(|(_, name, line)| !name.is_empty() && !line.is_empty()).collect();
        let names: Vec<_> = named.iter().map(|(index, name, _)| (*index, name.as_str())).collect();
        svg.legend((LEFT + 90.0, top - 8.0), &names);
        let ticks = y.ticks();
        // Every second one is enough where there are many.
        for tick in ticks.iter().step_by(ticks.len().div_ceil(4).max(1)) {
            let place = y.place(*tick);
            svg.line((LEFT, place), (WIDTH - RIGHT, place), "grid");
            svg.text((LEFT - 8.0, place + 4.0), Anchor::End, "tick", &(self.show)(*tick));
        }
        for (index, _, line) in &self.lines {
            let points: Vec<_> = line.iter().map(|(at, value)| (x.place(*at), y.place(*value))).collect();
            if self.filled {
                svg.area(&points, bottom, &format!("area {}", colour(*index)));
            }
            svg.curve(&points, &format!("curve {}", colour(*index)));
        }
        svg.line((LEFT, bottom), (WIDTH - RIGHT, bottom), "axis");
    }
}

/// A count with a letter for thousands and millions.
fn whole(value: f64) -> String {
    match value {
        1_000_000.0.. => format!("{} M", round(value / 1e6)),
        1_000.0.. => format!("{} k", round(value / 1e3)),
        _ => round(value),
    }
}

fn round(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_in_panels() {
        let run = crate::document::tests::complete();
        let svg = chart(&run.timeline).expect("a chart");
        for part in ["deliveries per second", "server CPU", "resident", "sending begins", "TCP buffers"] {
            assert!(svg.contains(part), "no {part:?} in {svg}");
        }
        assert_eq!(chart(&run.timeline[..2]), None);
        let unknown: Vec<Moment> =
            run.timeline.iter().map(|moment| Moment { server_cpu: None, ..moment.clone() }).collect();
        assert!(!chart(&unknown).expect("a chart").contains("server CPU"));
    }

    #[test]
    fn a_rate_is_the_rise() {
        let line = vec![(0.0, 0.0), (0.5, 100.0), (0.5, 120.0), (1.5, 150.0)];
        assert_eq!(rate(&line), [(0.5, 200.0), (1.5, 30.0)]);
        assert_eq!([12.0, 1500.0, 2_000_000.0].map(whole), ["12", "1.5 k", "2 M"]);
    }
}
