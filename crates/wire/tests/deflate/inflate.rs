//! What comes in.

use moongate_wire::deflate::{Deflater, Inflater, Progress, compressed_bytes_max};
use proptest::prelude::*;

const MAX: usize = 1 << 20;

/// What `payload` inflates to, or the close code; the same whatever budget each step has.
fn inflate(payload: &[u8], max: usize) -> Result<Vec<u8>, u16> {
    let whole = inflate_by(payload, max, usize::MAX);
    for budget in [1, 7, 100, 65_536] {
        assert_eq!(inflate_by(payload, max, budget), whole, "G11: a budget of {budget}");
    }
    whole
}

fn inflate_by(payload: &[u8], max: usize, each: usize) -> Result<Vec<u8>, u16> {
    let mut inflater = Inflater::default();
    loop {
        let mut budget = each;
        match inflater.go_on(payload, max, &mut budget) {
            Ok(Progress::Whole) => return Ok(inflater.message().to_vec()),
            Ok(Progress::Begun) => assert_eq!(budget, 0),
            Err(fault) => return Err(fault.code),
        }
    }
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(Deflater::default().deflate(payload, 15, &mut out));
    out
}

#[test]
fn g7_g9_messages_and_what_is_none() {
    let check = |name: &str, payload: &[u8], expect: Result<&[u8], u16>| {
        assert_eq!(inflate(payload, MAX), expect.map(<[u8]>::to_vec), "{name}");
    };
    // RFC 7692 §7.2.3.
    check("G7 one fixed block", b"\xf2\x48\xcd\xc9\xc9\x07\x00", Ok(b"Hello"));
    check("G7 a stored block", b"\x00\x05\x00\xfa\xffHello\x00", Ok(b"Hello"));
    check("G7 BFINAL", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", Ok(b"Hello"));
    check("G7 two blocks", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", Ok(b"Hello"));
    check("G7 the empty message", b"\x00", Ok(b""));
    check("G7 the empty message, fixed", b"\x02\x00", Ok(b""));
    check("G7 nothing at all", b"", Ok(b""));
    check("G8 context of a message before", b"\xf2\x00\x11\x00\x00", Err(1007));
    check("G7 BFINAL and no more", b"\xf3\x48\xcd\xc9\xc9\x07\x00", Ok(b"Hello"));
    check(
        "G7 BFINAL in between",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00",
        Ok(b"HelloHello"),
    );
    // "Hello" in a last block, then the same again by reference to it: the window lives on (§7.2.1).
    check("G7 back across BFINAL", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x02\x13\x00\x00", Ok(b"HelloHello"));
    check("G9 block of type 3", b"\x06", Err(1007));
    check("G9 block of type 3, last", b"\x07\x00", Err(1007));
    check("G9 cut short", b"\xf2\x48\xcd", Err(1007));
    check("G9 stored block cut short", b"\x00\x05\x00\xfa\xffHel", Err(1007));
    check("G9 stored length wrong", b"\x00\x05\x00\xfb\xffHello\x00", Err(1007));
    check("G9 the tail not stripped", b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", Err(1007));
    check("G12 garbage after BFINAL", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x06\x77", Err(1007));
    check("G12 a header after BFINAL", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x05", Err(1007));
    check("G9 distance before the start", b"\x4b\x04\x42\x00", Err(1007));
}

#[test]
fn g10_a_message_may_have_so_many_bytes() {
    for len in [1000, 65_535, 65_536, 65_537, 300_000] {
        let payload = deflated(&vec![b'a'; len]);
        assert_eq!(inflate(&payload, len).map(|bytes| bytes.len()), Ok(len));
        assert_eq!(inflate(&payload, len + 1).map(|bytes| bytes.len()), Ok(len));
        assert_eq!(inflate(&payload, len - 1), Err(1009), "{len}");
    }
    assert_eq!(inflate(b"\x00", 0), Ok(Vec::new()));
    assert_eq!(inflate(&deflated(&[b'a'; 300]), 0), Err(1009));
}

/// `count` mebibytes of zeros, about a thousandth of that.
fn bomb(count: usize) -> Vec<u8> {
    let part = deflated(&vec![0; 1 << 20]);
    // Each part ends where a byte does once its tail is there, so parts follow one another.
    let mut all = Vec::new();
    for index in 0..count {
        all.extend_from_slice(&part);
        if index + 1 < count {
            all.extend_from_slice(&[0, 0, 0xff, 0xff]);
        }
    }
    all
}

#[test]
fn g10_bombs_end_at_the_limit_and_cost_no_more() {
    for megabytes in [6, 100, 1024] {
        let bomb = bomb(megabytes);
        let mut inflater = Inflater::default();
        let mut budget = usize::MAX;
        let fault = inflater.go_on(&bomb, MAX, &mut budget).expect_err("too big");
        assert_eq!(fault.code, 1009, "{megabytes} MiB");
        assert!(inflater.held() <= MAX + 1, "{} bytes", inflater.held());
        assert!(usize::MAX - budget < 2 * MAX, "the work ends there too");
        inflater.rest();
        assert!(inflater.held() <= 256 * 1024, "large memory is not kept");
    }
}

#[test]
fn g11_g12_a_step_does_no_more_than_its_budget() {
    let empty_stored = [b"\x00\x00\x00\xff\xff".repeat(200_000), b"\x00".to_vec()].concat();
    let empty_last = [b"\x03\x00".repeat(5000), b"\x00".to_vec()].concat();
    for (name, payload, len) in [
        ("G12 a million bytes of nothing", empty_stored, 0),
        ("G12 last blocks of nothing", empty_last, 0),
        ("G11 a long message", deflated(&vec![b'a'; MAX]), MAX),
    ] {
        const BUDGET: usize = 50_000;
        let mut inflater = Inflater::default();
        let mut steps = 1;
        let mut before = 0;
        while inflater.go_on(&payload, MAX, &mut BUDGET.clone()) == Ok(Progress::Begun) {
            assert!(inflater.message().len() - before <= BUDGET, "{name}");
            before = inflater.message().len();
            steps += 1;
        }
        assert_eq!(inflater.message().len(), len, "{name}");
        assert!(steps >= (len + payload.len()) / BUDGET, "{name}: {steps} steps");
        assert!(steps < 10_000, "{name}: it comes to an end");
    }
}

#[test]
fn g9_an_inflater_is_as_good_as_new_after_a_fault() {
    let mut inflater = Inflater::default();
    for (payload, expect) in [(&b"\x06"[..], 1007), (b"\xf2\x00\x11\x00\x00", 1007), (b"\xf2\x48\xcd", 1007)]
    {
        inflater.begin();
        assert_eq!(inflater.go_on(payload, MAX, &mut 1000).map_err(|fault| fault.code), Err(expect));
        inflater.begin();
        assert_eq!(inflater.go_on(b"\xf2\x48\xcd\xc9\xc9\x07\x00", MAX, &mut 1000), Ok(Progress::Whole));
        assert_eq!(inflater.message(), b"Hello");
    }
}

#[test]
fn what_cannot_be_compressed_may_be_a_little_larger() {
    for len in [0, 1, 100, 65_536, 1 << 24] {
        // The worst that a block of the fixed code does: 9 bits a byte, and its ends.
        assert!(compressed_bytes_max(len) >= (len * 9).div_ceil(8) + 2);
        // Stored blocks of no more than 256 bytes.
        assert!(compressed_bytes_max(len) > len + 5 * len.div_ceil(256));
    }
    assert_eq!(compressed_bytes_max(usize::MAX), usize::MAX);
}

proptest! {
    #[test]
    fn g9_g12_any_bytes_come_to_an_end(payload in prop::collection::vec(any::<u8>(), 0..600)) {
        let judged = crate::judge::inflate(&payload);
        match (inflate(&payload, MAX), judged) {
            (Ok(bytes), Some(judged)) => prop_assert!(bytes == judged.bytes),
            (Ok(_) | Err(1007), None) => {}
            (found, judged) => prop_assert!(false, "{found:?} {:?}", judged.map(|judged| judged.bytes)),
        }
    }

    #[test]
    fn g9_damage_is_found_or_harmless(flips in prop::collection::vec((0_usize..4000, 0_u8..8), 1..4)) {
        let text = "Damage does no harm: ".repeat(500);
        let mut payload = deflated(text.as_bytes());
        for (at, bit) in flips {
            let at = at % payload.len();
            payload[at] ^= 1 << bit;
        }
        let found = inflate(&payload, MAX);
        prop_assert!(matches!(found, Ok(_) | Err(1007 | 1009)), "{found:?}");
    }
}
