//! Frames of a client.

use moongate_wire::frame::{Decoder, Limits, Opcode, encode_masked};

/// A masking key that makes ASCII of ASCII: so frames that were unmasked in place are frames still, and decode again.
pub const KEY: [u8; 4] = [0x37, 0x7a, 0x21, 0x3d];

/// How much a message may be.
pub const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragment_overhead: 64, deflate: false };

/// `count` messages of `len` letters, end to end.
pub fn masked(opcode: Opcode, len: usize, count: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    for _ in 0..count {
        encode_masked(opcode, true, KEY, &vec![b'x'; len], &mut frames);
    }
    frames
}

/// Decodes whole messages that lie end to end, and hands each item's presence to `seen`. Returns how many there were.
///
/// # Panics
///
/// If they are no right frames.
pub fn decode_all(mut input: &mut [u8], mut seen: impl FnMut(bool) -> bool) -> usize {
    let (mut decoder, mut items) = (Decoder::default(), 0);
    while !input.is_empty() {
        let step = decoder.step(input, &LIMITS).expect("right frames");
        let consumed = step.consumed;
        items += usize::from(seen(step.item.is_some()));
        input = &mut input[consumed..];
    }
    items
}
