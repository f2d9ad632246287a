//! Requests, and the heads of their answers.

use super::Hands;

/// The head of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    /// The value of a field, if the answer has it; names are lower-case here.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// How many bytes of body the answer announces.
    pub(super) fn length(&self) -> usize {
        self.field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// Collects bytes until they are the head of a final answer.
#[derive(Default)]
pub(super) struct HeadReader {
    bytes: Vec<u8>,
    /// Interim answers seen.
    pub(super) interim: usize,
}

impl HeadReader {
    /// Takes bytes. A head, once it is there, and what came behind it; or what is wrong with it.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<(Head, Vec<u8>)>, String> {
        self.bytes.extend_from_slice(bytes);
        loop {
            let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(None);
            };
            let rest = self.bytes.split_off(end + 4);
            let text = String::from_utf8(std::mem::replace(&mut self.bytes, rest))
                .map_err(|_| String::from("an answer's head is no text"))?;
            let head = parse(&text).ok_or_else(|| format!("an answer begins {text:?}"))?;
            if head.status != 100 {
                return Ok(Some((head, std::mem::take(&mut self.bytes))));
            }
            self.interim += 1;
        }
    }

    /// The same for somebody who tells what is wrong; none then, and while there is no head.
    pub(super) fn read(&mut self, bytes: &[u8], hands: &mut Hands<'_>) -> Option<(Head, Vec<u8>)> {
        self.push(bytes).unwrap_or_else(|what| {
            hands.fault(&what);
            None
        })
    }

    /// Whether anything has come.
    pub(super) fn has_begun(&self) -> bool {
        self.interim > 0 || !self.bytes.is_empty()
    }
}

fn parse(text: &str) -> Option<Head> {
    let mut lines = text.strip_suffix("\r\n\r\n")?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let (status, _) = status.split_once(' ')?;
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Head { status: status.parse().ok()?, fields })
}

/// A key, as it is sent in every handshake here.
pub(super) const KEY: &[u8; 24] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// What asks for an interim answer.
pub(super) const EXPECT: &str = "Expect: 100-continue\r\n";

/// A request to upgrade, with these lines beside those it needs.
pub(super) fn handshake(path: &str, lines: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n{lines}\r\n",
        String::from_utf8_lossy(KEY),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_behind_interim_answers_however_it_is_cut() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        for cut in 0..bytes.len() {
            let mut reader = HeadReader::default();
            let first = reader.push(&bytes[..cut]).expect("right so far");
            let found = first.or_else(|| reader.push(&bytes[cut..]).expect("right"));
            let (head, rest) = found.expect("a head");
            assert_eq!((head.status, head.length(), reader.interim), (200, 2, 1));
            assert!(b"ab".starts_with(&rest), "{rest:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(HeadReader::default().push(b"SSH-2.0\r\n\r\n").is_err());
    }
}
