//! `moongate.v1` (docs/protocols/moongate-v1.md): what it hears and says.

use moongate_hub::{Gap, Joined, Kind, Message, Name, Rejection};
use moongate_wire::frame::code;
use moongate_wire::protocol::Error;
use moongate_wire::protocol::v1::{self, Ask, Malformed, Request, errors};
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use super::{Asked, Begun, Conversation, Publishing, Turn, error, text};
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

/// The protocol.
pub(super) struct V1;

impl Conversation for V1 {
    /// Subscribes to the topic of the URL, if there is one: the first words are the answer.
    fn begin(&self, turn: &mut Turn<'_>, topic: Option<&TopicName>, since: Option<Since>) {
        if let Some(topic) = topic {
            let asked = Asked { id: None, is_answered: true, resumes: since.is_some() };
            subscribe(turn, topic, since, asked);
        }
    }

    /// Does what one frame asks for.
    fn told(&self, turn: &mut Turn<'_>, (kind, payload): (Kind, &[u8])) -> Result<(), Unwelcome> {
        // The decoder has seen to it that text is text.
        let text = str::from_utf8(payload).ok().filter(|_| kind == Kind::Text).ok_or(NOT_TEXT)?;
        match v1::parse(text) {
            Ok(Request { id, ask }) => act(turn, id, ask),
            Err(Malformed::Unreadable) => return Err(NOT_AN_OBJECT),
            Err(Malformed::Refused { id, error }) => refuse(id, &error, turn.words),
        }
        Ok(())
    }

    fn published(&self, publishing: &Publishing, place: (u64, u64), out: &mut Vec<u8>) {
        let Publishing { id, name, .. } = publishing;
        text(out, |out| v1::published(Some(id), name.as_str(), place, out));
    }

    fn subscribed(&self, asked: &Asked, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
        if !asked.is_answered {
            return;
        }
        let place = (joined.epoch, joined.offset);
        let recovered = asked.resumes.then_some(joined.recovered);
        text(out, |out| v1::subscribed(asked.id.as_deref(), name.as_str(), place, recovered, out));
    }

    fn refused(&self, _: super::Request, id: Option<&str>, why: Rejection, out: &mut Vec<u8>) {
        refuse(id, &error(why), out);
    }

    fn message(&self, _: usize, message: &Message<'_>, out: &mut Vec<u8>) {
        let Message { name, epoch, offset, kind, payload } = *message;
        text(out, |out| v1::message(name.as_str(), epoch, offset, wire_kind(kind), payload, out));
    }

    fn gap(&self, _: usize, gap: &Gap<'_>, out: &mut Vec<u8>) {
        let Gap { name, epoch, from, to, previous_epoch } = *gap;
        text(out, |out| v1::gap(name.as_str(), epoch, (from, to), previous_epoch, out));
    }
}

fn act(turn: &mut Turn<'_>, request: Option<&str>, ask: Ask<'_>) {
    match ask {
        Ask::Subscribe { topic, since } => match since.map(|since| Since::parse(&since)) {
            Some(None) => refuse(request, &errors::SINCE, turn.words),
            since => {
                let since = since.flatten();
                let is_answered = request.is_some();
                let asked = Asked { id: request.map(Into::into), is_answered, resumes: since.is_some() };
                subscribe(turn, &topic, since, asked);
            }
        },
        Ask::Unsubscribe { topic } => match turn.end_hearing(topic.as_str()) {
            None => refuse(request, &errors::NOT_SUBSCRIBED, turn.words),
            Some(unanswered) => {
                // Answers and messages that wait go out first: nothing of the topic comes after this.
                for asked in unanswered {
                    refuse(asked.id.as_deref(), &errors::CANCELLED, turn.words);
                }
                if request.is_some() {
                    text(turn.words, |out| v1::unsubscribed(request, topic.as_str(), out));
                }
            }
        },
        Ask::Publish { .. } if !turn.core.config.policy.may_publish => {
            refuse(request, &Error::MAY_ONLY_LISTEN, turn.words);
        }
        Ask::Publish { topic, kind, payload } => {
            if let Err(why) = turn.say(&topic, (hub_kind(kind), &payload), (request, None)) {
                refuse(request, &error(why), turn.words);
            }
        }
        Ask::Ping => text(turn.words, |out| v1::pong(request, out)),
    }
}

fn subscribe(turn: &mut Turn<'_>, topic: &TopicName, since: Option<Since>, asked: Asked) {
    let now = Asked { id: asked.id.clone(), ..asked };
    match turn.begin_hearing(topic, since, 0, asked) {
        Begun::Later => {}
        Begun::Now(name, joined) => {
            V1.subscribed(&now, &name, &joined, turn.words);
            turn.send_words();
        }
        Begun::Already => refuse(now.id.as_deref(), &errors::ALREADY_SUBSCRIBED, turn.words),
        Begun::Full => refuse(now.id.as_deref(), &Error::SUBSCRIPTIONS_FULL, turn.words),
    }
}

fn refuse(id: Option<&str>, error: &Error, out: &mut Vec<u8>) {
    text(out, |out| v1::error(id, error, out));
}

#[cfg(test)]
mod tests;
