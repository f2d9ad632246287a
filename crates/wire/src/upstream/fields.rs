//! Which fields go on to the next connection, and which do not (RFC 9110 §7.6.1).

use crate::head::{Lines, Name};

/// What is about one connection, whether `Connection` names it or not.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    // Trailers are not passed on, so they are not announced.
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a request's head says anew, in our own words, or what is for us alone.
const OURS_IN_REQUESTS: &[&str] =
    &["content-length", "expect", "forwarded", "host", "proxy", "proxy-authorization", "x-real-ip"];

/// What an answer's head says anew.
const OURS_IN_ANSWERS: &[&str] = &["content-length"];

/// What `Connection` cannot take away, because it is meant for whoever acts on the request (docs/protocol.md H7): to
/// name it there is a mistake (RFC 9110 §7.6.1), or an attempt to hide from the upstream who asks.
const PROTECTED: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "last-event-id",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];
const PROTECTED_PREFIXES: &[&str] = &["accept", "access-control-", "content-", "if-", "sec-", "x-"];

/// The fields of one head that go on.
pub(super) struct Passing<'a, 'b> {
    lines: &'a Lines<'b>,
    ours: &'static [&'static str],
    of_request: bool,
}

impl<'a, 'b> Passing<'a, 'b> {
    pub(super) fn of_request(lines: &'a Lines<'b>) -> Passing<'a, 'b> {
        Passing { lines, ours: OURS_IN_REQUESTS, of_request: true }
    }

    pub(super) fn of_answer(lines: &'a Lines<'b>) -> Passing<'a, 'b> {
        Passing { lines, ours: OURS_IN_ANSWERS, of_request: false }
    }

    /// Appends a line for each of them, in their order.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (_, name, value) in self.lines.iter().filter(|(_, name, _)| self.goes_on(name)) {
            line(name, value, out);
        }
    }

    fn goes_on(&self, name: &str) -> bool {
        if is_one_of(name, HOP_BY_HOP) || is_one_of(name, self.ours) {
            return false;
        }
        // docs/protocol.md A27: applications behind CGI's naming take `X_Forwarded_For` for `X-Forwarded-For`.
        if self.of_request && (!is_plain(name) || starts_with(name, "x-forwarded-")) {
            return false;
        }
        !self.is_nominated(name) || is_protected(name)
    }

    /// Whether `Connection` says that the field is about this connection only.
    fn is_nominated(&self, name: &str) -> bool {
        self.lines.has_token(Name::Connection, name)
    }
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn is_protected(name: &str) -> bool {
    is_one_of(name, PROTECTED) || PROTECTED_PREFIXES.iter().any(|prefix| starts_with(name, prefix))
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Appends one field line. Neither part has CR, LF or NUL in it: both come out of a head that was scanned, or are ours.
pub(super) fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
