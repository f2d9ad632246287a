//! Somebody in a conversation: many topics on one WebSocket, heard and left again while others speak, in one of the
//! protocols that are made for that.

mod book;
mod tongue;
mod v1;
mod wamp;

use std::time::Duration;

use moongate_wire::frame::{Opcode, encode_masked};

use super::http::handshake;
use super::visit::{Answer, Leave, State, Visit, VisitPlan, close_with, mask};
use super::{Client, Hands};
use crate::net::End;
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
    /// How many bytes a message has at most, as far as its words go.
    pub bytes_max: usize,
    /// When it speaks and how it goes.
    pub visit: VisitPlan,
}

/// A client in a conversation.
pub struct Talker {
    plan: TalkerPlan,
    visit: Visit,
    book: Book,
}

impl Talker {
    /// One that follows `plan`.
    pub fn new(plan: TalkerPlan) -> Talker {
        Talker {
            book: Book::new(plan.tongue, &plan.topics, plan.topics_max),
            visit: Visit::new(plan.visit.clone()),
            plan,
        }
    }

    fn say(&self, text: &str, hands: &mut Hands<'_>) {
        let mut out = Vec::new();
        encode_masked(Opcode::Text, true, mask(hands.rng), text.as_bytes(), &mut out);
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
        match self.visit.plan.leave {
            Leave::Stays => {}
            Leave::Close if self.plan.tongue == Tongue::Wamp && hands.rng.chance(50) => {
                self.say(&wamp::goodbye(), hands);
                self.visit.state = State::Parting;
            }
            Leave::Close => {
                close_with(&1000_u16.to_be_bytes(), hands);
                self.visit.state = State::Closing;
            }
            Leave::HalfClose | Leave::Reset | Leave::Vanish => {
                self.visit.cut(hands);
                self.book.close(hands);
            }
        }
    }

    fn over(&mut self, hands: &mut Hands<'_>) {
        self.visit.state = State::Over;
        self.book.close(hands);
    }

    fn answered(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        let (head, rest) = match self.visit.answered(bytes, hands) {
            Answer::Partly => return,
            Answer::Refused => return self.over(hands),
            Answer::Switched(head, rest) => (head, rest),
        };
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
                self.visit.state = State::Greeting;
            }
        }
        self.read_frames(&rest, hands);
    }

    fn begin_to_talk(&mut self, hands: &mut Hands<'_>) {
        self.visit.state = State::Talking;
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
            Opcode::Text => self.told(&String::from_utf8_lossy(payload), hands),
            Opcode::Ping => self.visit.answer_ping(payload, hands),
            Opcode::Close => self.closed(payload, hands),
            other => hands.fault(&format!("{other:?} in a conversation")),
        }
    }

    fn told(&mut self, text: &str, hands: &mut Hands<'_>) {
        let right = match (self.plan.tongue.read(text), self.visit.state) {
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
        match self.visit.state {
            State::Parting | State::Closing if code == Some(1000) => {
                // It answers our last word, so it has read all that came before.
                self.book.certain(hands);
            }
            State::Greeting | State::Talking | State::Parting | State::Closing if !hands.harsh => {
                hands.fault(&format!("sent away with {code:?} {}", payload.escape_ascii()));
            }
            _ => {}
        }
        if self.visit.state != State::Closing {
            close_with(&payload[..payload.len().min(2)], hands);
        }
        self.book.close(hands);
        self.visit.state = State::Closed;
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
        if self.visit.state != State::Talking {
            return;
        }
        let speaks = self.plan.turns > 0;
        if speaks {
            self.turn(hands);
        }
        if self.visit.goes(speaks, self.plan.turns == 0, hands) {
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
        if self.visit.ended(end, hands) {
            self.book.certain(hands);
        }
        self.over(hands);
    }

    fn settle(&mut self, hands: &mut Hands<'_>) {
        if self.visit.state == State::Talking {
            self.book.certain(hands);
        }
    }

    fn abandon(&mut self, hands: &mut Hands<'_>) {
        self.over(hands);
    }

    fn is_owed(&self) -> Option<&'static str> {
        match self.visit.state {
            State::Talking if self.book.is_owed() => Some("an answer to a request"),
            _ => self.visit.is_owed(),
        }
    }
}
