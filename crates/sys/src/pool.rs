//! The receive buffers of a driver that reads by itself: memory of its own, and the ledger of what is lent.
//!
//! The buffer that came home last goes out first, so that what is in the processor's caches is used again, and memory is
//! touched only for as many buffers as were ever out at once.

use moongate_io::Lease;

/// How long a lease is while its buffer is not lent.
const HOME: u32 = 0;

/// Fixed-size buffers, each either at home or lent out as exactly one [`Lease`] (N7).
#[derive(Debug)]
pub(crate) struct Pool {
    buffers: Box<[Buffer]>,
    /// The numbers of those at home.
    home: Vec<u32>,
    size: usize,
}

#[derive(Debug)]
struct Buffer {
    /// Empty until the buffer first goes out, and while an operation owns it.
    bytes: Vec<u8>,
    /// The length it is lent with, or [`HOME`].
    lent: u32,
}

impl Pool {
    /// `count` buffers of `size` bytes each, at least one of both.
    pub(crate) fn new(count: u16, size: u32) -> Pool {
        assert!(count > 0 && size > 0, "checked by the configuration");
        let buffers = (0..count).map(|_| Buffer { bytes: Vec::new(), lent: HOME }).collect();
        Pool { buffers, home: (0..u32::from(count)).rev().collect(), size: size as usize }
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> usize {
        self.buffers.len()
    }

    /// How many are not lent.
    pub(crate) fn home(&self) -> usize {
        self.home.len()
    }

    /// How large each is.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Lets `read` fill a buffer, and lends it with as many bytes as it says. Nothing is lent when it says none or
    /// fails. There must be a buffer at home.
    pub(crate) fn lend<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<Lease>, E> {
        let number = *self.home.last().expect("whoever reads has seen that a buffer is at home");
        let buffer = &mut self.buffers[number as usize];
        buffer.bytes.resize(self.size, 0);
        let len = read(&mut buffer.bytes)?;
        assert!(len <= self.size, "a read fills no more than its buffer");
        if len == 0 {
            return Ok(None);
        }
        self.home.pop();
        buffer.lent = len as u32;
        Ok(Some(Lease::new(number, len as u32)))
    }

    /// Hands a buffer to an operation, empty and with room for its size. There must be one at home.
    pub(crate) fn take(&mut self) -> Taken {
        let number = self.home.pop().expect("whoever reads has seen that a buffer is at home");
        let mut bytes = std::mem::take(&mut self.buffers[number as usize].bytes);
        bytes.clear();
        bytes.reserve_exact(self.size);
        Taken { number, bytes }
    }

    /// Lends what an operation has filled; nothing if it has filled nothing.
    pub(crate) fn lend_taken(&mut self, taken: Taken) -> Option<Lease> {
        let Taken { number, bytes } = taken;
        let buffer = &mut self.buffers[number as usize];
        buffer.bytes = bytes;
        if buffer.bytes.is_empty() {
            self.home.push(number);
            return None;
        }
        buffer.lent = buffer.bytes.len() as u32;
        Some(Lease::new(number, buffer.lent))
    }

    /// The bytes of a lease.
    pub(crate) fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        let buffer = &mut self.buffers[lease.buffer() as usize];
        assert_eq!(buffer.lent as usize, lease.len(), "a lease is of a buffer that is lent");
        &mut buffer.bytes[..lease.len()]
    }

    /// Takes a lease back.
    pub(crate) fn take_back(&mut self, lease: Lease) {
        let buffer = &mut self.buffers[lease.buffer() as usize];
        assert_eq!(buffer.lent as usize, lease.len(), "a lease returns exactly once");
        buffer.lent = HOME;
        self.home.push(lease.buffer());
    }
}

/// A buffer that an operation owns.
#[derive(Debug)]
#[must_use = "a buffer that does not come back is lost"]
pub(crate) struct Taken {
    number: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            debug_assert_eq!(self.home(), self.count(), "every lease is released before the driver ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lend(pool: &mut Pool, bytes: &[u8]) -> Option<Lease> {
        let filled = pool.lend::<()>(|buffer| {
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        });
        filled.expect("nothing fails here")
    }

    #[test]
    fn a_lease_goes_out_and_home() {
        let mut pool = Pool::new(2, 8);
        let first = lend(&mut pool, b"hello").expect("bytes");
        let second = lend(&mut pool, b"you").expect("bytes");
        assert_eq!((pool.home(), first.len()), (0, 5));
        assert_eq!(pool.bytes(&first), b"hello");
        assert_eq!(pool.bytes(&second), b"you");
        pool.take_back(first);
        // Who came home last goes first.
        let third = lend(&mut pool, b"again").expect("bytes");
        assert_eq!(third.buffer(), 0);
        pool.take_back(second);
        pool.take_back(third);
        assert_eq!(pool.home(), 2);
    }

    #[test]
    fn nothing_is_lent_where_nothing_was_read() {
        let mut pool = Pool::new(1, 8);
        assert_eq!(lend(&mut pool, b""), None);
        assert_eq!(pool.lend(|_| Err("no")), Err("no"));
        assert_eq!(pool.home(), 1);
    }

    #[test]
    fn n7_an_operation_owns_its_buffer_until_it_is_lent() {
        let mut pool = Pool::new(2, 8);
        let (mut full, empty) = (pool.take(), pool.take());
        assert_eq!((pool.home(), full.bytes.capacity() >= 8), (0, true));
        full.bytes.extend_from_slice(b"hello");
        assert_eq!(pool.lend_taken(empty), None);
        let lease = pool.lend_taken(full).expect("bytes");
        assert_eq!(pool.bytes(&lease), b"hello");
        pool.take_back(lease);
        assert_eq!(pool.home(), 2);
    }

    #[test]
    #[should_panic(expected = "a lease returns exactly once")]
    fn n7_a_lease_does_not_return_twice() {
        let mut pool = Pool::new(2, 8);
        let lease = lend(&mut pool, b"hello").expect("bytes");
        let forged = Lease::new(lease.buffer(), 5);
        pool.take_back(lease);
        pool.take_back(forged);
    }

    #[test]
    #[should_panic(expected = "every lease is released")]
    fn n7_a_lease_that_is_lost_is_missed() {
        let mut pool = Pool::new(2, 8);
        let _lost = lend(&mut pool, b"hello");
    }
}
