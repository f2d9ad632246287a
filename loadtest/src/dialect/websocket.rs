//! WebSockets (RFC 6455), with permessage-deflate where it is asked for (RFC 7692).
//!
//! Frames are read in place: only messages in fragments and compressed ones are copied.

use std::net::SocketAddr;

use moongate_wire::accept::accept_key;
use moongate_wire::frame::{Opcode, code, encode_masked};

use super::answer::Head;
use super::{Desk, Ear, Format, Heard, Mouth, Step, Told};

/// How long a message may be once it is inflated.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// What is offered. Without context, so that every message can be inflated by itself.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

pub(super) fn begin(
    target: &str,
    host: SocketAddr,
    seed: u32,
    deflate: bool,
) -> (Box<dyn Ear>, Box<dyn Mouth>) {
    let mut random = Random(seed);
    let key = random.key();
    // The alphabet of base64 is ASCII.
    let text = String::from_utf8_lossy(&key);
    let offer = if deflate { OFFER } else { "" };
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {text}\r\n{offer}\r\n"
    );
    let ear = Hearing { state: State::Asked { key }, deflate, recovered: None, message: None };
    (Box::new(ear), Box::new(Speaking { request: request.into_bytes(), random }))
}

/// What a link sends.
struct Speaking {
    /// Gone once it was sent.
    request: Vec<u8>,
    random: Random,
}

impl Mouth for Speaking {
    fn ask(&mut self, out: &mut Vec<u8>) {
        out.append(&mut std::mem::take(&mut self.request));
    }

    fn say(&mut self, format: Format, payload: &[u8], out: &mut Vec<u8>) {
        let opcode = match format {
            Format::Text => Opcode::Text,
            Format::Binary => Opcode::Binary,
        };
        encode_masked(opcode, true, self.random.mask(), payload, out);
    }

    fn bid_farewell(&mut self, out: &mut Vec<u8>) -> bool {
        encode_masked(Opcode::Close, true, self.random.mask(), &code::NORMAL.to_be_bytes(), out);
        true
    }
}

/// How far a link has come.
struct Hearing {
    state: State,
    deflate: bool,
    /// What the answer says of the place that was named, until it is told.
    recovered: Option<bool>,
    /// The message of which fragments have come.
    message: Option<Box<Fragments>>,
}

enum State {
    Asked { key: [u8; 24] },
    Open,
}

struct Fragments {
    format: Format,
    compressed: bool,
    payload: Vec<u8>,
    complete: bool,
}

impl Ear for Hearing {
    fn hear<'a>(
        &'a mut self,
        bytes: &'a [u8],
        desk: &'a mut Desk,
        reply: &mut Vec<u8>,
    ) -> Result<Step<'a>, String> {
        if let State::Asked { key } = &self.state {
            let Some(head) = Head::read(bytes)? else { return Ok(PART) };
            check_upgrade(&head, key, self.deflate)?;
            self.state = State::Open;
            self.recovered = head.field("Moongate-Recovered").map(|value| value == "true");
            return Ok(Step { consumed: head.len, heard: Heard::Open });
        }
        if self.message.as_ref().is_some_and(|message| message.complete) {
            self.message = None;
        }
        let wrong = |why| format!("its frames are wrong: {why}");
        let Some(header) = Header::read(bytes, self.deflate).map_err(wrong)? else { return Ok(PART) };
        let Header { size, len, .. } = header;
        // What is too long to be there cannot be there.
        let Some(payload) = usize::try_from(len).ok().and_then(|len| bytes[size..].get(..len)) else {
            return Ok(PART);
        };
        let consumed = size + payload.len();
        let heard = match header.what {
            What::Ping => {
                encode_masked(Opcode::Pong, true, [0; 4], payload, reply);
                Heard::Nothing
            }
            What::Pong => Heard::Nothing,
            What::Close => Heard::End(said_goodbye(payload)),
            What::Data { format: Some(_), .. } if self.message.is_some() => {
                return Err(wrong("a message begins inside another"));
            }
            What::Data { format: None, .. } if self.message.is_none() => {
                return Err(wrong("a message goes on that never began"));
            }
            What::Data { format: Some(format), fin: true, compressed: false } => {
                Heard::Message(format, payload)
            }
            What::Data { format: Some(format), fin: true, compressed: true } => {
                Heard::Message(format, desk.inflate(payload, MESSAGE_BYTES_MAX)?)
            }
            What::Data { format, fin, compressed } => self.collect(format, fin, compressed, payload, desk)?,
        };
        Ok(Step { consumed, heard })
    }

    fn tell(&mut self) -> Option<Told> {
        self.recovered.take().map(Told::Recovered)
    }
}

impl Hearing {
    /// Adds a fragment; with the last one, the message is heard.
    fn collect<'a>(
        &'a mut self,
        format: Option<Format>,
        fin: bool,
        compressed: bool,
        payload: &[u8],
        desk: &'a mut Desk,
    ) -> Result<Heard<'a>, String> {
        let message = self.message.get_or_insert_with(|| {
            let format = format.unwrap_or(Format::Binary);
            Box::new(Fragments { format, compressed, payload: Vec::new(), complete: false })
        });
        message.payload.extend_from_slice(payload);
        message.complete = fin;
        if !fin {
            return Ok(Heard::Nothing);
        }
        let payload = &message.payload[..];
        let payload = if message.compressed { desk.inflate(payload, MESSAGE_BYTES_MAX)? } else { payload };
        Ok(Heard::Message(message.format, payload))
    }
}

const PART: Step<'static> = Step { consumed: 0, heard: Heard::Part };

fn check_upgrade(head: &Head<'_>, key: &[u8; 24], deflate: bool) -> Result<(), String> {
    head.expect(101)?;
    let accept = head.field("Sec-WebSocket-Accept");
    if accept.map(str::as_bytes) != Some(&accept_key(key)) {
        return Err(format!("it answered 101 with Sec-WebSocket-Accept {accept:?}"));
    }
    let extensions = head.field("Sec-WebSocket-Extensions").unwrap_or_default();
    let parameters = extensions.strip_prefix("permessage-deflate");
    match (deflate, parameters) {
        (true, Some(parameters)) if parameters.contains("server_no_context_takeover") => Ok(()),
        (false, _) if extensions.is_empty() => Ok(()),
        (true, None) => Err("it does not agree to compress: --deflate needs a server that does".to_owned()),
        _ => Err(format!("it answered 101 with Sec-WebSocket-Extensions {extensions:?}")),
    }
}

/// The header of a frame of a server (RFC 6455 §5.2). Read here by itself, so that a mistake of the gateway's own code is
/// not made twice.
struct Header {
    what: What,
    /// The payload's length.
    len: u64,
    /// The header's own.
    size: usize,
}

enum What {
    /// A part of a message. `format` is that of the message, in its first frame.
    Data {
        format: Option<Format>,
        fin: bool,
        compressed: bool,
    },
    Ping,
    Pong,
    Close,
}

impl Header {
    fn read(bytes: &[u8], may_compress: bool) -> Result<Option<Header>, &'static str> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (fin, compressed, opcode) = (first & 0x80 != 0, first & 0x40 != 0, first & 0x0f);
        if first & 0x30 != 0 || (compressed && !(may_compress && matches!(opcode, 1 | 2))) {
            return Err("reserved bits are set");
        }
        if second & 0x80 != 0 {
            return Err("a server must not mask");
        }
        let (len, least, size) = match (second & 0x7f, rest) {
            (126, [one, two, ..]) => (u64::from(u16::from_be_bytes([*one, *two])), 126, 4),
            (127, rest) if rest.len() >= 8 => {
                let digits = rest.first_chunk().ok_or("no length")?;
                (u64::from_be_bytes(*digits), 1 << 16, 10)
            }
            (126 | 127, _) => return Ok(None),
            (len, _) => (u64::from(len), 0, 2),
        };
        if len < least {
            return Err("a length is in more bytes than it needs");
        }
        let what = match opcode {
            0 => What::Data { format: None, fin, compressed },
            1 => What::Data { format: Some(Format::Text), fin, compressed },
            2 => What::Data { format: Some(Format::Binary), fin, compressed },
            8..=10 if !fin || len > CONTROL_BYTES_MAX => {
                return Err("a control frame is too long or in parts");
            }
            8 => What::Close,
            9 => What::Ping,
            10 => What::Pong,
            _ => return Err("reserved opcode"),
        };
        Ok(Some(Header { what, len, size }))
    }
}

/// What a Close says.
fn said_goodbye(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, reason)) => {
            let reason = String::from_utf8_lossy(reason);
            format!("the server said Close {} {reason:?}", u16::from_be_bytes(*code))
        }
        None => "the server said Close".to_owned(),
    }
}

/// Numbers that look random. No secret hangs on them: this tool speaks to servers of one's own.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        // A Weyl sequence, mixed (splitmix32): any seed will do.
        self.0 = self.0.wrapping_add(0x9E37_79B9);
        let mixed = (self.0 ^ (self.0 >> 16)).wrapping_mul(0x21F0_AAAD);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x735A_2D97);
        mixed ^ (mixed >> 15)
    }

    fn mask(&mut self) -> [u8; 4] {
        self.next().to_le_bytes()
    }

    /// 16 bytes in base64: 22 digits, the last of which ends in four zero bits, and the padding.
    fn key(&mut self) -> [u8; 24] {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        std::array::from_fn(|place| match place {
            0..=20 => DIGITS[self.next() as usize % 64],
            21 => b"AQgw"[self.next() as usize % 4],
            _ => b'=',
        })
    }
}

#[cfg(test)]
mod tests {
    use moongate_wire::deflate::Deflater;
    use moongate_wire::frame::{encode, encode_compressed};

    use super::super::hear_all;
    use super::*;

    const RIGHT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const AGREED: &str =
        "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n";

    /// The ear of a link with the key of RFC 6455 §1.3.
    fn ear(deflate: bool) -> Hearing {
        Hearing {
            state: State::Asked { key: *b"dGhlIHNhbXBsZSBub25jZQ==" },
            deflate,
            recovered: None,
            message: None,
        }
    }

    fn check(deflate: bool, bytes: &[u8], expect: Result<&[(Format, &[u8])], &str>) {
        for size in [1, 3, bytes.len()] {
            let heard = hear_all(&mut ear(deflate), bytes, size);
            match expect {
                Ok(messages) => {
                    let messages: Vec<_> =
                        messages.iter().map(|(format, payload)| (*format, payload.to_vec())).collect();
                    assert_eq!(heard, Ok(messages), "in parts of {size}");
                }
                Err(why) => assert!(heard.as_ref().is_err_and(|said| said.contains(why)), "{heard:?}"),
            }
        }
    }

    #[test]
    fn only_the_right_answer_opens() {
        check(false, RIGHT.as_bytes(), Ok(&[]));
        check(false, &RIGHT.as_bytes()[..RIGHT.len() - 1], Err("not open"));
        check(false, RIGHT.replace("s3p", "s4p").as_bytes(), Err("s4p"));
        check(false, b"HTTP/1.1 503 Busy\r\n\r\nno room", Err("503 Busy"));
        check(true, RIGHT.as_bytes(), Err("does not agree to compress"));
        let agreed = RIGHT.replace("\r\n\r\n", AGREED);
        check(true, agreed.as_bytes(), Ok(&[]));
        check(false, agreed.as_bytes(), Err("Sec-WebSocket-Extensions"));
    }

    #[test]
    fn messages_whole_and_in_fragments() {
        let mut bytes = RIGHT.as_bytes().to_vec();
        let long = vec![b'x'; 70_000];
        encode(Opcode::Text, b"hello", &mut bytes);
        encode(Opcode::Binary, &long[..300], &mut bytes);
        bytes.extend_from_slice(&[0x01, 1, b'a', 0x89, 0, 0x00, 0, 0x80, 1, b'b']);
        encode(Opcode::Binary, &long, &mut bytes);
        let expect: [(Format, &[u8]); 4] = [
            (Format::Text, b"hello"),
            (Format::Binary, &long[..300]),
            (Format::Text, b"ab"),
            (Format::Binary, &long),
        ];
        check(false, &bytes, Ok(&expect));
    }

    #[test]
    fn compressed_messages_are_inflated() {
        let mut bytes = RIGHT.replace("\r\n\r\n", AGREED).into_bytes();
        let (mut deflater, mut compressed) = (Deflater::default(), Vec::new());
        assert!(deflater.deflate(&[b'x'; 500], 15, &mut compressed));
        encode_compressed(Opcode::Text, &compressed, &mut bytes);
        encode(Opcode::Text, b"plain", &mut bytes);
        let (first, last) = compressed.split_at(3);
        bytes.extend_from_slice(&[0x41, first.len() as u8]);
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(&[0x80, last.len() as u8]);
        bytes.extend_from_slice(last);
        check(
            true,
            &bytes,
            Ok(&[(Format::Text, &[b'x'; 500]), (Format::Text, b"plain"), (Format::Text, &[b'x'; 500])]),
        );
        bytes.extend_from_slice(&[0xc1, 2, 0xff, 0xff]);
        check(true, &bytes, Err("compressed message"));
    }

    #[test]
    fn what_a_server_must_not_send() {
        let cases: &[(&[u8], &str)] = &[
            (&[0x81, 0x80, 0, 0, 0, 0], "must not mask"),
            (&[0xc1, 0], "reserved bits"),
            (&[0x83, 0], "reserved opcode"),
            (&[0x81, 126, 0, 125], "more bytes than it needs"),
            (&[0x89, 126, 0, 126], "a control frame"),
            (&[0x09, 0], "a control frame"),
            (&[0x80, 0], "never began"),
            (&[0x01, 0, 0x81, 0], "inside another"),
            (&[0x88, 2, 3, 0xf5], "said Close 1013"),
        ];
        for (frames, why) in cases {
            check(false, &[RIGHT.as_bytes(), frames].concat(), Err(why));
        }
    }

    #[test]
    fn a_ping_is_answered_with_the_same() {
        let (mut ear, mut reply) = (ear(false), Vec::new());
        ear.state = State::Open;
        let step = ear.hear(&[0x89, 1, b'x'], &mut Desk::default(), &mut reply).map(|step| step.consumed);
        assert_eq!((step, &reply[..]), (Ok(3), &[0x8a, 0x81, 0, 0, 0, 0, b'x'][..]));
    }

    #[test]
    fn keys_are_sixteen_bytes_and_differ() {
        let mut keys: Vec<[u8; 24]> = (0..1000).map(|number| Random(number).key()).collect();
        assert!(keys.iter().all(|key| key.ends_with(b"==") && b"AQgw".contains(&key[21])));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 1000);
    }
}
