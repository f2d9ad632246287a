//! Close frames (RFC 6455 §5.5.1, §7.4).

use std::borrow::Cow;

use super::header::{CONTROL_BYTES_MAX, Fault, Opcode};
use super::{encode, encode_header};

/// The close codes that are sent here (RFC 6455 §7.4.1, and IANA's registry for the last two).
pub mod code {
    /// It is over, as planned.
    pub const NORMAL: u16 = 1000;
    /// This side goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// The peer sent a kind of message that is not taken here.
    pub const UNSUPPORTED: u16 = 1003;
    /// A message was not what its kind says, such as text that is not UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// The peer may not do what it did.
    pub const POLICY: u16 = 1008;
    /// A message was too big.
    pub const TOO_BIG: u16 = 1009;
    /// This side could not go on.
    pub const INTERNAL: u16 = 1011;
    /// This side restarts.
    pub const RESTART: u16 = 1012;
    /// Too much is going on: try again later.
    pub const TRY_AGAIN: u16 = 1013;
}

/// What a peer said in its Close.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Close<'a> {
    /// One that may be on the wire, if there was any.
    pub code: Option<u16>,
    /// At most 123 bytes.
    pub reason: Cow<'a, str>,
}

impl<'a> Close<'a> {
    /// Reads the payload of a Close.
    pub(super) fn parse(payload: Cow<'a, [u8]>) -> Result<Close<'a>, Fault> {
        let code = match payload.first_chunk() {
            Some(code) => u16::from_be_bytes(*code),
            None if payload.is_empty() => return Ok(Close { code: None, reason: Cow::Borrowed("") }),
            None => return Err(Fault::protocol("close code of one byte")),
        };
        if !may_arrive(code) {
            return Err(Fault::protocol("close code that must not be sent"));
        }
        let reason = match payload {
            Cow::Borrowed(payload) => str::from_utf8(&payload[2..]).map(Cow::Borrowed).ok(),
            Cow::Owned(mut payload) => String::from_utf8(payload.split_off(2)).map(Cow::Owned).ok(),
        };
        let reason = reason.ok_or(Fault { reason: "close reason that is not UTF-8", ..Fault::NOT_UTF8 })?;
        Ok(Close { code: Some(code), reason })
    }
}

/// Whether a peer may send `code` (RFC 6455 §7.4, and IANA's registry).
fn may_arrive(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Whether a server may send `code`: 1010 is a client's to send.
fn may_be_sent(code: u16) -> bool {
    may_arrive(code) && code != 1010
}

/// Appends a Close with `code`, and as many whole characters of `reason` as fit, which is 123 bytes.
///
/// # Panics
///
/// If `code` is not one that a server may send: 1004, 1005, 1006, 1010 and 1015 are among those (RFC 6455 §7.4.1).
pub fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    assert!(may_be_sent(code), "close code {code} is never sent by a server");
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    encode_header(Opcode::Close, 2 + reason.len(), out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends the answer to a peer's Close: the same code, and nothing to one without (RFC 6455 §5.5.1).
pub fn reply_to_close(close: &Close<'_>, out: &mut Vec<u8>) {
    match close.code {
        Some(code) if may_be_sent(code) => encode_close(code, "", out),
        Some(_) => encode_close(code::NORMAL, "", out),
        None => encode(Opcode::Close, b"", out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &[u8]) -> Result<Close<'_>, Fault> {
        let borrowed = Close::parse(Cow::Borrowed(payload));
        assert_eq!(borrowed, Close::parse(Cow::Owned(payload.to_vec())), "collected or not is the same");
        borrowed
    }

    #[test]
    fn e1_no_code_or_all_of_it() {
        assert_eq!(parse(b""), Ok(Close { code: None, reason: "".into() }));
        assert_eq!(parse(b"\x03").map_err(|fault| fault.code), Err(1002));
        assert_eq!(parse(b"\x03\xe8"), Ok(Close { code: Some(1000), reason: "".into() }));
        assert_eq!(parse(b"\x03\xe8bye"), Ok(Close { code: Some(1000), reason: "bye".into() }));
    }

    #[test]
    fn e2_codes_that_may_arrive() {
        let accepted: Vec<u16> = (0..=u16::MAX)
            .filter(|code| parse(&code.to_be_bytes()) != Err(Fault::protocol(MUST_NOT)))
            .collect();
        let expect: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(accepted, expect);
    }

    const MUST_NOT: &str = "close code that must not be sent";

    #[test]
    fn e4_the_reason_is_text() {
        assert_eq!(parse(b"\x03\xe8\xff").map_err(|fault| fault.code), Err(1007));
        assert_eq!(parse(b"\x03\xe8\xe2\x82").map_err(|fault| fault.code), Err(1007));
        assert_eq!(parse("\u{3}\u{28}".as_bytes()).map_err(|fault| fault.code), Err(1002));
    }

    #[test]
    fn e4_a_long_reason_is_cut_at_a_character() {
        for (reason, kept) in
            [("x".repeat(123), 123), ("x".repeat(124), 123), ("é".repeat(62), 122), ("€".repeat(99), 123)]
        {
            let mut out = Vec::new();
            encode_close(1008, &reason, &mut out);
            assert_eq!(out[..4], [0x88, 2 + kept as u8, 0x03, 0xf0]);
            assert_eq!(&out[4..], &reason.as_bytes()[..kept]);
            assert!(str::from_utf8(&out[4..]).is_ok());
        }
    }

    #[test]
    fn e5_the_same_code_back_and_nothing_to_nothing() {
        let reply = |code| {
            let mut out = Vec::new();
            reply_to_close(&Close { code, reason: "whatever".into() }, &mut out);
            out
        };
        assert_eq!(reply(None), [0x88, 0]);
        assert_eq!(reply(Some(1000)), [0x88, 2, 0x03, 0xe8]);
        assert_eq!(reply(Some(4999)), [0x88, 2, 0x13, 0x87]);
        // A client may send 1010, a server must not (E3).
        assert_eq!(reply(Some(1010)), [0x88, 2, 0x03, 0xe8]);
    }

    #[test]
    fn e3_e5_every_code_that_may_arrive_is_answered_with_one_that_may_be_sent() {
        for code in (0..=u16::MAX).filter(|code| may_arrive(*code)) {
            let mut out = Vec::new();
            reply_to_close(&Close { code: Some(code), reason: "".into() }, &mut out);
            let sent = u16::from_be_bytes([out[2], out[3]]);
            assert!(![1004, 1005, 1006, 1010, 1015].contains(&sent), "{code}");
        }
    }

    #[test]
    fn e3_codes_that_are_never_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000] {
            let sent = std::panic::catch_unwind(|| encode_close(code, "", &mut Vec::new()));
            assert!(sent.is_err(), "{code}");
        }
    }
}
