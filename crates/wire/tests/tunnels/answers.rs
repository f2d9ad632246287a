//! What an upstream says, and what the client is told of it.

use moongate_wire::scan::HeadLimits;
use moongate_wire::upstream::{Exchange, INTERIMS_MAX, Verdict};

use crate::support::{answered, lines, pass, scan, split};

const TABLE: &str = "/a tunnel app:1 upgrade=acme-rpc/2,websocket http=pass";

/// A request that asks to switch to `protocol`, and more.
fn switch(protocol: &str, more: &[&str]) -> Exchange {
    let upgrade = format!("Upgrade: {protocol}");
    let mut head = vec!["GET /a HTTP/1.1", "Host: a", "Connection: Upgrade", &upgrade];
    head.extend(more);
    let (exchange, _) = pass(TABLE, &lines(&head), "192.0.2.7").expect("it passes");
    assert!(exchange.is_upgrade());
    exchange
}

fn ordinary(first: &str, more: &[&str]) -> Exchange {
    let mut head = vec![first, "Host: a"];
    head.extend(more);
    let (exchange, _) = pass(TABLE, &lines(&head), "192.0.2.7").expect("it passes");
    assert!(!exchange.is_upgrade());
    exchange
}

fn reason(exchange: &Exchange, answer: &[u8]) -> &'static str {
    match answered(TABLE, exchange, answer) {
        Ok((verdict, ..)) => panic!("{}: {verdict:?}", answer.escape_ascii()),
        Err(refusal) => {
            assert_eq!(refusal.reason.status(), 502);
            refusal.reason.label()
        }
    }
}

/// H1, H4, H5: the one protocol that was asked for, and nothing else, is switched to.
#[test]
fn switches() {
    let taken = |protocol: &str, answer: &[u8]| {
        let (verdict, out, _) = answered(TABLE, &switch(protocol, &[]), answer).expect("a switch");
        assert!(matches!(verdict, Verdict::Switched), "{verdict:?}");
        split(&out)
    };
    assert_eq!(
        taken(
            "websocket",
            b"HTTP/1.1 101 Go\r\nDate: x\r\nUPGRADE: WebSocket\r\nconnection: foo, UPGRADE\r\nSec-WebSocket-Accept: y\r\n\
              Foo: bar\r\nKeep-Alive: 5\r\nContent-Length: 5\r\n\r\n"
        ),
        [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Date: x",
            "Sec-WebSocket-Accept: y"
        ]
    );
    taken("acme-rpc/2", b"HTTP/1.1 101 \r\nUpgrade: ACME-rpc/2\r\nConnection: upgrade\r\n\r\n");
    taken("acme-rpc/2", b"HTTP/1.7 101\r\nUpgrade: acme-rpc/2\r\nConnection: upgrade\r\n\r\n");

    let refused = |protocol: &str, fields: &[&str]| {
        let mut head = vec!["HTTP/1.1 101 Switching Protocols"];
        head.extend(fields);
        assert_eq!(reason(&switch(protocol, &[]), &lines(&head)), "upstream_switched", "H4: {fields:?}");
    };
    refused("websocket", &["Upgrade: websocket"]);
    refused("websocket", &["Connection: upgrade"]);
    refused("websocket", &["Upgrade: acme-rpc/2", "Connection: upgrade"]);
    refused("websocket", &["Upgrade: h2c", "Connection: upgrade"]);
    refused("websocket", &["Upgrade: websocket, h2c", "Connection: upgrade"]);
    refused("websocket", &["Upgrade: websocket", "Upgrade: websocket", "Connection: upgrade"]);
    refused("acme-rpc/2", &["Upgrade: acme-rpc/1", "Connection: upgrade"]);
    refused("acme-rpc/2", &["Upgrade: acme-rpc", "Connection: upgrade"]);
    let old = b"HTTP/1.0 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(reason(&switch("websocket", &[]), old), "upstream_switched", "H4");
    // Also if the route has the protocol.
    for protocol in ["websocket", "acme-rpc/2", "h2c"] {
        let unasked = format!("HTTP/1.1 101 Go\r\nUpgrade: {protocol}\r\nConnection: upgrade\r\n\r\n");
        assert_eq!(reason(&ordinary("GET /a HTTP/1.1", &[]), unasked.as_bytes()), "upstream_switched", "H5");
    }
}

/// H6, H7: what is about the upstream's connection stays there, and `Connection` takes nothing else away.
#[test]
fn fields_of_answers() {
    let check = |connection: &str, line: &str, goes_on: bool| {
        let head = ["HTTP/1.1 204 Done", "Date: x", &format!("Connection: {connection}"), line];
        let (_, out, _) =
            answered(TABLE, &ordinary("GET /a HTTP/1.1", &[]), &lines(&head)).expect("an answer");
        let mut expect = vec!["HTTP/1.1 204 Done", "Date: x", "Connection: close"];
        if goes_on {
            expect.insert(2, line);
        }
        assert_eq!(split(&out), expect, "{connection}");
    };
    for gone in [
        "Connection: keep-alive",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: X",
        "Upgrade: h2c",
    ] {
        check("close", gone, false);
    }
    check("close", "Hop: x", true);
    check("close, HOP", "Hop: x", false);
    for name in
        ["Age", "Set-Cookie", "Vary", "WWW-Authenticate", "Access-Control-Allow-Origin", "X-Frame-Options"]
    {
        check(&format!("close, {name}"), &format!("{name}: y"), true);
    }
}

/// H10: what stands behind the 101 is left for whoever speaks the new protocol.
#[test]
fn what_follows_the_101_is_not_touched() {
    let answer =
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\x81\x00";
    let (_, _, behind) = answered(TABLE, &switch("websocket", &[]), answer).expect("a switch");
    assert_eq!(behind, b"HTTP/1.1 200 OK\r\n\r\n\x81\x00");
}

/// H3: the answer the client gets for the upstream's, line for line, and its body.
#[test]
fn ordinary_answers() {
    let check = |id: &str, exchange: &Exchange, answer: &[u8], head: &[&str], body: &[u8], done: bool| {
        let (verdict, out, behind) = answered(TABLE, exchange, answer).expect(id);
        let Verdict::Answer(mut relay) = verdict else { panic!("{id}: {verdict:?}") };
        assert_eq!(split(&out), head, "{id}");
        let mut relayed = Vec::new();
        relay.relay(&behind, &mut relayed).expect(id);
        assert_eq!(relayed.escape_ascii().to_string(), body.escape_ascii().to_string(), "{id}");
        assert_eq!(relay.is_done(), done, "{id}");
    };
    let get = ordinary("GET /a HTTP/1.1", &[]);
    let old = ordinary("GET /a HTTP/1.0", &[]);
    let head_only = ordinary("HEAD /a HTTP/1.1", &[]);
    let websocket = switch("websocket", &[]);
    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
    const CLOSE: &str = "Connection: close";

    let length =
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\nhelloHTTP/1.1 200 OK";
    let written = ["HTTP/1.1 200 OK", "Set-Cookie: a", "set-cookie: b", DATE, "Content-Length: 5", CLOSE];
    check("a length", &get, length, &written, b"hello", true);
    check("a length, to a wish to switch", &websocket, length, &written, b"hello", true);
    check("a length, to HEAD", &head_only, length, &written, b"", true);

    let chunked = b"HTTP/1.1 401 No\r\nDate: now\r\nTransfer-Encoding: CHUNKED\r\nTrailer: X\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n";
    let written = ["HTTP/1.1 401 No", "Date: now", "Transfer-Encoding: chunked", CLOSE];
    check("chunks", &get, chunked, &written, b"5\r\nhello\r\n0\r\n\r\n", true);
    let looks_like_one =
        b"HTTP/1.1 200 OK\r\nDate: now\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n";
    let written = ["HTTP/1.1 200 OK", "Date: now", "Content-Length: 0", CLOSE];
    check("200 that names the protocol", &websocket, looks_like_one, &written, b"", true);
    check("chunks to HTTP/1.0", &old, chunked, &["HTTP/1.1 401 No", "Date: now", CLOSE], b"hello", true);
    check("chunks to HEAD", &head_only, chunked, &["HTTP/1.1 401 No", "Date: now", CLOSE], b"", true);

    let until_close = b"HTTP/1.0 200 OK\r\nConnection: Hop, keep-alive\r\nHop: x\r\nServer: y\r\n\r\nhello";
    check("until close", &get, until_close, &["HTTP/1.1 200 OK", "Server: y", DATE, CLOSE], b"hello", false);

    let empty = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\nx";
    check("204", &get, empty, &["HTTP/1.1 204 No Content", DATE, CLOSE], b"", true);
    let unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\nx";
    let written = ["HTTP/1.1 304 Not Modified", "ETag: \"x\"", DATE, "Content-Length: 99", CLOSE];
    check("304", &get, unchanged, &written, b"", true);

    let needed =
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n";
    let written = [
        "HTTP/1.1 426 Upgrade Required",
        DATE,
        "Content-Length: 0",
        "Upgrade: acme-rpc/2, websocket",
        "Connection: Upgrade, close",
    ];
    check("426 says to what", &get, needed, &written, b"", true);
    let odd = b"HTTP/1.1 599 \xe9\r\nContent-Length: 0\r\n\r\n";
    check(
        "a phrase that is not ASCII",
        &get,
        odd,
        &["HTTP/1.1 599 ", DATE, "Content-Length: 0", CLOSE],
        b"",
        true,
    );
}

/// H14: interim answers.
#[test]
fn interim_answers() {
    let told = |exchange: &Exchange, before: &[u8]| {
        let answer = [before, b"HTTP/1.1 204 x\r\nDate: x\r\n\r\n"].concat();
        let (_, out, _) = answered(TABLE, exchange, &answer).expect("an answer");
        let text = String::from_utf8(out).expect("ASCII");
        text.strip_suffix("HTTP/1.1 204 x\r\nDate: x\r\nConnection: close\r\n\r\n")
            .expect("the final one")
            .to_owned()
    };
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let many = b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 100 x\r\nContent-Length: 7\r\n\r\nHTTP/1.1 103 x\r\nLink: x\r\n\r\nHTTP/1.1 100 x\r\n\r\n";
    let expects = ["Expect: 100-continue", "Content-Length: 1"];
    assert_eq!(told(&ordinary("POST /a HTTP/1.1", &expects), many), CONTINUE);
    assert_eq!(told(&ordinary("POST /a HTTP/1.1", &[]), many), "");
    assert_eq!(told(&ordinary("POST /a HTTP/1.0", &expects), many), "", "A34");

    let switched = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let (_, out, _) =
        answered(TABLE, &switch("websocket", &["Expect: 100-continue"]), switched).expect("a switch");
    assert!(out.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 "), "B26: {}", out.escape_ascii());

    let endless = b"HTTP/1.1 102 x\r\n\r\n".repeat(usize::from(INTERIMS_MAX) + 1);
    assert_eq!(reason(&ordinary("GET /a HTTP/1.1", &[]), &endless), "upstream_malformed");
    let just = b"HTTP/1.1 102 x\r\n\r\n".repeat(usize::from(INTERIMS_MAX));
    assert_eq!(told(&ordinary("GET /a HTTP/1.1", &[]), &just), "");
}

/// H16: an answer is read as strictly as a request.
#[test]
fn defects() {
    let get = ordinary("GET /a HTTP/1.1", &[]);
    let check = |id: &str, answer: &[u8]| {
        let found = answered(TABLE, &get, answer).expect_err(id);
        assert_eq!(found.reason.label(), "upstream_malformed", "{id}");
    };
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").into_bytes();
    check("H16 lf-only", b"HTTP/1.1 200 OK\nA: b\n\n");
    check("H16 a lone CR", b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n");
    check("H16 a lone CR in the phrase", b"HTTP/1.1 200 O\rK\r\n\r\n");
    check("H16 an empty line first", b"\r\nHTTP/1.1 200 OK\r\n\r\n");
    check("H16 HTTP/2", b"HTTP/2 200 OK\r\n\r\n");
    check("H16 HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n");
    check("H16 ICY", b"ICY 200 OK\r\n\r\n");
    check("H16 lower case", b"http/1.1 200 OK\r\n\r\n");
    check("H16 status of two digits", b"HTTP/1.1 20 OK\r\n\r\n");
    check("H16 status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n");
    check("H16 status 099", b"HTTP/1.1 099 OK\r\n\r\n");
    check("H16 status 600", b"HTTP/1.1 600 OK\r\n\r\n");
    check("H16 two spaces", b"HTTP/1.1  200 OK\r\n\r\n");
    check("H16 NUL in the phrase", b"HTTP/1.1 200 O\0K\r\n\r\n");
    check("H16 TLS", b"\x15\x03\x03\x00\x02\x02\x28");
    check("H16 obs-fold", &with("A: b\r\n c: d"));
    check("H16 whitespace first", b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n");
    check("H16 ws-before-colon", &with("Content-Length : 5"));
    check("H16 no colon", &with("Content-Length"));
    check("H16 ctl-value", &with("A: \x01"));
    check("H16 CL+TE", &with("Content-Length: 5\r\nTransfer-Encoding: chunked"));
    check("H16 CL-dup-diff", &with("Content-Length: 5\r\nContent-Length: 6"));
    check("H16 CL-dup", &with("Content-Length: 5\r\nContent-Length: 5"));
    check("H16 CL-list", &with("Content-Length: 5, 5"));
    check("H16 CL-plus", &with("Content-Length: +5"));
    check("H16 CL-empty", &with("Content-Length:"));
    check("H16 CL-overflow", &with("Content-Length: 18446744073709551616"));
    check("H16 chunked twice", &with("Transfer-Encoding: chunked, chunked"));
    check("H16 not chunked", &with("Transfer-Encoding: identity"));
    check("H16 gzip before chunked", &with("Transfer-Encoding: gzip, chunked"));
    check("H16 TE in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    check("H16 a list without end", &with(&format!("Connection: {}", "a,".repeat(64))));

    let limits = HeadLimits { head_bytes_max: 64, ..HeadLimits::default() };
    let fits = b"HTTP/1.1 200 OK\r\nA: 0123456789012345678901234567890123456789\r\n\r\n";
    assert_eq!(fits.len(), 64);
    assert_eq!(scan(fits, &limits), Ok(Some(64)));
    let limits = HeadLimits { head_bytes_max: 63, ..limits };
    assert_eq!(scan(fits, &limits).expect_err("H16 too large").reason.label(), "upstream_malformed");
    let limits = HeadLimits { fields_max: 2, ..HeadLimits::default() };
    scan(&with("A: b\r\nC: d\r\nE: f"), &limits).expect_err("H16 too many fields");
}

/// A refusal to `HEAD` has no body, whatever went wrong.
#[test]
fn refusals_know_the_method() {
    let refused =
        |exchange: &Exchange| answered(TABLE, exchange, &lines(&["HTTP/1.1 200 OK", "Content-Length: x"]));
    assert!(refused(&ordinary("HEAD /a HTTP/1.1", &[])).expect_err("malformed").head_only);
    assert!(!refused(&ordinary("GET /a HTTP/1.1", &[])).expect_err("malformed").head_only);
}
