//! Masking: payload bytes XOR a repeating key of four (RFC 6455 §5.3).

/// Bytes per step: four machine words, which compilers turn into one or two vector instructions.
const STEP_BYTES: usize = 32;

/// Masks or unmasks `bytes`, which start `offset` bytes into their frame's payload: byte `i` of a payload meets key byte
/// `i` mod 4, wherever in memory it lies and however much of the payload came before.
pub fn apply(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let key: [u8; 4] = std::array::from_fn(|at| key[offset.wrapping_add(at) % 4]);
    let half = u32::from_ne_bytes(key);
    // The same in both halves, so it does not matter which comes first in memory.
    let word = u64::from(half) << 32 | u64::from(half);
    let (steps, rest) = bytes.as_chunks_mut::<STEP_BYTES>();
    for step in steps {
        apply_words(step.as_chunks_mut().0, word);
    }
    // Small messages are the common ones: what is left goes by words and only then by bytes.
    let (words, rest) = rest.as_chunks_mut();
    apply_words(words, word);
    let (halves, rest) = rest.as_chunks_mut();
    for bytes in halves {
        *bytes = (u32::from_ne_bytes(*bytes) ^ half).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[inline]
fn apply_words(words: &mut [[u8; 8]], key: u64) {
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ key).to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// D14, word for word.
    fn reference(bytes: &mut [u8], key: [u8; 4], offset: usize) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[(offset + at) % 4];
        }
    }

    fn check(bytes: &[u8], key: [u8; 4], start: usize, offset: usize) {
        let (mut fast, mut slow) = (bytes.to_vec(), bytes.to_vec());
        apply(&mut fast[start..], key, offset);
        reference(&mut slow[start..], key, offset);
        assert_eq!(fast, slow, "key {key:?}, from {start}, offset {offset}");
    }

    #[test]
    fn d14_every_length_alignment_and_rotation() {
        let bytes: Vec<u8> = (0..=255).cycle().take(160).collect();
        for start in 0..32 {
            for end in start..bytes.len() {
                for offset in 0..4 {
                    check(&bytes[..end], [0x12, 0x9a, 0xff, 0x00], start, offset);
                }
            }
        }
    }

    #[test]
    fn d14_the_rfcs_own_example() {
        // RFC 6455 §5.7: a masked "Hello".
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut bytes, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&bytes, b"Hello");
    }

    proptest! {
        #[test]
        fn d14_same_as_byte_by_byte(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            key: [u8; 4],
            start in 0_usize..64,
            offset in 0_usize..1 << 40,
        ) {
            check(&bytes, key, start.min(bytes.len()), offset);
        }

        #[test]
        fn d14_a_payload_in_two_parts_is_one_payload(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            cut in 0_usize..200,
        ) {
            let cut = cut.min(bytes.len());
            let (mut whole, mut parts) = (bytes.clone(), bytes);
            apply(&mut whole, key, 0);
            let (first, second) = parts.split_at_mut(cut);
            apply(first, key, 0);
            apply(second, key, cut);
            prop_assert_eq!(whole, parts);
        }
    }
}
