//! Received bytes on loan from the driver.

/// The loan of one of the driver's receive buffers, with `len` bytes in it.
///
/// Only [`crate::Driver::bytes`] can look inside, and the buffer returns to the pool only through
/// [`crate::Driver::release`]: a lease that is dropped instead is a buffer lost, which drivers check for at their end.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is not released is a buffer lost"]
pub struct Lease {
    buffer: u32,
    len: u32,
}

impl Lease {
    /// For drivers: lends buffer number `buffer`, filled with `len` bytes.
    pub const fn new(buffer: u32, len: u32) -> Lease {
        Lease { buffer, len }
    }

    /// For drivers: the number of the buffer lent.
    pub const fn buffer(&self) -> u32 {
        self.buffer
    }

    /// How many bytes were received into it; never zero.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Always false: an end of stream comes as [`crate::Inbound::End`], not as an empty lease.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}
