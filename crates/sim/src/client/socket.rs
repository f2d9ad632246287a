//! A WebSocket: hears a topic and speaks to it, or hears its own echo.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use moongate_io::Time;
use moongate_wire::Kind;
use moongate_wire::frame::{Opcode, encode_masked, encode_masked_compressed};

use super::deflate::{self, Offer};
use super::http::{EXPECT, handshake};
use super::payload::{padding, repetitive};
use super::visit::{Answer, Leave, State, Visit, VisitPlan, close_with, mask};
use super::{Client, Hands};
use crate::net::End;
use crate::oracle::{MessageId, SessionId, Shown};
use crate::rng::Rng;

/// What it is connected to.
#[derive(Clone, Debug)]
pub enum Place {
    /// A topic, by name.
    Topic(String),
    /// The echo.
    Echo,
}

/// What it is going to do.
#[derive(Clone, Debug)]
pub struct SocketPlan {
    /// Where.
    pub place: Place,
    /// How many messages it says.
    pub messages: usize,
    /// How many at once, at most.
    pub burst: usize,
    /// How many bytes a message has at most.
    pub bytes_max: usize,
    /// Whether it says what is worth compressing.
    pub repetitive: bool,
    /// How messages may be compressed.
    pub offer: Offer,
    /// Whether what it compresses takes work to inflate, as much as can be.
    pub laborious: bool,
    /// Whether it speaks before it is answered.
    pub eager: bool,
    /// When it speaks and how it goes.
    pub visit: VisitPlan,
}

/// A WebSocket client.
pub struct Socket {
    plan: SocketPlan,
    visit: Visit,
    asked_at: Time,
    session: Option<SessionId>,
    said: Vec<MessageId>,
    echoes: VecDeque<(Kind, Vec<u8>)>,
    to_say: usize,
    pings: u64,
    pongs: u64,
    expects_continue: bool,
}

impl Socket {
    /// One that follows `plan`.
    pub fn new(plan: SocketPlan) -> Socket {
        Socket {
            to_say: plan.messages,
            visit: Visit::new(plan.visit.clone()),
            plan,
            asked_at: Time::ZERO,
            session: None,
            said: Vec::new(),
            echoes: VecDeque::new(),
            pings: 0,
            pongs: 0,
            expects_continue: false,
        }
    }

    fn speak(&mut self, hands: &mut Hands<'_>) {
        let count = hands.rng.between(1, self.plan.burst.max(1)).min(self.to_say);
        let mut out = Vec::new();
        for _ in 0..count {
            self.to_say -= 1;
            let kind = if hands.rng.chance(70) { Kind::Text } else { Kind::Binary };
            let fill = if self.plan.repetitive { repetitive } else { padding };
            let padding = fill(kind, self.plan.bytes_max, hands.rng);
            let payload = match &self.plan.place {
                Place::Topic(topic) => {
                    let now = hands.now();
                    let (id, payload) = hands.oracle.says(topic, kind, &padding, now);
                    self.said.push(id);
                    payload
                }
                Place::Echo => {
                    self.echoes.push_back((kind, padding.clone()));
                    padding
                }
            };
            self.encode(kind, &payload, hands.rng, &mut out);
        }
        hands.say(&out);
    }

    /// A message in one frame or in many, with pings between them.
    fn encode(&mut self, kind: Kind, payload: &[u8], rng: &mut Rng, out: &mut Vec<u8>) {
        let mut opcode = match kind {
            Kind::Text | Kind::Json => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        };
        let mut compress = self.plan.offer.agreed.is_some() && rng.chance(75);
        let payload = if compress { Cow::Owned(self.pack(payload, rng)) } else { Cow::Borrowed(payload) };
        let mut rest = &payload[..];
        while rng.chance(20) && !rest.is_empty() {
            let (first, after) = rest.split_at(rng.below(rest.len() + 1));
            encode_data(&mut compress, opcode, false, first, rng, out);
            (rest, opcode) = (after, Opcode::Continuation);
            if rng.chance(30) {
                self.ping(rng, out);
            }
        }
        encode_data(&mut compress, opcode, true, rest, rng, out);
        if rng.chance(10) {
            self.ping(rng, out);
        }
    }

    fn pack(&self, payload: &[u8], rng: &mut Rng) -> Vec<u8> {
        let empty_blocks = if self.plan.laborious && rng.chance(70) {
            deflate::empty_blocks_max(payload.len(), self.plan.bytes_max)
        } else {
            usize::from(rng.chance(5))
        };
        deflate::pack(payload, empty_blocks, rng)
    }

    fn ping(&mut self, rng: &mut Rng, out: &mut Vec<u8>) {
        self.pings += 1;
        encode_masked(Opcode::Ping, true, mask(rng), self.pings.to_string().as_bytes(), out);
    }

    fn leave(&mut self, hands: &mut Hands<'_>) {
        match self.visit.plan.leave {
            Leave::Stays => {}
            Leave::Close => {
                let mut out = Vec::new();
                let payload = 1000_u16.to_be_bytes();
                encode_masked(Opcode::Close, true, mask(hands.rng), &payload, &mut out);
                if hands.rng.chance(20) {
                    // E8: what comes after a Close is ignored.
                    encode_masked(Opcode::Text, true, mask(hands.rng), b"after Close", &mut out);
                    encode_masked(Opcode::Ping, true, mask(hands.rng), b"after Close", &mut out);
                }
                hands.say(&out);
                self.visit.state = State::Closing;
            }
            Leave::HalfClose | Leave::Reset | Leave::Vanish => {
                self.visit.cut(hands);
                self.end_stay(hands);
            }
        }
    }

    fn over(&mut self, hands: &mut Hands<'_>) {
        self.visit.state = State::Over;
        self.end_stay(hands);
    }

    fn end_stay(&mut self, hands: &mut Hands<'_>) {
        if let Some(session) = self.session.take() {
            hands.oracle.leaves(session);
        }
    }

    fn answered(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        let (head, rest) = match self.visit.answered(bytes, hands) {
            Answer::Partly => return,
            Answer::Refused => return self.over(hands),
            Answer::Switched(head, rest) => (head, rest),
        };
        if self.visit.head.interim != usize::from(self.expects_continue) {
            hands.fault("B26: 100 comes before 101 if and only if it is asked for");
        }
        if let Err(what) = self.plan.offer.judge(head.field("sec-websocket-extensions")) {
            hands.fault(&what);
        }
        if let Some(agreed) = self.plan.offer.agreed {
            self.visit.agree(agreed);
        }
        if let Place::Topic(topic) = &self.plan.place {
            let now = hands.now();
            let session = hands.oracle.joins(topic, now);
            hands.oracle.asked(session, self.asked_at);
            self.session = Some(session);
        }
        self.visit.state = State::Talking;
        self.read_frames(&rest, hands);
        hands.act_in(Duration::ZERO);
    }

    fn read_frames(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        self.visit.take(bytes);
        while let Some((opcode, payload)) = self.visit.next_frame(hands) {
            self.heard(opcode, &payload, hands);
        }
    }

    fn heard(&mut self, opcode: Opcode, payload: &[u8], hands: &mut Hands<'_>) {
        match opcode {
            Opcode::Text => self.message(Kind::Text, payload, hands),
            Opcode::Binary => self.message(Kind::Binary, payload, hands),
            Opcode::Ping => self.visit.answer_ping(payload, hands),
            Opcode::Pong => {
                let number: u64 =
                    str::from_utf8(payload).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                if number <= self.pongs || number > self.pings {
                    hands.fault(&format!("D12: pong {number} after {} of {}", self.pongs, self.pings));
                }
                self.pongs = number;
            }
            Opcode::Close => self.closed(payload, hands),
            Opcode::Continuation => hands.fault("a continuation, though messages are sent whole"),
        }
    }

    fn message(&mut self, kind: Kind, payload: &[u8], hands: &mut Hands<'_>) {
        match (&self.plan.place, self.session) {
            (Place::Topic(_), Some(session)) => {
                hands.oracle.hears(session, Shown::Frames, kind, payload, None)
            }
            (Place::Topic(_), None) => {}
            (Place::Echo, _) => {
                if self.echoes.pop_front().is_none_or(|expect| expect != (kind, payload.to_vec())) {
                    hands.fault("an echo of something else");
                }
            }
        }
    }

    fn closed(&mut self, payload: &[u8], hands: &mut Hands<'_>) {
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        match self.visit.state {
            State::Closing if code == Some(1000) => {
                // It answers our Close, so it has read all that came before.
                self.certain(hands);
                if self.pongs < self.pings {
                    hands.fault("D12: a ping before our Close was not answered");
                }
                if !self.echoes.is_empty() {
                    hands.fault("the echo of what came before our Close is missing");
                }
            }
            State::Talking | State::Closing => {
                if !hands.harsh {
                    hands.fault(&format!("sent away with {code:?} {}", payload.escape_ascii()));
                }
                close_with(&payload[..payload.len().min(2)], hands);
            }
            _ => {}
        }
        self.end_stay(hands);
        self.visit.state = State::Closed;
    }

    /// All that was said must be ordered.
    fn certain(&mut self, hands: &mut Hands<'_>) {
        for id in self.said.drain(..) {
            hands.oracle.must_be_ordered(id);
        }
    }
}

impl Client for Socket {
    fn begin(&mut self, hands: &mut Hands<'_>) {
        self.asked_at = hands.now();
        let path = match &self.plan.place {
            Place::Topic(topic) => format!("/topics/{topic}"),
            Place::Echo => String::from("/echo"),
        };
        self.expects_continue = hands.rng.chance(10);
        let expect = if self.expects_continue { EXPECT } else { "" };
        hands.say(&handshake(&path, &format!("{expect}{}", self.plan.offer.lines)));
        if self.plan.eager && self.to_say > 0 {
            self.speak(hands);
        }
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.visit.state != State::Talking {
            return;
        }
        let speaks = self.to_say > 0;
        if speaks {
            self.speak(hands);
        }
        if self.visit.goes(speaks, self.to_say == 0, hands) {
            self.leave(hands);
        }
    }

    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        match self.visit.state {
            State::Asking => self.answered(bytes, hands),
            State::HalfClosed | State::Over => {}
            _ => self.read_frames(bytes, hands),
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        if self.visit.ended(end, hands) && !hands.harsh {
            self.certain(hands);
        }
        self.over(hands);
    }

    fn settle(&mut self, hands: &mut Hands<'_>) {
        if self.visit.state == State::Talking {
            self.certain(hands);
            if self.pongs < self.pings {
                hands.fault("D12: its last ping was not answered");
            }
            if !self.echoes.is_empty() {
                hands.fault("an echo is missing");
            }
        }
    }

    fn abandon(&mut self, hands: &mut Hands<'_>) {
        self.over(hands);
    }

    fn is_owed(&self) -> Option<&'static str> {
        self.visit.is_owed()
    }
}

/// A frame of a message; the first of a compressed one says so.
fn encode_data(
    compress: &mut bool,
    opcode: Opcode,
    fin: bool,
    payload: &[u8],
    rng: &mut Rng,
    out: &mut Vec<u8>,
) {
    let encode = if std::mem::take(compress) { encode_masked_compressed } else { encode_masked };
    encode(opcode, fin, mask(rng), payload, out);
}
