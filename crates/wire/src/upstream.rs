//! The other side of a tunnel: the head that goes to an upstream, and what may come back.
//!
//! Nothing that a client or an upstream sent is copied as it stands. A head is written anew from the parts it was
//! parsed into, without what is about one connection only, so that both sides read the same message or none
//! (docs/protocol.md H6 to H9, H16).

mod fields;
mod judge;
mod relay;

use std::net::IpAddr;

use crate::answer::Date;
use crate::body::Framing;
use crate::head::{Head, Method, Name, Target, Version};
use crate::refusal::Refusal;
use crate::route::{Routes, Tunnel};
use crate::scan::{HeadLimits, Scanner};

pub use judge::Verdict;
pub use relay::BodyRelay;

use fields::{Passing, line};

/// How many interim answers an upstream may send before its final one (docs/protocol.md H14).
pub const INTERIMS_MAX: u8 = 16;

/// The name by which this gateway goes in `Via` (RFC 9110 §7.6.3: a pseudonym, for its address is nobody's business).
const PSEUDONYM: &str = "moongate";

/// A request on its way to an upstream: all of it that still matters once its head has been written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Which route it came by.
    pub route: u16,
    /// Which of the route's protocols it asks to switch to; none for an ordinary request.
    pub(crate) upgrade: Option<u8>,
    /// How its body ends.
    pub(crate) framing: Framing,
    /// Whether the client waits for a 100.
    pub(crate) expect_continue: bool,
    pub(crate) head_only: bool,
    pub(crate) version: Version,
    pub(crate) interims: u8,
}

impl Exchange {
    /// What `head` asks of the route with this number: to switch to its protocol `upgrade`, or for an answer.
    pub(crate) fn new(route: u16, upgrade: Option<u8>, expect_continue: bool, head: &Head<'_>) -> Exchange {
        Exchange {
            route,
            upgrade,
            framing: head.framing,
            expect_continue,
            head_only: head.method == Method::Head,
            version: head.version,
            interims: 0,
        }
    }

    /// Whether it asks to switch to another protocol, rather than for an answer.
    pub fn is_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }

    /// Whether the client asked for the answer's head only.
    pub fn head_only(&self) -> bool {
        self.head_only
    }

    /// The request's body on its way upstream. One that asks to switch has none (docs/protocol.md H9).
    pub fn request_body(&self) -> BodyRelay {
        BodyRelay::of_request(self.framing)
    }

    /// Appends the head that goes upstream. `peer` is where the client is.
    pub fn write_request(&self, head: &Head<'_>, routes: &Routes, peer: IpAddr, out: &mut Vec<u8>) {
        let tunnel = routes.tunnel(self.route);
        out.extend_from_slice(head.method.as_str().as_bytes());
        out.push(b' ');
        write_target(head, tunnel, out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.write_host(head, routes, out);
        Passing::of_request(&head.lines).write(out);
        match self.framing {
            Framing::None => {}
            // RFC 9110 §7.8: what asks to switch has no content, and nothing that says how long it is.
            _ if self.is_upgrade() => {}
            Framing::Length(length) => line("Content-Length", length.to_string().as_bytes(), out),
            Framing::Chunked => line("Transfer-Encoding", b"chunked", out),
        }
        if self.expect_continue {
            line("Expect", b"100-continue", out);
        }
        write_origin(head, peer, out);
        match self.upgrade {
            Some(protocol) => {
                line("Connection", b"Upgrade", out);
                line("Upgrade", tunnel.protocols[usize::from(protocol)].as_str().as_bytes(), out);
            }
            None => line("Connection", b"close", out),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Reads one head of the upstream, whose end an [`AnswerScanner`] has found. Appends what the client is sent for it:
    /// the 101, the head of an answer, a 100, or nothing.
    ///
    /// # Errors
    /// An answer that leaves room for two readings, or that nobody asked for; the client is answered 502.
    pub fn read_answer(
        &mut self,
        bytes: &mut [u8],
        routes: &Routes,
        date: &Date,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Refusal> {
        let head_only = self.head_only;
        judge::judge(self, bytes, routes, date, out).map_err(|refusal| refusal.head_only(head_only))
    }

    /// RFC 9112 §3.2: first of all fields, and always there.
    fn write_host(&self, head: &Head<'_>, routes: &Routes, out: &mut Vec<u8>) {
        let tunnel = routes.tunnel(self.route);
        match (&tunnel.host, &head.host) {
            (Some(host), _) => line("Host", host.as_bytes(), out),
            (None, Some(host)) => line("Host", host.to_string().as_bytes(), out),
            // Only HTTP/1.0 may leave it out (docs/protocol.md A15).
            (None, None) => line("Host", b"localhost", out),
        }
    }
}

/// The target in origin form, with the route's prefixes exchanged. The query goes along as it is.
fn write_target(head: &Head<'_>, tunnel: &Tunnel, out: &mut Vec<u8>) {
    let Target::Path { path, query } = head.target else {
        unreachable!("only paths have routes");
    };
    let start = out.len();
    out.extend_from_slice(tunnel.prefix.as_bytes());
    out.extend_from_slice(path.strip_prefix(&*tunnel.strip).unwrap_or(path).as_bytes());
    if out.len() == start {
        out.push(b'/');
    }
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
}

/// Who asked, and by what way, in our own words (docs/protocol.md H8). What the client said about that was left out:
/// there is nobody yet whose word for it is taken.
fn write_origin(head: &Head<'_>, peer: IpAddr, out: &mut Vec<u8>) {
    let version = if head.version == Version::Http10 { "1.0" } else { "1.1" };
    let peer = peer.to_canonical();
    line("Via", format!("{version} {PSEUDONYM}").as_bytes(), out);
    line("X-Forwarded-For", peer.to_string().as_bytes(), out);
    line("X-Forwarded-Proto", b"http", out);
    // RFC 7239 §6: an IPv6 address stands in brackets and in quotes.
    let mut forwarded = match peer {
        IpAddr::V4(peer) => format!("for={peer}"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\""),
    };
    if let Some(host) = &head.host {
        let host = host.to_string();
        line("X-Forwarded-Host", host.as_bytes(), out);
        // No host has a quote or a backslash in it: see `Host::parse`.
        forwarded.push_str(&format!(";host=\"{host}\""));
    }
    forwarded.push_str(";proto=http");
    line("Forwarded", forwarded.as_bytes(), out);
}

/// Finds the end of an answer's head: as strict as [`Scanner`] is with requests, and as resumable.
#[derive(Clone, Debug)]
pub struct AnswerScanner(Scanner);

impl AnswerScanner {
    /// Looks at what is new in `bytes`, which is everything received so far. `Some(length)`: the head is complete and is
    /// the first `length` bytes.
    ///
    /// # Errors
    /// What no answer's head can be; the client is answered 502.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        self.0.scan(bytes, limits).map_err(|refusal| judge::malformed(refusal.reason))
    }
}

impl Default for AnswerScanner {
    fn default() -> AnswerScanner {
        AnswerScanner(Scanner::for_answer())
    }
}

/// The first protocol the client asks for that `tunnel` may switch to (docs/protocol.md B5, B6, H18).
pub(crate) fn find_protocol(head: &Head<'_>, tunnel: &Tunnel) -> Option<u8> {
    let found = head
        .members(Name::Upgrade)
        .find_map(|member| tunnel.protocols.iter().position(|protocol| protocol.is(member)));
    // A list in a request has fewer members than this, but the table may have more: what does not fit was not found.
    found.and_then(|index| u8::try_from(index).ok())
}
