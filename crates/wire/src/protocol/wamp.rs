//! WAMP version 2 in the broker's role, as JSON (docs/protocols/wamp.md): what clients say, and what they are told.
//!
//! Sections are those of the WAMP basic profile (wamp-proto.org, draft-oberstet-hybi-crossbar-wamp), and "advanced" those of the
//! advanced one. A message is a JSON array that begins with its type (§3). The payload comes last in it and is not looked
//! into further than it must be (§3.3): [`payload`] says how it becomes a message of a topic and an event again.
//!
//! One rule is not enforced: that a client counts its requests up by one (§2.1.2). Clients older than it draw their
//! numbers at random, and nothing here depends on it.

mod parse;
mod payload;

use super::Error;
use crate::event::decimal;
use crate::json;
use crate::refusal::Reason;

pub use parse::{Fault, Publish, Said, is_uri, parse};
pub use payload::{event, gap};

/// The subprotocol's name in `Sec-WebSocket-Protocol` (§2.3.1).
pub const NAME: &str = "wamp.2.json";

/// A name that it never had, and that books give it.
pub const ALIAS: &str = "wamp";

/// The largest number that may identify something: every integer up to it is a double (§2.1.2).
pub const ID_MAX: u64 = 1 << 53;

/// Types of messages (§3.5), and those of the advanced profile that a client may send.
pub mod code {
    /// Client to router: opens a session.
    pub const HELLO: u64 = 1;
    /// Router to client: the session is open.
    pub const WELCOME: u64 = 2;
    /// Either: there is no session, or none any more.
    pub const ABORT: u64 = 3;
    /// Either: ends a session, and answers that.
    pub const GOODBYE: u64 = 6;
    /// Router to client here: a request is not done.
    pub const ERROR: u64 = 8;
    /// Client to broker.
    pub const PUBLISH: u64 = 16;
    /// Broker to client.
    pub const PUBLISHED: u64 = 17;
    /// Client to broker.
    pub const SUBSCRIBE: u64 = 32;
    /// Broker to client.
    pub const SUBSCRIBED: u64 = 33;
    /// Client to broker.
    pub const UNSUBSCRIBE: u64 = 34;
    /// Broker to client.
    pub const UNSUBSCRIBED: u64 = 35;
    /// Broker to client.
    pub const EVENT: u64 = 36;
    /// Client to dealer.
    pub const CALL: u64 = 48;
    /// Client to dealer (advanced).
    pub const CANCEL: u64 = 49;
    /// Client to dealer.
    pub const REGISTER: u64 = 64;
    /// Client to dealer.
    pub const UNREGISTER: u64 = 66;
}

/// Why a session ends, as a URI (§8).
pub mod reason {
    /// The answer to any GOODBYE.
    pub const GOODBYE_AND_OUT: &str = "wamp.close.goodbye_and_out";
    /// The gateway goes away.
    pub const SYSTEM_SHUTDOWN: &str = "wamp.close.system_shutdown";
    /// A realm that is not here was asked for.
    pub const NO_SUCH_REALM: &str = "wamp.error.no_such_realm";
    /// §2.3.3.
    pub const PROTOCOL_VIOLATION: &str = "wamp.error.protocol_violation";
}

/// Why a request is not done: codes are URIs (§8).
pub mod errors {
    use super::{Error, Reason};

    const INVALID_URI: &str = "wamp.error.invalid_uri";
    const UNAVAILABLE: &str = "wamp.error.unavailable";

    /// The topic is no URI as WAMP has them (§2.1.1).
    pub const URI: Error = Error {
        code: INVALID_URI,
        reason: "A part of the topic between dots is empty, or has whitespace or # in it.",
        hint: "Name the topic as in com.example.news; topics with other names can be reached by other protocols.",
    };
    /// The topic is the protocol's own (§2.1.1).
    pub const RESERVED: Error = Error {
        code: INVALID_URI,
        reason: "Topics that begin with wamp. are the protocol's own, and there are none here.",
        hint: "Name the topic otherwise; there are no meta events to subscribe to.",
    };
    /// Patterns are not matched (advanced, pattern-based subscription).
    pub const MATCH: Error = Error {
        code: "wamp.error.option_not_allowed",
        reason: "Subscriptions to patterns are not offered.",
        hint: "Leave the option match out, or send \"exact\", and subscribe to each topic by its name.",
    };
    /// A subscription cannot begin there.
    pub const SINCE: Error = Error {
        code: "wamp.error.invalid_argument",
        reason: "The option _since is neither \"0\" nor an epoch of 16 hexadecimal digits, a hyphen and an offset.",
        hint: "Send _epoch and _offset of the last event as \"<epoch>-<offset>\", \"0\" for all that is kept, or leave it out.",
    };
    /// Who hears cannot be chosen (advanced, subscriber black- and whitelisting).
    pub const LISTING: Error = Error {
        code: "wamp.error.option_not_allowed",
        reason: "Choosing or leaving out subscribers is not offered, and this would have been heard by all.",
        hint: "Leave out the options that begin with eligible and exclude, except exclude_me.",
    };
    /// Payloads are not passed through unseen (advanced, payload passthru mode).
    pub const PASSTHRU: Error = Error {
        code: "wamp.error.option_not_allowed",
        reason: "Payload passthru mode is not offered, and nobody could have read this.",
        hint: "Leave out the options that begin with ppt_.",
    };
    /// The payload is too deep.
    pub const DEPTH: Error = Error {
        code: "wamp.error.invalid_argument",
        reason: "Arrays and objects in the payload lie more than 126 deep in each other.",
        hint: "Send a flatter value, or send it as one string.",
    };
    /// There is no such subscription (§5.1.6).
    pub const NO_SUCH_SUBSCRIPTION: Error = Error {
        code: "wamp.error.no_such_subscription",
        reason: "This session has no such subscription.",
        hint: "Send the subscription's id as SUBSCRIBED said it, once.",
    };
    /// Who connects may not publish.
    pub const NOT_AUTHORIZED: Error = Error::MAY_ONLY_LISTEN.called("wamp.error.not_authorized");
    /// Two topics have the same id.
    pub const SAME_ID: Error = Error {
        code: UNAVAILABLE,
        reason: "The topic's id is that of another topic that this session has subscribed to.",
        hint: "Rename one of the two, or open another session: ids are made from names, and these two happen to agree.",
    };
    /// There can be no more subscriptions.
    pub const SUBSCRIPTIONS_FULL: Error = Error::SUBSCRIPTIONS_FULL.called(UNAVAILABLE);
    /// There is no dealer: nothing can be called (§6.2.6).
    pub const NO_SUCH_PROCEDURE: Error = Error {
        code: "wamp.error.no_such_procedure",
        reason: "This router is a broker and no dealer: there are no procedures.",
        hint: "Subscribe and publish here, and make calls elsewhere.",
    };
    /// Nor can anything be registered (§6.1.3).
    pub const NO_DEALER: Error = Error {
        code: "wamp.error.not_authorized",
        reason: "This router is a broker and no dealer: no procedure can be registered.",
        hint: "Subscribe and publish here, and register procedures elsewhere.",
    };
    /// And nothing is (§6.1.6).
    pub const NO_SUCH_REGISTRATION: Error = Error {
        code: "wamp.error.no_such_registration",
        reason: "This router is a broker and no dealer: there are no registrations.",
        hint: "Register procedures elsewhere.",
    };

    /// No topic can have the name that was given.
    pub(super) fn topic(reason: Reason) -> Error {
        Error::topic(reason).called(INVALID_URI)
    }

    /// The topic's home does not do it.
    pub const fn unavailable(why: Error) -> Error {
        why.called(UNAVAILABLE)
    }
}

/// Appends the answer to HELLO: a session is open (§4.1.2).
pub fn welcome(session: u64, realm: &str, out: &mut Vec<u8>) {
    head(code::WELCOME, out);
    number(session, out);
    out.extend_from_slice(b",{\"realm\":");
    json::string(realm.as_bytes(), out);
    out.extend_from_slice(
        b",\"agent\":\"Moongate\",\"roles\":{\"broker\":{\"features\":{\"publisher_exclusion\":true}}}}]",
    );
}

/// Appends that there is no session, or none any more, and why, for a program and for a person (§4.1.3).
pub fn abort(reason: &str, message: &str, out: &mut Vec<u8>) {
    ending(code::ABORT, reason, message, out);
}

/// Appends the end of a session, or the answer to that (§4.2.1).
pub fn goodbye(reason: &str, message: &str, out: &mut Vec<u8>) {
    ending(code::GOODBYE, reason, message, out);
}

fn ending(code: u64, reason: &str, message: &str, out: &mut Vec<u8>) {
    head(code, out);
    out.extend_from_slice(b",{");
    if !message.is_empty() {
        out.extend_from_slice(b"\"message\":");
        json::string(message.as_bytes(), out);
    }
    out.extend_from_slice(b"},");
    json::string(reason.as_bytes(), out);
    out.push(b']');
}

/// Appends the answer to a SUBSCRIBE (§5.1.2); the subscription's id is its topic's: see [`subscription_id`].
pub fn subscribed(request: u64, subscription: u64, out: &mut Vec<u8>) {
    numbers([code::SUBSCRIBED, request, subscription], out);
}

/// Appends the answer to an UNSUBSCRIBE (§5.1.5).
pub fn unsubscribed(request: u64, out: &mut Vec<u8>) {
    numbers([code::UNSUBSCRIBED, request], out);
}

/// Appends the answer to a PUBLISH that asked for one (§5.2.2); its id is made from its place: see [`publication_id`].
pub fn published(request: u64, publication: u64, out: &mut Vec<u8>) {
    numbers([code::PUBLISHED, request, publication], out);
}

/// Appends the answer to a request of type `code` that is not done. What a person may want to know is its argument.
pub fn error(code: u64, request: u64, error: &Error, out: &mut Vec<u8>) {
    head(code::ERROR, out);
    number(code, out);
    number(request, out);
    out.extend_from_slice(b",{},");
    json::string(error.code.as_bytes(), out);
    out.extend_from_slice(b",[");
    json::string(format!("{} {}", error.reason, error.hint).as_bytes(), out);
    out.extend_from_slice(b"]]");
}

/// The id of all subscriptions to `topic`, the same for every session, so that an event is written once for all (§5.1.2).
pub fn subscription_id(topic: &str) -> u64 {
    id(topic.as_bytes())
}

/// The id of the message at `offset` in the life `epoch` of a topic. Epochs are drawn at random, and so these are spread
/// over all ids (§2.1.2).
pub fn publication_id(epoch: u64, offset: u64) -> u64 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&epoch.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    id(&place)
}

/// The id of the session of the connection `number` among those that share `salt`, which was drawn at random.
pub fn session_id(salt: u64, number: u64) -> u64 {
    publication_id(salt, number)
}

fn id(bytes: &[u8]) -> u64 {
    in_range(siphasher::sip::SipHasher13::new().hash(bytes))
}

fn in_range(hash: u64) -> u64 {
    (hash >> (u64::BITS - ID_MAX.ilog2())) + 1
}

fn head(code: u64, out: &mut Vec<u8>) {
    out.push(b'[');
    decimal(code, out);
}

fn number(number: u64, out: &mut Vec<u8>) {
    out.push(b',');
    decimal(number, out);
}

fn numbers<const COUNT: usize>(numbers: [u64; COUNT], out: &mut Vec<u8>) {
    for (index, number) in numbers.into_iter().enumerate() {
        out.push(if index == 0 { b'[' } else { b',' });
        decimal(number, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests;
