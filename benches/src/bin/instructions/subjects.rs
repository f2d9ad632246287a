//! The functions whose instructions are counted, each as it is called in the gateway. What they work on is on the heap, where
//! it is aligned in the same way wherever this is built.

use std::hint::black_box;

use moongate_benches::frames::{KEY, decode_all, masked};
use moongate_benches::shard::Shard;
use moongate_benches::{heads, shard};
use moongate_gate::Wheel;
use moongate_io::Time;
use moongate_lane::lane;
use moongate_wire::accept::Template;
use moongate_wire::decide::{Decision, decide};
use moongate_wire::deflate::{Deflater, Inflater, Progress};
use moongate_wire::frame::{Opcode, encode};
use moongate_wire::head::{Fields, parse};
use moongate_wire::scan::{HeadLimits, Scanner};
use moongate_wire::utf8::Utf8;
use moongate_wire::{Kind, event, mask};

/// A name, and what makes the thing to work on and then does the work so many times.
type Subject = (&'static str, fn(u64));

/// All of them. Names have no spaces.
pub(crate) const SUBJECTS: &[Subject] = &[
    ("head-of-a-browser", head),
    ("accept-key-and-101", accept),
    ("unmask-4-KiB", unmask),
    ("utf8-4-KiB-ascii", utf8_ascii),
    ("utf8-4-KiB-greek", utf8_greek),
    ("decode-16-texts-of-125-bytes", decode),
    ("encode-frame-of-125-bytes", encode_frame),
    ("encode-event-of-125-bytes", encode_event),
    ("deflate-1-KiB", deflate),
    ("inflate-1-KiB", inflate),
    ("publish-to-1000", publish),
    ("publish-16-in-16-ticks-to-1000", publish_in_ticks),
    ("chains-out-of-1000-outboxes", chains),
    ("lane-64-in-64-out", lane_in_and_out),
    ("wheel-64-set-and-a-look", wheel),
];

/// Scanned, parsed, decided.
fn head(times: u64) {
    let (policy, limits) = (heads::policy(), HeadLimits::default());
    let mut bytes = heads::BROWSER.as_bytes().to_vec();
    for _ in 0..times {
        let bytes = black_box(&mut bytes[..]);
        let end = Scanner::default().scan(bytes, &limits).expect("a right head");
        let mut fields = Fields::new();
        let head = parse(&mut bytes[..end.expect("a whole head")], &mut fields).expect("a right head");
        assert!(matches!(black_box(decide(&head, &policy)), Decision::WebSocket(_)));
    }
}

fn accept(times: u64) {
    let (template, mut out) = (Template::new(""), Vec::with_capacity(256));
    for _ in 0..times {
        out.clear();
        template.write(black_box(heads::KEY), None, None, &mut out);
        black_box(&out);
    }
}

fn unmask(times: u64) {
    let mut bytes = vec![b'x'; 4096];
    for _ in 0..times {
        mask::apply(black_box(&mut bytes), black_box(KEY), 0);
    }
}

fn utf8_ascii(times: u64) {
    utf8(times, "it carries frames, and a client asks to upgrade ");
}

fn utf8_greek(times: u64) {
    utf8(times, "ὁ μέγας κῆπος ἔχει πύλην τῆς σελήνης ");
}

fn utf8(times: u64, text: &str) {
    let text = text.repeat(4096 / text.len());
    for _ in 0..times {
        let mut utf8 = Utf8::default();
        assert!(utf8.push(black_box(text.as_bytes())).is_ok() && utf8.is_complete());
    }
}

/// As they come in one read.
fn decode(times: u64) {
    let mut input = masked(Opcode::Text, 125, 16);
    for _ in 0..times {
        assert_eq!(decode_all(black_box(&mut input), black_box), 16);
    }
}

fn encode_frame(times: u64) {
    let (payload, mut out) = (vec![b'x'; 125], Vec::with_capacity(256));
    for _ in 0..times {
        out.clear();
        encode(Opcode::Text, black_box(&payload), &mut out);
        black_box(&out);
    }
}

fn encode_event(times: u64) {
    let (payload, mut out) = (vec![b'x'; 125], Vec::with_capacity(256));
    for _ in 0..times {
        out.clear();
        event::encode(7, black_box(77), Kind::Text, black_box(&payload), &mut out);
        black_box(&out);
    }
}

/// One record after the other, as services write them.
fn records() -> Vec<u8> {
    let records = (0..14)
        .map(|id| format!("{{\"id\":{},\"type\":\"position\",\"x\":{},\"y\":{}}},", id * 37, id * 91, id));
    records.collect::<String>().repeat(2).into_bytes()[..1024].to_vec()
}

fn deflate(times: u64) {
    let (payload, mut deflater, mut out) = (records(), Deflater::default(), Vec::with_capacity(2048));
    for _ in 0..times {
        out.clear();
        assert!(deflater.deflate(black_box(&payload), 15, &mut out));
    }
}

fn inflate(times: u64) {
    let (mut compressed, mut inflater) = (Vec::new(), Inflater::default());
    assert!(Deflater::default().deflate(&records(), 15, &mut compressed));
    for _ in 0..times {
        inflater.begin();
        assert_eq!(
            inflater.go_on(black_box(&compressed), 4096, &mut usize::MAX.clone()),
            Ok(Progress::Whole)
        );
    }
}

/// Ordered, encoded, into every outbox, out of it for one send, and sent.
fn publish(times: u64) {
    let mut shard = Shard::new(1000);
    for _ in 0..times {
        shard.publish();
        shard.tick();
        assert_eq!(shard.send(), 1000 * (shard::PAYLOAD.len() + 4));
    }
}

/// What waits becomes a chain of 16.
fn publish_in_ticks(times: u64) {
    let mut shard = Shard::new(1000);
    for _ in 0..times {
        for _ in 0..16 {
            shard.publish();
            shard.tick();
        }
        assert_eq!(shard.send(), 16_000 * (shard::PAYLOAD.len() + 4));
    }
}

/// Without a topic: bytes of each connection's own.
fn chains(times: u64) {
    let mut shard = Shard::new(1000);
    for _ in 0..times {
        shard.answer_all();
        assert_eq!(shard.send(), 2000);
    }
}

fn lane_in_and_out(times: u64) {
    let (mut producer, mut consumer) = lane::<[u64; 8]>(1024);
    for _ in 0..times {
        for number in 0..64 {
            assert!(producer.push(black_box([number; 8])).is_ok());
        }
        assert_eq!(std::iter::from_fn(|| consumer.pop()).map(black_box).count(), 64);
    }
}

/// Of 1,000 timers 64 are set anew; some of the others are due, and are set anew too.
fn wheel(times: u64) {
    const LOOK_NANOS: u64 = 8_000_000;
    let (mut wheel, mut due) = (Wheel::new(Time::ZERO), Vec::new());
    let at = |look: u64| Time::from_nanos(look * LOOK_NANOS);
    (0..1000).for_each(|slot| wheel.set(slot, at(u64::from(slot) / 4)));
    for look in 1..=times {
        for number in 0..64 {
            wheel.set((look * 389 + number * 31) as u32 % 1000, at(look + 250));
        }
        assert!(!wheel.advance(at(look), 512, &mut due));
        due.drain(..).for_each(|slot| wheel.set(slot, at(look + 250)));
        black_box(wheel.next());
    }
}
