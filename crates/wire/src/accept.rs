//! The answer that opens a WebSocket: `101 Switching Protocols` (RFC 6455 §4.2.2).

use base64_simd::{AsOut, STANDARD};
use sha1_smol::Sha1;

/// What the key is hashed with (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What comes before the accept key. There is no `Content-Length` and no content (RFC 9110 §8.6, C2), and no `Date`,
/// which an interim answer need not have (RFC 9110 §6.6.1).
const BEFORE_KEY: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: ";

/// The `Sec-WebSocket-Accept` to a `Sec-WebSocket-Key`, taken as it was written.
pub fn accept_key(key: &[u8; 24]) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let mut accept = [0; 28];
    let written = STANDARD.encode(&hash.digest().bytes(), accept.as_mut_slice().as_out());
    debug_assert_eq!(written.len(), 28, "20 bytes are 28 characters of base64");
    accept
}

/// The 101, written once at start but for 28 characters.
#[derive(Clone, Debug)]
pub struct Template {
    /// A whole answer, with anything at all where the accept key goes.
    bytes: Box<[u8]>,
}

impl Template {
    /// An answer with `extra_fields` after those that RFC 6455 asks for: whole field lines, each with its CRLF.
    ///
    /// # Panics
    ///
    /// If `extra_fields` does not end with a line's end.
    pub fn new(extra_fields: &str) -> Template {
        assert!(extra_fields.is_empty() || extra_fields.ends_with("\r\n"), "field lines end with CRLF");
        let text = format!("{BEFORE_KEY}{:28}\r\n{extra_fields}\r\n", "");
        Template { bytes: text.into_bytes().into() }
    }

    /// Appends the answer to a handshake with `key`, naming the subprotocol and the extensions that were agreed on. Both
    /// must have been put together from what this side enables: nothing is escaped here (C3, C4, C8).
    pub fn write(
        &self,
        key: &[u8; 24],
        subprotocol: Option<&str>,
        extension: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let at = start + BEFORE_KEY.len();
        out[at..at + 28].copy_from_slice(&accept_key(key));
        if subprotocol.is_none() && extension.is_none() {
            return;
        }
        // More fields go before the empty line.
        out.truncate(out.len() - 2);
        for (name, value) in
            [("Sec-WebSocket-Protocol", subprotocol), ("Sec-WebSocket-Extensions", extension)]
        {
            let Some(value) = value else { continue };
            debug_assert!(
                !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~')),
                "C3, C8"
            );
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Adds to a whole answer whether somebody who asked to begin earlier than now has missed nothing since (C12).
pub fn add_recovered(recovered: bool, answer: &mut Vec<u8>) {
    debug_assert!(answer.ends_with(b"\r\n\r\n"), "an answer ends with an empty line");
    answer.truncate(answer.len() - 2);
    let value = if recovered { "true" } else { "false" };
    for part in ["Moongate-Recovered: ", value, "\r\n\r\n"] {
        answer.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8; 24] = b"dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn c1_the_rfcs_own_key() {
        assert_eq!(&accept_key(KEY), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn check(extra_fields: &str, subprotocol: Option<&str>, extension: Option<&str>, expect: &str) {
        let mut out = b"before ".to_vec();
        Template::new(extra_fields).write(KEY, subprotocol, extension, &mut out);
        let expect = format!(
            "before HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{expect}\r\n"
        );
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }

    #[test]
    fn c1_c2_c3_c4_the_whole_answer() {
        check("", None, None, "");
        check("Server: moongate\r\n", None, None, "Server: moongate\r\n");
        check("", Some("chat.v2"), None, "Sec-WebSocket-Protocol: chat.v2\r\n");
        check(
            "Server: moongate\r\n",
            Some("chat.v2"),
            Some("permessage-deflate; client_max_window_bits=15"),
            "Server: moongate\r\nSec-WebSocket-Protocol: chat.v2\r\n\
            Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15\r\n",
        );
        check("", None, Some("x"), "Sec-WebSocket-Extensions: x\r\n");
    }

    #[test]
    #[should_panic(expected = "CRLF")]
    fn a_field_without_an_end_is_refused() {
        Template::new("Server: moongate");
    }
}
