//! How a publication's arguments become a message of a topic, and a message the arguments of an event.
//!
//! | PUBLISH | message | EVENT |
//! |---|---|---|
//! | one string and no keywords | text | one string |
//! | one string of bytes (advanced, binary support in JSON) and no keywords | bytes | one string of bytes |
//! | anything else | JSON `{"args":[…],"kwargs":{…}}` | the same arguments and keywords |
//! | | any other JSON | one argument: the value |
//!
//! Bytes are a string that begins with U+0000 and goes on in base64. A client that reads all such strings as bytes may end
//! its session over one that is something else, which everybody who may publish could send it. So text that begins with
//! U+0000 is an event of its bytes, and so is JSON that has such a string in it.

use std::borrow::Cow;
use std::fmt;

use base64_simd::STANDARD;
use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::parse::is_empty;
use super::{Error, code, errors, head, number, publication_id, subscription_id};
use crate::event::{decimal, hexadecimal, missing};
use crate::{Kind, copy, json};

/// What a string that is bytes begins with.
const BYTES_MARK: char = '\0';

/// How a string begins that is bytes: a control character is always escaped, and U+0000 in one way only.
const BYTES_START: &[u8] = br#""\u0000"#;

/// The message that a PUBLISH with these arguments is.
pub(super) fn of_publish<'m>(
    list: Option<&'m RawValue>,
    words: Option<&'m RawValue>,
) -> Result<(Kind, Cow<'m, [u8]>), Error> {
    if words.is_none_or(is_empty)
        && let Some(text) = list.and_then(only_string)
    {
        return Ok(of_string(text));
    }
    let list = list.map_or("[]", RawValue::get);
    let words = words.map_or("{}", RawValue::get);
    let payload = format!("{{\"args\":{list},\"kwargs\":{words}}}");
    // The same as everywhere, so that who hears it in another protocol can read it.
    if !json::is_shallow(&payload) {
        return Err(errors::DEPTH);
    }
    Ok((Kind::Json, Cow::Owned(payload.into_bytes())))
}

fn of_string(text: Cow<'_, str>) -> (Kind, Cow<'_, [u8]>) {
    let bytes = text.strip_prefix(BYTES_MARK).and_then(|base64| STANDARD.decode_to_vec(base64).ok());
    match (bytes, text) {
        (Some(bytes), _) => (Kind::Binary, Cow::Owned(bytes)),
        (None, Cow::Borrowed(text)) => (Kind::Text, Cow::Borrowed(text.as_bytes())),
        (None, Cow::Owned(text)) => (Kind::Text, Cow::Owned(text.into_bytes())),
    }
}

/// Appends the EVENT that a message of `topic` is (§5.2.4). Payloads of [`Kind::Text`] are UTF-8 and those of [`Kind::Json`]
/// a JSON value. Its place is among the details, under names of our own (§3.1): where offsets leave some out, these were not
/// heard.
pub fn event(topic: &str, epoch: u64, offset: u64, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 128);
    place(topic, epoch, offset, out);
    out.push(b'}');
    match kind {
        Kind::Text if payload.first() != Some(&0) => {
            out.extend_from_slice(b",[");
            json::string(payload, out);
            out.push(b']');
        }
        Kind::Json if is_readable(payload) => arguments(payload, out),
        Kind::Text | Kind::Json | Kind::Binary => {
            out.extend_from_slice(b",[");
            out.extend_from_slice(BYTES_START);
            STANDARD.encode_append(payload, out);
            out.extend_from_slice(b"\"]");
        }
    }
    out.push(b']');
}

/// Appends the EVENT that stands for the messages `from` to `to` of `topic`, both included, which the subscriber does not
/// get. Its place is the last of them, so that one goes on behind it. `previous_epoch` is the life of the topic that the
/// subscriber knew, where that has ended.
///
/// What is missing is among the details, where nobody can publish it, and the one keyword argument too: there are clients
/// that show handlers no details but those they know.
pub fn gap(topic: &str, epoch: u64, (from, to): (u64, u64), previous_epoch: Option<u64>, out: &mut Vec<u8>) {
    place(topic, epoch, to, out);
    out.extend_from_slice(b",\"_gap\":{");
    let start = out.len();
    missing(epoch, (from, to), previous_epoch, out);
    let end = out.len();
    out.extend_from_slice(b"}},[],{\"_gap\":{");
    out.extend_from_within(start..end);
    out.extend_from_slice(b"}}]");
}

/// Begins an EVENT, up to where the details may have more than the place.
fn place(topic: &str, epoch: u64, offset: u64, out: &mut Vec<u8>) {
    head(code::EVENT, out);
    number(subscription_id(topic), out);
    number(publication_id(epoch, offset), out);
    out.extend_from_slice(b",{\"_epoch\":\"");
    hexadecimal(epoch, out);
    out.extend_from_slice(b"\",\"_offset\":");
    decimal(offset, out);
}

/// Appends the arguments of an event that a JSON value is.
fn arguments(payload: &[u8], out: &mut Vec<u8>) {
    let Some(Arguments { args, kwargs }) = Arguments::read(payload) else {
        out.extend_from_slice(b",[");
        copy::append(payload, out);
        out.push(b']');
        return;
    };
    // §3.7: what is empty and last is left out.
    let has_kwargs = !is_empty(kwargs);
    if has_kwargs || !is_empty(args) {
        out.push(b',');
        copy::append(args.get().as_bytes(), out);
    }
    if has_kwargs {
        out.push(b',');
        copy::append(kwargs.get().as_bytes(), out);
    }
}

/// A JSON object of the shape that a publication gets: these two members and no other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments<'p> {
    #[serde(borrow)]
    args: &'p RawValue,
    #[serde(borrow)]
    kwargs: &'p RawValue,
}

impl<'p> Arguments<'p> {
    fn read(payload: &'p [u8]) -> Option<Arguments<'p>> {
        // A list of two would do for a structure too.
        if !payload.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let arguments: Arguments<'_> = serde_json::from_slice(payload).ok()?;
        let fits = arguments.args.get().starts_with('[') && arguments.kwargs.get().starts_with('{');
        fits.then_some(arguments)
    }
}

/// Whether every string in `payload`, a JSON value, that begins like bytes is bytes.
fn is_readable(payload: &[u8]) -> bool {
    memmem::find_iter(payload, BYTES_START).all(|at| {
        let escapes = payload[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        // A quote that is escaped begins no string.
        escapes % 2 == 1 || is_bytes(&payload[at..])
    })
}

/// Whether the string that `rest` begins with is bytes.
fn is_bytes(rest: &[u8]) -> bool {
    let text = String::deserialize(&mut serde_json::Deserializer::from_slice(rest));
    text.is_ok_and(|text| STANDARD.check(&text.as_bytes()[BYTES_MARK.len_utf8()..]).is_ok())
}

/// The string that is all there is in `list`, if that is so.
fn only_string(list: &RawValue) -> Option<Cow<'_, str>> {
    if !list.get()[1..].trim_ascii_start().starts_with('"') {
        return None;
    }
    let Only(only) = serde_json::from_str(list.get()).ok()?;
    only.and_then(json::text)
}

/// The one element of a list, if it has one and no more.
struct Only<'m>(Option<&'m RawValue>);

impl<'de: 'm, 'm> Deserialize<'de> for Only<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Only<'m>, D::Error> {
        deserializer.deserialize_seq(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Only<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Only<'de>, A::Error> {
        let first = seq.next_element()?;
        let mut only = Only(first);
        while seq.next_element::<IgnoredAny>()?.is_some() {
            only = Only(None);
        }
        Ok(only)
    }
}
