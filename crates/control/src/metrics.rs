//! `/metrics`: what every shard counted and what the control thread counted, in Prometheus' text format 0.0.4.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use moongate_hub::{Sample, SampleKind, Snapshot};

use crate::clerk::Request;
use crate::problem::Problem;
use crate::rounds::SnapshotRequest;
use crate::state::State;

/// Asks all shards and shows everything. A shard that does not answer is missing from it, and `moongate_shard_up`
/// says so.
pub(crate) async fn metrics(Shared(state): Shared<Arc<State>>) -> Result<Response, Problem> {
    let census =
        state.ask(|reply| Request::Snapshots(SnapshotRequest { age_max: Duration::ZERO, reply })).await?;
    let mut page = Page::default();
    for sample in &own(&state, &census).samples {
        page.add(sample, None);
    }
    for (shard, snapshot) in census.iter().enumerate() {
        for sample in snapshot.iter().flat_map(|snapshot| &snapshot.samples) {
            page.add(sample, Some(shard));
        }
    }
    let fields = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    Ok((fields, page.text()).into_response())
}

/// What the control thread says of itself and of the process.
fn own(state: &State, census: &[Option<Snapshot>]) -> Snapshot {
    let mut own = Snapshot::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    own.labelled(SampleKind::Gauge, "moongate_build_info", "Which build this is; always 1.", &version, 1.0);
    let driver = &state.config.driver;
    let labels = [("driver", driver.name), ("reason", driver.reason.as_str())];
    let help = "What drives the shards' sockets, and why that one; always 1.";
    own.labelled(SampleKind::Gauge, "moongate_driver_info", help, &labels, 1.0);
    own.labelled(
        SampleKind::Gauge,
        "moongate_uptime_seconds",
        "Seconds since the control thread was set up.",
        &[],
        state.started.elapsed().as_secs_f64(),
    );
    own.gauge("moongate_shards", "How many shards there are.", state.shards as u64);
    own.gauge(
        "moongate_draining",
        "1 while every connection is being sent away, else 0.",
        state.is_draining().into(),
    );
    for (shard, snapshot) in census.iter().enumerate() {
        let up = if snapshot.is_some() { 1.0 } else { 0.0 };
        let help = "1 if the shard answered in time and its figures are here, else 0.";
        own.labelled(
            SampleKind::Gauge,
            "moongate_shard_up",
            help,
            &[("shard", shard.to_string().as_str())],
            up,
        );
    }
    let connections = state.limits().connections_max.max(1) - state.connections.available_permits();
    own.gauge(
        "moongate_control_connections",
        "Connections open on the control listener.",
        connections as u64,
    );
    own.gauge(
        "moongate_control_queue_depth",
        "Requests that the control thread's clerk has not taken yet.",
        state.queue_depth() as u64,
    );
    for (outcome, count) in state.tally.publishes.read() {
        let help = "Messages that were to be published through the control listener, by what became of them.";
        let labels = [("outcome", outcome)];
        own.labelled(SampleKind::Counter, "moongate_control_publishes_total", help, &labels, count as f64);
    }
    for (reason, count) in state.tally.refusals.read() {
        let help = "Requests that the control listener refused, by reason.";
        let labels = [("reason", reason)];
        own.labelled(SampleKind::Counter, "moongate_control_refusals_total", help, &labels, count as f64);
    }
    own
}

/// The page in the making: samples of one metric stand together, whoever they come from.
#[derive(Default)]
struct Page {
    metrics: Vec<(&'static str, String)>,
    places: HashMap<&'static str, usize>,
}

impl Page {
    fn add(&mut self, sample: &Sample, shard: Option<usize>) {
        let metric = metric(sample);
        let place = *self.places.entry(metric).or_insert_with(|| {
            self.metrics.push((metric, head(metric, sample)));
            self.metrics.len() - 1
        });
        line(sample, shard, &mut self.metrics[place].1);
    }

    fn text(self) -> String {
        self.metrics.into_iter().map(|(_, lines)| lines).collect()
    }
}

/// The metric that a sample belongs to: a histogram's parts share one.
fn metric(sample: &Sample) -> &'static str {
    if sample.kind != SampleKind::Histogram {
        return sample.name;
    }
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|part| sample.name.strip_suffix(part))
        .unwrap_or(sample.name)
}

// Writing to a String cannot fail.

fn head(metric: &str, sample: &Sample) -> String {
    let kind = match sample.kind {
        SampleKind::Counter => "counter",
        SampleKind::Gauge => "gauge",
        SampleKind::Histogram => "histogram",
    };
    let help = sample.help.replace('\\', "\\\\").replace('\n', "\\n");
    format!("# HELP {metric} {help}\n# TYPE {metric} {kind}\n")
}

fn line(sample: &Sample, shard: Option<usize>, out: &mut String) {
    out.push_str(sample.name);
    let mut open = '{';
    let mut label = |key: &str, value: &str, out: &mut String| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{open}{key}=\"{value}\"");
        open = ',';
    };
    if let Some(shard) = shard {
        label("shard", &shard.to_string(), out);
    }
    for (key, value) in &sample.labels {
        label(key, value, out);
    }
    if open == ',' {
        out.push('}');
    }
    let value = sample.value;
    let _ = match value {
        f64::INFINITY => writeln!(out, " +Inf"),
        f64::NEG_INFINITY => writeln!(out, " -Inf"),
        _ => writeln!(out, " {value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_stand_together_with_one_head_each() {
        let shard = |offset: u64| {
            let mut snapshot = Snapshot::default();
            snapshot.counter("moongate_accepted_total", "Connections accepted.", 1 << (50 + offset));
            let by_reason = |reason| [("reason", reason)];
            let (drops, help) = ("moongate_drops_total", "A \\ and\na line.");
            snapshot.labelled(SampleKind::Counter, drops, help, &by_reason("slow"), offset as f64);
            snapshot.labelled(SampleKind::Counter, drops, help, &by_reason("a\"b\\c\nd"), 0.5);
            let tick = "How long a tick took.";
            for (name, le, value) in [
                ("moongate_tick_seconds_bucket", Some("0.001"), 3.0),
                ("moongate_tick_seconds_bucket", Some("+Inf"), 4.0),
                ("moongate_tick_seconds_sum", None, 0.0625),
                ("moongate_tick_seconds_count", None, 4.0),
            ] {
                let labels: Vec<_> = le.into_iter().map(|le| ("le", le)).collect();
                snapshot.labelled(SampleKind::Histogram, name, tick, &labels, value);
            }
            snapshot
        };
        let mut page = Page::default();
        let mut up = Snapshot::default();
        up.gauge("moongate_shards", "How many.", 2);
        up.labelled(SampleKind::Gauge, "moongate_odd", "Not finite.", &[], f64::INFINITY);
        up.labelled(SampleKind::Gauge, "moongate_odd", "Not finite.", &[("sign", "-")], f64::NEG_INFINITY);
        up.labelled(SampleKind::Gauge, "moongate_odd", "Not finite.", &[("sign", "?")], f64::NAN);
        for sample in &up.samples {
            page.add(sample, None);
        }
        for index in 0..2 {
            for sample in &shard(index).samples {
                page.add(sample, Some(index as usize));
            }
        }
        let expect = r#"# HELP moongate_shards How many.
# TYPE moongate_shards gauge
moongate_shards 2
# HELP moongate_odd Not finite.
# TYPE moongate_odd gauge
moongate_odd +Inf
moongate_odd{sign="-"} -Inf
moongate_odd{sign="?"} NaN
# HELP moongate_accepted_total Connections accepted.
# TYPE moongate_accepted_total counter
moongate_accepted_total{shard="0"} 1125899906842624
moongate_accepted_total{shard="1"} 2251799813685248
# HELP moongate_drops_total A \\ and\na line.
# TYPE moongate_drops_total counter
moongate_drops_total{shard="0",reason="slow"} 0
moongate_drops_total{shard="0",reason="a\"b\\c\nd"} 0.5
moongate_drops_total{shard="1",reason="slow"} 1
moongate_drops_total{shard="1",reason="a\"b\\c\nd"} 0.5
# HELP moongate_tick_seconds How long a tick took.
# TYPE moongate_tick_seconds histogram
moongate_tick_seconds_bucket{shard="0",le="0.001"} 3
moongate_tick_seconds_bucket{shard="0",le="+Inf"} 4
moongate_tick_seconds_sum{shard="0"} 0.0625
moongate_tick_seconds_count{shard="0"} 4
moongate_tick_seconds_bucket{shard="1",le="0.001"} 3
moongate_tick_seconds_bucket{shard="1",le="+Inf"} 4
moongate_tick_seconds_sum{shard="1"} 0.0625
moongate_tick_seconds_count{shard="1"} 4
"#;
        assert_eq!(page.text(), expect);
    }
}
