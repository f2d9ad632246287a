//! The driver: completion-shaped, safe to call, one per shard, used only from its shard's thread.
//!
//! The life of a connection as the driver tells it: one [`Event::Accepted`], or one [`Event::Connected`] that names it;
//! after [`Driver::recv`] any number of [`Event::Received`], of which the last is an end or a reset; one [`Event::Sent`]
//! for every [`Driver::send`]; and, after [`Driver::close`], one [`Event::Closed`] when the last operation on it has
//! completed. Nothing names the connection after that.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Bytes, Chain, ConnId, ConnectFault, Lease, ListenerId, Remote, Ticket, Time};

/// One way of talking to the kernel, or to a simulation of it.
pub trait Driver {
    /// The time at the last return from [`Driver::wait`]; it stands still in between.
    fn now(&self) -> Time;

    /// The wall clock at the last return from [`Driver::wait`], as time since the Unix epoch.
    fn wall(&self) -> Duration;

    /// A random number that no peer can predict (repeatable in the simulation).
    fn random(&mut self) -> u64;

    /// How many slots connections can have: every [`ConnId::slot`] is below it.
    fn slots(&self) -> u32;

    /// Starts to accept connections on `listener`.
    fn listen(&mut self, listener: ListenerId);

    /// Stops to accept on `listener`: takes what has already connected, then closes it.
    fn unlisten(&mut self, listener: ListenerId);

    /// Starts to connect to `remote`. Exactly one [`Event::Connected`] names `ticket`, which is the caller's own and names
    /// no other attempt until then. There is no time limit but the kernel's.
    fn connect(&mut self, ticket: Ticket, remote: &Remote);

    /// Ends an attempt whose [`Event::Connected`] has not come: that event says [`ConnectFault::Cancelled`], and a
    /// connection that was made meanwhile is the driver's to close. Changes nothing once the event has been told.
    fn cancel_connect(&mut self, ticket: Ticket);

    /// Starts to receive from `conn`; stays armed until [`Inbound::End`], [`Inbound::Reset`], [`Driver::pause`] or
    /// [`Driver::close`]. Calling it again while armed changes nothing.
    fn recv(&mut self, conn: ConnId);

    /// Stops to receive. What was on its way still arrives, in order: a caller must take some leases after it.
    fn pause(&mut self, conn: ConnId);

    /// Receives again after [`Driver::pause`], losing nothing and in order.
    fn resume(&mut self, conn: ConnId);

    /// Sends `chain`, which must not be empty. At most one send per connection is in flight: the caller waits for
    /// [`Event::Sent`] before the next. It is submitted at the next [`Driver::wait`] together with all others.
    fn send(&mut self, conn: ConnId, chain: Chain);

    /// Sends FIN once all that was handed to [`Driver::send`] has gone out; receiving goes on.
    fn shutdown_write(&mut self, conn: ConnId);

    /// Closes with RST: whatever was not sent or not read is discarded. [`Event::Closed`] follows. Unix sockets know no
    /// RST: there it closes.
    fn abort(&mut self, conn: ConnId);

    /// Ends every operation on `conn` and closes it. Leases and the chain in flight still come back as events;
    /// [`Event::Closed`] is the last. Calling it again, also after [`Driver::abort`], changes nothing.
    fn close(&mut self, conn: ConnId);

    /// Submits what was asked for, sleeps until there is an event, a bell or `timeout` (`None`: without end; zero:
    /// not at all), and appends at most `budget` events. More may be waiting when it returns.
    fn wait(&mut self, timeout: Option<Duration>, budget: usize, events: &mut Vec<Event>);

    /// The received bytes, to be parsed and unmasked in place.
    fn bytes<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8];

    /// Makes a lease's bytes immutable, so that they can be sent as they are. The buffer returns to the pool when the
    /// last reference to them goes. `Err`: too many are kept already, and what is left is for receiving; copy instead.
    fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease>;

    /// Gives a lease back to the pool.
    fn release(&mut self, lease: Lease);

    /// What the driver counted since it was built.
    fn counters(&self) -> Counters;
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A client connected to `listener` from `peer`. The driver does not receive from it until told to.
    Accepted {
        /// Its name from now on.
        conn: ConnId,
        /// Where it connected.
        listener: ListenerId,
        /// Its address.
        peer: SocketAddr,
    },
    /// What came of [`Driver::connect`].
    Connected {
        /// Which attempt this was.
        ticket: Ticket,
        /// The connection, which from now on is like an accepted one; or why there is none.
        outcome: Result<ConnId, ConnectFault>,
    },
    /// Something came in from `conn`.
    Received {
        /// From whom.
        conn: ConnId,
        /// What.
        inbound: Inbound,
    },
    /// The send in flight on `conn` completed.
    Sent {
        /// To whom.
        conn: ConnId,
        /// What was handed to [`Driver::send`], whole.
        chain: Chain,
        /// How many of its bytes the kernel took, at least one; or why it took none.
        outcome: Result<usize, SendFault>,
    },
    /// Every operation on `conn` has ended and its slot is free for another.
    Closed {
        /// Who is gone.
        conn: ConnId,
    },
    /// Another thread rang this shard's [`Bell`].
    Bell,
}

/// What came in from a connection.
#[derive(Debug)]
pub enum Inbound {
    /// Bytes, at least one.
    Bytes(Lease),
    /// The peer's FIN: no more bytes will come. Sending is still possible.
    End,
    /// The connection is gone: reset, timed out or unreachable. Sending fails from now on.
    Reset,
}

/// Why a send took no bytes. In every case the connection cannot send any more.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SendFault {
    /// The peer reset the connection, or closed the half that receives.
    Gone,
    /// The peer acknowledged nothing for `TCP_USER_TIMEOUT`.
    TimedOut,
    /// [`Driver::close`] or [`Driver::abort`] ended it.
    Cancelled,
}

/// What a driver counted, for metrics. All but the last two only grow.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Times the kernel's completion queue overflowed.
    pub completion_overflows: u64,
    /// Times a receive found no free buffer.
    pub buffers_exhausted: u64,
    /// Times the submission queue was full and requests waited in user space.
    pub submissions_deferred: u64,
    /// Accepts that failed, for example because no more files may be open.
    pub accept_errors: u64,
    /// Connections that were reset before they could be taken over.
    pub accept_aborted: u64,
    /// Attempts to connect that failed and were not cancelled.
    pub connect_errors: u64,
    /// Sends that took fewer bytes than they carried.
    pub sends_short: u64,
    /// Calls into the kernel to submit or wait.
    pub enters: u64,
    /// Nanoseconds spent outside of [`Driver::wait`], from a return to the next call: the ticks' own time.
    pub busy_nanos: u64,
    /// Receive buffers that are free now.
    pub buffers_free: u64,
    /// Slots in use now.
    pub slots_used: u64,
}

/// Wakes a shard that waits in its driver. Ringing one that does not wait costs a call and harms nothing.
pub trait Bell: Send + Sync {
    /// Makes the shard's [`Driver::wait`] return, now or the next time it is called.
    fn ring(&self);
}
