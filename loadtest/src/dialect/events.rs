//! Event streams (WHATWG HTML §9.2), in chunks (RFC 9112 §7.1) or not. One can only listen to them.
//!
//! Events of bytes are the gateway's own: `event: binary`, and their data is base64.

use std::net::SocketAddr;

use base64_simd::STANDARD;

use super::answer::Head;
use super::request::Request;
use super::{Desk, Ear, Format, Heard, Mouth, Position, Step, Told};

/// How long an event, or a chunk, may be.
const EVENT_BYTES_MAX: usize = 32 << 20;

/// How many bytes the line may have that begins a chunk.
const CHUNK_LINE_BYTES_MAX: usize = 64;

pub(super) fn begin(target: &str, host: SocketAddr) -> (Box<dyn Ear>, Box<dyn Mouth>) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n");
    (Box::new(Hearing::default()), Box::new(Request(request.into_bytes())))
}

/// How far a link has come.
#[derive(Default)]
struct Hearing {
    state: State,
    /// What came in chunks, without their borders; what lies before `taken` was heard.
    joined: Vec<u8>,
    taken: usize,
    event: Event,
}

#[derive(Default)]
enum State {
    #[default]
    Asked,
    /// The stream ends with the connection.
    Plain,
    /// The stream comes in chunks: so many bytes of this one are to come.
    Chunks(usize),
}

impl Ear for Hearing {
    fn hear<'a>(&'a mut self, bytes: &'a [u8], _: &'a mut Desk, _: &mut Vec<u8>) -> Result<Step<'a>, String> {
        match self.state {
            State::Asked => self.open(bytes),
            State::Plain => match self.event.find(bytes)? {
                Some(end) => self.event.read(bytes, end),
                None => Ok(PART),
            },
            // Chunks are joined first, and then read as if there were none: an event may span several.
            State::Chunks(left) => {
                let Some(end) = self.event.find(&self.joined[self.taken..])? else {
                    return self.join(bytes, left);
                };
                let Step { consumed, heard } = self.event.read(&self.joined[self.taken..], end)?;
                self.taken += consumed;
                Ok(Step { consumed: 0, heard })
            }
        }
    }

    fn tell(&mut self) -> Option<Told> {
        let Event { id, gap, .. } = &mut self.event;
        if let Some(gap) = gap.take() {
            return Some(Told::Gap(gap));
        }
        // Other servers have ids of other shapes.
        let position = Position::parse(id)?;
        id.clear();
        Some(Told::At(position))
    }
}

impl Hearing {
    fn open(&mut self, bytes: &[u8]) -> Result<Step<'static>, String> {
        let Some(head) = Head::read(bytes)? else { return Ok(PART) };
        head.expect(200)?;
        let media = head.field("Content-Type").unwrap_or_default();
        if !media.to_ascii_lowercase().starts_with("text/event-stream") {
            return Err(format!("it answered 200 with Content-Type {media:?}, which is no event stream"));
        }
        self.state = match head.field("Transfer-Encoding") {
            None => State::Plain,
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => State::Chunks(0),
            Some(coding) => return Err(format!("it answered 200 with Transfer-Encoding {coding:?}")),
        };
        Ok(Step { consumed: head.len, heard: Heard::Open })
    }

    /// Takes the next part of a chunk; `left`: what is to come of the one that has begun, its line end included.
    fn join(&mut self, bytes: &[u8], left: usize) -> Result<Step<'static>, String> {
        if bytes.is_empty() {
            return Ok(PART);
        }
        self.joined.drain(..self.taken);
        self.taken = 0;
        if self.joined.len() > EVENT_BYTES_MAX {
            return Err("an event has no end".to_owned());
        }
        if left > 0 {
            let take = left.min(bytes.len());
            // The last two bytes of what is left end its line.
            let data = take.min(left.saturating_sub(2));
            let line_end = &bytes[data..take];
            if !line_end.is_empty() && !b"\r\n"[data + 2 - left..].starts_with(line_end) {
                return Err("a chunk does not end where it says".to_owned());
            }
            self.joined.extend_from_slice(&bytes[..data]);
            self.state = State::Chunks(left - take);
            return Ok(Step { consumed: take, heard: Heard::Nothing });
        }
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            let too_long = bytes.len() > CHUNK_LINE_BYTES_MAX;
            return if too_long { Err("a chunk has no length".to_owned()) } else { Ok(PART) };
        };
        let digits = bytes[..end].split(|byte| matches!(byte, b';' | b' ')).next().unwrap_or_default();
        let digits = str::from_utf8(digits).map_err(|error| error.to_string())?;
        match usize::from_str_radix(digits, 16) {
            Ok(0) => {
                Ok(Step { consumed: end + 2, heard: Heard::End("the stream's last chunk came".to_owned()) })
            }
            Ok(size) if size <= EVENT_BYTES_MAX => {
                self.state = State::Chunks(size + 2);
                Ok(Step { consumed: end + 2, heard: Heard::Nothing })
            }
            Ok(_) | Err(_) => Err(format!("a chunk's length is {digits:?}")),
        }
    }
}

/// The event that comes.
#[derive(Default)]
struct Event {
    /// How many of its bytes were looked at, and hold no blank line.
    searched: usize,
    /// Its data, where that is not one line of text.
    data: Vec<u8>,
    /// The last `id` that was not told.
    id: Vec<u8>,
    /// What a gap says that was not told.
    gap: Option<String>,
}

impl Event {
    /// Where the lines of the event end that is at the front of `bytes`. Lines end with LF here: that is what the gateway
    /// sends, and nchan too.
    fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let from = self.searched;
        if let Some(blank) = bytes[from..].windows(2).position(|two| two == b"\n\n") {
            self.searched = 0;
            return Ok(Some(from + blank));
        }
        if bytes.len() > EVENT_BYTES_MAX {
            return Err("an event has no end".to_owned());
        }
        self.searched = bytes.len().saturating_sub(1);
        Ok(None)
    }

    /// Reads the event at the front of `bytes` whose lines end at `end`.
    fn read<'a>(&'a mut self, bytes: &'a [u8], end: usize) -> Result<Step<'a>, String> {
        let (consumed, lines) = (end + 2, &bytes[..end]);
        let (mut kind, mut first, mut count) = ("", None, 0);
        self.data.clear();
        for line in lines.split(|byte| *byte == b'\n') {
            let (field, value) = field(line);
            match field {
                b"event" => kind = str::from_utf8(value).unwrap_or("?"),
                b"data" => {
                    count += 1;
                    match first {
                        None => first = Some(value),
                        Some(first) if count == 2 => self.data.extend_from_slice(first),
                        Some(_) => {}
                    }
                    if count > 1 {
                        self.data.push(b'\n');
                        self.data.extend_from_slice(value);
                    }
                }
                b"id" => {
                    self.id.clear();
                    self.id.extend_from_slice(value);
                }
                // A comment, and what is said about the stream.
                b"" | b"retry" => {}
                other => return Err(format!("an event has the field {:?}", String::from_utf8_lossy(other))),
            }
        }
        let Some(first) = first else { return Ok(Step { consumed, heard: Heard::Nothing }) };
        let heard = match (kind, count) {
            ("", 1) => Heard::Message(Format::Text, first),
            ("", _) => Heard::Message(Format::Text, &self.data),
            ("binary", 1) => {
                let decoded = STANDARD.decode_append(first, &mut self.data);
                decoded.map_err(|_| "an event of bytes is no base64".to_owned())?;
                Heard::Message(Format::Binary, &self.data)
            }
            ("gap", 1) => {
                self.gap = Some(String::from_utf8_lossy(first).into_owned());
                Heard::Nothing
            }
            _ => return Err(format!("an event of the kind {kind:?}, with {count} lines of data")),
        };
        Ok(Step { consumed, heard })
    }
}

/// A line's field and value; the field of a comment is empty.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return (line, b"") };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}

const PART: Step<'static> = Step { consumed: 0, heard: Heard::Part };

#[cfg(test)]
mod tests {
    use super::super::hear_all;
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    const HEAD_OF_CHUNKS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\ntransfer-encoding: Chunked\r\n\r\n";

    fn check(head: &str, stream: &str, expect: Result<&[(Format, &str)], &str>) {
        let bytes = [head.as_bytes(), stream.as_bytes()].concat();
        for size in [1, 2, 3, 7, bytes.len()] {
            let heard = hear_all(&mut Hearing::default(), &bytes, size);
            match expect {
                Ok(messages) => {
                    let messages: Vec<_> =
                        messages.iter().map(|(kind, payload)| (*kind, payload.as_bytes().to_vec())).collect();
                    assert_eq!(heard, Ok(messages), "in parts of {size}: {stream:?}");
                }
                Err(why) => assert!(heard.as_ref().is_err_and(|said| said.contains(why)), "{heard:?}"),
            }
        }
    }

    /// The stream in chunks of `size` bytes.
    fn chunks(stream: &str, size: usize) -> String {
        let parts = stream.as_bytes().chunks(size);
        parts.map(|part| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part))).collect()
    }

    const STREAM: &str = "retry: 3000\n\n: welcome\n\nid: a-1\ndata: one\n\n:\n\ndata: two\ndata: lines\n\n\
                          id: a-3\nevent: binary\ndata: AP8K\n\ndata:\n\ndata: last\n\n";

    const HEARD: [(Format, &str); 3] =
        [(Format::Text, "one"), (Format::Text, "two\nlines"), (Format::Text, "last")];

    #[test]
    fn events_are_heard_however_they_come() {
        let text = STREAM.replace("event: binary\ndata: AP8K", ": none").replace("data:\n\n", "");
        check(HEAD, &text, Ok(&HEARD));
        for size in [1, 2, 5, 1000] {
            check(HEAD_OF_CHUNKS, &chunks(&text, size), Ok(&HEARD));
        }
        check(
            HEAD,
            "data:\n\ndata:  led by a space\n\n",
            Ok(&[(Format::Text, ""), (Format::Text, " led by a space")]),
        );
    }

    #[test]
    fn bytes_are_base64() {
        let heard = hear_all(&mut Hearing::default(), [HEAD, STREAM].concat().as_bytes(), 5).expect("events");
        assert_eq!(heard[2], (Format::Binary, vec![0, 255, 10]));
        check(HEAD, "event: binary\ndata: %\n\n", Err("no base64"));
    }

    #[test]
    fn the_last_place_and_gap_are_told() {
        let told = |stream: &str| {
            let mut ear = Hearing::default();
            hear_all(&mut ear, [HEAD, stream].concat().as_bytes(), 1000).expect("events");
            [ear.tell(), ear.tell(), ear.tell()]
        };
        let at = |offset| Some(Told::At(Position { epoch: 0xa1, offset }));
        assert_eq!(told("retry: 1\n\n"), [None, None, None]);
        assert_eq!(told("id: 00000000000000a1-6\n\n"), [at(6), None, None]);
        assert_eq!(
            told("id: 00000000000000a1-6\n\nid: 00000000000000a1-7\ndata: x\n\n"),
            [at(7), None, None]
        );
        assert_eq!(told("id: 1700000:0\ndata: x\n\n"), [None, None, None]);
        let gap = "id: 00000000000000a1-9\nevent: gap\ndata: {\"from\":8}\n\n";
        assert_eq!(told(gap), [Some(Told::Gap("{\"from\":8}".to_owned())), at(9), None]);
        assert_eq!(Position { epoch: 0xa1, offset: 9 }.to_string(), "00000000000000a1-9");
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        check("HTTP/1.1 404 Not Found\r\n\r\n", "", Err("404 Not Found"));
        check("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "", Err("text/html"));
        check(HEAD, "datum: 1\n\n", Err("datum"));
        check(HEAD, "event: other\ndata: 1\n\n", Err("other"));
        check(HEAD_OF_CHUNKS, "5\r\ndata:X", Err("does not end where it says"));
        check(HEAD_OF_CHUNKS, "5\r\ndata:\rX", Err("does not end where it says"));
        check(HEAD_OF_CHUNKS, "five\r\n", Err("a chunk's length"));
        check(HEAD_OF_CHUNKS, "0\r\n\r\n", Err("last chunk"));
    }
}
