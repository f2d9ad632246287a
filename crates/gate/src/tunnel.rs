//! Requests that another server answers: connecting to it, asking it, and then either its ordinary answer or a tunnel.
//!
//! In the order of a life: [`upstreams`] knows where to connect to and who refused lately; [`opening`] tries one address
//! after the other; [`asking`] sends the head that `wire` wrote and reads the upstream's; [`answering`] passes on an
//! ordinary answer; [`carrying`] moves bytes both ways once both sides have switched; [`parting`] is how all of that ends.
//!
//! Client and upstream are two connections of the same shard, and each knows the other by its id. Whoever goes takes the
//! other along: there is no upstream without its client. What waits for either stands in its outbox, like everything else
//! that goes out.

mod answering;
mod asking;
mod carrying;
mod figures;
mod opening;
mod parting;
#[cfg(test)]
mod tests;
mod upstreams;

use std::net::SocketAddr;
use std::vec;

use moongate_io::{ConnId, Remote, Ticket, Time};
use moongate_wire::upstream::{AnswerScanner, BodyRelay, Exchange};

pub(crate) use figures::TunnelCounts;
pub(crate) use upstreams::Upstreams;

/// A request that an upstream is to answer, as long as it is not a tunnel.
pub(crate) struct Exchanging {
    pub(crate) peer: SocketAddr,
    /// The path that was asked for, for the log.
    pub(crate) target: Box<str>,
    pub(crate) exchange: Exchange,
    /// The head for the upstream, until it is sent.
    pub(crate) request: Vec<u8>,
    /// The request's body on its way. A request to switch has none (docs/protocol.md H9).
    pub(crate) body: BodyRelay,
    /// What came behind the head and may not go on yet (docs/protocol.md H2).
    pub(crate) early: Vec<u8>,
    /// Whether the client is not read from.
    pub(crate) paused: bool,
    /// Whether the client has sent its FIN.
    pub(crate) peer_ended: bool,
    pub(crate) stage: Stage,
}

/// How far an exchange has come.
pub(crate) enum Stage {
    /// A connection is being made.
    Connecting(Connecting),
    /// The request is on its way, and the head of the answer is waited for.
    Asking {
        upstream: ConnId,
        scanner: AnswerScanner,
        /// What has come of a head that is not complete.
        head: Vec<u8>,
    },
    /// An ordinary answer is passed on.
    Answering {
        upstream: ConnId,
        body: BodyRelay,
        /// Whether the upstream is not read from.
        paused: bool,
    },
}

/// One attempt after the other.
pub(crate) struct Connecting {
    /// The attempt under way, which one of this request's it is, and where it goes.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) number: u8,
    pub(crate) remote: Remote,
    /// Where to go after that.
    pub(crate) others: vec::IntoIter<Remote>,
    /// When the first began, and when the last must have succeeded.
    pub(crate) began: Time,
    pub(crate) until: Time,
}

/// One end of a tunnel: all that an idle one costs, beside two connections.
pub(crate) struct Tunnel {
    /// The connection at the other end.
    pub(crate) other: ConnId,
    pub(crate) route: u16,
    pub(crate) side: Side,
    /// Whether it is not read from, because too much of it waits at the other end.
    pub(crate) paused: bool,
    /// Whether its FIN has come: nothing more goes to the other end.
    pub(crate) ended: bool,
    pub(crate) fin: Fin,
    /// When both had switched, and when this end last gave or took bytes, in milliseconds of the driver's time.
    pub(crate) began_millis: u32,
    pub(crate) moved_millis: u32,
}

/// Why the gateway ended a tunnel, rather than one of those who spoke through it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// Nothing moved for too long.
    Idle,
    /// It had lasted as long as it may.
    Lifetime,
    /// The gateway stops.
    Drain,
}

/// Who is at this end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Upstream,
}

/// The FIN that this end is sent because the other has ended (docs/protocol.md H12).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fin {
    /// The other end may still speak.
    No,
    /// It follows what waits.
    Due,
    /// It is out.
    Sent,
}

impl Exchanging {
    /// Bytes of memory held for what cannot go on.
    pub(crate) fn held(&self) -> usize {
        let head = match &self.stage {
            Stage::Asking { head, .. } => head.capacity(),
            Stage::Connecting(_) | Stage::Answering { .. } => 0,
        };
        self.request.capacity() + self.early.capacity() + head
    }

    /// The upstream it is connected to.
    pub(crate) fn upstream(&self) -> Option<ConnId> {
        match &self.stage {
            Stage::Connecting(_) => None,
            Stage::Asking { upstream, .. } | Stage::Answering { upstream, .. } => Some(*upstream),
        }
    }
}
