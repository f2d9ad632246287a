//! Bodies on their way through: out of one framing and into another, cut up anyhow (docs/protocol.md H9).

use moongate_wire::upstream::BodyRelay;
use moongate_wire::upstream::Verdict;

use crate::support::{answered, lines, pass};

const TABLE: &str = "/a tunnel app:1 http=pass";

/// The relay of a request with these fields.
fn of_request(fields: &[&str]) -> BodyRelay {
    let mut head = vec!["POST /a HTTP/1.1", "Host: a"];
    head.extend(fields);
    pass(TABLE, &lines(&head), "192.0.2.7").expect("it passes").0.request_body()
}

/// The relay of an answer with this head.
fn of_answer(head: &[&str]) -> BodyRelay {
    let (exchange, _) = pass(TABLE, &lines(&["GET /a HTTP/1.1", "Host: a"]), "192.0.2.7").expect("it passes");
    match answered(TABLE, &exchange, &lines(head)) {
        Ok((Verdict::Answer(relay), ..)) => relay,
        other => panic!("{other:?}"),
    }
}

/// What goes on for `input` in pieces of `size`, how many bytes were taken, and whether the body ended.
fn relayed(relay: &BodyRelay, input: &[u8], size: usize) -> (Vec<u8>, usize, bool) {
    let mut relay = relay.clone();
    let (mut out, mut taken) = (Vec::new(), 0);
    for piece in input.chunks(size) {
        let (count, done) = relay.relay(piece, &mut out).expect("a right body");
        taken += count;
        if done {
            break;
        }
    }
    (out, taken, relay.is_done())
}

#[test]
fn a_length_is_kept_to_the_byte() {
    let relay = of_request(&["Content-Length: 5"]);
    for size in 1..12 {
        assert_eq!(relayed(&relay, b"helloGET /", size), (b"hello".to_vec(), 5, true), "H9, {size}");
    }
    assert_eq!(relayed(&relay, b"hell", 4), (b"hell".to_vec(), 4, false));
    assert!(of_request(&[]).is_done() && of_request(&["Content-Length: 0"]).is_done());
}

#[test]
fn chunks_are_our_own() {
    let relay = of_request(&["Transfer-Encoding: chunked"]);
    let input = b"3;secret=\"x\"\r\nhel\r\n00000002\r\nlo\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1";
    let (out, taken, done) = relayed(&relay, input, input.len());
    assert_eq!(
        (out.escape_ascii().to_string(), done),
        ("5\\r\\nhello\\r\\n0\\r\\n\\r\\n".to_owned(), true),
        "H9"
    );
    assert_eq!(&input[taken..], b"GET / HTTP/1.1");
    for size in 1..input.len() {
        let (out, taken, done) = relayed(&relay, input, size);
        assert_eq!((&input[taken..], done), (&b"GET / HTTP/1.1"[..], true), "{size}");
        // Read by our own reader again, it is the same body and nothing is left over.
        let (body, length, _) = relayed(&of_answer(&["HTTP/1.0 200 OK"]), &out, 7);
        assert_eq!((body.len(), length), (out.len(), out.len()));
        let again = relayed(&relay, &out, out.len());
        assert_eq!(
            (&*again.0, again.1, again.2),
            (&b"5\r\nhello\r\n0\r\n\r\n"[..], out.len(), true),
            "{size}"
        );
    }
}

#[test]
fn malformed_chunks_end_it() {
    for (input, why) in [
        (&b"x\r\n"[..], "no size"),
        (b"5\nhello", "LF alone"),
        (b"5\r\nhelloX", "longer than it says"),
        (b"fffffffffffffffff\r\n", "overflow"),
        (b"0\r\n bad\r\n\r\n", "a folded trailer"),
    ] {
        let mut out = Vec::new();
        let mut relay = of_answer(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"]);
        relay.relay(input, &mut out).expect_err(why);
    }
}

/// A body that was cut short is not passed off as a whole one.
#[test]
fn an_end_is_proper_only_where_the_body_may_end() {
    let mut out = Vec::new();
    let check = |head: &[&str], body: &[u8], expect: bool, out: &mut Vec<u8>| {
        let mut relay = of_answer(head);
        relay.relay(body, out).expect("a right body");
        assert_eq!(relay.may_end(), expect, "{head:?} {}", body.escape_ascii());
    };
    check(&["HTTP/1.1 200 OK"], b"hello", true, &mut out);
    check(&["HTTP/1.1 200 OK"], b"", true, &mut out);
    check(&["HTTP/1.1 200 OK", "Content-Length: 5"], b"hell", false, &mut out);
    check(&["HTTP/1.1 200 OK", "Content-Length: 5"], b"hello", true, &mut out);
    check(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"], b"5\r\nhello\r\n", false, &mut out);
    check(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n", true, &mut out);
    check(&["HTTP/1.1 204 No", "Transfer-Encoding: chunked"], b"", true, &mut out);
}

#[test]
fn an_answer_without_end_goes_on_as_it_is() {
    let relay = of_answer(&["HTTP/1.1 200 OK"]);
    assert_eq!(relayed(&relay, b"0\r\n\r\nanything", 3), (b"0\r\n\r\nanything".to_vec(), 13, false));
}
