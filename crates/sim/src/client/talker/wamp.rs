//! WAMP, as a client speaks it.

use moongate_wire::Kind;
use serde_json::value::RawValue;

use super::tongue::{Exclusion, Members, Refusal, Said, Which, epoch, number, quoted, text};
use crate::client::base64::{base64, unbase64};

pub(super) fn hello() -> String {
    String::from(r#"[1,"realm1",{"roles":{"subscriber":{},"publisher":{}}}]"#)
}

pub(super) fn goodbye() -> String {
    String::from(r#"[6,{},"wamp.close.close_realm"]"#)
}

pub(super) fn subscribe(request: u64, topic: &str, since: Option<&str>) -> String {
    let options = since.map_or_else(String::new, |since| format!("\"_since\":{}", quoted(since)));
    format!("[32,{request},{{{options}}},{}]", quoted(topic))
}

pub(super) fn unsubscribe(request: u64, subscription: u64) -> String {
    format!("[34,{request},{subscription}]")
}

pub(super) fn publish(
    (request, answered): (u64, bool),
    topic: &str,
    kind: Kind,
    payload: &[u8],
    excluded: Exclusion,
) -> String {
    let mut options = Vec::new();
    if answered {
        options.push(String::from("\"acknowledge\":true"));
    }
    if let Exclusion::Said(excluded) = excluded {
        options.push(format!("\"exclude_me\":{excluded}"));
    }
    let arguments = match kind {
        Kind::Text => format!("[{}]", quoted(&String::from_utf8_lossy(payload))),
        Kind::Binary => format!("[\"\\u0000{}\"]", base64(payload)),
        Kind::Json => {
            let payload = String::from_utf8_lossy(payload);
            let members: Members<'_> = serde_json::from_str(&payload).expect("it has been written as JSON");
            format!("{},{}", members["args"], members["kwargs"])
        }
    };
    format!("[16,{request},{{{}}},{},{arguments}]", options.join(","), quoted(topic))
}

pub(super) fn read(said: &str) -> Option<Said> {
    let parts: Vec<&RawValue> = serde_json::from_str(said).ok()?;
    let (code, rest) = parts.split_first()?;
    Some(match (number(code)?, rest) {
        (2, [_, _]) => Said::Welcome,
        (6, [_, reason]) if text(reason)? == "wamp.close.goodbye_and_out" => Said::Goodbye,
        (8, [_, request, _, uri, ..]) => {
            let why = match text(uri)?.as_str() {
                "wamp.error.unavailable" => Refusal::Full,
                "wamp.error.no_such_subscription" => Refusal::NotSubscribed,
                other => Refusal::Other(other.to_owned()),
            };
            Said::Refused { request: Some(number(request)?), why }
        }
        (17, [request, publication]) => {
            Said::Published { request: number(request)?, at: None, publication: Some(number(publication)?) }
        }
        (33, [request, subscription]) => Said::Subscribed {
            request: Some(number(request)?),
            which: Which::Number(number(subscription)?),
            begins: None,
        },
        (35, [request]) => Said::Unsubscribed { request: number(request)? },
        (36, [subscription, publication, details, payload @ ..]) => {
            let details: Members<'_> = serde_json::from_str(details.get()).ok()?;
            let place = (epoch(details.get("_epoch")?)?, number(details.get("_offset")?)?);
            let (kind, payload) = self::payload(payload)?;
            let publication = Some(number(publication)?);
            Said::Message { which: Which::Number(number(subscription)?), place, kind, payload, publication }
        }
        _ => return None,
    })
}

/// What the arguments and keywords of an event mean.
fn payload(parts: &[&RawValue]) -> Option<(Kind, Vec<u8>)> {
    let (args, kwargs) = match parts {
        [] => ("[]", "{}"),
        [args] => (args.get(), "{}"),
        [args, kwargs] => (args.get(), kwargs.get()),
        _ => return None,
    };
    let list: Vec<&RawValue> = serde_json::from_str(args).ok()?;
    let [one] = list[..] else {
        return Some((Kind::Json, format!("{{\"args\":{args},\"kwargs\":{kwargs}}}").into_bytes()));
    };
    if kwargs != "{}" {
        return None;
    }
    match text(one) {
        Some(text) => match text.strip_prefix('\0') {
            Some(encoded) => Some((Kind::Binary, unbase64(encoded.as_bytes())?)),
            None => Some((Kind::Text, text.into_bytes())),
        },
        None => Some((Kind::Json, one.get().as_bytes().to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let event = |payload: &str| {
            let text = format!(r#"[36,5,6,{{"_epoch":"{:016x}","_offset":2}}{payload}]"#, 7);
            read(&text).and_then(|said| match said {
                Said::Message { kind, payload, .. } => Some((kind, String::from_utf8(payload).ok()?)),
                _ => None,
            })
        };
        let told = |kind, text: &str| Some((kind, text.to_owned()));
        assert_eq!(event(r#",["a"]"#), told(Kind::Text, "a"));
        assert_eq!(event(r#",["\u0000Zg=="]"#), told(Kind::Binary, "f"));
        assert_eq!(event(",[[1.50]]"), told(Kind::Json, "[1.50]"));
        assert_eq!(event(",[1,2]"), told(Kind::Json, r#"{"args":[1,2],"kwargs":{}}"#));
        assert_eq!(event(r#",[1,2],{"u":3}"#), told(Kind::Json, r#"{"args":[1,2],"kwargs":{"u":3}}"#));
    }

    #[test]
    fn a_publish_says_what_it_is_told_to() {
        let publish = |kind, payload: &[u8], excluded| publish((3, true), "t", kind, payload, excluded);
        assert_eq!(publish(Kind::Text, b"a", Exclusion::Unsaid), r#"[16,3,{"acknowledge":true},"t",["a"]]"#);
        let json = br#"{"args":["1|",1.50],"kwargs":{}}"#;
        assert_eq!(
            publish(Kind::Json, json, Exclusion::Said(false)),
            r#"[16,3,{"acknowledge":true,"exclude_me":false},"t",["1|",1.50],{}]"#
        );
    }
}
