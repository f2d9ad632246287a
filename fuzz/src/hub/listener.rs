//! One connection, which checks every byte that it gets.

use std::collections::{HashMap, HashSet};

use moongate_hub::{OutboxPolicy, Start, SubscriptionId};
use moongate_io::Chain;

use super::ledger::Ledger;
use super::stream::{ENDED, GAP, JOINED, MESSAGE, Place, Stream, TOLD, number};

const OWN: u8 = b'O';
const PONG: u8 = b'P';

/// The longest of what a subscriber is told beside messages, and the longest message.
const WORD_BYTES_MAX: usize = 36;
const MESSAGE_BYTES_MAX: usize = 20 + 5 + 15 * 40;
/// All pongs that wait.
const PONGS_BYTES_MAX: usize = 127;

/// A connection's own bytes, or a pong, with a number.
pub(super) fn encode_own(pong: bool, number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_le_bytes();
    vec![if pong { PONG } else { OWN }, a, b, c, d]
}

#[derive(Copy, Clone, PartialEq, Eq, Default)]
enum State {
    /// Nobody has moved in yet, or the last one has left.
    #[default]
    Empty,
    Open,
    /// On the way out; what waits still goes.
    Leaving,
    /// Gone, but for a send that has not come back.
    Aborted,
}

/// A place for a connection, and the connection in it.
#[derive(Default)]
pub(super) struct Listener {
    state: State,
    known: bool,
    pub(super) generation: u32,
    /// One for a topic at most.
    subscriptions: Vec<Subscription>,
    /// The subscription whose confirmation the outbox waits for.
    pub(super) held: Option<SubscriptionId>,
    pub(super) flight: Option<Chain>,
    /// Bytes of a message that is not whole yet.
    tail: Vec<u8>,
    streams: HashMap<(u8, u8), Stream>,
    heard: HashSet<(u8, u32)>,
    /// Messages that it is not to hear: their topics and numbers.
    left_out: HashSet<(u8, u32)>,
    /// Numbers of own bytes that were given to the outbox and did not come out yet, first to last.
    own: Vec<u32>,
    pong_said: u32,
    pong_heard: u32,
    /// How often it has subscribed.
    beginnings: usize,
    /// Whether its outbox may once have had no room for the newest message of each of its topics.
    crowded: bool,
}

struct Subscription {
    id: SubscriptionId,
    topic: u8,
    form: u8,
    joined: bool,
    /// Messages that were said while it was confirmed.
    must_hear: Vec<u32>,
}

impl Listener {
    /// Whether a new connection moved in.
    pub(super) fn move_in(&mut self) -> bool {
        if self.state != State::Empty || self.flight.is_some() {
            return false;
        }
        let generation = self.generation + 1;
        *self = Listener { state: State::Open, known: true, generation, ..Listener::default() };
        true
    }

    /// The connection goes; at once if it is `aborted`.
    pub(super) fn move_out(&mut self, aborted: bool) {
        self.state = match (aborted, &self.flight) {
            (true, None) => State::Empty,
            (true, Some(_)) => State::Aborted,
            (false, _) => State::Leaving,
        };
    }

    /// A send has come back; `idle`: nothing more waits.
    pub(super) fn idle(&mut self, idle: bool) {
        if self.state == State::Leaving && idle {
            assert!(self.tail.is_empty(), "the last message is whole");
            self.state = State::Empty;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether there is an outbox here.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    pub(super) fn is_aborted(&mut self) -> bool {
        let aborted = self.state == State::Aborted;
        if aborted {
            self.state = State::Empty;
        }
        aborted
    }

    /// Whether all that was for it has arrived, so that it knows what it has heard.
    pub(super) fn has_all(&self, idle: bool) -> bool {
        idle && self.flight.is_none() && self.tail.is_empty()
    }

    /// Where it could go on with a topic.
    pub(super) fn last_place(&self, topic: u8, form: u8) -> Option<Place> {
        self.streams.get(&(topic, form))?.last()
    }

    /// It has subscribed, which is confirmed at once if it has `joined`.
    pub(super) fn subscribed(
        &mut self,
        (id, joined): (SubscriptionId, bool),
        topic: u8,
        form: u8,
        start: Start,
    ) {
        self.subscriptions.push(Subscription { id, topic, form, joined, must_hear: Vec::new() });
        self.streams.entry((topic, form)).or_default().subscribed(start);
        self.beginnings += 1;
    }

    /// Whether it hears a topic, or has asked to.
    pub(super) fn hears(&self, topic: u8) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.topic == topic)
    }

    /// One of its subscriptions, if it has any.
    pub(super) fn subscription(&self, which: usize) -> Option<SubscriptionId> {
        let index = which.checked_rem(self.subscriptions.len())?;
        Some(self.subscriptions[index].id)
    }

    /// Ends a subscription, and says of what and whether it was confirmed; and whether the outbox was held for it.
    pub(super) fn unsubscribed(&mut self, id: SubscriptionId) -> ((u8, u8, bool), bool) {
        let index = self.subscriptions.iter().position(|subscription| subscription.id == id);
        let Subscription { topic, form, joined, .. } =
            self.subscriptions.remove(index.expect("it had asked"));
        if !joined {
            self.streams.entry((topic, form)).or_default().gave_up();
        }
        ((topic, form, joined), self.held.take_if(|held| *held == id).is_some())
    }

    /// A subscription is confirmed; true if the outbox was held until then.
    pub(super) fn joined(&mut self, id: SubscriptionId) -> bool {
        if let Some(subscription) = self.subscriptions.iter_mut().find(|subscription| subscription.id == id) {
            subscription.joined = true;
        }
        self.held.take_if(|held| *held == id).is_some()
    }

    /// It is not to hear this message.
    pub(super) fn left_out_of(&mut self, topic: u8, id: u32) {
        self.left_out.insert((topic, id));
    }

    pub(super) fn published(&mut self, topic: u8, id: u32) {
        let hears = |subscription: &&mut Subscription| subscription.joined && subscription.topic == topic;
        if let Some(subscription) = self.subscriptions.iter_mut().find(hears)
            && !self.left_out.contains(&(topic, id))
        {
            subscription.must_hear.push(id);
        }
    }

    pub(super) fn said(&mut self, pong: bool, number: u32) {
        if pong {
            self.pong_said = number;
        } else {
            self.own.push(number);
        }
    }

    /// The first `count` bytes of `chain` have arrived.
    pub(super) fn arrived(&mut self, chain: &Chain, count: usize, policy: OutboxPolicy, ledger: &mut Ledger) {
        let mut left = count;
        for segment in chain.segments() {
            let part = left.min(segment.len());
            self.tail.extend_from_slice(&segment.as_slice()[..part]);
            left -= part;
        }
        let bytes = std::mem::take(&mut self.tail);
        let mut rest = &bytes[..];
        while let Some(size) = self.read(rest, policy, ledger) {
            rest = &rest[size..];
        }
        self.tail = rest.to_vec();
    }

    /// Reads one message or word if it is whole, and says how many bytes it has.
    fn read(&mut self, bytes: &[u8], policy: OutboxPolicy, ledger: &mut Ledger) -> Option<usize> {
        match *bytes.first()? {
            MESSAGE => {
                let header = bytes.get(..20)?;
                let size = 20 + usize::from(header[18]) + 256 * usize::from(header[19]);
                let payload = bytes.get(20..size)?;
                let id = u32::from_le_bytes([payload[1], payload[2], payload[3], payload[4]]);
                assert!(payload[5..].iter().all(|byte| *byte == 0xee), "a torn message");
                self.hear(payload[0], header[1], (number(header, 2), number(header, 10)), id, policy, ledger);
                Some(size)
            }
            JOINED => {
                let word = bytes.get(..20)?;
                let place = (number(word, 4), number(word, 12));
                self.stream(word[2], word[1]).joined(place, word[3] != 0, word[1]);
                Some(20)
            }
            GAP => {
                let word = bytes.get(..36)?;
                let missing = (number(word, 4), number(word, 12), number(word, 20));
                let previous = Some(number(word, 28)).filter(|epoch| *epoch != 0);
                self.stream(word[2], word[1]).missed(missing, previous);
                Some(36)
            }
            ENDED => {
                let word = bytes.get(..8)?;
                let next_id = u32::from_le_bytes([word[4], word[5], word[6], word[7]]);
                self.stream(word[2], word[1]).ended(word[3] != 0, next_id);
                Some(8)
            }
            kind @ (OWN | PONG) => {
                let digits = bytes.get(1..5)?;
                let number = u32::from_le_bytes([digits[0], digits[1], digits[2], digits[3]]);
                if kind == PONG {
                    assert!(self.pong_heard < number && number <= self.pong_said, "pongs rise");
                    self.pong_heard = number;
                } else if let Some(first) = self.own.first() {
                    // The last word of one that is sent away is not among them.
                    assert!(*first == number || self.state != State::Open, "own words keep their order");
                    self.own.retain(|own| *own > number);
                }
                Some(5)
            }
            other => panic!("{other:#x} between messages"),
        }
    }

    fn stream(&mut self, topic: u8, form: u8) -> &mut Stream {
        self.streams.get_mut(&(topic, form)).expect("only what was subscribed to is heard")
    }

    fn hear(
        &mut self,
        topic: u8,
        form: u8,
        place: Place,
        id: u32,
        policy: OutboxPolicy,
        ledger: &mut Ledger,
    ) {
        ledger.heard(id, topic, place.0, place.1);
        let left_out = self.left_out.contains(&(topic, id));
        let new = self.heard.insert((form, id));
        let stream = self.stream(topic, form);
        assert!(new || stream.hears_again(place), "message {id} twice");
        stream.heard(id, place, form, policy, left_out);
    }

    /// Nobody lacks anything in the middle of what it heard, and who is still there has heard all that it must.
    pub(super) fn check_end(&mut self, policy: OutboxPolicy, ledger: &Ledger) {
        self.check_skipped(ledger);
        if self.state != State::Open {
            return;
        }
        assert!(self.tail.is_empty(), "the last message is whole");
        assert!(self.own.is_empty() && self.pong_heard == self.pong_said, "own words are heard");
        for Subscription { topic, form, joined, must_hear, .. } in &self.subscriptions {
            assert!(joined, "every subscription is confirmed or refused");
            let mut must_hear = must_hear.iter().filter(|id| !ledger.is_rejected(**id)).peekable();
            if must_hear.peek().is_none() {
                continue;
            }
            let stream = self.streams.get(&(*topic, *form)).expect("it was subscribed to");
            // Of several topics, one's newest message may be dropped for another's: under `latest` where room is short.
            let kept = policy == OutboxPolicy::Latest && !self.crowded || policy == OutboxPolicy::Cut;
            if kept || self.streams.len() == 1 {
                let (epoch, offset) = stream.newest().expect("something said to it is heard");
                let newest = ledger.last_offset(*topic, epoch, |id| !self.left_out.contains(&(*topic, id)));
                assert_eq!(offset, newest, "the newest is heard, whatever is dropped");
            }
            let strict = *form == TOLD || policy == OutboxPolicy::Cut;
            let lost =
                must_hear.find(|id| !self.heard.contains(&(*form, **id)) && !stream.was_told(**id, ledger));
            assert!(lost.is_none() || !strict, "message {lost:?} is lost");
        }
    }

    /// Looks whether an outbox of so many bytes has room for the newest message of each subscription, beside all that a
    /// policy does not drop, and a gap of each between any two of its own words.
    pub(super) fn look_for_room(&mut self, outbox_bytes_max: usize) {
        let flight = self.flight.as_ref().map_or(0, Chain::len);
        let words = self.own.len() + 3 * self.beginnings;
        let fixed = flight + PONGS_BYTES_MAX + words * WORD_BYTES_MAX;
        let each = MESSAGE_BYTES_MAX + (words + 1) * WORD_BYTES_MAX;
        self.crowded |= fixed + (self.beginnings + 1) * each > outbox_bytes_max;
    }

    fn check_skipped(&mut self, ledger: &Ledger) {
        for ((topic, _), stream) in &mut self.streams {
            stream.check_told(|epoch| ledger.last_offset(*topic, epoch, |_| true));
            stream.check_skipped(|(epoch, offset)| {
                ledger.at(*topic, epoch, offset).is_some_and(|id| self.left_out.contains(&(*topic, id)))
            });
        }
    }
}
