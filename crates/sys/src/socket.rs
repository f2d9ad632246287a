//! What listening and connecting sockets have in common: options, addresses as the kernel reads them, errors.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use moongate_io::{ConnectFault, Remote};
use rustix::io::Errno;

/// After how much silence the kernel asks whether the peer's machine is still there, how often it asks again, and how
/// often at most. It is what ends a tunnel that nobody speaks through and whose peer has lost power.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: i32 = 4;

/// Options of TCP sockets; connections inherit them from the listener they are accepted from.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// `TCP_NOTSENT_LOWAT` in bytes: how much unsent data the kernel takes per connection before it says "full".
    pub notsent_lowat: u32,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged before the connection is given up.
    pub user_timeout: Duration,
    /// How many connections may wait to be accepted, per shard; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions { notsent_lowat: 128 * 1024, user_timeout: Duration::from_secs(30), backlog: 4096 }
    }
}

/// A TCP socket for addresses of the family of `address`. Blocking on purpose: what the ring starts is to wait.
pub(crate) fn tcp(address: SocketAddr, options: &SocketOptions) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = open(family, 0)?;
    let seconds = |span: Duration| span.as_secs() as i32;
    let user_timeout = u32::try_from(options.user_timeout.as_millis()).unwrap_or(u32::MAX);
    set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, clamp(options.notsent_lowat))?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, clamp(user_timeout))?;
    set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(KEEPALIVE_IDLE))?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(KEEPALIVE_EVERY))?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_COUNT)?;
    Ok(socket)
}

/// A Unix socket connected to `path`. Connecting to one never waits: it is done, or it is refused.
pub(crate) fn connected_unix(path: &Path) -> io::Result<OwnedFd> {
    let address = Address::unix(path).ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
    let socket = open(libc::AF_UNIX, libc::SOCK_NONBLOCK)?;
    // SAFETY: the address lives through the call and has the length that is given.
    check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr(), address.len()) })?;
    // Blocking from here on, like every other: what the ring starts is to wait.
    // SAFETY: fcntl(2) with F_SETFL takes no pointers. A new socket has no other status flag.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, 0) })?;
    Ok(socket)
}

/// A socket on its way to `remote`, or there already. It does not wait; whether it is connected shows when it can be
/// written to.
pub(crate) fn begin_connect(remote: &Remote, options: &SocketOptions) -> io::Result<OwnedFd> {
    let address = match remote {
        Remote::Tcp(address) => *address,
        Remote::Unix(path) => {
            let socket = connected_unix(path)?;
            rustix::io::ioctl_fionbio(&socket, true)?;
            return Ok(socket);
        }
    };
    let socket = tcp(address, options)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    match rustix::net::connect(&socket, &address) {
        // EINTR: it goes on all the same (connect(2)).
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn open(family: i32, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointers.
    let raw = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0) })?;
    // SAFETY: the descriptor is new and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

pub(crate) fn set(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` lives through the call and `len` is its length.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) })?;
    Ok(())
}

pub(crate) fn clamp(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An address as the kernel reads it, and how much of it there is.
pub(crate) struct Address {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl Address {
    /// See ip(7) and ipv6(7).
    pub(crate) fn tcp(address: SocketAddr) -> Address {
        match address {
            SocketAddr::V4(address) => {
                // SAFETY: all zeroes is a valid sockaddr_in.
                let mut name: libc::sockaddr_in = unsafe { mem::zeroed() };
                name.sin_family = libc::AF_INET as libc::sa_family_t;
                name.sin_port = address.port().to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                Address::of(name, size_of_val(&name))
            }
            SocketAddr::V6(address) => {
                // SAFETY: all zeroes is a valid sockaddr_in6.
                let mut name: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_port = address.port().to_be();
                name.sin6_addr.s6_addr = address.ip().octets();
                name.sin6_scope_id = address.scope_id();
                Address::of(name, size_of_val(&name))
            }
        }
    }

    /// See unix(7); `None` if no socket can have that path.
    pub(crate) fn unix(path: &Path) -> Option<Address> {
        // SAFETY: all zeroes is a valid sockaddr_un.
        let mut name: libc::sockaddr_un = unsafe { mem::zeroed() };
        let path = path.as_os_str().as_bytes();
        // One byte stays zero, as the path's end. One at the start would mean the abstract namespace.
        if path.is_empty() || path.len() >= name.sun_path.len() || path.contains(&0) {
            return None;
        }
        name.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in name.sun_path.iter_mut().zip(path) {
            *to = *from as libc::c_char;
        }
        Some(Address::of(name, size_of_val(&name)))
    }

    fn of<T: Copy>(name: T, len: usize) -> Address {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        const { assert!(align_of::<T>() <= align_of::<libc::sockaddr_storage>()) };
        // SAFETY: all zeroes is a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        // SAFETY: the storage is as large as `T` and as well aligned, which was just checked.
        unsafe { (&raw mut storage).cast::<T>().write(name) };
        Address { storage, len: len as libc::socklen_t }
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len
    }
}

/// Why there is no connection, of the errors of socket(2), connect(2) and of the network.
pub(crate) fn fault_of(errno: i32) -> ConnectFault {
    match errno {
        // EAGAIN is a Unix socket whose queue is full; EPROTOTYPE one that is no stream.
        libc::ECONNREFUSED | libc::ECONNRESET | libc::EAGAIN | libc::EPROTOTYPE => ConnectFault::Refused,
        libc::ETIMEDOUT => ConnectFault::TimedOut,
        libc::ENFILE | libc::EMFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL => {
            ConnectFault::NoRoom
        }
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => ConnectFault::NotFound,
        libc::EACCES | libc::EPERM => ConnectFault::Denied,
        libc::ECANCELED => ConnectFault::Cancelled,
        // Our own mistakes.
        libc::EBADF | libc::EFAULT | libc::ENOTSOCK | libc::EISCONN | libc::EALREADY => {
            panic!("connect: {}", io::Error::from_raw_os_error(errno))
        }
        // ENETUNREACH, EHOSTUNREACH, EAFNOSUPPORT and whatever else the network has.
        _ => ConnectFault::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_meaning() {
        let check = |errno, expect| assert_eq!(fault_of(errno), expect, "errno {errno}");
        check(libc::ECONNREFUSED, ConnectFault::Refused);
        check(libc::EAGAIN, ConnectFault::Refused);
        check(libc::ETIMEDOUT, ConnectFault::TimedOut);
        check(libc::EMFILE, ConnectFault::NoRoom);
        check(libc::EADDRNOTAVAIL, ConnectFault::NoRoom);
        check(libc::ENOENT, ConnectFault::NotFound);
        check(libc::ENAMETOOLONG, ConnectFault::NotFound);
        check(libc::EACCES, ConnectFault::Denied);
        check(libc::ENETUNREACH, ConnectFault::Unreachable);
        check(libc::EAFNOSUPPORT, ConnectFault::Unreachable);
        check(libc::ECANCELED, ConnectFault::Cancelled);
    }
}
