//! The people at the other end: real bytes out, and every byte that comes back looked at.

mod base64;
mod deflate;
mod http;
mod payload;
mod poster;
mod scripted;
mod socket;
mod squeezed;
mod stream;
mod talker;
mod tunnel;
mod visit;

pub use deflate::Offer;
pub use poster::{Poster, PosterPlan};
pub use scripted::{Expect, Scripted, rude};
pub use socket::{Place, Socket, SocketPlan};
pub use squeezed::rude_squeezed;
pub use stream::{Stream, StreamPlan};
pub use talker::{Talker, TalkerPlan, Tongue};
pub use tunnel::{Caller, Manner, TunnelPlan, Upstream, Way};
pub use visit::{Leave, VisitPlan};

use std::time::Duration;

use moongate_io::Time;

use crate::net::{Due, End, Net, WireId};
use crate::oracle::Oracle;
use crate::rng::Rng;

/// What a client can reach.
pub struct Hands<'w> {
    /// The network.
    pub net: &'w mut Net,
    /// Who is told what was said and heard.
    pub oracle: &'w mut Oracle,
    /// Where chances come from.
    pub rng: &'w mut Rng,
    /// The client's own wire.
    pub wire: WireId,
    /// Whether a well-behaved client may be refused or sent away: memory or connections are scarce in this world, or
    /// the gateway stops.
    pub harsh: bool,
}

impl Hands<'_> {
    fn now(&self) -> Time {
        self.net.now
    }

    fn say(&mut self, bytes: &[u8]) {
        self.net.say(self.wire, bytes);
    }

    fn act_in(&mut self, span: Duration) {
        self.net.schedule(self.net.now + span, Due::Act(self.wire));
    }

    /// Whether the network broke the wire, so that nothing can be asked of the server.
    fn is_broken(&self) -> bool {
        self.net.wires[self.wire].broken
    }

    fn fault(&mut self, what: &str) {
        let fault = format!("client {}: {what}", self.wire);
        self.oracle.fault(fault);
    }
}

/// Somebody with a connection.
pub trait Client {
    /// It has connected.
    fn begin(&mut self, hands: &mut Hands<'_>);

    /// Its time has come, perhaps not for the first time.
    fn act(&mut self, hands: &mut Hands<'_>);

    /// Bytes came.
    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>);

    /// Nothing more will come. The wire is closed after that, or when it no longer goes on.
    fn end(&mut self, end: End, hands: &mut Hands<'_>);

    /// Whether it still has something to say, though nothing more will come.
    fn goes_on(&self) -> bool {
        false
    }

    /// The world has calmed down: what was said has arrived.
    fn settle(&mut self, _hands: &mut Hands<'_>) {}

    /// It has stopped to read for good: what lies unread proves nothing.
    fn abandon(&mut self, _hands: &mut Hands<'_>) {}

    /// What it still waits for that it should have got by now.
    fn is_owed(&self) -> Option<&'static str>;
}
