//! Which figure of a run is compared, and what it is called.

use serde_json::Value;

use crate::document::Document;

/// Those that have a name; any other is a JSON pointer (RFC 6901) into the run's document.
const NAMED: [(&str, &str, f64, &str, &str); 15] = [
    ("cpu", "/server_cpu_per/total", 1.0, "µs", "CPU per {unit}"),
    ("user", "/server_cpu_per/user", 1.0, "µs", "CPU per {unit}, user"),
    ("system", "/server_cpu_per/system", 1.0, "µs", "CPU per {unit}, system"),
    ("softirq", "/server_cpu_per/softirq", 1.0, "µs", "CPU per {unit}, soft interrupts"),
    ("p50", "/latency_seconds/p50", 1e6, "µs", "latency, median"),
    ("p90", "/latency_seconds/p90", 1e6, "µs", "latency, 90 %"),
    ("p99", "/latency_seconds/p99", 1e6, "µs", "latency, 99 %"),
    ("p99.9", "/latency_seconds/p99.9", 1e6, "µs", "latency, 99.9 %"),
    ("max", "/latency_seconds/max", 1e6, "µs", "latency, longest"),
    ("rate", "/deliveries_per_second", 1.0, "/s", "deliveries"),
    ("opening", "/opening_seconds", 1.0, "s", "opening all connections"),
    ("rss", "/bytes_per_connection/rss", 1.0, "B", "RSS per connection"),
    ("pss", "/bytes_per_connection/pss", 1.0, "B", "PSS per connection"),
    ("slab", "/bytes_per_connection/slab", 1.0, "B", "kernel slab per connection, both ends"),
    ("tcp", "/bytes_per_connection/tcp", 1.0, "B", "TCP buffers per connection, both ends"),
];

/// A figure to be read from documents.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pointer: String,
    factor: f64,
    pub(super) unit: String,
    label: String,
}

impl Figure {
    /// The one called `name`.
    pub(super) fn named(name: &str) -> Result<Figure, String> {
        if name.starts_with('/') {
            let (pointer, label) = (name.to_owned(), name.trim_start_matches('/').replace(['/', '_'], " "));
            let (factor, unit) = unit(name);
            return Ok(Figure { pointer, factor, unit: unit.to_owned(), label });
        }
        let known = NAMED.iter().find(|known| known.0 == name);
        let (_, pointer, factor, unit, label) = known.ok_or_else(|| {
            let names: Vec<_> = NAMED.iter().map(|known| known.0).collect();
            format!(
                "there is no figure {name:?}: name one of {}, or a place in the JSON of a run, such as /cpu/others",
                names.join(", ")
            )
        })?;
        let own = |text: &str| text.to_owned();
        Ok(Figure { pointer: own(pointer), factor: *factor, unit: own(unit), label: own(label) })
    }

    /// What it is in `run`; none where the run does not say.
    pub(super) fn of(&self, run: &Value) -> Option<f64> {
        Some(run.pointer(&self.pointer)?.as_f64()? * self.factor)
    }

    /// What it is called, beside the run it comes from.
    pub(super) fn label(&self, run: Option<&Document>) -> String {
        let per = run.and_then(|run| run.server_cpu_per.as_ref());
        self.label.replace("{unit}", per.map_or("unit of work", |per| &per.unit))
    }
}

/// By how much the value at a place in the JSON is multiplied, and what it is then counted in: fields name their units.
fn unit(pointer: &str) -> (f64, &'static str) {
    let mut fields = pointer.split('/');
    let seconds = |field: &str| field == "seconds" || field.ends_with("_seconds");
    if fields
        .clone()
        .any(|field| field == "latency_seconds" || field == "found_seconds" || field == "send_lag_seconds")
    {
        (1e6, "µs")
    } else if fields.any(seconds) {
        (1.0, "s")
    } else {
        (1.0, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    #[test]
    fn a_figure_is_found_in_a_run() {
        let run = serde_json::json!({ "latency_seconds": { "p99": 0.001 }, "cpu": { "others": 0.25 } });
        for (name, expect, unit, label) in [
            ("p99", Some(1000.0), "µs", "latency, 99 %"),
            ("/cpu/others", Some(0.25), "", "cpu others"),
            ("/latency_seconds/p99", Some(1000.0), "µs", "latency seconds p99"),
            ("/opening_seconds", None, "s", "opening seconds"),
            ("p50", None, "µs", "latency, median"),
            ("cpu", None, "µs", "CPU per unit of work"),
        ] {
            let figure = Figure::named(name).expect("known");
            assert_eq!((figure.of(&run), figure.unit.as_str()), (expect, unit), "{name}");
            assert_eq!(figure.label(None), label, "{name}");
        }
        let unknown = Figure::named("speed").expect_err("unknown");
        assert!(unknown.contains("cpu, user") && unknown.contains("\"speed\""), "{unknown}");
    }

    #[test]
    fn every_named_figure_is_in_a_document() {
        let run = serde_json::to_value(document::tests::complete()).expect("serializable");
        for (name, ..) in NAMED {
            let figure = Figure::named(name).expect("known");
            assert!(figure.of(&run).is_some(), "{name}: {} is not in {run:#}", figure.pointer);
        }
    }
}
