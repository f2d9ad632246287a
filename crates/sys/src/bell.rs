//! The bell: an eventfd that other threads write and the ring reads.
//!
//! Rings that come while nobody reads add up in the eventfd's counter, and one read takes them all: so bells coalesce
//! and none is lost (N11).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use moongate_io::Bell;

/// A bell that any thread may ring and one driver hears; clones ring the same one.
#[derive(Clone, Debug)]
pub struct EventBell(Arc<File>);

impl EventBell {
    /// A bell that nobody has rung.
    pub fn new() -> io::Result<EventBell> {
        // Blocking on purpose: a read that the ring starts on a non-blocking file ends at once instead of waiting.
        // SAFETY: eventfd(2) takes no pointers.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(EventBell(Arc::new(File::from(owned))))
    }
}

impl Bell for EventBell {
    fn ring(&self) {
        // It would block only at 2^64 - 2 unread rings.
        while let Err(error) = (&*self.0).write(&1_u64.to_ne_bytes()) {
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "an eventfd takes what is written: {error}");
        }
    }
}

impl AsRawFd for EventBell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
