//! What the tests of tunnels share.

use std::net::IpAddr;
use std::sync::Arc;

use moongate_wire::answer::Date;
use moongate_wire::decide::{Decision, Policy, decide};
use moongate_wire::head::{Fields, parse};
use moongate_wire::refusal::Refusal;
use moongate_wire::route::Routes;
use moongate_wire::scan::{HeadLimits, Scanner};
use moongate_wire::upstream::{AnswerScanner, Exchange, Verdict};

pub(crate) const PEER: &str = "192.0.2.7";

/// A table that must be right.
pub(crate) fn routes(text: &str) -> Routes {
    Routes::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

/// The head made of these lines.
pub(crate) fn lines(lines: &[&str]) -> Vec<u8> {
    let mut head = lines.join("\r\n").into_bytes();
    head.extend_from_slice(b"\r\n\r\n");
    head
}

/// What is decided about the head with this table, and what would go upstream for it.
pub(crate) fn pass(table: &str, head: &[u8], peer: &str) -> Result<(Exchange, Vec<u8>), Refusal> {
    let policy = Policy { routes: Arc::new(routes(table)), ..Policy::default() };
    let mut bytes = head.to_vec();
    let length = Scanner::default().scan(&bytes, &policy.head)?.expect("the head is complete");
    assert_eq!(length, bytes.len(), "nothing stands behind the head");
    let mut fields = Fields::new();
    let head = parse(&mut bytes, &mut fields)?;
    match decide(&head, &policy) {
        Decision::Tunnel(exchange) => {
            let mut out = Vec::new();
            let peer: IpAddr = peer.parse().expect("an address");
            exchange.write_request(&head, &policy.routes, peer, &mut out);
            Ok((exchange, out))
        }
        Decision::Refuse(refusal) => Err(refusal),
        other => panic!("no tunnel: {other:?}"),
    }
}

/// The lines of what goes upstream.
pub(crate) fn sent(table: &str, head: &[&str]) -> Vec<String> {
    let (_, out) = pass(table, &lines(head), PEER).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    split(&out)
}

/// The lines of a head, without the empty ones at its end.
pub(crate) fn split(head: &[u8]) -> Vec<String> {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends in an empty line");
    text.split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim_end_matches('\r').to_owned())
        .collect()
}

/// What the request came to: `426 upgrade_unknown`, or `tunnel`.
pub(crate) fn outcome(table: &str, head: &[&str]) -> String {
    match pass(table, &lines(head), PEER) {
        Ok((exchange, _)) => if exchange.is_upgrade() { "switch" } else { "pass" }.to_owned(),
        Err(refusal) => format!("{} {}", refusal.reason.status(), refusal.reason.label()),
    }
}

/// A day to write into answers.
pub(crate) fn date() -> Date {
    Date::from_unix(784_111_777)
}

/// What the client is sent for the upstream's `answer`, with the verdict on its last head and what is left behind that;
/// the same however the bytes are cut.
pub(crate) fn answered(
    table: &str,
    exchange: &Exchange,
    answer: &[u8],
) -> Result<(Verdict, Vec<u8>, Vec<u8>), Refusal> {
    let limits = HeadLimits::default();
    let (routes, mut exchange) = (routes(table), exchange.clone());
    let (mut out, mut rest) = (Vec::new(), answer.to_vec());
    loop {
        let length = scan(&rest, &limits)?.expect("the head is complete");
        let behind = rest.split_off(length);
        match exchange.read_answer(&mut rest, &routes, &date(), &mut out)? {
            Verdict::Interim => rest = behind,
            verdict => return Ok((verdict, out, behind)),
        }
    }
}

/// The end of an answer's head, found in the same place whether the bytes come at once or one by one.
pub(crate) fn scan(bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
    let whole = AnswerScanner::default().scan(bytes, limits);
    let mut scanner = AnswerScanner::default();
    let slowly = (0..=bytes.len()).find_map(|end| match scanner.scan(&bytes[..end], limits) {
        Ok(None) => None,
        ended => Some(ended),
    });
    assert_eq!(slowly.unwrap_or(Ok(None)), whole, "byte by byte");
    whole
}
