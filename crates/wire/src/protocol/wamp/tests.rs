use base64_simd::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Kind;
use crate::topic::TopicName;

const EPOCH: u64 = 0xa1;

/// Reads `text` in a session.
fn said(text: &str) -> Result<Said<'_>, Fault> {
    parse(text, true)
}

fn check_violation(text: &str, established: bool, words: &str) {
    match parse(text, established) {
        Err(Fault::Violation(message)) => assert!(message.contains(words), "{text}: {message}"),
        other => panic!("{text}: {other:?}"),
    }
}

fn check_refused(text: &str, code: u64, request: u64, error: Error) {
    assert_eq!(said(text), Err(Fault::Refused { code, request, error }), "{text}");
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    let text = String::from_utf8(out).expect("what is said is text");
    serde_json::from_str::<Vec<Value>>(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    text
}

fn published_as(text: &str) -> (Kind, String) {
    match said(text) {
        Ok(Said::Publish(publish)) => (publish.kind, String::from_utf8_lossy(&publish.payload).into_owned()),
        other => panic!("{text}: {other:?}"),
    }
}

/// The arguments of the event that a message is.
fn heard(kind: Kind, payload: &[u8]) -> Vec<Value> {
    let text = written(|out| event("news", EPOCH, 7, kind, payload, out));
    let Ok(Value::Array(mut elements)) = serde_json::from_str(&text) else { panic!("{text}") };
    let head: Vec<_> = elements.drain(..4).collect();
    let expect = json!([
        36,
        subscription_id("news"),
        publication_id(EPOCH, 7),
        {"_epoch": "00000000000000a1", "_offset": 7}
    ]);
    assert_eq!(Value::Array(head), expect);
    elements
}

#[test]
fn s4_1_1_a_session_begins_with_hello() {
    let check = |text: &str, expect: &str| {
        assert_eq!(parse(text, false), Ok(Said::Hello { realm: expect.into() }), "{text}");
    };
    check(r#"[1,"realm1",{"roles":{"subscriber":{}}}]"#, "realm1");
    check(
        r#" [1, "re\u0061lm1", {"agent":"x","roles":{"publisher":{"features":{}}},"authid":null}] "#,
        "realm1",
    );
    check(r#"[1,"",{"roles":{"caller":{}},"_own":1}]"#, "");
    for text in [
        "[1]",
        r#"[1,"r"]"#,
        r#"[1,"r",{}]"#,
        r#"[1,"r",{"roles":{}}]"#,
        r#"[1,"r",{"roles":{ }}]"#,
        r#"[1,"r",{"roles":[1]}]"#,
        r#"[1,"r",{"roles":null}]"#,
        r#"[1,"r",[{"roles":{"caller":{}}}]]"#,
        r#"[1,7,{"roles":{"caller":{}}}]"#,
        r#"[1,"\ud800",{"roles":{"caller":{}}}]"#,
        r#"[1,"r",{"roles":{"caller":{}}},[]]"#,
        r#"[1,"r",{"roles":{"caller":{}},"roles":{"callee":{}}}]"#,
    ] {
        check_violation(text, false, "HELLO is [1, Realm|uri");
    }
}

#[test]
fn s2_3_3_what_ends_a_session() {
    for text in
        [r#"[6,{},"wamp.close.close_realm"]"#, r#"[16,1,{},"t"]"#, r#"[8,32,1,{},"e"]"#, "[2]", "[999]"]
    {
        check_violation(text, false, "first message of a session is HELLO");
    }
    check_violation(r#"[1,"realm1",{"roles":{"caller":{}}}]"#, true, "once in a session");
    // What only routers send, what needs a dealer's invocation or a challenge, and what is not known.
    for code in [0, 2, 4, 5, 7, 8, 17, 33, 35, 36, 50, 65, 67, 68, 69, 70, 255, 256, 1023, u64::MAX] {
        check_violation(&format!("[{code},1,{{}}]"), true, "messages of this type");
    }
    for text in [
        "", "[", "[]", "{}", "7", "null", "[null]", r#"["1"]"#, "[-1]", "[1.0]", "[1e0]", "[6,]", "[6] [6]",
        "[6}",
    ] {
        check_violation(text, true, "a JSON array that begins with its type");
        check_violation(text, false, "a JSON array that begins with its type");
    }
}

#[test]
fn s4_2_1_goodbye_and_abort() {
    assert_eq!(said(r#"[6,{},"wamp.close.close_realm"]"#), Ok(Said::Goodbye));
    assert_eq!(said(r#"[6,{"message":"enough"},"x"]"#), Ok(Said::Goodbye));
    for text in ["[6]", "[6,{}]", "[6,[],\"x\"]", "[6,{},7]", "[6,{},\"x\",[]]"] {
        check_violation(text, true, "GOODBYE is");
    }
    // Nobody answers an ABORT, whatever it looks like.
    for established in [true, false] {
        assert_eq!(parse(r#"[3,{},"wamp.error.no_such_realm",[],{}]"#, established), Ok(Said::Abort));
        assert_eq!(parse("[3]", established), Ok(Said::Abort));
    }
}

#[test]
fn s5_1_1_subscribe() {
    let check_gaps = |text: &str, request: u64, topic: &str, since: Option<&str>, gaps: bool| {
        let (topic, since) = (TopicName::from_text(topic).expect("a name"), since.map(str::to_owned));
        assert_eq!(said(text), Ok(Said::Subscribe { request, topic, since, gaps }), "{text}");
    };
    let check = |text: &str, request: u64, topic: &str, since: Option<&str>| {
        check_gaps(text, request, topic, since, false);
    };
    check(r#"[32,713845233,{},"com.myapp.mytopic1"]"#, 713_845_233, "com.myapp.mytopic1", None);
    check(r#"[32,1,{"match":"exact","get_retained":true,"x":[]},"a/b"]"#, 1, "a/b", None);
    check(r#"[32,9007199254740992,{"_since":"0"},"caf\u00e9"]"#, ID_MAX, "caf\u{e9}", Some("0"));
    check(r#"[32,2,{"match":null,"_since":null},"t"]"#, 2, "t", None);
    check_gaps(r#"[32,3,{"_gaps":true},"t"]"#, 3, "t", None, true);
    check_gaps(r#"[32,4,{"_gaps":false,"_since":"0"},"t"]"#, 4, "t", Some("0"), false);
    check_gaps(r#"[32,5,{"_gaps":null},"t"]"#, 5, "t", None, false);
    for policy in ["prefix", "wildcard", "regex", ""] {
        check_refused(&format!(r#"[32,3,{{"match":"{policy}"}},"a..b"]"#), code::SUBSCRIBE, 3, errors::MATCH);
    }
    for text in [
        "[32]",
        r#"[32,1,{}]"#,
        r#"[32,0,{},"t"]"#,
        r#"[32,-1,{},"t"]"#,
        r#"[32,1.0,{},"t"]"#,
        r#"[32,9007199254740993,{},"t"]"#,
        r#"[32,"1",{},"t"]"#,
        r#"[32,1,[],"t"]"#,
        r#"[32,1,null,"t"]"#,
        r#"[32,1,{"match":1},"t"]"#,
        r#"[32,1,{"match":"exact","match":"exact"},"t"]"#,
        r#"[32,1,{"_since":0},"t"]"#,
        r#"[32,1,{"_gaps":1},"t"]"#,
        r#"[32,1,{"_gaps":"true"},"t"]"#,
        r#"[32,1,{},["t"]]"#,
        r#"[32,1,{},"t",[]]"#,
        r#"[32,1,{},"t",1,2,3,4]"#,
    ] {
        check_violation(text, true, "SUBSCRIBE is [32");
    }
}

#[test]
fn s2_1_1_topics_are_uris_and_names() {
    let check = |topic: &str, expect: Result<(), Error>| {
        let text = json!([32, 5, {}, topic]).to_string();
        match expect {
            Ok(()) => assert!(matches!(said(&text), Ok(Said::Subscribe { .. })), "{text}"),
            Err(error) => check_refused(&text, code::SUBSCRIBE, 5, error),
        }
    };
    for topic in ["news", "com.example.News-1", "a/b.c", "wamps.a", "wa.wamp", "wamp-a", "a:b", "\u{1f315}"] {
        check(topic, Ok(()));
    }
    for topic in [".", "a.", ".a", "a..b", "a b", "a.\u{a0}b", "a\u{2028}b"] {
        check(topic, Err(if topic == "." { errors::topic(Reason::TopicDotSegment) } else { errors::URI }));
    }
    for topic in ["wamp", "wamp.session.on_join", "wamp.a/b"] {
        check(topic, Err(errors::RESERVED));
    }
    check("", Err(errors::topic(Reason::TopicEmpty)));
    check("a#b", Err(errors::topic(Reason::TopicPattern)));
    check("a\nb", Err(errors::topic(Reason::TopicControl)));
    check("$sys", Err(errors::topic(Reason::TopicReserved)));
    check("a//b", Err(errors::topic(Reason::TopicEmptySegment)));
    check(&"x".repeat(256), Err(errors::topic(Reason::TopicTooLong)));
}

#[test]
fn s5_1_4_unsubscribe() {
    let expect = Said::Unsubscribe { request: 85_346_237, subscription: 5_512_315_355 };
    assert_eq!(said("[34,85346237,5512315355]"), Ok(expect));
    for text in ["[34]", "[34,1]", "[34,1,0]", "[34,1,{},2]", "[34,1,\"2\"]", "[34,1,2,{}]"] {
        check_violation(text, true, "UNSUBSCRIBE is [34");
    }
}

#[test]
fn s5_2_1_publish() {
    let check = |options: &str, acknowledge: bool, exclude_me: bool| {
        let text = format!(r#"[16,239714735,{options},"com.myapp.mytopic1",["Hello, world!"]]"#);
        let expect = Publish {
            request: 239_714_735,
            acknowledge,
            exclude_me,
            topic: TopicName::from_text("com.myapp.mytopic1").expect("a name"),
            kind: Kind::Text,
            payload: b"Hello, world!".into(),
        };
        assert_eq!(said(&text), Ok(Said::Publish(expect)), "{text}");
    };
    check("{}", false, true);
    check(r#"{"acknowledge":true}"#, true, true);
    check(r#"{"exclude_me":false,"disclose_me":true,"retain":true}"#, false, false);
    check(r#"{"exclude_me":true,"acknowledge":false,"_own":{"a":[]}}"#, false, true);
    check(r#"{"exclude_me":null,"eligible":null}"#, false, true);
    for text in [
        "[16]",
        r#"[16,1,{}]"#,
        r#"[16,0,{},"t"]"#,
        r#"[16,1,"{}","t"]"#,
        r#"[16,1,{},7]"#,
        r#"[16,1,{},"t",{}]"#,
        r#"[16,1,{},"t","text"]"#,
        r#"[16,1,{},"t",[],[]]"#,
        r#"[16,1,{},"t",null,{}]"#,
        r#"[16,1,{},"t",[],{},[]]"#,
        // §3: integers are not used instead of booleans.
        r#"[16,1,{"acknowledge":1},"t"]"#,
        r#"[16,1,{"exclude_me":"no"},"t"]"#,
    ] {
        check_violation(text, true, "PUBLISH is [16");
    }
}

#[test]
fn s5_2_3_only_acknowledged_publications_are_answered() {
    let check = |options: &str, topic: &str, error: Error| {
        let acknowledged = format!(r#"[16,9,{{"acknowledge":true,{options}}},"{topic}"]"#);
        check_refused(&acknowledged, code::PUBLISH, 9, error);
        let plain = format!(r#"[16,9,{{"acknowledge":false,{options}}},"{topic}"]"#);
        assert_eq!(said(&plain), Err(Fault::Unanswered(error)), "{plain}");
    };
    for option in
        ["exclude", "exclude_authid", "exclude_authrole", "eligible", "eligible_authid", "eligible_authrole"]
    {
        check(&format!(r#""{option}":[]"#), "t", errors::LISTING);
    }
    check(r#""ppt_scheme":"x_own""#, "t", errors::PASSTHRU);
    check(r#""x":1"#, "a..b", errors::URI);
    check(r#""x":1"#, "wamp.a", errors::RESERVED);
}

#[test]
fn s6_there_is_no_dealer() {
    check_refused(r#"[48,7,{},"com.example.add",[1,2],{}]"#, code::CALL, 7, errors::NO_SUCH_PROCEDURE);
    check_refused(r#"[64,8,{},"com.example.add"]"#, code::REGISTER, 8, errors::NO_DEALER);
    check_refused("[48,7,1,2,3,4,5,6,7]", code::CALL, 7, errors::NO_SUCH_PROCEDURE);
    check_refused(r#"[66,9,27]"#, code::UNREGISTER, 9, errors::NO_SUCH_REGISTRATION);
    assert_eq!(said(r#"[49,7,{}]"#), Ok(Said::Nothing));
    for code in [48, 49, 64, 66] {
        check_violation(&format!("[{code}]"), true, "Request|id");
        check_violation(&format!("[{code},{{}}]"), true, "Request|id");
    }
}

#[test]
fn what_a_publication_is_as_a_message() {
    let check = |arguments: &str, kind: Kind, payload: &str| {
        let text = format!(r#"[16,1,{{}},"t"{arguments}]"#);
        assert_eq!(published_as(&text), (kind, payload.to_owned()), "{text}");
    };
    check(r#",["hello"]"#, Kind::Text, "hello");
    check(r#", [ "" ] , { }"#, Kind::Text, "");
    check(r#",["a\"\u00e9\n"],{}"#, Kind::Text, "a\"\u{e9}\n");
    check(r#",["\u0000aGVsbG8="]"#, Kind::Binary, "hello");
    check(r#",["\u0000"]"#, Kind::Binary, "");
    check(r#",["\u0000?"]"#, Kind::Text, "\0?");
    check("", Kind::Json, r#"{"args":[],"kwargs":{}}"#);
    check(",[]", Kind::Json, r#"{"args":[],"kwargs":{}}"#);
    check(r#",[1.50, "b" ]"#, Kind::Json, r#"{"args":[1.50, "b" ],"kwargs":{}}"#);
    check(r#",["a"],{"b":1e9}"#, Kind::Json, r#"{"args":["a"],"kwargs":{"b":1e9}}"#);
    check(r#",[["a"]]"#, Kind::Json, r#"{"args":[["a"]],"kwargs":{}}"#);
    check(r#",["a","b"]"#, Kind::Json, r#"{"args":["a","b"],"kwargs":{}}"#);
    check(r#",["\ud800"]"#, Kind::Json, r#"{"args":["\ud800"],"kwargs":{}}"#);
    let deep = |depth: usize| {
        format!(r#"[16,1,{{"acknowledge":true}},"t",{}{}]"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert_eq!(published_as(&deep(json::DEPTH_MAX - 1)).0, Kind::Json);
    check_refused(&deep(json::DEPTH_MAX), code::PUBLISH, 1, errors::DEPTH);
}

#[test]
fn s5_2_4_what_a_message_is_as_an_event() {
    let check = |kind: Kind, payload: &[u8], expect: Value| {
        assert_eq!(Value::Array(heard(kind, payload)), expect, "{kind:?} {}", payload.escape_ascii());
    };
    check(Kind::Text, b"hello", json!([["hello"]]));
    check(Kind::Text, b"", json!([[""]]));
    check(Kind::Text, b"{\"args\":[],\"kwargs\":{}}", json!([["{\"args\":[],\"kwargs\":{}}"]]));
    check(Kind::Text, b"\0hello", json!([["\0AGhlbGxv"]]));
    check(Kind::Binary, b"\xff\xfe", json!([["\0//4="]]));
    check(Kind::Binary, b"", json!([["\0"]]));
    // §3.7: what is empty is left out.
    check(Kind::Json, br#"{"args":[],"kwargs":{}}"#, json!([]));
    check(Kind::Json, br#"{"args":[1],"kwargs":{ }}"#, json!([[1]]));
    check(Kind::Json, br#" {"kwargs":{"a":1},"args":[ ]}"#, json!([[], {"a": 1}]));
    check(Kind::Json, br#"{"args":["x",2],"kwargs":{"a":{}}}"#, json!([["x", 2], {"a": {}}]));
    for other in [
        r#"{"args":[1]}"#,
        r#"{"kwargs":{}}"#,
        r#"{"args":{},"kwargs":{}}"#,
        r#"{"args":[],"kwargs":[]}"#,
        r#"{"args":[],"kwargs":{},"x":1}"#,
        r#"[[1],{"a":1}]"#,
        r#""text""#,
        "null",
        "7",
    ] {
        let value: Value = serde_json::from_str(other).expect("JSON");
        check(Kind::Json, other.as_bytes(), json!([[value]]));
    }
}

#[test]
fn a_gap_is_an_event_that_says_what_is_missing() {
    let check = |(from, to): (u64, u64), previous: Option<u64>, missing: &str| {
        let (subscription, publication) = (subscription_id("news"), publication_id(EPOCH, to));
        let place = format!(r#""_epoch":"00000000000000a1","_offset":{to}"#);
        let missing = format!(r#"{{"epoch":"00000000000000a1",{missing}}}"#);
        assert_eq!(
            written(|out| gap("news", EPOCH, (from, to), previous, out)),
            format!(
                r#"[36,{subscription},{publication},{{{place},"_gap":{missing}}},[],{{"_gap":{missing}}}]"#
            )
        );
    };
    check((10, 19), None, r#""from":10,"to":19"#);
    check((1, 3), Some(0xb2), r#""from":1,"to":3,"previous_epoch":"00000000000000b2""#);
    // Nothing of this epoch is missing.
    check((1, 0), Some(0xb2), r#""from":1,"to":0,"previous_epoch":"00000000000000b2""#);
}

#[test]
fn strings_that_look_like_bytes_are_bytes() {
    let check = |payload: &str, expect: bool| {
        let whole = json!([[format!("\0{}", STANDARD.encode_to_string(payload))]]);
        assert_eq!(Value::Array(heard(Kind::Json, payload.as_bytes())) != whole, expect, "{payload}");
    };
    check(r#"{"a":["\u0000aGVsbG8="]}"#, true);
    check(r#"["\u0000\/\/4="]"#, true);
    check(r#"["a\u0000?","\"\u0000?","\\\"\u0000?"]"#, true);
    check(r#"["\u0000?"]"#, false);
    check(r#"{"\u0000?":1}"#, false);
    check(r#"["\\","\u0000aGVsbG8"]"#, false);
    check(r#"["\u0000aGVsbG8=","\u0000\ud800"]"#, false);
}

#[test]
fn answers_are_written_as_the_specification_has_them() {
    let expect = concat!(
        r#"[2,9129137332,{"realm":"realm1","agent":"Moongate","#,
        r#""roles":{"broker":{"features":{"publisher_exclusion":true}}}}]"#
    );
    assert_eq!(written(|out| welcome(9_129_137_332, "realm1", out)), expect);
    assert_eq!(
        written(|out| abort(reason::NO_SUCH_REALM, "The realm does not exist.", out)),
        r#"[3,{"message":"The realm does not exist."},"wamp.error.no_such_realm"]"#
    );
    assert_eq!(
        written(|out| goodbye(reason::GOODBYE_AND_OUT, "", out)),
        r#"[6,{},"wamp.close.goodbye_and_out"]"#
    );
    assert_eq!(written(|out| subscribed(713_845_233, 5_512_315_355, out)), "[33,713845233,5512315355]");
    assert_eq!(written(|out| unsubscribed(85_346_237, out)), "[35,85346237]");
    assert_eq!(written(|out| published(239_714_735, 4_429_313_566, out)), "[17,239714735,4429313566]");
    let error = Error { code: "wamp.error.no_such_subscription", reason: "What.", hint: "How." };
    assert_eq!(
        written(|out| super::error(code::UNSUBSCRIBE, 85_346_237, &error, out)),
        r#"[8,34,85346237,{},"wamp.error.no_such_subscription",["What. How."]]"#
    );
}

#[test]
fn s2_1_2_ids_are_in_range_and_spread() {
    assert_eq!((in_range(0), in_range(u64::MAX)), (1, ID_MAX));
    let mut seen: Vec<u64> = (0..1000).map(|index| subscription_id(&format!("topic/{index}"))).collect();
    seen.extend((0..1000).map(|offset| publication_id(EPOCH, offset)));
    seen.extend((0..1000).map(|epoch| publication_id(epoch << 32, 1)));
    assert!(seen.iter().all(|id| (1..=ID_MAX).contains(id)));
    let upper = seen.iter().filter(|id| **id > ID_MAX / 2).count();
    assert!((1300..1700).contains(&upper), "{upper}");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3000);
}

/// Any JSON, not deep.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a\"\\\\\u{0}é/=]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("args|kwargs|[a\u{0}]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Whether a client that reads all strings after U+0000 as bytes can read this.
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

proptest! {
    #[test]
    fn what_is_published_is_heard(
        args in prop::collection::vec(any_value(), 0..3),
        kwargs in prop::collection::btree_map("[a-z]{1,3}", any_value(), 0..3),
    ) {
        let kwargs: Value = kwargs.into_iter().collect::<serde_json::Map<_, _>>().into();
        let text = json!([16, 1, {}, "news", args, kwargs]).to_string();
        let Ok(Said::Publish(publish)) = said(&text) else { panic!("{text}") };
        let heard = heard(publish.kind, &publish.payload);
        let whole = Value::Array(vec![args.clone().into(), kwargs.clone()]);
        prop_assert!(heard.iter().all(is_readable));
        if is_readable(&whole) {
            let padded: Vec<_> = heard.into_iter().chain([json!([]), json!({})]).collect();
            prop_assert_eq!(&padded[0], &Value::from(args));
            let words = padded.iter().find(|value| value.is_object());
            prop_assert_eq!(words, Some(&kwargs));
        } else {
            prop_assert!(matches!(&heard[..], [Value::Array(one)] if one.len() == 1));
        }
    }

    #[test]
    fn nothing_a_client_sends_is_our_fault(text in "\\[?(1|3|6|16|32|34|48|64)?[\\[\\]{},:\"0-9a-z ]{0,40}", established: bool) {
        let _ = parse(&text, established);
    }
}
