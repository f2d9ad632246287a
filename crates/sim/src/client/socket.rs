//! A WebSocket: hears a topic and speaks to it, or hears its own echo.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use moongate_wire::Kind;
use moongate_wire::accept::accept_key;
use moongate_wire::frame::{Opcode, ServerFrames, encode_masked, encode_masked_compressed};

use super::deflate::{self, Offer, Unpacker};
use super::http::{EXPECT, HeadReader, KEY, handshake};
use super::payload::{padding, repetitive};
use super::{Client, Hands};
use crate::net::End;
use crate::oracle::{MessageId, SessionId, Shown};
use crate::rng::Rng;
use crate::tamper::Tamper;

/// What it is connected to.
#[derive(Clone, Debug)]
pub enum Place {
    /// A topic, by name.
    Topic(String),
    /// The echo.
    Echo,
}

/// How it goes once it has said all it wanted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Leave {
    /// It does not.
    Stays,
    /// With a Close.
    Close,
    /// With a FIN.
    HalfClose,
    /// With a RST.
    Reset,
    /// Without any.
    Vanish,
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
    /// How long between bursts, in milliseconds.
    pub pause: (usize, usize),
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
    /// How it goes.
    pub leave: Leave,
    /// Whether it goes right behind its last word.
    pub abrupt: bool,
    /// How long after its last word otherwise, in milliseconds.
    pub linger: (usize, usize),
    /// What becomes of what it hears, on the way.
    pub tamper: Option<Tamper>,
}

enum State {
    Asking,
    Talking,
    /// Our Close is out.
    Closing,
    /// Our FIN is out.
    HalfClosed,
    /// Theirs has come; nothing may follow.
    Closed,
    /// Refused, reset, left.
    Over,
}

/// A WebSocket client.
pub struct Socket {
    plan: SocketPlan,
    state: State,
    head: HeadReader,
    frames: ServerFrames,
    unpacker: Unpacker,
    session: Option<SessionId>,
    said: Vec<MessageId>,
    echoes: VecDeque<(Kind, Vec<u8>)>,
    to_say: usize,
    pings: u64,
    pongs: u64,
    leaving: bool,
    expects_continue: bool,
}

impl Socket {
    /// One that follows `plan`.
    pub fn new(plan: SocketPlan) -> Socket {
        Socket {
            to_say: plan.messages,
            plan,
            state: State::Asking,
            head: HeadReader::default(),
            frames: ServerFrames::default(),
            unpacker: Unpacker::default(),
            session: None,
            said: Vec::new(),
            echoes: VecDeque::new(),
            pings: 0,
            pongs: 0,
            leaving: false,
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
        match self.plan.leave {
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
                self.state = State::Closing;
            }
            Leave::HalfClose => {
                hands.net.half_close(hands.wire);
                self.over(hands);
                self.state = State::HalfClosed;
            }
            Leave::Reset => {
                hands.net.reset(hands.wire);
                self.over(hands);
            }
            Leave::Vanish => {
                hands.net.vanish(hands.wire);
                self.over(hands);
            }
        }
    }

    fn over(&mut self, hands: &mut Hands<'_>) {
        self.state = State::Over;
        if let Some(session) = self.session.take() {
            hands.oracle.leaves(session);
        }
    }

    fn answered(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        let (head, rest) = match self.head.push(bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(what) => return hands.fault(&what),
        };
        if head.status != 101 {
            if !hands.harsh {
                hands.fault(&format!("its handshake was answered {}", head.status));
            }
            return self.over(hands);
        }
        if head.field("sec-websocket-accept").map(str::as_bytes) != Some(&accept_key(KEY)[..]) {
            hands.fault("C1: the 101 has another key's accept");
        }
        if self.head.interim != usize::from(self.expects_continue) {
            hands.fault("B26: 100 comes before 101 if and only if it is asked for");
        }
        if let Err(what) = self.plan.offer.judge(head.field("sec-websocket-extensions")) {
            hands.fault(&what);
        }
        if self.plan.offer.agreed.is_some() {
            self.frames = ServerFrames::with_deflate();
        }
        if let Place::Topic(topic) = &self.plan.place {
            let now = hands.now();
            self.session = Some(hands.oracle.joins(topic, now));
        }
        self.state = State::Talking;
        self.read_frames(&rest, hands);
        hands.act_in(Duration::ZERO);
    }

    fn read_frames(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        match &mut self.plan.tamper {
            Some(tamper) => self.frames.push(&tamper.pass(bytes)),
            None => self.frames.push(bytes),
        }
        loop {
            let (opcode, payload) = match self.frames.next_frame() {
                Ok(Some(frame)) if frame.compressed => {
                    let window_bits = self.plan.offer.agreed.map_or(0, deflate::Agreed::window_bits);
                    match self.unpacker.unpack(frame.payload, window_bits) {
                        Ok(message) => (frame.opcode, message),
                        Err(what) => return hands.fault(what),
                    }
                }
                Ok(Some(frame)) if frame.fin => (frame.opcode, frame.payload.to_vec()),
                Ok(Some(_)) => return hands.fault("a fragment, though messages are sent whole"),
                Ok(None) => return,
                Err(fault) => return hands.fault(fault.reason),
            };
            self.heard(opcode, &payload, hands);
        }
    }

    fn heard(&mut self, opcode: Opcode, payload: &[u8], hands: &mut Hands<'_>) {
        if let State::Closed = self.state {
            return hands.fault(&format!("D15: {opcode:?} after Close"));
        }
        match opcode {
            Opcode::Text => self.message(Kind::Text, payload, hands),
            Opcode::Binary => self.message(Kind::Binary, payload, hands),
            Opcode::Ping => {
                let mut out = Vec::new();
                encode_masked(Opcode::Pong, true, mask(hands.rng), payload, &mut out);
                if let State::Talking = self.state {
                    hands.say(&out);
                }
            }
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
        match self.state {
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
                let mut out = Vec::new();
                encode_masked(
                    Opcode::Close,
                    true,
                    mask(hands.rng),
                    &payload[..payload.len().min(2)],
                    &mut out,
                );
                hands.say(&out);
            }
            State::Asking | State::HalfClosed | State::Closed | State::Over => {}
        }
        if let Some(session) = self.session.take() {
            hands.oracle.leaves(session);
        }
        self.state = State::Closed;
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
        if !matches!(self.state, State::Talking) {
            return;
        }
        if self.to_say > 0 {
            self.speak(hands);
            if self.to_say == 0 && self.plan.abrupt {
                return self.leave(hands);
            }
            let pause = hands.rng.millis(self.plan.pause.0, self.plan.pause.1);
            hands.act_in(pause);
        } else if !self.leaving && self.plan.leave != Leave::Stays {
            self.leaving = true;
            let linger = hands.rng.millis(self.plan.linger.0, self.plan.linger.1);
            hands.act_in(linger);
        } else if self.leaving {
            self.leave(hands);
        }
    }

    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        match self.state {
            State::Asking => self.answered(bytes, hands),
            State::Talking | State::Closing | State::Closed => self.read_frames(bytes, hands),
            State::HalfClosed | State::Over => {}
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        let wrong = match (end, &self.state) {
            _ if hands.is_broken() => None,
            (_, State::Over | State::Closed) => None,
            (End::Fin, State::HalfClosed) => {
                if !hands.harsh {
                    // It ends after all that came before our own FIN.
                    self.certain(hands);
                }
                None
            }
            (End::Fin, State::Asking) if self.head.has_begun() => Some("a FIN inside an answer"),
            (End::Fin, State::Talking | State::Closing) => Some("a FIN without Close"),
            (End::Fin, State::Asking) | (End::Reset, _) if hands.harsh => None,
            (End::Fin, State::Asking) => Some("a FIN for an answer"),
            (End::Reset, _) => Some("a RST"),
        };
        if let Some(wrong) = wrong {
            hands.fault(wrong);
        }
        self.over(hands);
    }

    fn settle(&mut self, hands: &mut Hands<'_>) {
        if let State::Talking = self.state {
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
        match self.state {
            State::Asking => Some("an answer to its handshake"),
            State::Talking if self.plan.leave == Leave::Stays => None,
            State::Talking => Some("a turn to leave"),
            State::Closing => Some("an answer to its Close"),
            State::HalfClosed => Some("an end after its FIN"),
            State::Closed => Some("an end after Close"),
            State::Over => None,
        }
    }
}

pub(super) fn mask(rng: &mut Rng) -> [u8; 4] {
    (rng.draw() as u32).to_le_bytes()
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
