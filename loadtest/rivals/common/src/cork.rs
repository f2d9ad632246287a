//! A writer that keeps what is written until it is flushed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// How much is kept at most.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Past this the memory is given back after a flush.
const SPARE_BYTES_MAX: usize = 4096;

/// Keeps what is written, up to 64 KiB, so that several frames make one write. Costs no memory when it is idle and was
/// not used much.
#[derive(Debug)]
pub struct Corked<W> {
    inner: W,
    kept: Vec<u8>,
    /// How much of `kept` is written.
    gone: usize,
}

impl<W> Corked<W> {
    /// Nothing is kept yet.
    pub fn new(inner: W) -> Corked<W> {
        Corked { inner, kept: Vec::new(), gone: 0 }
    }
}

impl<W: AsyncWrite + Unpin> Corked<W> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.kept.len() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, &self.kept[self.gone..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += written;
        }
        self.gone = 0;
        self.kept.clear();
        self.kept.shrink_to(SPARE_BYTES_MAX);
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Corked<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.kept.len() + bytes.len() > KEPT_BYTES_MAX {
            ready!(self.poll_drain(context))?;
        }
        self.kept.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
