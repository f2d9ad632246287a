//! Messages of WAMP clients against a reader of whole values, and what becomes of payloads on their way through topics.

use base64_simd::STANDARD;
use moongate_wire::protocol::wamp::{self, Fault, Publish, Said, code};
use moongate_wire::{Kind, json};
use serde_json::{Map, Value};

use crate::source::Source;
use crate::v1::depth;

const EPOCH: u64 = 0xa1;
const OFFSET: u64 = 7;

/// Any text that a client sends, before or in a session, and any message of a topic that clients are told.
pub fn wamp(data: &[u8]) {
    let mut source = Source::new(data);
    let established = source.below(4) != 0;
    let bytes = source.rest();
    check_event("news", Kind::Binary, bytes);
    if json::is_json(bytes) {
        check_event("news", Kind::Json, bytes);
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    check_event(text, Kind::Text, bytes);

    let said = wamp::parse(text, established);
    if let Ok(Said::Publish(publish)) = &said {
        check_publish(text, publish);
    }
    // What the value's reader does not take, such as numbers past all ranges, may be taken where nobody looks at it.
    let Ok(value) = serde_json::from_str(text) else { return };
    match (reference(&value, established), &said) {
        (Some(expect), Err(Fault::Violation(_))) => {
            assert!(may_repeat(text, &value), "{text}: {expect:?}, and not a violation");
        }
        (expect, said) => assert_eq!(expect, outline(said), "{text}"),
    }
}

/// What a message comes to, without its payload.
#[derive(PartialEq, Debug)]
enum Outline {
    Hello(String),
    Goodbye,
    Abort,
    Nothing,
    /// The request, the topic, and whether gaps are told.
    Subscribe(u64, String, bool),
    Unsubscribe(u64, u64),
    Publish {
        request: u64,
        topic: String,
        acknowledge: bool,
        exclude_me: bool,
    },
    /// The type, the request and the error's URI; type 0 where nobody is told.
    Refused(u64, u64, String),
}

/// The outline of what was read; `None` is the end of the session.
fn outline(said: &Result<Said<'_>, Fault>) -> Option<Outline> {
    Some(match said {
        Ok(Said::Hello { realm }) => Outline::Hello(realm.to_string()),
        Ok(Said::Goodbye) => Outline::Goodbye,
        Ok(Said::Abort) => Outline::Abort,
        Ok(Said::Nothing) => Outline::Nothing,
        Ok(Said::Subscribe { request, topic, gaps, .. }) => {
            Outline::Subscribe(*request, topic.to_string(), *gaps)
        }
        Ok(Said::Unsubscribe { request, subscription }) => Outline::Unsubscribe(*request, *subscription),
        Ok(Said::Publish(Publish { request, topic, acknowledge, exclude_me, .. })) => {
            let (acknowledge, exclude_me) = (*acknowledge, *exclude_me);
            Outline::Publish { request: *request, topic: topic.to_string(), acknowledge, exclude_me }
        }
        Err(Fault::Refused { code, request, error }) => {
            Outline::Refused(*code, *request, error.code.to_owned())
        }
        Err(Fault::Unanswered(error)) => Outline::Refused(0, 0, error.code.to_owned()),
        Err(Fault::Violation(_)) => return None,
    })
}

/// The basic profile, as a reader of values; `None` is a protocol violation.
fn reference(message: &Value, established: bool) -> Option<Outline> {
    let message = message.as_array()?;
    let code = message.first()?.as_u64()?;
    match (code, established) {
        (3, _) => return Some(Outline::Abort),
        (1, false) => {}
        (_, false) | (1, true) => return None,
        _ => {}
    }
    Some(match (code, &message[1..]) {
        (1, [Value::String(realm), Value::Object(details)]) => {
            let has_roles = details.get("roles")?.as_object().is_some_and(|roles| !roles.is_empty());
            Outline::Hello(has_roles.then(|| realm.clone())?)
        }
        (6, [Value::Object(_), Value::String(_)]) => Outline::Goodbye,
        (32, [request, Value::Object(options), Value::String(topic)]) => {
            let request = id(request)?;
            let policy = option(options, "match", Value::is_string)?;
            option(options, "_since", Value::is_string)?;
            let gaps = option(options, "_gaps", Value::is_boolean)?.and_then(Value::as_bool);
            match name(topic) {
                _ if policy.is_some_and(|policy| policy != "exact") => {
                    refused(code, request, "wamp.error.option_not_allowed")
                }
                Some(topic) => Outline::Subscribe(request, topic, gaps.unwrap_or(false)),
                None => refused(code, request, "wamp.error.invalid_uri"),
            }
        }
        (34, [request, subscription]) => Outline::Unsubscribe(id(request)?, id(subscription)?),
        (16, [request, Value::Object(options), Value::String(topic), arguments @ ..]) => {
            publish(id(request)?, options, topic, arguments)?
        }
        (48, [request, ..]) => refused(code, id(request)?, "wamp.error.no_such_procedure"),
        (49, [request, ..]) => id(request).map(|_| Outline::Nothing)?,
        (64, [request, ..]) => refused(code, id(request)?, "wamp.error.not_authorized"),
        (66, [request, ..]) => refused(code, id(request)?, "wamp.error.no_such_registration"),
        _ => return None,
    })
}

fn publish(request: u64, options: &Map<String, Value>, topic: &str, arguments: &[Value]) -> Option<Outline> {
    let flag = |name, default| {
        let flag = option(options, name, Value::is_boolean)?;
        Some(flag.and_then(Value::as_bool).unwrap_or(default))
    };
    let acknowledge = flag("acknowledge", false)?;
    let exclude_me = flag("exclude_me", true)?;
    let ([] | [Value::Array(_)] | [Value::Array(_), Value::Object(_)]) = arguments else { return None };
    let limits =
        ["exclude", "exclude_authid", "exclude_authrole", "eligible", "eligible_authid", "eligible_authrole"];
    let limited = limits
        .iter()
        .chain(&["ppt_scheme"])
        .any(|name| options.get(*name).is_some_and(|value| !value.is_null()));
    let refusal = match name(topic) {
        _ if limited => "wamp.error.option_not_allowed",
        None => "wamp.error.invalid_uri",
        Some(_) if arguments.iter().any(|value| depth(value) >= json::DEPTH_MAX) => {
            "wamp.error.invalid_argument"
        }
        Some(topic) => return Some(Outline::Publish { request, topic, acknowledge, exclude_me }),
    };
    Some(if acknowledge { refused(code::PUBLISH, request, refusal) } else { refused(0, 0, refusal) })
}

fn refused(code: u64, request: u64, uri: &str) -> Outline {
    Outline::Refused(code, request, uri.to_owned())
}

fn id(value: &Value) -> Option<u64> {
    value.as_u64().filter(|id| (1..=1 << 53).contains(id))
}

/// An option that is there or not; `None` if it is something else.
fn option<'v>(
    options: &'v Map<String, Value>,
    name: &str,
    is_right: impl Fn(&Value) -> bool,
) -> Option<Option<&'v Value>> {
    match options.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => is_right(value).then_some(Some(value)),
    }
}

/// The topic that a URI names: what both WAMP and topics allow.
fn name(uri: &str) -> Option<String> {
    let uri_is_good = uri.split('.').all(|part| !part.is_empty() && !part.contains(char::is_whitespace));
    let is_reserved = uri == "wamp" || uri.starts_with("wamp.");
    let segment_is_good = |segment: &str| !matches!(segment, "" | "." | "..");
    let name_is_good = uri.len() <= 255
        && !uri.starts_with('$')
        && uri.split('/').all(segment_is_good)
        && !uri.contains(|c: char| c.is_control() || "*+#".contains(c));
    (uri_is_good && name_is_good && !is_reserved).then(|| uri.to_owned())
}

/// Whether a dictionary of the message may have a member twice, which is a violation and not seen in the value.
fn may_repeat(text: &str, message: &Value) -> bool {
    let dictionaries = message.as_array().into_iter().flatten().filter_map(Value::as_object);
    let mut names = dictionaries.flat_map(Map::keys);
    text.contains("\\u") || names.any(|name| text.matches(name.as_str()).count() > 1)
}

/// A publication is heard as it was said.
fn check_publish(text: &str, publish: &Publish<'_>) {
    match publish.kind {
        Kind::Json => assert!(json::is_json(&publish.payload)),
        Kind::Text => assert!(str::from_utf8(&publish.payload).is_ok()),
        Kind::Binary => {}
    }
    let heard = check_event(publish.topic.as_str(), publish.kind, &publish.payload);
    let (Some(heard), Ok(said)) = (heard, serde_json::from_str::<Vec<Value>>(text)) else { return };
    let arguments = |elements: &[Value]| {
        let part = |index: usize, none: Value| elements.get(index).cloned().unwrap_or(none);
        Value::Array(vec![part(4, Value::Array(Vec::new())), part(5, Value::Object(Map::new()))])
    };
    if is_readable(&arguments(&said)) {
        assert_eq!(arguments(&heard), arguments(&said), "{text}");
    }
}

/// A message is an event that every client can read; what its elements are, where a reader of values takes them.
fn check_event(topic: &str, kind: Kind, payload: &[u8]) -> Option<Vec<Value>> {
    let mut out = Vec::new();
    wamp::event(topic, EPOCH, OFFSET, kind, payload, &mut out);
    assert!(str::from_utf8(&out).is_ok());
    let event: Vec<Value> = serde_json::from_slice(&out).ok().or_else(|| {
        // Only JSON can have what that reader does not take.
        assert_eq!(kind, Kind::Json, "{}", out.escape_ascii());
        None
    })?;
    assert_eq!(event[0], code::EVENT);
    assert_eq!(event[1], wamp::subscription_id(topic));
    assert_eq!(event[2], wamp::publication_id(EPOCH, OFFSET));
    assert!((4..=6).contains(&event.len()));
    assert!(event.get(4).is_none_or(Value::is_array) && event.get(5).is_none_or(Value::is_object));
    assert!(event.iter().all(is_readable), "{}", out.escape_ascii());
    let only = event.get(4).map(|list| &list[0]);
    match kind {
        Kind::Text if !payload.starts_with(b"\0") => {
            assert_eq!(only.and_then(Value::as_str), str::from_utf8(payload).ok())
        }
        Kind::Text | Kind::Binary => {
            let bytes = only.and_then(Value::as_str).and_then(|text| text.strip_prefix('\0'));
            assert_eq!(bytes.and_then(|bytes| STANDARD.decode_to_vec(bytes).ok()).as_deref(), Some(payload));
        }
        Kind::Json => {}
    }
    Some(event)
}

/// Whether all strings that begin like bytes are bytes.
fn is_readable(value: &Value) -> bool {
    let readable =
        |text: &str| text.strip_prefix('\0').is_none_or(|base64| STANDARD.check(base64.as_bytes()).is_ok());
    match value {
        Value::String(text) => readable(text),
        Value::Array(values) => values.iter().all(is_readable),
        Value::Object(members) => members.iter().all(|(name, value)| readable(name) && is_readable(value)),
        _ => true,
    }
}
