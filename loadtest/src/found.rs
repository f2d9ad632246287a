//! What a scenario found beside deliveries and faults: counts and times, each with a name that a person understands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::Times;

/// What one thread found, or several together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// Deliveries that were due and never came, in a run that allows it.
    pub(crate) missed: u64,
    pub(crate) counts: BTreeMap<String, u64>,
    /// In nanoseconds.
    pub(crate) times: BTreeMap<String, Times>,
}

impl Findings {
    /// Counts so many more of `what`.
    pub(crate) fn count(&mut self, what: &str, more: u64) {
        match self.counts.get_mut(what) {
            Some(count) => *count += more,
            None => drop(self.counts.insert(what.to_owned(), more)),
        }
    }

    /// Notes how long one of `what` took.
    pub(crate) fn time(&mut self, what: &str, nanos: u64) {
        if !self.times.contains_key(what) {
            self.times.insert(what.to_owned(), Times::default());
        }
        if let Some(times) = self.times.get_mut(what) {
            times.record(nanos);
        }
    }

    pub(crate) fn add(&mut self, other: &Findings) {
        self.missed += other.missed;
        for (what, more) in &other.counts {
            self.count(what, *more);
        }
        for (what, times) in &other.times {
            self.times.entry(what.clone()).or_default().add(times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_add_up() {
        let (mut one, mut other) = (Findings::default(), Findings { missed: 2, ..Findings::default() });
        one.count("cut", 1);
        other.count("cut", 2);
        other.count("refused", 5);
        one.time("opening", 1000);
        other.time("opening", 3000);
        one.add(&other);
        assert_eq!((one.missed, one.counts["cut"], one.counts["refused"]), (2, 3, 5));
        assert_eq!(one.times["opening"].count(), 2);
    }
}
