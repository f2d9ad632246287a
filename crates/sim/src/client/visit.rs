//! What everybody on a WebSocket goes through, whatever is said on it: the answer to a handshake, frames, pauses between
//! turns, a way to go, and an end.

use moongate_wire::accept::accept_key;
use moongate_wire::frame::{Opcode, ServerFrames, encode_masked};

use super::Hands;
use super::deflate::{Agreed, Unpacker};
use super::http::{Head, HeadReader, KEY};
use crate::net::End;
use crate::rng::Rng;
use crate::tamper::Tamper;

/// How somebody goes once it has said all it wanted.
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

/// When somebody speaks, when and how it goes, and what happens to what it hears.
#[derive(Clone, Debug)]
pub struct VisitPlan {
    /// How long between turns, in milliseconds.
    pub pause: (usize, usize),
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
pub(super) enum State {
    Asking,
    /// Our hello is out, where conversations begin with one.
    Greeting,
    Talking,
    /// Our goodbye is out, where conversations end with one.
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

/// What came of a handshake.
pub(super) enum Answer {
    /// Nothing yet that is whole, or nothing that makes sense.
    Partly,
    Refused,
    /// The head of the 101, and what came behind it.
    Switched(Head, Vec<u8>),
}

/// A WebSocket's way from its handshake to its end.
pub(super) struct Visit {
    pub(super) plan: VisitPlan,
    pub(super) state: State,
    pub(super) head: HeadReader,
    frames: ServerFrames,
    unpacker: Unpacker,
    /// The window that what comes compressed must fit.
    window_bits: u8,
    leaving: bool,
}

impl Visit {
    pub(super) fn new(plan: VisitPlan) -> Visit {
        Visit {
            plan,
            state: State::Asking,
            head: HeadReader::default(),
            frames: ServerFrames::default(),
            unpacker: Unpacker::default(),
            window_bits: 0,
            leaving: false,
        }
    }

    /// More of the answer to its handshake.
    pub(super) fn answered(&mut self, bytes: &[u8], hands: &mut Hands<'_>) -> Answer {
        let Some((head, rest)) = self.head.read(bytes, hands) else { return Answer::Partly };
        if head.status != 101 {
            if !hands.harsh {
                hands.fault(&format!("its handshake was answered {}", head.status));
            }
            return Answer::Refused;
        }
        if head.field("sec-websocket-accept").map(str::as_bytes) != Some(&accept_key(KEY)[..]) {
            hands.fault("C1: the 101 has another key's accept");
        }
        Answer::Switched(head, rest)
    }

    /// From now on messages may come compressed.
    pub(super) fn agree(&mut self, agreed: Agreed) {
        self.frames = ServerFrames::with_deflate();
        self.window_bits = agreed.window_bits();
    }

    /// Takes bytes of frames.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        match &mut self.plan.tamper {
            Some(tamper) => self.frames.push(&tamper.pass(bytes)),
            None => self.frames.push(bytes),
        }
    }

    /// The next frame, which is whole, and nothing follows a Close; what is wrong is told.
    pub(super) fn next_frame(&mut self, hands: &mut Hands<'_>) -> Option<(Opcode, Vec<u8>)> {
        loop {
            let read = match self.frames.next_frame() {
                Ok(None) => return None,
                Ok(Some(frame)) if frame.compressed => self
                    .unpacker
                    .unpack(frame.payload, self.window_bits)
                    .map(|message| (frame.opcode, message)),
                Ok(Some(frame)) if frame.fin => Ok((frame.opcode, frame.payload.to_vec())),
                Ok(Some(_)) => Err("a fragment, though messages are sent whole"),
                Err(fault) => Err(fault.reason),
            };
            match read {
                Ok((opcode, _)) if self.state == State::Closed => {
                    hands.fault(&format!("D15: {opcode:?} after Close"));
                }
                Ok(frame) => return Some(frame),
                Err(what) => {
                    hands.fault(what);
                    return None;
                }
            }
        }
    }

    pub(super) fn answer_ping(&self, payload: &[u8], hands: &mut Hands<'_>) {
        let mut out = Vec::new();
        encode_masked(Opcode::Pong, true, mask(hands.rng), payload, &mut out);
        if matches!(self.state, State::Greeting | State::Talking | State::Parting) {
            hands.say(&out);
        }
    }

    /// Whether it goes now that its turn has come, in which it `spoke` or had nothing to say, and has said `all` or not.
    /// If it does not, it gets another turn.
    pub(super) fn goes(&mut self, spoke: bool, all: bool, hands: &mut Hands<'_>) -> bool {
        let VisitPlan { pause, leave, abrupt, linger, .. } = self.plan;
        if spoke && all && abrupt {
            return true;
        }
        let rest = match spoke {
            true => pause,
            false if leave == Leave::Stays => return false,
            false if std::mem::replace(&mut self.leaving, true) => return true,
            false => linger,
        };
        let rest = hands.rng.millis(rest.0, rest.1);
        hands.act_in(rest);
        false
    }

    /// Goes without a Close.
    pub(super) fn cut(&mut self, hands: &mut Hands<'_>) {
        self.state = State::Over;
        match self.plan.leave {
            Leave::Stays | Leave::Close => {}
            Leave::HalfClose => {
                hands.net.half_close(hands.wire);
                self.state = State::HalfClosed;
            }
            Leave::Reset => hands.net.reset(hands.wire),
            Leave::Vanish => hands.net.vanish(hands.wire),
        }
    }

    /// Judges its end. True if that answers its own FIN, behind all that came before that.
    pub(super) fn ended(&self, end: End, hands: &mut Hands<'_>) -> bool {
        let wrong = match (end, self.state) {
            _ if hands.is_broken() => None,
            (_, State::Over | State::Closed) => None,
            (End::Fin, State::HalfClosed) => return true,
            (End::Fin, State::Asking) if self.head.has_begun() => Some("a FIN inside an answer"),
            (End::Fin, State::Asking) | (End::Reset, _) if hands.harsh => None,
            (End::Fin, State::Asking) => Some("a FIN for an answer"),
            (End::Fin, _) => Some("a FIN without Close"),
            (End::Reset, _) => Some("a RST"),
        };
        if let Some(wrong) = wrong {
            hands.fault(wrong);
        }
        false
    }

    /// What it still waits for.
    pub(super) fn is_owed(&self) -> Option<&'static str> {
        match self.state {
            State::Asking => Some("an answer to its handshake"),
            State::Greeting => Some("a WELCOME"),
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

/// A Close with this payload.
pub(super) fn close_with(payload: &[u8], hands: &mut Hands<'_>) {
    let mut out = Vec::new();
    encode_masked(Opcode::Close, true, mask(hands.rng), payload, &mut out);
    hands.say(&out);
}

pub(super) fn mask(rng: &mut Rng) -> [u8; 4] {
    (rng.draw() as u32).to_le_bytes()
}
