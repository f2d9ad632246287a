//! Requests that another server answers. What is checked here is what keeps this gateway and that server from reading the
//! same bytes in two ways; whether a handshake is right, and who may make it, is the upstream's business.

use super::{Decision, expects_continue, find_upgrade};
use crate::body::Framing;
use crate::head::{Head, Method, Target};
use crate::refusal::{Reason, Refusal};
use crate::route::Tunnel;
use crate::upstream::{Exchange, find_protocol};

/// The request on the route with this number: a switch to a protocol of its list, an ordinary request where those are
/// passed on, else a refusal.
pub(super) fn pass_on(route: u16, tunnel: &Tunnel, head: &Head<'_>) -> Result<Decision, Refusal> {
    if head.method == Method::Trace {
        return Err(Refusal::new(Reason::TraceRefused).allow("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
    }
    let Target::Path { path, .. } = head.target else { unreachable!("only paths have routes") };
    if has_dot_segment(path) {
        return Err(Reason::PathDotSegment.into());
    }
    let upgrade = match find_switch(tunnel, head) {
        Ok(protocol) => Some(protocol),
        Err(_) if tunnel.http => None,
        Err(why_not) => return Err(show_protocols(why_not, tunnel)),
    };
    // B13, docs/protocol.md H9: content would go before the new protocol, or be taken for it.
    if upgrade.is_some() && !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Err(Reason::UpgradeWithContent.into());
    }
    Ok(Decision::Tunnel(Exchange::new(route, upgrade, expects_continue(head), head)))
}

/// B2, B4 to B6, B9 to B11.
fn find_switch(tunnel: &Tunnel, head: &Head<'_>) -> Result<u8, Reason> {
    match find_upgrade(head) {
        // It says that `websocket` is not named, which is not the question here.
        Ok(()) | Err(Reason::UpgradeUnknown) => {}
        Err(why_not) => return Err(why_not),
    }
    find_protocol(head, tunnel).ok_or(Reason::UpgradeUnknown)
}

/// B7: what may be spoken here.
fn show_protocols(why_not: Reason, tunnel: &Tunnel) -> Refusal {
    let refusal = Refusal::new(why_not).upgrade(tunnel.protocols_text(", "));
    let detail = match why_not {
        Reason::UpgradeRequired => {
            "This path leads to another protocol, and the request does not ask for one."
        }
        Reason::UpgradeUnknown => "None of the protocols in Upgrade may be switched to here.",
        _ => return refusal,
    };
    refusal.detail(detail).hint(
        "Ask for a protocol that this answer's Upgrade field names, with Connection: Upgrade. If the server behind this \
         route answers ordinary requests too, add http=pass to the route.",
    )
}

/// Whether a segment of `path` is `.` or `..`, also for servers that decode it, take a backslash for a slash or cut
/// parameters off before they look.
fn has_dot_segment(path: &str) -> bool {
    let mut segment = Dots::default();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { unescape(&mut bytes) } else { byte };
        match byte {
            b'/' | b'\\' if segment.is_dots() => return true,
            b'/' | b'\\' => segment = Dots::default(),
            b';' => segment.ended = true,
            _ if segment.ended => {}
            b'.' => segment.count += 1,
            _ => segment.others = true,
        }
    }
    segment.is_dots()
}

/// The byte that stands behind a `%`; the `%` itself if nothing does.
fn unescape(bytes: &mut std::str::Bytes<'_>) -> u8 {
    let mut ahead = bytes.clone();
    let mut digit = || ahead.next().and_then(|byte| char::from(byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(), digit()) else { return b'%' };
    *bytes = ahead;
    (high * 16 + low) as u8
}

/// What a segment is made of, so far.
#[derive(Default)]
struct Dots {
    count: usize,
    others: bool,
    /// Whether its parameters have begun.
    ended: bool,
}

impl Dots {
    fn is_dots(&self) -> bool {
        !self.others && matches!(self.count, 1 | 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_seen_through() {
        let check = |path: &str, expect: bool| assert_eq!(has_dot_segment(path), expect, "{path}");
        for dots in [
            "/.",
            "/..",
            "/./a",
            "/a/..",
            "/a/../b",
            "/%2e%2E/b",
            "/.%2e/b",
            "/a/%2e",
            "/a%2f..%2Fb",
            "/a\\..\\b",
            "/a%5c..%5cb",
            "/..;/b",
            "/..;x=y/b",
            "/%2e%2e%3bx/b",
        ] {
            check(dots, true);
        }
        for plain in [
            "/",
            "//",
            "/a",
            "/...",
            "/.well-known/x",
            "/a.b",
            "/..a/b",
            "/a..",
            "/%2ea",
            "/a;..",
            "/%2",
            "/%",
            "/%zz..",
        ] {
            check(plain, false);
        }
    }
}
