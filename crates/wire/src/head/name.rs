//! The names of the fields that are looked at, found out once per line.

/// A field's name. An underscore is not a hyphen (docs/protocol.md A27): such a name is [`Name::Other`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Name {
    /// `Accept`
    Accept,
    /// `Access-Control-Request-Method`
    AccessControlRequestMethod,
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Content-Type`
    ContentType,
    /// `Expect`
    Expect,
    /// `Host`
    Host,
    /// `Last-Event-ID`
    LastEventId,
    /// `Origin`
    Origin,
    /// `Sec-WebSocket-Extensions`
    SecWebSocketExtensions,
    /// `Sec-WebSocket-Key`
    SecWebSocketKey,
    /// `Sec-WebSocket-Protocol`
    SecWebSocketProtocol,
    /// `Sec-WebSocket-Version`
    SecWebSocketVersion,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Upgrade`
    Upgrade,
    /// Any other, which is ignored (docs/protocol.md A28).
    Other,
}

impl Name {
    /// The name that `text` is, in any case.
    pub(super) fn of(text: &str) -> Name {
        let candidates: &[(Name, &str)] = match text.len() {
            4 => &[(Name::Host, "host")],
            6 => &[(Name::Accept, "accept"), (Name::Origin, "origin"), (Name::Expect, "expect")],
            7 => &[(Name::Upgrade, "upgrade")],
            10 => &[(Name::Connection, "connection")],
            12 => &[(Name::ContentType, "content-type")],
            13 => &[(Name::LastEventId, "last-event-id")],
            14 => &[(Name::ContentLength, "content-length")],
            17 => {
                &[(Name::SecWebSocketKey, "sec-websocket-key"), (Name::TransferEncoding, "transfer-encoding")]
            }
            21 => &[(Name::SecWebSocketVersion, "sec-websocket-version")],
            22 => &[(Name::SecWebSocketProtocol, "sec-websocket-protocol")],
            24 => &[(Name::SecWebSocketExtensions, "sec-websocket-extensions")],
            29 => &[(Name::AccessControlRequestMethod, "access-control-request-method")],
            _ => &[],
        };
        let found = candidates.iter().find(|candidate| text.eq_ignore_ascii_case(candidate.1));
        found.map_or(Name::Other, |candidate| candidate.0)
    }

    /// Whether the value is a list, whose members are bounded (docs/protocol.md A29).
    pub(super) fn is_list(self) -> bool {
        matches!(
            self,
            Name::Accept
                | Name::Connection
                | Name::Expect
                | Name::SecWebSocketExtensions
                | Name::SecWebSocketProtocol
                | Name::TransferEncoding
                | Name::Upgrade
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        let check = |text: &str, expect| {
            for text in [text, &text.to_ascii_lowercase(), &text.to_ascii_uppercase()] {
                assert_eq!(Name::of(text), expect, "{text}");
            }
        };
        check("Accept", Name::Accept);
        check("Access-Control-Request-Method", Name::AccessControlRequestMethod);
        check("Connection", Name::Connection);
        check("Content-Length", Name::ContentLength);
        check("Content-Type", Name::ContentType);
        check("Expect", Name::Expect);
        check("Host", Name::Host);
        check("Last-Event-ID", Name::LastEventId);
        check("Origin", Name::Origin);
        check("Sec-WebSocket-Extensions", Name::SecWebSocketExtensions);
        check("Sec-WebSocket-Key", Name::SecWebSocketKey);
        check("Sec-WebSocket-Protocol", Name::SecWebSocketProtocol);
        check("Sec-WebSocket-Version", Name::SecWebSocketVersion);
        check("Transfer-Encoding", Name::TransferEncoding);
        check("Upgrade", Name::Upgrade);
        check("Sec_WebSocket_Key", Name::Other);
        check("Hos", Name::Other);
        check("Hosts", Name::Other);
        check("X", Name::Other);
    }
}
