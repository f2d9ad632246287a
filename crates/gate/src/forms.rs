//! The forms in which subscribers get messages: WebSocket frames, plain or compressed, and events of an event stream.

use moongate_hub::{Encode, Form, Gap, Joined, Kind, Message, Name};
use moongate_wire::deflate::{self, Deflater, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use moongate_wire::{event, frame};

use crate::protocol::Subscribing;

/// One unmasked WebSocket frame per message.
pub const FRAMES: Form = Form(0);
/// One event of an event stream per message.
pub const EVENTS: Form = Form(1);
/// The first of the compressed forms.
const DEFLATED: Form = Form(2);

/// The last of them; after it come those of [`protocol`](crate::protocol).
pub(crate) const LAST_DEFLATED: Form = deflated(WINDOW_BITS_MAX);

/// One WebSocket frame per message, compressed for a window of `window_bits`, which is 9 to 15, where that makes it
/// smaller.
pub const fn deflated(window_bits: u8) -> Form {
    assert!(WINDOW_BITS_MIN <= window_bits && window_bits <= WINDOW_BITS_MAX, "an agreed window");
    Form(DEFLATED.0 + window_bits - WINDOW_BITS_MIN)
}

/// How many bytes one tick compresses; messages past that go out as they are, which is allowed at any time. It bounds
/// how long compressing holds the shard.
const DEFLATE_BUDGET: usize = 512 * 1024;

/// Writes all forms. A message is compressed once, for all who can inflate the same bytes.
#[derive(Debug)]
pub struct Forms {
    bytes_min: usize,
    deflater: Deflater,
    last: Last,
    budget: usize,
    pub(crate) counts: DeflateCounts,
    /// Who is to be told where a subscription begins.
    pub(crate) subscribing: Subscribing,
}

/// What was compressed last.
#[derive(Debug, Default)]
struct Last {
    /// The message by its epoch and offset, and the window it was compressed for; none for an echo.
    key: Option<(u64, u64, u8)>,
    /// Whether it got smaller, and so `bytes` is the payload to send.
    smaller: bool,
    bytes: Vec<u8>,
}

/// What compressing came to.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct DeflateCounts {
    pub(crate) messages: u64,
    /// Of those messages, before and after.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Messages that did not get smaller.
    pub(crate) not_smaller: u64,
    /// Messages that came when the tick's budget was used up.
    pub(crate) over_budget: u64,
}

impl Forms {
    /// Compresses messages of at least `bytes_min` bytes for those who agreed to it.
    pub fn new(bytes_min: usize) -> Forms {
        Forms {
            bytes_min,
            deflater: Deflater::default(),
            last: Last::default(),
            budget: DEFLATE_BUDGET,
            counts: DeflateCounts::default(),
            subscribing: Subscribing::default(),
        }
    }

    /// Begins a tick.
    pub(crate) fn begin(&mut self) {
        self.budget = DEFLATE_BUDGET;
    }

    /// Appends the frame of a message that goes to one connection alone.
    pub(crate) fn echo(
        &mut self,
        kind: Kind,
        payload: &[u8],
        agreed: Option<deflate::Agreed>,
        out: &mut Vec<u8>,
    ) {
        match agreed {
            Some(agreed) => self.compress(None, kind, payload, agreed.window_bits, out),
            None => frame::encode(opcode(kind), payload, out),
        }
    }

    fn compress(
        &mut self,
        place: Option<(u64, u64)>,
        kind: Kind,
        payload: &[u8],
        window_bits: u8,
        out: &mut Vec<u8>,
    ) {
        if payload.len() >= self.bytes_min {
            let window_bits = deflate::window_needed(payload.len(), window_bits);
            let key = place.map(|(epoch, offset)| (epoch, offset, window_bits));
            if key.is_none() || key != self.last.key {
                self.compress_now(payload, window_bits, key);
            }
            if self.last.smaller {
                return frame::encode_compressed(opcode(kind), &self.last.bytes, out);
            }
        }
        frame::encode(opcode(kind), payload, out);
    }

    fn compress_now(&mut self, payload: &[u8], window_bits: u8, key: Option<(u64, u64, u8)>) {
        self.last.key = key;
        self.last.smaller = false;
        self.last.bytes.clear();
        if self.budget == 0 {
            self.counts.over_budget += 1;
            return;
        }
        self.budget = self.budget.saturating_sub(payload.len());
        self.last.smaller = self.deflater.deflate(payload, window_bits, &mut self.last.bytes);
        if !self.last.smaller {
            self.counts.not_smaller += 1;
            return;
        }
        self.counts.messages += 1;
        self.counts.bytes_in += payload.len() as u64;
        self.counts.bytes_out += self.last.bytes.len() as u64;
    }
}

impl Encode for Forms {
    fn encode(&mut self, form: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        let Message { epoch, offset, kind, payload, .. } = *message;
        match form {
            FRAMES => frame::encode(opcode(kind), payload, out),
            EVENTS => event::encode(epoch, offset, wire_kind(kind), payload, out),
            Form(number) if number <= LAST_DEFLATED.0 => {
                let window_bits = number - DEFLATED.0 + WINDOW_BITS_MIN;
                self.compress(Some((epoch, offset)), kind, payload, window_bits, out);
            }
            form => self.tell(form, message, out),
        }
    }

    fn joined(&mut self, form: Form, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
        match form {
            // Who comes back is at the place it said, until it hears what came after it.
            EVENTS if joined.asked => {}
            EVENTS => event::place(joined.epoch, joined.offset, out),
            // Bare frames have no words.
            form if form <= LAST_DEFLATED => {}
            form => self.greet(form, name, joined, out),
        }
    }

    fn gap(&mut self, form: Form, gap: &Gap<'_>, out: &mut Vec<u8>) {
        match form {
            EVENTS => event::gap(gap.epoch, gap.from, gap.to, gap.previous_epoch, out),
            form if form <= LAST_DEFLATED => {}
            form => self.tell_gap(form, gap, out),
        }
    }
}

pub(crate) fn opcode(kind: Kind) -> frame::Opcode {
    match kind {
        Kind::Text | Kind::Json => frame::Opcode::Text,
        Kind::Binary => frame::Opcode::Binary,
    }
}

pub(crate) fn wire_kind(kind: Kind) -> moongate_wire::Kind {
    match kind {
        Kind::Text => moongate_wire::Kind::Text,
        Kind::Json => moongate_wire::Kind::Json,
        Kind::Binary => moongate_wire::Kind::Binary,
    }
}

pub(crate) fn hub_kind(kind: moongate_wire::Kind) -> Kind {
    match kind {
        moongate_wire::Kind::Text => Kind::Text,
        moongate_wire::Kind::Json => Kind::Json,
        moongate_wire::Kind::Binary => Kind::Binary,
    }
}

#[cfg(test)]
mod tests {
    use moongate_wire::frame::ServerFrames;

    use super::*;

    const EPOCH: u64 = 7;

    /// Encodes one message in each of `windows`, one after the other, as a home does; the frames.
    fn encode(forms: &mut Forms, offset: u64, payload: &[u8], windows: &[u8]) -> Vec<Vec<u8>> {
        let name = moongate_hub::HashKey::new([0; 16]).name("t");
        let message = Message { name: &name, epoch: EPOCH, offset, kind: Kind::Binary, payload };
        let encode = |window_bits: &u8| {
            let mut out = Vec::new();
            forms.encode(deflated(*window_bits), &message, &mut out);
            out
        };
        windows.iter().map(encode).collect()
    }

    fn is_compressed(frame: &[u8]) -> bool {
        let mut frames = ServerFrames::with_deflate();
        frames.push(frame);
        frames.next_frame().expect("a right frame").expect("a whole one").compressed
    }

    /// Text that stays worth compressing in every window.
    fn text(len: usize) -> Vec<u8> {
        b"moon gate, ".iter().copied().cycle().take(len).collect()
    }

    #[test]
    fn bare_frames_have_no_word_for_a_gap() {
        let mut forms = Forms::new(1);
        let name = moongate_hub::HashKey::new([0; 16]).name("t");
        let gap = Gap { name: &name, epoch: EPOCH, from: 1, to: 2, previous_epoch: None };
        for number in 0..=LAST_DEFLATED.0 {
            let mut out = Vec::new();
            forms.gap(Form(number), &gap, &mut out);
            assert_eq!(out.is_empty(), Form(number) != EVENTS, "{number}");
        }
    }

    #[test]
    fn g14_a_message_is_compressed_once_for_all_who_can_inflate_it() {
        for (len, times) in [(300, 1), (512, 1), (513, 2), (5000, 5), (40_000, 7)] {
            let mut forms = Forms::new(1);
            let frames = encode(&mut forms, 1, &text(len), &[9, 10, 11, 12, 13, 14, 15]);
            assert_eq!(forms.counts.messages, times, "{len} bytes");
            assert!(frames.iter().all(|frame| is_compressed(frame) && frame.len() < len));
        }
    }

    #[test]
    fn g14_what_was_compressed_is_used_for_no_other_message() {
        let mut forms = Forms::new(1);
        let first = encode(&mut forms, 1, &text(300), &[15]);
        let second = encode(&mut forms, 2, &text(301), &[15]);
        assert_ne!(first, second);
        let mut echo = Vec::new();
        let bytes = vec![b'e'; 300];
        forms.compress(None, Kind::Binary, &bytes, 15, &mut echo);
        forms.compress(None, Kind::Binary, &text(300), 15, &mut echo);
        assert!(echo.ends_with(&first[0]));
        assert_eq!(forms.counts.messages, 4);
    }

    #[test]
    fn g15_small_or_dense_messages_stay_as_they_are() {
        let mut forms = Forms::new(100);
        let dense: Vec<u8> = (0..=255).collect();
        for (payload, expect) in [(&text(99)[..], false), (&text(100), true), (&dense, false), (b"", false)] {
            let mut plain = Vec::new();
            frame::encode(frame::Opcode::Binary, payload, &mut plain);
            let frames = encode(&mut forms, payload.len() as u64, payload, &[9, 15]);
            assert!(frames.iter().all(|frame| is_compressed(frame) == expect && (expect || *frame == plain)));
        }
        assert_eq!(
            (forms.counts.messages, forms.counts.not_smaller),
            (1, 1),
            "and dense ones are tried once"
        );
    }

    #[test]
    fn k8_one_tick_compresses_only_so_much() {
        let mut forms = Forms::new(1);
        let payload = text(100_000);
        let offsets = 1..=10;
        let compressed = |forms: &mut Forms| {
            let each =
                offsets.clone().map(|offset| is_compressed(&encode(forms, offset, &payload, &[15])[0]));
            each.filter(|compressed| *compressed).count()
        };
        assert_eq!(compressed(&mut forms), DEFLATE_BUDGET.div_ceil(100_000));
        assert_eq!(forms.counts.over_budget, 10 - 6);
        forms.begin();
        assert_eq!(compressed(&mut forms), 6);
    }
}
