//! What the tests of request heads share.

use moongate_wire::decide::{Decision, Place, Policy, decide};
use moongate_wire::head::{Fields, Head, parse};
use moongate_wire::origin::{Cors, Origins};
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::route::Routes;
use moongate_wire::scan::{HeadLimits, Scanner};
use moongate_wire::since::Since;

/// The head made of these lines.
pub(crate) fn lines(lines: &[&str]) -> Vec<u8> {
    let mut head = lines.join("\r\n").into_bytes();
    head.extend_from_slice(b"\r\n\r\n");
    head
}

/// The end of the head in `bytes`, or why there is none; the same for every way of cutting `bytes` in two, and for
/// bytes that come one by one (A31).
pub(crate) fn scan(bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
    let whole = Scanner::default().scan(bytes, limits);
    let stride = 1 + bytes.len() / 2048;
    for cut in (0..=bytes.len()).step_by(stride) {
        assert_eq!(scan_pieces(bytes, [cut, bytes.len()], limits), whole, "cut at {cut}");
    }
    assert_eq!(scan_pieces(bytes, 0..=bytes.len(), limits), whole, "byte by byte");
    whole
}

/// The same for bytes that arrive so that after each step as many as `ends` says are there.
pub(crate) fn scan_pieces(
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
    limits: &HeadLimits,
) -> Result<Option<usize>, Refusal> {
    let mut scanner = Scanner::default();
    for end in ends {
        match scanner.scan(&bytes[..end], limits) {
            Ok(None) => {}
            ended => return ended,
        }
    }
    Ok(None)
}

/// Scans and parses one complete head and hands it to `look`.
pub(crate) fn with_head<T>(bytes: &[u8], look: impl FnOnce(&Head<'_>) -> T) -> Result<T, Refusal> {
    let length = scan(bytes, &HeadLimits::default())?.expect("the head is complete");
    let mut bytes = bytes.to_vec();
    let mut fields = Fields::new();
    let head = parse(&mut bytes[..length], &mut fields)?;
    Ok(look(&head))
}

/// Why the head does not pass, or `None`.
pub(crate) fn reason(bytes: &[u8]) -> Option<Reason> {
    with_head(bytes, |_| ()).err().map(|refusal| refusal.reason)
}

/// A server with everything on.
pub(crate) fn open_policy() -> Policy {
    Policy { routes: Routes::usual(true, true).with_health().into(), may_publish: true, ..Policy::default() }
}

/// What happens to a request, refusals of scanner and parser included.
pub(crate) fn decision(bytes: &[u8], policy: &Policy) -> Decision {
    with_head(bytes, |head| decide(head, policy)).unwrap_or_else(Decision::Refuse)
}

/// A decision in a few words.
pub(crate) fn summary(decision: &Decision) -> String {
    let head = |head_only: &bool| if *head_only { " head" } else { "" };
    let cors = |cors: &Cors| match cors {
        Cors::SameOrigin => " same-origin".to_owned(),
        Cors::Unlisted => String::new(),
        Cors::Any => " cors=*".to_owned(),
        Cors::Origin(origin) => format!(" cors={origin}"),
    };
    let since = |since: Option<Since>| match since {
        None => String::new(),
        Some(Since::AllKept) => " since 0".to_owned(),
        Some(Since::After { epoch, offset }) => format!(" since {epoch:x}-{offset}"),
    };
    match decision {
        Decision::WebSocket(upgrade) => {
            let place = match &upgrade.place {
                Place::Topic(topic) => format!("101 topic {topic}"),
                Place::Echo => "101 echo".to_owned(),
                Place::Connect => "101 connect".to_owned(),
            };
            let after = if upgrade.expect_continue { " after 100" } else { "" };
            let subprotocol =
                upgrade.agreed.subprotocol.map_or(String::new(), |spoken| format!(" {}", spoken.name));
            let deflate =
                upgrade.agreed.deflate.map_or(String::new(), |agreed| format!(" {}", agreed.answer()));
            format!("{place}{after}{subprotocol}{deflate}{}", since(upgrade.since))
        }
        Decision::Events { topic, since: from, cors: told, head_only } => {
            format!("events {topic}{}{}{}", head(head_only), since(*from), cors(told))
        }
        Decision::Publish(publish) => {
            let after = if publish.expect_continue { " after 100" } else { "" };
            let told = cors(&publish.cors);
            format!("publish {} {:?} {:?}{after}{told}", publish.topic, publish.kind, publish.framing)
        }
        Decision::Page { topic: Some(topic), head_only } => format!("page {topic}{}", head(head_only)),
        Decision::Page { topic: None, head_only } => format!("page{}", head(head_only)),
        Decision::Script { head_only } => format!("script{}", head(head_only)),
        Decision::Health { ready, head_only } => {
            format!("{}{}", if *ready { "readyz" } else { "healthz" }, head(head_only))
        }
        Decision::Tunnel(exchange) => {
            format!("tunnel {}{}", exchange.route, if exchange.is_upgrade() { " switch" } else { "" })
        }
        Decision::Plain(answer) => answer.status().to_string(),
        Decision::Refuse(refusal) => format!("{} {}", refusal.reason.status(), refusal.reason.label()),
    }
}

/// Origins as a setting would say them.
pub(crate) fn origins(setting: &str) -> Origins {
    Origins::parse(setting).expect("a right setting")
}
