use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn topic(name: &str) -> TopicName {
    TopicName::from_text(name).expect("a right name")
}

#[test]
fn requests_are_read() {
    let check = |text: &str, id: Option<&str>, ask: Ask<'_>| {
        assert_eq!(parse(text), Ok(Request { id, ask }), "{text}");
    };
    let news = || topic("news");
    let said = |kind, payload: &'static [u8]| Ask::Publish { topic: news(), kind, payload: payload.into() };
    check(
        r#"{"type":"subscribe","id":1,"topic":"news"}"#,
        Some("1"),
        Ask::Subscribe { topic: news(), since: None },
    );
    check(
        r#" { "since" : "00000000000000a1-7", "topic" : "ne\u0077s", "type" : "sub\u0073cribe" } "#,
        None,
        Ask::Subscribe { topic: news(), since: Some("00000000000000a1-7".into()) },
    );
    check(
        r#"{"type":"unsubscribe","id":"a","topic":"news"}"#,
        Some("\"a\""),
        Ask::Unsubscribe { topic: news() },
    );
    check(r#"{"type":"publish","topic":"news","text":""}"#, None, said(Kind::Text, b""));
    check(
        r#"{"type":"publish","topic":"news","text":"a\n\ud83d\ude00"}"#,
        None,
        said(Kind::Text, "a\n😀".as_bytes()),
    );
    check(
        r#"{"type":"publish","topic":"news","json": {"a" : [1, 2.50]} }"#,
        None,
        said(Kind::Json, br#"{"a" : [1, 2.50]}"#),
    );
    check(r#"{"type":"publish","topic":"news","json":null}"#, None, said(Kind::Json, b"null"));
    check(r#"{"type":"publish","topic":"news","base64":"AP8K"}"#, None, said(Kind::Binary, b"\x00\xff\n"));
    check(r#"{"type":"publish","topic":"news","base64":"","text":null}"#, None, said(Kind::Binary, b""));
    check(r#"{"type":"ping","id":-1.5e300}"#, Some("-1.5e300"), Ask::Ping);
    check(r#"{"type":"ping","id":null}"#, None, Ask::Ping);
    check(r#"{"id":1,"type":"pong","id":2,"type":"ping"}"#, Some("2"), Ask::Ping);
    check(r#"{"type":"ping","later":{"type":[{"id":7}]},"":0}"#, None, Ask::Ping);
    let longest = format!("\"{}\"", "x".repeat(ID_BYTES_MAX - 2));
    check(&format!(r#"{{"type":"ping","id":{longest}}}"#), Some(&longest), Ask::Ping);
}

#[test]
fn each_mistake_has_its_error() {
    let check = |text: &str, id: Option<&str>, error: Error| {
        assert_eq!(parse(text), Err(Malformed::Refused { id, error }), "{text:.200}");
    };
    check("{}", None, errors::TYPE);
    check(r#"{"id":1,"type":"speak"}"#, Some("1"), errors::TYPE);
    check(r#"{"id":1,"type":7}"#, Some("1"), errors::TYPE);
    check(r#"{"id":1,"type":"Ping"}"#, Some("1"), errors::TYPE);
    let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(ID_BYTES_MAX - 1));
    for text in [&long[..], r#"{"type":"ping","id":true}"#, r#"{"type":"ping","id":[1]}"#] {
        check(text, None, errors::ID);
    }
    check(r#"{"id":1,"type":"subscribe"}"#, Some("1"), errors::TOPIC);
    check(r#"{"id":1,"type":"subscribe","topic":""}"#, Some("1"), errors::TOPIC);
    check(r#"{"id":1,"type":"unsubscribe","topic":5}"#, Some("1"), errors::TOPIC);
    for (name, reason) in [
        ("a//b", Reason::TopicEmptySegment),
        ("a/", Reason::TopicTrailingSlash),
        ("$a", Reason::TopicReserved),
        ("..", Reason::TopicDotSegment),
        ("a*", Reason::TopicPattern),
        (r"a\u0000", Reason::TopicControl),
        (r"\u0085", Reason::TopicControl),
        (&"x".repeat(256), Reason::TopicTooLong),
    ] {
        check(&format!(r#"{{"type":"subscribe","topic":"{name}"}}"#), None, misnamed(reason));
    }
    check(r#"{"type":"subscribe","topic":"a","since":0}"#, None, errors::SINCE);
    let said = |payload: &str, error| {
        check(&format!(r#"{{"type":"publish","topic":"a","id":3{payload}}}"#), Some("3"), error);
    };
    said("", errors::PAYLOAD);
    said(r#","text":"","json":1"#, errors::PAYLOAD);
    said(r#","text":"","base64":"""#, errors::PAYLOAD);
    said(r#","text":1"#, errors::TEXT);
    said(r#","text":"\ud800""#, errors::TEXT);
    said(r#","base64":1"#, errors::BASE64);
    for wrong in ["AP8", "AP8=K", "AP-_", "A P8K", "A"] {
        said(&format!(r#","base64":"{wrong}""#), errors::BASE64);
    }
    let deep = |depth| format!(r#","json":{}{}"#, "[".repeat(depth), "]".repeat(depth));
    said(&deep(json::DEPTH_MAX + 1), errors::DEPTH);
    said(&deep(100_000), errors::DEPTH);
}

#[test]
fn what_is_no_object_ends_the_conversation() {
    for text in [
        "",
        "hello",
        "[]",
        "1",
        "null",
        r#""ping""#,
        r#"{"type":"ping""#,
        r#"{"type":"ping"} {}"#,
        r#"{type:"ping"}"#,
        "{\"type\":\"pi\nng\"}",
        r#"{"type":"ping","later":nul}"#,
    ] {
        assert_eq!(parse(text), Err(Malformed::Unreadable), "{text}");
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn answers_are_written_one_way() {
    let check = |found: String, expect: &str| assert_eq!(found, expect);
    let place = (0xa1, 41);
    check(
        written(|out| subscribed(Some("1"), "news", place, None, out)),
        r#"{"type":"subscribed","id":1,"topic":"news","epoch":"00000000000000a1","offset":41}"#,
    );
    check(
        written(|out| subscribed(None, "n\"", (u64::MAX, 0), Some(true), out)),
        r#"{"type":"subscribed","topic":"n\"","epoch":"ffffffffffffffff","offset":0,"recovered":true}"#,
    );
    check(
        written(|out| subscribed(None, "n", (1, u64::MAX), Some(false), out)),
        r#"{"type":"subscribed","topic":"n","epoch":"0000000000000001","offset":18446744073709551615,"recovered":false}"#,
    );
    check(
        written(|out| unsubscribed(Some(r#""é\n""#), "news", out)),
        r#"{"type":"unsubscribed","id":"é\n","topic":"news"}"#,
    );
    check(
        written(|out| published(Some("3"), "news", place, out)),
        r#"{"type":"published","id":3,"topic":"news","epoch":"00000000000000a1","offset":41}"#,
    );
    check(written(|out| pong(Some("4"), out)), r#"{"type":"pong","id":4}"#);
    check(written(|out| pong(None, out)), r#"{"type":"pong"}"#);
    check(
        written(|out| gap("news", 0xa1, (10, 19), None, out)),
        r#"{"type":"gap","topic":"news","epoch":"00000000000000a1","from":10,"to":19}"#,
    );
    check(
        written(|out| gap("news", 0xa1, (1, 2), Some(7), out)),
        r#"{"type":"gap","topic":"news","epoch":"00000000000000a1","from":1,"to":2,"previous_epoch":"0000000000000007"}"#,
    );
    let busy: Value =
        serde_json::from_str(&written(|out| error(Some("5"), &Error::BUSY, out))).expect("JSON");
    let Error { code, reason, hint } = Error::BUSY;
    assert_eq!(busy, json!({"type": "error", "id": 5, "code": code, "reason": reason, "hint": hint}));
}

#[test]
fn messages_carry_text_json_or_base64() {
    let check = |kind, payload: &[u8], expect: &str| {
        let found = written(|out| message("news", 0xa1, 42, kind, payload, out));
        let place = r#"{"type":"message","topic":"news","epoch":"00000000000000a1","offset":42,"#;
        assert_eq!(found, format!("{place}{expect}}}"));
    };
    check(Kind::Text, b"", r#""text":"""#);
    check(Kind::Text, "a\"\n\u{1}é".as_bytes(), r#""text":"a\"\n\u0001é""#);
    check(Kind::Json, br#"{ "a": 1.00 }"#, r#""json":{ "a": 1.00 }"#);
    check(Kind::Binary, b"\x00\xff\n", r#""base64":"AP8K""#);
}

/// What a client says for this message.
fn request(kind: Kind, name: &str, payload: &[u8]) -> String {
    let mut object = json!({"type": "publish", "id": "x", "topic": name});
    let (member, value) = match kind {
        Kind::Text => ("text", Value::from(str::from_utf8(payload).expect("text"))),
        Kind::Json => ("json", serde_json::from_slice(payload).expect("JSON")),
        Kind::Binary => ("base64", STANDARD.encode_to_string(payload).into()),
    };
    object[member] = value;
    object.to_string()
}

proptest! {
    #[test]
    fn what_is_published_is_what_is_heard(
        name in "[a-zé \"\\\\]{1,20}(/[a-z]{1,5})?",
        text in "\\PC{0,20}[\\x00-\\x7f]{0,40}",
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        offset: u64,
    ) {
        let json = json!([{ "a": &text }, offset]).to_string();
        let payloads = [(Kind::Text, text.as_bytes()), (Kind::Json, json.as_bytes()), (Kind::Binary, &bytes)];
        for (kind, said) in payloads {
            let text = request(kind, &name, said);
            let Ok(Request { ask: Ask::Publish { topic, kind: read, payload }, .. }) = parse(&text) else {
                panic!("{text}");
            };
            prop_assert_eq!((topic.as_str(), read, &*payload), (&name[..], kind, said));
            let heard = written(|out| message(&name, 5, offset, kind, &payload, out));
            let heard: Value = serde_json::from_str(&heard).expect("JSON");
            prop_assert_eq!(&heard["topic"], &name);
            prop_assert_eq!(&heard["offset"], offset);
            match kind {
                Kind::Text => prop_assert_eq!(heard["text"].as_str().expect("a string").as_bytes(), said),
                Kind::Json => prop_assert_eq!(heard["json"].to_string(), &*json),
                Kind::Binary => {
                    let base64 = heard["base64"].as_str().expect("a string");
                    prop_assert_eq!(STANDARD.decode_to_vec(base64).expect("base64"), said);
                }
            }
        }
    }

    #[test]
    fn anything_is_read_or_refused(text in "[{}\\[\\]:,\"a-z0-9\\\\ ]{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn cut_requests_end_the_conversation(cut in 0_usize..50) {
        let whole = r#"{"type":"publish","topic":"news","text":"é\n","id":1}"#;
        let cut = whole.char_indices().nth(cut).map_or(0, |(at, _)| at);
        prop_assert_eq!(parse(&whole[..cut]), Err(Malformed::Unreadable));
    }
}
