//! What an upstream's answer is: a switch that was asked for, an interim word, an ordinary answer, or nothing to rely on.

use super::fields::{Passing, line};
use super::{BodyRelay, Exchange, INTERIMS_MAX};
use crate::answer::{CONTINUE, Date};
use crate::body::Framing;
use crate::head::{AnswerHead, Fields, Name, Version};
use crate::refusal::{Reason, Refusal};
use crate::route::Routes;

/// What one head of the upstream comes to.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// An interim answer: another head follows.
    Interim,
    /// It has switched. What follows its head, either way, is the new protocol (docs/protocol.md H1, H10).
    Switched,
    /// An ordinary answer, which ends the exchange however it was asked for (docs/protocol.md H3). Its body goes through
    /// this.
    Answer(BodyRelay),
}

pub(super) fn judge(
    exchange: &mut Exchange,
    bytes: &mut [u8],
    routes: &Routes,
    date: &Date,
    out: &mut Vec<u8>,
) -> Result<Verdict, Refusal> {
    let mut fields = Fields::new();
    let head = AnswerHead::parse(bytes, &mut fields).map_err(malformed)?;
    match head.status {
        101 => switched(exchange, &head, routes, out),
        100..=199 => interim(exchange, head.status, out),
        _ => answered(exchange, &head, routes, date, out),
    }
}

/// 502, for an answer that breaks the rules of HTTP. `cause` is what the same defect is called in a request.
pub(super) fn malformed(cause: Reason) -> Refusal {
    Refusal::new(Reason::UpstreamMalformed)
        .detail(format!("The upstream's answer breaks the rules of HTTP/1.1: {}.", cause.title()))
}

/// RFC 9110 §7.8: a switch names what it switches to, and that was asked for (docs/protocol.md H4, H5).
fn switched(
    exchange: &Exchange,
    head: &AnswerHead<'_>,
    routes: &Routes,
    out: &mut Vec<u8>,
) -> Result<Verdict, Refusal> {
    let tunnel = routes.tunnel(exchange.route);
    let Some(protocol) = exchange.upgrade.map(|index| &tunnel.protocols[usize::from(index)]) else {
        return Err(Refusal::new(Reason::UpstreamSwitched)
            .detail("The upstream switched protocols, which the request did not ask for."));
    };
    let mut named = head.lines.members(Name::Upgrade);
    let names_it = named.next().is_some_and(|member| protocol.is(member)) && named.next().is_none();
    if !names_it || head.version == Version::Http10 || !head.lines.has_token(Name::Connection, "upgrade") {
        return Err(Reason::UpstreamSwitched.into());
    }
    if exchange.expect_continue {
        // RFC 9110 §7.8: whoever waits for a 100 gets it before the 101, also if the upstream said none.
        out.extend_from_slice(CONTINUE);
    }
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    line("Upgrade", protocol.as_str().as_bytes(), out);
    line("Connection", b"Upgrade", out);
    Passing::of_answer(&head.lines).write(out);
    out.extend_from_slice(b"\r\n");
    Ok(Verdict::Switched)
}

/// RFC 9110 §15.2: any number of them may come, but nobody waits for ever. Only the one that was asked for goes on, and
/// never to HTTP/1.0 (docs/protocol.md H14, A34).
fn interim(exchange: &mut Exchange, status: u16, out: &mut Vec<u8>) -> Result<Verdict, Refusal> {
    exchange.interims += 1;
    if exchange.interims > INTERIMS_MAX {
        return Err(Refusal::new(Reason::UpstreamMalformed).detail(format!(
            "The upstream sent more than {INTERIMS_MAX} interim answers and no final one."
        )));
    }
    if status == 100 && std::mem::take(&mut exchange.expect_continue) {
        out.extend_from_slice(CONTINUE);
    }
    Ok(Verdict::Interim)
}

fn answered(
    exchange: &Exchange,
    head: &AnswerHead<'_>,
    routes: &Routes,
    date: &Date,
    out: &mut Vec<u8>,
) -> Result<Verdict, Refusal> {
    let framing = head.lines.framing(head.version).map_err(malformed)?;
    // RFC 9112 §6.3 (1): whatever their fields say.
    let has_no_body = exchange.head_only || matches!(head.status, 204 | 304);
    let body = match has_no_body {
        true => BodyRelay::none(),
        false => BodyRelay::of_answer(framing, exchange.version),
    };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.phrase.as_bytes());
    out.extend_from_slice(b"\r\n");
    Passing::of_answer(&head.lines).write(out);
    // RFC 9110 §6.6.1: who passes an answer on without a date gives it one.
    if !head.lines.iter().any(|(_, name, _)| name.eq_ignore_ascii_case("date")) {
        line("Date", date.as_str().as_bytes(), out);
    }
    match framing {
        // RFC 9110 §8.6: no Content-Length in a 204.
        _ if head.status == 204 => {}
        Framing::Length(length) => line("Content-Length", length.to_string().as_bytes(), out),
        Framing::Chunked if body.is_chunked() => line("Transfer-Encoding", b"chunked", out),
        Framing::Chunked | Framing::None => {}
    }
    match head.status {
        // RFC 9110 §15.5.22: it says to what; the upstream's own list may name what is never tunnelled.
        426 => {
            line("Upgrade", routes.tunnel(exchange.route).protocols_text(", ").as_bytes(), out);
            line("Connection", b"Upgrade, close", out);
        }
        _ => line("Connection", b"close", out),
    }
    out.extend_from_slice(b"\r\n");
    Ok(Verdict::Answer(body))
}
