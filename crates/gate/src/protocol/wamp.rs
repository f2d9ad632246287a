//! WAMP as a broker (docs/protocols/wamp.md): what it hears and says.
//!
//! A session is a connection: when it ends, the WebSocket closes, as the profile lets routers choose (§2.3.2). When the
//! gateway stops there is no GOODBYE before the Close: clients take one as a wish that they do not come back.

use moongate_hub::{Joined, Kind, Message, Name, Rejection};
use moongate_io::ConnId;
use moongate_wire::frame::{Opcode, code, encode_with};
use moongate_wire::protocol::wamp::{self, Error, Fault, Publish, Said, code as message_code, reason};
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use super::{Asked, Begun, Publishing, Session};
use crate::core::{Core, token};
use crate::counts::End;
use crate::forms::{hub_kind, wire_kind};
use crate::speak::Unwelcome;

const NOT_TEXT: Unwelcome =
    Unwelcome { end: End::Protocol, code: code::UNSUPPORTED, reason: "wamp.2.json has no binary frames" };

const NO_SUCH_REALM: Unwelcome = Unwelcome {
    end: End::NotAllowed,
    code: code::POLICY,
    reason: "the realm is not here; the operator names the one that is with MOONGATE_WAMP_REALM",
};

const OVER: Unwelcome = Unwelcome { end: End::Peer, code: code::NORMAL, reason: "" };

impl Core {
    /// Acts on one message.
    pub(super) fn told_wamp(
        &mut self,
        id: ConnId,
        session: &mut Session,
        (kind, payload): (Kind, &[u8]),
        words: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        // The decoder has seen to it that text is text.
        let Some(text) = str::from_utf8(payload).ok().filter(|_| kind == Kind::Text) else {
            abort(reason::PROTOCOL_VIOLATION, NOT_TEXT.reason, words);
            return Err(NOT_TEXT);
        };
        match wamp::parse(text, session.established) {
            Ok(said) => self.do_wamp(id, session, said, words),
            Err(Fault::Violation(message)) => {
                abort(reason::PROTOCOL_VIOLATION, message, words);
                Err(Unwelcome { end: End::Protocol, code: code::PROTOCOL_ERROR, reason: message })
            }
            Err(Fault::Refused { code, request, error }) => {
                refuse(code, request, &error, words);
                Ok(())
            }
            Err(Fault::Unanswered(_)) => Ok(()),
        }
    }

    fn do_wamp(
        &mut self,
        id: ConnId,
        session: &mut Session,
        said: Said<'_>,
        words: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        match said {
            Said::Hello { realm } => return self.welcome(id, session, &realm, words),
            Said::Abort => return Err(OVER),
            Said::Goodbye => {
                answer(words, |out| wamp::goodbye(reason::GOODBYE_AND_OUT, "", out));
                return Err(OVER);
            }
            Said::Subscribe { request, topic, since } => {
                self.subscribe_wamp(id, session, request, (&topic, since.as_deref()), words);
            }
            Said::Unsubscribe { request, subscription } => {
                self.unsubscribe_wamp(session, request, subscription, words);
            }
            Said::Publish(publish) => self.publish_wamp(id, session, &publish, words),
            Said::Nothing => {}
        }
        Ok(())
    }

    /// §4.1: messages are heard only in the realm they were said in, and there is one.
    fn welcome(
        &mut self,
        id: ConnId,
        session: &mut Session,
        realm: &str,
        words: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        let here = &self.config.wamp_realm;
        if realm != here {
            let message = format!("The one realm here is {here}, which MOONGATE_WAMP_REALM can change.");
            abort(reason::NO_SUCH_REALM, &message, words);
            return Err(NO_SUCH_REALM);
        }
        session.established = true;
        answer(words, |out| wamp::welcome(wamp::session_id(self.salt, token(id).who), realm, out));
        Ok(())
    }

    fn subscribe_wamp(
        &mut self,
        id: ConnId,
        session: &mut Session,
        request: u64,
        (topic, since): (&TopicName, Option<&str>),
        words: &mut Vec<u8>,
    ) {
        let refused = |error, words: &mut Vec<u8>| refuse(message_code::SUBSCRIBE, request, &error, words);
        let since = match since.map(Since::parse) {
            None => None,
            Some(Some(since)) => Some(since),
            Some(None) => return refused(Error::SINCE, words),
        };
        let subscription = wamp::subscription_id(topic.as_str());
        if find(session, subscription).is_some_and(|name| name.as_str() != topic.as_str()) {
            return refused(Error::SAME_ID, words);
        }
        let asked = Asked { id: Some(text(request)), is_answered: true, resumes: since.is_some() };
        match self.begin_hearing(id, session, topic, since, asked) {
            Begun::Later => {}
            Begun::Now(..) => {
                answer(words, |out| wamp::subscribed(request, subscription, out));
                // What it hears may come before the end of its turn.
                self.push_echoes(id, words);
            }
            // §5.1.2: the same subscription is named again, once it is known that there is one.
            Begun::Already => {
                let asked = Asked { id: Some(text(request)), is_answered: true, resumes: false };
                if !self.wait_with_first(session, topic.as_str(), asked) {
                    answer(words, |out| wamp::subscribed(request, subscription, out));
                }
            }
            Begun::Full => refused(Error::SUBSCRIPTIONS_FULL, words),
        }
    }

    fn unsubscribe_wamp(
        &mut self,
        session: &mut Session,
        request: u64,
        subscription: u64,
        words: &mut Vec<u8>,
    ) {
        let Some(name) = find(session, subscription) else {
            return refuse(message_code::UNSUBSCRIBE, request, &Error::NO_SUCH_SUBSCRIPTION, words);
        };
        // It can be named before its SUBSCRIBED, as ids are known from before; that one comes first then.
        let unanswered = self.end_hearing(session, name.as_str()).unwrap_or_default();
        for subscribe in unanswered.iter().filter_map(|asked| asked.id.as_deref()) {
            answer(words, |out| wamp::subscribed(number(subscribe), subscription, out));
        }
        answer(words, |out| wamp::unsubscribed(request, out));
    }

    fn publish_wamp(
        &mut self,
        id: ConnId,
        session: &mut Session,
        publish: &Publish<'_>,
        words: &mut Vec<u8>,
    ) {
        let Publish { request, acknowledge, exclude_me, topic, kind, payload } = publish;
        let named = acknowledge.then(|| text(*request));
        let said = if self.config.policy.may_publish {
            let message = (hub_kind(*kind), &**payload);
            let (named, excluded) = (named.as_deref(), exclude_me.then_some(id));
            self.say(id, session, topic, message, (named, excluded)).map_err(error)
        } else {
            Err(Error::NOT_AUTHORIZED)
        };
        if let (Err(error), true) = (said, *acknowledge) {
            refuse(message_code::PUBLISH, *request, &error, words);
        }
    }
}

/// The name of the topic that a session knows by this id.
fn find(session: &Session, subscription: u64) -> Option<Name> {
    let mut names = session.subscriptions.iter().map(|subscription| &subscription.name);
    names.find(|name| wamp::subscription_id(name.as_str()) == subscription).cloned()
}

/// A request, as it is kept until it is answered.
fn text(request: u64) -> Box<str> {
    request.to_string().into()
}

fn number(request: &str) -> u64 {
    request.parse().expect("what is kept was written here")
}

pub(super) fn subscribed(asked: &Asked, name: &Name, _: &Joined, out: &mut Vec<u8>) {
    let Some(request) = &asked.id else { return };
    answer(out, |out| wamp::subscribed(number(request), wamp::subscription_id(name.as_str()), out));
}

pub(super) fn published(publishing: &Publishing, (epoch, offset): (u64, u64), out: &mut Vec<u8>) {
    let publication = wamp::publication_id(epoch, offset);
    answer(out, |out| wamp::published(number(&publishing.id), publication, out));
}

pub(super) fn message(message: &Message<'_>, out: &mut Vec<u8>) {
    let Message { name, epoch, offset, kind, payload } = *message;
    answer(out, |out| wamp::event(name.as_str(), epoch, offset, wire_kind(kind), payload, out));
}

/// What a home's refusal of a SUBSCRIBE is to a client.
pub(super) fn subscribe_refused(id: Option<&str>, why: Rejection, out: &mut Vec<u8>) {
    if let Some(request) = id {
        refuse(message_code::SUBSCRIBE, number(request), &error(why), out);
    }
}

/// What its refusal of a PUBLISH is; nothing, where no answer was asked for.
pub(super) fn publish_refused(id: Option<&str>, why: Rejection, out: &mut Vec<u8>) {
    if let Some(request) = id {
        refuse(message_code::PUBLISH, number(request), &error(why), out);
    }
}

fn error(why: Rejection) -> Error {
    match why {
        Rejection::TopicsFull => Error::TOPICS_FULL,
        Rejection::Busy => Error::BUSY,
    }
}

fn abort(reason: &str, message: &str, out: &mut Vec<u8>) {
    answer(out, |out| wamp::abort(reason, message, out));
}

fn refuse(code: u64, request: u64, error: &Error, out: &mut Vec<u8>) {
    answer(out, |out| wamp::error(code, request, error, out));
}

fn answer(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_with(Opcode::Text, out, write);
}

#[cfg(test)]
mod tests;
