//! Listeners: one socket per shard on one address, and nobody else's.
//!
//! `SO_REUSEPORT` spreads connections over the shards, but it would also let a second gateway of the same user share
//! the port unnoticed. So the first socket binds *and listens* without it: only then has the kernel checked that no one
//! else listens there (a bind alone proves nothing under `SO_REUSEADDR`). It gets `SO_REUSEPORT` afterwards, which the
//! sockets that follow need, and which a second gateway, going the same way, does not have yet when it is refused.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::socket::{self, Address, SocketOptions, check, clamp, set};

/// How many connections a driver takes from a listener in one wait. Each brings a request, and both together cost as much
/// as ten sends to those who are there already: however many come at once, these wait for a few of them and no more.
pub(crate) const ACCEPTS_MAX: u32 = 8;

/// A socket that listens, on its way to the shard that will accept from it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Where it listens, with the port that the kernel chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    doing: &'static str,
    error: io::Error,
}

impl BindError {
    /// What the kernel said.
    pub(crate) fn into_inner(self) -> io::Error {
        self.error
    }

    /// Whether somebody else listens there.
    pub fn is_in_use(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { address, doing, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(f, "somebody else listens on {address}"),
            io::ErrorKind::AddrNotAvailable => write!(f, "this machine does not have the address {address}"),
            io::ErrorKind::PermissionDenied => {
                write!(f, "this user may not listen on port {} ({error})", address.port())
            }
            _ => write!(f, "cannot {doing} on {address}: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Listens on `address` with one socket for each of `shards` (at least 1), and says where: port 0 takes a free one.
///
/// Unless `shared`, it fails when anybody else listens there, also with `SO_REUSEPORT`; of two that start at once at
/// most one succeeds. An IPv6 address takes IPv6 only.
pub fn bind(
    address: SocketAddr,
    shards: usize,
    shared: bool,
    options: &SocketOptions,
) -> Result<(SocketAddr, Vec<Listener>), BindError> {
    let failed = |doing| move |error| BindError { address, doing, error };
    let first = open(address, options).map_err(failed("open a socket"))?;
    if shared {
        share_port(&first).map_err(failed("share the port"))?;
    }
    bind_to(&first, address).map_err(failed("bind"))?;
    listen(&first, options.backlog).map_err(failed("listen"))?;
    share_port(&first).map_err(failed("share the port"))?;
    let first = TcpListener::from(first);
    let bound = first.local_addr().map_err(failed("ask for the port"))?;

    let mut listeners = vec![Listener { socket: first.into(), address: bound }];
    for _ in 1..shards {
        let socket = open(address, options).map_err(failed("open a socket"))?;
        share_port(&socket).map_err(failed("share the port"))?;
        bind_to(&socket, bound).map_err(failed("bind"))?;
        listen(&socket, options.backlog).map_err(failed("listen"))?;
        listeners.push(Listener { socket, address: bound });
    }
    Ok((bound, listeners))
}

fn open(address: SocketAddr, options: &SocketOptions) -> io::Result<OwnedFd> {
    let socket = socket::tcp(address, options)?;
    // A restart must not wait until the old connections' TIME_WAIT is over.
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if address.is_ipv6() {
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    Ok(socket)
}

fn share_port(socket: &OwnedFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

fn bind_to(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let name = Address::tcp(address);
    // SAFETY: `name` lives through the call, which gets its true length.
    check(unsafe { libc::bind(socket.as_raw_fd(), name.as_ptr(), name.len()) })?;
    Ok(())
}

fn listen(socket: &OwnedFd, backlog: u32) -> io::Result<()> {
    // SAFETY: listen(2) takes no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), clamp(backlog)) })?;
    Ok(())
}
