//! What a thread, a process and a whole run found: parts that add up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::SECOND;
use crate::found::Findings;
use crate::verify::{Faults, Order};

/// The longest time that is told apart, in nanoseconds.
const LONGEST: u64 = 600 * SECOND;

/// A distribution of times in nanoseconds, exact to three digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// The time that so many of a hundred do not exceed; none without any times.
    pub(crate) fn percentile(&self, percent: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_percentile(percent))
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In nanoseconds; none without any times.
    pub(crate) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean())
    }

    /// Percentages and the times, in nanoseconds, that so many of a hundred do not exceed: ever denser towards the
    /// hundred, up to the longest.
    pub(crate) fn curve(&self) -> Vec<(f64, u64)> {
        const STEPS_PER_HALVING: u32 = 4;
        let steps = self.0.iter_quantiles(STEPS_PER_HALVING);
        steps.map(|step| (step.quantile_iterated_to() * 100.0, step.value_iterated_to())).collect()
    }

    pub(crate) fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("all have the same bounds");
    }
}

impl Default for Times {
    fn default() -> Times {
        Times(Histogram::new_with_bounds(1, LONGEST, 3).expect("valid bounds"))
    }
}

impl From<Vec<(u64, u64)>> for Times {
    fn from(counts: Vec<(u64, u64)>) -> Times {
        let mut times = Times::default();
        for (nanos, count) in counts {
            times.0.saturating_record_n(nanos, count);
        }
        times
    }
}

impl From<Times> for Vec<(u64, u64)> {
    fn from(times: Times) -> Vec<(u64, u64)> {
        let recorded = times.0.iter_recorded();
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

/// Receivers of a topic that heard it in the same order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Agreeing {
    order: Order,
    receivers: u64,
    /// One of them.
    example: u32,
}

/// What one thread found, or several together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Part {
    /// What went wrong.
    pub(crate) faults: Faults,
    /// From the time a message was to be sent to the time it was read.
    pub(crate) latency: Times,
    /// By how much this tool itself was late to send, where there is a rate.
    pub(crate) lag: Times,
    /// When the first message was sent.
    pub(crate) first_sent: Option<u64>,
    /// When the last one was read.
    pub(crate) last_heard: Option<u64>,
    /// The share of a core that the busiest thread took.
    pub(crate) busiest_thread: f64,
    /// What is told beside that.
    pub(crate) found: Findings,
    orders: BTreeMap<u32, Vec<Agreeing>>,
}

impl Part {
    /// Notes in which order `receiver` heard `topic`.
    pub(crate) fn add_order(&mut self, topic: u32, receiver: u32, order: Order) {
        self.agree(topic, Agreeing { order, receivers: 1, example: receiver });
    }

    fn agree(&mut self, topic: u32, with: Agreeing) {
        let groups = self.orders.entry(topic).or_default();
        match groups.iter_mut().find(|group| group.order == with.order) {
            Some(group) => group.receivers += with.receivers,
            None => groups.push(with),
        }
    }

    pub(crate) fn add(&mut self, other: Part) {
        self.faults.add(other.faults);
        self.latency.add(&other.latency);
        self.lag.add(&other.lag);
        self.first_sent = [self.first_sent, other.first_sent].into_iter().flatten().min();
        self.last_heard = self.last_heard.max(other.last_heard);
        self.busiest_thread = self.busiest_thread.max(other.busiest_thread);
        self.found.add(&other.found);
        for (topic, groups) in other.orders {
            for group in groups {
                self.agree(topic, group);
            }
        }
    }

    /// Counts receivers that heard another order than most of their topic. Only where nothing else went wrong: whatever
    /// else did has changed the order too, and is named already.
    pub(crate) fn compare_orders(&mut self) {
        if self.faults.count() > 0 {
            return;
        }
        for (topic, groups) in &mut self.orders {
            groups.sort_by_key(|group| std::cmp::Reverse(group.receivers));
            let Some((most, others)) = groups.split_first() else { continue };
            for group in others {
                self.faults.reordered += group.receivers;
                self.faults.name(|| {
                    format!(
                        "reordered: {} receivers, number {} among them, heard topic {topic} in another order than \
                         {} others, such as number {}",
                        group.receivers, group.example, most.receivers, most.example
                    )
                });
            }
        }
    }

    /// Seconds from the first message sent to the last one read.
    pub(crate) fn seconds(&self) -> Option<f64> {
        let nanos = self.last_heard?.checked_sub(self.first_sent?)?;
        Some(nanos.max(1) as f64 / SECOND as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Receiver;

    fn part(heard: &[(u32, u64)], receiver: u32) -> Part {
        let (mut part, mut one) = (Part::default(), Receiver::new(2));
        for (publisher, sequence) in heard {
            one.hear(*publisher, *sequence);
        }
        part.latency.record(1000 * u64::from(receiver));
        part.add_order(3, receiver, one.order());
        part
    }

    #[test]
    fn a_curve_rises_to_the_longest_time() {
        let mut times = Times::default();
        assert_eq!((times.count(), times.mean(), times.curve()), (0, None, vec![]));
        (1..=1000).for_each(|micros| times.record(micros * 1000));
        let curve = times.curve();
        assert!(curve.is_sorted() && curve.len() > 20, "{curve:?}");
        assert!(curve.iter().any(|(percent, nanos)| *percent == 50.0 && nanos.abs_diff(500_000) < 1000));
        assert!(curve.last().is_some_and(|(percent, nanos)| *percent == 100.0 && *nanos >= 1_000_000));
        assert!(times.count() == 1000 && times.mean().is_some_and(|mean| (mean - 500_500.0).abs() < 1000.0));
    }

    #[test]
    fn parts_add_up_after_a_journey_as_json() {
        let mut all = Part::default();
        for receiver in 1..=4 {
            let text = serde_json::to_string(&part(&[(0, 0), (1, 0)], receiver)).expect("serializable");
            all.add(serde_json::from_str(&text).expect("what was written"));
        }
        let half = all.latency.percentile(50.0).expect("times");
        assert!((1990..2010).contains(&half), "{half}");
        all.compare_orders();
        assert_eq!(all.faults, Faults::default());
    }

    #[test]
    fn one_who_heard_another_order_is_named() {
        let mut all = Part::default();
        for receiver in [5, 6, 7] {
            let heard = if receiver == 6 { [(1, 0), (0, 0)] } else { [(0, 0), (1, 0)] };
            all.add(part(&heard, receiver));
        }
        all.compare_orders();
        assert_eq!(all.faults.reordered, 1);
        assert!(all.faults.named[0].contains("number 6 "), "{:?}", all.faults.named);
    }
}
