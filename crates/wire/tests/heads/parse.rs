//! What a head says: the rest of section A.

use moongate_wire::body::Framing;
use moongate_wire::head::{Fields, Head, Host, LIST_MEMBERS_MAX, Method, Name, One, Target, Version, parse};
use moongate_wire::refusal::Reason;

use crate::support::{lines, reason, with_head};

#[test]
fn defects_have_their_reasons() {
    let check = |id: &str, request: &[&str], expect: Reason| {
        assert_eq!(reason(&lines(request)), Some(expect), "{id}: {request:?}");
    };
    let get = "GET / HTTP/1.1";
    let host = "Host: a";
    check("A13 lower-get", &["get / HTTP/1.1", host], Reason::MethodUnknown);
    check("A13 unknown method", &["BREW / HTTP/1.1", host], Reason::MethodUnknown);
    check("A13 a method with more behind it", &["GETS / HTTP/1.1", host], Reason::MethodUnknown);
    check("A15 no-host", &[get], Reason::NoHost);
    check("A15 no-host in HTTP/1.2", &["GET / HTTP/1.2"], Reason::NoHost);
    check("A15 host-dup", &[get, "Host: a", "Host: b"], Reason::ManyHosts);
    check("A15 host-dup, equal", &[get, "Host: a", "HOST: a"], Reason::ManyHosts);
    check("A15 host-dup in HTTP/1.0", &["GET / HTTP/1.0", "Host: a", "Host: a"], Reason::ManyHosts);
    for bad in [
        "",
        "a b",
        "a/b",
        "a,b",
        "a@b",
        "user@a",
        "a:b",
        "a:80:80",
        "a:65536",
        "a:+1",
        "a:-1",
        ":80",
        "[::1",
        "[::1]x",
        "[]",
        "[a]",
        "[::1%25eth0]",
        "::1",
        "a?b",
        "a#b",
        "a\\b",
        "a%2",
        "a%zz",
        "caf\u{e9}",
        "http://a",
        "<a>",
    ] {
        check("A15 host-bad", &[get, &format!("Host: {bad}")], Reason::BadHost);
    }
    check("A16 absolute without Host", &["GET http://a/ HTTP/1.1"], Reason::NoHost);
    check("A16 absolute with a bad Host", &["GET http://a/ HTTP/1.1", "Host: a b"], Reason::BadHost);
    check("A16 absolute-ws", &["GET ws://a/ HTTP/1.1", host], Reason::BadScheme);
    check("A16 absolute-wss", &["GET wss://a/ HTTP/1.1", host], Reason::BadScheme);
    check("A16 ftp", &["GET ftp://a/ HTTP/1.1", host], Reason::BadScheme);
    check("A16 no authority", &["GET http:///x HTTP/1.1", host], Reason::BadHost);
    check("A16 user information", &["GET http://u:p@a/ HTTP/1.1", host], Reason::BadHost);
    check("A17 authority-form without CONNECT", &["GET a:80 HTTP/1.1", host], Reason::BadTargetForm);
    check("A17 asterisk-form without OPTIONS", &["GET * HTTP/1.1", host], Reason::BadTargetForm);
    check("A17 CONNECT", &["CONNECT a:80 HTTP/1.1", host], Reason::ConnectRefused);
    check("A17 CONNECT with a path", &["CONNECT / HTTP/1.1", host], Reason::BadTargetForm);
    check("A17 a path without its slash", &["GET topics/news HTTP/1.1", host], Reason::BadTargetForm);
    check("A18 fragment", &["GET /a#b HTTP/1.1", host], Reason::Fragment);
    check("A18 fragment in the query", &["GET /a?b#c HTTP/1.1", host], Reason::Fragment);
    check("A18 fragment in a full URL", &["GET http://a#b HTTP/1.1", host], Reason::Fragment);

    let post = "POST / HTTP/1.1";
    let length = "Content-Length: 5";
    let chunked = "Transfer-Encoding: chunked";
    check("A21 CL+TE", &[post, host, length, chunked], Reason::LengthAndEncoding);
    check("A21 TE+CL", &[post, host, chunked, length], Reason::LengthAndEncoding);
    check(
        "A21 with a coding unknown here",
        &[post, host, length, "Transfer-Encoding: x"],
        Reason::LengthAndEncoding,
    );
    for coding in
        ["gzip", "identity", "chunked, gzip", "", ",", "chunked;a=b", "xchunked", "chunked, chunked"]
    {
        let line = format!("Transfer-Encoding: {coding}");
        check("A22 last coding is not chunked, once", &[post, host, &line], Reason::EncodingNotChunked);
    }
    check("A22 chunked twice, two lines", &[post, host, chunked, chunked], Reason::EncodingNotChunked);
    check("A22 unknown coding", &[post, host, "Transfer-Encoding: gzip, chunked"], Reason::EncodingUnknown);
    check(
        "A22 unknown coding, two lines",
        &[post, host, "Transfer-Encoding: foo", chunked],
        Reason::EncodingUnknown,
    );
    check("A23 HTTP/1.0", &["POST / HTTP/1.0", chunked], Reason::EncodingInHttp10);
    for bad in ["+5", "-5", "", "5a", "0x5", "5, 5", "5 5", "5.0", "18446744073709551616", "\u{666}"] {
        check("A24 CL-plus and others", &[post, host, &format!("Content-Length: {bad}")], Reason::BadLength);
    }
    check("A24 CL-dup-diff", &[post, host, length, "Content-Length: 6"], Reason::ManyLengths);
    check("A24 equal duplicates", &[post, host, length, length], Reason::ManyLengths);
    let commas = ",".repeat(LIST_MEMBERS_MAX);
    for name in
        ["Connection", "Upgrade", "Accept", "Expect", "Sec-WebSocket-Protocol", "sec-websocket-extensions"]
    {
        check("A29 members are bounded", &[get, host, &format!("{name}: {commas}")], Reason::ListTooLong);
    }
    let half = format!("Connection: {}", ",".repeat(LIST_MEMBERS_MAX / 2));
    check("A29 over all lines", &[get, host, &half, &half], Reason::ListTooLong);
}

#[test]
fn heads_say_what_they_say() {
    let check = |id: &str, request: &[&str], look: &dyn Fn(&Head<'_>) -> bool| {
        assert_eq!(with_head(&lines(request), |head| look(head)), Ok(true), "{id}: {request:?}");
    };
    let host = "Host: a";
    let path = |head: &Head<'_>, expect: (&str, Option<&str>)| {
        head.target == Target::Path { path: expect.0, query: expect.1 }
    };
    check("A10 8-bit values", &["GET / HTTP/1.1", host, "Accept: caf\u{e9}"], &|head| {
        head.one(Name::Accept) == One::Value("caf\u{e9}".as_bytes())
    });
    check("A9 whitespace around a value", &["GET / HTTP/1.1", host, "Accept: \t a \t "], &|head| {
        head.one(Name::Accept) == One::Value(b"a")
    });
    check("A14 HTTP/1.0", &["GET / HTTP/1.0"], &|head| {
        head.version == Version::Http10 && head.host.is_none()
    });
    check("A14 HTTP/1.1", &["GET / HTTP/1.1", host], &|head| head.version == Version::Http11);
    check("A14 HTTP/1.2", &["GET /2 HTTP/1.2", host], &|head| {
        head.version == Version::Http11 && path(head, ("/2", None))
    });
    check("A14 HTTP/1.9 after empty lines", &["", "", "GET / HTTP/1.9", host], &|head| {
        head.version == Version::Http11
    });
    check("A16 absolute", &["GET http://b:81/x?y HTTP/1.1", host], &|head| {
        head.host == Some(Host { name: "b", port: Some(81) }) && path(head, ("/x", Some("y")))
    });
    check("A16 absolute, https, any case", &["GET HTTPS://[::1]/x HTTP/1.1", host], &|head| {
        head.host == Some(Host { name: "[::1]", port: None }) && path(head, ("/x", None))
    });
    check("A16 absolute without a path", &["GET http://b HTTP/1.1", host], &|head| path(head, ("/", None)));
    check("A16 absolute with a query only", &["GET http://b?c HTTP/1.1", host], &|head| {
        path(head, ("/", Some("c")))
    });
    check("A16 a URL in a query", &["GET /?http://b/ HTTP/1.1", host], &|head| {
        path(head, ("/", Some("http://b/")))
    });
    check("A17 asterisk", &["OPTIONS * HTTP/1.1", host], &|head| head.target == Target::Asterisk);
    check("A17 asterisk through a proxy", &["OPTIONS http://b HTTP/1.1", host], &|head| {
        head.target == Target::Asterisk
    });
    check("A24 a length", &["POST / HTTP/1.1", host, "Content-Length: 00018446744073709551615"], &|head| {
        head.framing == Framing::Length(u64::MAX) && head.method == Method::Post
    });
    check("A22 chunked in any case", &["POST / HTTP/1.1", host, "Transfer-Encoding: , CHUNKED ,"], &|head| {
        head.framing == Framing::Chunked
    });
    check(
        "A27 a length with an underscore is none",
        &["POST / HTTP/1.1", host, "Content_Length: 5"],
        &|head| head.framing == Framing::None,
    );
    check(
        "A29 conn-2-lines",
        &["GET / HTTP/1.1", host, "Connection: a,, ,b", "X: y", "connection: C"],
        &|head| {
            head.members(Name::Connection).collect::<Vec<_>>() == [b"a", b"b", b"C"]
                && head.has_token(Name::Connection, "c")
                && !head.has_token(Name::Connection, "d")
        },
    );
    let most = format!("Connection: {}", ",".repeat(LIST_MEMBERS_MAX - 1));
    check("A29 as many members as there may be", &["GET / HTTP/1.1", host, &most], &|_| true);
    for (value, name, port) in [
        ("example.com", "example.com", None),
        ("EXAMPLE.com:8080", "EXAMPLE.com", Some(8080)),
        ("127.0.0.1:0080", "127.0.0.1", Some(80)),
        ("[::1]:8080", "[::1]", Some(8080)),
        ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]", None),
        ("a:", "a", None),
        ("a%20b_c~d", "a%20b_c~d", None),
    ] {
        check("A15 right hosts", &["GET / HTTP/1.1", &format!("Host: {value}")], &|head| {
            head.host == Some(Host { name, port })
        });
    }
}

/// A33: a `HEAD` request is answered without a body when its head is at fault.
#[test]
fn refusals_know_the_method() {
    let refusal = |request: &[&str]| with_head(&lines(request), |_| ()).expect_err("a defect");
    assert!(refusal(&["HEAD / HTTP/1.1"]).head_only);
    assert!(!refusal(&["GET / HTTP/1.1"]).head_only);
}

/// A caller that leaves the scanner out is refused what `httparse` refuses, and never panics.
#[test]
fn without_the_scanner() {
    let check = |bytes: &str, expect| {
        let refusal = parse(&mut bytes.to_owned().into_bytes(), &mut Fields::new()).err();
        assert_eq!(refusal.map(|refusal| refusal.reason), Some(expect), "{bytes:?}");
    };
    check("", Reason::BadRequestLine);
    check("GET / HTTP/1.1\r\n", Reason::BadRequestLine);
    check("GET / HTTP/2.0\r\n\r\n", Reason::BadVersion);
    check("GET / HTTP/1.1\r\nA B: c\r\n\r\n", Reason::BadFieldName);
    check("GET / HTTP/1.1\r\nA: \0\r\n\r\n", Reason::BadFieldValue);
    check(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), Reason::TooManyFields);
}
