//! The strict scan: section A of the checklist, as far as it can be decided before a head is parsed.
//! Every case runs whole, cut in two at every byte, and byte by byte.

use moongate_wire::head::{FIELDS_MAX, Fields, parse};
use moongate_wire::refusal::Reason;
use moongate_wire::scan::{HeadLimits, METHOD_BYTES_MAX, Scanner};

use crate::support::{lines, scan, scan_pieces};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 16 * 1024, target_bytes_max: 8192, fields_max: FIELDS_MAX };

#[test]
fn defects_have_their_reasons() {
    let check = |id: &str, bytes: &[u8], expect: Reason| {
        let refusal = scan(bytes, &LIMITS).expect_err(id);
        assert_eq!(refusal.reason, expect, "{id}: {:?}", String::from_utf8_lossy(bytes));
    };
    check("A2 lf-only", b"GET / HTTP/1.1\nHost: a\n\n", Reason::LoneLf);
    check("A2 LF in the field section", b"GET / HTTP/1.1\r\nHost: a\n\r\n", Reason::LoneLf);
    check("A2 LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", Reason::LoneLf);
    check("A2 LF first", b"\nGET / HTTP/1.1\r\n\r\n", Reason::LoneLf);
    check("A2 LF in a name", b"GET / HTTP/1.1\r\nHo\nst: a\r\n\r\n", Reason::LoneLf);
    check("A2 LF in a method", b"GE\nT / HTTP/1.1\r\n\r\n", Reason::LoneLf);
    check("A2 LF in a version", b"GET / HTTP\n/1.1\r\n\r\n", Reason::LoneLf);
    check("A2 HTTP/0.9 with LF", b"GET /\n", Reason::LoneLf);
    check("A3 bare-cr in a value", b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Reason::LoneCr);
    check("A3 CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Reason::LoneCr);
    check("A3 CR after the version", b"GET / HTTP/1.1\rHost: a\r\n\r\n", Reason::LoneCr);
    check("A3 CR at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\rX", Reason::LoneCr);
    check("A3 CR before the request line", b"\rGET / HTTP/1.1\r\n\r\n", Reason::LoneCr);
    check("A4 three empty lines", b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", Reason::EmptyLines);
    check("A5 lead-ws", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Reason::LeadingWhitespace);
    check("A5 lead-ws, a tab", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", Reason::LeadingWhitespace);
    check("A5 whitespace before the request line", b" GET / HTTP/1.1\r\n\r\n", Reason::BadRequestLine);
    check("A6 ws-before-colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Reason::SpaceBeforeColon);
    check("A6 a tab before the colon", b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Reason::SpaceBeforeColon);
    check("A7 obs-fold", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Reason::ObsFold);
    check("A7 obs-fold with a tab", b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", Reason::ObsFold);
    check("A7 obs-fold-conn", b"GET / HTTP/1.1\r\nConnection:\r\n Upgrade\r\n\r\n", Reason::ObsFold);
    check("A8 empty-name", b"GET / HTTP/1.1\r\n: a\r\n\r\n", Reason::BadFieldName);
    check("A8 no-colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n", Reason::BadFieldName);
    check("A8 a control byte in a name", b"GET / HTTP/1.1\r\nHo\x01st: a\r\n\r\n", Reason::BadFieldName);
    check("A8 8-bit name", b"GET / HTTP/1.1\r\nH\xf6st: a\r\n\r\n", Reason::BadFieldName);
    check("A8 a delimiter in a name", b"GET / HTTP/1.1\r\nHo(st: a\r\n\r\n", Reason::BadFieldName);
    check("A9 nul-value", b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", Reason::BadFieldValue);
    check("A9 ctl-value", b"GET / HTTP/1.1\r\nHost: a\x1bb\r\n\r\n", Reason::BadFieldValue);
    check("A9 DEL in a value", b"GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n", Reason::BadFieldValue);
    check("A11 target-space", b"GET /a b HTTP/1.1\r\n\r\n", Reason::BadRequestLine);
    check("A11 two spaces before the target", b"GET  / HTTP/1.1\r\n\r\n", Reason::BadRequestLine);
    check("A11 two spaces before the version", b"GET /  HTTP/1.1\r\n\r\n", Reason::BadRequestLine);
    check("A11 a space after the version", b"GET / HTTP/1.1 \r\n\r\n", Reason::BadRequestLine);
    check("A11 a tab for a space", b"GET\t/ HTTP/1.1\r\n\r\n", Reason::BadRequestLine);
    check("A11 no version", b"GET /\r\n\r\n", Reason::BadRequestLine);
    check("A11 no target", b"GET\r\n\r\n", Reason::BadRequestLine);
    check("A12 target-nul", b"GET /\0 HTTP/1.1\r\n\r\n", Reason::BadTarget);
    check("A12 target-8bit", b"GET /\xe9 HTTP/1.1\r\n\r\n", Reason::BadTarget);
    check("A12 a tab in the target", b"GET /\t HTTP/1.1\r\n\r\n", Reason::BadTarget);
    check("A12 DEL in the target", b"GET /\x7f HTTP/1.1\r\n\r\n", Reason::BadTarget);
    check("A13 no token", b"G(T / HTTP/1.1\r\n\r\n", Reason::BadMethod);
    check("A13 8-bit method", b"\x80\x2e\x01", Reason::BadMethod);
    check("A13 overlong method", &[b'A'; METHOD_BYTES_MAX + 1], Reason::MethodUnknown);
    check("A14 HTTP/2.0", b"GET / HTTP/2.0\r\n\r\n", Reason::VersionNotSupported);
    check("A14 HTTP/0.9", b"GET / HTTP/0.9\r\n\r\n", Reason::VersionNotSupported);
    check("A14 HTTP/1.1x", b"GET / HTTP/1.1x\r\n\r\n", Reason::BadVersion);
    check("A14 HTTP/1.", b"GET / HTTP/1.\r\n\r\n", Reason::BadVersion);
    check("A14 HTTP/1.10", b"GET / HTTP/1.10\r\n\r\n", Reason::BadVersion);
    check("A14 HTTP/x.1", b"GET / HTTP/x.1\r\n\r\n", Reason::BadVersion);
    check("A14 lower case", b"GET / Http/1.1\r\n\r\n", Reason::BadVersion);
    check("A32 tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason::TlsOnPlainPort);
    check("A32 one byte of tls-hello", b"\x16", Reason::TlsOnPlainPort);
    check("A32 h2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::Http2Preface);
    check("A32 the first line of h2-preface", b"PRI * HTTP/2.0\r", Reason::Http2Preface);
}

#[test]
fn right_heads_end_where_they_end() {
    let check = |id: &str, head: &[u8]| {
        assert_eq!(scan(head, &LIMITS), Ok(Some(head.len())), "{id}");
        assert_eq!(scan(&head[..head.len() - 1], &LIMITS), Ok(None), "{id}: not complete yet");
        // A31: what follows is not part of the head, whatever it is.
        let with_more = [head, b"\x82\x85\0\n\r GET / HTTP/9.9"].concat();
        assert_eq!(scan(&with_more, &LIMITS), Ok(Some(head.len())), "{id}: with more behind it");
    };
    check("A1 the shortest", b"GET / HTTP/1.1\r\n\r\n");
    check("A4 lead-crlf", b"\r\nGET / HTTP/1.1\r\n\r\n");
    check("A4 two empty lines", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    check("A8 every byte of a token", b"GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n");
    check("A9 tabs in a value", b"GET / HTTP/1.1\r\nX:\ta\tb\t\r\n\r\n");
    check("A9 an empty value", b"GET / HTTP/1.1\r\nX:\r\nY: \r\n\r\n");
    check("A10 8-bit values", b"GET / HTTP/1.1\r\nX: caf\xe9 \x80\xff\xc3\r\n\r\n");
    check("A11 all that is visible in a target", b"GET /!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~ HTTP/1.1\r\n\r\n");
    check("A13 the longest method looked at", b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.1\r\n\r\n");
    check("A14 HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n");
    check("A14 HTTP/1.2", b"GET / HTTP/1.2\r\n\r\n");
    check("A14 HTTP/1.9", b"GET / HTTP/1.9\r\n\r\n");
    check("A27 under_score", b"GET / HTTP/1.1\r\nunder_score: 1\r\n\r\n");
    check("A32 a method that begins like h2-preface", b"PRIX * HTTP/1.1\r\n\r\n");
}

#[test]
fn limits_are_exact() {
    let target = |length: usize| [b"GET /", &*vec![b'x'; length - 1], b" HTTP/1.1\r\n\r\n"].concat();
    let fields = |count: usize| [&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(count), b"\r\n"].concat();
    let sized = |length: usize| {
        let start = b"GET / HTTP/1.1\r\na: ";
        [&start[..], &vec![b'x'; length - start.len() - 4], b"\r\n\r\n"].concat()
    };
    let check = |id: &str, bytes: &[u8], limits: &HeadLimits, expect: Result<(), Reason>| {
        let found = scan(bytes, limits).map_err(|refusal| refusal.reason);
        assert_eq!(found, expect.map(|()| Some(bytes.len())), "{id}");
    };
    check("A19 8000 bytes work", &target(8000), &LIMITS, Ok(()));
    check("A19 the longest target", &target(8192), &LIMITS, Ok(()));
    check("A19 one byte more", &target(8193), &LIMITS, Err(Reason::TargetTooLong));
    check("A19 uri-9k", &target(9 * 1024), &LIMITS, Err(Reason::TargetTooLong));
    check("A19 larger than the head may be", &target(70_000), &LIMITS, Err(Reason::TargetTooLong));
    let small = HeadLimits { head_bytes_max: 1024, ..LIMITS };
    check("A19 only the head's limit is reached", &target(2000), &small, Err(Reason::TargetTooLong));
    check("A20 the largest head", &sized(16 * 1024), &LIMITS, Ok(()));
    check("A20 one byte more", &sized(16 * 1024 + 1), &LIMITS, Err(Reason::HeadTooLarge));
    check("A20 head-16k", &sized(16 * 1024 + 100), &LIMITS, Err(Reason::HeadTooLarge));
    check("A20 head-70k", &sized(70 * 1024), &LIMITS, Err(Reason::HeadTooLarge));
    check("A20 a hundred fields", &fields(100), &LIMITS, Ok(()));
    check("A20 one field more", &fields(101), &LIMITS, Err(Reason::TooManyFields));
    check("A20 hdr-150", &fields(150), &LIMITS, Err(Reason::TooManyFields));
    check("A20 hdr-3000", &fields(3000), &LIMITS, Err(Reason::TooManyFields));
    let many = HeadLimits { fields_max: 1000, ..LIMITS };
    check("A20 never more than there is room for", &fields(101), &many, Err(Reason::TooManyFields));
    let few = HeadLimits { fields_max: 2, ..LIMITS };
    check("A20 fewer by setting", &fields(2), &few, Ok(()));
    check("A20 fewer by setting, exceeded", &fields(3), &few, Err(Reason::TooManyFields));
}

/// A19, A20: the answer comes as soon as it is certain, not at the end of what is too long.
#[test]
fn limits_are_noticed_early() {
    let check = |bytes: &[u8], expect| {
        assert_eq!(scan(&bytes[..bytes.len() - 1], &LIMITS), Ok(None));
        assert_eq!(scan(bytes, &LIMITS).map_err(|refusal| refusal.reason), Err(expect));
    };
    check(&[&b"GET /"[..], &[b'x'; 8192]].concat(), Reason::TargetTooLong);
    check(&[&b"GET / HTTP/1.1\r\nx: "[..], &[b'x'; 16 * 1024 - 19]].concat(), Reason::HeadTooLarge);
    check(&[&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(100), b"a"].concat(), Reason::TooManyFields);
}

/// A26: a byte once looked at is not looked at again. Behind the scanner every byte becomes a NUL, which it would refuse.
#[test]
fn nothing_is_scanned_twice() {
    let limits = HeadLimits { head_bytes_max: 64 * 1024, ..LIMITS };
    let request_line = b"GET / HTTP/1.1\r\n";
    let head =
        [&request_line[..], &[b"X-Long: ", &*vec![b'v'; 630], b"\r\n"].concat().repeat(99), b"\r\n"].concat();
    assert!(head.len() > 63_000);
    let mut seen = head.clone();
    let mut scanner = Scanner::default();
    for end in 1..head.len() {
        assert_eq!(scanner.scan(&seen[..end], &limits), Ok(None));
        if end >= request_line.len() {
            seen[..end].fill(0);
        }
    }
    assert_eq!(scanner.scan(&seen, &limits), Ok(Some(head.len())));
}

/// A33: a `HEAD` request is answered without a body even when its head is at fault.
#[test]
fn refusals_know_the_method() {
    let check = |bytes: &[u8], expect| {
        let refusal = scan(bytes, &LIMITS).expect_err("a defect");
        assert_eq!(refusal.head_only, expect, "{:?}", String::from_utf8_lossy(bytes));
    };
    check(b"HEAD / HTTP/1.1\r\n : a\r\n\r\n", true);
    check(b"HEAD /\0", true);
    check(b"\r\nHEAD / HTTP/3.0\r\n", true);
    check(b"GET / HTTP/1.1\r\n : a\r\n\r\n", false);
    check(b"HEADS / HTTP/3.0\r\n", false);
}

/// A1: whatever one byte of a right head becomes, a head that passes the scanner passes `httparse` too, and all ways of
/// cutting it up agree.
#[test]
fn what_passes_here_passes_the_parser() {
    let head = lines(&["GET /topics/a?b=c HTTP/1.1", "Host: localhost:8080", "X-Y: caf\u{e9}\t z "]);
    let mut passed = 0;
    for at in 0..head.len() {
        for byte in 0..=255 {
            let mut changed = head.clone();
            changed[at] = byte;
            let whole = Scanner::default().scan(&changed, &LIMITS);
            assert_eq!(scan_pieces(&changed, 0..=changed.len(), &LIMITS), whole, "{byte:#x} at {at}");
            let Ok(Some(length)) = whole else { continue };
            passed += 1;
            let reason =
                parse(&mut changed[..length], &mut Fields::new()).err().map(|refusal| refusal.reason);
            let understood = [
                None,
                Some(Reason::MethodUnknown),
                Some(Reason::NoHost),
                Some(Reason::BadHost),
                Some(Reason::Fragment),
                Some(Reason::BadTargetForm),
            ];
            assert!(understood.contains(&reason), "{byte:#x} at {at}: {reason:?}");
        }
    }
    assert!(passed > 5000, "{passed}");
}
