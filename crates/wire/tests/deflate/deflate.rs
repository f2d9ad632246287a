//! What goes out.

use moongate_wire::deflate::{Deflater, Inflater, Progress, window_needed};
use proptest::prelude::*;

use crate::judge;

/// Bytes that say something again and again, from near and from far.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => (0_usize..70_000, 3_usize..600).prop_map(|(back, len)| Part::Again { back, len }),
        2 => prop::collection::vec(any::<u8>(), 1..400).prop_map(Part::New),
        1 => (any::<u8>(), 1_usize..3000).prop_map(|(byte, len)| Part::New(vec![byte; len])),
    ];
    prop::collection::vec(part, 1..120).prop_map(|parts| {
        let mut bytes = Vec::new();
        for part in parts {
            match part {
                Part::New(new) => bytes.extend_from_slice(&new),
                Part::Again { back, len } => {
                    let from = bytes.len().saturating_sub(back);
                    let to = bytes.len().min(from + len);
                    bytes.extend_from_within(from..to);
                }
            }
        }
        bytes
    })
}

#[derive(Clone, Debug)]
enum Part {
    New(Vec<u8>),
    Again { back: usize, len: usize },
}

/// Compresses `payload` and checks that whoever agreed on `window_bits` can read it. Returns what was sent.
fn check(deflater: &mut Deflater, payload: &[u8], window_bits: u8) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    if !deflater.deflate(payload, window_bits, &mut out) {
        assert_eq!(out, b"before", "nothing is left behind");
        return None;
    }
    let sent = out.split_off(6);
    assert!(sent.len() < payload.len(), "G15: compressed only where that is smaller");
    let judged = judge::inflate(&sent).expect("right");
    assert!(judged.bytes == payload, "G7: the tail, put back, ends the message");
    let window = 1 << window_bits;
    assert!(judged.distance_max <= window, "G2: {} back in a window of {window}", judged.distance_max);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.go_on(&sent, payload.len(), &mut usize::MAX.clone()), Ok(Progress::Whole));
    assert!(inflater.message() == payload);
    Some(sent)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn g2_g4_no_window_is_exceeded_and_no_context_is_kept(payloads in prop::collection::vec(repetitive(), 1..3)) {
        let mut deflater = Deflater::default();
        for payload in &payloads {
            for window_bits in 9..=15 {
                let sent = check(&mut deflater, payload, window_bits);
                // G14: whoever needs the same window gets the same bytes, whatever was compressed before.
                let fresh = check(&mut Deflater::default(), payload, window_needed(payload.len(), window_bits));
                prop_assert!(sent == fresh);
            }
        }
    }
}

#[test]
fn g14_the_window_a_message_needs() {
    for (len, window_bits, expect) in [
        (0, 15, 9),
        (1, 15, 9),
        (512, 15, 9),
        (513, 15, 10),
        (1024, 15, 10),
        (1025, 15, 11),
        (32768, 15, 15),
        (32769, 15, 15),
        (1 << 40, 15, 15),
        (512, 9, 9),
        (513, 9, 9),
        (5000, 12, 12),
        (5000, 13, 13),
        (5000, 14, 13),
    ] {
        assert_eq!(window_needed(len, window_bits), expect, "{len} bytes, {window_bits} bits");
    }
}

#[test]
fn g2_far_repetitions_are_used_only_where_the_window_reaches() {
    // The second half repeats the first, 20,000 bytes back.
    let mut random = 1_u32;
    let half: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    })
    .take(20_000)
    .collect();
    let payload = [half.clone(), half].concat();
    let mut deflater = Deflater::default();
    for window_bits in 9..=14 {
        assert_eq!(check(&mut deflater, &payload, window_bits), None, "{window_bits} bits");
    }
    assert!(check(&mut deflater, &payload, 15).is_some_and(|sent| sent.len() < 25_000));
}

#[test]
fn g15_what_does_not_get_smaller_stays_as_it_is() {
    let mut deflater = Deflater::default();
    let every_byte: Vec<u8> = (0..=255).collect();
    for payload in [&b""[..], b"a", b"ab", b"hello", &every_byte] {
        assert_eq!(check(&mut deflater, payload, 15), None);
    }
    assert!(check(&mut deflater, &[b'x'; 100], 9).is_some(), "the compressor is as good as new after that");
}
