//! What became of every message.

use std::collections::{BTreeMap, HashMap};

use moongate_hub::{Ordered, Token};

/// Every message that was published, by its number, and every place that was given.
#[derive(Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// Topic, epoch and offset, and which message has that place.
    places: BTreeMap<(u8, u64, u64), u32>,
    settled: usize,
}

struct Entry {
    publisher: usize,
    topic: u8,
    outcome: Outcome,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Pending,
    Ordered { epoch: u64, offset: u64 },
    Rejected,
}

impl Ledger {
    /// The number that the next message will have.
    pub(super) fn next_id(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn publish(&mut self, publisher: usize, topic: u8) -> u32 {
        self.entries.push(Entry { publisher, topic, outcome: Outcome::Pending });
        self.next_id() - 1
    }

    /// `publisher` is told a message's place.
    pub(super) fn ordered(&mut self, publisher: usize, ordered: &Ordered, bytes: usize) {
        assert_eq!(ordered.bytes as usize, bytes);
        assert!(ordered.epoch != 0 && ordered.offset != 0);
        let id = ordered.token.who as u32;
        self.resolve(
            publisher,
            ordered.token,
            Outcome::Ordered { epoch: ordered.epoch, offset: ordered.offset },
        );
        self.place(id, ordered.epoch, ordered.offset);
    }

    pub(super) fn rejected(&mut self, publisher: usize, token: Token) {
        self.resolve(publisher, token, Outcome::Rejected);
    }

    fn resolve(&mut self, publisher: usize, token: Token, outcome: Outcome) {
        let entry = &mut self.entries[token.who as usize];
        assert_eq!(entry.publisher, publisher, "answers go to who asked");
        assert_eq!(entry.outcome, Outcome::Pending, "one answer each");
        entry.outcome = outcome;
        self.settled += 1;
    }

    /// Somebody heard message `id` at this place, or was told so: it is the same for all.
    pub(super) fn heard(&mut self, id: u32, topic: u8, epoch: u64, offset: u64) {
        let entry = &self.entries[id as usize];
        assert_eq!(entry.topic, topic, "heard where it was said");
        assert_ne!(entry.outcome, Outcome::Rejected);
        self.place(id, epoch, offset);
    }

    fn place(&mut self, id: u32, epoch: u64, offset: u64) {
        let topic = self.entries[id as usize].topic;
        let before = *self.places.entry((topic, epoch, offset)).or_insert(id);
        assert_eq!(before, id, "one message per place");
    }

    /// How many messages have come to something.
    pub(super) fn settled(&self) -> usize {
        self.settled
    }

    pub(super) fn is_rejected(&self, id: u32) -> bool {
        self.entries[id as usize].outcome == Outcome::Rejected
    }

    /// Where its publisher was told that a message is.
    pub(super) fn place_of(&self, id: u32) -> Option<(u64, u64)> {
        match self.entries[id as usize].outcome {
            Outcome::Ordered { epoch, offset } => Some((epoch, offset)),
            Outcome::Pending | Outcome::Rejected => None,
        }
    }

    /// Which message is there, if anybody knows.
    pub(super) fn at(&self, topic: u8, epoch: u64, offset: u64) -> Option<u32> {
        self.places.get(&(topic, epoch, offset)).copied()
    }

    /// The last offset of a topic's life that `counts`.
    pub(super) fn last_offset(&self, topic: u8, epoch: u64, counts: impl Fn(u32) -> bool) -> u64 {
        let mut life = self.places.range((topic, epoch, 0)..=(topic, epoch, u64::MAX)).rev();
        life.find(|(_, id)| counts(**id)).map_or(0, |((_, _, offset), _)| *offset)
    }

    /// Every message has come to something; places are without gaps; each publisher's messages kept their order.
    pub(super) fn check(&self) {
        for (id, entry) in self.entries.iter().enumerate() {
            assert_ne!(entry.outcome, Outcome::Pending, "message {id} is lost");
            if let Outcome::Ordered { epoch, offset } = entry.outcome {
                assert_eq!(self.places.get(&(entry.topic, epoch, offset)), Some(&(id as u32)));
            }
        }
        let mut ends: HashMap<(u8, u64), u64> = HashMap::new();
        let mut latest: HashMap<(u8, u64, usize), u32> = HashMap::new();
        for ((topic, epoch, offset), id) in &self.places {
            let end = ends.entry((*topic, *epoch)).or_default();
            *end += 1;
            assert_eq!(end, offset, "offsets are 1, 2, 3, …");
            let publisher = self.entries[*id as usize].publisher;
            if let Some(before) = latest.insert((*topic, *epoch, publisher), *id) {
                assert!(before < *id, "{publisher} said {before} before {id}");
            }
        }
    }
}
