//! Both directions as a client sees them: for tests, benchmarks and load.

use super::header::{COMPRESSED_BIT, Fault, Header, Opcode, Sender};
use super::{code, encode};
use crate::{copy, mask};

/// Appends a frame of a client whose message, which it begins, is compressed: `payload` is compressed bytes, or the
/// first part of them. See [`encode_masked`].
pub fn encode_masked_compressed(opcode: Opcode, fin: bool, mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    encode_masked(opcode, fin, mask, payload, out);
    out[start] |= COMPRESSED_BIT;
}

/// Appends a frame of a client. `mask` must be unpredictable where the network is not one's own (RFC 6455 §10.3).
pub fn encode_masked(opcode: Opcode, fin: bool, mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    encode::header(opcode, fin, true, payload.len(), out);
    out.extend_from_slice(&mask);
    let start = out.len();
    copy::append(payload, out);
    mask::apply(&mut out[start..], mask, 0);
}

/// One frame of a server.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ServerFrame<'a> {
    /// What it is.
    pub opcode: Opcode,
    /// Whether it ends its message.
    pub fin: bool,
    /// Whether its message is compressed.
    pub compressed: bool,
    /// Not checked: text may be no text.
    pub payload: &'a [u8],
}

/// Cuts what a server sends into frames, and refuses what a server must not send (RFC 6455 §5).
#[derive(Default, Debug)]
pub struct ServerFrames {
    /// Bytes received; those before `start` were handed out.
    received: Vec<u8>,
    start: usize,
    /// Whether a message has begun and not ended.
    in_message: bool,
    may_compress: bool,
}

impl ServerFrames {
    /// For a connection that agreed on permessage-deflate.
    pub fn with_deflate() -> ServerFrames {
        ServerFrames { may_compress: true, ..ServerFrames::default() }
    }

    /// Takes the next bytes from the server.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.drain(..self.start);
        self.start = 0;
        self.received.extend_from_slice(bytes);
    }

    /// The next frame that is all there.
    pub fn next_frame(&mut self) -> Result<Option<ServerFrame<'_>>, Fault> {
        let bytes = &self.received[self.start..];
        let header = Header::parse(bytes, Sender::Server, self.may_compress)?;
        let Some(Header { opcode, fin, compressed, len, size, .. }) = header else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(|_| Fault { code: code::TOO_BIG, reason: "frame too big" })?;
        if bytes.len() - size < len {
            return Ok(None);
        }
        if !opcode.is_control() {
            if (opcode == Opcode::Continuation) != self.in_message {
                return Err(Fault::protocol("frames of a message out of order"));
            }
            self.in_message = !fin;
        }
        let at = self.start + size;
        self.start = at + len;
        Ok(Some(ServerFrame { opcode, fin, compressed, payload: &self.received[at..at + len] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_own_masked_frame() {
        let mut out = Vec::new();
        encode_masked(Opcode::Text, true, [0x37, 0xfa, 0x21, 0x3d], b"Hello", &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    /// All frames of `bytes`, or the code they end with.
    fn read(parts: &[&[u8]]) -> Result<Vec<(Opcode, bool, Vec<u8>)>, u16> {
        let (mut frames, mut all) = (ServerFrames::default(), Vec::new());
        for part in parts {
            frames.push(part);
            while let Some(frame) = frames.next_frame().map_err(|fault| fault.code)? {
                all.push((frame.opcode, frame.fin, frame.payload.to_vec()));
            }
        }
        Ok(all)
    }

    #[test]
    fn d11_frames_of_a_server_however_they_are_cut() {
        let mut bytes = Vec::new();
        let long = vec![b'x'; 300];
        super::super::encode(Opcode::Text, b"hello", &mut bytes);
        super::super::encode(Opcode::Binary, &long, &mut bytes);
        bytes.extend_from_slice(&[0x01, 1, b'a', 0x89, 0, 0x80, 1, b'b']);
        let expect = vec![
            (Opcode::Text, true, b"hello".to_vec()),
            (Opcode::Binary, true, long),
            (Opcode::Text, false, b"a".to_vec()),
            (Opcode::Ping, true, Vec::new()),
            (Opcode::Continuation, true, b"b".to_vec()),
        ];
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(read(&[first, second]).as_ref(), Ok(&expect), "cut at {cut}");
        }
    }

    #[test]
    fn what_a_server_must_not_send() {
        let cases: &[(&str, &[u8])] = &[
            ("D2 masked", &[0x81, 0x80, 0, 0, 0, 0]),
            ("D3 reserved bit", &[0xc1, 0]),
            ("D4 reserved opcode", &[0x83, 0]),
            ("D5 length not minimal", &[0x81, 126, 0, 125]),
            ("D6 length of 2^63", &[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            ("D7 long ping", &[0x89, 126]),
            ("D9 continuation of nothing", &[0x80, 0]),
            ("D16 message inside a message", &[0x01, 0, 0x81, 0]),
        ];
        for (name, bytes) in cases {
            assert_eq!(read(&[bytes]), Err(1002), "{name}");
        }
    }
}
