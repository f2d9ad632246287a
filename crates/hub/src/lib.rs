//! Topics, subscribers and what waits for each of them: the publish/subscribe fan-out.
//!
//! Every shard owns one [`Hub`]; nothing in it is locked. A topic has a *home* shard, found by hashing its name, that
//! gives each of its messages an offset; so all subscribers on all shards see one order. Shards speak to each other
//! through a [`mesh`] of lanes: *asks* (publish, subscribe) go to a topic's home, *tells* (runs, replies) come back.
//!
//! A message's way: [`Hub::publish`] → the home orders it and encodes it once per form → at the end of the tick
//! [`Hub::seal`] joins what the topic said into one run per form → every shard with subscribers gets a reference →
//! each subscriber's outbox ([`Outboxes`]) gets a reference to that → one send carries all that waits.
//!
//! What a form looks like on the wire is not known here: [`Encode`] is given by the layer above.

mod channel;
mod gap;
mod history;
mod home;
mod hub;
mod mesh;
mod name;
mod outbox;
mod pressure;
mod replay;
mod report;
mod room;
mod slab;
mod survey;

pub use moongate_io::Bell;

pub use channel::{ChannelId, SubscriptionId};
pub use gap::Gap;
pub use history::HistoryLimits;
pub use hub::{Command, Config, Hub, Published};
pub use mesh::{
    Ask, ControlPort, Full, Mesh, Ordered, Patience, Publish, Rejection, ShardPort, Tell, Token, TopicInfo,
    TopicsPage, UpstreamAddresses,
};
pub use name::{HashKey, Name};
pub use outbox::{Drops, OutboxLimits, OutboxPolicy, Outboxes};
pub use replay::{Joined, Replayed, Start, Subscribed};
pub use report::{Sample, SampleKind, Snapshot};

/// What a message's payload is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Valid UTF-8.
    Text,
    /// One JSON value, in UTF-8.
    Json,
    /// Any bytes.
    Binary,
}

/// A way of writing messages for subscribers: its index among those the [`Encode`] knows, below [`FORMS_MAX`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Form(pub u8);

/// How many forms there can be.
pub const FORMS_MAX: usize = 16;

/// A message that its topic's home has ordered.
#[derive(Copy, Clone, Debug)]
pub struct Message<'a> {
    /// The topic.
    pub name: &'a Name,
    /// Which life of the topic: changes when the topic was forgotten and came back. Never zero.
    pub epoch: u64,
    /// Its place among the topic's messages, from 1.
    pub offset: u64,
    /// What the payload is.
    pub kind: Kind,
    /// What was said.
    pub payload: &'a [u8],
}

/// Writes messages in the forms that subscribers asked for.
pub trait Encode {
    /// Appends `message` in `form` to `out`, complete in itself, so that encoded messages can follow one another. All
    /// forms of a message just ordered are asked for one after the other, by rising number, before the next message.
    fn encode(&mut self, form: Form, message: &Message<'_>, out: &mut Vec<u8>);

    /// Appends what a subscriber of `form` is told before anything else of a topic it has joined, if anything.
    fn joined(&mut self, _form: Form, _name: &Name, _joined: &Joined, _out: &mut Vec<u8>) {}

    /// Appends what a subscriber of `form` is told in place of messages it does not get, if anything.
    fn gap(&mut self, _form: Form, _gap: &Gap<'_>, _out: &mut Vec<u8>) {}
}
