//! The decoder of client frames: tables by line of the protocol checklist, each in one piece, byte by byte and cut in
//! two at every place.

use std::borrow::Cow;

use moongate_wire::frame::{
    Close, Decoder, Fault, Item, Limits, Opcode, encode, encode_close, encode_masked, reply_to_close,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragment_overhead: 64, deflate: false };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Something that came out of a decoder, and is compared.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Out {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>, String),
    Fault(u16),
}

/// A name, frames, and what comes out of them.
type Sequence = (&'static str, Vec<Vec<u8>>, Vec<Out>);

fn text(text: &str) -> Out {
    Out::Text(text.to_owned())
}

impl From<Item<'_>> for Out {
    fn from(item: Item<'_>) -> Out {
        match item {
            Item::Text(bytes) => Out::Text(String::from_utf8(bytes.into_owned()).expect("text is text")),
            Item::Binary(bytes) => Out::Binary(bytes.into_owned()),
            Item::Compressed(..) => unreachable!("not agreed on"),
            Item::Ping(bytes) => Out::Ping(bytes.into_owned()),
            Item::Pong => Out::Pong,
            Item::Close(Close { code, reason }) => Out::Close(code, reason.into_owned()),
        }
    }
}

/// All that comes out of `parts`, up to a Close or a fault; and the decoder as they left it.
fn decode(parts: &[&[u8]], limits: &Limits) -> (Vec<Out>, Decoder) {
    let (mut decoder, mut all) = (Decoder::default(), Vec::new());
    for part in parts {
        let mut input = part.to_vec();
        let mut at = 0;
        while at < input.len() {
            let step = match decoder.step(&mut input[at..], limits) {
                Ok(step) => step,
                Err(Fault { code, .. }) => {
                    all.push(Out::Fault(code));
                    return (all, decoder);
                }
            };
            assert!(step.item.is_some() || at + step.consumed == part.len(), "no item, so all is consumed");
            at += step.consumed;
            let closed = matches!(step.item, Some(Item::Close(_)));
            all.extend(step.item.map(Out::from));
            if closed {
                return (all, decoder);
            }
        }
    }
    (all, decoder)
}

/// `bytes` come to `expect` however they are cut (D11).
fn check_with(name: &str, limits: &Limits, bytes: &[u8], expect: &[Out]) {
    assert_eq!(decode(&[bytes], limits).0, expect, "{name}, in one piece");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(&single, limits).0, expect, "{name}, byte by byte");
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(decode(&[first, second], limits).0, expect, "{name}, cut at {cut}");
    }
}

fn check(name: &str, bytes: &[u8], expect: &[Out]) {
    check_with(name, &LIMITS, bytes, expect);
}

fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_masked(opcode, fin, KEY, payload, &mut out);
    out
}

fn whole(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frame(opcode, true, payload)
}

/// A masked header with anything in it, and a key of zeros.
fn raw(first: u8, length: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend_from_slice(length);
    out[1] |= 0x80;
    out.extend_from_slice(&[0; 4]);
    out
}

use Opcode::{Binary, Continuation, Ping, Pong, Text};

#[test]
fn d10_messages_of_every_length_form() {
    for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537] {
        let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
        let bytes = [whole(Binary, &payload), whole(Ping, b"")].concat();
        let expect = [Out::Binary(payload), Out::Ping(Vec::new())];
        assert_eq!(decode(&[&bytes], &LIMITS).0, expect, "{len}");
        for cut in (0..bytes.len().min(20)).chain([bytes.len() - 7, bytes.len() - 3]) {
            assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]], &LIMITS).0, expect, "{len}, cut at {cut}");
        }
    }
}

#[test]
fn d8_d10_d11_d13_sequences() {
    let cases: &[Sequence] = &[
        ("a message", vec![whole(Text, b"hello")], vec![text("hello")]),
        ("D10 an empty message", vec![whole(Text, b"")], vec![text("")]),
        (
            "several in one input",
            vec![whole(Text, b"one"), whole(Binary, b"\xff"), whole(Text, "drei €".as_bytes())],
            vec![text("one"), Out::Binary(vec![0xff]), text("drei €")],
        ),
        (
            "D10 fragments, some empty",
            vec![
                frame(Text, false, b""),
                frame(Continuation, false, b"he"),
                frame(Continuation, false, b""),
                frame(Continuation, true, b"llo"),
            ],
            vec![text("hello")],
        ),
        (
            "D10 fragments that are all empty",
            vec![frame(Binary, false, b""), frame(Continuation, true, b"")],
            vec![Out::Binary(Vec::new())],
        ),
        (
            "D8 a ping between fragments is answered before the message ends",
            vec![frame(Text, false, b"he"), whole(Ping, b"now"), frame(Continuation, true, b"llo")],
            vec![Out::Ping(b"now".to_vec()), text("hello")],
        ),
        (
            "D13 pongs between fragments are ignored",
            vec![
                frame(Binary, false, b"a"),
                whole(Pong, b"unasked"),
                frame(Continuation, false, b"b"),
                whole(Pong, b""),
                frame(Continuation, true, b"c"),
            ],
            vec![Out::Pong, Out::Pong, Out::Binary(b"abc".to_vec())],
        ),
        (
            "a message after a message in fragments",
            vec![frame(Binary, false, b"a"), frame(Continuation, true, b"b"), whole(Text, b"c")],
            vec![Out::Binary(b"ab".to_vec()), text("c")],
        ),
        (
            "D7 the longest ping",
            vec![whole(Ping, &[7; 125]), whole(Text, b"x")],
            vec![Out::Ping(vec![7; 125]), text("x")],
        ),
        (
            "E8 nothing after a Close",
            vec![whole(Opcode::Close, b"\x03\xe8bye"), whole(Text, b"late"), whole(Ping, b"late")],
            vec![Out::Close(Some(1000), "bye".to_owned())],
        ),
        (
            "E9 a Close inside a message",
            vec![
                frame(Text, false, b"he"),
                whole(Opcode::Close, b"\x03\xe8"),
                frame(Continuation, true, b"llo"),
            ],
            vec![Out::Close(Some(1000), String::new())],
        ),
        ("E1 a Close without a code", vec![whole(Opcode::Close, b"")], vec![Out::Close(None, String::new())]),
        ("E1 a Close of one byte", vec![whole(Opcode::Close, b"\x03")], vec![Out::Fault(1002)]),
        ("E2 a code that is never sent", vec![whole(Opcode::Close, b"\x03\xed")], vec![Out::Fault(1002)]),
        ("E4 a reason that is no text", vec![whole(Opcode::Close, b"\x03\xe8\xff")], vec![Out::Fault(1007)]),
        (
            "E4 the longest reason",
            vec![whole(Opcode::Close, &[&b"\x03\xe8"[..], &[b'r'; 123]].concat())],
            vec![Out::Close(Some(1000), "r".repeat(123))],
        ),
    ];
    for (name, frames, expect) in cases {
        check(name, &frames.concat(), expect);
    }
}

#[test]
fn d1_to_d9_what_is_refused_with_1002() {
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("D1 no mask".into(), vec![0x81, 0x00]),
        ("D1 no mask on a ping".into(), vec![0x89, 0x00]),
        ("D5 16 bits for 125".into(), raw(0x82, &[126, 0, 125])),
        ("D5 16 bits for 0".into(), raw(0x82, &[126, 0, 0])),
        ("D5 64 bits for 65,535".into(), raw(0x82, &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff])),
        ("D5 64 bits for 1".into(), raw(0x82, &[127, 0, 0, 0, 0, 0, 0, 0, 1])),
        ("D6 2^63".into(), raw(0x82, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0])),
        ("D6 2^64 - 1".into(), raw(0x82, &[127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("D9 continuation of nothing".into(), whole(Continuation, b"x")),
        (
            "D9 first fragment inside a message".into(),
            [frame(Text, false, b"a"), frame(Text, false, b"b")].concat(),
        ),
        ("D9 message inside a message".into(), [frame(Text, false, b"a"), whole(Binary, b"b")].concat()),
    ];
    for bits in 1..8_u8 {
        cases.push((format!("D3 reserved bits {bits}"), raw(0x81 | bits << 4, &[0])));
        cases.push((format!("D3 reserved bits {bits} on a ping"), raw(0x89 | bits << 4, &[0])));
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        cases.push((format!("D4 opcode {opcode:x}"), raw(0x80 | opcode, &[0])));
        cases.push((format!("D4 opcode {opcode:x} in fragments"), raw(opcode, &[0])));
    }
    for opcode in [0x8, 0x9, 0xa] {
        cases.push((format!("D7 opcode {opcode:x} in fragments"), raw(opcode, &[0])));
        cases.push((format!("D7 opcode {opcode:x} of 126 bytes"), raw(0x80 | opcode, &[126, 0, 126])));
        cases.push((
            format!("D7 opcode {opcode:x} of 65,536 bytes"),
            raw(0x80 | opcode, &[127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ));
    }
    for (name, bytes) in &cases {
        let before = [whole(Text, b"before"), whole(Ping, b"")].concat();
        let after = whole(Text, b"after");
        check(
            name,
            &[before, bytes.clone(), after].concat(),
            &[text("before"), Out::Ping(vec![]), Out::Fault(1002)],
        );
    }
    let after_continuation = [whole(Text, b"m"), whole(Continuation, b"x")].concat();
    check("D9 continuation after the end", &after_continuation, &[text("m"), Out::Fault(1002)]);
}

#[test]
fn d3_d4_d7_refused_by_the_first_byte_alone() {
    for first in [0xc1, 0xa1, 0x91, 0x83, 0x8b, 0x08, 0x09, 0x0a] {
        assert_eq!(decode(&[&[first]], &LIMITS).0, [Out::Fault(1002)], "{first:x}");
    }
}

#[test]
fn f1_f3_text_that_is_none() {
    let euro = "€".as_bytes();
    let cases: &[(&str, Vec<Vec<u8>>, Out)] = &[
        ("F1 whole", vec![whole(Text, b"a\xff")], Out::Fault(1007)),
        (
            "F1 a character across fragments",
            vec![frame(Text, false, &euro[..1]), frame(Continuation, true, &euro[1..])],
            text("€"),
        ),
        (
            "F1 a character across three fragments and a ping's neighbours",
            vec![
                frame(Text, false, &euro[..1]),
                frame(Continuation, false, &euro[1..2]),
                frame(Continuation, true, &euro[2..]),
            ],
            text("€"),
        ),
        ("F3 truncated in one frame", vec![whole(Text, &euro[..2])], Out::Fault(1007)),
        (
            "F3 truncated in the last fragment",
            vec![frame(Text, false, b"x"), frame(Continuation, true, &euro[..2])],
            Out::Fault(1007),
        ),
        (
            "F3 truncated, then an empty fragment",
            vec![frame(Text, false, &euro[..2]), frame(Continuation, true, b"")],
            Out::Fault(1007),
        ),
        ("F3 overlong", vec![whole(Text, b"\xc0\xaf")], Out::Fault(1007)),
        (
            "F3 a surrogate across fragments",
            vec![frame(Text, false, b"\xed"), frame(Continuation, true, b"\xa0\x80")],
            Out::Fault(1007),
        ),
        ("F3 past U+10FFFF", vec![whole(Text, b"\xf4\x90\x80\x80")], Out::Fault(1007)),
        ("F3 a non-character is text", vec![whole(Text, "\u{ffff}".as_bytes())], text("\u{ffff}")),
    ];
    for (name, frames, expect) in cases {
        check(name, &frames.concat(), std::slice::from_ref(expect));
    }
}

#[test]
fn f2_fails_inside_a_frame_and_a_message_that_have_not_arrived() {
    let valid = "κόσμε".as_bytes();
    // AB 6.4: the impossible byte comes in the second fragment, of which no more arrives.
    let first = frame(Text, false, valid);
    let second = whole(Continuation, b"\xf4\x90\x80\x80 and so on");
    let header = second.len() - b"\xf4\x90\x80\x80 and so on".len();
    for arrived in 0..second.len() {
        let (all, _) = decode(&[&first, &second[..arrived]], &LIMITS);
        let expect: &[Out] = if arrived >= header + 2 { &[Out::Fault(1007)] } else { &[] };
        assert_eq!(all, expect, "{arrived} bytes of the second fragment");
    }
    // The same inside one frame that announces more than arrives.
    let bytes = whole(Text, b"\xce\xba\xff and so on");
    assert_eq!(decode(&[&bytes[..8]], &LIMITS).0, []);
    assert_eq!(decode(&[&bytes[..9]], &LIMITS).0, [Out::Fault(1007)]);
}

#[test]
fn d6_k2_limits() {
    let limits = Limits { message_bytes_max: 1000, fragment_overhead: 100, deflate: false };
    let big = |first, len: u64| {
        let bytes = len.to_be_bytes();
        raw(first, &[127, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    };
    let fragments = |count: usize, payload: &[u8]| {
        let mut bytes = frame(Binary, false, payload);
        for _ in 1..count {
            bytes.extend(frame(Continuation, false, payload));
        }
        bytes
    };
    let cases: &[(&str, Vec<u8>, &[Out])] = &[
        ("the biggest message", whole(Binary, &[1; 1000]), &[Out::Binary(vec![1; 1000])]),
        ("one byte more", whole(Binary, &[1; 1001]), &[Out::Fault(1009)]),
        ("D6 2^63 - 1", big(0x82, (1 << 63) - 1), &[Out::Fault(1009)]),
        (
            "D6 2^63 - 1 as a later fragment",
            [frame(Text, false, b"a"), big(0x80, (1 << 63) - 1)].concat(),
            &[Out::Fault(1009)],
        ),
        ("D6 2^32", big(0x82, 1 << 32), &[Out::Fault(1009)]),
        (
            "the biggest message in fragments",
            [fragments(9, &[1; 100]), whole(Continuation, &[1; 100])].concat(),
            &[Out::Binary(vec![1; 1000])],
        ),
        (
            "fragments that are too much",
            [fragments(9, &[1; 111]), whole(Continuation, &[1; 2])].concat(),
            &[Out::Fault(1009)],
        ),
        (
            "K2 as many empty fragments as may be",
            [fragments(10, b""), whole(Continuation, b"")].concat(),
            &[Out::Binary(Vec::new())],
        ),
        ("K2 endless empty fragments", fragments(12, b""), &[Out::Fault(1009)]),
        (
            "K2 each message counts anew",
            [fragments(10, b""), whole(Continuation, b""), fragments(10, b""), whole(Continuation, b"")]
                .concat(),
            &[Out::Binary(Vec::new()), Out::Binary(Vec::new())],
        ),
        (
            "K2 control frames do not count",
            [
                fragments(10, b""),
                whole(Ping, &[1; 125]),
                whole(Ping, &[1; 125]),
                whole(Continuation, &[1; 1000]),
            ]
            .concat(),
            &[Out::Ping(vec![1; 125]), Out::Ping(vec![1; 125]), Out::Binary(vec![1; 1000])],
        ),
    ];
    for (name, bytes, expect) in cases {
        check_with(name, &limits, bytes, expect);
    }
    let no_data = Limits { message_bytes_max: 0, fragment_overhead: 1, deflate: false };
    check_with("nothing at all", &no_data, &whole(Text, b""), &[text("")]);
    check_with("nothing but", &no_data, &whole(Text, b"x"), &[Out::Fault(1009)]);
}

#[test]
fn o1_four_mebibytes_in_65536_fragments() {
    let limits = Limits { message_bytes_max: 16 << 20, fragment_overhead: 64, deflate: false };
    let part = [b'x'; 64];
    let mut bytes = frame(Text, false, &part);
    for _ in 1..65_535 {
        encode_masked(Continuation, false, KEY, &part, &mut bytes);
    }
    encode_masked(Continuation, true, KEY, &part, &mut bytes);
    let inputs: Vec<&[u8]> = bytes.chunks(2048).collect();
    assert_eq!(decode(&inputs, &limits).0, [text(&"x".repeat(4 << 20))]);
}

#[test]
fn what_lies_whole_in_the_input_is_not_copied() {
    let mut input =
        [whole(Text, b"one"), whole(Ping, b"two"), whole(Opcode::Close, b"\x03\xe8three")].concat();
    let range = input.as_ptr_range();
    let (mut decoder, mut at) = (Decoder::default(), 0);
    for expect in ["one", "two", "three"] {
        let step = decoder.step(&mut input[at..], &LIMITS).expect("no fault");
        at += step.consumed;
        let payload = match step.item {
            Some(Item::Text(Cow::Borrowed(payload)) | Item::Ping(Cow::Borrowed(payload))) => payload,
            Some(Item::Close(Close { reason: Cow::Borrowed(reason), .. })) => reason.as_bytes(),
            other => panic!("{other:?} is not borrowed"),
        };
        assert_eq!(payload, expect.as_bytes());
        assert!(range.contains(&payload.as_ptr()));
        assert!(decoder.between_messages());
        assert_eq!(decoder.held(), 0);
    }
}

#[test]
fn k2_memory_grows_by_what_arrives_and_goes_at_the_end() {
    assert!(size_of::<Decoder>() <= 16, "a decoder between messages is small");
    // One byte of a mebibyte, whole and as a fragment.
    for fin in [true, false] {
        let bytes = frame(Binary, fin, &vec![7; 1 << 20]);
        let (all, decoder) = decode(&[&bytes[..15]], &LIMITS);
        assert_eq!(all, []);
        assert!(!decoder.between_messages());
        assert!((1..1024).contains(&decoder.held()), "{} bytes for one", decoder.held());
    }
    // Half of it: at most double.
    let bytes = whole(Binary, &vec![7; 1 << 20]);
    let inputs: Vec<&[u8]> = bytes[..1 << 19].chunks(2048).collect();
    let (_, decoder) = decode(&inputs, &LIMITS);
    assert!(((1 << 19)..(1 << 20) + 1024).contains(&decoder.held()), "{}", decoder.held());
    // Everything; a fault; a Close in the middle (E9): nothing is left.
    let begun = frame(Text, false, &[b'x'; 5000]);
    for end in
        [whole(Continuation, b""), whole(Text, b""), whole(Opcode::Close, b""), whole(Opcode::Close, b"x")]
    {
        for cut in 0..end.len() {
            let (all, decoder) = decode(&[&begun, &end[..cut], &end[cut..]], &LIMITS);
            assert_eq!(all.len(), 1);
            assert_eq!((decoder.held(), decoder.between_messages()), (0, true), "{all:?}");
        }
    }
    // A header in two parts.
    for frame in [whole(Ping, b"x"), whole(Pong, b""), whole(Text, b"y")] {
        for cut in 1..frame.len() {
            let (_, decoder) = decode(&[&frame[..cut]], &LIMITS);
            assert!(!decoder.between_messages() && decoder.held() > 0);
            let (_, decoder) = decode(&[&frame[..cut], &frame[cut..]], &LIMITS);
            assert!(decoder.between_messages());
        }
    }
}

#[test]
fn e5_the_answer_to_a_close() {
    let reply = |payload: &[u8]| {
        let mut input = whole(Opcode::Close, payload);
        let mut out = Vec::new();
        match Decoder::default().step(&mut input, &LIMITS).expect("no fault").item {
            Some(Item::Close(close)) => reply_to_close(&close, &mut out),
            other => panic!("{other:?}"),
        }
        out
    };
    let close = |code| {
        let mut out = Vec::new();
        encode_close(code, "", &mut out);
        out
    };
    assert_eq!(reply(b""), [0x88, 0x00]);
    assert_eq!(reply(b"\x03\xe8"), close(1000));
    assert_eq!(reply(b"\x0b\xb8long"), close(3000));
}

#[test]
fn d1_a_servers_own_frame_is_refused() {
    let mut out = Vec::new();
    encode(Text, b"hello", &mut out);
    check("D1", &out, &[Out::Fault(1002)]);
}

/// A frame of a client that mostly keeps to the rules.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        4 => Just(Text),
        3 => Just(Binary),
        8 => Just(Continuation),
        2 => Just(Ping),
        1 => Just(Pong),
        1 => Just(Opcode::Close),
    ];
    let payload = prop_oneof![
        4 => "[a-z€𐍈]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(Just(b'x'), 120..300),
    ];
    (opcode, any::<bool>(), payload, any::<[u8; 4]>()).prop_map(|(opcode, fin, mut payload, key)| {
        if opcode.is_control() {
            payload.truncate(125);
        }
        let mut out = Vec::new();
        encode_masked(opcode, fin || opcode.is_control(), key, &payload, &mut out);
        out
    })
}

/// Several frames, now and then with a byte changed.
fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(any_frame(), 1..8), damage).prop_map(|(frames, damage)| {
        let mut bytes = frames.concat();
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn d11_the_same_for_every_split(bytes in any_frames(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let limits = Limits { message_bytes_max: 400, fragment_overhead: 100, deflate: false };
        let expect = decode(&[&bytes], &limits).0;
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(&decode(&parts, &limits).0, &expect);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&decode(&single, &limits).0, &expect);
    }
}
