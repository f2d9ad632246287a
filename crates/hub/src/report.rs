//! What a shard counted, in the shape metrics are exported in.

/// All samples of one shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In the order they are to be shown; samples of one metric stand together.
    pub samples: Vec<Sample>,
}

/// One figure of a metric.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The metric's name, as Prometheus spells names; a histogram's parts carry `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: SampleKind,
    /// Labels, without the shard's.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: f64,
}

/// How a metric behaves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SampleKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A part of a histogram.
    Histogram,
}

impl Snapshot {
    /// Adds a figure that only grows.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.labelled(SampleKind::Counter, name, help, &[], value as f64);
    }

    /// Adds a figure that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.labelled(SampleKind::Gauge, name, help, &[], value as f64);
    }

    /// Adds a figure with labels.
    pub fn labelled(
        &mut self,
        kind: SampleKind,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        self.samples.push(Sample { name, help, kind, labels, value });
    }
}
