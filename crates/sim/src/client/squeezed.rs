//! Those who do not know how to behave with compressed messages (docs/protocol.md G).

use std::time::Duration;

use moongate_wire::frame::{Opcode, encode_masked, encode_masked_compressed};

use super::deflate::{MALFORMED, Packer, empty_blocks_max, pack};
use super::http::handshake;
use super::scripted::{Expect, Scripted, Step};
use crate::rng::Rng;

const MASK: [u8; 4] = [5, 6, 7, 8];

/// How much larger than allowed a bomb is.
const BOMB_TIMES: usize = 8;

fn upgrade(path: &str, offer: &str) -> Step {
    Step::Say(handshake(path, &format!("Sec-WebSocket-Extensions: {offer}\r\n")))
}

fn squeezed(opcode: Opcode, fin: bool, payload: &[u8]) -> Step {
    let mut out = Vec::new();
    encode_masked_compressed(opcode, fin, MASK, payload, &mut out);
    Step::Say(out)
}

fn plain(opcode: Opcode, fin: bool, payload: &[u8]) -> Step {
    let mut out = Vec::new();
    encode_masked(opcode, fin, MASK, payload, &mut out);
    Step::Say(out)
}

/// One of them, where compression is enabled.
pub fn rude_squeezed(topic: &str, message_bytes_max: usize, rng: &mut Rng) -> Scripted {
    let topic_path = format!("/topics/{topic}");
    let path = if rng.chance(30) { "/echo" } else { &topic_path };
    let bomb = |rng: &mut Rng| {
        let bytes = message_bytes_max + 1 + rng.below(message_bytes_max * BOMB_TIMES);
        Packer::with(15, 9).pack(&vec![b'0'; bytes])
    };
    let (name, code, mut steps) = match rng.below(14) {
        0 => {
            let offer = rng.pick(MALFORMED);
            return Scripted::new("B23 malformed offer", Expect::Status(400), vec![upgrade(path, offer)]);
        }
        1 | 2 => ("G10 bomb", 1009, vec![squeezed(Opcode::Text, true, &bomb(rng))]),
        3 => {
            let bomb = bomb(rng);
            let (first, rest) = bomb.split_at(rng.below(bomb.len()));
            let (second, third) = rest.split_at(rng.below(rest.len()));
            let steps = vec![
                squeezed(Opcode::Binary, false, first),
                plain(Opcode::Ping, true, b"tick"),
                plain(Opcode::Continuation, false, second),
                plain(Opcode::Continuation, true, third),
            ];
            ("G10 bomb in parts", 1009, steps)
        }
        4 => {
            let endless = vec![0; message_bytes_max + message_bytes_max / 8 + 65];
            ("G12 too much to read", 1009, vec![squeezed(Opcode::Binary, true, &endless)])
        }
        5 => {
            let mut bytes: Vec<u8> =
                (0..rng.below(message_bytes_max.min(300))).map(|_| rng.draw() as u8).collect();
            // There is no third kind of block.
            bytes.insert(0, 0x06);
            ("G9 garbage", 1007, vec![squeezed(Opcode::Binary, true, &bytes)])
        }
        6 => {
            let whole = Packer::with(15, 6).pack(b"a message that does not come to its end");
            let part = &whole[..rng.between(whole.len() / 2, whole.len() - 2)];
            ("G9 ends inside a block", 1007, vec![squeezed(Opcode::Text, true, part)])
        }
        7 => {
            // Nothing in it repeats, so only the second time there is something to refer to.
            let message: Vec<u8> = (0..message_bytes_max.min(200) as u8).collect();
            let mut packer = Packer::with(15, 9);
            let both = [packer.pack(&message), packer.pack(&message)];
            let steps = both.iter().map(|payload| squeezed(Opcode::Binary, true, payload)).collect();
            ("G8 keeps context", 1007, steps)
        }
        8 => {
            let opcode = rng.pick(&[Opcode::Ping, Opcode::Pong, Opcode::Close]);
            ("G6 compressed control frame", 1002, vec![squeezed(opcode, true, b"")])
        }
        9 => {
            let steps = vec![squeezed(Opcode::Text, false, b""), squeezed(Opcode::Continuation, true, b"\0")];
            ("G6 RSV1 on a continuation", 1002, steps)
        }
        10 => {
            let offer = rng.pick(&["permessage-deflate; server_max_window_bits=8", "x-other"]);
            let message = pack(b"not agreed", 0, rng);
            let steps = vec![upgrade(path, offer), squeezed(Opcode::Text, true, &message)];
            return Scripted::new("G6 RSV1 where nothing is agreed", Expect::Close(1002), steps);
        }
        11 => {
            let text = rng.pick::<&[u8]>(&[b"\xff\xfe", b"cut \xe9\x97", b"\xed\xa0\x80"]);
            ("F4 no text once inflated", 1007, vec![squeezed(Opcode::Text, true, &pack(text, 0, rng))])
        }
        12 => {
            // As much work as can be, over and over, and then it breaks off.
            let nothing = pack(b"", empty_blocks_max(8, message_bytes_max), rng);
            let steps = (0..rng.between(1, 6)).map(|_| squeezed(Opcode::Binary, true, &nothing));
            let mut steps: Vec<Step> = steps.chain([squeezed(Opcode::Text, true, b"\x06")]).collect();
            steps.push(Step::Wait(Duration::from_millis(1)));
            ("G12 work for nothing, then garbage", 1007, steps)
        }
        _ => {
            let mut steps =
                vec![upgrade(path, "permessage-deflate"), squeezed(Opcode::Text, true, &bomb(rng))];
            steps.push(Step::Wait(rng.millis(0, 3)));
            steps.push([Step::Reset, Step::Vanish, Step::HalfClose][rng.below(3)].clone());
            return Scripted::new("G10 bomb, and gone", Expect::End, steps);
        }
    };
    steps.insert(0, upgrade(path, "permessage-deflate; client_max_window_bits"));
    Scripted::new(name, Expect::Close(code), steps)
}
