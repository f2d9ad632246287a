//! Where to connect to, and what may come of trying.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where an upstream listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Remote {
    /// At an address.
    Tcp(SocketAddr),
    /// At a stream socket in the file system.
    Unix(PathBuf),
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Remote {
        Remote::Tcp(address)
    }
}

impl From<&Path> for Remote {
    fn from(path: &Path) -> Remote {
        Remote::Unix(path.to_owned())
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Tcp(address) => address.fmt(f),
            Remote::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The caller's own number for one attempt to connect.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// Why an attempt made no connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ConnectFault {
    /// Nobody listens there, or its queue is full.
    Refused,
    /// No way leads there.
    Unreachable,
    /// The kernel gave up waiting for an answer.
    TimedOut,
    /// This side is short of something: slots, files, ports or memory.
    NoRoom,
    /// There is no such socket in the file system, or its path is too long to be one.
    NotFound,
    /// This process may not connect there.
    Denied,
    /// [`crate::Driver::cancel_connect`] ended it.
    Cancelled,
}
