//! Request heads: from any bytes to an answer, which must be one.

use moongate_wire::accept::Template;
use moongate_wire::answer::{Answer, Date};
use moongate_wire::body::Framing;
use moongate_wire::decide::{Decision, Place, Policy, Upgrade, decide};
use moongate_wire::head::{Fields, Head, LIST_MEMBERS_MAX, Method, Name, Target, Version, parse};
use moongate_wire::origin::{Origin, Origins};
use moongate_wire::protocol::{SUBPROTOCOLS, WAMP_ALIAS};
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::route::{Routes, Service};
use moongate_wire::scan::{HeadLimits, Scanner};

use crate::reply::Reply;
use crate::source::Source;

/// Routes that differ in what may be spoken there.
const TABLE: &str = "/topics/a/* topics subprotocols=off; /topics/b/* topics subprotocols=wamp.2.json; \
                     /topics/* topics; /connect connect subprotocols=moongate.v1; /echo echo; / page";

/// Bytes of a peer up to the answer, under one of many policies.
pub fn head(data: &[u8]) {
    let mut source = Source::new(data);
    let policy = policy(&mut source);
    let cuts = source.cuts();
    let bytes = source.rest();

    let whole = scan(bytes, [bytes.len()], &policy.head);
    assert_eq!(whole, scan(bytes, cuts.ends(bytes.len()), &policy.head), "A31: whole and in pieces");
    assert_eq!(whole, scan(bytes, 1..=bytes.len(), &policy.head), "A31: whole and byte by byte");
    let length = match whole {
        Ok(Some(length)) => length,
        Ok(None) => {
            assert!(bytes.len() < policy.head.head_bytes_max, "nothing is waited for past the limit");
            return;
        }
        Err(refusal) => return check_refusal(&refusal),
    };
    assert!(length <= policy.head.head_bytes_max);
    let lines = split(&bytes[..length]);

    let mut parsed = bytes[..length].to_vec();
    let mut fields = Fields::new();
    let head = match parse(&mut parsed, &mut fields) {
        Ok(head) => head,
        Err(refusal) => {
            assert!(!is_scanners(refusal.reason), "{:?}: let pass before", refusal.reason);
            return check_refusal(&refusal);
        }
    };
    check_head(&head, &lines);
    let decision = decide(&head, &policy);
    assert_eq!(decision, decide(&head, &policy), "a pure function");
    check_decision(&decision, &head, &lines, &policy);
}

fn policy(source: &mut Source<'_>) -> Policy {
    let origins = match source.below(3) {
        0 => Origins::Same,
        1 => Origins::Any,
        _ => Origins::Listed(Origin::parse(b"https://a.example").into_iter().collect()),
    };
    let bits = source.byte();
    let small = HeadLimits { head_bytes_max: 200, target_bytes_max: 20, fields_max: 3 };
    let enabled = if bits & 16 != 0 { SUBPROTOCOLS } else { &[] };
    let routes = if bits & 128 != 0 {
        Routes::parse(TABLE).expect("a right table")
    } else {
        Routes::usual(bits & 1 != 0, bits & 2 != 0)
    };
    let routes = routes.with_subprotocols(enabled, &[WAMP_ALIAS]);
    Policy {
        routes: if bits & 4 == 0 { routes.with_health() } else { routes }.into(),
        may_publish: bits & 8 != 0,
        origins,
        head: if bits & 32 != 0 { small } else { HeadLimits::default() },
        deflate: bits & 64 != 0,
        ..Policy::default()
    }
}

fn scan(
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
    limits: &HeadLimits,
) -> Result<Option<usize>, Refusal> {
    let mut scanner = Scanner::default();
    for end in ends {
        match scanner.scan(&bytes[..end], limits) {
            Ok(None) => {}
            ended => return ended,
        }
    }
    Ok(None)
}

/// Reasons that only the scanner gives: `httparse` must take all that it lets pass.
fn is_scanners(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BadRequestLine
            | Reason::BadVersion
            | Reason::LoneCr
            | Reason::BadFieldName
            | Reason::BadFieldValue
            | Reason::TooManyFields
    )
}

/// A head as anyone would split it: method, target, version, and fields by their lower-case names.
struct Lines<'a> {
    method: &'a [u8],
    version: &'a [u8],
    fields: Vec<(Vec<u8>, &'a [u8])>,
}

impl<'a> Lines<'a> {
    fn values(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|field| field.0 == name.as_bytes()).map(|field| field.1).collect()
    }

    fn members(&self, name: &str) -> Vec<String> {
        let values = self.values(name).into_iter();
        let members = values.flat_map(|value| value.split(|byte| *byte == b','));
        let members = members.map(|member| String::from_utf8_lossy(trim(member)).to_ascii_lowercase());
        members.filter(|member| !member.is_empty()).collect()
    }
}

/// Splits a head that the scanner has passed; what breaks the rules it is there for panics.
fn split(mut head: &[u8]) -> Lines<'_> {
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
    }
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let mut lines = Vec::new();
    let mut start = 0;
    while let Some(length) = text[start..].windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&text[start..start + length]);
        start += length + 2;
    }
    lines.push(&text[start..]);
    for line in &lines {
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0 | 0x7f)), "A2, A3, A9");
        assert!(!line.is_empty() && !line[0].is_ascii_whitespace(), "A5, A7");
    }
    let parts: Vec<&[u8]> = lines[0].split(|byte| *byte == b' ').collect();
    let [method, _, version] = parts[..] else { panic!("three parts: {}", lines[0].escape_ascii()) };
    let fields = lines[1..].iter().map(|line| {
        let colon = line.iter().position(|byte| *byte == b':').expect("a field line has a colon");
        assert!(colon > 0 && line[..colon].iter().all(u8::is_ascii_graphic), "A6, A8");
        (line[..colon].to_ascii_lowercase(), trim(&line[colon + 1..]))
    });
    Lines { method, version, fields: fields.collect() }
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(|byte| !is_space(byte)) else { return b"" };
    let end = value.iter().rposition(|byte| !is_space(byte)).unwrap_or(start);
    &value[start..=end]
}

/// What was understood is what is written, and there is only one way to understand it.
fn check_head(head: &Head<'_>, lines: &Lines<'_>) {
    let expect: &[u8] = match head.method {
        Method::Get => b"GET",
        Method::Head => b"HEAD",
        Method::Post => b"POST",
        Method::Put => b"PUT",
        Method::Delete => b"DELETE",
        Method::Options => b"OPTIONS",
        Method::Trace => b"TRACE",
        Method::Patch => b"PATCH",
    };
    assert_eq!(lines.method, expect);
    assert!(lines.version.starts_with(b"HTTP/1."));
    assert_eq!(head.version == Version::Http10, lines.version == b"HTTP/1.0");
    for (name, text, is_list) in [
        (Name::Accept, "accept", true),
        (Name::Connection, "connection", true),
        (Name::ContentLength, "content-length", false),
        (Name::ContentType, "content-type", false),
        (Name::Expect, "expect", true),
        (Name::Host, "host", false),
        (Name::Origin, "origin", false),
        (Name::SecWebSocketExtensions, "sec-websocket-extensions", true),
        (Name::SecWebSocketKey, "sec-websocket-key", false),
        (Name::SecWebSocketProtocol, "sec-websocket-protocol", true),
        (Name::SecWebSocketVersion, "sec-websocket-version", false),
        (Name::TransferEncoding, "transfer-encoding", true),
        (Name::Upgrade, "upgrade", true),
    ] {
        assert_eq!(head.values(name).collect::<Vec<_>>(), lines.values(text), "{text}");
        if is_list {
            assert!(lines.members(text).len() <= LIST_MEMBERS_MAX, "A29");
        }
    }

    let hosts = lines.values("host").len();
    assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10), "A15: {hosts} hosts");
    let lengths = lines.values("content-length");
    let codings = lines.members("transfer-encoding");
    match head.framing {
        Framing::None => assert!(lengths.is_empty() && lines.values("transfer-encoding").is_empty()),
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1, "A21, A24");
            let digits = str::from_utf8(lengths[0]).expect("digits");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "A24");
            assert_eq!(digits.parse(), Ok(length));
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && head.version == Version::Http11, "A21, A23");
            assert_eq!(codings, ["chunked"], "A22");
        }
    }
}

fn check_decision(decision: &Decision, head: &Head<'_>, lines: &Lines<'_>, policy: &Policy) {
    let date = Date::from_unix(1_700_000_000);
    let mut out = Vec::new();
    let (answer, head_only) = match decision {
        Decision::WebSocket(upgrade) => return check_upgrade(upgrade, head, lines, policy),
        Decision::Refuse(refusal) => {
            assert_eq!(refusal.head_only, head.method == Method::Head);
            check_refusal(refusal);
            refusal.write(&date, &mut out);
            return check_cors(&Reply::read(&out), lines, policy);
        }
        Decision::Events { cors, head_only, .. } => {
            assert!(lines.members("accept").iter().any(|range| range.starts_with("text/event-stream")
                || range.starts_with("text/*")
                || range.starts_with("*/*")));
            Answer::events(cors).head_only(*head_only).write(&date, &mut out);
            let reply = Reply::read(&out);
            assert_eq!((reply.status, reply.body.len()), (200, 0));
            assert_eq!((reply.field("Content-Length"), reply.field("Connection")), (None, Some("close")));
            return check_cors(&reply, lines, policy);
        }
        Decision::Publish(publish) => {
            assert!(policy.may_publish && head.method == Method::Post);
            (Answer::published(&publish.topic, 7, 9, &publish.cors), false)
        }
        Decision::Page { topic, head_only } => {
            assert!(policy.routes.has_page());
            (Answer::page(b"<!doctype html>", topic.is_some()), *head_only)
        }
        Decision::Script { head_only } => {
            assert!(policy.routes.has_page());
            (Answer::script(b"export {};"), *head_only)
        }
        Decision::Health { head_only, .. } => (Answer::text("ok\n"), *head_only),
        Decision::Tunnel(_) => unreachable!("no route leads there"),
        Decision::Plain(answer) => (answer.clone(), false),
    };
    assert!(!head_only || head.method == Method::Head);
    answer.head_only(head_only).write(&date, &mut out);
    let reply = Reply::read(&out);
    reply.check_last(head_only);
    check_cors(&reply, lines, policy);
}

fn check_refusal(refusal: &Refusal) {
    let mut out = Vec::new();
    refusal.write(&Date::from_unix(0), &mut out);
    let reply = Reply::read(&out);
    assert_eq!(reply.status, refusal.reason.status());
    assert!(reply.status >= 400);
    reply.check_last(refusal.head_only);
    if reply.status == 405 {
        assert!(reply.field("Allow").is_some(), "RFC 9110 §15.5.6");
    }
}

/// A page of another origin may read an answer only if its origin may, and then by its own name.
fn check_cors(reply: &Reply, lines: &Lines<'_>, policy: &Policy) {
    match reply.field("Access-Control-Allow-Origin") {
        None => {}
        Some("*") => assert_eq!(policy.origins, Origins::Any),
        Some(origin) => {
            assert_eq!(lines.values("origin"), [origin.as_bytes()]);
            assert!(reply.field("Vary").is_some_and(|names| names.contains("Origin")));
            let parsed = Origin::parse(origin.as_bytes());
            assert!(parsed.is_some(), "only an origin is written back: {origin}");
            if let Origins::Listed(listed) = &policy.origins {
                assert!(parsed.is_some_and(|origin| listed.contains(&origin)));
            }
        }
    }
}

/// RFC 6455 §4.2.1, asked once more of whom a 101 is for, and the 101 read back.
fn check_upgrade(upgrade: &Upgrade, head: &Head<'_>, lines: &Lines<'_>, policy: &Policy) {
    assert!(head.method == Method::Get && head.version == Version::Http11, "B2, B12");
    assert!(matches!(head.framing, Framing::None | Framing::Length(0)), "B13");
    assert!(lines.members("upgrade").contains(&"websocket".to_owned()), "B5");
    assert!(lines.members("connection").contains(&"upgrade".to_owned()), "B4");
    assert_eq!(lines.values("sec-websocket-version"), [b"13"], "B14 to B16");
    assert_eq!(lines.values("sec-websocket-key"), [upgrade.key], "B18");
    assert!(upgrade.key.ends_with(b"==") && upgrade.key[..22].iter().all(is_base64), "B17");
    let origins = lines.values("origin");
    if let (Origins::Listed(listed), [first, ..]) = (&policy.origins, &origins[..]) {
        assert!(origins.len() == 1 && Origin::parse(first).is_some_and(|origin| listed.contains(&origin)));
    }
    assert!(policy.deflate || upgrade.agreed.deflate.is_none());

    let extension = upgrade.agreed.deflate.map(|agreed| agreed.answer());
    check_subprotocol(upgrade, head, lines, policy);
    let subprotocol = upgrade.agreed.subprotocol.map(|spoken| spoken.name);
    let mut out = Vec::new();
    Template::new("Server: moongate\r\n").write(&upgrade.key, subprotocol, extension, &mut out);
    let reply = Reply::read(&out);
    assert_eq!((reply.status, reply.body.len()), (101, 0), "C2");
    assert_eq!(reply.field("Upgrade"), Some("websocket"));
    assert_eq!(reply.field("Connection"), Some("Upgrade"));
    assert_eq!(reply.field("Sec-WebSocket-Protocol"), subprotocol);
    assert_eq!(reply.field("Sec-WebSocket-Extensions"), extension);
    let accept = reply.field("Sec-WebSocket-Accept").expect("C1");
    assert!(
        accept.len() == 28 && accept.ends_with('=') && accept.bytes().take(27).all(|byte| is_base64(&byte))
    );
    let agreed = usize::from(extension.is_some()) + usize::from(subprotocol.is_some());
    assert_eq!(reply.fields(), 4 + agreed, "and nothing else");
}

/// C3: the first of those that the client names that its route has.
fn check_subprotocol(upgrade: &Upgrade, head: &Head<'_>, lines: &Lines<'_>, policy: &Policy) {
    let Target::Path { path, .. } = head.target else { panic!("no path leads to {upgrade:?}") };
    let (_, route, _) = policy.routes.find(path).expect("a route");
    let enabled = match &route.service {
        Service::Topics(spoken) | Service::Connect(spoken) => spoken.list(),
        _ => &[],
    };
    let offers = lines.values("sec-websocket-protocol");
    let mut offered =
        offers.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let first = offered.find_map(|name| enabled.iter().find(|known| known.name.as_bytes() == name));
    assert_eq!(upgrade.agreed.subprotocol.as_ref(), first);
    assert!(upgrade.place != Place::Connect || first.is_some(), "B22");
}

fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}
