//! Ordinary answers, and requests with a body.

use std::time::Duration;

use moongate_io::{ConnId, Inbound};

use super::{ROUTES, assert_refused, leaves, post};
use crate::stage::{Call, IDLE, Stage, UPGRADE};

/// H3, H15: an ordinary answer is relayed, and nothing of either connection is used again.
#[test]
fn h3_h15_any_other_status_is_an_ordinary_answer() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, format!("{UPGRADE}GET /smuggled HTTP/1.1\r\n\r\n"));
    let (ticket, _) = stage.attempt();
    let upstream = stage.connects(ticket);
    stage.heard(upstream);
    stage.says(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
    stage.says(client, "GET /smuggled/too HTTP/1.1\r\n\r\n");
    stage.says(upstream, "dyHTTP/1.1 200 OK\r\n\r\n");
    let answer = stage.heard(client);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nbody"), "{answer}");
    assert_eq!(stage.heard(upstream), "");
    assert_eq!(stage.calls(), [Call::Close(upstream), Call::Finish(client)]);
    leaves(&mut stage, client);
}

#[test]
fn h4_h16_an_answer_not_to_be_relied_on_is_502() {
    let check = |answer: &str, reason| {
        let mut stage = Stage::new(ROUTES);
        let (client, upstream) = stage.asked(UPGRADE);
        stage.says(upstream, answer);
        assert_refused(&mut stage, client, 502, reason);
        assert_eq!(stage.calls()[..1], [Call::Abort(upstream)]);
        leaves(&mut stage, client);
    };
    check("HTTP/1.1 101 Over\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n", "upstream_switched");
    check("HTTP/1.1 200 OK\r\n folded: yes\r\n\r\n", "upstream_malformed");
    check("SSH-2.0-OpenSSH\r\n\r\n", "upstream_malformed");
}

/// An answer that is cut short ends with RST, so that nobody takes it for the whole.
#[test]
fn h3_an_answer_that_is_cut_short_does_not_end_well() {
    let check = |answer: &str, end: fn(&mut Stage, ConnId), well: bool| {
        let mut stage = Stage::new(ROUTES);
        let (client, upstream) = stage.asked(UPGRADE);
        stage.says(upstream, answer);
        end(&mut stage, upstream);
        let calls = stage.calls();
        let expect = if well { Call::Finish(client) } else { Call::Abort(client) };
        assert!(calls.contains(&expect), "{answer}: {calls:?}");
    };
    check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo", Stage::ends, false);
    check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo", Stage::resets, false);
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", Stage::ends, false);
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\nzz", |_, _| {}, false);
    check("HTTP/1.1 200 OK\r\n\r\nuntil close", Stage::ends, true);
    check("HTTP/1.1 200 OK\r\n\r\nuntil close", Stage::resets, false);
}

/// H17: as long as it goes on, it may; then it ends like one that was cut short.
#[test]
fn h17_an_answer_that_stops_is_waited_for_as_long_as_a_tunnel() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.asked("GET /p HTTP/1.1\r\nHost: a\r\n\r\n");
    stage.says(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    for _ in 0..3 {
        stage.pass(IDLE - Duration::from_secs(1));
        stage.says(upstream, "x");
    }
    assert_eq!(stage.calls(), []);
    stage.pass(IDLE + Duration::from_millis(200));
    let calls = stage.calls();
    assert!(calls.contains(&Call::Abort(client)) && calls.contains(&Call::Abort(upstream)), "{calls:?}");
    stage.assert_empty();
}

#[test]
fn h13_a_slow_reader_of_an_answer_stops_the_upstream() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.asked("GET /p HTTP/1.1\r\nHost: a\r\n\r\n");
    stage.stall(client);
    stage.says(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n");
    for _ in 0..11 {
        stage.says(upstream, "x".repeat(1000));
    }
    assert_eq!(stage.calls(), [Call::Pause(upstream)]);
    stage.go_on(client);
    assert_eq!(stage.calls(), [Call::Resume(upstream)]);
    for _ in 0..9 {
        stage.says(upstream, "x".repeat(1000));
    }
    assert!(stage.heard(client).ends_with(&"x".repeat(20_000)));
    leaves(&mut stage, client);
}

/// A body goes on as it comes, once there is a connection, and not further than the upstream reads.
#[test]
fn h9_h13_a_body_goes_with_its_request() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, post(20_005, "early"));
    let (ticket, _) = stage.attempt();
    let upstream = stage.connects(ticket);
    let asked = stage.heard(upstream);
    assert!(asked.contains("\r\nConnection: close\r\n") && asked.ends_with("\r\n\r\nearly"), "{asked}");
    stage.stall(upstream);
    for _ in 0..11 {
        stage.says(client, "x".repeat(1000));
    }
    assert_eq!(stage.calls(), [Call::Pause(client)]);
    stage.go_on(upstream);
    assert_eq!(stage.calls(), [Call::Resume(client)]);
    for _ in 0..9 {
        stage.says(client, "x".repeat(1000));
    }
    stage.says(client, "GET /next HTTP/1.1\r\n\r\n");
    assert_eq!(stage.heard(upstream), "x".repeat(20_000));
    stage.says(upstream, "HTTP/1.1 204 Done\r\n\r\n");
    assert!(stage.heard(client).starts_with("HTTP/1.1 204 "));
    leaves(&mut stage, client);
}

#[test]
fn a_body_that_is_cut_short_is_no_request() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.asked(&post(10, "half"));
    stage.ends(client);
    assert_refused(&mut stage, client, 400, "body_incomplete");
    assert_eq!(stage.calls()[..1], [Call::Abort(upstream)]);
    stage.assert_empty();

    // All of it may have come before there was a connection.
    let client = stage.client();
    stage.says_and(client, post(5, "whole"), Inbound::End);
    let (ticket, _) = stage.attempt();
    let upstream = stage.connects(ticket);
    assert!(stage.heard(upstream).ends_with("whole"));
    stage.says(upstream, "HTTP/1.1 204 Done\r\n\r\n");
    assert!(stage.heard(client).starts_with("HTTP/1.1 204 "));
    stage.assert_empty();

    // Or half of it.
    let client = stage.client();
    stage.says_and(client, post(10, "half"), Inbound::End);
    let (ticket, _) = stage.attempt();
    stage.connects(ticket);
    assert_refused(&mut stage, client, 400, "body_incomplete");
    stage.assert_empty();
}

/// An upstream may answer before it has read everything, and close: the answer is what counts.
#[test]
fn an_answer_may_come_before_the_body_has_gone() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.asked(&post(1000, "some"));
    stage.says_and(upstream, "HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno", Inbound::Reset);
    stage.says(client, "more of it");
    let answer = stage.heard(client);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no"), "{answer}");
    leaves(&mut stage, client);
}
