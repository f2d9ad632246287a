//! What is under way with the kernel. Every operation runs to its completion: nothing here is ever dropped before, raced
//! against a timer or given up, because `tokio-uring` would leave it running, and lose what it brings.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;

use moongate_io::{Chain, ConnId, ListenerId, Segment, Ticket};
use tokio::io::unix::AsyncFd;
use tokio_uring::buf::{BoundedBuf, IoBuf};
use tokio_uring::net::{TcpListener, TcpStream};

use super::stream::Stream;
use crate::pool::Taken;

/// An operation until it completes.
pub(super) type Operation = Pin<Box<dyn Future<Output = Done>>>;

/// An operation that has completed, with all that it owned.
pub(super) enum Done {
    /// One accept.
    Accepted { listener: ListenerId, outcome: io::Result<(TcpStream, SocketAddr)> },
    /// An attempt to connect, well or not: its socket knows.
    Connected { ticket: Ticket },
    /// A read into the scout's buffer.
    Scouted { conn: ConnId, outcome: io::Result<usize>, scout: Vec<u8> },
    /// A read into a buffer that can be lent, behind what was there.
    Filled { conn: ConnId, outcome: io::Result<usize>, taken: Taken },
    /// A write.
    Written { conn: ConnId, outcome: io::Result<usize>, chain: Chain },
}

pub(super) fn accept(listener: ListenerId, socket: Rc<TcpListener>) -> Operation {
    Box::pin(async move {
        let outcome = socket.accept().await;
        Done::Accepted { listener, outcome }
    })
}

pub(super) fn connect(ticket: Ticket, socket: Rc<AsyncFd<OwnedFd>>) -> Operation {
    Box::pin(async move {
        let ready = socket.writable().await;
        ready.expect("the runtime watches as long as it lives").retain_ready();
        drop(socket);
        Done::Connected { ticket }
    })
}

pub(super) fn scout(conn: ConnId, stream: Rc<Stream>, mut scout: Vec<u8>) -> Operation {
    scout.clear();
    Box::pin(async move {
        let (outcome, scout) = stream.read(scout).await;
        Done::Scouted { conn, outcome, scout }
    })
}

/// Reads up to `size` bytes in all, those included that `taken` has already.
pub(super) fn fill(conn: ConnId, stream: Rc<Stream>, mut taken: Taken, size: usize) -> Operation {
    let bytes = std::mem::take(&mut taken.bytes);
    Box::pin(async move {
        let from = bytes.len();
        let (outcome, slice) = stream.read(bytes.slice(from..size)).await;
        taken.bytes = slice.into_inner();
        Done::Filled { conn, outcome, taken }
    })
}

/// The process does not hear of SIGPIPE: Rust's runtime ignores it from the start, and a write has no MSG_NOSIGNAL.
pub(super) fn write(conn: ConnId, stream: Rc<Stream>, chain: Chain) -> Operation {
    Box::pin(async move {
        let (outcome, chain) = match chain {
            Chain::One(segment) => {
                let (outcome, carried) = stream.write(Carried(segment)).await;
                (outcome, Chain::One(carried.0))
            }
            Chain::Many(segments) => {
                let carried = segments.into_iter().map(Carried).collect();
                let (outcome, carried): (_, Vec<Carried>) = stream.writev(carried).await;
                (outcome, Chain::Many(carried.into_iter().map(|carried| carried.0).collect()))
            }
        };
        Done::Written { conn, outcome, chain }
    })
}

/// A segment on its way.
struct Carried(Segment);

// SAFETY: a segment's bytes are immutable and stand behind a reference count that the segment holds one of: they are where
// they are, wherever the segment is moved to, until it is dropped. All of them are initialised.
unsafe impl IoBuf for Carried {
    fn stable_ptr(&self) -> *const u8 {
        self.0.as_slice().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }

    fn bytes_total(&self) -> usize {
        self.0.len()
    }
}
