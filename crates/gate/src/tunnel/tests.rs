//! Every state a request for an upstream can be in, and what ends it, with a driver that does what the test says.

mod answers;

use std::time::Duration;

use moongate_io::{ConnId, ConnectFault, Inbound, Remote};

use crate::stage::{BUFFER, CLOSE, Call, IDLE, SWITCHED, Stage, UPGRADE};

const ROUTES: &str = "/t tunnel 10.0.0.1:1 upgrade=acme/2 connect_timeout=4s answer_timeout=20s idle_timeout=60s; \
     /p tunnel 10.0.0.2:2 http=pass answer_timeout=20s idle_timeout=60s; \
     /m tunnel 10.0.0.3:3,10.0.0.4:4,unix:/run/app connect_timeout=6s upgrade=acme/2; \
     /n tunnel nowhere.test:80 upgrade=acme/2";

fn upgrade(path: &str) -> String {
    UPGRADE.replace("/t", path)
}

fn post(length: usize, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The status and the reason that a client was answered with.
fn refusal(answer: &str) -> (u16, String) {
    let status = answer.get(9..12).and_then(|text| text.parse().ok()).unwrap_or(0);
    let reason = answer.split("problem:").nth(1).and_then(|text| text.split('"').next()).unwrap_or("none");
    (status, reason.to_owned())
}

#[track_caller]
fn assert_refused(stage: &mut Stage, client: ConnId, status: u16, reason: &str) {
    assert_eq!(refusal(&stage.heard(client)), (status, reason.to_owned()));
}

/// The client closes: nobody may be left.
fn leaves(stage: &mut Stage, client: ConnId) {
    stage.ends(client);
    stage.assert_empty();
}

#[test]
fn h1_h2_h10_nothing_goes_on_before_the_upstream_has_switched() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, format!("{UPGRADE}early"));
    let (ticket, remote) = stage.attempt();
    assert_eq!(remote, Remote::Tcp("10.0.0.1:1".parse().unwrap()));
    stage.says(client, " and more");
    let upstream = stage.connects(ticket);
    stage.says(client, " and last");
    let asked = stage.heard(upstream);
    assert!(
        asked.starts_with("GET /t HTTP/1.1\r\n") && asked.ends_with("Upgrade: acme/2\r\n\r\n"),
        "{asked}"
    );
    assert_eq!(stage.heard(client), "", "no 101 before the upstream's own");
    stage.says(upstream, &SWITCHED[..30]);
    assert_eq!((stage.heard(client), stage.heard(upstream)), (String::new(), String::new()));
    stage.says(upstream, format!("{}first words", &SWITCHED[30..]));
    let answer = stage.heard(client);
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nfirst words"), "{answer}");
    assert_eq!(stage.heard(upstream), "early and more and last");
    assert_eq!(stage.sample("moongate_tunnels", &["/t"]), 1.0);
    stage.ends(client);
    stage.ends(upstream);
    stage.assert_empty();
    assert_eq!(stage.sample("moongate_tunnels", &["/t"]), 0.0);
}

#[test]
fn h2_what_comes_too_early_is_bounded() {
    let mut stage = Stage::with(ROUTES, |config| config.policy.head.head_bytes_max = 2000);
    let client = stage.client();
    stage.says(client, UPGRADE);
    let (ticket, _) = stage.attempt();
    let upstream = stage.connects(ticket);
    stage.heard(upstream);
    stage.says(client, "x".repeat(2000));
    assert_eq!(stage.calls(), []);
    stage.says(client, "y");
    assert_eq!(stage.calls(), [Call::Pause(client)]);
    stage.says(client, "z");
    assert_eq!(stage.calls(), []);
    stage.says(upstream, SWITCHED);
    assert_eq!(stage.calls(), [Call::Resume(client)]);
    assert_eq!(stage.heard(upstream), format!("{}yz", "x".repeat(2000)));
}

/// H11: bytes of all sizes, kept or copied, arrive as they were.
#[test]
fn h11_bytes_go_both_ways_unchanged() {
    for keeps in [true, false] {
        let mut stage = Stage::new(ROUTES);
        let (client, upstream) = stage.tunnel();
        if !keeps {
            stage.keep_nothing();
        }
        for len in [1, 511, 512, 2048] {
            let up = "u".repeat(len);
            stage.says(client, &up);
            let down = "d".repeat(len);
            stage.says(upstream, &down);
            assert!(stage.heard(upstream) == up && stage.heard(client) == down);
        }
        assert_eq!(stage.kept(), if keeps { 4 } else { 0 });
        let way = |stage: &mut Stage, way| stage.sample("moongate_tunnel_bytes_total", &["/t", way]);
        assert_eq!((way(&mut stage, "from_client"), way(&mut stage, "from_upstream")), (3072.0, 3072.0));
        stage.ends(upstream);
        stage.ends(client);
        stage.assert_empty();
    }
}

#[test]
fn h12_each_direction_ends_by_itself() {
    for upstream_first in [false, true] {
        let mut stage = Stage::new(ROUTES);
        let (client, upstream) = stage.tunnel();
        let (first, second) = if upstream_first { (upstream, client) } else { (client, upstream) };
        stage.stall(second);
        stage.says(first, "last words");
        stage.ends(first);
        assert_eq!(stage.calls(), [], "FIN comes behind the last words");
        stage.go_on(second);
        assert_eq!((stage.heard(second).as_str(), stage.calls()), ("last words", vec![Call::Finish(second)]));
        stage.says(second, "still here");
        assert_eq!(stage.heard(first), "still here");
        stage.ends(second);
        assert_eq!(stage.calls(), [Call::Finish(first), Call::Close(first), Call::Close(second)]);
        stage.assert_empty();
    }
}

/// H12: a client may have ended before the upstream has switched.
#[test]
fn h12_a_half_closed_client_gets_its_tunnel() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says_and(client, format!("{UPGRADE}all I say"), Inbound::End);
    let (ticket, _) = stage.attempt();
    let upstream = stage.connects(ticket);
    stage.heard(upstream);
    stage.says(upstream, SWITCHED);
    assert_eq!(stage.heard(upstream), "all I say");
    assert_eq!(stage.calls(), [Call::Finish(upstream)]);
    stage.says(upstream, "answer");
    assert!(stage.heard(client).ends_with("answer"));
    stage.ends(upstream);
    stage.assert_empty();
}

#[test]
fn h12_a_reset_is_passed_on_behind_what_was_said() {
    for upstream_first in [false, true] {
        let mut stage = Stage::new(ROUTES);
        let (client, upstream) = stage.tunnel();
        let (first, second) = if upstream_first { (upstream, client) } else { (client, upstream) };
        stage.stall(second);
        stage.says_and(first, "a last word", Inbound::Reset);
        assert_eq!(stage.calls(), [Call::Close(first)]);
        stage.says(second, "nobody hears this");
        stage.go_on(second);
        assert_eq!(stage.heard(second), "a last word");
        assert_eq!(stage.calls(), [Call::Abort(second)]);
        stage.assert_empty();
    }
}

#[test]
fn h12_a_reset_with_nothing_said_is_passed_on_at_once() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.tunnel();
    stage.resets(upstream);
    assert_eq!(stage.calls(), [Call::Abort(client), Call::Close(upstream)]);
    stage.assert_empty();
}

#[test]
fn h12_who_does_not_take_its_last_words_is_cut_off() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.tunnel();
    stage.stall(client);
    stage.says_and(upstream, "never read", Inbound::Reset);
    stage.pass(CLOSE + Duration::from_secs(1));
    assert_eq!(stage.calls(), [Call::Close(upstream), Call::Abort(client)]);
    stage.assert_empty();
}

#[test]
fn h13_who_does_not_read_stops_the_other() {
    for upstream_first in [false, true] {
        let mut stage = Stage::new(ROUTES);
        let (client, upstream) = stage.tunnel();
        let (source, target) = if upstream_first { (upstream, client) } else { (client, upstream) };
        stage.stall(target);
        let mut said = 0;
        // Each piece costs 128 bytes beside its own.
        while said / 1000 * 1128 <= BUFFER as usize {
            assert_eq!(stage.calls(), [], "after {said} bytes");
            stage.says(source, "x".repeat(1000));
            said += 1000;
        }
        assert_eq!(stage.calls(), [Call::Pause(source)]);
        // What was on its way still comes.
        stage.says(source, "tail");
        assert_eq!(stage.calls(), []);
        stage.says(target, "the other way is free");
        assert_eq!(stage.heard(source), "the other way is free");
        stage.go_on(target);
        assert_eq!(stage.calls(), [Call::Resume(source)]);
        assert!(stage.heard(target).ends_with("xtail"));
    }
}

/// H13: the driver has few buffers, and a reader that does not keep up is not to have them all.
#[test]
fn h13_buffers_are_not_kept_for_a_slow_reader() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.tunnel();
    stage.stall(upstream);
    // Each piece costs 128 bytes beside its own, so the fifth comes when half of what may wait does.
    for _ in 0..8 {
        stage.says(client, "x".repeat(1000));
    }
    assert_eq!((stage.kept(), stage.calls()), (5, Vec::new()));
    stage.go_on(upstream);
    stage.says(client, "x".repeat(1000));
    assert_eq!(stage.kept(), 6);
    assert_eq!(stage.heard(upstream), "x".repeat(9000));
}

/// H13: many small pieces are more than the sum of their bytes.
#[test]
fn h13_small_pieces_are_counted_for_what_they_cost() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.tunnel();
    stage.stall(upstream);
    let mut pieces = 0;
    while stage.calls().is_empty() {
        stage.says(client, "x");
        pieces += 1;
        assert!(pieces < 200, "as many as there are bytes");
    }
}

#[test]
fn h14_h19_one_address_after_the_other_is_tried() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, upgrade("/m"));
    let mut tried = Vec::new();
    let mut ticket = None;
    for _ in 0..3 {
        let (next, remote) = stage.attempt();
        tried.push(remote.to_string());
        if let Some(before) = ticket.replace(next) {
            assert_ne!(before, next);
        }
        stage.faults(next, ConnectFault::Refused);
    }
    tried.sort();
    assert_eq!(tried, ["10.0.0.3:3", "10.0.0.4:4", "unix:/run/app"]);
    assert_refused(&mut stage, client, 502, "upstream_unreachable");
    assert_eq!(stage.sample("moongate_tunnel_refused_total", &["/m", "upstream_unreachable"]), 1.0);
    leaves(&mut stage, client);
}

/// H19: what a request says about where it goes is for the upstream to read.
#[test]
fn h19_no_request_chooses_its_upstream() {
    let check = |first: &str, host: &str| {
        let mut stage = Stage::new(ROUTES);
        let client = stage.client();
        let head = UPGRADE.replace("GET /t HTTP/1.1", first).replace("Host: a", &format!("Host: {host}"));
        stage.says(client, head);
        let (ticket, remote) = stage.attempt();
        assert_eq!(remote.to_string(), "10.0.0.1:1", "{first} {host}");
        let upstream = stage.connects(ticket);
        assert!(stage.heard(upstream).starts_with("GET /t HTTP/1.1\r\nHost: 10.9.9.9:9\r\n"));
    };
    check("GET /t HTTP/1.1", "10.9.9.9:9");
    check("GET http://10.9.9.9:9/t HTTP/1.1", "a");
}

#[test]
fn h14_who_is_silent_has_a_share_of_the_time() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, upgrade("/m"));
    let (first, _) = stage.attempt();
    stage.pass(Duration::from_millis(2100));
    let calls = stage.calls();
    let [Call::Connect(second, _), Call::Cancel(cancelled)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(*cancelled, first);
    let upstream = stage.connects(*second);
    assert!(stage.heard(upstream).starts_with("GET /m "));
    assert_eq!(stage.sample("moongate_upstream_connect_seconds_count", &["/m"]), 1.0);

    // Without another address, all of the time is one attempt's.
    let client = stage.client();
    stage.says(client, UPGRADE);
    let (only, _) = stage.attempt();
    stage.pass(Duration::from_millis(3900));
    assert_eq!(stage.heard(client), "");
    stage.pass(Duration::from_millis(200));
    assert_refused(&mut stage, client, 504, "upstream_connect_timeout");
    assert!(stage.calls().contains(&Call::Cancel(only)));
}

#[test]
fn h14_why_there_is_no_connection_is_told() {
    let check = |fault, status, reason| {
        let mut stage = Stage::new(ROUTES);
        let client = stage.client();
        stage.says(client, UPGRADE);
        let (ticket, _) = stage.attempt();
        stage.faults(ticket, fault);
        assert_refused(&mut stage, client, status, reason);
        leaves(&mut stage, client);
    };
    check(ConnectFault::Refused, 502, "upstream_unreachable");
    check(ConnectFault::Unreachable, 502, "upstream_unreachable");
    check(ConnectFault::NotFound, 502, "upstream_unreachable");
    check(ConnectFault::Denied, 502, "upstream_unreachable");
    check(ConnectFault::TimedOut, 504, "upstream_connect_timeout");
    check(ConnectFault::NoRoom, 503, "connections_full");
}

#[test]
fn h14_a_name_that_leads_nowhere_is_told() {
    let mut stage = Stage::with(ROUTES, |config| config.upstreams = vec![[].into()]);
    let client = stage.client();
    stage.says(client, upgrade("/n"));
    assert_refused(&mut stage, client, 502, "upstream_unresolved");
    leaves(&mut stage, client);
}

/// A tunnel takes two connections of those that are served.
#[test]
fn k4_upstreams_count_as_connections() {
    let mut stage = Stage::with(ROUTES, |config| config.connections_max = 3);
    let (_, _) = stage.tunnel();
    let client = stage.client();
    stage.says(client, UPGRADE);
    assert_refused(&mut stage, client, 503, "connections_full");
}

#[test]
fn h14_no_answer_in_time() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.asked(UPGRADE);
    stage.says(upstream, "HTTP/1.1 10");
    stage.pass(Duration::from_millis(20_100));
    assert_refused(&mut stage, client, 504, "upstream_answer_timeout");
    assert!(stage.calls().contains(&Call::Abort(upstream)));
    leaves(&mut stage, client);
}

#[test]
fn h14_an_upstream_that_goes_before_it_answers() {
    for reset in [false, true] {
        for said in ["", "HTTP/1.1 101 Ov"] {
            let mut stage = Stage::new(ROUTES);
            let (client, upstream) = stage.asked(UPGRADE);
            if !said.is_empty() {
                stage.says(upstream, said);
            }
            if reset {
                stage.resets(upstream)
            } else {
                stage.ends(upstream)
            }
            assert_refused(&mut stage, client, 502, "upstream_closed");
            leaves(&mut stage, client);
        }
    }
}

#[test]
fn a_client_that_goes_takes_its_upstream_along() {
    // While connecting.
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, UPGRADE);
    let (ticket, _) = stage.attempt();
    stage.resets(client);
    assert_eq!(stage.calls(), [Call::Cancel(ticket), Call::Close(client)]);
    stage.assert_empty();
    // While the upstream thinks.
    let (client, upstream) = stage.asked(UPGRADE);
    stage.resets(client);
    assert_eq!(stage.calls(), [Call::Abort(upstream), Call::Close(client)]);
    stage.assert_empty();
    // In the middle of an answer.
    let (client, upstream) = stage.asked(UPGRADE);
    stage.says(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
    stage.resets(client);
    assert_eq!(stage.calls(), [Call::Abort(upstream), Call::Close(client)]);
    stage.assert_empty();
}

#[test]
fn a_connection_that_nobody_wants_any_more_is_closed() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, UPGRADE);
    let (ticket, _) = stage.attempt();
    let upstream = stage.connects_too_late(client, ticket);
    assert_eq!(stage.calls(), [Call::Cancel(ticket), Call::Close(client), Call::Close(upstream)]);
    assert_eq!(stage.heard(upstream), "");
    stage.assert_empty();
}

/// Who is to switch must have taken the whole head; who answers an ordinary request may have had enough before its end.
#[test]
fn an_upstream_that_takes_no_more() {
    let mut stage = Stage::new(ROUTES);
    let client = stage.client();
    stage.says(client, UPGRADE);
    let (ticket, _) = stage.attempt();
    let upstream = stage.next_conn();
    stage.stall(upstream);
    assert_eq!(stage.connects(ticket), upstream);
    stage.refuses_bytes(upstream);
    assert_refused(&mut stage, client, 502, "upstream_closed");
    leaves(&mut stage, client);

    let (client, upstream) = stage.asked(&post(1000, "some"));
    stage.stall(upstream);
    stage.says(client, "more");
    stage.refuses_bytes(upstream);
    stage.says(upstream, "HTTP/1.1 413 Too much\r\nContent-Length: 0\r\n\r\n");
    assert!(stage.heard(client).starts_with("HTTP/1.1 413 "));
    leaves(&mut stage, client);

    // In a tunnel the other side learns of it.
    let (client, upstream) = stage.tunnel();
    stage.stall(upstream);
    stage.says(client, "more");
    stage.refuses_bytes(upstream);
    assert_eq!(stage.calls(), [Call::Abort(client), Call::Close(upstream)]);
    stage.assert_empty();
}

#[test]
fn h17_idle_tunnels_end_and_busy_ones_do_not() {
    let mut stage = Stage::new(ROUTES);
    let (client, upstream) = stage.tunnel();
    for source in [client, upstream, client] {
        stage.pass(IDLE - Duration::from_secs(1));
        stage.says(source, "alive");
    }
    assert_eq!(stage.calls(), []);
    stage.pass(IDLE + Duration::from_millis(200));
    assert_finished(&mut stage, client, upstream);
    stage.ends(client);
    stage.ends(upstream);
    stage.assert_empty();
    assert_eq!(ended(&mut stage), [1.0, 0.0, 0.0]);
}

/// H17: bytes that come in count, at both ends, also while the other end takes nothing; and so do bytes that it takes.
#[test]
fn h17_a_slow_reader_is_not_idle() {
    for upstream_first in [false, true] {
        let mut stage = Stage::new(ROUTES);
        let (client, upstream) = stage.tunnel();
        let (source, target) = if upstream_first { (upstream, client) } else { (client, upstream) };
        stage.stall(target);
        stage.pass(IDLE - Duration::from_secs(10));
        stage.says(source, "takes its time");
        stage.pass(IDLE - Duration::from_secs(10));
        assert_eq!(stage.calls(), [], "what came in counts");
        stage.go_on(target);
        stage.pass(IDLE - Duration::from_secs(10));
        assert_eq!(stage.calls(), [], "what went out counts");
        assert_eq!(stage.heard(target), "takes its time");
        stage.pass(Duration::from_secs(11));
        assert_eq!(ended(&mut stage), [1.0, 0.0, 0.0]);
    }
}

/// Both ends of a tunnel got a FIN and nothing else: a RST behind it would eat what they have not read.
#[track_caller]
fn assert_finished(stage: &mut Stage, client: ConnId, upstream: ConnId) {
    let calls = stage.calls();
    let both = [Call::Finish(client), Call::Finish(upstream)];
    assert!(calls.len() == 2 && both.iter().all(|call| calls.contains(call)), "{calls:?}");
}

/// The tunnels that the gateway ended: idle ones, those past their lifetime, and when it left.
fn ended(stage: &mut Stage) -> [f64; 3] {
    ["idle", "lifetime", "drain"].map(|why| stage.sample("moongate_tunnels_ended_total", &["/t", why]))
}

/// H17: it counts from the 101, and bytes that move do not stop it; those that have come go out before the end.
#[test]
fn h17_a_lifetime_also_ends_tunnels_in_use() {
    for upstream_speaks in [false, true] {
        let mut stage = Stage::new(
            "/t tunnel 10.0.0.1:1 upgrade=acme/2 answer_timeout=20s idle_timeout=60s lifetime=150s",
        );
        let (client, upstream) = stage.asked(UPGRADE);
        stage.pass(Duration::from_secs(15));
        stage.says(upstream, SWITCHED);
        let (source, target) = if upstream_speaks { (upstream, client) } else { (client, upstream) };
        for _ in 0..3 {
            stage.pass(Duration::from_millis(49_900));
            stage.says(source, "alive");
        }
        assert_eq!(stage.calls(), []);
        stage.heard(target);
        stage.stall(target);
        stage.says(source, "a last word");
        stage.pass(Duration::from_millis(500));
        assert_eq!(stage.calls(), [Call::Finish(source)]);
        stage.go_on(target);
        assert_eq!(
            (stage.heard(target).as_str(), stage.calls()),
            ("a last word", vec![Call::Finish(target)])
        );
        stage.ends(client);
        stage.ends(upstream);
        stage.assert_empty();
        assert_eq!(ended(&mut stage), [0.0, 1.0, 0.0]);
    }
}

/// H17: a lifetime that is shorter than silence may be.
#[test]
fn h17_a_lifetime_may_be_the_shortest() {
    let mut stage = Stage::new("/t tunnel 10.0.0.1:1 upgrade=acme/2 idle_timeout=60s lifetime=10s");
    let (client, upstream) = stage.tunnel();
    stage.pass(Duration::from_millis(9_900));
    assert_eq!(stage.calls(), []);
    stage.pass(Duration::from_millis(300));
    assert_finished(&mut stage, client, upstream);
    assert_eq!(ended(&mut stage), [0.0, 1.0, 0.0]);
}

#[test]
fn h17_leaving_ends_tunnels_and_what_is_under_way() {
    let mut stage = Stage::with(ROUTES, |config| config.close_timeout = Duration::from_secs(20));
    let (client, upstream) = stage.tunnel();
    let (asking, asked) = stage.asked(UPGRADE);
    let connecting = stage.client();
    stage.says(connecting, UPGRADE);
    stage.calls();
    stage.stall(client);
    stage.says(upstream, "a last word");
    stage.drain();
    stage.pass(Duration::from_secs(6));
    assert_refused(&mut stage, asking, 503, "draining");
    assert_refused(&mut stage, connecting, 503, "draining");
    let calls = stage.calls();
    assert!(calls.contains(&Call::Abort(asked)) && calls.contains(&Call::Finish(upstream)), "{calls:?}");
    assert_eq!(ended(&mut stage), [0.0, 0.0, 1.0]);
    stage.go_on(client);
    assert_eq!(stage.heard(client), "a last word");
    for conn in [client, upstream, asking, connecting] {
        stage.ends(conn);
    }
    stage.pass(Duration::from_millis(100));
    stage.assert_empty();
}

/// What waits is counted, and where memory is short whoever holds most goes, with the other end.
#[test]
fn k4_memory_that_tunnels_hold_is_accounted_for() {
    let mut stage = Stage::with(ROUTES, |config| {
        config.memory_bytes_max = 50_000;
        config.tunnel_buffer_bytes_max = 1 << 20;
    });
    let (client, upstream) = stage.tunnel();
    stage.keep_nothing();
    stage.stall(client);
    stage.says(upstream, "x".repeat(40_000));
    assert_eq!((stage.memory_bytes(), stage.connections()), (40_000, 2));
    stage.says(upstream, "x".repeat(20_000));
    stage.pass(Duration::from_millis(10));
    let calls = stage.calls();
    assert!(calls.contains(&Call::Abort(client)) && calls.contains(&Call::Abort(upstream)), "{calls:?}");
    stage.assert_empty();
}
