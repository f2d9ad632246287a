//! The narrow waist between Moongate and whatever drives its sockets.
//!
//! Everything above this crate (`hub`, `gate`) is written against [`Driver`]: bytes arrive as [`Lease`]s, leave as
//! [`Chain`]s, connections are [`ConnId`]s and time is [`Time`]. Everything below it (`sys`, `sim`) implements it.
//! Nothing here knows which kernel interface is underneath, and nothing here does any I/O.

mod bytes;
mod driver;
mod id;
mod lease;
mod remote;
mod source;
mod time;

pub use bytes::{Bytes, Chain, Excluded, Loan, Meter, Places, Run, Segment, WeakBytes};
pub use driver::{Bell, Counters, Driver, Event, Inbound, SendFault};
pub use id::{ConnId, ListenerId};
pub use lease::Lease;
pub use remote::{ConnectFault, Remote, Ticket};
pub use source::Source;
pub use time::Time;

/// How many segments one send may carry; a longer outbox goes out in several sends.
pub const CHAIN_SEGMENTS_MAX: usize = 64;
