//! The upgrade decision table: section B of the checklist, row by row, and the routes.

use moongate_wire::answer::Date;
use moongate_wire::decide::{Decision, Policy};
use moongate_wire::protocol::{Protocol, SUBPROTOCOLS, Subprotocol, WAMP_ALIAS};
use moongate_wire::route::Routes;

use crate::support::{decision, lines, open_policy, origins, summary};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// A right request for a WebSocket, with these lines in place of those of the same name and behind them.
fn upgrade(request_line: &str, changes: &[&str]) -> Vec<u8> {
    let right = ["Host: a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY];
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let kept = right.iter().filter(|line| !changes.iter().any(|change| name(change) == name(line)));
    // A line without a value takes the field away.
    let changes = changes.iter().filter(|line| !line.ends_with(':'));
    let request: Vec<&str> = [request_line].iter().chain(kept).chain(changes).copied().collect();
    lines(&request)
}

#[test]
fn upgrades() {
    let check = |id: &str, request_line: &str, changes: &[&str], expect: &str| {
        let found = decision(&upgrade(request_line, changes), &open_policy());
        assert_eq!(summary(&found), expect, "{id}: {request_line} {changes:?}");
    };
    let get = "GET /topics/news HTTP/1.1";
    check("C1 the right way", get, &[], "101 topic news");
    check("C1 the echo", "GET /echo?x HTTP/1.1", &[], "101 echo");
    check("A14 HTTP/1.2", "GET /topics/news HTTP/1.2", &[], "101 topic news");
    check("A16 absolute", "GET http://b/topics/news HTTP/1.1", &[], "101 topic news");
    check("A28 unknown fields", get, &["X-Anything: at all", "Sec-WebSocket-Future: 1"], "101 topic news");
    check("the query never names the topic", "GET /topics/news?topic=other HTTP/1.1", &[], "101 topic news");

    let since = |query: &str| format!("GET /topics/news?{query} HTTP/1.1");
    let place = "00000000000000a1-7";
    check("B31 all that is kept", &since("since=0"), &[], "101 topic news since 0");
    check("B31 a place", &since(&format!("a=b&since={place}&c")), &[], "101 topic news since a1-7");
    check("B31 no place", &since("since=7"), &[], "400 since_malformed");
    check("B31 an empty one", &since("since="), &[], "400 since_malformed");
    check("B31 two", &since("since=0&since=0"), &[], "400 since_malformed");
    check("B31 another name", &since("not_since=7&sinces=7"), &[], "101 topic news");
    check("B31 only topics keep anything", "GET /echo?since=7 HTTP/1.1", &[], "101 echo");
    check("B31 a page's WebSocket has no such field", get, &["Last-Event-ID: x"], "101 topic news");
    let events = |id: &str, query: &str, fields: &[&str], expect: &str| {
        let request: Vec<&str> = ["Connection:", "Upgrade:", "Accept: text/event-stream"]
            .into_iter()
            .chain(fields.iter().copied())
            .collect();
        check(id, &since(query), &request, expect);
    };
    let last = format!("Last-Event-ID: {place}");
    events("J2 where it was", "", &[&last], "events news since a1-7");
    events("J2 newer than the page's wish", "since=0", &[&last], "events news since a1-7");
    events("J2 the page's wish", "since=0", &["Last-Event-ID:"], "events news since 0");
    events("J2 never given out", "since=0", &["Last-Event-ID: 42"], "events news since 0-0");
    events("J2 two of them", "", &[&last, &last], "events news since 0-0");
    events("B31 no place", "since=7", &[], "400 since_malformed");

    check("B1 syntax comes first", "GET /nowhere#x HTTP/1.1", &[], "400 fragment");
    check("B2 HTTP/1.0", "GET /topics/news HTTP/1.0", &[], "426 upgrade_in_http10");
    check("B2 HTTP/1.0, ws-only", "GET /echo HTTP/1.0", &[], "426 upgrade_in_http10");
    check("B2 HTTP/1.0, Expect ignored", "GET /echo HTTP/1.0", &["Expect: x"], "426 upgrade_in_http10");
    check("B2 HTTP/1.0, page", "GET / HTTP/1.0", &["Expect: x"], "page");
    check("B2 HTTP/1.0, events", "GET /topics/a HTTP/1.0", &["Accept: text/event-stream"], "events a");
    check("B3 no such route", "GET /nowhere HTTP/1.1", &[], "404 not_found");
    check("B3 no such route, other method", "DELETE /nowhere HTTP/1.1", &[], "404 not_found");
    check("B3 a bad topic name", "GET /topics/a//b HTTP/1.1", &[], "400 topic_empty_segment");

    check("B4 Connection lacks upgrade", get, &["Connection: keep-alive"], "426 connection_lacks_upgrade");
    check("B4 no Connection", get, &["Connection:"], "426 connection_lacks_upgrade");
    check("B4 a longer token", get, &["Connection: upgrades, xupgrade"], "426 connection_lacks_upgrade");
    check("B4 any line", get, &["Connection: keep-alive", "Connection: Upgrade"], "101 topic news");
    check("B4 any case", get, &["Connection: keep-alive, uPGRADE"], "101 topic news");
    check("A29 empty members", get, &["Connection: ,,keep-alive,,\t upgrade ,"], "101 topic news");
    check(
        "A7 A27 under_score",
        get,
        &["Connection:", "Connection_: Upgrade"],
        "426 connection_lacks_upgrade",
    );
    check(
        "A27 a key with underscores is none",
        get,
        &["Sec-WebSocket-Key:", "Sec_WebSocket_Key: x"],
        "400 ws_key_missing",
    );
    check("B5 a list", get, &["Upgrade: h2c, websocket"], "101 topic news");
    check("B5 several lines", get, &["Upgrade: foo/1", "Upgrade: WebSocket"], "101 topic news");
    check("B6 websocket/13", get, &["Upgrade: websocket/13"], "426 upgrade_unknown");
    check("B6 notwebsocket", get, &["Upgrade: notwebsocket, websocket2"], "426 upgrade_unknown");
    check("B7 no Upgrade, but a key", "GET /echo HTTP/1.1", &["Upgrade:"], "426 upgrade_removed");
    check(
        "B7 no Upgrade, but a key, other method",
        "POST /echo HTTP/1.1",
        &["Upgrade:"],
        "426 upgrade_removed",
    );
    check("B7 no Upgrade", "GET /echo HTTP/1.1", &["Upgrade:", "Sec-WebSocket-Key:"], "426 upgrade_required");
    check("B7 an empty Upgrade", "GET /echo HTTP/1.1", &["Upgrade: ,"], "426 upgrade_unknown");
    check("B8 page", "GET / HTTP/1.1", &[], "page");
    check("B8 page, no key", "GET / HTTP/1.1", &["Sec-WebSocket-Key:"], "page");
    check("B8 health", "GET /healthz HTTP/1.1", &[], "healthz");
    check("B8 a topic as a page", get, &["Upgrade: x", "Accept: text/html"], "page news");
    check("B8 a topic as events", get, &["Connection:", "Accept: text/event-stream"], "events news");
    check("B8 a WebSocket comes before Accept", get, &["Accept: text/html"], "101 topic news");
    let h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    check("B9 h2c", "GET /echo HTTP/1.1", &h2c, "426 upgrade_unknown");
    check("B9 h2c on a page", "GET / HTTP/1.1", &h2c, "page");
    check("B10 TLS", "GET /echo HTTP/1.1", &["Upgrade: TLS/1.2"], "426 upgrade_unknown");
    check("B10 TLS on a page", "GET / HTTP/1.1", &["Upgrade: TLS/1.0"], "page");
    check("B10 TLS on *", "OPTIONS * HTTP/1.1", &["Upgrade: TLS/1.0"], "204");
    check("B11 another protocol", get, &["Upgrade: IRC/6.9"], "426 upgrade_unknown");

    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        check("B12 not GET", &format!("{method} /topics/news HTTP/1.1"), &[], "405 upgrade_method");
        check("B12 not GET", &format!("{method} /echo HTTP/1.1"), &[], "405 upgrade_method");
    }
    check("B13 CL > 0", get, &["Content-Length: 1"], "400 upgrade_with_content");
    check("B13 any TE", get, &["Transfer-Encoding: chunked"], "400 upgrade_with_content");
    check("B13 CL = 0", get, &["Content-Length: 0"], "101 topic news");
    check("B14 version missing", get, &["Sec-WebSocket-Version:"], "400 ws_version_missing");
    for version in ["0", "8", "12", "14", "99", "255"] {
        let line = format!("Sec-WebSocket-Version: {version}");
        check("B15 version not 13", get, &[&line], "426 ws_version_unsupported");
    }
    for version in ["013", "13, 8", "13,13", "+13", "1a", "256", "300", "00", "1000", "13.0", "thirteen"] {
        let line = format!("Sec-WebSocket-Version: {version}");
        check("B16 malformed version", get, &[&line], "400 ws_version_malformed");
    }
    let twice = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"];
    check("B16 two lines", get, &twice, "400 ws_version_malformed");
    check("B17 no key", get, &["Sec-WebSocket-Key:"], "400 ws_key_missing");
    for key in [
        "AAAA",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBsZSBub25jZQ==A",
        "dGhlIHNhbXBsZSBub25j!Q==",
    ] {
        check(
            "B17 no base64 of 16 bytes",
            get,
            &[&format!("Sec-WebSocket-Key: {key}")],
            "400 ws_key_malformed",
        );
    }
    check("B17 15 bytes", get, &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], "400 ws_key_malformed");
    check("B17 17 bytes", get, &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA="], "400 ws_key_malformed");
    check("B17 two lines", get, &[KEY, KEY], "400 ws_key_repeated");
    check("B18 trailing bits", get, &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="], "101 topic news");

    check("B19 same origin", get, &["Origin: http://a"], "101 topic news");
    check("B19 another origin", get, &["Origin: http://b"], "403 origin_refused");
    check("B19 null", get, &["Origin: null"], "403 origin_refused");
    check("B19 two origins", get, &["Origin: http://a", "Origin: http://a"], "403 origin_refused");
    check("B19 before B21", get, &["Origin: http://b", "Sec-WebSocket-Protocol: ("], "403 origin_refused");
    check("B21 malformed", get, &["Sec-WebSocket-Protocol: a b"], "400 subprotocol_malformed");
    check("B21 a delimiter", get, &["Sec-WebSocket-Protocol: a, b/c"], "400 subprotocol_malformed");
    check("B21 empty", get, &["Sec-WebSocket-Protocol: ,"], "400 subprotocol_malformed");
    check("B21 repeated", get, &["Sec-WebSocket-Protocol: a, b, a"], "400 subprotocol_repeated");
    check(
        "B21 repeated over lines",
        get,
        &["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"],
        "400 subprotocol_repeated",
    );
    check("B22 none in common", get, &["Sec-WebSocket-Protocol: a, A, b"], "101 topic news");
    for bad in [
        "a b",
        "a;",
        "a;b=",
        "a;=b",
        "a; b=\"c",
        "a; b=\"c d\"",
        "a; b=\"\"",
        "a,(b)",
        ",",
        "a; b c",
        "a; b=\"c\"d",
        ";a",
    ] {
        check(
            "B23 bad grammar",
            get,
            &[&format!("Sec-WebSocket-Extensions: {bad}")],
            "400 extensions_malformed",
        );
    }
    for offer in [
        "x-webkit-deflate-frame",
        "permessage-bzip2; server_max_window_bits=9",
        "permessage-deflate; a; a; a=\"b\"",
        "x-unknown ;p = \"q\\r\" ,, y",
    ] {
        check("B24 declined", get, &[&format!("Sec-WebSocket-Extensions: {offer}")], "101 topic news");
    }
    check(
        "B23 the second line",
        get,
        &["Sec-WebSocket-Extensions: a", "Sec-WebSocket-Extensions: b="],
        "400 extensions_malformed",
    );
    check("B26 100 before 101", get, &["Expect: 100-Continue"], "101 topic news after 100");
    check("B27 refused at once", get, &["Expect: 100-continue", "Sec-WebSocket-Key:"], "400 ws_key_missing");
    check("B28 another member", get, &["Expect: 100-continue, x"], "417 expectation");
    check("B28 another member", get, &["Expect: tea"], "417 expectation");
    check("B28 comes last", get, &["Expect: tea", "Origin: null"], "403 origin_refused");
}

/// B29, B30 rest on this: the head's length is all that the decision takes from the bytes, see A31.
/// B18: the key goes out as it came.
#[test]
fn the_key_is_kept_as_it_came() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==";
    let Decision::WebSocket(found) = decision(&upgrade("GET /echo HTTP/1.1", &[key]), &open_policy()) else {
        panic!("not a WebSocket")
    };
    assert_eq!(&found.key, b"dGhlIHNhbXBsZSBub25jZR==");
}

/// C3: one that the client listed, its first that is enabled, in the same spelling. B22: where none is and one is needed,
/// the request is refused.
#[test]
fn subprotocols() {
    let known = |name| Subprotocol { name, protocol: Protocol::V1 };
    let policy = speaking(Routes::usual(true, true), &[known("beta"), known("alpha")]);
    let check = |path: &str, offer: &str, expect: &str| {
        let request =
            upgrade(&format!("GET {path} HTTP/1.1"), &[&format!("Sec-WebSocket-Protocol: {offer}")]);
        assert_eq!(summary(&decision(&request, &policy)), expect, "{path} {offer}");
    };
    check("/topics/a", "alpha", "101 topic a alpha");
    check("/topics/a", "x, alpha, beta", "101 topic a alpha");
    check("/topics/a", "BETA", "101 topic a");
    check("/topics/a", "alphabet, bet", "101 topic a");
    check("/topics/a", "beta, b(", "400 subprotocol_malformed");
    check("/topics/a", "beta, beta", "400 subprotocol_repeated");
    check("/connect", "x, beta", "101 connect beta");
    check("/connect", "BETA", "400 subprotocol_required");
    check("/connect", "b(", "400 subprotocol_malformed");
    // Its order runs over all lines of the field.
    check(
        "/topics/a",
        "x\r\nSec-WebSocket-Protocol: alpha\r\nSec-WebSocket-Protocol: beta",
        "101 topic a alpha",
    );
    check("/topics/a", "x, y\r\nSec-WebSocket-Protocol: z, beta, alpha", "101 topic a beta");
    check(
        "/connect",
        "x\r\nSec-WebSocket-Protocol: alpha\r\nSec-WebSocket-Protocol: beta",
        "101 connect alpha",
    );
    check("/topics/a", "beta\r\nSec-WebSocket-Protocol: alpha, beta", "400 subprotocol_repeated");
    check("/connect", "x\r\nSec-WebSocket-Protocol: y", "400 subprotocol_required");
    // Nothing is spoken there.
    check("/echo", "alpha", "101 echo");
}

/// C3, B22: what is enabled is the route's.
#[test]
fn subprotocols_of_routes() {
    let text = "/chat/* topics subprotocols=moongate.v1; /wamp connect subprotocols=wamp.2.json; \
                /plain/* topics subprotocols=off; /topics/* topics; /connect connect; /echo echo";
    let table = Routes::parse(text).expect("a table");
    let [v1, wamp] = [&SUBPROTOCOLS[..1], &SUBPROTOCOLS[1..]];
    let policies = [
        ("off", speaking(table.clone(), &[])),
        ("v1", speaking(table.clone(), v1)),
        ("wamp", speaking(table.clone(), wamp)),
        ("alias", Policy { routes: table.with_subprotocols(v1, &[WAMP_ALIAS]).into(), ..open_policy() }),
    ];
    let check = |path: &str, offer: &str, expect: [&str; 4]| {
        let request =
            upgrade(&format!("GET {path} HTTP/1.1"), &[&format!("Sec-WebSocket-Protocol: {offer}")]);
        for ((usual, policy), expect) in policies.iter().zip(expect) {
            assert_eq!(summary(&decision(&request, policy)), expect, "{usual}: {path} {offer}");
        }
    };
    const BOTH: &str = "wamp, wamp.2.json, moongate.v1";
    const REFUSED: &str = "400 subprotocol_required";
    check("/chat/a", BOTH, ["101 topic a moongate.v1"; 4]);
    check("/chat/a", "wamp.2.json", ["101 topic a"; 4]);
    check("/chat/a", "wamp", ["101 topic a"; 4]);
    check("/plain/a", BOTH, ["101 topic a"; 4]);
    let by_alias = "101 connect wamp";
    let by_name = "101 connect wamp.2.json";
    check("/wamp", BOTH, [by_name, by_name, by_name, by_alias]);
    check("/wamp", "wamp", [REFUSED, REFUSED, REFUSED, by_alias]);
    check("/wamp", "moongate.v1", [REFUSED; 4]);
    // These two say nothing, and have what all have.
    const OF_TOPIC: [&str; 3] = ["101 topic a", "101 topic a moongate.v1", "101 topic a wamp.2.json"];
    check("/topics/a", BOTH, [OF_TOPIC[0], OF_TOPIC[1], OF_TOPIC[2], OF_TOPIC[1]]);
    let v1_there = "101 connect moongate.v1";
    check("/connect", BOTH, [REFUSED, v1_there, by_name, v1_there]);
    check("/echo", BOTH, ["101 echo"; 4]);
}

/// B22: who is refused is told what this route has, and nothing of what others have.
#[test]
fn the_hint_lists_what_the_route_speaks() {
    let table = "/v1 connect subprotocols=moongate.v1; /both connect subprotocols=wamp.2.json,moongate.v1; /none connect";
    let policy = speaking(Routes::parse(table).expect("a table"), &[]);
    let check = |path: &str, expect: &str| {
        let request = upgrade(&format!("GET {path} HTTP/1.1"), &["Sec-WebSocket-Protocol: mqtt"]);
        let Decision::Refuse(refusal) = decision(&request, &policy) else { panic!("{path} was not refused") };
        let mut answer = Vec::new();
        refusal.write(&Date::from_unix(0), &mut answer);
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.contains(expect), "{path}: {answer}");
    };
    check("/v1", "Offer one of moongate.v1, as in new WebSocket(url, \\\"moongate.v1\\\")");
    check("/both", "Offer one of wamp.2.json, moongate.v1, as in");
    check("/none", "None is enabled");
}

/// What `routes` leaves open filled in with `usual`.
fn speaking(routes: Routes, usual: &[Subprotocol]) -> Policy {
    Policy { routes: routes.with_subprotocols(usual, &[]).into(), ..open_policy() }
}

#[test]
fn a_subprotocol_is_not_compressed() {
    let lines = ["Sec-WebSocket-Protocol: moongate.v1", "Sec-WebSocket-Extensions: permessage-deflate"];
    let found = decision(&upgrade("GET /connect HTTP/1.1", &lines), &open_policy());
    assert_eq!(summary(&found), "101 connect moongate.v1");
    let none = speaking(Routes::usual(true, true), &[]);
    let found = decision(&upgrade("GET /connect HTTP/1.1", &lines), &none);
    assert_eq!(summary(&found), "400 subprotocol_required");
    let found = decision(&upgrade("GET /topics/a HTTP/1.1", &lines), &none);
    assert!(summary(&found).starts_with("101 topic a permessage-deflate"));
}

#[test]
fn routes() {
    let check = |id: &str, request: &[&str], expect: &str| {
        let request = [&request[..1], &["Host: a"], &request[1..]].concat();
        assert_eq!(summary(&decision(&lines(&request), &open_policy())), expect, "{id}: {request:?}");
    };
    check("the page", &["GET / HTTP/1.1"], "page");
    check("the page, any query", &["GET /?topic=x HTTP/1.1"], "page");
    check("A33 the page's head", &["HEAD / HTTP/1.1"], "page head");
    check("the page's script", &["GET /moongate.js HTTP/1.1"], "script");
    check("A33 the script's head", &["HEAD /moongate.js HTTP/1.1"], "script head");
    check("the script is only read", &["POST /moongate.js HTTP/1.1"], "405 method_not_allowed");
    check("A13 the page", &["POST / HTTP/1.1"], "405 method_not_allowed");
    check("the page's methods", &["OPTIONS / HTTP/1.1"], "204");
    check("health", &["GET /healthz HTTP/1.1"], "healthz");
    check("health's head", &["HEAD /healthz HTTP/1.1"], "healthz head");
    check("readiness", &["GET /readyz HTTP/1.1"], "readyz");
    check("readiness' head", &["HEAD /readyz HTTP/1.1"], "readyz head");
    check("A13 health", &["DELETE /healthz HTTP/1.1"], "405 method_not_allowed");
    check("B10 the server", &["OPTIONS * HTTP/1.1"], "204");
    check("the echo's methods", &["OPTIONS /echo HTTP/1.1"], "204");
    check("the echo's head", &["HEAD /echo HTTP/1.1"], "426 upgrade_required");
    check("no route", &["GET /topics HTTP/1.1"], "404 not_found");
    check("no route", &["GET /Echo HTTP/1.1"], "404 not_found");
    check("no route", &["GET /echo/ HTTP/1.1"], "404 not_found");
    check("no route", &["GET //topics/a HTTP/1.1"], "404 not_found");
    check("no topic", &["GET /topics/ HTTP/1.1"], "400 topic_empty");
    check("B28 plain", &["GET / HTTP/1.1", "Expect: x"], "417 expectation");
    check("B26 plain", &["GET / HTTP/1.1", "Expect: 100-continue"], "page");

    let get = "GET /topics/a%20b HTTP/1.1";
    check("events", &[get, "Accept: text/event-stream"], "events a b");
    check("events, as a head", &["HEAD /topics/a HTTP/1.1", "Accept: text/event-stream"], "events a head");
    check("a browser", &[get, "Accept: text/html,application/xhtml+xml,*/*;q=0.8"], "page a b");
    check("a browser's head", &["HEAD /topics/a HTTP/1.1", "Accept: text/html"], "page a head");
    check("curl", &[get, "Accept: */*"], "426 upgrade_required");
    check("no Accept", &[get], "426 upgrade_required");
    check("text/*", &[get, "Accept: text/*"], "426 upgrade_required");
    check("any case", &[get, "Accept: Text/Event-Stream ; Q=0.1"], "events a b");
    check("parameters", &[get, "Accept: text/event-stream;charset=utf-8;q=1"], "events a b");
    check("two lines", &[get, "Accept: application/json", "Accept: text/event-stream"], "events a b");
    check("q = 0", &[get, "Accept: text/event-stream;q=0"], "426 upgrade_required");
    check("q = 0.000", &[get, "Accept: text/event-stream; q=0.000, text/html"], "page a b");
    check("by q", &[get, "Accept: text/html;q=0.8, text/event-stream;q=0.9"], "events a b");
    check("by q", &[get, "Accept: text/html;q=0.9, text/event-stream;q=0.8"], "page a b");
    check("equal q", &[get, "Accept: text/html, text/event-stream"], "events a b");
    check("bad q", &[get, "Accept: text/html;q=x"], "426 upgrade_required");
    check("bytes above 0x7F", &[get, "Accept: \u{e9}, text/html"], "page a b");
    check("A13 topic", &["DELETE /topics/a HTTP/1.1"], "405 method_not_allowed");
    check("A13 topic", &["PUT /topics/a HTTP/1.1", "Content-Length: 1"], "405 method_not_allowed");
    check("a topic's methods", &["OPTIONS /topics/a HTTP/1.1"], "204");
}

#[test]
fn publishing() {
    let check = |id: &str, request: &[&str], expect: &str| {
        let request = [&["POST /topics/a HTTP/1.1", "Host: a"], request].concat();
        assert_eq!(summary(&decision(&lines(&request), &open_policy())), expect, "{id}: {request:?}");
    };
    check("no body", &[], "publish a Text None");
    check("a length", &["Content-Length: 5"], "publish a Text Length(5)");
    check("chunks", &["Transfer-Encoding: chunked"], "publish a Text Chunked");
    check("binary", &["Content-Type: application/octet-stream"], "publish a Binary None");
    check("binary", &["Content-Type: Application/Octet-Stream ; x=y"], "publish a Binary None");
    check("text", &["Content-Type: application/json"], "publish a Json None");
    check("text", &["Content-Type: application/octet-streams"], "publish a Text None");
    check("text", &["Content-Type: application/x-www-form-urlencoded"], "publish a Text None");
    check("the largest", &["Content-Length: 65536"], "publish a Text Length(65536)");
    check("too large", &["Content-Length: 65537"], "413 body_too_large");
    check("far too large", &["Content-Length: 18446744073709551615"], "413 body_too_large");
    check("A26 100", &["Content-Length: 1", "Expect: 100-continue"], "publish a Text Length(1) after 100");
    check(
        "100, chunks",
        &["Transfer-Encoding: chunked", "Expect: 100-continue"],
        "publish a Text Chunked after 100",
    );
    check("100 for nothing", &["Content-Length: 0", "Expect: 100-continue"], "publish a Text Length(0)");
    check("B27", &["Content-Length: 65537", "Expect: 100-continue"], "413 body_too_large");
    check("B28", &["Content-Length: 1", "Expect: 200-ok"], "417 expectation");
    check("L1 same", &["Origin: http://a"], "publish a Text None cors=http://a");
    check("L1 other", &["Origin: http://b"], "403 origin_refused");
    check("L1 null", &["Origin: null"], "403 origin_refused");
    check("B8 Upgrade to something else", &["Connection: upgrade", "Upgrade: h2c"], "publish a Text None");

    let old = |line: &str| summary(&decision(&lines(&["POST /topics/a HTTP/1.0", line]), &open_policy()));
    assert_eq!(old("Content-Length: 5"), "publish a Text Length(5)");
    assert_eq!(old("Expect: 100-continue"), "publish a Text None", "B2");
}

#[test]
fn what_is_off_is_not_there() {
    let check = |policy: &Policy, request_line: &str, line: &str, expect: &str| {
        let found = decision(&lines(&[request_line, "Host: a", line]), policy);
        assert_eq!(summary(&found), expect, "{request_line} {line}");
    };
    let closed = Policy::default();
    check(&closed, "GET / HTTP/1.1", "X: y", "404 not_found");
    check(&closed, "GET /moongate.js HTTP/1.1", "X: y", "404 not_found");
    check(&closed, "GET /echo HTTP/1.1", "X: y", "404 not_found");
    check(&closed, "GET /topics/a HTTP/1.1", "Accept: text/html", "426 upgrade_required");
    check(&closed, "GET /topics/a HTTP/1.1", "Accept: text/html, text/event-stream;q=0.1", "events a");
    check(&closed, "POST /topics/a HTTP/1.1", "Content-Length: 1", "403 subscribe_only");
    check(&closed, "POST /topics/a HTTP/1.1", "Content-Length: 99999", "403 subscribe_only");
    check(&closed, "GET /healthz HTTP/1.1", "X: y", "healthz");
    let unhealthy = Policy { routes: Routes::usual(false, false).into(), ..Policy::default() };
    check(&unhealthy, "GET /healthz HTTP/1.1", "X: y", "404 not_found");
    check(&unhealthy, "GET /readyz HTTP/1.1", "X: y", "404 not_found");
}

/// L1, and who is told to whom an answer is readable.
#[test]
fn origins_are_compared_whole() {
    let check = |setting: &str, request_line: &str, lines_of: &[&str], expect: &str| {
        let policy = Policy { origins: origins(setting), ..open_policy() };
        let request = [&[request_line], lines_of].concat();
        assert_eq!(summary(&decision(&lines(&request), &policy)), expect, "{setting}: {request:?}");
    };
    let post = "POST /topics/a HTTP/1.1";
    let refused = "403 origin_refused";
    let told = |origin: &str| format!("publish a Text None cors={origin}");
    for (host, origin) in [
        ("a", "http://a"),
        ("a", "https://a"),
        ("a:80", "http://a"),
        ("a:443", "https://a"),
        ("a", "http://a:80"),
        ("A:8080", "http://a:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
    ] {
        let both = [&*format!("Host: {host}"), &format!("Origin: {origin}")];
        check("same", post, &both, &told(origin));
    }
    for (host, origin) in [
        ("a", "http://b"),
        ("a", "http://a:8080"),
        ("a:8080", "http://a"),
        ("a:80", "https://a"),
        ("a:443", "http://a"),
        ("a", "http://a.b"),
        ("a", "http://b.a"),
        ("a", "http://aa"),
        ("a", "a"),
        ("a", "http://a/"),
        ("a", "http://a, http://a"),
        ("a", "http://u@a"),
        ("a", "app://a"),
        ("a", "://a"),
        ("a", "null"),
        ("a", ""),
        ("a", "http://\u{e9}"),
    ] {
        check("same", post, &[&*format!("Host: {host}"), &format!("Origin: {origin}")], refused);
    }
    check("same", post, &["Host: a"], "publish a Text None");
    check("same", "POST http://b/topics/a HTTP/1.1", &["Host: a", "Origin: http://b"], &told("http://b"));
    check("same", "POST http://b/topics/a HTTP/1.1", &["Host: a", "Origin: http://a"], refused);
    check("same", "POST /topics/a HTTP/1.0", &["Origin: http://a"], refused);

    let listed = "https://app.example.com, http://localhost:3000,tauri://localhost";
    check(listed, post, &["Host: a", "Origin: https://app.example.com"], &told("https://app.example.com"));
    check(
        listed,
        post,
        &["Host: a", "Origin: https://app.example.com:443"],
        &told("https://app.example.com:443"),
    );
    check(listed, post, &["Host: a", "Origin: HTTPS://App.Example.com"], &told("HTTPS://App.Example.com"));
    check(listed, post, &["Host: a", "Origin: tauri://localhost"], &told("tauri://localhost"));
    check(listed, post, &["Host: a"], "publish a Text None");
    for origin in [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://xapp.example.com",
        "https://example.com",
        "https://app.example.com.evil.test",
        "http://localhost",
        "http://a",
        "null",
    ] {
        check(listed, post, &["Host: a", &format!("Origin: {origin}")], refused);
    }

    check("*", post, &["Host: a", "Origin: http://b"], &told("*"));
    check("*", post, &["Host: a", "Origin: null"], &told("*"));
    check("*", post, &["Host: a"], &told("*"));

    let events = |line| ["Host: a", "Accept: text/event-stream", line];
    let get = "GET /topics/a HTTP/1.1";
    check("same", get, &events("Origin: http://a"), "events a cors=http://a");
    check("same", get, &events("Origin: http://b"), "events a");
    check("same", get, &events("X: y"), "events a");
    check(listed, get, &events("Origin: http://localhost:3000"), "events a cors=http://localhost:3000");
    check("*", get, &events("Origin: null"), "events a cors=*");
}
