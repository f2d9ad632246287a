//! permessage-deflate as clients do it (RFC 7692): offers of all kinds, and every way of compressing that is allowed.

use std::fmt::Write as _;

use moongate_wire::deflate::{Deflater, WINDOW_BITS_MAX, window_needed};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use crate::rng::Rng;

/// What is cut off behind a compressed message, and put back (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A block of no bytes. It makes nothing, and reading it is work all the same.
const EMPTY_BLOCK: [u8; 5] = [0x00, 0x00, 0x00, 0xff, 0xff];

/// How much is inflated at a time.
const PIECE_BYTES: usize = 4096;

/// Offers that nobody can take (G1, G2): well-formed, and to be declined.
const DECLINED: &[&str] = &[
    "permessage-deflate; server_max_window_bits=8",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=09",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; client_max_window_bits=7",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; unheard_of",
    "permessage-bzip2; level=\"9\"",
    "x-webkit-deflate-frame",
];

/// Offers that are none (B23).
pub(super) const MALFORMED: &[&str] = &[
    "permessage-deflate;",
    "permessage-deflate; =9",
    "permessage-deflate; server_max_window_bits=",
    "permessage-deflate; server_max_window_bits=\"\"",
    "permessage-deflate; server_max_window_bits=\"1",
    "permessage-deflate server_no_context_takeover",
    ", ,",
];

/// What a WebSocket offers, and what has to come of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// Lines of its head.
    pub(super) lines: String,
    /// What must be agreed; none if nothing may be.
    pub(super) agreed: Option<Agreed>,
}

/// What has to be agreed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Agreed {
    /// The window the server is asked to keep to, in bits, if it is asked.
    window_bits: Option<u8>,
}

impl Offer {
    /// Some offers, to a server that takes none unless it is `enabled`.
    pub fn draw(enabled: bool, rng: &mut Rng) -> Offer {
        let mut offers: Vec<String> = Vec::new();
        while rng.chance(25) {
            offers.push(rng.pick(DECLINED).to_owned());
        }
        let mut agreed = None;
        if offers.is_empty() || rng.chance(85) {
            let (offer, first) = takeable(rng);
            offers.push(offer);
            agreed = Some(first).filter(|_| enabled);
        }
        while rng.chance(25) {
            // Only the first that can be taken is.
            offers.push(if agreed.is_some() { takeable(rng).0 } else { rng.pick(DECLINED).to_owned() });
        }
        let mut lines = String::new();
        for offer in offers {
            if lines.is_empty() || rng.chance(30) {
                lines.push_str(if lines.is_empty() { "" } else { "\r\n" });
                lines.push_str("Sec-WebSocket-Extensions: ");
            } else {
                lines.push_str(rng.pick(&[", ", ",", " ,, "]));
            }
            lines.push_str(&offer);
        }
        lines.push_str("\r\n");
        Offer { lines, agreed }
    }

    /// What is wrong with the field of the 101 that says what is agreed (G4).
    pub(super) fn judge(&self, answer: Option<&str>) -> Result<(), String> {
        let expect = self.agreed.map(|agreed| {
            let mut expect =
                String::from("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
            if let Some(bits) = agreed.window_bits {
                let _ = write!(expect, "; server_max_window_bits={bits}");
            }
            expect
        });
        if expect.as_deref() == answer {
            return Ok(());
        }
        Err(format!("{:?} was answered {answer:?}", self.lines))
    }
}

impl Agreed {
    /// The window that what the server sends must fit.
    pub(super) fn window_bits(self) -> u8 {
        self.window_bits.unwrap_or(WINDOW_BITS_MAX)
    }
}

/// An offer that can be taken, and what is agreed if it is.
fn takeable(rng: &mut Rng) -> (String, Agreed) {
    let mut parameters: Vec<String> = Vec::new();
    let bits = rng.chance(60).then(|| rng.between(9, 15) as u8);
    if let Some(bits) = bits {
        let quote = rng.pick(&["", "\""]);
        parameters.push(format!("server_max_window_bits={quote}{bits}{quote}"));
    }
    for flag in ["server_no_context_takeover", "client_no_context_takeover"] {
        if rng.chance(30) {
            parameters.push(flag.to_owned());
        }
    }
    if rng.chance(60) {
        let value = rng.pick(&["", "=8", "=9", "=12", "=15"]);
        parameters.push(format!("client_max_window_bits{value}"));
    }
    rng.shuffle(&mut parameters);
    parameters.insert(0, String::from("permessage-deflate"));
    (parameters.join(rng.pick(&["; ", ";", " ; "])), Agreed { window_bits: bits })
}

/// Compresses messages, one after the other.
pub(super) struct Packer(Deflate);

impl Packer {
    /// With any window and any effort.
    pub(super) fn new(rng: &mut Rng) -> Packer {
        Packer::with(rng.between(9, 15) as i32, rng.between(0, 9) as i32)
    }

    /// With this window in bits and this effort.
    pub(super) fn with(window_bits: i32, level: i32) -> Packer {
        let config = DeflateConfig { window_bits: -window_bits, ..DeflateConfig::new(level) };
        Packer(Deflate::new_with_config(config))
    }

    /// Compresses one message. The next one may refer to it: nothing is forgotten.
    pub(super) fn pack(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.run(message, DeflateFlush::SyncFlush, &mut out);
        cut_tail(out)
    }

    /// Compresses the last message in any way: in several blocks, with a last block that says that it is the last, or
    /// with one that does not (RFC 7692 §7.2.3).
    fn pack_anyhow(&mut self, message: &[u8], rng: &mut Rng) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), message);
        while rng.chance(15) && !rest.is_empty() {
            let (first, after) = rest.split_at(rng.between(1, rest.len()));
            self.run(first, DeflateFlush::SyncFlush, &mut out);
            rest = after;
        }
        if rng.chance(15) {
            self.run(rest, DeflateFlush::Finish, &mut out);
            out.push(0);
            return out;
        }
        if !rest.is_empty() || out.is_empty() {
            self.run(rest, DeflateFlush::SyncFlush, &mut out);
        }
        cut_tail(out)
    }

    fn run(&mut self, bytes: &[u8], flush: DeflateFlush, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + bytes.len() * 2 + 1000, 0);
        let (read, made) = (self.0.total_in(), self.0.total_out());
        self.0.compress(bytes, &mut out[start..], flush).expect("there is room for it all");
        assert_eq!((self.0.total_in() - read) as usize, bytes.len(), "there is room for it all");
        out.truncate(start + (self.0.total_out() - made) as usize);
    }
}

fn cut_tail(mut out: Vec<u8>) -> Vec<u8> {
    assert!(out.ends_with(&TAIL), "a flush ends with it");
    out.truncate(out.len() - TAIL.len());
    out
}

/// A message compressed in any way that is allowed, behind so many blocks of nothing.
pub(super) fn pack(message: &[u8], empty_blocks: usize, rng: &mut Rng) -> Vec<u8> {
    let mut out = EMPTY_BLOCK.repeat(empty_blocks);
    out.extend_from_slice(&Packer::new(rng).pack_anyhow(message, rng));
    out
}

/// How many blocks of nothing, at most, fit beside a compressed message of so many bytes that may have `bytes_max`.
pub(super) fn empty_blocks_max(packed_len: usize, bytes_max: usize) -> usize {
    bytes_max.saturating_sub(packed_len) / EMPTY_BLOCK.len()
}

/// Reads what the server compresses.
#[derive(Default)]
pub(super) struct Unpacker {
    /// What the server's own compressor makes of a message for one window is what has to come: whether that keeps to
    /// its window is another test's matter, but here it shows whether it is the right one.
    again: Deflater,
}

impl Unpacker {
    /// Inflates a message compressed for the window of `window_bits`, or says what is wrong with it.
    pub(super) fn unpack(&mut self, payload: &[u8], window_bits: u8) -> Result<Vec<u8>, &'static str> {
        let message = inflate(payload)?;
        let mut expect = Vec::new();
        let window_bits = window_needed(message.len(), window_bits);
        if !self.again.deflate(&message, window_bits, &mut expect) {
            return Err("G15: compressed, and not smaller for it");
        }
        if expect == payload { Ok(message) } else { Err("G2: compressed for another window") }
    }
}

fn inflate(payload: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut stream = Inflate::new(false, WINDOW_BITS_MAX);
    let input = [payload, &TAIL].concat();
    let mut message = Vec::new();
    loop {
        let (read, made) = (stream.total_in() as usize, stream.total_out() as usize);
        message.resize(made + PIECE_BYTES, 0);
        let status = stream
            .decompress(&input[read..], &mut message[made..], InflateFlush::NoFlush)
            .map_err(|_| "G8: a compressed message that does not inflate by itself")?;
        message.truncate(stream.total_out() as usize);
        if status == Status::StreamEnd {
            return Ok(message);
        }
        if message.len() == made && stream.total_in() as usize == read {
            let whole = read == input.len();
            return if whole { Ok(message) } else { Err("a compressed message that ends inside a block") };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that repeat after so many.
    fn repeating(after: usize, len: usize) -> Vec<u8> {
        let mut rng = Rng::new(after as u64);
        let unit: Vec<u8> = (0..after).map(|_| rng.draw() as u8).collect();
        unit.into_iter().cycle().take(len).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let mut rng = Rng::new(1);
        for seed in 0..500 {
            let message = repeating(1 + seed, rng.below(2000));
            let blocks = rng.below(3);
            let packed = pack(&message, blocks, &mut rng);
            assert_eq!(inflate(&packed).as_ref(), Ok(&message), "{seed}");
        }
    }

    #[test]
    fn whoever_is_sent_another_window_s_form_notices() {
        let (mut server, mut client) = (Deflater::default(), Unpacker::default());
        let message = repeating(700, 20_000);
        for (sent, agreed, fine) in [(9, 9, true), (15, 15, true), (15, 9, false), (10, 9, false)] {
            let mut packed = Vec::new();
            server.deflate(&message, sent, &mut packed);
            assert_eq!(client.unpack(&packed, agreed).is_ok(), fine, "{sent} for {agreed}");
        }
        let small = Packer::with(15, 0).pack(b"no smaller");
        assert!(client.unpack(&small, 15).is_err());
    }

    #[test]
    fn what_wire_reads_is_what_was_meant() {
        use moongate_wire::deflate::{Inflater, Progress};
        let mut rng = Rng::new(2);
        for len in 0..200 {
            let message = repeating(7, len);
            let packed = pack(&message, len % 4, &mut rng);
            let mut inflater = Inflater::default();
            let progress = inflater.go_on(&packed, 200, &mut 1_000_000);
            assert!(matches!(progress, Ok(Progress::Whole)), "{len}");
            assert_eq!(inflater.message(), message);
        }
    }

    #[test]
    fn an_answer_that_was_not_asked_for_is_noticed() {
        let mut rng = Rng::new(3);
        for _ in 0..100 {
            let offer = Offer::draw(true, &mut rng);
            assert!(offer.judge(Some("permessage-deflate")).is_err());
            assert_eq!(offer.judge(None).is_ok(), offer.agreed.is_none());
            assert_eq!(Offer::draw(false, &mut rng).judge(None), Ok(()));
        }
    }
}
