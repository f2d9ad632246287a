//! Client protocols that run inside a WebSocket, chosen by `Sec-WebSocket-Protocol`: what their messages say and how they
//! are written. One file each; who keeps the conversation is not known here.

pub mod v1;
pub mod wamp;

use crate::refusal::Reason;

/// A protocol that is spoken inside a WebSocket.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `moongate.v1`.
    V1,
    /// WAMP in its second version.
    Wamp,
}

/// Why a request is not done, for a program and for a person. Each protocol has a table of its own, `errors`; what it may
/// have to say whatever it is like stands here.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// A stable name, one of the protocol's.
    pub code: &'static str,
    /// What is wrong, in a sentence.
    pub reason: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

impl Error {
    /// Who connects may not publish.
    pub const MAY_ONLY_LISTEN: Error = Error {
        code: "may-only-listen",
        reason: "This connection may listen but not publish.",
        hint: "The operator can set MOONGATE_ANONYMOUS=publish; publishing through the control listener always works.",
    };
    /// There can be no more topics.
    pub const TOPICS_FULL: Error = Error {
        code: "topics-full",
        reason: "As many topics exist as MOONGATE_TOPICS_MAX allows.",
        hint: "Use a topic that exists, or try again later.",
    };
    /// There can be no more subscriptions.
    pub const SUBSCRIPTIONS_FULL: Error = Error {
        code: "subscriptions-full",
        reason: "This connection hears as many topics as MOONGATE_SUBSCRIPTION_TOPICS_MAX allows.",
        hint: "Unsubscribe from a topic first, open another connection, or raise the limit.",
    };
    /// A queue is full.
    pub const BUSY: Error = Error {
        code: "busy",
        reason: "The topic's home did not take the request.",
        hint: "Try again later.",
    };

    /// No topic can have the name that was given.
    fn topic(reason: Reason) -> Error {
        Error { code: "topic-name", reason: reason.detail(), hint: reason.hint() }
    }

    /// The same, where a protocol has a name of its own for it.
    const fn called(self, code: &'static str) -> Error {
        Error { code, ..self }
    }
}

/// A name in `Sec-WebSocket-Protocol`, and what is spoken where it is agreed on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Subprotocol {
    /// The name.
    pub name: &'static str,
    /// The protocol.
    pub protocol: Protocol,
}

/// All that can be enabled.
pub const SUBPROTOCOLS: &[Subprotocol] = &[
    Subprotocol { name: v1::NAME, protocol: Protocol::V1 },
    Subprotocol { name: wamp::NAME, protocol: Protocol::Wamp },
];

/// WAMP by the name that it never had, for clients that know no other.
pub const WAMP_ALIAS: Subprotocol = Subprotocol { name: wamp::ALIAS, protocol: Protocol::Wamp };
