//! Somebody in a conversation: many topics on one WebSocket, heard and left again while others speak, in one of the
//! protocols that are made for that.

mod book;
mod tongue;
mod v1;
mod wamp;

use std::time::Duration;

use moongate_wire::accept::accept_key;
use moongate_wire::frame::{Opcode, ServerFrames, encode_masked};

use super::http::{HeadReader, KEY, handshake};
use super::socket::mask;
use super::{Client, Hands, Leave};
use crate::net::End;
use crate::tamper::Tamper;
use book::Book;
use tongue::Said;
pub use tongue::Tongue;

/// What it is going to do.
#[derive(Clone, Debug)]
pub struct TalkerPlan {
    /// In which protocol.
    pub tongue: Tongue,
    /// By which topic's URL it comes in, if it does so by one.
    pub enters: Option<String>,
    /// The topics there are.
    pub topics: Vec<String>,
    /// How many of them it may hear.
    pub topics_max: usize,
    /// How often it asks for something.
    pub turns: usize,
    /// For how much at once, at most.
    pub burst: usize,
    /// How long between turns, in milliseconds.
    pub pause: (usize, usize),
    /// How many bytes a message has at most, as far as its words go.
    pub bytes_max: usize,
    /// How it goes.
    pub leave: Leave,
    /// Whether it goes right behind its last word.
    pub abrupt: bool,
    /// How long after its last word otherwise, in milliseconds.
    pub linger: (usize, usize),
    /// What becomes of what it hears, on the way.
    pub tamper: Option<Tamper>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Asking,
    /// Our hello is out, where conversations begin with one.
    Greeting,
    Talking,
    /// Our goodbye is out.
    Parting,
    /// Our Close is out.
    Closing,
    /// Our FIN is out.
    HalfClosed,
    /// Theirs has come; nothing may follow.
    Closed,
    /// Refused, reset, left.
    Over,
}

/// A client in a conversation.
pub struct Talker {
    plan: TalkerPlan,
    state: State,
    head: HeadReader,
    frames: ServerFrames,
    book: Book,
    leaving: bool,
}

impl Talker {
    /// One that follows `plan`.
    pub fn new(plan: TalkerPlan) -> Talker {
        Talker {
            book: Book::new(plan.tongue, &plan.topics, plan.topics_max),
            plan,
            state: State::Asking,
            head: HeadReader::default(),
            frames: ServerFrames::default(),
            leaving: false,
        }
    }

    fn say(&self, text: &str, hands: &mut Hands<'_>) {
        let mut out = Vec::new();
        encode_masked(Opcode::Text, true, mask(hands.rng), text.as_bytes(), &mut out);
        hands.say(&out);
    }

    fn close_with(&self, payload: &[u8], hands: &mut Hands<'_>) {
        let mut out = Vec::new();
        encode_masked(Opcode::Close, true, mask(hands.rng), payload, &mut out);
        hands.say(&out);
    }

    fn turn(&mut self, hands: &mut Hands<'_>) {
        self.plan.turns -= 1;
        let mut out = Vec::new();
        for _ in 0..hands.rng.between(1, self.plan.burst) {
            let text = self.book.ask(self.plan.bytes_max, hands);
            encode_masked(Opcode::Text, true, mask(hands.rng), text.as_bytes(), &mut out);
        }
        hands.say(&out);
    }

    fn leave(&mut self, hands: &mut Hands<'_>) {
        match self.plan.leave {
            Leave::Stays => {}
            Leave::Close if self.plan.tongue == Tongue::Wamp && hands.rng.chance(50) => {
                self.say(&wamp::goodbye(), hands);
                self.state = State::Parting;
            }
            Leave::Close => {
                self.close_with(&1000_u16.to_be_bytes(), hands);
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
        self.book.close(hands);
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
        if head.field("sec-websocket-protocol") != Some(self.plan.tongue.name()) {
            hands.fault("the 101 names another protocol");
        }
        if head.field("sec-websocket-extensions").is_some() {
            hands.fault("the 101 agrees on an extension beside a protocol");
        }
        match self.plan.tongue {
            Tongue::V1 => self.begin_to_talk(hands),
            Tongue::Wamp => {
                self.say(&wamp::hello(), hands);
                self.state = State::Greeting;
            }
        }
        self.read_frames(&rest, hands);
    }

    fn begin_to_talk(&mut self, hands: &mut Hands<'_>) {
        self.state = State::Talking;
        hands.act_in(Duration::ZERO);
    }

    fn read_frames(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        match &mut self.plan.tamper {
            Some(tamper) => self.frames.push(&tamper.pass(bytes)),
            None => self.frames.push(bytes),
        }
        loop {
            let (opcode, payload) = match self.frames.next_frame() {
                Ok(Some(frame)) if frame.fin && !frame.compressed => (frame.opcode, frame.payload.to_vec()),
                Ok(Some(_)) => return hands.fault("a fragment or something compressed"),
                Ok(None) => return,
                Err(fault) => return hands.fault(fault.reason),
            };
            self.heard(opcode, &payload, hands);
        }
    }

    fn heard(&mut self, opcode: Opcode, payload: &[u8], hands: &mut Hands<'_>) {
        if self.state == State::Closed {
            return hands.fault(&format!("D15: {opcode:?} after Close"));
        }
        match opcode {
            Opcode::Text => self.told(&String::from_utf8_lossy(payload), hands),
            Opcode::Ping => {
                let mut out = Vec::new();
                encode_masked(Opcode::Pong, true, mask(hands.rng), payload, &mut out);
                if matches!(self.state, State::Greeting | State::Talking | State::Parting) {
                    hands.say(&out);
                }
            }
            Opcode::Close => self.closed(payload, hands),
            other => hands.fault(&format!("{other:?} in a conversation")),
        }
    }

    fn told(&mut self, text: &str, hands: &mut Hands<'_>) {
        let right = match (self.plan.tongue.read(text), self.state) {
            (Err(what), _) => Err(what),
            (Ok(Said::Welcome), State::Greeting) => {
                self.begin_to_talk(hands);
                Ok(())
            }
            (Ok(Said::Goodbye), State::Parting) => Ok(()),
            (Ok(said), State::Talking | State::Parting | State::Closing) => self.book.hear(said, hands),
            (Ok(said), state) => Err(format!("{state:?} and told {said:?}")),
        };
        if let Err(what) = right {
            hands.fault(&what);
        }
    }

    fn closed(&mut self, payload: &[u8], hands: &mut Hands<'_>) {
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        match self.state {
            State::Parting | State::Closing if code == Some(1000) => {
                // It answers our last word, so it has read all that came before.
                self.book.certain(hands);
            }
            State::Greeting | State::Talking | State::Parting | State::Closing if !hands.harsh => {
                hands.fault(&format!("sent away with {code:?} {}", payload.escape_ascii()));
            }
            _ => {}
        }
        if self.state != State::Closing {
            self.close_with(&payload[..payload.len().min(2)], hands);
        }
        self.book.close(hands);
        self.state = State::Closed;
    }
}

impl Client for Talker {
    fn begin(&mut self, hands: &mut Hands<'_>) {
        let name = self.plan.tongue.name();
        let path = match self.plan.enters.clone() {
            None => String::from("/connect"),
            // There the topic in it means nothing.
            Some(topic) if self.plan.tongue == Tongue::Wamp => format!("/topics/{topic}"),
            Some(topic) => format!("/topics/{topic}{}", self.book.enter(&topic, hands)),
        };
        let offered = if hands.rng.chance(30) { format!("chat, {name}") } else { name.to_owned() };
        let deflate =
            if hands.rng.chance(20) { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        hands.say(&handshake(&path, &format!("Sec-WebSocket-Protocol: {offered}\r\n{deflate}")));
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.state != State::Talking {
            return;
        }
        if self.plan.turns > 0 {
            self.turn(hands);
            if self.plan.turns == 0 && self.plan.abrupt {
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
            State::HalfClosed | State::Over => {}
            _ => self.read_frames(bytes, hands),
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        let wrong = match (end, self.state) {
            _ if hands.is_broken() => None,
            (_, State::Over | State::Closed) => None,
            (End::Fin, State::HalfClosed) => {
                // It ends after all that came before our own FIN.
                self.book.certain(hands);
                None
            }
            (End::Fin, State::Asking) if self.head.has_begun() => Some("a FIN inside an answer"),
            (End::Fin, State::Asking) | (End::Reset, _) if hands.harsh => None,
            (End::Fin, State::Asking) => Some("a FIN for an answer"),
            (End::Fin, _) => Some("a FIN without Close"),
            (End::Reset, _) => Some("a RST"),
        };
        if let Some(wrong) = wrong {
            hands.fault(wrong);
        }
        self.over(hands);
    }

    fn settle(&mut self, hands: &mut Hands<'_>) {
        if self.state == State::Talking {
            self.book.certain(hands);
        }
    }

    fn abandon(&mut self, hands: &mut Hands<'_>) {
        self.over(hands);
    }

    fn is_owed(&self) -> Option<&'static str> {
        match self.state {
            State::Asking => Some("an answer to its handshake"),
            State::Greeting => Some("a WELCOME"),
            State::Talking if self.book.is_owed() => Some("an answer to a request"),
            State::Talking if self.plan.leave == Leave::Stays => None,
            State::Talking => Some("a turn to leave"),
            State::Parting => Some("an answer to its GOODBYE"),
            State::Closing => Some("an answer to its Close"),
            State::HalfClosed => Some("an end after its FIN"),
            State::Closed => Some("an end after Close"),
            State::Over => None,
        }
    }
}
