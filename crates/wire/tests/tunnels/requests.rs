//! What goes upstream: which requests do at all, and the head that is written for them.

use crate::support::{lines, outcome, pass, sent};

const CHAT: &str = "/chat/* tunnel app:3000";
const BOTH: &str = "/chat/* tunnel app:3000 http=pass";

#[test]
fn who_gets_through() {
    let check = |table: &str, first: &str, fields: &[&str], expect: &str| {
        let mut head = vec![first, "Host: a"];
        head.extend(fields);
        assert_eq!(outcome(table, &head), expect, "{table}: {head:?}");
    };
    const GET: &str = "GET /chat/x HTTP/1.1";
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket"];
    check(CHAT, GET, &upgrade, "switch");
    // Whether a handshake is right is the upstream's business.
    check(CHAT, "POST /chat/x HTTP/1.1", &upgrade, "switch");
    check(CHAT, GET, &["Connection: Upgrade", "Upgrade: websocket", "Content-Length: 0"], "switch");
    check(CHAT, GET, &["Connection: x, uPGRADE", "Upgrade: h2c, WebSocket"], "switch");

    // H9
    let content = ["Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5"];
    check(CHAT, GET, &content, "400 upgrade_with_content");
    check(BOTH, GET, &content, "400 upgrade_with_content");
    let chunked = ["Connection: Upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"];
    check(BOTH, GET, &chunked, "400 upgrade_with_content");

    // H18
    for token in ["h2c", "TLS/1.0", "websocket/13", "notwebsocket", "acme"] {
        let fields = ["Connection: Upgrade".to_owned(), format!("Upgrade: {token}")];
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        check(CHAT, GET, &fields, "426 upgrade_unknown");
        check(BOTH, GET, &fields, "pass");
    }
    check(CHAT, GET, &[], "426 upgrade_required");
    check(CHAT, GET, &["Upgrade: websocket"], "426 connection_lacks_upgrade");
    check(CHAT, "GET /chat/x HTTP/1.0", &upgrade, "426 upgrade_in_http10");
    check(CHAT, "OPTIONS /chat/x HTTP/1.1", &[], "426 upgrade_required");
    check(BOTH, "GET /chat/x HTTP/1.0", &upgrade, "pass");
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        check(BOTH, &format!("{method} /chat/x HTTP/1.1"), &[], "pass");
    }
    check(BOTH, "TRACE /chat/x HTTP/1.1", &[], "405 trace_refused");
    check(BOTH, GET, &["Expect: 100-continue"], "pass");
    check(BOTH, GET, &["Expect: something"], "417 expectation");

    // H19: neither Host nor target choose where it goes, and no dots lead out of the route.
    check(CHAT, "GET http://elsewhere:1/chat/x HTTP/1.1", &upgrade, "switch");
    check(CHAT, "GET /chat/../admin HTTP/1.1", &upgrade, "400 path_dot_segment");
    check(CHAT, "GET /chat/%2e%2E/admin HTTP/1.1", &upgrade, "400 path_dot_segment");
}

#[test]
fn protocols_have_a_name_in_any_case_and_one_version() {
    let check = |upgrade: &str, expect: Option<&str>| {
        let head = ["GET /rpc HTTP/1.1", "Host: a", "Connection: upgrade", &format!("Upgrade: {upgrade}")];
        let passed =
            pass("/rpc tunnel unix:/r upgrade=acme-rpc/2,Echo,acme-rpc/1", &lines(&head), "192.0.2.7");
        let written = passed.ok().map(|(_, out)| String::from_utf8(out).expect("ASCII"));
        let found =
            written.as_deref().and_then(|head| head.lines().find_map(|line| line.strip_prefix("Upgrade: ")));
        assert_eq!(found, expect, "{upgrade}");
    };
    // The first of the client's that is on the list, in the list's spelling (docs/protocol.md B5).
    check("ACME-rpc/2", Some("acme-rpc/2"));
    check("acme-rpc/1, acme-rpc/2", Some("acme-rpc/1"));
    check("acme-rpc/3, x, ECHO", Some("Echo"));
    check("acme-rpc", None);
    check("acme-rpc/", None);
    check("echo/1", None);
}

#[test]
fn a_switch_is_asked_for_in_our_own_words() {
    let head = [
        "GET /chat/room%20one?a=/../b HTTP/1.1",
        "hOST: Example.com:8080",
        "Upgrade: foo, WebSocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: https://example.com",
        "Cookie: a=b",
        "cookie:   c=d  ",
    ];
    assert_eq!(
        sent(CHAT, &head),
        [
            "GET /chat/room%20one?a=/../b HTTP/1.1",
            "Host: Example.com:8080",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Origin: https://example.com",
            "Cookie: a=b",
            "cookie: c=d",
            "Via: 1.1 moongate",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: Example.com:8080",
            "Forwarded: for=192.0.2.7;host=\"Example.com:8080\";proto=http",
            "Connection: Upgrade",
            "Upgrade: websocket",
        ]
    );
}

/// H9: a length of nothing says nothing, and the upstream is not told of it.
#[test]
fn a_switch_has_no_length() {
    let usual = ["GET /chat/x HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"];
    let with_length = [&usual[..], &["Content-Length: 0"]].concat();
    assert_eq!(sent(CHAT, &with_length), sent(CHAT, &usual));
}

/// H6, H7, H8: line for line, whether it goes on.
#[test]
fn fields_that_stay_here() {
    let check = |line: &str, expect: &[&str]| {
        let usual = sent(BOTH, &["GET /chat/x HTTP/1.1", "Host: a"]);
        let lines = sent(BOTH, &["GET /chat/x HTTP/1.1", "Host: a", line]);
        let more: Vec<&str> = lines.iter().filter(|line| !usual.contains(line)).map(String::as_str).collect();
        assert_eq!(more, expect, "{line}");
        assert_eq!(lines.len(), usual.len() + expect.len(), "{line}");
    };
    for gone in [
        "Connection: close",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: X",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        "Proxy-Authorization: Basic x",
        "Proxy: http://evil",
        "X-Forwarded-For: 10.0.0.1",
        "x-forwarded-HOST: evil",
        "X-Forwarded-Prefix: /evil",
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "X_Forwarded_For: 10.0.0.1",
        "Sec_WebSocket_Key: x",
        "X.Odd: 1",
    ] {
        check(gone, &[]);
    }
    check("Accept: */*", &["Accept: */*"]);
    check("Authorization: Bearer x", &["Authorization: Bearer x"]);
    check("Via: 1.0 fred", &["Via: 1.0 fred"]);
    check("X-Empty:", &["X-Empty: "]);
    check("Content-Length: 3", &["Content-Length: 3"]);
    check("Content-Length: 0", &["Content-Length: 0"]);
    check("Transfer-Encoding: chunked", &["Transfer-Encoding: chunked"]);
    check("Expect: 100-Continue", &["Expect: 100-continue"]);
}

/// H7: `Connection` takes away what is its own, and nothing that protects.
#[test]
fn connection_options_strip_no_security_fields() {
    let check = |name: &str, goes_on: bool| {
        let nomination = format!("Connection: close, {name}");
        let line = format!("{name}: value");
        let lines = sent(BOTH, &["GET /chat/x HTTP/1.1", "Host: a", &nomination, &line]);
        assert_eq!(lines.contains(&line), goes_on, "{name}: {lines:?}");
        assert!(lines.contains(&"Host: a".to_owned()));
        assert!(lines.contains(&"X-Forwarded-For: 192.0.2.7".to_owned()));
    };
    check("Hop", false);
    check("My-Option", false);
    for kept in [
        "Authorization",
        "COOKIE",
        "Origin",
        "Sec-WebSocket-Key",
        "sec-fetch-site",
        "X-User",
        "Accept",
        "Access-Control-Request-Method",
        "Cache-Control",
        "Content-Type",
        "Date",
        "If-Match",
        "Last-Event-ID",
        "Range",
        "Referer",
        "User-Agent",
        "Via",
    ] {
        check(kept, true);
    }
    let all = "Connection: close, Host, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Forwarded, Via";
    let lines = sent(BOTH, &["GET /chat/x HTTP/1.1", "Host: a", all]);
    assert_eq!(lines, sent(BOTH, &["GET /chat/x HTTP/1.1", "Host: a"]));
}

#[test]
fn paths_are_exchanged_at_the_front() {
    let check = |options: &str, pattern: &str, target: &str, expect: &str| {
        let table = format!("{pattern} tunnel app:1 http=pass {options}");
        let lines = sent(&table, &[&format!("GET {target} HTTP/1.1"), "Host: a"]);
        assert_eq!(lines[0], format!("GET {expect} HTTP/1.1"), "{table} {target}");
    };
    check("", "/chat/*", "/chat/", "/chat/");
    check("strip=/chat", "/chat/*", "/chat/", "/");
    check("strip=/chat", "/chat/*", "/chat/a/b?c", "/a/b?c");
    check("strip=/chat", "/chat/*", "/chat//a", "//a");
    check("strip=/chat", "/chat", "/chat", "/");
    check("strip=/chat", "/chat", "/chat?q", "/?q");
    check("strip=/chat prefix=/v2/app", "/chat/*", "/chat/a", "/v2/app/a");
    check("strip=/chat prefix=/v2", "/chat", "/chat", "/v2");
    check("prefix=/v2", "/*", "/", "/v2/");
    check("prefix=/", "/*", "/a", "/a");
    check("strip=/a", "/a/b/*", "/a/b/c", "/b/c");
    check("", "/*", "http://b/x?y", "/x?y");
    check("", "/*", "http://b?y", "/?y");
}

#[test]
fn the_host_is_the_clients_unless_the_route_has_one() {
    let check = |options: &str, head: &[&str], host: &str, forwarded: Option<&str>| {
        let lines = sent(&format!("/* tunnel app:1 http=pass {options}"), head);
        assert_eq!(lines[1], format!("Host: {host}"), "{head:?}");
        let said = lines.iter().find_map(|line| line.strip_prefix("X-Forwarded-Host: "));
        assert_eq!(said, forwarded, "{head:?}");
    };
    check("", &["GET / HTTP/1.1", "Host: a:80"], "a:80", Some("a:80"));
    check("host=app.example", &["GET / HTTP/1.1", "Host: a"], "app.example", Some("a"));
    check("", &["GET http://b:81/ HTTP/1.1", "Host: a"], "b:81", Some("b:81"));
    check("", &["GET / HTTP/1.0"], "localhost", None);
}

#[test]
fn the_peer_is_written_as_rfc_7239_wants_it() {
    let check = |peer: &str, plain: &str, forwarded: &str| {
        let (_, out) = pass(BOTH, &lines(&["GET /chat/ HTTP/1.0", "X: y"]), peer).expect("it passes");
        let text = String::from_utf8(out).expect("ASCII");
        assert!(text.contains(&format!("\r\nX-Forwarded-For: {plain}\r\n")), "{text}");
        assert!(text.contains(&format!("\r\nForwarded: for={forwarded};proto=http\r\n")), "{text}");
        assert!(text.contains("\r\nVia: 1.0 moongate\r\n"), "{text}");
        // H8: the version is this connection's, not the client's.
        assert!(text.starts_with("GET /chat/ HTTP/1.1\r\n"), "{text}");
    };
    check("192.0.2.1", "192.0.2.1", "192.0.2.1");
    check("2001:db8::1", "2001:db8::1", "\"[2001:db8::1]\"");
    check("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1");
}
