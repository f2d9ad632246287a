//! A connection's socket, of either family.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use tokio_uring::BufResult;
use tokio_uring::buf::{BoundedBuf, BoundedBufMut};
use tokio_uring::net::{TcpStream, UnixStream};

/// A socket that `tokio-uring` reads and writes.
pub(super) enum Stream {
    /// To a client, or to an upstream at an address.
    Tcp(TcpStream),
    /// To an upstream in the file system.
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn tcp(socket: OwnedFd) -> Stream {
        Stream::Tcp(TcpStream::from_std(socket.into()))
    }

    pub(super) fn unix(socket: OwnedFd) -> Stream {
        Stream::Unix(UnixStream::from_std(socket.into()))
    }

    pub(super) async fn read<T: BoundedBufMut>(&self, buffer: T) -> BufResult<usize, T> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer).await,
            Stream::Unix(stream) => stream.read(buffer).await,
        }
    }

    pub(super) async fn write<T: BoundedBuf>(&self, buffer: T) -> BufResult<usize, T> {
        match self {
            Stream::Tcp(stream) => stream.write(buffer).submit().await,
            Stream::Unix(stream) => stream.write(buffer).submit().await,
        }
    }

    pub(super) async fn writev<T: BoundedBuf>(&self, buffers: Vec<T>) -> BufResult<usize, Vec<T>> {
        match self {
            Stream::Tcp(stream) => stream.writev(buffers).await,
            Stream::Unix(stream) => stream.writev(buffers).await,
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let raw = match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        };
        // SAFETY: the stream has its descriptor open as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(raw) }
    }
}
