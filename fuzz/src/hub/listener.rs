//! One connection, which checks every byte that it gets.

use std::collections::{HashMap, HashSet};

use moongate_hub::{Message, OutboxPolicy, SubscriptionId};
use moongate_io::Chain;

use super::ledger::Ledger;

const MESSAGE: u8 = b'M';
const OWN: u8 = b'O';
const PONG: u8 = b'P';

/// A message's payload: its topic, its number, and so many more bytes.
pub(super) fn encode_payload(topic: u8, id: u32, more: usize) -> Vec<u8> {
    let mut payload = vec![topic];
    payload.extend_from_slice(&id.to_le_bytes());
    payload.resize(payload.len() + more, 0xee);
    payload
}

/// A message as it goes to a subscriber.
pub(super) fn encode_message(form: u8, message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[MESSAGE, form]);
    out.extend_from_slice(&message.epoch.to_le_bytes());
    out.extend_from_slice(&message.offset.to_le_bytes());
    out.extend_from_slice(&(message.payload.len() as u16).to_le_bytes());
    out.extend_from_slice(message.payload);
}

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
    pub(super) subscription: Option<Subscription>,
    pub(super) held: bool,
    pub(super) flight: Option<Chain>,
    /// Bytes of a message that is not whole yet.
    tail: Vec<u8>,
    streams: HashMap<(u8, u8), Stream>,
    heard: HashSet<(u8, u32)>,
    /// Numbers of own bytes that were given to the outbox and did not come out yet, first to last.
    own: Vec<u32>,
    pong_said: u32,
    pong_heard: u32,
}

pub(super) struct Subscription {
    id: SubscriptionId,
    topic: u8,
    form: u8,
    joined: bool,
    /// Messages that were said while it was confirmed.
    must_hear: Vec<u32>,
}

/// What came of one topic in one form.
#[derive(Default)]
struct Stream {
    last: Option<(u64, u64)>,
    epochs: HashSet<u64>,
    /// How often it may begin anew: once for every time it was subscribed to.
    beginnings: usize,
    /// The number of the first message that was said after the subscription ended.
    ended: Option<u32>,
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

    pub(super) fn subscribed(&mut self, id: SubscriptionId, topic: u8, form: u8, joined: bool) {
        self.subscription = Some(Subscription { id, topic, form, joined, must_hear: Vec::new() });
        let stream = self.streams.entry((topic, form)).or_default();
        stream.beginnings += 1;
        stream.ended = None;
    }

    /// Ends the subscription if there is one; messages from number `next_id` on must not come.
    pub(super) fn unsubscribed(&mut self, next_id: u32) -> Option<SubscriptionId> {
        let Subscription { id, topic, form, .. } = self.subscription.take()?;
        self.streams.entry((topic, form)).or_default().ended = Some(next_id);
        Some(id)
    }

    /// The subscription is confirmed; true if the outbox was held until then.
    pub(super) fn joined(&mut self) -> bool {
        if let Some(subscription) = &mut self.subscription {
            subscription.joined = true;
        }
        std::mem::take(&mut self.held)
    }

    pub(super) fn published(&mut self, topic: u8, id: u32) {
        if let Some(subscription) = &mut self.subscription
            && subscription.joined
            && subscription.topic == topic
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
                let number =
                    |at: usize| header[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
                let size = 20 + usize::from(header[18]) + 256 * usize::from(header[19]);
                let payload = bytes.get(20..size)?;
                let id = u32::from_le_bytes([payload[1], payload[2], payload[3], payload[4]]);
                assert!(payload[5..].iter().all(|byte| *byte == 0xee), "a torn message");
                self.hear(payload[0], header[1], (number(2), number(10)), id, policy, ledger);
                Some(size)
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

    fn hear(
        &mut self,
        topic: u8,
        form: u8,
        place: (u64, u64),
        id: u32,
        policy: OutboxPolicy,
        ledger: &mut Ledger,
    ) {
        ledger.heard(id, topic, place.0, place.1);
        assert!(self.heard.insert((form, id)), "message {id} twice");
        let stream = self.streams.get_mut(&(topic, form)).expect("only what was subscribed to is heard");
        assert!(stream.ended.is_none_or(|ended| id < ended), "message {id} after the subscription ended");
        let next = stream.last.map(|(epoch, offset)| (epoch, offset + 1));
        if stream.last.is_none_or(|last| last.0 != place.0) {
            assert!(stream.epochs.insert(place.0), "an epoch never comes back");
        }
        if next != Some(place) {
            if let Some((epoch, offset)) = next {
                assert!(epoch != place.0 || offset < place.1, "{place:?} after {:?}", stream.last);
            }
            if policy == OutboxPolicy::Cut {
                assert!(stream.beginnings > 0, "{place:?} after {:?}: something is lost", stream.last);
                stream.beginnings -= 1;
            }
        }
        stream.last = Some(place);
    }

    /// Who is still there has heard all that it must.
    pub(super) fn check_end(&self, policy: OutboxPolicy, ledger: &Ledger) {
        if self.state != State::Open {
            return;
        }
        assert!(self.tail.is_empty(), "the last message is whole");
        assert!(self.own.is_empty() && self.pong_heard == self.pong_said, "own words are heard");
        let Some(Subscription { topic, form, joined, must_hear, .. }) = &self.subscription else { return };
        assert!(joined, "every subscription is confirmed or refused");
        let mut must_hear = must_hear.iter().filter(|id| !ledger.is_rejected(**id)).peekable();
        if must_hear.peek().is_none() {
            return;
        }
        let last = self.streams.get(&(*topic, *form)).and_then(|stream| stream.last);
        let (epoch, offset) = last.expect("something said to it is heard");
        assert_eq!(offset, ledger.last_offset(*topic, epoch), "the newest is heard, whatever is dropped");
        let all = must_hear.all(|id| self.heard.contains(&(*form, *id)));
        assert!(all || policy != OutboxPolicy::Cut, "something said to it is lost");
    }
}
