//! What one connection hears of one topic in one form, across all its subscriptions to it.

use std::collections::{HashSet, VecDeque};

use moongate_hub::{Form, Gap, Joined, Message, Name, OutboxPolicy, Start};

use super::ledger::Ledger;

/// An epoch and an offset.
pub(super) type Place = (u64, u64);

/// The form whose subscribers are told what they miss; those of the other must see it for themselves.
pub(super) const TOLD: u8 = 0;

pub(super) const MESSAGE: u8 = b'M';
pub(super) const JOINED: u8 = b'J';
pub(super) const GAP: u8 = b'G';

/// A message's payload: its topic, its number, and so many more bytes.
pub(super) fn encode_payload(topic: u8, id: u32, more: usize) -> Vec<u8> {
    let mut payload = vec![topic];
    payload.extend_from_slice(&id.to_le_bytes());
    payload.resize(payload.len() + more, 0xee);
    payload
}

/// A message as it goes to a subscriber.
pub(super) fn encode_message(form: Form, message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[MESSAGE, form.0]);
    encode_numbers([message.epoch, message.offset], out);
    out.extend_from_slice(&(message.payload.len() as u16).to_le_bytes());
    out.extend_from_slice(message.payload);
}

/// What comes before all else of a subscription that had to wait: where it begins.
pub(super) fn encode_joined(form: Form, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
    out.extend_from_slice(&[JOINED, form.0, topic_of(name), u8::from(joined.recovered)]);
    encode_numbers([joined.epoch, joined.offset], out);
}

/// What stands in place of messages that do not come.
pub(super) fn encode_gap(form: Form, gap: &Gap<'_>, out: &mut Vec<u8>) {
    if form.0 == TOLD {
        out.extend_from_slice(&[GAP, form.0, topic_of(gap.name), 0]);
        // No epoch is 0.
        encode_numbers([gap.epoch, gap.from, gap.to, gap.previous_epoch.unwrap_or(0)], out);
    }
}

fn topic_of(name: &Name) -> u8 {
    name.as_str().as_bytes().last().map_or(0, |digit| digit - b'0')
}

fn encode_numbers<const COUNT: usize>(numbers: [u64; COUNT], out: &mut Vec<u8>) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// The number at `at`.
pub(super) fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What came of one topic in one form.
#[derive(Default)]
pub(super) struct Stream {
    /// Where it is: the place of the last message, gap or beginning.
    last: Option<Place>,
    /// The last message heard.
    newest: Option<Place>,
    epochs: HashSet<u64>,
    /// How often it may begin anew: once for every time it was subscribed to.
    beginnings: usize,
    /// Where subscriptions that are not confirmed wanted to begin.
    starts: VecDeque<Start>,
    /// Up to where messages may be heard again, by somebody who was left out of them too.
    again: Option<Place>,
    /// Whether a gap must come before anything else.
    owes_gap: bool,
    /// The number of the first message that was said after the subscription ended.
    ended: Option<u32>,
    /// Whether what comes may be of a subscription that has ended: of that nobody is told what a policy drops.
    stale: bool,
    /// Places between two that were heard: an epoch, the first offset and the last.
    skipped: Vec<(u64, u64, u64)>,
    /// Places of which it was told that they are missing.
    told: Vec<(u64, u64, u64)>,
}

impl Stream {
    /// The place after which a subscription could go on.
    pub(super) fn last(&self) -> Option<Place> {
        self.last
    }

    pub(super) fn newest(&self) -> Option<Place> {
        self.newest
    }

    /// It is subscribed to; `start`: unless that is confirmed at once.
    pub(super) fn subscribed(&mut self, start: Option<Start>) {
        self.beginnings += 1;
        self.ended = None;
        self.starts.extend(start);
    }

    /// The subscription has ended, `confirmed` or not: messages from number `next_id` on must not come.
    pub(super) fn unsubscribed(&mut self, confirmed: bool, next_id: u32) {
        self.ended = Some(next_id);
        self.stale = true;
        if !confirmed {
            self.starts.pop_back().expect("it waited");
        }
    }

    /// A subscription in `form` begins: live is what comes after `place`.
    pub(super) fn joined(&mut self, place: Place, recovered: bool, form: u8) {
        let start = self.starts.pop_front().expect("somebody waited");
        // Unless it has ended too, and another waits.
        self.stale = !self.starts.is_empty() || self.ended.is_some();
        assert!(!self.owes_gap, "a gap is owed");
        match start {
            Start::Now => {
                assert!(!recovered, "nothing was asked for");
                self.begin(place);
                self.go_to(place);
            }
            Start::AllKept => {
                self.again = Some(place);
                self.last = None;
                self.owes_gap = !recovered && form == TOLD;
            }
            Start::After { epoch, offset } => {
                self.again = Some(place);
                self.begin(place);
                assert_eq!(self.last, Some((epoch, offset)), "nothing came since it asked");
                assert!(!recovered || epoch == place.0 && offset <= place.1, "{start:?} is not {place:?}");
                self.owes_gap = !recovered && form == TOLD;
                if !recovered {
                    self.beginnings += 1;
                }
            }
        }
    }

    /// It is told that messages are missing.
    pub(super) fn missed(&mut self, (epoch, from, to): (u64, u64, u64), previous: Option<u64>) {
        let last = self.last;
        match (last, previous) {
            (None, previous) => assert_eq!(previous, None, "nothing was before"),
            (Some(last), Some(previous)) => assert!(last.0 == previous && previous != epoch && from == 1),
            (Some(last), None) => {
                assert!(last.0 == epoch && last.1 < from && from <= to, "{from}..={to} after {last:?}");
                if last.1 + 1 < from && !self.stale {
                    self.skipped.push((epoch, last.1 + 1, from - 1));
                }
            }
        }
        if std::mem::take(&mut self.owes_gap) || last.is_none() {
            self.begin((epoch, from));
        }
        self.go_to((epoch, to));
        self.told.push((epoch, from, to));
    }

    /// Whether what is there may be heard again.
    pub(super) fn hears_again(&self, place: Place) -> bool {
        self.again.is_some_and(|until| place.0 == until.0 && place.1 <= until.1)
    }

    /// It hears message `id`, which may be one of those that it is `left_out` of.
    pub(super) fn heard(&mut self, id: u32, place: Place, form: u8, policy: OutboxPolicy, left_out: bool) {
        assert!(!left_out || self.hears_again(place), "message {id}, which it is not to hear");
        assert!(self.ended.is_none_or(|ended| id < ended), "message {id} after the subscription ended");
        assert!(!self.owes_gap, "{place:?} where a gap was to come");
        let strict = form == TOLD && !self.stale || policy == OutboxPolicy::Cut;
        match self.last {
            Some(last) if last.0 == place.0 => {
                assert!(last.1 < place.1, "{place:?} after {last:?}");
                if last.1 + 1 < place.1 && strict {
                    // Whether it is to lack these shows when it is known what they are.
                    self.skipped.push((place.0, last.1 + 1, place.1 - 1));
                }
            }
            _ if strict => self.begin(place),
            _ => {}
        }
        self.go_to(place);
        self.newest = Some(place);
    }

    /// It goes on elsewhere, which it may as often as it was subscribed to.
    fn begin(&mut self, place: Place) {
        assert!(self.beginnings > 0, "{place:?} in a stream at {:?}: something is lost", self.last);
        self.beginnings -= 1;
    }

    fn go_to(&mut self, place: Place) {
        if self.last.is_none_or(|last| last.0 != place.0) {
            let new = self.epochs.insert(place.0);
            assert!(new || self.last.is_none(), "an epoch never comes back");
        }
        self.last = Some(place);
    }

    /// What was skipped it was left out of, or a new subscription began behind it.
    pub(super) fn check_skipped(&mut self, lacks: impl Fn(Place) -> bool) {
        for (epoch, from, to) in std::mem::take(&mut self.skipped) {
            if !(from..=to).all(|offset| lacks((epoch, offset))) {
                self.begin((epoch, to + 1));
            }
        }
    }

    /// Whether it was told that it does not hear message `id`.
    pub(super) fn was_told(&self, id: u32, ledger: &Ledger) -> bool {
        let Some((epoch, offset)) = ledger.place_of(id) else { return false };
        self.told.iter().any(|(of, from, to)| *of == epoch && (*from..=*to).contains(&offset))
    }
}
