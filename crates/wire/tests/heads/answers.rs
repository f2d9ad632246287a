//! What goes back: complete, closed, and with words that help.

use std::collections::HashSet;

use moongate_wire::answer::{Answer, CONTINUE, Date};
use moongate_wire::decide::{Decision, Policy};
use moongate_wire::origin::Cors;
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::topic::TopicName;

use crate::support::{decision, lines, open_policy, origins};

/// An answer, read back with `httparse`.
struct Read {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
}

impl Read {
    fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name));
        let value = values.next().map(|field| field.1.as_str());
        assert!(values.next().is_none(), "{name} is repeated");
        value
    }

    /// The value of a string member of the body, which is a JSON object.
    fn member(&self, name: &str) -> &str {
        let (_, value) = self.body.split_once(&format!("\"{name}\":\"")).expect(name);
        let end = value.match_indices('"').find(|(at, _)| !value[..*at].ends_with('\\')).expect("an end").0;
        &value[..end]
    }
}

fn read(answer: &Answer) -> Read {
    let mut bytes = b"before".to_vec();
    answer.write(&Date::from_unix(784_111_777), &mut bytes);
    let bytes = bytes.strip_prefix(b"before").expect("appended");
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("{other:?}"),
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Read {
        status: response.code.expect("a status"),
        fields: response.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect(),
        body: text(&bytes[head..]),
    }
}

fn refusal(bytes: &[u8], policy: &Policy) -> Read {
    match decision(bytes, policy) {
        Decision::Refuse(refusal) => read(&refusal.answer()),
        other => panic!("{other:?}"),
    }
}

fn plain(bytes: &[u8], policy: &Policy) -> Read {
    match decision(bytes, policy) {
        Decision::Plain(answer) => read(&answer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_reason_makes_a_whole_answer() {
    let mut labels = HashSet::new();
    for (index, &reason) in Reason::ALL.iter().enumerate() {
        let label = reason.label();
        assert_eq!(reason as usize, index, "{label}");
        assert!(labels.insert(label), "{label} is taken twice");
        assert!(label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{label}");

        let answer = read(&Refusal::new(reason).answer());
        assert_eq!(answer.status, reason.status(), "{label}");
        assert_eq!(answer.one("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"), "A34 {label}");
        assert_eq!(answer.one("content-type"), Some("application/problem+json"), "{label}");
        assert_eq!(answer.one("content-length"), Some(&*answer.body.len().to_string()), "{label}");
        assert_eq!(answer.one("transfer-encoding"), None, "{label}");
        assert_eq!(answer.member("type"), format!("urn:moongate:problem:{label}"));
        assert_eq!(answer.member("title"), reason.title());
        assert!(answer.body.contains(&format!("\"status\":{},", reason.status())), "{label}");
        assert!(!answer.member("detail").is_empty() && !answer.member("hint").is_empty(), "{label}");

        // A30 and C6.
        let (connection, upgrade) = match reason.status() {
            426 => ("Upgrade, close", Some("websocket")),
            _ => ("close", None),
        };
        assert_eq!(answer.one("connection"), Some(connection), "{label}");
        assert_eq!(answer.one("upgrade"), upgrade, "{label}");
        // B14, B15, B16.
        let version = label.starts_with("ws_version_").then_some("13");
        assert_eq!(answer.one("sec-websocket-version"), version, "{label}");
        // B25.
        assert_eq!(answer.one("retry-after").is_some(), reason.status() == 503, "{label}");

        // A33.
        let head = read(&Refusal::new(reason).head_only(true).answer());
        assert_eq!(head.body, "");
        assert_eq!(head.one("content-length"), answer.one("content-length"));
    }
}

#[test]
fn hints_say_what_to_change() {
    let check = |reason: Reason, words: &str| assert!(reason.hint().contains(words), "{reason:?}: {words}");
    check(Reason::ConnectionLacksUpgrade, "proxy_set_header Connection \"upgrade\";");
    check(Reason::UpgradeRemoved, "proxy_set_header Upgrade $http_upgrade;");
    check(Reason::UpgradeInHttp10, "proxy_http_version 1.1;");
    check(Reason::UpgradeRequired, "curl ");
    check(Reason::OriginRefused, "MOONGATE_ORIGINS");
    check(Reason::OriginRefused, "proxy_set_header Host $http_host;");
    check(Reason::SubscribeOnly, "MOONGATE_ANONYMOUS=publish");
    check(Reason::HeadTimeout, "MOONGATE_HEAD_TIMEOUT");
    check(Reason::ConnectionsFull, "MOONGATE_CONNECTIONS_MAX");
    check(Reason::TopicsFull, "MOONGATE_TOPICS_MAX");
    check(Reason::MemoryFull, "MOONGATE_MEMORY_BYTES_MAX");
    check(Reason::BodyTooLarge, "MOONGATE_MESSAGE_BYTES_MAX");
    check(Reason::HeadTooLarge, "MOONGATE_HEAD_BYTES_MAX");
    check(Reason::NotText, "application/octet-stream");

    // A topic shows all the ways in.
    let ways = refusal(&lines(&["GET /topics/a HTTP/1.1", "Host: a"]), &open_policy());
    for way in ["new WebSocket(", "Accept: text/event-stream", "curl -d hello"] {
        assert!(ways.member("hint").contains(way), "{way}");
    }
}

#[test]
fn refusals_carry_the_fields_of_their_row() {
    let check = |id: &str, request: &[&str], name: &str, expect: Option<&str>| {
        assert_eq!(refusal(&lines(request), &open_policy()).one(name), expect, "{id}: {name}");
    };
    let host = "Host: a";
    let websocket = ["Connection: upgrade", "Upgrade: websocket"];
    let put = ["PUT /topics/a HTTP/1.1", host];
    check("A13 topic", &put, "allow", Some("GET, HEAD, POST, OPTIONS"));
    check("A13 page", &["PUT / HTTP/1.1", host], "allow", Some("GET, HEAD, OPTIONS"));
    check("B12", &["POST /topics/a HTTP/1.1", host, websocket[0], websocket[1]], "allow", Some("GET"));
    check("vary", &["GET /topics/a HTTP/1.1", host], "vary", Some("Accept"));
    check("vary", &["HEAD /topics/a HTTP/1.1", host], "vary", Some("Accept"));
    check("vary", &["GET /topics/a HTTP/1.1", host, websocket[0], websocket[1]], "vary", Some("Accept"));
    check("vary", &["GET /echo HTTP/1.1", host], "vary", None);
    // A page of an allowed origin may read why its publish was refused, another may not.
    let post = |line| ["POST /topics/a HTTP/1.1", host, "Content-Length: 99999", line];
    check("L1", &post("Origin: https://a"), "access-control-allow-origin", Some("https://a"));
    check("L1", &post("Origin: https://a"), "vary", Some("Origin"));
    check("L1", &post("Origin: https://b"), "access-control-allow-origin", None);
    check("L1", &post("Origin: https://b"), "vary", Some("Origin"));
    // A33: HEAD, all the way through.
    assert_eq!(refusal(&lines(&["HEAD /topics/a HTTP/1.1", host]), &open_policy()).body, "");
    assert_eq!(refusal(&lines(&["HEAD /topics/a HTTP/1.1"]), &open_policy()).body, "");
    assert_eq!(refusal(b"HEAD / HTTP/1.1\r\n : x\r\n\r\n", &open_policy()).body, "");
}

/// C8: nothing that came in goes out again, but for an origin that was parsed and allowed.
#[test]
fn nothing_is_echoed() {
    let check = |request: &[&str]| {
        let mut bytes = Vec::new();
        match decision(&lines(request), &open_policy()) {
            Decision::Refuse(refusal) => refusal.answer().write(&Date::from_unix(0), &mut bytes),
            Decision::Plain(answer) => answer.write(&Date::from_unix(0), &mut bytes),
            other => panic!("{request:?}: {other:?}"),
        }
        let text = String::from_utf8(bytes).expect("UTF-8").to_ascii_lowercase();
        assert!(!text.contains("zzz"), "{request:?}: {text}");
    };
    let host = "Host: zzz";
    check(&["ZZZ / HTTP/1.1", host]);
    check(&["GET /zzz HTTP/1.1", host]);
    check(&["GET /topics/zzz HTTP/1.1", host]);
    check(&["GET /topics/zzz//%0d%0azzz HTTP/1.1", host]);
    check(&["GET /topics/a HTTP/1.1", host, "Connection: upgrade", "Upgrade: zzz"]);
    check(&["GET / HTTP/1.1", host, "Expect: zzz"]);
    let websocket = ["GET /echo HTTP/1.1", host, "Connection: upgrade", "Upgrade: websocket"];
    let more = |line| {
        [
            &websocket[..],
            &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
            &[line],
        ]
        .concat()
    };
    check(&[&websocket[..], &["Sec-WebSocket-Version: zzz"]].concat());
    check(&[&websocket[..], &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: zzz"]].concat());
    check(&more("Origin: http://zzz.b"));
    check(&more("Sec-WebSocket-Protocol: zzz, zzz"));
    check(&more("Sec-WebSocket-Extensions: zzz="));
    check(&[
        "OPTIONS /topics/zzz HTTP/1.1",
        host,
        "Access-Control-Request-Method: ZZZ",
        "Origin: http://zzz.b",
    ]);
    let preflight = "Access-Control-Request-Headers: zzz";
    check(&["OPTIONS /topics/a HTTP/1.1", host, "Access-Control-Request-Method: POST", preflight]);
}

#[test]
fn options_say_what_is_possible() {
    let same = open_policy();
    let any = Policy { origins: origins("*"), ..open_policy() };
    let server = plain(&lines(&["OPTIONS * HTTP/1.1", "Host: a"]), &same);
    assert_eq!(server.status, 204);
    assert_eq!(
        (server.one("content-length"), server.one("transfer-encoding"), &*server.body),
        (None, None, ""),
        "A33"
    );
    assert_eq!(server.one("upgrade"), None, "B10");
    let echo = plain(&lines(&["OPTIONS /echo HTTP/1.1", "Host: a"]), &same);
    assert_eq!(echo.one("allow"), Some("GET, OPTIONS"));

    let preflight = |policy: &Policy, lines_of: &[&str]| {
        plain(&lines(&[&["OPTIONS /topics/a HTTP/1.1", "Host: a"], lines_of].concat()), policy)
    };
    let asked = "Access-Control-Request-Method: POST";
    let check = |answer: &Read, origin: Option<&str>, vary: Option<&str>| {
        assert_eq!(answer.status, 204);
        assert_eq!(answer.one("allow"), Some("GET, HEAD, POST, OPTIONS"));
        assert_eq!(answer.one("access-control-allow-origin"), origin);
        assert_eq!(answer.one("access-control-allow-methods"), origin.map(|_| "GET, HEAD, POST"));
        assert_eq!(answer.one("access-control-allow-headers").is_some(), origin.is_some());
        assert_eq!(answer.one("access-control-allow-credentials"), None);
        assert_eq!(answer.one("vary"), vary);
    };
    check(&preflight(&same, &[]), None, None);
    check(&preflight(&same, &["Origin: http://a"]), None, None);
    check(&preflight(&same, &["Origin: http://a", asked]), Some("http://a"), Some("Origin"));
    check(&preflight(&same, &["Origin: http://b", asked]), None, Some("Origin"));
    check(&preflight(&same, &["Origin: null", asked]), None, Some("Origin"));
    check(&preflight(&any, &["Origin: null", asked]), Some("*"), None);
}

#[test]
fn answers_are_complete() {
    let topic = TopicName::from_path(b"caf%C3%A9").expect("a right name");
    let origin = Cors::Origin("http://a".into());

    // J1, J3: close-delimited and never stored.
    let events = read(&Answer::events(&origin));
    assert_eq!((events.status, &*events.body), (200, ""));
    assert_eq!(events.one("content-type"), Some("text/event-stream"));
    assert_eq!(events.one("cache-control"), Some("no-store"));
    assert_eq!(events.one("connection"), Some("close"));
    assert_eq!((events.one("content-length"), events.one("transfer-encoding")), (None, None));
    assert_eq!(events.one("vary"), Some("Accept, Origin"));
    assert_eq!(events.one("access-control-allow-origin"), Some("http://a"));
    let events = read(&Answer::events(&Cors::Unlisted));
    assert_eq!(
        (events.one("vary"), events.one("access-control-allow-origin")),
        (Some("Accept, Origin"), None)
    );
    let events = read(&Answer::events(&Cors::Any));
    assert_eq!((events.one("vary"), events.one("access-control-allow-origin")), (Some("Accept"), Some("*")));

    let published = read(&Answer::published(&topic, 1, 2, &Cors::SameOrigin));
    assert_eq!(published.body, "{\"topic\":\"caf\u{e9}\",\"epoch\":\"0000000000000001\",\"offset\":2}\n");
    assert_eq!(published.one("content-length"), Some(&*published.body.len().to_string()));
    assert_eq!((published.one("content-type"), published.one("vary")), (Some("application/json"), None));

    let page = Answer::page(b"<p>", true);
    assert_eq!(read(&page).one("vary"), Some("Accept"));
    assert_eq!((&*read(&page).body, read(&page).one("content-length")), ("<p>", Some("3")));
    let head = read(&page.head_only(true));
    assert_eq!((&*head.body, head.one("content-length")), ("", Some("3")), "A33");
    assert_eq!(read(&Answer::page(b"", false)).one("vary"), None);

    assert_eq!(read(&Answer::text("ok\n")).body, "ok\n");
    assert_eq!(read(&Answer::new(200)).one("content-length"), Some("0"));
    let retry = read(&Refusal::new(Reason::Draining).retry_after(77).detail("d").hint("h\n").answer());
    assert_eq!(
        (retry.one("retry-after"), retry.member("detail"), retry.member("hint")),
        (Some("77"), "d", "h\\n")
    );
    // A33, A34: the interim answer is a head and nothing else.
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");
}
