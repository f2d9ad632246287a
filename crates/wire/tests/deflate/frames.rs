//! Compressed messages in frames: which frames may say so, and messages in fragments.

use std::borrow::Cow;

use moongate_wire::Kind;
use moongate_wire::deflate::compressed_bytes_max;
use moongate_wire::frame::{
    Decoder, Item, Limits, Opcode, ServerFrames, encode_compressed, encode_masked, encode_masked_compressed,
};

const LIMITS: Limits = Limits { message_bytes_max: 1000, fragment_overhead: 100, deflate: true };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

/// What comes out of `bytes`, however they are cut: items by name, and the code of the fault that ends them.
fn decode(bytes: &[u8], limits: &Limits) -> String {
    let whole = decode_parts(&[bytes], limits);
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(decode_parts(&[first, second], limits), whole, "D11: cut at {cut}");
    }
    let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode_parts(&bytewise, limits), whole, "D11: byte by byte");
    whole
}

fn decode_parts(parts: &[&[u8]], limits: &Limits) -> String {
    let (mut decoder, mut all) = (Decoder::default(), Vec::new());
    for part in parts {
        let mut input = part.to_vec();
        let mut at = 0;
        while at < input.len() {
            let step = match decoder.step(&mut input[at..], limits) {
                Ok(step) => step,
                Err(fault) => {
                    all.push(fault.code.to_string());
                    return all.join(" ");
                }
            };
            at += step.consumed;
            let shown = |payload: Cow<'_, [u8]>| payload.escape_ascii().to_string();
            all.extend(step.item.map(|item| match item {
                Item::Text(payload) => format!("text:{}", shown(payload)),
                Item::Binary(payload) => format!("binary:{}", shown(payload)),
                Item::Compressed(Kind::Text | Kind::Json, payload) => format!("ctext:{}", shown(payload)),
                Item::Compressed(Kind::Binary, payload) => format!("cbinary:{}", shown(payload)),
                Item::Ping(payload) => format!("ping:{}", shown(payload)),
                Item::Pong => "pong".to_owned(),
                Item::Close(_) => "close".to_owned(),
            }));
        }
    }
    assert!(decoder.between_messages() == (decoder.held() == 0));
    all.join(" ")
}

/// A masked frame with this first byte.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_masked(Opcode::Binary, true, KEY, payload, &mut out);
    out[0] = first;
    out
}

#[test]
fn d3_g6_which_frames_may_say_compressed() {
    let not_agreed = Limits { deflate: false, ..LIMITS };
    let hello = HELLO.escape_ascii().to_string();
    for (name, first, agreed, without) in [
        ("G6 text", 0xc1, format!("ctext:{hello}"), "1002".to_owned()),
        ("G6 binary", 0xc2, format!("cbinary:{hello}"), "1002".to_owned()),
        ("G15 agreed and not used", 0x82, format!("binary:{hello}"), format!("binary:{hello}")),
        ("D3 RSV2", 0xa2, "1002".to_owned(), "1002".to_owned()),
        ("D3 RSV3", 0x92, "1002".to_owned(), "1002".to_owned()),
        ("D3 RSV1 and RSV2", 0xe2, "1002".to_owned(), "1002".to_owned()),
        ("D3 all of them", 0xf1, "1002".to_owned(), "1002".to_owned()),
        ("G6 ping", 0xc9, "1002".to_owned(), "1002".to_owned()),
        ("G6 pong", 0xca, "1002".to_owned(), "1002".to_owned()),
        ("G6 close", 0xc8, "1002".to_owned(), "1002".to_owned()),
        ("D3 a reserved opcode", 0xc3, "1002".to_owned(), "1002".to_owned()),
    ] {
        let frame = raw(first, HELLO);
        assert_eq!(decode(&frame, &LIMITS), agreed, "{name}");
        assert_eq!(decode(&frame, &not_agreed), without, "{name}, not agreed on");
    }
    let in_between = [raw(0x41, b"\xf2\x48"), raw(0xc0, b"\xcd\xc9\xc9\x07\x00")].concat();
    assert_eq!(decode(&in_between, &LIMITS), "1002", "G6 continuation");
}

#[test]
fn d8_g6_fragments_with_pings_between_them() {
    let (first, rest) = HELLO.split_at(3);
    let (second, third) = rest.split_at(2);
    let mut bytes = Vec::new();
    encode_masked_compressed(Opcode::Text, false, KEY, first, &mut bytes);
    bytes.extend(raw(0x89, b"1"));
    bytes.extend(raw(0x00, second));
    bytes.extend(raw(0x00, b""));
    bytes.extend(raw(0x89, b"2"));
    bytes.extend(raw(0x80, third));
    // One that is not compressed after one that is.
    bytes.extend(raw(0x81, b"plain"));
    let hello = HELLO.escape_ascii();
    assert_eq!(decode(&bytes, &LIMITS), format!("ping:1 ping:2 ctext:{hello} text:plain"));
}

#[test]
fn f4_compressed_text_is_not_looked_at_before_it_is_inflated() {
    assert_eq!(decode(&raw(0xc1, b"\xff\xfe"), &LIMITS), "ctext:\\xff\\xfe");
    assert_eq!(decode(&raw(0x81, b"\xff\xfe"), &LIMITS), "1007");
}

#[test]
fn g10_compressed_bytes_are_bounded_before_they_are_inflated() {
    let most = vec![0; compressed_bytes_max(LIMITS.message_bytes_max)];
    let more = vec![0; most.len() + 1];
    let decode = |bytes: &[u8]| decode_parts(&[bytes], &LIMITS);
    assert!(decode(&raw(0xc2, &most)).starts_with("cbinary:"));
    assert_eq!(decode(&raw(0xc2, &more)), "1009");
    assert_eq!(decode(&[raw(0x42, &most), raw(0x80, b"x")].concat()), "1009", "in fragments");
    assert_eq!(decode(&raw(0x82, &most)), "1009", "an uncompressed one has no such room");
    let endless = [raw(0x42, b""), raw(0x00, b"").repeat(12)].concat();
    assert_eq!(decode(&endless), "1009", "K2: fragments count");
}

#[test]
fn a_client_hears_compressed_frames_only_if_it_agreed() {
    let mut bytes = Vec::new();
    encode_compressed(Opcode::Text, HELLO, &mut bytes);
    let mut frames = ServerFrames::with_deflate();
    frames.push(&bytes);
    let frame = frames.next_frame().expect("right").expect("whole");
    assert!(frame.compressed && frame.fin && frame.opcode == Opcode::Text && frame.payload == HELLO);
    let mut frames = ServerFrames::default();
    frames.push(&bytes);
    assert_eq!(frames.next_frame().map_err(|fault| fault.code), Err(1002));
}
