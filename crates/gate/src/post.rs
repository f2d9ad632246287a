//! Speaking to a topic by POST: the body, its place, the answer.

use std::net::SocketAddr;

use moongate_hub::{Kind, Ordered, Patience, Published, Rejection, Token};
use moongate_io::ConnId;
use moongate_wire::answer::{Answer, CONTINUE};
use moongate_wire::body::BodyReader;
use moongate_wire::decide::Publish;
use moongate_wire::json::is_json;
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::utf8::is_utf8;

use crate::conn::{Draft, Mode, Ordering, Place, Posting, Speaking};
use crate::core::{Core, named_by, reason, token};
use crate::enter::Asked;
use crate::forms::hub_kind;
use crate::leave::ended_too;

impl Core {
    pub(crate) fn post(&mut self, id: ConnId, peer: SocketAddr, publish: Publish, rest: &[u8]) -> Mode {
        let Publish { topic, kind, framing, expect_continue, cors } = publish;
        let message = Draft { peer, topic, kind: hub_kind(kind), cors };
        if expect_continue {
            self.push(id, |_, out| out.extend_from_slice(CONTINUE));
        }
        self.wheel.set(id.slot(), self.after(self.config.body_timeout));
        let reader = BodyReader::new(framing, self.config.policy.message_bytes_max);
        self.read_body(id, Box::new(Posting { message, reader, body: Vec::new() }), rest)
    }

    pub(crate) fn read_body(&mut self, id: ConnId, mut posting: Box<Posting>, bytes: &[u8]) -> Mode {
        match posting.reader.read(bytes, &mut posting.body) {
            Ok((_, true)) => self.publish_body(id, *posting),
            Ok((_, false)) => Mode::Body(posting),
            Err(refusal) => self.refuse_post(id, &posting.message, refusal),
        }
    }

    fn publish_body(&mut self, id: ConnId, posting: Posting) -> Mode {
        let Posting { message, body, .. } = posting;
        let wrong = match message.kind {
            Kind::Text if !is_utf8(&body) => Some(Reason::NotText),
            Kind::Json if !is_json(&body) => Some(Reason::NotJson),
            Kind::Text | Kind::Json | Kind::Binary => None,
        };
        if let Some(reason) = wrong {
            return self.refuse_post(id, &message, reason.into());
        }
        let name = self.hub.name(message.topic.as_str());
        match self.hub.publish(token(id), &name, message.kind, &body, Patience::Leaves, None) {
            Published::Rejected(why) => self.refuse_post(id, &message, reason(why).into()),
            Published::Pending => {
                self.wheel.set(id.slot(), self.after(self.config.order_timeout));
                Mode::Ordering(Box::new(Ordering { message, peer_ended: false }))
            }
        }
    }

    fn answer_ordered(&mut self, id: ConnId, message: &Draft, ordered: Ordered) -> Mode {
        self.counts.posted += 1;
        let Ordered { epoch, offset, .. } = ordered;
        self.answer(id, Answer::published(&message.topic, epoch, offset, &message.cors))
    }

    /// Refuses so that the page that asked may read why.
    pub(crate) fn refuse_post(&mut self, id: ConnId, message: &Draft, refusal: Refusal) -> Mode {
        self.refuse(id, message.peer, Asked::Topic(&message.topic), refusal.cors(message.cors.clone()))
    }

    /// Homes have ordered messages of one connection of this shard: one of a POST is answered, those of a WebSocket open its
    /// window.
    pub(crate) fn ordered(&mut self, all: &[Ordered]) {
        let Some(ordered) = all.first().copied() else { return };
        let id = named_by(ordered.token);
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match mode {
            Mode::Ordering(ordering) => {
                let mode = self.answer_ordered(id, &ordering.message, ordered);
                ended_too(mode, ordering.peer_ended)
            }
            Mode::Speaking(mut speaking) => {
                if let Place::Session(session) = &mut speaking.place {
                    self.session_ordered(id, session, all);
                }
                let bytes = all.iter().fold(0, |sum: u32, ordered| sum.saturating_add(ordered.bytes));
                return self.widen(id, speaking, bytes);
            }
            other => other,
        };
        self.settle(id, mode);
    }

    pub(crate) fn widen(&mut self, id: ConnId, speaking: Speaking, bytes: u32) {
        let (mode, peer_ended) = self.widen_window(id, speaking, bytes);
        self.settle(id, mode);
        if peer_ended {
            self.peer_ended(id);
        }
    }

    /// A home has not taken a message of this shard.
    pub(crate) fn rejected(&mut self, token: Token, bytes: u32, why: Rejection) {
        let id = named_by(token);
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match mode {
            Mode::Ordering(ordering) => {
                let mode = self.refuse_post(id, &ordering.message, reason(why).into());
                ended_too(mode, ordering.peer_ended)
            }
            Mode::Speaking(mut speaking) => {
                if let Place::Session(session) = &mut speaking.place {
                    self.session_rejected(id, session, token, why);
                }
                return self.widen(id, speaking, bytes);
            }
            other => other,
        };
        self.settle(id, mode);
    }
}
