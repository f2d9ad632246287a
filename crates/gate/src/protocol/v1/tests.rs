//! Sessions of one shard, whose requests come in the same read where that could make a difference.

use std::time::Duration;

use moongate_hub::HistoryLimits;
use moongate_io::ConnId;
use moongate_wire::frame::{Opcode, ServerFrames, encode_masked};

use crate::Config;
use crate::stage::Stage;

fn stage(change: impl FnOnce(&mut Config)) -> Stage {
    Stage::with("/connect connect; /topics/* topics", |config| {
        config.policy.may_publish = true;
        change(config);
    })
}

fn open(stage: &mut Stage, path: &str) -> ConnId {
    let peer = stage.client();
    stage.says(
        peer,
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: moongate.v1\r\n\r\n"
        ),
    );
    peer
}

fn connect(stage: &mut Stage) -> ConnId {
    let peer = open(stage, "/connect");
    assert!(stage.heard(peer).ends_with("Sec-WebSocket-Protocol: moongate.v1\r\n\r\n"));
    peer
}

/// Sends requests, all in one read.
fn ask(stage: &mut Stage, peer: ConnId, requests: &[&str]) {
    let mut bytes = Vec::new();
    for request in requests {
        let text = format!("{{{}}}", request.replace('\'', "\""));
        encode_masked(Opcode::Text, true, [1, 2, 3, 4], text.as_bytes(), &mut bytes);
    }
    stage.says(peer, bytes);
}

/// What was said since the last time, without braces, quotes and epochs; a Close by its code.
fn hear(stage: &mut Stage, peer: ConnId) -> Vec<String> {
    frames(&stage.heard_bytes(peer))
}

fn frames(bytes: &[u8]) -> Vec<String> {
    let mut frames = ServerFrames::default();
    frames.push(bytes);
    let mut heard = Vec::new();
    while let Some(frame) = frames.next_frame().expect("right frames") {
        if frame.opcode == Opcode::Close {
            let code = u16::from_be_bytes(*frame.payload.first_chunk().expect("a code"));
            heard.push(format!("close {code}"));
            continue;
        }
        let text = str::from_utf8(frame.payload).expect("text").replace(['{', '}', '"'], "");
        let members = text.split(',').filter(|member| {
            ["type:", "id:", "topic:", "offset:", "text:", "code:"]
                .iter()
                .any(|name| member.starts_with(name))
        });
        let members = members.map(|member| member.strip_prefix("type:").unwrap_or(member));
        heard.push(members.collect::<Vec<_>>().join(" "));
    }
    heard
}

#[track_caller]
fn check(stage: &mut Stage, peer: ConnId, expect: &[&str]) {
    assert_eq!(hear(stage, peer), expect);
}

#[test]
fn a_subscribe_is_answered_before_what_it_hears() {
    let mut stage = stage(|_| {});
    let (one, other) = (connect(&mut stage), connect(&mut stage));
    ask(&mut stage, one, &["'type':'subscribe','id':1,'topic':'t'"]);
    check(&mut stage, one, &["subscribed id:1 topic:t offset:0"]);
    // The topic is heard here already: what is said next, in the same read, is heard too.
    ask(
        &mut stage,
        other,
        &["'type':'subscribe','id':2,'topic':'t'", "'type':'publish','topic':'t','text':'x'"],
    );
    check(&mut stage, other, &["subscribed id:2 topic:t offset:0", "message topic:t offset:1 text:x"]);
    check(&mut stage, one, &["message topic:t offset:1 text:x"]);
    stage.resets(one);
    stage.resets(other);
    stage.assert_empty();
}

#[test]
fn a_topics_url_is_the_first_subscribe() {
    let mut stage = stage(|_| {});
    let peer = open(&mut stage, "/topics/a/b");
    let heard = stage.heard_bytes(peer);
    let head = heard.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    assert_eq!(frames(&heard[head..]), ["subscribed topic:a/b offset:0"]);
    stage.resets(peer);
    stage.assert_empty();
}

#[test]
fn however_few_requests_may_be_in_flight_all_are_answered_in_order() {
    for most in [1, 2, 3, 100] {
        let mut stage = stage(|config| config.requests_in_flight_max = most);
        let peer = connect(&mut stage);
        let publishes: Vec<String> =
            (1..=9).map(|id| format!("'type':'publish','id':{id},'topic':'t','text':''")).collect();
        ask(&mut stage, peer, &publishes.iter().map(String::as_str).collect::<Vec<_>>());
        let expect: Vec<String> =
            (1..=9).map(|id| format!("published id:{id} topic:t offset:{id}")).collect();
        // One at a time takes some ticks.
        stage.tick();
        assert_eq!(hear(&mut stage, peer), expect, "{most}");
        stage.resets(peer);
        stage.assert_empty();
    }
}

#[test]
fn who_comes_back_to_many_topics_gets_them_one_after_the_other() {
    let mut stage = stage(|config| {
        config.hub.history =
            HistoryLimits { messages_max: 10, bytes_max: 1 << 16, ttl: Duration::from_secs(60) };
    });
    let speaker = connect(&mut stage);
    let text = "x".repeat(10_000);
    let topics: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    for topic in topics.iter().chain(&topics) {
        ask(&mut stage, speaker, &[&format!("'type':'publish','topic':'{topic}','text':'{text}'")]);
    }
    // What they keep is more than twice what an outbox holds, which would be cut.
    let peer = connect(&mut stage);
    let subscribe = |topic| format!("'type':'subscribe','id':1,'topic':'{topic}','since':'0'");
    let subscribes: Vec<String> = topics.iter().map(subscribe).collect();
    stage.stall(peer);
    ask(&mut stage, peer, &subscribes.iter().map(String::as_str).collect::<Vec<_>>());
    stage.go_on(peer);
    for _ in 0..40 {
        stage.tick();
    }
    let mut expect = Vec::new();
    for topic in &topics {
        expect.push(format!("subscribed id:1 topic:{topic} offset:2"));
        expect.extend((1..=2).map(|offset| format!("message topic:{topic} offset:{offset} text:{text}")));
    }
    assert_eq!(hear(&mut stage, peer), expect);
}

#[test]
fn a_subscribe_that_is_taken_back_at_once_is_answered() {
    let mut stage = stage(|_| {});
    let peer = connect(&mut stage);
    let subscribe = "'type':'subscribe','id':1,'topic':'t'";
    ask(&mut stage, peer, &[subscribe, "'type':'unsubscribe','id':2,'topic':'t'", subscribe]);
    check(
        &mut stage,
        peer,
        &["error id:1 code:cancelled", "unsubscribed id:2 topic:t", "subscribed id:1 topic:t offset:0"],
    );
    stage.resets(peer);
    stage.assert_empty();
}

#[test]
fn limits_are_answered_and_leave_room_again() {
    let mut stage = stage(|config| {
        config.subscription_topics_max = 1;
        config.hub.topics_max = 1;
    });
    let (one, other) = (connect(&mut stage), connect(&mut stage));
    ask(&mut stage, one, &["'type':'subscribe','id':1,'topic':'a'", "'type':'subscribe','id':2,'topic':'b'"]);
    check(&mut stage, one, &["error id:2 code:subscriptions-full", "subscribed id:1 topic:a offset:0"]);
    ask(&mut stage, other, &["'type':'subscribe','id':3,'topic':'b'"]);
    check(&mut stage, other, &["error id:3 code:topics-full"]);
    ask(&mut stage, other, &["'type':'publish','id':4,'topic':'b','text':''"]);
    check(&mut stage, other, &["error id:4 code:topics-full"]);
    ask(&mut stage, other, &["'type':'subscribe','id':5,'topic':'a'"]);
    check(&mut stage, other, &["subscribed id:5 topic:a offset:0"]);
    stage.resets(one);
    stage.resets(other);
    stage.assert_empty();
}

#[test]
fn nothing_is_done_after_what_is_no_request() {
    let mut stage = stage(|_| {});
    let peer = connect(&mut stage);
    let mut bytes = Vec::new();
    for text in [r#"{"type":"ping","id":1}"#, "{", r#"{"type":"ping","id":2}"#] {
        encode_masked(Opcode::Text, true, [1, 2, 3, 4], text.as_bytes(), &mut bytes);
    }
    stage.says(peer, bytes);
    check(&mut stage, peer, &["pong id:1", "close 1007"]);
    let peer = connect(&mut stage);
    let mut bytes = Vec::new();
    encode_masked(Opcode::Binary, true, [1, 2, 3, 4], b"{}", &mut bytes);
    stage.says(peer, bytes);
    check(&mut stage, peer, &["close 1003"]);
}

#[test]
fn sessions_are_counted_by_what_they_speak() {
    let mut stage = stage(|_| {});
    let one = connect(&mut stage);
    let other = open(&mut stage, "/topics/t");
    let sessions = |stage: &mut Stage| {
        ["moongate.v1", "wamp.2.json"].map(|name| stage.sample("moongate_sessions", &[name]))
    };
    assert_eq!(sessions(&mut stage), [2.0, 0.0]);
    stage.ends(one);
    assert_eq!(sessions(&mut stage), [1.0, 0.0]);
    stage.resets(other);
    assert_eq!(sessions(&mut stage), [0.0, 0.0]);
    stage.assert_empty();
}
