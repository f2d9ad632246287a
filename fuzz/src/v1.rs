//! Requests of `moongate.v1` against a reader of whole values, and the answers to them.

use base64_simd::STANDARD;
use moongate_wire::protocol::v1::{self, Ask, Malformed, Request};
use moongate_wire::{Kind, json};
use serde_json::Value;

const EPOCH: u64 = 0xa1;
const OFFSET: u64 = 7;

/// Any text that a client sends.
pub fn v1(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let request = v1::parse(text);
    let value = serde_json::from_str::<Value>(text);
    match &request {
        Ok(request) => {
            check_answers(request);
            // What the value's reader does not take, such as numbers past all ranges, may be where nobody looks.
            if let Ok(value) = &value {
                check_read(request, value);
            }
        }
        Err(Malformed::Unreadable) => {
            assert!(!value.is_ok_and(|value| value.is_object()), "{text}");
        }
        Err(Malformed::Refused { id, error }) => {
            if is_value(*id) {
                assert_eq!(written(|out| v1::error(*id, error, out))["code"], error.code);
            }
            if let Ok(value) = &value {
                assert!(value.is_object(), "{text}");
                assert!(!is_request(value), "{text}: {error:?}");
            }
        }
    }
}

/// Whether a value is a request without fault. Members that are `null` are not there.
fn is_request(value: &Value) -> bool {
    let topic_is_good = value["topic"].as_str().is_some_and(|topic| {
        let segment_is_good = |segment: &str| !matches!(segment, "" | "." | "..");
        topic.len() <= 255
            && !topic.starts_with('$')
            && topic.split('/').all(segment_is_good)
            && !topic.contains(|c: char| c.is_control() || "*+#".contains(c))
    });
    let id_is_good = match &value["id"] {
        Value::Null => true,
        // How they were written is not known here; so short that any writing is short enough.
        Value::String(id) => id.len() <= 10,
        Value::Number(id) => id.is_u64(),
        _ => return false,
    };
    let payload_is_good = match (&value["text"], value.get("json"), &value["base64"]) {
        (Value::String(_), None, Value::Null) => true,
        (Value::Null, Some(json), Value::Null) => depth(json) <= json::DEPTH_MAX,
        (Value::Null, None, Value::String(base64)) => STANDARD.check(base64.as_bytes()).is_ok(),
        _ => false,
    };
    let is_good = match value["type"].as_str() {
        Some("subscribe") => topic_is_good && (value["since"].is_null() || value["since"].is_string()),
        Some("unsubscribe") => topic_is_good,
        Some("publish") => topic_is_good && payload_is_good,
        Some("ping") => true,
        _ => false,
    };
    is_good && id_is_good
}

/// What was read is what stands there.
fn check_read(request: &Request<'_>, value: &Value) {
    if let Some(id) = request.id {
        assert!(id.len() <= v1::ID_BYTES_MAX);
        assert_eq!(serde_json::from_str::<Value>(id).ok().as_ref(), value.get("id"));
    } else {
        assert!(value["id"].is_null());
    }
    let (kind, topic) = match &request.ask {
        Ask::Subscribe { topic, since } => {
            assert_eq!(since.as_deref(), value["since"].as_str());
            ("subscribe", Some(topic))
        }
        Ask::Unsubscribe { topic } => ("unsubscribe", Some(topic)),
        Ask::Publish { topic, kind, payload } => {
            check_payload(*kind, payload, value);
            ("publish", Some(topic))
        }
        Ask::Ping => ("ping", None),
    };
    assert_eq!(value["type"], kind);
    if let Some(topic) = topic {
        assert_eq!(value["topic"], topic.as_str());
    }
}

/// The payload is the one that `value` has, a request or a message.
fn check_payload(kind: Kind, payload: &[u8], value: &Value) {
    match kind {
        Kind::Text => assert_eq!(value["text"].as_str().map(str::as_bytes), Some(payload)),
        Kind::Json => {
            assert!(json::is_json(payload));
            assert_eq!(serde_json::from_slice::<Value>(payload).ok().as_ref(), value.get("json"));
        }
        Kind::Binary => {
            let bytes = value["base64"].as_str().and_then(|base64| STANDARD.decode_to_vec(base64).ok());
            assert_eq!(bytes.as_deref(), Some(payload));
        }
    }
}

/// Every answer is one object that names what was asked for, and a message is heard as it was said.
fn check_answers(request: &Request<'_>) {
    let check = |kind: &str, topic: Option<&str>, answer: Value| {
        assert_eq!(answer["type"], kind);
        assert_eq!(answer["topic"].as_str(), topic);
        let id = request.id.and_then(|id| serde_json::from_str::<Value>(id).ok());
        assert_eq!(answer.get("id"), id.as_ref());
    };
    if !is_value(request.id) {
        return;
    }
    match &request.ask {
        Ask::Subscribe { topic, since } => {
            let recovered = since.as_ref().map(|since| since == "0");
            let answer =
                written(|out| v1::subscribed(request.id, topic.as_str(), (EPOCH, OFFSET), recovered, out));
            assert_eq!(answer["recovered"].as_bool(), recovered);
            check("subscribed", Some(topic.as_str()), answer);
        }
        Ask::Unsubscribe { topic } => {
            check(
                "unsubscribed",
                Some(topic.as_str()),
                written(|out| v1::unsubscribed(request.id, topic.as_str(), out)),
            );
        }
        Ask::Publish { topic, kind, payload } => {
            let place = (EPOCH, OFFSET);
            let answer = written(|out| v1::published(request.id, topic.as_str(), place, out));
            assert_eq!(answer["offset"], OFFSET);
            check("published", Some(topic.as_str()), answer);
            // The reader of values stops at a depth that the message around it adds to.
            let value = serde_json::from_slice::<Value>(payload);
            if *kind != Kind::Json || value.is_ok_and(|value| depth(&value) < json::DEPTH_MAX - 1) {
                let message = written(|out| v1::message(topic.as_str(), EPOCH, OFFSET, *kind, payload, out));
                assert_eq!(message["topic"], topic.as_str());
                check_payload(*kind, payload, &message);
            }
        }
        Ask::Ping => check("pong", None, written(|out| v1::pong(request.id, out))),
    }
}

/// Whether the reader of values takes an id. One that it does not, such as a number out of range, is written back as it came.
fn is_value(id: Option<&str>) -> bool {
    id.is_none_or(|id| serde_json::from_str::<Value>(id).is_ok())
}

/// How deep arrays and objects lie in each other.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    write(&mut out);
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{}: {error}", out.escape_ascii()))
}
