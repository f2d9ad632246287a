//! The receive buffers of a driver that reads by itself: memory of its own, and the ledger of what is lent.
//!
//! The buffer that came home last goes out first, so that what is in the processor's caches is used again, and memory is
//! touched only for as many buffers as were ever out at once.

use std::cell::RefCell;
use std::rc::Rc;

use moongate_io::{Bytes, Lease, Loan};

/// How long a lease is while its buffer is not lent.
const HOME: u32 = 0;

/// Of how many buffers one may be kept for sending: a peer that does not read must not stop others from being heard.
const KEPT_OF: usize = 4;

/// Fixed-size buffers, each either at home or lent out as exactly one [`Lease`] (N7).
#[derive(Debug)]
pub(crate) struct Pool {
    buffers: Box<[Buffer]>,
    /// The numbers of those at home.
    home: Vec<u32>,
    size: usize,
    /// How many are kept for sending, of those that are lent.
    kept: usize,
    /// Those that nobody keeps any more, until they are reclaimed.
    left: Rc<RefCell<Vec<Taken>>>,
}

#[derive(Debug)]
struct Buffer {
    /// Empty until the buffer first goes out, and while an operation owns it or it is kept for sending.
    bytes: Vec<u8>,
    /// The length it is lent with, or [`HOME`].
    lent: u32,
}

impl Pool {
    /// `count` buffers of `size` bytes each, at least one of both.
    pub(crate) fn new(count: u16, size: u32) -> Pool {
        assert!(count > 0 && size > 0, "checked by the configuration");
        let buffers = (0..count).map(|_| Buffer { bytes: Vec::new(), lent: HOME }).collect();
        let home = (0..u32::from(count)).rev().collect();
        Pool { buffers, home, size: size as usize, kept: 0, left: Rc::default() }
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> usize {
        self.buffers.len()
    }

    /// How many are not lent. Those whose bytes are not kept any more count after [`Pool::reclaim`].
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

    /// Keeps a lease's bytes where they are until they are sent, unless too many are kept already.
    pub(crate) fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        if self.kept >= self.count() / KEPT_OF {
            return Err(lease);
        }
        let (number, len) = (lease.buffer(), lease.len());
        let buffer = &mut self.buffers[number as usize];
        assert_eq!(buffer.lent as usize, len, "a lease is of a buffer that is lent");
        let taken = Taken { number, bytes: std::mem::take(&mut buffer.bytes) };
        self.kept += 1;
        Ok(Bytes::lent(Kept { taken: Some(taken), len, left: Rc::clone(&self.left) }))
    }

    /// Takes the buffers back whose bytes nobody keeps any more.
    pub(crate) fn reclaim(&mut self) {
        for Taken { number, bytes } in self.left.borrow_mut().drain(..) {
            let buffer = &mut self.buffers[number as usize];
            buffer.bytes = bytes;
            buffer.lent = HOME;
            self.home.push(number);
            self.kept -= 1;
        }
    }
}

/// Bytes of one buffer, kept for sending.
struct Kept {
    /// There until this value is dropped.
    taken: Option<Taken>,
    len: usize,
    left: Rc<RefCell<Vec<Taken>>>,
}

impl Loan for Kept {
    fn as_slice(&self) -> &[u8] {
        self.taken.as_ref().map_or(&[], |taken| &taken.bytes[..self.len])
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.left.borrow_mut().extend(self.taken.take());
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
            self.reclaim();
            debug_assert_eq!(
                self.home() + self.kept,
                self.count(),
                "every lease is released before the driver ends"
            );
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

    /// N7: kept bytes come home with their last reference, in the driver or after its end.
    #[test]
    fn n7_kept_bytes_come_home_once() {
        let mut pool = Pool::new(8, 8);
        let keep = |pool: &mut Pool| {
            let lease = lend(pool, b"hello").expect("bytes");
            pool.keep(lease)
        };
        let first = keep(&mut pool).expect("none is kept");
        let second = keep(&mut pool).expect("one is kept");
        let third = keep(&mut pool).expect_err("a quarter of the buffers may be kept");
        assert_eq!(pool.bytes(&third), b"hello");
        pool.take_back(third);
        assert_eq!((pool.home(), pool.kept), (6, 2));

        let again = first.clone();
        drop(first);
        pool.reclaim();
        assert_eq!((again.as_slice(), pool.home()), (&b"hello"[..], 6));
        drop(again);
        pool.reclaim();
        assert_eq!((pool.home(), pool.kept), (7, 1));
        drop(pool);
        assert_eq!(second.as_slice(), b"hello");
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
