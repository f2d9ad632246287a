//! Frames of a server: never masked, always whole (RFC 6455 §5.1).

use crate::copy;

use super::header::{COMPRESSED_BIT, CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Opcode};

/// Appends the header of a frame of a server whose payload, `len` bytes, the caller appends after it.
#[inline]
pub fn encode_header(opcode: Opcode, len: usize, out: &mut Vec<u8>) {
    header(opcode, true, false, len, out);
}

/// Appends a frame of a server.
#[inline]
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    encode_header(opcode, payload.len(), out);
    copy::append(payload, out);
}

/// Appends a frame of a server whose payload is what `write` appends.
pub fn encode_with(opcode: Opcode, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // Most frames that are written like this have a header of four bytes.
    const GUESS: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; GUESS]);
    write(out);
    let end = out.len();
    let len = end - start - GUESS;
    header(opcode, true, false, len, out);
    let mut bytes = [0; HEADER_BYTES_MAX];
    let size = out.len() - end;
    bytes[..size].copy_from_slice(&out[end..]);
    out.resize(end.max(start + size + len), 0);
    if size != GUESS {
        out.copy_within(start + GUESS..end, start + size);
        out.truncate(start + size + len);
    }
    out[start..start + size].copy_from_slice(&bytes[..size]);
}

/// Appends a frame of a server whose payload is compressed (RFC 7692 §6.1).
#[inline]
pub fn encode_compressed(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    encode(opcode, payload, out);
    out[start] |= COMPRESSED_BIT;
}

/// The two bytes that every header starts with, and the length in the fewest bytes (RFC 6455 §5.2).
#[inline]
pub(super) fn header(opcode: Opcode, fin: bool, masked: bool, len: usize, out: &mut Vec<u8>) {
    debug_assert!(
        !opcode.is_control() || (fin && len <= CONTROL_BYTES_MAX),
        "control frames are small and whole"
    );
    let first = opcode.bits() | if fin { 0x80 } else { 0 };
    let mask = if masked { 0x80 } else { 0 };
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => out.extend_from_slice(&[first, mask | len]),
        (_, Ok(len)) => {
            let len = len.to_be_bytes();
            out.extend_from_slice(&[first, mask | 126, len[0], len[1]]);
        }
        (_, Err(_)) => {
            out.extend_from_slice(&[first, mask | 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d2_d5_never_masked_and_lengths_in_the_fewest_bytes() {
        let cases: &[(usize, &[u8])] = &[
            (0, &[0x82, 0]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (255, &[0x82, 126, 0, 255]),
            (256, &[0x82, 126, 1, 0]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (1 << 40, &[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0]),
        ];
        for (len, expect) in cases {
            let mut out = Vec::new();
            encode_header(Opcode::Binary, *len, &mut out);
            assert_eq!(out, *expect, "{len}");
        }
    }

    #[test]
    fn d5_the_same_frame_whose_length_is_known_last() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let (mut out, mut expect) = (b"before".to_vec(), b"before".to_vec());
            encode_with(Opcode::Text, &mut out, |out| out.extend_from_slice(&payload));
            encode(Opcode::Text, &payload, &mut expect);
            assert_eq!(out, expect, "{len}");
        }
    }

    #[test]
    fn every_opcode() {
        for (opcode, first) in [
            (Opcode::Continuation, 0x80),
            (Opcode::Text, 0x81),
            (Opcode::Binary, 0x82),
            (Opcode::Close, 0x88),
            (Opcode::Ping, 0x89),
            (Opcode::Pong, 0x8a),
        ] {
            let mut out = vec![7];
            encode(opcode, b"hi", &mut out);
            assert_eq!(out, [7, first, 2, b'h', b'i']);
        }
    }
}
