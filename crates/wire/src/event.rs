//! Messages as an event stream (WHATWG HTML §9.2). The head that comes before one is
//! [`Answer::events`](crate::answer::Answer::events).
//!
//! A message is one event: its `id` is its topic's epoch and its offset in it, which a client hands back as
//! `Last-Event-ID`. Nothing in a payload can end its line: CR, LF and CRLF, which all end lines of an event stream, each
//! begin another `data:` line, and arrive as LF. Binary payloads are base64.

use std::fmt;

use base64_simd::STANDARD;
use memchr::memchr2;

use crate::{Kind, copy};

/// The media type of an event stream, which is always UTF-8.
pub const STREAM_TYPE: &str = "text/event-stream";

/// A comment, which shows everyone in between that the stream is alive and which no client reports.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// A topic's epoch as it is written everywhere: 16 lower-case hexadecimal digits.
pub fn epoch(epoch: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{epoch:016x}"))
}

/// Appends how long a client waits before it comes back, in milliseconds: the first words of a stream.
pub fn retry(millis: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"retry: ");
    decimal(millis.into(), out);
    out.extend_from_slice(b"\n\n");
}

/// Appends one message as one event. A payload of [`Kind::Text`] or [`Kind::Json`] is valid UTF-8.
pub fn encode(epoch: u64, offset: u64, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 64);
    id(epoch, offset, out);
    match kind {
        Kind::Text | Kind::Json => data(payload, out),
        Kind::Binary => {
            out.extend_from_slice(b"event: binary\ndata: ");
            STANDARD.encode_append(payload, out);
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

/// Appends a block that no client reports, and after which it comes back to just behind this message: with it an event
/// stream can be resumed that ends before its first event.
pub fn place(epoch: u64, offset: u64, out: &mut Vec<u8>) {
    id(epoch, offset, out);
    out.push(b'\n');
}

/// Appends an event that names messages that the client does not get: those from `from` up to `to`, and, if what it heard
/// last was of another epoch, what was said to that one's end. It comes back to behind them.
pub fn gap(epoch: u64, from: u64, to: u64, previous_epoch: Option<u64>, out: &mut Vec<u8>) {
    id(epoch, to, out);
    out.extend_from_slice(b"event: gap\ndata: {");
    missing(epoch, (from, to), previous_epoch, out);
    out.extend_from_slice(b"}\n\n");
}

/// The members of a JSON object that says what is missing, in this form and in those of protocols.
pub(crate) fn missing(epoch: u64, (from, to): (u64, u64), previous_epoch: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"epoch\":\"");
    hexadecimal(epoch, out);
    out.extend_from_slice(b"\",\"from\":");
    decimal(from, out);
    out.extend_from_slice(b",\"to\":");
    decimal(to, out);
    if let Some(previous) = previous_epoch {
        out.extend_from_slice(b",\"previous_epoch\":\"");
        hexadecimal(previous, out);
        out.push(b'"');
    }
}

/// Appends a comment that says why the stream ends, for people who read it with their own eyes. Clients come back after
/// the time of [`retry`] whatever it says.
pub fn end(reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b": ");
    // A reason is one line (J1).
    out.extend(reason.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    out.extend_from_slice(b"\n\n");
}

/// One `data:` line per line of `payload`, of which there is at least one: an event without any would not be dispatched,
/// and an empty message is a message.
fn data(payload: &[u8], out: &mut Vec<u8>) {
    let mut rest = payload;
    loop {
        // The one space is the field's own: a payload's leading space comes after it and arrives.
        out.extend_from_slice(b"data: ");
        let Some(end) = memchr2(b'\n', b'\r', rest) else {
            copy::append(rest, out);
            out.push(b'\n');
            return;
        };
        copy::append(&rest[..end], out);
        out.push(b'\n');
        let line_end = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + line_end..];
    }
}

fn id(epoch: u64, offset: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"id: ");
    hexadecimal(epoch, out);
    out.push(b'-');
    decimal(offset, out);
    out.push(b'\n');
}

pub(crate) fn decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub(crate) fn hexadecimal(number: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits: [u8; 16] = std::array::from_fn(|at| DIGITS[(number >> (60 - 4 * at)) as usize & 15]);
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(kind: Kind, payload: &[u8], expect: &str) {
        let mut out = Vec::new();
        encode(0xa1, 7, kind, payload, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("id: 00000000000000a1-7\n{expect}\n"));
    }

    #[test]
    fn j1_j2_one_message_is_one_event() {
        check(Kind::Text, b"hello", "data: hello\n");
        check(Kind::Text, b"", "data: \n");
        check(Kind::Text, b" led by a space", "data:  led by a space\n");
        check(Kind::Text, b"two\nlines", "data: two\ndata: lines\n");
        check(Kind::Text, b"two\rlines", "data: two\ndata: lines\n");
        check(Kind::Text, b"two\r\nlines", "data: two\ndata: lines\n");
        check(Kind::Text, b"\n\r", "data: \ndata: \ndata: \n");
        check(Kind::Text, b"end\r\n", "data: end\ndata: \n");
        check(
            Kind::Text,
            b"x\n\nid: 9\nevent: forged",
            "data: x\ndata: \ndata: id: 9\ndata: event: forged\n",
        );
        check(Kind::Text, "κόσμε".as_bytes(), "data: κόσμε\n");
        check(Kind::Binary, b"", "event: binary\ndata: \n");
        check(Kind::Binary, b"\x00\xff\n", "event: binary\ndata: AP8K\n");
    }

    #[test]
    fn epochs_and_offsets_are_written_one_way() {
        for (number, offset) in
            [(0, 1), (1, 10), (u64::MAX, u64::MAX), (0x0123_4567_89ab_cdef, 9_999_999_999)]
        {
            let mut out = Vec::new();
            encode(number, offset, Kind::Text, b"", &mut out);
            let expect = format!("id: {}-{offset}\ndata: \n\n", epoch(number));
            assert_eq!(String::from_utf8_lossy(&out), expect);
            assert_eq!(epoch(number).to_string(), format!("{number:016x}"));
        }
    }

    #[test]
    fn j1_retry_and_end() {
        let mut out = Vec::new();
        retry(3000, &mut out);
        retry(0, &mut out);
        end("going\naway\r\ndata: forged", &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "retry: 3000\n\nretry: 0\n\n: going away  data: forged\n\n"
        );
    }

    #[test]
    fn j4_a_place_is_no_event_and_a_gap_is_one() {
        let check = |write: &dyn Fn(&mut Vec<u8>), expect: &str| {
            let mut out = Vec::new();
            write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect);
        };
        check(&|out| place(0xa1, 0, out), "id: 00000000000000a1-0\n\n");
        check(
            &|out| gap(0xa1, 3, 9, None, out),
            "id: 00000000000000a1-9\nevent: gap\ndata: {\"epoch\":\"00000000000000a1\",\"from\":3,\"to\":9}\n\n",
        );
        check(
            &|out| gap(0xa1, 1, 0, Some(0xb2), out),
            "id: 00000000000000a1-0\nevent: gap\ndata: {\"epoch\":\"00000000000000a1\",\"from\":1,\"to\":0,\
             \"previous_epoch\":\"00000000000000b2\"}\n\n",
        );
    }

    /// What a client reports: a small reading of WHATWG HTML §9.2.6.
    fn read(stream: &str) -> Vec<(String, String, String)> {
        let (mut events, mut id, mut kind, mut data) = (Vec::new(), "", "", String::new());
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        for line in stream.lines() {
            if line.is_empty() {
                if let Some(data) = std::mem::take(&mut data).strip_suffix('\n') {
                    events.push((id.to_owned(), kind.to_owned(), data.to_owned()));
                }
                kind = "";
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = value,
                "event" => kind = value,
                "data" => data += &format!("{value}\n"),
                _ => {}
            }
        }
        events
    }

    proptest! {
        #[test]
        fn j2_a_client_reads_what_was_said(payloads in prop::collection::vec("[a\r\n :\u{0}é]{0,12}", 0..6)) {
            let mut out = Vec::new();
            retry(1, &mut out);
            for (offset, payload) in payloads.iter().enumerate() {
                encode(5, offset as u64, Kind::Text, payload.as_bytes(), &mut out);
                out.extend_from_slice(HEARTBEAT);
            }
            let expect: Vec<_> = payloads
                .iter()
                .enumerate()
                .map(|(offset, payload)| {
                    let data = payload.replace("\r\n", "\n").replace('\r', "\n");
                    (format!("{}-{offset}", epoch(5)), String::new(), data)
                })
                .collect();
            prop_assert_eq!(read(str::from_utf8(&out)?), expect);
        }

        #[test]
        fn j2_binary_comes_back_whole(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = Vec::new();
            encode(5, 1, Kind::Binary, &payload, &mut out);
            let events = read(str::from_utf8(&out)?);
            prop_assert_eq!(events.len(), 1);
            prop_assert_eq!(&events[0].1, "binary");
            prop_assert_eq!(STANDARD.decode_to_vec(&events[0].2).ok(), Some(payload));
        }
    }
}
