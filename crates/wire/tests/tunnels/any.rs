//! Anything at all: whatever head is accepted, what goes upstream reads as the same request, minus what is about one
//! connection only, and as nothing else (docs/protocol.md H6 to H8).

use moongate_wire::body::Framing;
use moongate_wire::head::{Fields, Target, parse};
use moongate_wire::scan::{HeadLimits, Scanner};
use moongate_wire::upstream::Verdict;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{answered, lines, pass};

const TABLE: &str =
    "/strip/* tunnel app:1 http=pass strip=/strip prefix=/p; /* tunnel app:1 http=pass upgrade=websocket,x/1";

const NAMES: &[&str] = &[
    "Accept",
    "accept",
    "Authorization",
    "Connection",
    "Content-Length",
    "Content-Type",
    "Cookie",
    "Expect",
    "Forwarded",
    "Hop",
    "Host",
    "Keep-Alive",
    "Origin",
    "Proxy-Connection",
    "Sec-WebSocket-Key",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X_Forwarded_For",
    "X-Real-IP",
    "HTTP2-Settings",
    "x",
    "!odd",
    "Range",
    "Date",
];

const VALUES: &[&str] = &[
    "",
    "0",
    "5",
    "a",
    "websocket",
    "x/1",
    "h2c",
    "TLS/1.0",
    "Upgrade",
    "upgrade, hop",
    "close, authorization, host",
    "hop, x-forwarded-for, content-length, transfer-encoding",
    "chunked",
    "identity",
    "100-continue",
    "gzip, chunked",
    "caf\u{e9}",
    "a\tb",
    "a: b",
    "GET / HTTP/1.1",
    "\"quoted, \\\" text\"",
    "127.0.0.1, evil",
];

const TARGETS: &[&str] = &[
    "/",
    "/a",
    "//a",
    "/a?b",
    "/a?",
    "/strip/",
    "/strip/a//b?c=d",
    "/strip",
    "http://b:81/x",
    "https://b?q",
    "/a;b=c",
    "/%2F",
    "*",
];

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(VALUES).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t')], 0..20),
    ]
}

fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let methods = select(&["GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE"][..]);
    let versions = select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.9"][..]);
    let fields = proptest::collection::vec((select(NAMES), any_value()), 0..8);
    (methods, select(TARGETS), versions, any::<bool>(), fields).prop_map(
        |(method, target, version, host, fields)| {
            let mut head = format!("{method} {target} {version}\r\n").into_bytes();
            if host {
                head.extend_from_slice(b"Host: a.example:80\r\n");
            }
            for (name, value) in fields {
                head.extend_from_slice(name.as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(&value);
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"\r\n");
            head
        },
    )
}

/// Every field line by its own reading, which shares nothing with the code under test.
fn fields(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = head.strip_suffix(b"\r\n\r\n").expect("an end");
    let lines = text.split(|byte| *byte == b'\n').skip(1);
    lines
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            let name = String::from_utf8(line[..colon].to_vec()).expect("ASCII").to_ascii_lowercase();
            (name, line[colon + 1..].trim_ascii().to_vec())
        })
        .collect()
}

const HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
const OURS: &[&str] = &[
    "content-length",
    "expect",
    "forwarded",
    "host",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "via",
];

fn only(fields: &[(String, Vec<u8>)], name: &str) -> Vec<String> {
    let found = fields.iter().filter(|field| field.0 == name);
    found.map(|field| String::from_utf8_lossy(&field.1).into_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_goes_upstream_is_the_same_request(head in any_head()) {
        let mut before = head.clone();
        let mut room = Fields::new();
        let scanned = Scanner::default().scan(&head, &HeadLimits::default());
        prop_assume!(matches!(scanned, Ok(Some(_))));
        let Ok(parsed) = parse(&mut before, &mut room) else { return Ok(()) };
        if parsed.target == Target::Asterisk {
            return Ok(());
        }
        let Ok((exchange, written)) = pass(TABLE, &head, "192.0.2.7") else { return Ok(()) };

        // One head, whole, and nothing behind it.
        let length = Scanner::default().scan(&written, &HeadLimits { head_bytes_max: 1 << 20, ..HeadLimits::default() });
        prop_assert_eq!(length.expect("it scans"), Some(written.len()));
        let mut after = written.clone();
        let mut room = Fields::new();
        let again = parse(&mut after, &mut room).expect("it parses");
        prop_assert_eq!(again.method, parsed.method);
        prop_assert_eq!(again.framing, if exchange.is_upgrade() { Framing::None } else { parsed.framing });

        let (came, went) = (fields(&head), fields(&written));
        // H8: our own words about who asked, once each; and the host.
        for (name, value) in [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "http")] {
            prop_assert_eq!(only(&went, name), [value]);
        }
        prop_assert_eq!(only(&went, "forwarded").len(), 1);
        prop_assert_eq!(only(&went, "host").len(), 1);
        prop_assert_eq!(only(&went, "via").len(), only(&came, "via").len() + 1);
        // H6, H18: what is about one connection is ours alone.
        let connection = only(&went, "connection");
        if exchange.is_upgrade() {
            let upgrade = only(&went, "upgrade");
            prop_assert_eq!(connection, ["Upgrade"]);
            prop_assert!(upgrade == ["websocket"] || upgrade == ["x/1"]);
        } else {
            prop_assert_eq!(connection, ["close"]);
            prop_assert_eq!(only(&went, "upgrade").len(), 0);
        }
        // Everything else, in its order: what came, less what Connection took, which protects nothing here but `Hop`, `x`
        // and `!odd`, of which the last is no name that goes on.
        let nominated = |name: &str| {
            let options = only(&came, "connection").join(",").to_ascii_lowercase();
            matches!(name, "hop" | "x") && options.split(',').any(|option| option.trim() == name)
        };
        let goes_on = |field: &&(String, Vec<u8>)| {
            let name = field.0.as_str();
            !HOP.contains(&name) && !OURS.contains(&name) && !name.contains(['_', '!']) && !nominated(name)
        };
        let expect: Vec<_> = came.iter().filter(goes_on).collect();
        let found: Vec<_> = went.iter().filter(|field| !HOP.contains(&&*field.0) && !OURS.contains(&&*field.0)).collect();
        prop_assert_eq!(found, expect);
    }

    #[test]
    fn whatever_an_upstream_says_is_a_whole_answer_or_none(
        version in select(&["HTTP/1.1", "HTTP/1.0", "HTTP/1.4"][..]),
        status in select(&["100", "101", "103", "200", "204", "304", "404", "426", "503"][..]),
        fields in proptest::collection::vec((select(NAMES), any_value()), 0..6),
        request in select(&["GET", "HEAD", "switch"][..]),
    ) {
        let mut answer = format!("{version} {status} x\r\n").into_bytes();
        for (name, value) in fields {
            answer.extend_from_slice(name.as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(&value);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"\r\n");
        // What follows an interim answer ends it here.
        answer.extend_from_slice(b"HTTP/1.1 204 end\r\nDate: x\r\n\r\n");
        let head = match request {
            "switch" => lines(&["GET /a HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket"]),
            method => lines(&[&format!("{method} /a HTTP/1.1"), "Host: a"]),
        };
        let (exchange, _) = pass(TABLE, &head, "192.0.2.7").expect("it passes");
        let Ok((verdict, out, _)) = answered(TABLE, &exchange, &answer) else { return Ok(()) };
        let text = String::from_utf8_lossy(&out).into_owned();
        prop_assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1, "{}", text);
        let status_line = text.lines().next().unwrap_or_default();
        match verdict {
            Verdict::Switched => {
                prop_assert!(request == "switch" && status_line == "HTTP/1.1 101 Switching Protocols", "H5: {}", text);
                prop_assert!(!text.to_ascii_lowercase().contains("content-length"), "{}", text);
            }
            Verdict::Answer(body) => {
                prop_assert!(!status_line.contains(" 1"), "{}", text);
                let found = self::fields(&out);
                let framings = only(&found, "content-length").len() + only(&found, "transfer-encoding").len();
                prop_assert!(framings <= 1, "{}", text);
                prop_assert_eq!(only(&found, "connection").len(), 1);
                prop_assert_eq!(only(&found, "date").is_empty(), false);
                prop_assert!(request != "HEAD" || body.is_done());
            }
            Verdict::Interim => prop_assert!(false, "the final one was there"),
        }
    }
}
