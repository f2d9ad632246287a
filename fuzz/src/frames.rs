//! Frames of a client, whole and in pieces, against a decoder that reads them as the RFC tells it.

use moongate_wire::Kind;
use moongate_wire::deflate::compressed_bytes_max;
use moongate_wire::frame::{Decoder, Item, Limits, Opcode, ServerFrames, encode, reply_to_close};

use crate::source::Source;

/// Bytes besides the payload that a decoder may hold: the state of a frame and a message, a header, a vector's first room.
const STATE_BYTES_MAX: usize = 512;

/// What a decoder brought, and the code of the Close it ends with if it does.
#[derive(PartialEq, Eq, Debug, Default)]
struct Read {
    items: Vec<Heard>,
    fault: Option<u16>,
}

/// An [`Item`] that owns what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Heard {
    Message { kind: Kind, compressed: bool, payload: Vec<u8> },
    Ping(Vec<u8>),
    Pong,
    Close { code: Option<u16>, reason: Vec<u8> },
}

/// Any frames, within any limits.
pub fn frames(data: &[u8]) {
    let mut source = Source::new(data);
    let limits = Limits {
        message_bytes_max: source.pick(&[64, 0, 1, 125, 200, 1000, 70_000, usize::MAX]),
        fragment_overhead: source.pick(&[16, 1, 64]),
        deflate: source.below(2) == 1,
    };
    let cuts = source.cuts();
    let wire = source.rest();

    let (whole, fault) = decode(wire, [wire.len()], &limits);
    let pieces = decode(wire, cuts.ends(wire.len()), &limits);
    assert_eq!((&whole, &fault), (&pieces.0, &pieces.1), "D11: whole and in pieces");
    let single = decode(wire, 1..=wire.len(), &limits);
    assert_eq!((&whole, &fault), (&single.0, &single.1), "D11: whole and byte by byte");
    assert_eq!(whole, reference(wire, &limits), "as the RFC tells it");
    whole.items.iter().for_each(check_reply);
}

/// What the decoder makes of `wire`, arriving up to each of `ends`, and the words of its fault.
fn decode(
    wire: &[u8],
    ends: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> (Read, Option<&'static str>) {
    let mut decoder = Decoder::default();
    let mut read = Read::default();
    let mut fault = None;
    let (mut start, mut since_whole) = (0, 0);
    'reading: for end in ends {
        let mut piece = wire[start..end].to_vec();
        start = end;
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            let (untouched, length) = (rest.to_vec(), rest.len());
            let consumed = match decoder.step(rest, limits) {
                Ok(step) => {
                    assert!(
                        step.item.is_some() || step.consumed == length,
                        "nothing is left without an item"
                    );
                    read.items.extend(step.item.map(own));
                    step.consumed
                }
                Err(found) => {
                    read.fault = Some(found.code);
                    fault = Some(found.reason);
                    break 'reading;
                }
            };
            assert_eq!(rest[consumed..], untouched[consumed..], "what follows is as it came");
            if matches!(read.items.last(), Some(Heard::Close { .. })) {
                break 'reading;
            }
            since_whole = if decoder.between_messages() { 0 } else { since_whole + consumed };
            let room = if since_whole == 0 { 0 } else { 2 * since_whole + STATE_BYTES_MAX };
            assert!(decoder.held() <= room, "{} held for {since_whole} bytes", decoder.held());
            rest = &mut rest[consumed..];
        }
    }
    if fault.is_some() || matches!(read.items.last(), Some(Heard::Close { .. })) {
        assert_eq!(decoder.held(), 0, "nothing is kept for a peer that is not listened to");
    }
    (read, fault)
}

fn own(item: Item<'_>) -> Heard {
    match item {
        Item::Text(text) => {
            assert!(str::from_utf8(&text).is_ok(), "text is text");
            Heard::Message { kind: Kind::Text, compressed: false, payload: text.into_owned() }
        }
        Item::Binary(bytes) => {
            Heard::Message { kind: Kind::Binary, compressed: false, payload: bytes.into_owned() }
        }
        Item::Compressed(kind, bytes) => {
            Heard::Message { kind, compressed: true, payload: bytes.into_owned() }
        }
        Item::Ping(payload) => Heard::Ping(payload.into_owned()),
        Item::Pong => Heard::Pong,
        Item::Close(close) => {
            Heard::Close { code: close.code, reason: close.reason.into_owned().into_bytes() }
        }
    }
}

/// What would be answered is a frame that a client takes: echo, pong, close.
fn check_reply(heard: &Heard) {
    let mut out = Vec::new();
    let (expect, payload) = match heard {
        Heard::Message { compressed: true, .. } | Heard::Pong => return,
        Heard::Message { kind: Kind::Text | Kind::Json, payload, .. } => (Opcode::Text, payload),
        Heard::Message { kind: Kind::Binary, payload, .. } => (Opcode::Binary, payload),
        Heard::Ping(payload) => (Opcode::Pong, payload),
        Heard::Close { code, reason } => {
            let reason = String::from_utf8_lossy(reason);
            reply_to_close(&moongate_wire::frame::Close { code: *code, reason }, &mut out);
            let mut frames = ServerFrames::default();
            frames.push(&out);
            let reply = frames.next_frame().expect("a valid frame").expect("a whole frame");
            assert_eq!(reply.opcode, Opcode::Close);
            let echoed = reply.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            assert_eq!(echoed, code.map(|code| if code == 1010 { 1000 } else { code }), "E5");
            return;
        }
    };
    encode(expect, payload, &mut out);
    let mut frames = ServerFrames::default();
    frames.push(&out);
    let frame = frames.next_frame().expect("a valid frame").expect("a whole frame");
    assert_eq!((frame.opcode, frame.fin, frame.payload), (expect, true, &payload[..]));
}

/// A message that has begun: what it is, its bytes so far, how many its frames announced, how many fragments followed.
struct Begun {
    kind: Kind,
    compressed: bool,
    payload: Vec<u8>,
    announced: u64,
    fragments: usize,
}

/// RFC 6455 §5 and RFC 7692 §6, read from the top.
fn reference(wire: &[u8], limits: &Limits) -> Read {
    let mut read = Read::default();
    read.fault = reference_frames(wire, limits, &mut read.items).err();
    read
}

fn reference_frames(wire: &[u8], limits: &Limits, items: &mut Vec<Heard>) -> Result<(), u16> {
    let mut rest = wire;
    let mut message: Option<Begun> = None;
    loop {
        let Some(&first) = rest.first() else { return Ok(()) };
        let (fin, bits, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let control = opcode >= 8;
        let compressed = bits == 0x40;
        if !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10) || (control && !fin) {
            return Err(1002);
        }
        if bits != 0 && !(compressed && limits.deflate && matches!(opcode, 1 | 2)) {
            return Err(1002);
        }
        let Some(&second) = rest.get(1) else { return Ok(()) };
        if second & 0x80 == 0 || (control && second & 0x7f > 125) {
            return Err(1002);
        }
        let extra = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(digits) = rest.get(2..2 + extra) else { return Ok(()) };
        let length = match extra {
            0 => u64::from(second & 0x7f),
            _ => digits.iter().fold(0, |length, digit| length << 8 | u64::from(*digit)),
        };
        if (extra == 2 && length < 126) || (extra == 8 && length < 65_536) || length >= 1 << 63 {
            return Err(1002);
        }
        let Some(key) = rest.get(2 + extra..6 + extra) else { return Ok(()) };
        let payload = &rest[6 + extra..];
        let arrived = payload.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let unmasked: Vec<u8> =
            payload[..arrived].iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        let whole = arrived as u64 == length;
        rest = &payload[arrived..];

        if control {
            if !whole {
                return Ok(());
            }
            match opcode {
                9 => items.push(Heard::Ping(unmasked)),
                10 => items.push(Heard::Pong),
                _ => {
                    items.push(reference_close(&unmasked)?);
                    return Ok(());
                }
            }
            continue;
        }

        let mut begun = match (opcode, message.take()) {
            (0, Some(mut begun)) => {
                begun.fragments += 1;
                begun
            }
            (0, None) | (_, Some(_)) => return Err(1002),
            (_, None) => {
                let kind = if opcode == 1 { Kind::Text } else { Kind::Binary };
                Begun { kind, compressed, payload: Vec::new(), announced: 0, fragments: 0 }
            }
        };
        begun.announced = begun.announced.saturating_add(length);
        let bytes_max = match begun.compressed {
            true => compressed_bytes_max(limits.message_bytes_max),
            false => limits.message_bytes_max,
        };
        if begun.fragments.saturating_mul(limits.fragment_overhead) > limits.message_bytes_max
            || begun.announced > bytes_max as u64
        {
            return Err(1009);
        }
        begun.payload.extend(unmasked);
        let last = whole && fin;
        if begun.kind == Kind::Text && !begun.compressed {
            match str::from_utf8(&begun.payload) {
                Err(error) if last || error.error_len().is_some() => return Err(1007),
                _ => {}
            }
        }
        if last {
            let Begun { kind, compressed, payload, .. } = begun;
            items.push(Heard::Message { kind, compressed, payload });
        } else {
            message = Some(begun);
        }
    }
}

/// RFC 6455 §5.5.1 and §7.4.
fn reference_close(payload: &[u8]) -> Result<Heard, u16> {
    let (code, reason) = match payload {
        [] => return Ok(Heard::Close { code: None, reason: Vec::new() }),
        [_] => return Err(1002),
        [high, low, reason @ ..] => (u16::from(*high) << 8 | u16::from(*low), reason),
    };
    let defined = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    if !defined.contains(&code) && !(3000..5000).contains(&code) {
        return Err(1002);
    }
    if str::from_utf8(reason).is_err() {
        return Err(1007);
    }
    Ok(Heard::Close { code: Some(code), reason: reason.to_vec() })
}
