//! Client protocols that run inside a WebSocket, chosen by `Sec-WebSocket-Protocol`: what their messages say and how they
//! are written. One file each; who keeps the conversation is not known here.

pub mod v1;
pub mod wamp;

/// A protocol that is spoken inside a WebSocket.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `moongate.v1`.
    V1,
    /// WAMP in its second version.
    Wamp,
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
