//! Sessions of one shard, whose requests come in the same read or tick where that could make a difference.

use std::time::Duration;

use moongate_hub::{HistoryLimits, OutboxPolicy};
use moongate_io::{ConnId, Inbound};
use moongate_wire::Kind;
use moongate_wire::frame::{Opcode, ServerFrames, encode_masked};
use moongate_wire::protocol::wamp::{event, publication_id, subscription_id};

use crate::Config;
use crate::stage::Stage;

const UPGRADE: &str = "GET /connect HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: wamp.2.json\r\n\r\n";
const HELLO: &str = r#"[1,"realm1",{"roles":{"publisher":{},"subscriber":{}}}]"#;

fn stage(change: impl FnOnce(&mut Config)) -> Stage {
    Stage::with("/connect connect; /topics/* topics", |config| {
        config.policy.may_publish = true;
        change(config);
    })
}

/// A WebSocket on which nothing has been said.
fn open(stage: &mut Stage) -> ConnId {
    let peer = stage.client();
    stage.says(peer, UPGRADE);
    assert!(stage.heard(peer).contains("\r\nSec-WebSocket-Protocol: wamp.2.json\r\n"));
    peer
}

/// One with a session.
fn join(stage: &mut Stage) -> ConnId {
    let peer = open(stage);
    tell(stage, peer, &[HELLO]);
    let heard = hear(stage, peer);
    assert!(heard.len() == 1 && heard[0].starts_with("[2,"), "{heard:?}");
    peer
}

/// Sends messages, all in one read.
fn tell(stage: &mut Stage, peer: ConnId, messages: &[&str]) {
    let mut bytes = Vec::new();
    for message in messages {
        encode_masked(Opcode::Text, true, [1, 2, 3, 4], message.as_bytes(), &mut bytes);
    }
    stage.says(peer, bytes);
}

/// What was said to `peer` since the last time; a Close by its code.
fn hear(stage: &mut Stage, peer: ConnId) -> Vec<String> {
    let mut frames = ServerFrames::default();
    frames.push(&stage.heard_bytes(peer));
    let mut heard = Vec::new();
    while let Some(frame) = frames.next_frame().expect("right frames") {
        heard.push(match frame.opcode {
            Opcode::Close => {
                format!("close {}", u16::from_be_bytes(*frame.payload.first_chunk().expect("a code")))
            }
            _ => String::from_utf8(frame.payload.to_vec()).expect("text"),
        });
    }
    heard
}

/// Whether each of `heard` begins as expected, and there is no more.
#[track_caller]
fn check(heard: &[String], expect: &[String]) {
    let begins = heard.iter().zip(expect).all(|(heard, expect)| heard.starts_with(expect.as_str()));
    assert!(heard.len() == expect.len() && begins, "heard {heard:#?}, expected {expect:#?}");
}

fn subscribed(request: u64, topic: &str) -> String {
    format!("[33,{request},{}]", subscription_id(topic))
}

/// How every event of `topic` begins.
fn an_event(topic: &str) -> String {
    format!("[36,{},", subscription_id(topic))
}

#[test]
fn a_conversation_in_one_read() {
    let mut stage = stage(|_| {});
    let peer = open(&mut stage);
    let goodbye = r#"[6,{},"wamp.close.close_realm"]"#;
    tell(&mut stage, peer, &[HELLO, r#"[48,1,{},"com.example.add"]"#, goodbye, HELLO]);
    let expect = [
        "[2,",
        "[8,48,1,{},\"wamp.error.no_such_procedure\"",
        "[6,{},\"wamp.close.goodbye_and_out\"]",
        "close 1000",
    ];
    check(&hear(&mut stage, peer), &expect.map(str::to_owned));
    stage.ends(peer);
    stage.assert_empty();
}

#[test]
fn s5_1_a_topic_subscribed_to_twice_is_one_subscription() {
    let mut stage = stage(|_| {});
    let peer = join(&mut stage);
    // The others come before the home has answered the first.
    tell(&mut stage, peer, &[r#"[32,1,{},"t"]"#, r#"[32,2,{},"t"]"#, r#"[32,9,{},"t"]"#]);
    check(&hear(&mut stage, peer), &[subscribed(1, "t"), subscribed(2, "t"), subscribed(9, "t")]);
    tell(&mut stage, peer, &[r#"[32,3,{},"t"]"#, r#"[16,4,{"exclude_me":false},"t",["x"]]"#]);
    check(&hear(&mut stage, peer), &[subscribed(3, "t"), an_event("t")]);
    let unsubscribe = format!("[34,5,{}]", subscription_id("t"));
    tell(&mut stage, peer, &[&unsubscribe, &unsubscribe]);
    let refused = "[8,34,5,{},\"wamp.error.no_such_subscription\"".to_owned();
    check(&hear(&mut stage, peer), &["[35,5]".to_owned(), refused]);
    stage.resets(peer);
    stage.assert_empty();
}

#[test]
fn whoever_asks_while_the_home_is_asked_gets_its_answer() {
    let mut stage = stage(|config| {
        config.hub.topics_max = 1;
        config.requests_in_flight_max = 3;
    });
    let (one, other) = (join(&mut stage), join(&mut stage));
    tell(&mut stage, one, &[r#"[32,1,{},"t"]"#]);
    check(&hear(&mut stage, one), &[subscribed(1, "t")]);
    // More than may be in flight at once, and to a topic that cannot be.
    let asks: Vec<String> = (1..=8).map(|request| format!(r#"[32,{request},{{}},"full"]"#)).collect();
    tell(&mut stage, other, &asks.iter().map(String::as_str).collect::<Vec<_>>());
    stage.tick();
    let refused = |request| format!("[8,32,{request},{{}},\"wamp.error.unavailable\"");
    check(&hear(&mut stage, other), &(1..=8).map(refused).collect::<Vec<_>>());
    // What is taken back is answered first, and what leaves in between leaves nothing behind.
    let unsubscribe = format!("[34,4,{}]", subscription_id("t"));
    tell(&mut stage, one, &[&unsubscribe.replace("[34,4", "[34,2")]);
    check(&hear(&mut stage, one), &["[35,2]".to_owned()]);
    let ask = |request| format!(r#"[32,{request},{{}},"t"]"#);
    tell(&mut stage, other, &[&ask(1), &ask(2), &unsubscribe, &ask(5)]);
    stage.tick();
    let answers = [subscribed(1, "t"), subscribed(2, "t"), "[35,4]".to_owned(), subscribed(5, "t")];
    check(&hear(&mut stage, other), &answers);
    stage.resets(other);
    let mut both = Vec::new();
    for ask in [ask(3), ask(4)] {
        encode_masked(Opcode::Text, true, [1, 2, 3, 4], ask.as_bytes(), &mut both);
    }
    stage.says_and(one, both, Inbound::Reset);
    stage.assert_empty();
}

#[test]
fn an_unsubscribe_may_overtake_the_answer_to_its_subscribe() {
    let mut stage = stage(|_| {});
    let peer = join(&mut stage);
    let unsubscribe = format!("[34,2,{}]", subscription_id("t"));
    tell(&mut stage, peer, &[r#"[32,1,{},"t"]"#, &unsubscribe, r#"[16,3,{"exclude_me":false},"t",["x"]]"#]);
    check(&hear(&mut stage, peer), &[subscribed(1, "t"), "[35,2]".to_owned()]);
    stage.resets(peer);
    stage.assert_empty();
}

#[test]
fn who_publishes_does_not_hear_it_and_all_others_do() {
    let mut stage = stage(|_| {});
    let (one, other) = (join(&mut stage), join(&mut stage));
    for peer in [one, other] {
        tell(&mut stage, peer, &[r#"[32,1,{},"t"]"#]);
        check(&hear(&mut stage, peer), &[subscribed(1, "t")]);
    }
    let said: Vec<String> =
        (0..6).map(|n| format!(r#"[16,{},{{"exclude_me":{}}},"t",[{n}]]"#, n + 2, n % 2 == 0)).collect();
    tell(&mut stage, one, &said.iter().map(String::as_str).collect::<Vec<_>>());
    let numbers = |heard: Vec<String>| -> Vec<String> {
        heard.iter().map(|event| event.rsplit("},[").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(numbers(hear(&mut stage, other)), ["0]]", "1]]", "2]]", "3]]", "4]]", "5]]"]);
    assert_eq!(numbers(hear(&mut stage, one)), ["1]]", "3]]", "5]]"]);
    for peer in [one, other] {
        stage.resets(peer);
    }
    stage.assert_empty();
}

#[test]
fn s5_2_2_an_acknowledged_publication_is_named_as_its_event_is() {
    let mut stage = stage(|_| {});
    let (one, other) = (join(&mut stage), join(&mut stage));
    tell(&mut stage, other, &[r#"[32,1,{},"t"]"#]);
    hear(&mut stage, other);
    tell(&mut stage, one, &[r#"[16,7,{"acknowledge":true},"t",["x"]]"#, r#"[16,8,{},"t",["y"]]"#]);
    let heard = hear(&mut stage, other);
    let (_, epoch) = heard[0].split_once("\"_epoch\":\"").expect("a place");
    let epoch = u64::from_str_radix(&epoch[..16], 16).expect("an epoch");
    let mut expect = Vec::new();
    event("t", epoch, 1, Kind::Text, b"x", &mut expect);
    assert_eq!(heard[0].as_bytes(), expect);
    assert_eq!(hear(&mut stage, one), [format!("[17,7,{}]", publication_id(epoch, 1))]);
    for peer in [one, other] {
        stage.resets(peer);
    }
    stage.assert_empty();
}

#[test]
fn what_is_not_done_is_answered_where_an_answer_was_asked_for() {
    let check_refused = |change: fn(&mut Config), topics: &[&str], uri: &str| {
        let mut stage = stage(change);
        let peer = join(&mut stage);
        for (number, topic) in topics.iter().enumerate() {
            tell(&mut stage, peer, &[&format!(r#"[32,{},{{}},"{topic}"]"#, number + 1)]);
            check(&hear(&mut stage, peer), &[subscribed(number as u64 + 1, topic)]);
        }
        let ask = r#"[16,8,{"acknowledge":true},"full",[1]]"#;
        tell(&mut stage, peer, &[r#"[16,7,{},"full",[1]]"#, ask]);
        check(&hear(&mut stage, peer), &[format!("[8,16,8,{{}},\"{uri}\"")]);
        stage.resets(peer);
        stage.assert_empty();
    };
    check_refused(|config| config.policy.may_publish = false, &[], "wamp.error.not_authorized");
    check_refused(|config| config.hub.topics_max = 1, &["t"], "wamp.error.unavailable");

    let mut stage = stage(|config| config.hub.topics_max = 1);
    let peer = join(&mut stage);
    tell(&mut stage, peer, &[r#"[32,1,{},"t"]"#, r#"[32,2,{},"full"]"#]);
    let mut heard = hear(&mut stage, peer);
    heard.sort();
    check(&heard, &[subscribed(1, "t"), "[8,32,2,{},\"wamp.error.unavailable\"".to_owned()]);
    stage.resets(peer);
    stage.assert_empty();
}

#[test]
fn s2_3_3_a_violation_ends_it_and_nothing_after_it_is_done() {
    let mut stage = stage(|_| {});
    let (one, other) = (join(&mut stage), join(&mut stage));
    tell(&mut stage, other, &[r#"[32,1,{},"t"]"#]);
    hear(&mut stage, other);
    tell(&mut stage, one, &[r#"[32,1,{},"t"]"#, "[2]", r#"[16,2,{},"t",["unheard"]]"#]);
    let abort = "[3,{\"message\":\"A client does not send messages of this type to a broker.\"},\
         \"wamp.error.protocol_violation\"]";
    assert_eq!(hear(&mut stage, one), [&subscribed(1, "t"), abort, "close 1002"]);
    check(&hear(&mut stage, other), &[]);
    stage.ends(one);
    stage.resets(other);
    stage.assert_empty();
}

/// The offset of each event, or those of a gap's first and last message.
fn places(heard: &[String]) -> Vec<String> {
    let number = |event: &str, name: &str| {
        let (_, rest) = event.split_once(&format!("\"{name}\":"))?;
        Some(rest.split([',', '}']).next().unwrap_or(rest).to_owned())
    };
    let place = |event: &String| match (number(event, "from"), number(event, "to")) {
        (Some(from), Some(to)) => format!("{from}-{to}"),
        _ => number(event, "_offset").expect("a place"),
    };
    heard.iter().filter(|heard| heard.starts_with("[36,")).map(place).collect()
}

#[test]
fn who_comes_back_too_late_is_told_what_is_missing_if_it_asked_to_be() {
    let mut stage = stage(|config| {
        config.hub.history =
            HistoryLimits { messages_max: 2, bytes_max: 1 << 16, ttl: Duration::from_secs(60) };
    });
    let speaker = join(&mut stage);
    for number in 1..=5 {
        tell(&mut stage, speaker, &[&format!(r#"[16,{number},{{}},"t",["x"]]"#)]);
    }
    let mut check = |options: &str, expect: &[&str]| {
        let peer = join(&mut stage);
        tell(&mut stage, peer, &[&format!(r#"[32,1,{{{options}}},"t"]"#)]);
        let heard = hear(&mut stage, peer);
        assert!(heard[0].starts_with("[33,1,"), "{heard:?}");
        assert_eq!(places(&heard), expect, "{options}");
        stage.resets(peer);
    };
    check(r#""_since":"0""#, &["4", "5"]);
    check(r#""_since":"00000000000000a1-1""#, &["4", "5"]);
    check(r#""_since":"00000000000000a1-1","_gaps":false"#, &["4", "5"]);
    check(r#""_since":"00000000000000a1-1","_gaps":true"#, &["1-3", "4", "5"]);
    check(r#""_gaps":true"#, &[]);
}

#[test]
fn who_subscribes_twice_is_told_of_gaps_as_the_first_asked() {
    for (first, second, expect) in [("true", "false", true), ("false", "true", false)] {
        let mut stage = stage(|config| {
            config.hub.outbox.policy = OutboxPolicy::DropOldest;
            config.hub.outbox.slow_reader_timeout = Duration::ZERO;
        });
        let (peer, speaker) = (join(&mut stage), join(&mut stage));
        for gaps in [first, second] {
            tell(&mut stage, peer, &[&format!(r#"[32,1,{{"_gaps":{gaps}}},"t"]"#)]);
        }
        assert_eq!(hear(&mut stage, peer), [subscribed(1, "t"), subscribed(1, "t")]);
        stage.stall(peer);
        let text = "x".repeat(10_000);
        for number in 1..=20 {
            tell(&mut stage, speaker, &[&format!(r#"[16,{number},{{}},"t",["{text}"]]"#)]);
        }
        stage.go_on(peer);
        // Every offset is heard, or one of a gap's, if gaps are told.
        let mut next = 1;
        let mut gaps = 0;
        for place in places(&hear(&mut stage, peer)) {
            let (from, to) = place.split_once('-').unwrap_or((&place, &place));
            gaps += u32::from(place.contains('-'));
            assert!(from.parse() == Ok(next) || !expect, "{place} where {next} is due");
            next = to.parse::<u32>().expect("an offset") + 1;
        }
        assert_eq!((next, gaps > 0), (21, expect));
    }
}
