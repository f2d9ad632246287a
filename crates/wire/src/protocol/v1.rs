//! `moongate.v1`: many topics on one connection, in text frames that are one JSON object each
//! (docs/protocols/moongate-v1.md).
//!
//! A request is read without copying: what it says is borrowed from the frame wherever nothing in it is escaped. Members
//! that are not known are passed over, so that clients may be newer than the server; of members given twice the last
//! counts, as in JavaScript. `null` is as good as nothing.

use std::borrow::Cow;
use std::fmt;

use base64_simd::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Error;
use crate::event::{decimal, hexadecimal, missing};
use crate::json;
use crate::refusal::Reason;
use crate::topic::TopicName;
use crate::{Kind, copy};

/// The subprotocol's name in `Sec-WebSocket-Protocol`.
pub const NAME: &str = "moongate.v1";

/// How long an `id` may be, as it is written in the request.
pub const ID_BYTES_MAX: usize = 64;

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request<'m> {
    /// What the answer is to name, as it was written: a JSON number or string. Without it there is no answer, unless it is
    /// an error.
    pub id: Option<&'m str>,
    /// What is to be done.
    pub ask: Ask<'m>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask<'m> {
    /// Hear a topic.
    Subscribe {
        /// Which.
        topic: TopicName,
        /// The last message that was heard, as `<epoch>-<offset>`, or `0`; not looked at here.
        since: Option<Cow<'m, str>>,
    },
    /// Hear a topic no more.
    Unsubscribe {
        /// Which.
        topic: TopicName,
    },
    /// Say something.
    Publish {
        /// Where.
        topic: TopicName,
        /// What the payload is.
        kind: Kind,
        /// What is said.
        payload: Cow<'m, [u8]>,
    },
    /// Answer.
    Ping,
}

/// Why a frame is not a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed<'m> {
    /// It is no JSON object at all: the two sides do not speak the same protocol, and the conversation ends.
    Unreadable,
    /// It asks for something that cannot be: that is answered.
    Refused {
        /// What the answer is to name.
        id: Option<&'m str>,
        /// What is wrong.
        error: Error,
    },
}

/// What is wrong with a request, beside what can be wrong in every protocol.
pub mod errors {
    use super::Error;

    /// `type` is missing or unknown.
    pub const TYPE: Error = Error {
        code: "request-type",
        reason: "The request's type is missing or unknown.",
        hint: "Send \"type\" as \"subscribe\", \"unsubscribe\", \"publish\" or \"ping\".",
    };
    /// `id` cannot be named in an answer.
    pub const ID: Error = Error {
        code: "request-id",
        reason: "The request's id is neither a number nor a string, or longer than 64 bytes.",
        hint: "Send \"id\" as a short number that counts up, or leave it out where no answer is wanted.",
    };
    /// `topic` is missing.
    pub const TOPIC: Error = Error {
        code: "topic-name",
        reason: "The request names no topic.",
        hint: "Send \"topic\" as a string, such as \"news\".",
    };
    /// `since` is not what can be resumed from.
    pub const SINCE: Error = Error {
        code: "since",
        reason: "since is neither \"0\" nor an epoch of 16 hexadecimal digits, a hyphen and an offset.",
        hint: "Send the epoch and the offset of the last message as \"<epoch>-<offset>\", \"0\" for all that is kept, or \
               leave it out.",
    };
    /// There is nothing to publish, or more than one thing.
    pub const PAYLOAD: Error = Error {
        code: "payload",
        reason: "A publish says one thing, and this one has none, or more than one, of text, json and base64.",
        hint: "Send \"text\" with a string, \"json\" with any value, or \"base64\" with the base64 of bytes.",
    };
    /// `text` is no text.
    pub const TEXT: Error = Error {
        code: "payload",
        reason: "text is not a string that can be written in UTF-8.",
        hint: "Send \"text\" as a string without lone surrogates, or any other value as \"json\".",
    };
    /// `json` is too deep.
    pub const DEPTH: Error = Error {
        code: "payload",
        reason: "Arrays and objects in json lie more than 128 deep in each other.",
        hint: "Send a flatter value, or send it as \"text\".",
    };
    /// `base64` is something else.
    pub const BASE64: Error = Error {
        code: "payload",
        reason: "base64 is not a string of base64 with padding (RFC 4648, section 4).",
        hint: "Encode with the alphabet that has + and /, and pad with = to a multiple of four characters.",
    };
    /// It hears the topic already.
    pub const ALREADY_SUBSCRIBED: Error = Error {
        code: "already-subscribed",
        reason: "This connection hears the topic already, or has asked to.",
        hint: "To begin elsewhere, unsubscribe first.",
    };
    /// It does not hear the topic.
    pub const NOT_SUBSCRIBED: Error = Error {
        code: "not-subscribed",
        reason: "This connection does not hear the topic.",
        hint: "Names are compared byte by byte: unsubscribe from just the name that was subscribed to.",
    };
    /// A subscribe was taken back.
    pub const CANCELLED: Error = Error {
        code: "cancelled",
        reason: "The topic was unsubscribed from before its home had answered.",
        hint: "Wait for \"subscribed\" where its place matters.",
    };
}

/// A topic cannot have this name.
fn misnamed(reason: Reason) -> Error {
    match reason {
        Reason::TopicEmpty => errors::TOPIC,
        reason => Error::topic(reason),
    }
}

/// Reads what a text frame says.
///
/// # Errors
/// [`Malformed::Unreadable`] if the conversation cannot go on; else what is to be answered.
pub fn parse(text: &str) -> Result<Request<'_>, Malformed<'_>> {
    let Ok(members) = serde_json::from_str::<Members<'_>>(text) else { return Err(Malformed::Unreadable) };
    let id = match members.id.map(RawValue::get) {
        None => None,
        Some(id) if is_id(id) => Some(id),
        Some(_) => return Err(Malformed::Refused { id: None, error: errors::ID }),
    };
    match members.ask() {
        Ok(ask) => Ok(Request { id, ask }),
        Err(error) => Err(Malformed::Refused { id, error }),
    }
}

/// Whether `raw`, a JSON value, is a number or a string, and short.
fn is_id(raw: &str) -> bool {
    raw.len() <= ID_BYTES_MAX && matches!(raw.as_bytes()[0], b'"' | b'-' | b'0'..=b'9')
}

/// A request's members, each a JSON value as it was written.
#[derive(Default)]
struct Members<'m> {
    r#type: Option<&'m RawValue>,
    id: Option<&'m RawValue>,
    topic: Option<&'m RawValue>,
    since: Option<&'m RawValue>,
    text: Option<&'m RawValue>,
    json: Option<&'m RawValue>,
    base64: Option<&'m RawValue>,
}

impl<'m> Members<'m> {
    fn ask(self) -> Result<Ask<'m>, Error> {
        match self.r#type.and_then(json::text).as_deref() {
            Some("subscribe") => Ok(Ask::Subscribe { topic: self.topic()?, since: self.since()? }),
            Some("unsubscribe") => Ok(Ask::Unsubscribe { topic: self.topic()? }),
            Some("publish") => {
                let topic = self.topic()?;
                let (kind, payload) = self.payload()?;
                Ok(Ask::Publish { topic, kind, payload })
            }
            Some("ping") => Ok(Ask::Ping),
            _ => Err(errors::TYPE),
        }
    }

    fn topic(&self) -> Result<TopicName, Error> {
        let topic = self.topic.and_then(json::text).ok_or(errors::TOPIC)?;
        TopicName::from_text(&topic).map_err(misnamed)
    }

    fn since(&self) -> Result<Option<Cow<'m, str>>, Error> {
        self.since.map(|since| json::text(since).ok_or(errors::SINCE)).transpose()
    }

    fn payload(&self) -> Result<(Kind, Cow<'m, [u8]>), Error> {
        match (self.text, self.json, self.base64) {
            (Some(text), None, None) => {
                let payload = match json::text(text).ok_or(errors::TEXT)? {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                };
                Ok((Kind::Text, payload))
            }
            (None, Some(json), None) if json::is_shallow(json.get()) => {
                Ok((Kind::Json, Cow::Borrowed(json.get().as_bytes())))
            }
            (None, Some(_), None) => Err(errors::DEPTH),
            (None, None, Some(base64)) => {
                let base64 = json::text(base64).ok_or(errors::BASE64)?;
                let bytes = STANDARD.decode_to_vec(base64.as_bytes()).map_err(|_| errors::BASE64)?;
                Ok((Kind::Binary, Cow::Owned(bytes)))
            }
            _ => Err(errors::PAYLOAD),
        }
    }
}

impl<'de: 'm, 'm> Deserialize<'de> for Members<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'m>, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Type,
    Id,
    Topic,
    Since,
    Text,
    Json,
    Base64,
    #[serde(other)]
    Unknown,
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some((member, value)) = map.next_entry::<Member, &RawValue>()? {
            let is_null = value.get() == "null";
            let place = match member {
                Member::Type => &mut members.r#type,
                Member::Id => &mut members.id,
                Member::Topic => &mut members.topic,
                Member::Since => &mut members.since,
                Member::Text => &mut members.text,
                Member::Json => {
                    // Any value can be said.
                    members.json = Some(value);
                    continue;
                }
                Member::Base64 => &mut members.base64,
                Member::Unknown => continue,
            };
            *place = (!is_null).then_some(value);
        }
        Ok(members)
    }
}

/// Appends the answer to a subscribe: what is heard begins behind `offset` in the life `epoch` of the topic. `recovered`,
/// where the request had `since`, says whether nothing between the two is missing.
pub fn subscribed(
    id: Option<&str>,
    topic: &str,
    (epoch, offset): (u64, u64),
    recovered: Option<bool>,
    out: &mut Vec<u8>,
) {
    answer("subscribed", id, out);
    place(topic, epoch, out);
    number(",\"offset\":", offset, out);
    if let Some(recovered) = recovered {
        out.extend_from_slice(if recovered { b",\"recovered\":true" } else { b",\"recovered\":false" });
    }
    out.push(b'}');
}

/// Appends the answer to an unsubscribe.
pub fn unsubscribed(id: Option<&str>, topic: &str, out: &mut Vec<u8>) {
    answer("unsubscribed", id, out);
    member(",\"topic\":", topic, out);
    out.push(b'}');
}

/// Appends the answer to a publish.
pub fn published(id: Option<&str>, topic: &str, (epoch, offset): (u64, u64), out: &mut Vec<u8>) {
    answer("published", id, out);
    place(topic, epoch, out);
    number(",\"offset\":", offset, out);
    out.push(b'}');
}

/// Appends the answer to a ping.
pub fn pong(id: Option<&str>, out: &mut Vec<u8>) {
    answer("pong", id, out);
    out.push(b'}');
}

/// Appends the answer to a request that is not done.
pub fn error(id: Option<&str>, error: &Error, out: &mut Vec<u8>) {
    answer("error", id, out);
    member(",\"code\":", error.code, out);
    member(",\"reason\":", error.reason, out);
    member(",\"hint\":", error.hint, out);
    out.push(b'}');
}

/// Appends a message of a topic. Payloads of [`Kind::Text`] are UTF-8 and those of [`Kind::Json`] a JSON value.
pub fn message(topic: &str, epoch: u64, offset: u64, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + topic.len() + 96);
    out.extend_from_slice(b"{\"type\":\"message\"");
    place(topic, epoch, out);
    number(",\"offset\":", offset, out);
    match kind {
        Kind::Text => {
            out.extend_from_slice(b",\"text\":");
            json::string(payload, out);
        }
        Kind::Json => {
            out.extend_from_slice(b",\"json\":");
            copy::append(payload, out);
        }
        Kind::Binary => {
            out.extend_from_slice(b",\"base64\":\"");
            STANDARD.encode_append(payload, out);
            out.push(b'"');
        }
    }
    out.push(b'}');
}

/// Appends what is said in place of the messages `from` to `to` of a topic, both included. `previous_epoch` is the life of
/// the topic that the listener knew, where that has ended.
pub fn gap(topic: &str, epoch: u64, (from, to): (u64, u64), previous_epoch: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"gap\"");
    member(",\"topic\":", topic, out);
    out.push(b',');
    missing(epoch, (from, to), previous_epoch, out);
    out.push(b'}');
}

fn answer(kind: &str, id: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_bytes());
    }
}

fn place(topic: &str, epoch: u64, out: &mut Vec<u8>) {
    member(",\"topic\":", topic, out);
    out.extend_from_slice(b",\"epoch\":\"");
    hexadecimal(epoch, out);
    out.push(b'"');
}

fn member(name: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    json::string(text.as_bytes(), out);
}

fn number(name: &str, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    decimal(number, out);
}

#[cfg(test)]
mod tests;
