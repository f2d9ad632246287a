//! `moongate.v1`, as a client speaks it.

use moongate_wire::Kind;
use serde_json::value::RawValue;

use super::tongue::{Members, Refusal, Said, Which, epoch, number, quoted, text};
use crate::client::base64::{base64, unbase64};
use crate::oracle::Place;

/// A request's id: now a number, now a string.
fn id(request: u64) -> String {
    if request.is_multiple_of(2) { request.to_string() } else { format!("\"r-{request}\"") }
}

fn request(raw: &RawValue) -> Option<u64> {
    let text = raw.get();
    let request = text.strip_prefix("\"r-").and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).parse();
    request.ok().filter(|request| id(*request) == text)
}

pub(super) fn subscribe(request: u64, topic: &str, since: Option<&str>) -> String {
    let since = since.map_or_else(String::new, |since| format!(",\"since\":{}", quoted(since)));
    format!("{{\"type\":\"subscribe\",\"id\":{},\"topic\":{}{since}}}", id(request), quoted(topic))
}

pub(super) fn unsubscribe(request: u64, topic: &str) -> String {
    format!("{{\"type\":\"unsubscribe\",\"id\":{},\"topic\":{}}}", id(request), quoted(topic))
}

pub(super) fn publish(request: Option<u64>, topic: &str, kind: Kind, payload: &[u8]) -> String {
    let id = request.map_or_else(String::new, |request| format!("\"id\":{},", id(request)));
    let payload = match kind {
        Kind::Text => format!("\"text\":{}", quoted(&String::from_utf8_lossy(payload))),
        Kind::Json => format!("\"json\":{}", String::from_utf8_lossy(payload)),
        Kind::Binary => format!("\"base64\":\"{}\"", base64(payload)),
    };
    format!("{{\"type\":\"publish\",{id}\"topic\":{},{payload}}}", quoted(topic))
}

pub(super) fn ping(request: u64) -> String {
    format!("{{\"type\":\"ping\",\"id\":{}}}", id(request))
}

pub(super) fn read(said: &str) -> Option<Said> {
    let members: Members<'_> = serde_json::from_str(said).ok()?;
    let get = |name: &str| members.get(name).copied();
    let asked = match get("id") {
        Some(raw) => Some(request(raw)?),
        None => None,
    };
    let topic = || text(get("topic")?);
    let place = || -> Option<Place> { Some((epoch(get("epoch")?)?, number(get("offset")?)?)) };
    Some(match text(get("type")?)?.as_str() {
        "subscribed" => {
            let recovered = match get("recovered") {
                Some(raw) => Some(serde_json::from_str(raw.get()).ok()?),
                None => None,
            };
            Said::Subscribed {
                request: asked,
                which: Which::Name(topic()?),
                begins: Some((place()?, recovered)),
            }
        }
        "unsubscribed" => Said::Unsubscribed { request: asked? },
        "published" => Said::Published { request: asked?, at: Some((topic()?, place()?)), publication: None },
        "pong" => Said::Pong { request: asked? },
        "message" => {
            let (kind, payload) = payload(&members)?;
            let which = Which::Name(topic()?);
            Said::Message { which, place: place()?, kind, payload, publication: None }
        }
        "gap" => {
            let missing = (epoch(get("epoch")?)?, number(get("from")?)?, number(get("to")?)?);
            let previous = match get("previous_epoch") {
                Some(raw) => Some(epoch(raw)?),
                None => None,
            };
            Said::Gap { topic: topic()?, missing, previous }
        }
        "error" => {
            let why = match text(get("code")?)?.as_str() {
                "cancelled" => Refusal::Cancelled,
                "not-subscribed" => Refusal::NotSubscribed,
                "already-subscribed" => Refusal::AlreadySubscribed,
                "subscriptions-full" | "topics-full" | "busy" => Refusal::Full,
                other => Refusal::Other(other.to_owned()),
            };
            Said::Refused { request: asked, why }
        }
        _ => return None,
    })
}

/// The one payload of a message.
fn payload(members: &Members<'_>) -> Option<(Kind, Vec<u8>)> {
    let get = |name: &str| members.get(name).copied();
    match (get("text"), get("json"), get("base64")) {
        (Some(raw), None, None) => Some((Kind::Text, text(raw)?.into_bytes())),
        (None, Some(raw), None) => Some((Kind::Json, raw.get().as_bytes().to_vec())),
        (None, None, Some(raw)) => Some((Kind::Binary, unbase64(text(raw)?.as_bytes())?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let subscribed = r#"{"type":"subscribed","id":"r-1","topic":"t","epoch":"00000000000000fe","offset":41,"recovered":false}"#;
        let which = Which::Name(String::from("t"));
        let begins = Some(((0xfe, 41), Some(false)));
        assert_eq!(read(subscribed), Some(Said::Subscribed { request: Some(1), which, begins }));
        assert_eq!(read(r#"{"type":"pong","id":2}"#), Some(Said::Pong { request: 2 }));
        // Not as it was asked.
        assert_eq!(read(r#"{"type":"pong","id":"2"}"#), None);
        assert_eq!(read(r#"{"type":"pong","id":"r-2"}"#), None);
        let message = |payload: &str| {
            let text =
                format!(r#"{{"type":"message","topic":"t","epoch":"{:016x}","offset":2,{payload}}}"#, 7);
            read(&text).and_then(|said| match said {
                Said::Message { kind, payload, .. } => Some((kind, payload)),
                _ => None,
            })
        };
        assert_eq!(message(r#""text":"a\n""#), Some((Kind::Text, b"a\n".to_vec())));
        assert_eq!(message(r#""json":[1.50]"#), Some((Kind::Json, b"[1.50]".to_vec())));
        assert_eq!(message(r#""base64":"Zg==""#), Some((Kind::Binary, b"f".to_vec())));
        assert_eq!(message(r#""text":"a","json":1"#), None);
    }
}
