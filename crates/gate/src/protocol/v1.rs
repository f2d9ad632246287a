//! `moongate.v1` (docs/protocols/moongate-v1.md): what it hears and says.

use moongate_hub::{Gap, Joined, Kind, Message, Name, Rejection};
use moongate_io::ConnId;
use moongate_wire::frame::{Opcode, code, encode_with};
use moongate_wire::protocol::v1::{self, Ask, Error, Malformed, Request};
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use super::{Asked, Begun, Publishing, Session};
use crate::core::Core;
use crate::counts::End;
use crate::forms::{hub_kind, wire_kind};
use crate::speak::Unwelcome;

const NOT_TEXT: Unwelcome = Unwelcome {
    end: End::Protocol,
    code: code::UNSUPPORTED,
    reason: "moongate.v1 has no binary frames; publish bytes as base64",
};

const NOT_AN_OBJECT: Unwelcome = Unwelcome {
    end: End::Protocol,
    code: code::INVALID_DATA,
    reason: "moongate.v1 wants one JSON object in each text frame",
};

impl Core {
    /// Subscribes to the topic of the URL, if there is one: the first words are the answer.
    pub(super) fn begin_v1(
        &mut self,
        id: ConnId,
        session: &mut Session,
        topic: Option<&TopicName>,
        since: Option<Since>,
        words: &mut Vec<u8>,
    ) {
        if let Some(topic) = topic {
            let asked = Asked { id: None, is_answered: true, resumes: since.is_some() };
            self.subscribe_v1(id, session, topic, since, asked, words);
        }
    }

    /// Does what one frame asks for.
    pub(super) fn told_v1(
        &mut self,
        id: ConnId,
        session: &mut Session,
        (kind, payload): (Kind, &[u8]),
        words: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        // The decoder has seen to it that text is text.
        let text = str::from_utf8(payload).ok().filter(|_| kind == Kind::Text).ok_or(NOT_TEXT)?;
        let Request { id: request, ask } = match v1::parse(text) {
            Ok(request) => request,
            Err(Malformed::Unreadable) => return Err(NOT_AN_OBJECT),
            Err(Malformed::Refused { id, error }) => {
                refuse(id, &error, words);
                return Ok(());
            }
        };
        match ask {
            Ask::Subscribe { topic, since } => match since.map(|since| Since::parse(&since)) {
                Some(None) => refuse(request, &Error::SINCE, words),
                since => {
                    let since = since.flatten();
                    let is_answered = request.is_some();
                    let asked = Asked { id: request.map(Into::into), is_answered, resumes: since.is_some() };
                    self.subscribe_v1(id, session, &topic, since, asked, words);
                }
            },
            Ask::Unsubscribe { topic } => match self.end_hearing(session, topic.as_str()) {
                None => refuse(request, &Error::NOT_SUBSCRIBED, words),
                Some(unanswered) => {
                    // Answers and messages that wait go out first: nothing of the topic comes after this.
                    for asked in unanswered {
                        refuse(asked.id.as_deref(), &Error::CANCELLED, words);
                    }
                    if request.is_some() {
                        answer(words, |out| v1::unsubscribed(request, topic.as_str(), out));
                    }
                }
            },
            Ask::Publish { .. } if !self.config.policy.may_publish => {
                refuse(request, &Error::MAY_ONLY_LISTEN, words);
            }
            Ask::Publish { topic, kind, payload } => {
                let message = (hub_kind(kind), &*payload);
                if let Err(why) = self.say(id, session, &topic, message, (request, None)) {
                    refused(request, why, words);
                }
            }
            Ask::Ping => answer(words, |out| v1::pong(request, out)),
        }
        Ok(())
    }

    fn subscribe_v1(
        &mut self,
        id: ConnId,
        session: &mut Session,
        topic: &TopicName,
        since: Option<Since>,
        asked: Asked,
        words: &mut Vec<u8>,
    ) {
        let now = Asked { id: asked.id.clone(), ..asked };
        match self.begin_hearing(id, session, topic, since, asked) {
            Begun::Later => {}
            Begun::Now(name, joined) => {
                subscribed(&now, &name, &joined, words);
                // What it hears may come before the end of its turn.
                self.push_echoes(id, words);
            }
            Begun::Already => refuse(now.id.as_deref(), &Error::ALREADY_SUBSCRIBED, words),
            Begun::Full => refuse(now.id.as_deref(), &Error::SUBSCRIPTIONS_FULL, words),
        }
    }
}

pub(super) fn subscribed(asked: &Asked, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
    if !asked.is_answered {
        return;
    }
    let place = (joined.epoch, joined.offset);
    let recovered = asked.resumes.then_some(joined.recovered);
    answer(out, |out| v1::subscribed(asked.id.as_deref(), name.as_str(), place, recovered, out));
}

pub(super) fn published(publishing: &Publishing, place: (u64, u64), out: &mut Vec<u8>) {
    let Publishing { id, name, .. } = publishing;
    answer(out, |out| v1::published(Some(id), name.as_str(), place, out));
}

pub(super) fn message(message: &Message<'_>, out: &mut Vec<u8>) {
    let Message { name, epoch, offset, kind, payload } = *message;
    answer(out, |out| v1::message(name.as_str(), epoch, offset, wire_kind(kind), payload, out));
}

pub(super) fn gap(gap: &Gap<'_>, out: &mut Vec<u8>) {
    let Gap { name, epoch, from, to, previous_epoch } = *gap;
    answer(out, |out| v1::gap(name.as_str(), epoch, (from, to), previous_epoch, out));
}

/// What a home's refusal is to a client.
pub(super) fn refused(id: Option<&str>, why: Rejection, out: &mut Vec<u8>) {
    let error = match why {
        Rejection::TopicsFull => Error::TOPICS_FULL,
        Rejection::Busy => Error::BUSY,
    };
    refuse(id, &error, out);
}

fn refuse(id: Option<&str>, error: &Error, out: &mut Vec<u8>) {
    answer(out, |out| v1::error(id, error, out));
}

fn answer(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_with(Opcode::Text, out, write);
}

#[cfg(test)]
mod tests;
