//! Whether a receiver hears everything, once and in order, and the same order as everyone else.

use serde::{Deserialize, Serialize};

/// How many faults are named; the others are only counted.
const NAMED_MAX: usize = 8;

/// How many gaps of a receiver are remembered, to tell a message that comes late from one that comes twice.
const MISSING_MAX: usize = 4096;

/// Marks a publisher of whom a receiver that joined later has heard nothing yet.
const JOINING: u64 = 1 << 63;

/// What went wrong. All zero is what is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Deliveries that never came.
    pub(crate) lost: u64,
    /// Deliveries that came again.
    pub(crate) doubled: u64,
    /// Deliveries that came after a later one, and receivers that heard another order than others.
    pub(crate) reordered: u64,
    /// Deliveries that say something else than what was sent.
    pub(crate) corrupted: u64,
    /// Connections that the server ended.
    pub(crate) closed: u64,
    /// The first few, for a person.
    pub(crate) named: Vec<String>,
}

impl Faults {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.lost + self.doubled + self.reordered + self.corrupted + self.closed
    }

    /// Describes one that was counted, if it is among the first.
    pub(crate) fn name(&mut self, fault: impl FnOnce() -> String) {
        if self.named.len() < NAMED_MAX {
            self.named.push(fault());
        }
    }

    pub(crate) fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.closed += other.closed;
        let room = NAMED_MAX - self.named.len();
        self.named.extend(other.named.into_iter().take(room));
    }
}

/// What one receiver has heard of the publishers of its topic.
pub(crate) struct Receiver {
    /// The next sequence expected of each.
    next: Box<[u64]>,
    /// What was skipped and has not come since; boxed, for there are many receivers and few have any.
    missing: Option<Box<Missing>>,
    /// Follows from all that was heard and its order.
    digest: u64,
    /// How many deliveries there were.
    heard: u64,
}

/// Deliveries that a receiver skipped.
#[derive(Default)]
struct Missing {
    /// Publisher and sequence of the first ones.
    known: Vec<(u32, u64)>,
    /// How many more there were.
    more: u64,
}

/// What a delivery is to its receiver.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The next one of its publisher.
    Next,
    /// One after some that have not come: so many.
    Skipped(u64),
    /// One that was skipped before.
    Late,
    /// One that has come before.
    Again,
}

impl Receiver {
    /// Nothing heard yet of `publishers`.
    pub(crate) fn new(publishers: u32) -> Receiver {
        Receiver { next: vec![0; publishers as usize].into(), missing: None, digest: 0, heard: 0 }
    }

    /// One who joins when each publisher has `sent` so many: it must hear what comes after them, and may hear the last
    /// of them.
    pub(crate) fn joining(sent: impl Iterator<Item = u64>) -> Receiver {
        let next = sent.map(|sent| JOINING | sent.min(JOINING - 1)).collect();
        Receiver { next, missing: None, digest: 0, heard: 0 }
    }

    /// Takes the delivery of `sequence` of the `publisher`th of its topic.
    pub(crate) fn hear(&mut self, publisher: u32, sequence: u64) -> Verdict {
        self.heard += 1;
        let said = (u64::from(publisher) << 40 | sequence).wrapping_add(1);
        self.digest = (self.digest.rotate_left(5) ^ said).wrapping_mul(0x517C_C1B7_2722_0A95);
        let next = &mut self.next[publisher as usize];
        if *next & JOINING != 0 {
            *next = (*next & !JOINING).min(sequence);
        }
        if sequence == *next {
            *next += 1;
            return Verdict::Next;
        }
        if sequence > *next {
            let skipped = *next..sequence;
            *next = sequence + 1;
            let count = skipped.end - skipped.start;
            let missing = self.missing.get_or_insert_default();
            let known = count.min((MISSING_MAX - missing.known.len()) as u64);
            missing.known.extend(skipped.take(known as usize).map(|sequence| (publisher, sequence)));
            missing.more += count - known;
            return Verdict::Skipped(count);
        }
        let known = self.missing.as_deref_mut().map(|missing| &mut missing.known);
        let skipped = known.and_then(|known| {
            let place = known.iter().position(|skipped| *skipped == (publisher, sequence))?;
            Some(known.remove(place))
        });
        if skipped.is_some() { Verdict::Late } else { Verdict::Again }
    }

    /// How many were not even skipped yet, of so many that each publisher `sent`.
    pub(crate) fn behind(&self, sent: impl Iterator<Item = u64>) -> u64 {
        self.next.iter().zip(sent).map(|(next, sent)| sent.saturating_sub(*next & !JOINING)).sum()
    }

    /// How many were skipped and have not come since, and the first of them.
    pub(crate) fn skipped(&self) -> (u64, Option<(u32, u64)>) {
        match self.missing.as_deref() {
            Some(Missing { known, more }) => (known.len() as u64 + more, known.first().copied()),
            None => (0, None),
        }
    }

    /// How many were not heard, of so many that each publisher `sent`, and the first of them.
    pub(crate) fn lost(&self, sent: impl Iterator<Item = u64>) -> (u64, Option<(u32, u64)>) {
        let (mut lost, mut first) = self.skipped();
        for (publisher, (next, sent)) in self.next.iter().zip(sent).enumerate() {
            let next = next & !JOINING;
            if next < sent {
                lost += sent - next;
                first = first.or(Some((publisher as u32, next)));
            }
        }
        (lost, first)
    }

    /// What stands for all that was heard and its order.
    pub(crate) fn order(&self) -> Order {
        Order { heard: self.heard, digest: self.digest }
    }
}

/// What stands for the order in which a receiver heard its topic: equal for all, if nothing went wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    heard: u64,
    digest: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(heard: &[u64], expect: &[Verdict], lost: (u64, Option<(u32, u64)>)) {
        let mut receiver = Receiver::new(1);
        let verdicts: Vec<Verdict> = heard.iter().map(|sequence| receiver.hear(0, *sequence)).collect();
        assert_eq!(verdicts, expect, "{heard:?}");
        assert_eq!(receiver.lost([4].into_iter()), lost, "{heard:?}");
    }

    #[test]
    fn in_order_late_twice_and_never() {
        use Verdict::{Again, Late, Next, Skipped};
        check(&[0, 1, 2, 3], &[Next; 4], (0, None));
        check(&[0, 2, 1, 3], &[Next, Skipped(1), Late, Next], (0, None));
        check(&[0, 0, 1, 2, 3], &[Next, Again, Next, Next, Next], (0, None));
        check(&[0, 3], &[Next, Skipped(2)], (2, Some((0, 1))));
        check(&[0, 1], &[Next; 2], (2, Some((0, 2))));
        check(&[1, 0, 0, 2, 3], &[Skipped(1), Late, Again, Next, Next], (0, None));
    }

    #[test]
    fn who_joins_hears_all_from_then_on() {
        use Verdict::{Again, Next, Skipped};
        for (heard, verdict, lost) in
            [(3, Next, 0), (5, Next, 0), (6, Skipped(1), 1), (9, Skipped(4), 4), (0, Next, 0)]
        {
            let mut receiver = Receiver::joining([5].into_iter());
            assert_eq!(receiver.behind([7].into_iter()), 2);
            assert_eq!(receiver.hear(0, heard), verdict, "{heard}");
            assert_eq!(receiver.skipped().0, lost, "{heard}");
            assert_eq!((receiver.hear(0, heard), receiver.hear(0, heard + 1)), (Again, Next));
        }
        let anything = Receiver::joining([u64::MAX].into_iter());
        assert_eq!(anything.lost([7].into_iter()), (0, None));
    }

    #[test]
    fn the_order_of_publishers_among_each_other_counts() {
        let order = |heard: &[(u32, u64)]| {
            let mut receiver = Receiver::new(2);
            for (publisher, sequence) in heard {
                assert_eq!(receiver.hear(*publisher, *sequence), Verdict::Next);
            }
            receiver.order()
        };
        assert_eq!(order(&[(0, 0), (1, 0), (0, 1)]), order(&[(0, 0), (1, 0), (0, 1)]));
        assert_ne!(order(&[(0, 0), (1, 0), (0, 1)]), order(&[(0, 0), (0, 1), (1, 0)]));
        assert_ne!(order(&[(0, 0)]), order(&[]));
    }
}
