//! A frame's header (RFC 6455 §5.2), refused at the first byte that is wrong.

use std::fmt;

use super::code;

/// The longest header: two bytes, a length of eight, a masking key.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Opcode {
    /// More of the message that a text or binary frame began.
    Continuation,
    /// A message of text, or its first part.
    Text,
    /// A message of bytes, or its first part.
    Binary,
    /// The last frame of its sender.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping, or nothing at all.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    pub(super) fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    /// Whether it is about the connection and not part of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// Why a peer's frames are not read any further (RFC 6455 §7.1.7): what to tell it in a Close.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// 1002, 1007 or 1009.
    pub code: u16,
    /// What was wrong, for a person.
    pub reason: &'static str,
}

impl Fault {
    pub(super) const fn protocol(reason: &'static str) -> Fault {
        Fault { code: code::PROTOCOL_ERROR, reason }
    }

    pub(super) const NOT_UTF8: Fault = Fault { code: code::INVALID_DATA, reason: "text that is not UTF-8" };
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

impl std::error::Error for Fault {}

/// The bit of a message's first frame that says it is compressed (RFC 7692 §6).
pub(super) const COMPRESSED_BIT: u8 = 0x40;

/// Who sent a frame, which says whether it must be masked or must not be (RFC 6455 §5.1).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Sender {
    Client,
    Server,
}

/// A header that breaks no rule a header can break by itself.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    /// Whether its message is compressed: never of a control frame or a continuation.
    pub(super) compressed: bool,
    /// All zero in frames of a server.
    pub(super) key: [u8; 4],
    /// The payload's, below 2^63.
    pub(super) len: u64,
    /// The header's own length in bytes.
    pub(super) size: usize,
}

impl Header {
    /// The header at the start of `bytes`, or `None` while it is not all there. What is wrong with it is the same
    /// however much of it is there, so that it does not depend on how the bytes were cut (D11). `may_compress`: whether
    /// permessage-deflate was agreed on.
    #[inline]
    pub(super) fn parse(bytes: &[u8], sender: Sender, may_compress: bool) -> Result<Option<Header>, Fault> {
        let Some(first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Fault::protocol("reserved opcode"))?;
        // D3, G6: one bit has a meaning, if that was agreed on, and only where a message begins.
        let meant = may_compress && matches!(opcode, Opcode::Text | Opcode::Binary);
        let compressed = first & COMPRESSED_BIT != 0;
        if first & 0x30 != 0 || (compressed && !meant) {
            return Err(Fault::protocol("reserved bits are set"));
        }
        let fin = first & 0x80 != 0;
        if opcode.is_control() && !fin {
            return Err(Fault::protocol("control frame in fragments"));
        }
        let Some(second) = bytes.get(1) else {
            return Ok(None);
        };
        let masked = second & 0x80 != 0;
        match sender {
            Sender::Client if !masked => return Err(Fault::protocol("client frame without a mask")),
            Sender::Server if masked => return Err(Fault::protocol("server frame with a mask")),
            Sender::Client | Sender::Server => {}
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Fault::protocol("control frame of more than 125 bytes"));
        }
        let Some((len, after_len)) = length(short, &bytes[2..])? else {
            return Ok(None);
        };
        let (key, rest) = match after_len.split_first_chunk() {
            _ if !masked => ([0; 4], after_len),
            Some((key, rest)) => (*key, rest),
            None => return Ok(None),
        };
        Ok(Some(Header { opcode, fin, compressed, key, len, size: bytes.len() - rest.len() }))
    }
}

/// The length of a payload, and the bytes after it. It must be written in the fewest bytes, and its highest bit must be
/// zero (RFC 6455 §5.2); both are looked at before anyone calculates with it.
#[inline]
fn length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Fault> {
    let (len, least, rest) = match short {
        126 => match bytes.split_first_chunk() {
            Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), 126, rest),
            None => return Ok(None),
        },
        127 => match bytes.split_first_chunk() {
            Some((len, rest)) => (u64::from_be_bytes(*len), 1 << 16, rest),
            None => return Ok(None),
        },
        short => (u64::from(short), 0, bytes),
    };
    if len < least {
        return Err(Fault::protocol("length in more bytes than it needs"));
    }
    if len >> 63 != 0 {
        return Err(Fault::protocol("length of 2^63 or more"));
    }
    Ok(Some((len, rest)))
}
