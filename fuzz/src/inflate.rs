//! Compressed messages: any bytes inflated within their bounds, and ours inflated by somebody else.

use moongate_wire::deflate::{Deflater, Inflater, Progress, window_needed};

use crate::puff::{End, Puff};
use crate::source::Source;

/// What an inflater keeps between messages at most, and one step's output: it may hold so much beyond a message.
const SLACK_BYTES: usize = 256 * 1024 + 64 * 1024;

/// Either a peer's compressed message, or a message of ours to be compressed.
pub fn inflate(data: &[u8]) {
    let mut source = Source::new(data);
    match source.below(2) {
        0 => inflate_any(source),
        _ => deflate_and_back(source),
    }
}

/// The same result however the work is cut up, never more than may be, and what RFC 1951 says it is.
fn inflate_any(mut source: Source<'_>) {
    let bytes_max = source.pick(&[1000, 0, 1, 300, 70_000, 200_000]);
    let budgets = [1, usize::from(source.byte()) + 1, 16 * (usize::from(source.byte()) + 1)];
    let payload = source.rest();
    let mut inflater = Inflater::default();
    let whole = inflate_by(&mut inflater, payload, bytes_max, usize::MAX);
    let scale = 1 + inflater.message().len() / 1000;
    for budget in budgets.map(|budget| budget * scale) {
        // The same inflater, as one of a shard goes from message to message.
        let parts = inflate_by(&mut inflater, payload, bytes_max, budget);
        assert!(parts.as_ref().ok() == whole.as_ref().ok(), "by {budget}");
    }
    let expect = reference(payload, bytes_max);
    match (whole, expect) {
        (Ok(made), Ok(expect)) => assert!(made == expect, "another message"),
        // What is broken right behind the limit may be noticed first.
        (Err(1007), Err(End::Full)) => assert_eq!(reference(payload, bytes_max + 300), Err(End::Broken)),
        (Err(code), Err(End::Full)) => assert_eq!(code, 1009),
        (Err(code), Err(_)) => assert_eq!(code, 1007),
        (ours, theirs) => panic!("{:?} but {:?}", ours.map(|made| made.len()), theirs.map(|made| made.len())),
    }
}

fn inflate_by(
    inflater: &mut Inflater,
    payload: &[u8],
    bytes_max: usize,
    budget: usize,
) -> Result<Vec<u8>, u16> {
    inflater.begin();
    // Each byte read and each byte made costs something, and so does each block that says it is the last.
    let steps_max = 2 * (payload.len() * 17 + bytes_max) + 64;
    for _ in 0..steps_max {
        let mut left = budget;
        let progress = inflater.go_on(payload, bytes_max, &mut left);
        assert!(inflater.held() <= 2 * (bytes_max + 1) + SLACK_BYTES, "{} held", inflater.held());
        assert!(inflater.message().len() <= bytes_max + 1, "never more than shows that it is too much");
        match progress.map_err(|fault| fault.code)? {
            Progress::Whole => return Ok(inflater.message().to_vec()),
            Progress::Begun => assert_eq!(left, 0, "it goes on while it may"),
        }
    }
    panic!("no end after {steps_max} steps");
}

/// RFC 7692 §7.2.2, with an empty last block behind the tail so that there is an end.
fn reference(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, End> {
    let mut made = Vec::new();
    if payload.is_empty() {
        return Ok(made);
    }
    let input = [payload, &[0, 0, 0xff, 0xff, 3, 0]].concat();
    let mut at = 0;
    loop {
        match Puff::new(&input[at..], &mut made, bytes_max).run() {
            End::Last(read) => at += read,
            end => return Err(end),
        }
        if at == payload.len() || at == input.len() {
            return Ok(made);
        }
        if at > payload.len() {
            return Err(End::Short);
        }
    }
}

/// A message, compressed for any window, comes back, and refers to no further than the window.
fn deflate_and_back(mut source: Source<'_>) {
    let window_bits = 9 + source.below(7) as u8;
    let message = unfold(source);
    let mut deflater = Deflater::default();
    let mut compressed = b"before".to_vec();
    if !deflater.deflate(&message, window_bits, &mut compressed) {
        assert_eq!(compressed, b"before");
        return;
    }
    let compressed = &compressed[6..];
    assert!(compressed.len() < message.len(), "or it is not worth it");
    let mut again = Vec::new();
    assert!(deflater.deflate(&message, window_bits, &mut again), "a compressor has no memory");
    assert_eq!(again, compressed);
    let needed = window_needed(message.len(), window_bits);
    again.clear();
    assert!(deflater.deflate(&message, needed, &mut again));
    assert!(again == compressed, "the window that is needed makes the same bytes");

    let mut inflater = Inflater::default();
    assert!(
        inflate_by(&mut inflater, compressed, message.len(), usize::MAX).is_ok_and(|made| made == message)
    );
    let input = [compressed, &[0, 0, 0xff, 0xff, 3, 0]].concat();
    let mut made = Vec::new();
    let mut puff = Puff::new(&input, &mut made, message.len());
    assert_eq!(puff.run(), End::Last(input.len()));
    assert!(puff.distance <= 1 << window_bits, "G2: {} back for {window_bits} bits", puff.distance);
    assert!(made == message);
}

/// A message of about 40,000 bytes at most from a few: what stands there, copies of it from anywhere before, and noise.
fn unfold(mut source: Source<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    while !source.is_empty() && message.len() < 40_000 {
        let length = 1 + source.below(256) * source.pick(&[1, 1, 16, 64]);
        match source.below(3) {
            0 => message.push(source.byte()),
            1 => {
                let back = 1 + source.below(256) * 256 + source.below(256);
                for _ in 0..length {
                    message.push(if back <= message.len() { message[message.len() - back] } else { 0 });
                }
            }
            _ => {
                let mut state = u32::from(source.byte()) | 1;
                for _ in 0..length {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    message.push((state >> 24) as u8);
                }
            }
        }
    }
    message
}
