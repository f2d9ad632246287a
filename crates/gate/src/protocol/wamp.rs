//! WAMP as a broker (docs/protocols/wamp.md): what it hears and says.
//!
//! A session is a connection: when it ends, the WebSocket closes, as the profile lets routers choose (§2.3.2). When the
//! gateway stops there is no GOODBYE before the Close: clients take one as a wish that they do not come back.

use moongate_hub::{Gap, Joined, Kind, Message, Name, Rejection};
use moongate_wire::frame::code;
use moongate_wire::protocol::Error;
use moongate_wire::protocol::wamp::{self, Fault, Publish, Said, code as message_code, errors, reason};
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use super::{Asked, Begun, Conversation, Publishing, Request, Session, Turn, error, text};
use crate::core::token;
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

/// The forms, which differ in what is said of a gap.
const EVENTS: usize = 0;
const EVENTS_AND_GAPS: usize = 1;

/// The protocol.
pub(super) struct Wamp;

impl Conversation for Wamp {
    /// Acts on one message.
    fn told(&self, turn: &mut Turn<'_>, (kind, payload): (Kind, &[u8])) -> Result<(), Unwelcome> {
        // The decoder has seen to it that text is text.
        let Some(text) = str::from_utf8(payload).ok().filter(|_| kind == Kind::Text) else {
            abort(reason::PROTOCOL_VIOLATION, NOT_TEXT.reason, turn.words);
            return Err(NOT_TEXT);
        };
        match wamp::parse(text, turn.session.established) {
            Ok(said) => act(turn, said),
            Err(Fault::Violation(message)) => {
                abort(reason::PROTOCOL_VIOLATION, message, turn.words);
                Err(Unwelcome { end: End::Protocol, code: code::PROTOCOL_ERROR, reason: message })
            }
            Err(Fault::Refused { code, request, error }) => {
                refuse(code, request, &error, turn.words);
                Ok(())
            }
            Err(Fault::Unanswered(_)) => Ok(()),
        }
    }

    fn published(&self, publishing: &Publishing, (epoch, offset): (u64, u64), out: &mut Vec<u8>) {
        let publication = wamp::publication_id(epoch, offset);
        text(out, |out| wamp::published(number(&publishing.id), publication, out));
    }

    fn subscribed(&self, asked: &Asked, name: &Name, _: &Joined, out: &mut Vec<u8>) {
        let Some(request) = &asked.id else { return };
        text(out, |out| wamp::subscribed(number(request), wamp::subscription_id(name.as_str()), out));
    }

    /// Nothing, where no answer was asked for.
    fn refused(&self, request: Request, id: Option<&str>, why: Rejection, out: &mut Vec<u8>) {
        let code = match request {
            Request::Subscribe => message_code::SUBSCRIBE,
            Request::Publish => message_code::PUBLISH,
        };
        if let Some(id) = id {
            refuse(code, number(id), &errors::unavailable(error(why)), out);
        }
    }

    fn message(&self, _: usize, message: &Message<'_>, out: &mut Vec<u8>) {
        let Message { name, epoch, offset, kind, payload } = *message;
        text(out, |out| wamp::event(name.as_str(), epoch, offset, wire_kind(kind), payload, out));
    }

    /// The protocol has no word for that, and clients call their handlers for all that comes: so this is for those who
    /// asked for it. To the others events show by their places that some are missing.
    fn gap(&self, which: usize, gap: &Gap<'_>, out: &mut Vec<u8>) {
        let Gap { name, epoch, from, to, previous_epoch } = *gap;
        if which == EVENTS_AND_GAPS {
            text(out, |out| wamp::gap(name.as_str(), epoch, (from, to), previous_epoch, out));
        }
    }
}

fn act(turn: &mut Turn<'_>, said: Said<'_>) -> Result<(), Unwelcome> {
    match said {
        Said::Hello { realm } => return welcome(turn, &realm),
        Said::Abort => return Err(OVER),
        Said::Goodbye => {
            text(turn.words, |out| wamp::goodbye(reason::GOODBYE_AND_OUT, "", out));
            return Err(OVER);
        }
        Said::Subscribe { request, topic, since, gaps } => {
            let which = if gaps { EVENTS_AND_GAPS } else { EVENTS };
            subscribe(turn, request, (&topic, which), since.as_deref());
        }
        Said::Unsubscribe { request, subscription } => unsubscribe(turn, request, subscription),
        Said::Publish(said) => publish(turn, &said),
        Said::Nothing => {}
    }
    Ok(())
}

/// §4.1: messages are heard only in the realm they were said in, and there is one.
fn welcome(turn: &mut Turn<'_>, realm: &str) -> Result<(), Unwelcome> {
    let here = &turn.core.config.wamp_realm;
    if realm != here {
        let message = format!("The one realm here is {here}, which MOONGATE_WAMP_REALM can change.");
        abort(reason::NO_SUCH_REALM, &message, turn.words);
        return Err(NO_SUCH_REALM);
    }
    turn.session.established = true;
    let session = wamp::session_id(turn.core.salt, token(turn.id).who);
    text(turn.words, |out| wamp::welcome(session, realm, out));
    Ok(())
}

fn subscribe(turn: &mut Turn<'_>, request: u64, (topic, which): (&TopicName, usize), since: Option<&str>) {
    let since = match since.map(Since::parse) {
        None => None,
        Some(Some(since)) => Some(since),
        Some(None) => return refuse(message_code::SUBSCRIBE, request, &errors::SINCE, turn.words),
    };
    let subscription = wamp::subscription_id(topic.as_str());
    if find(turn.session, subscription).is_some_and(|name| name.as_str() != topic.as_str()) {
        return refuse(message_code::SUBSCRIBE, request, &errors::SAME_ID, turn.words);
    }
    let asked = Asked { id: Some(kept(request)), is_answered: true, resumes: since.is_some() };
    match turn.begin_hearing(topic, since, which, asked) {
        Begun::Later => {}
        Begun::Now(..) => {
            text(turn.words, |out| wamp::subscribed(request, subscription, out));
            turn.send_words();
        }
        // §5.1.2: the same subscription is named again, once it is known that there is one.
        Begun::Already => {
            let asked = Asked { id: Some(kept(request)), is_answered: true, resumes: false };
            if !turn.wait_with_first(topic.as_str(), asked) {
                text(turn.words, |out| wamp::subscribed(request, subscription, out));
            }
        }
        Begun::Full => refuse(message_code::SUBSCRIBE, request, &errors::SUBSCRIPTIONS_FULL, turn.words),
    }
}

fn unsubscribe(turn: &mut Turn<'_>, request: u64, subscription: u64) {
    let Some(name) = find(turn.session, subscription) else {
        return refuse(message_code::UNSUBSCRIBE, request, &errors::NO_SUCH_SUBSCRIPTION, turn.words);
    };
    // It can be named before its SUBSCRIBED, as ids are known from before; that one comes first then.
    let unanswered = turn.end_hearing(name.as_str()).unwrap_or_default();
    for subscribe in unanswered.iter().filter_map(|asked| asked.id.as_deref()) {
        text(turn.words, |out| wamp::subscribed(number(subscribe), subscription, out));
    }
    text(turn.words, |out| wamp::unsubscribed(request, out));
}

fn publish(turn: &mut Turn<'_>, said: &Publish<'_>) {
    let Publish { request, acknowledge, exclude_me, topic, kind, payload } = said;
    let named = acknowledge.then(|| kept(*request));
    let said = if turn.core.config.policy.may_publish {
        let excluded = exclude_me.then_some(turn.id);
        let said = turn.say(topic, (hub_kind(*kind), payload), (named.as_deref(), excluded));
        said.map_err(|why| errors::unavailable(error(why)))
    } else {
        Err(errors::NOT_AUTHORIZED)
    };
    if let (Err(error), true) = (said, *acknowledge) {
        refuse(message_code::PUBLISH, *request, &error, turn.words);
    }
}

/// The name of the topic that a session knows by this id.
fn find(session: &Session, subscription: u64) -> Option<Name> {
    let mut names = session.subscriptions.iter().map(|subscription| &subscription.name);
    names.find(|name| wamp::subscription_id(name.as_str()) == subscription).cloned()
}

/// A request, as it is kept until it is answered.
fn kept(request: u64) -> Box<str> {
    request.to_string().into()
}

fn number(kept: &str) -> u64 {
    kept.parse().expect("what is kept was written here")
}

fn abort(reason: &str, message: &str, out: &mut Vec<u8>) {
    text(out, |out| wamp::abort(reason, message, out));
}

fn refuse(code: u64, request: u64, error: &Error, out: &mut Vec<u8>) {
    text(out, |out| wamp::error(code, request, error, out));
}

#[cfg(test)]
mod tests;
