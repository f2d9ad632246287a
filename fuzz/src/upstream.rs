//! Both sides of a tunnel before it opens: the head that goes to an upstream, and whatever comes back.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use moongate_wire::answer::{CONTINUE, Date};
use moongate_wire::body::{BodyReader, Framing};
use moongate_wire::decide::{Decision, Policy, decide};
use moongate_wire::head::{Fields, Head, Name, parse};
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::route::Routes;
use moongate_wire::scan::{HeadLimits, Scanner};
use moongate_wire::upstream::{AnswerScanner, BodyRelay, Exchange, Verdict};

use crate::source::Source;

const TABLE: &str =
    "/a/* tunnel app:1 strip=/a prefix=/b host=h; /* tunnel app:1 upgrade=websocket,x/1 http=pass";

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Room for a head that has grown by what is added to it.
const ROOMY: HeadLimits = HeadLimits { head_bytes_max: 1 << 20, target_bytes_max: 1 << 19, fields_max: 100 };

/// Any request that is passed on, or any answer to one of a few.
pub fn upstream(data: &[u8]) {
    let mut source = Source::new(data);
    let requests: [&[u8]; 5] = [
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x/1\r\n\r\n",
    ];
    let choice = source.below(requests.len() + 1);
    let Some(request) = requests.get(choice) else { return request_of(source.rest()) };
    let (exchange, routes) = pass(request).expect("it is passed on");
    let cuts = source.cuts();
    let bytes = source.rest();

    let limits = HeadLimits::default();
    let whole = scan(bytes, [bytes.len()], &limits);
    assert_eq!(whole, scan(bytes, cuts.ends(bytes.len()), &limits), "A31, H16: whole and in pieces");
    assert_eq!(whole, scan(bytes, 1..=bytes.len(), &limits), "A31, H16: whole and byte by byte");
    check_answer(exchange, &routes, bytes, &cuts.ends(bytes.len()).collect::<Vec<_>>());
}

/// What is decided about one head, and the table it was decided by.
fn pass(bytes: &[u8]) -> Option<(Exchange, Arc<Routes>)> {
    with_tunnel(bytes, |_, exchange, routes| (exchange, Arc::clone(routes)))
}

/// Looks at a request that goes on, if this is one.
fn with_tunnel<T>(bytes: &[u8], look: impl FnOnce(&Head<'_>, Exchange, &Arc<Routes>) -> T) -> Option<T> {
    let routes = Arc::new(Routes::parse(TABLE).expect("a right table"));
    let policy = Policy { routes: Arc::clone(&routes), ..Policy::default() };
    let length = Scanner::default().scan(bytes, &policy.head).ok()??;
    let mut parsed = bytes[..length].to_vec();
    let mut fields = Fields::new();
    let head = parse(&mut parsed, &mut fields).ok()?;
    match decide(&head, &policy) {
        Decision::Tunnel(exchange) => Some(look(&head, exchange, &routes)),
        _ => None,
    }
}

/// H6 to H9: what goes upstream is one head, with the same method, one host, one way to end and no field that a tunnel
/// must not pass on.
fn request_of(bytes: &[u8]) {
    let written = with_tunnel(bytes, |head, exchange, routes| {
        let mut out = Vec::new();
        exchange.write_request(head, routes, PEER, &mut out);
        (out, head.method, if exchange.is_upgrade() { Framing::None } else { head.framing })
    });
    let Some((out, method, framing)) = written else { return };
    let scanned = Scanner::default().scan(&out, &ROOMY).map_err(|refusal| refusal.reason);
    let text = String::from_utf8_lossy(&out).to_ascii_lowercase();
    let names: Vec<&str> = text.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    for once in ["host", "connection", "x-forwarded-for", "x-forwarded-proto", "forwarded"] {
        assert_eq!(names.iter().filter(|name| **name == once).count(), 1, "{once}: {text}");
    }
    assert!(names.iter().all(|name| !name.contains('_')), "A27: {text}");
    for never in ["te", "trailer", "keep-alive", "proxy-connection", "http2-settings", "x-real-ip"] {
        assert!(!names.contains(&never), "H6: {text}");
    }
    assert!(text.contains("\r\nx-forwarded-for: 192.0.2.7\r\n"), "H8: {text}");
    // A head that fills the table of fields leaves no room for what is added; whoever reads it has other limits.
    if names.len() > ROOMY.fields_max {
        assert_eq!(scanned, Err(Reason::TooManyFields), "{text}");
        return;
    }
    assert_eq!(scanned, Ok(Some(out.len())), "{text}");
    let mut again = out.clone();
    let mut fields = Fields::new();
    let head = parse(&mut again, &mut fields).expect("it parses");
    assert_eq!((head.method, head.framing), (method, framing), "H9");
    assert!(head.members(Name::Upgrade).all(|member| matches!(member, b"websocket" | b"x/1")), "H18");
}

/// The end of a head or why there is none, when as many bytes as `ends` says are there after each step.
fn scan(
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
    limits: &HeadLimits,
) -> Result<Option<usize>, Refusal> {
    let mut scanner = AnswerScanner::default();
    for end in ends {
        match scanner.scan(&bytes[..end], limits) {
            Ok(None) => {}
            ended => return ended,
        }
    }
    Ok(None)
}

/// H1 to H5, H14, H16: what the client is sent is whole, and switches only what was asked for.
fn check_answer(mut exchange: Exchange, routes: &Routes, bytes: &[u8], ends: &[usize]) {
    let (date, limits) = (Date::from_unix(1_700_000_000), HeadLimits::default());
    let mut out = Vec::new();
    let mut rest = bytes;
    let verdict = loop {
        let Ok(Some(length)) = scan(rest, [rest.len()], &limits) else { return };
        let (head, behind) = rest.split_at(length);
        match exchange.read_answer(&mut head.to_vec(), routes, &date, &mut out) {
            Ok(Verdict::Interim) => rest = behind,
            Ok(verdict) => {
                rest = behind;
                break verdict;
            }
            Err(refusal) => return assert_eq!(refusal.reason.status(), 502),
        }
    };
    let head = out.strip_prefix(CONTINUE).unwrap_or(&out);
    let mut fields = [httparse::EMPTY_HEADER; 110];
    let mut answer = httparse::Response::new(&mut fields);
    assert_eq!(answer.parse(head), Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
    let count =
        |name: &str| answer.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert_eq!(count("connection"), 1);
    assert!(count("content-length") + count("transfer-encoding") <= 1, "{}", head.escape_ascii());
    let relay = match verdict {
        Verdict::Switched => {
            assert!(exchange.is_upgrade() && answer.code == Some(101), "H5");
            return assert_eq!((count("upgrade"), count("content-length")), (1, 0));
        }
        Verdict::Answer(relay) => relay,
        Verdict::Interim => unreachable!("the loop goes on"),
    };
    assert!(answer.code >= Some(200) && count("date") >= 1, "H3");
    assert!(count("upgrade") == 0 || answer.code == Some(426), "H3");
    let is_chunked = count("transfer-encoding") == 1;
    let start = bytes.len() - rest.len();
    let ends: Vec<usize> = ends.iter().filter(|end| **end > start).map(|end| end - start).collect();
    let whole = relayed(&relay, rest, &[rest.len()], is_chunked);
    assert_eq!(whole, relayed(&relay, rest, &ends, is_chunked), "whole and in pieces");
}

/// The body that a client reads out of what goes on, how much was taken of `input`, and whether it has ended; none if
/// it was malformed.
fn relayed(
    relay: &BodyRelay,
    input: &[u8],
    ends: &[usize],
    is_chunked: bool,
) -> Option<(Vec<u8>, usize, bool)> {
    let mut relay = relay.clone();
    let (mut out, mut at) = (Vec::new(), 0);
    for &end in ends {
        let (taken, done) = relay.relay(&input[at..end], &mut out).ok()?;
        at += taken;
        assert_eq!(done, relay.is_done());
        if done {
            break;
        }
        assert_eq!(at, end, "all of it is taken until the body ends");
    }
    if !is_chunked {
        return Some((out, at, relay.is_done()));
    }
    let mut body = Vec::new();
    let read = BodyReader::new(Framing::Chunked, usize::MAX).read(&out, &mut body);
    assert_eq!(read, Ok((out.len(), relay.is_done())), "our own chunks: {}", out.escape_ascii());
    Some((body, at, relay.is_done()))
}
