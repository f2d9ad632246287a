//! What one connection hears of one topic in one form, across all its subscriptions to it.

use std::collections::VecDeque;

use moongate_hub::{Form, Gap, Joined, Message, Name, OutboxPolicy, Start};

use super::ledger::Ledger;

/// An epoch and an offset.
pub(super) type Place = (u64, u64);

/// The form whose subscribers are told what they miss; those of the other must see it for themselves.
pub(super) const TOLD: u8 = 0;

pub(super) const MESSAGE: u8 = b'M';
pub(super) const JOINED: u8 = b'J';
pub(super) const GAP: u8 = b'G';
pub(super) const ENDED: u8 = b'E';

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

/// What comes before all else of a subscription: where it begins.
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

/// What comes behind all else of a subscription, which was `confirmed` or not: messages from number `next_id` on were not
/// said while it lasted.
pub(super) fn encode_ended(form: u8, topic: u8, confirmed: bool, next_id: u32) -> Vec<u8> {
    let mut word = vec![ENDED, form, topic, u8::from(confirmed)];
    word.extend_from_slice(&next_id.to_le_bytes());
    word
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

/// What came of one topic in one form, subscription after subscription.
#[derive(Default)]
pub(super) struct Stream {
    /// Where it is: the place of the last message, gap or beginning. None where a subscription may begin anywhere.
    last: Option<Place>,
    /// The last message heard.
    newest: Option<Place>,
    /// Whether what comes stands between the first word of a subscription and its last.
    hears: bool,
    /// Where subscriptions that have not begun here wanted to begin.
    starts: VecDeque<Start>,
    /// The place before what is live. Up to there messages may be heard again, by somebody who was left out of them too.
    live_after: Place,
    again: bool,
    /// Whether a gap must come before anything else.
    owes_gap: bool,
    /// The highest number heard since the subscription began.
    highest: Option<u32>,
    /// Places between two that were heard, of which nothing was told: an epoch, the first offset and the last.
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

    /// It is subscribed to.
    pub(super) fn subscribed(&mut self, start: Start) {
        self.starts.push_back(start);
    }

    /// A subscription that was never confirmed has ended.
    pub(super) fn gave_up(&mut self) {
        self.starts.pop_back().expect("it waited");
    }

    /// A subscription in `form` begins: live is what comes after `place`.
    pub(super) fn joined(&mut self, place: Place, recovered: bool, form: u8) {
        let start = self.starts.pop_front().expect("somebody waited");
        assert!(!std::mem::replace(&mut self.hears, true), "one subscription at a time");
        if let Some(last) = self.last.filter(|last| last.0 == place.0) {
            assert!(last.1 <= place.1, "{last:?} was heard, and {place:?} is the newest");
        }
        (self.live_after, self.again, self.highest) = (place, start != Start::Now, None);
        self.owes_gap = !recovered && form == TOLD && matches!(start, Start::After { .. });
        match start {
            Start::Now => {
                assert!(!recovered, "nothing was asked for");
                self.last = Some(place);
            }
            Start::AllKept => self.last = None,
            Start::After { epoch, offset } => {
                assert_eq!(self.last, Some((epoch, offset)), "nothing came since it asked");
                assert!(!recovered || epoch == place.0 && offset <= place.1, "{start:?} is not {place:?}");
                if !recovered && form != TOLD {
                    self.last = None;
                }
            }
        }
    }

    /// Nothing comes of the subscription any more, nor has anything that was said from number `next_id` on.
    pub(super) fn ended(&mut self, confirmed: bool, next_id: u32) {
        assert_eq!(std::mem::take(&mut self.hears), confirmed, "it begins before it ends");
        assert!(!confirmed || !self.owes_gap, "a gap is owed");
        let highest = self.highest.take();
        assert!(highest.is_none_or(|id| id < next_id), "message {highest:?} after the subscription ended");
    }

    /// It is told that messages are missing.
    pub(super) fn missed(&mut self, (epoch, from, to): (u64, u64, u64), previous: Option<u64>) {
        assert!(self.hears, "{from}..={to} are missing of no subscription");
        match (self.last, previous) {
            (None, previous) => {
                assert_eq!(previous, None, "nothing was before");
                self.begins_at((epoch, from));
            }
            (Some(last), Some(previous)) => assert!(last.0 == previous && previous != epoch && from == 1),
            (Some(last), None) => {
                assert!(last.0 == epoch && last.1 < from && from <= to, "{from}..={to} after {last:?}");
                self.skip((epoch, last.1 + 1, from - 1));
            }
        }
        self.owes_gap = false;
        self.last = Some((epoch, to));
        self.told.push((epoch, from, to));
    }

    /// Whether what is there may be heard again.
    pub(super) fn hears_again(&self, place: Place) -> bool {
        self.again && place.0 == self.live_after.0 && place.1 <= self.live_after.1
    }

    /// It hears message `id`, which may be one of those that it is `left_out` of.
    pub(super) fn heard(&mut self, id: u32, place: Place, form: u8, policy: OutboxPolicy, left_out: bool) {
        assert!(self.hears, "message {id} of no subscription");
        assert!(!left_out || self.hears_again(place), "message {id}, which it is not to hear");
        assert!(!self.owes_gap, "{place:?} where a gap was to come");
        match self.last {
            Some(last) => {
                assert!(last.0 == place.0 && last.1 < place.1, "{place:?} after {last:?}");
                if form == TOLD || policy == OutboxPolicy::Cut {
                    self.skip((place.0, last.1 + 1, place.1 - 1));
                }
            }
            None if form == TOLD || policy == OutboxPolicy::Cut => self.begins_at(place),
            None => assert_eq!(place.0, self.live_after.0, "the topic as it is now"),
        }
        (self.last, self.newest) = (Some(place), Some(place));
        self.highest = self.highest.max(Some(id));
    }

    /// The first place of a subscription that asked for all that is kept: nothing that is live is before it.
    fn begins_at(&mut self, (epoch, offset): Place) {
        assert_eq!(epoch, self.live_after.0, "the topic as it is now");
        self.skip((epoch, self.live_after.1 + 1, offset - 1));
    }

    /// Whether it is to lack these shows when it is known what they are.
    fn skip(&mut self, places: (u64, u64, u64)) {
        if places.1 <= places.2 {
            self.skipped.push(places);
        }
    }

    /// What was skipped it was left out of.
    pub(super) fn check_skipped(&mut self, lacks: impl Fn(Place) -> bool) {
        for (epoch, from, to) in std::mem::take(&mut self.skipped) {
            let lost = (from..=to).find(|offset| !lacks((epoch, *offset)));
            assert_eq!(lost, None, "of {from}..={to} in {epoch}, none of which was told missing");
        }
    }

    /// Nothing was told missing that nobody said; `newest`: the last offset of an epoch.
    pub(super) fn check_told(&self, newest: impl Fn(u64) -> u64) {
        for (epoch, from, to) in &self.told {
            assert!(*to <= newest(*epoch), "{from}..={to} of {epoch} were told missing");
        }
    }

    /// Whether it was told that it does not hear message `id`.
    pub(super) fn was_told(&self, id: u32, ledger: &Ledger) -> bool {
        let Some((epoch, offset)) = ledger.place_of(id) else { return false };
        self.told.iter().any(|(of, from, to)| *of == epoch && (*from..=*to).contains(&offset))
    }
}
