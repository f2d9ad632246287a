//! The client protocol of NATS (docs.nats.io, "Client Protocol"), over plain TCP and without headers: a subscription to
//! one subject on each link, and messages published there. All of it is bytes; there is no text.
//!
//! The subject is the target without its first slash, with dots for the others: `/topics/news` is `topics.news`. A link is
//! open when the PING behind its SUB is answered, because a server obeys in order.

use super::{Desk, Ear, Format, Heard, Mouth, Step};

/// How long a line may be. The first one, INFO, is some hundred bytes of JSON, and more in a cluster.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// How long a message may be.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// `verbose`: no +OK for each line. `echo`: who publishes hears it too. `headers` and `no_responders`: not spoken here.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"moongate-load\",\
                       \"lang\":\"rust\",\"version\":\"0.1.0\",\"protocol\":1,\"echo\":true,\"headers\":false,\
                       \"no_responders\":false}\r\n";

pub(super) fn begin(target: &str) -> (Box<dyn Ear>, Box<dyn Mouth>) {
    let subject = target.trim_start_matches('/').replace('/', ".");
    (Box::new(Hearing { open: false }), Box::new(Speaking { subject }))
}

struct Speaking {
    subject: String,
}

impl Mouth for Speaking {
    fn ask(&mut self, out: &mut Vec<u8>) {
        let subject = &self.subject;
        out.extend_from_slice(format!("{CONNECT}SUB {subject} 1\r\nPING\r\n").as_bytes());
    }

    fn say(&mut self, _: Format, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB {} {}\r\n", self.subject, payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn bid_farewell(&mut self, _: &mut Vec<u8>) -> bool {
        false
    }
}

struct Hearing {
    open: bool,
}

impl Ear for Hearing {
    fn hear<'a>(
        &'a mut self,
        bytes: &'a [u8],
        _: &'a mut Desk,
        reply: &mut Vec<u8>,
    ) -> Result<Step<'a>, String> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            let too_long = bytes.len() > LINE_BYTES_MAX;
            return if too_long { Err("a line has no end".to_owned()) } else { Ok(PART) };
        };
        let consumed = end + 1;
        let wrong = || Err(format!("it says {:?}", String::from_utf8_lossy(&bytes[..end.min(100)])));
        let Some(line) = bytes[..end].strip_suffix(b"\r") else { return wrong() };
        let (word, rest) = line.split_at(line.iter().position(|byte| *byte == b' ').unwrap_or(line.len()));
        let heard = match word {
            b"MSG" if self.open => {
                let Some(len) = message_len(rest) else { return wrong() };
                let Some(whole) = bytes[consumed..].get(..len + 2) else { return Ok(PART) };
                let Some(payload) = whole.strip_suffix(b"\r\n") else {
                    return Err("a message does not end where it says".to_owned());
                };
                return Ok(Step {
                    consumed: consumed + len + 2,
                    heard: Heard::Message(Format::Binary, payload),
                });
            }
            b"PONG" if !self.open => {
                self.open = true;
                Heard::Open
            }
            b"PING" => {
                reply.extend_from_slice(b"PONG\r\n");
                Heard::Nothing
            }
            b"INFO" | b"PONG" | b"+OK" => Heard::Nothing,
            b"-ERR" => Heard::End(format!("it says -ERR{}", String::from_utf8_lossy(rest))),
            _ => return wrong(),
        };
        Ok(Step { consumed, heard })
    }
}

/// The last number of ` <subject> <sid> [reply-to] <#bytes>`.
fn message_len(arguments: &[u8]) -> Option<usize> {
    let digits = arguments.rsplit(|byte| *byte == b' ').next()?;
    let len = str::from_utf8(digits).ok()?.parse().ok()?;
    (len <= MESSAGE_BYTES_MAX).then_some(len)
}

const PART: Step<'static> = Step { consumed: 0, heard: Heard::Part };

#[cfg(test)]
mod tests {
    use super::super::hear_all;
    use super::*;

    const OPENED: &str = "INFO {\"server_id\":\"x\"}\r\nPONG\r\n";

    fn check(stream: &str, expect: Result<&[&str], &str>) {
        let bytes = [OPENED, stream].concat().into_bytes();
        for size in [1, 2, 3, 7, bytes.len()] {
            let heard = hear_all(&mut Hearing { open: false }, &bytes, size);
            match expect {
                Ok(messages) => {
                    let messages = messages
                        .iter()
                        .map(|payload| (Format::Binary, payload.as_bytes().to_vec()))
                        .collect();
                    assert_eq!(heard, Ok(messages), "in parts of {size}: {stream:?}");
                }
                Err(why) => assert!(heard.as_ref().is_err_and(|said| said.contains(why)), "{heard:?}"),
            }
        }
    }

    #[test]
    fn messages_are_heard_however_they_come() {
        check("", Ok(&[]));
        check(
            "MSG a.b 1 5\r\nhello\r\nPING\r\n+OK\r\nMSG a 1 reply.to 0\r\n\r\nMSG a 1 4\r\n\r\n\r\n\r\n",
            Ok(&["hello", "", "\r\n\r\n"]),
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("-ERR 'Slow Consumer'\r\n", Err("Slow Consumer"));
        check("MSG a 1 five\r\n", Err("MSG a 1 five"));
        check("MSG a 1 99999999999\r\n", Err("99999999999"));
        check("MSG a 1 2\r\nabc\r\n", Err("does not end where it says"));
        check("HMSG a 1 2 3\r\n", Err("HMSG"));
        check("PING\n", Err("PING"));
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(hear_all(&mut Hearing { open: false }, &endless, endless.len()).is_err());
    }

    #[test]
    fn what_is_said_is_in_the_protocols_words() {
        let (_, mut mouth) = begin("/topics/news");
        let mut out = Vec::new();
        mouth.ask(&mut out);
        assert!(
            out.starts_with(b"CONNECT {\"verbose\":false,")
                && out.ends_with(b"}\r\nSUB topics.news 1\r\nPING\r\n")
        );
        out.clear();
        mouth.say(Format::Binary, b"hello", &mut out);
        assert_eq!(out, b"PUB topics.news 5\r\nhello\r\n");
        assert!(!mouth.bid_farewell(&mut out));
    }

    #[test]
    fn a_ping_is_answered() {
        let mut reply = Vec::new();
        let (mut ear, _) = begin("/a");
        let mut desk = Desk::default();
        let step = ear.hear(b"PING\r\n", &mut desk, &mut reply).expect("a line");
        assert!(matches!(step, Step { consumed: 6, heard: Heard::Nothing }));
        assert_eq!(reply, b"PONG\r\n");
    }
}
