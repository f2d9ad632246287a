//! Anything at all: no panic, one result however it is cut up, and an answer that is whole.

use moongate_wire::answer::Date;
use moongate_wire::body::{BodyReader, Framing};
use moongate_wire::decide::Decision;
use moongate_wire::scan::{HeadLimits, Scanner};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{decision, open_policy, scan_pieces};

/// What heads are made of, and what they should not be made of.
const PIECES: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "OPTIONS",
    "CONNECT",
    "PRI",
    " ",
    " ",
    "  ",
    "\t",
    "/",
    "/topics/a",
    "/topics/%C3%A9",
    "/echo",
    "*",
    "http://a",
    "?q",
    "#",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/1.7\r\n",
    " HTTP/2.0\r\n",
    "\r\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "\0",
    "Host: a\r\n",
    "Host: a\r\n",
    "Host:",
    "Connection: Upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Upgrade: h2c,\r\n",
    "Origin: http://a\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Protocol: a, b\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; a=\"b\\\"\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Accept: text/event-stream\r\n",
    "Accept: text/html;q=0.\r\n",
    "Expect: 100-continue\r\n",
    "Content-Type: application/octet-stream\r\n",
    "X: caf\u{e9}\r\n",
    ":",
    ",",
    "%",
    "%2f",
    "\u{7f}",
];

fn head() -> impl Strategy<Value = Vec<u8>> {
    let request_line = prop_oneof![
        3 => select(&["GET /topics/a HTTP/1.1\r\nHost: a\r\n", "POST /topics/a HTTP/1.1\r\nHost: a\r\n", "GET /echo HTTP/1.1\r\n"][..]),
        1 => Just(""),
    ];
    let piece = prop_oneof![9 => select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()), 1 => any::<u8>().prop_map(|byte| vec![byte])];
    let ended = prop_oneof![3 => Just("\r\n"), 1 => Just("")];
    (request_line, prop::collection::vec(piece, 0..16), ended)
        .prop_map(|(start, pieces, end)| [start.as_bytes(), &pieces.concat(), end.as_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A1, A10, A31.
    #[test]
    fn heads(bytes in head(), mut ends in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let limits = HeadLimits { head_bytes_max: 400, target_bytes_max: 30, fields_max: 10 };
        let whole = Scanner::default().scan(&bytes, &limits);
        ends.sort_by_key(|end| end.index(bytes.len() + 1));
        let ends = ends.iter().map(|end| end.index(bytes.len() + 1)).chain([bytes.len()]);
        prop_assert_eq!(scan_pieces(&bytes, ends, &limits), whole.clone());
        if !matches!(Scanner::default().scan(&bytes, &HeadLimits::default()), Ok(None)) {
            let mut out = Vec::new();
            match decision(&bytes, &open_policy()) {
                Decision::Refuse(refusal) => refusal.write(&Date::from_unix(0), &mut out),
                Decision::Plain(answer) => answer.write(&Date::from_unix(0), &mut out),
                _ => return Ok(()),
            }
            prop_assert!(out.starts_with(b"HTTP/1.1 "));
        }
    }

    /// A25.
    #[test]
    fn chunks(pieces in prop::collection::vec(select(&["0", "5", "a", "\r\n", "\r\n", "hello", ";x", "X: y", " ", "\n"][..]), 0..20)) {
        let input = pieces.concat();
        let read = |cut: usize| {
            let mut reader = BodyReader::new(Framing::Chunked, 12);
            let mut out = Vec::new();
            let (first, _) = reader.read(&input.as_bytes()[..cut], &mut out)?;
            let (second, ended) = reader.read(&input.as_bytes()[first..], &mut out)?;
            Ok::<_, moongate_wire::refusal::Refusal>((first + second, ended, out))
        };
        let whole = read(input.len());
        prop_assert!(whole.as_ref().map_or(0, |read| read.2.len()) <= 12);
        for cut in 0..input.len() {
            prop_assert_eq!(read(cut), whole.clone(), "cut at {}", cut);
        }
    }
}
