//! The receive buffers of one ring: a provided buffer ring shared with the kernel, and the ledger of what is lent.
//!
//! The kernel takes buffers from the ring's head as bytes arrive; each comes up as a lease and returns to the ring's
//! tail. Returned buffers become the kernel's with one release store of the tail, once per wait. A lease whose bytes are
//! to be sent on as they are is kept instead, and returns when nobody refers to its bytes any more.

use std::cell::RefCell;
use std::io;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use moongate_io::{Bytes, Lease, Loan};

/// How long a lease is while its buffer is not lent.
const HOME: u32 = 0;

/// Of how many buffers one may be kept for sending: a peer that does not read must not stop others from being heard.
const KEPT_OF: u16 = 4;

/// Fixed-size buffers, each either the kernel's to fill or lent out as exactly one [`Lease`] (N7).
#[derive(Debug)]
pub(crate) struct Buffers {
    pool: Rc<Pool>,
    /// Where the buffers start, in bytes from the map's; the ring is at its start.
    offset: usize,
    count: u16,
    size: u32,
    /// The tail that the next [`Buffers::publish`] stores.
    tail: u16,
    published: u16,
    /// Per buffer the length it is lent with, or [`HOME`].
    ledger: Box<[u32]>,
    lent: u16,
    /// How many of those are kept for sending.
    kept: u16,
}

/// The memory, which stays until the last of the bytes kept in it are gone, and the buffers that they left.
#[derive(Debug)]
struct Pool {
    map: Map,
    left: RefCell<Vec<u16>>,
}

/// Bytes of one buffer, kept for sending.
struct Kept {
    pool: Rc<Pool>,
    offset: usize,
    len: usize,
    buffer: u16,
}

impl Loan for Kept {
    fn as_slice(&self) -> &[u8] {
        // SAFETY: the slice is inside the map, which lives as long as the pool, and is initialised memory. The buffer is
        // in the ledger as lent until this value is dropped, so the kernel does not write to it; its lease was consumed
        // when this value was made, so nobody else can ask for its bytes.
        unsafe { std::slice::from_raw_parts(self.pool.map.start.as_ptr().add(self.offset), self.len) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.pool.left.borrow_mut().push(self.buffer);
    }
}

impl Buffers {
    /// `count` buffers, a power of two up to 32,768, of `size` bytes each, all home and published.
    pub(crate) fn new(count: u16, size: u32) -> io::Result<Buffers> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && size > 0, "checked by the configuration");
        let ring = usize::from(count) * size_of::<BufRingEntry>();
        let offset = ring.next_multiple_of(4096);
        let map = Map::new(offset + usize::from(count) * size as usize)?;
        let pool = Rc::new(Pool { map, left: RefCell::default() });
        let ledger = vec![HOME; usize::from(count)].into_boxed_slice();
        let mut buffers =
            Buffers { pool, offset, count, size, tail: 0, published: 0, ledger, lent: 0, kept: 0 };
        for buffer in 0..count {
            buffers.put(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Where the ring is, for its registration; page-aligned.
    pub(crate) fn ring_address(&self) -> u64 {
        self.pool.map.start.as_ptr() as u64
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// How many are not lent. Those whose bytes are not kept any more count after [`Buffers::publish`].
    pub(crate) fn home(&self) -> u16 {
        self.count - self.lent
    }

    /// How many are kept for sending, of those that are lent.
    pub(crate) fn kept(&self) -> u16 {
        self.kept
    }

    /// The kernel filled `buffer` with `len` bytes: lends it.
    pub(crate) fn lend(&mut self, buffer: u16, len: u32) -> Lease {
        let entry = &mut self.ledger[usize::from(buffer)];
        assert!(*entry == HOME && 0 < len && len <= self.size, "the kernel filled a buffer that it owned");
        *entry = len;
        self.lent += 1;
        Lease::new(u32::from(buffer), len)
    }

    /// The bytes of a lease.
    pub(crate) fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        let index = lease.buffer() as usize;
        assert_eq!(self.ledger[index] as usize, lease.len(), "a lease is of a buffer that is lent");
        // SAFETY: `index` is below `count` (the ledger has that many entries), so the slice is inside the map, which
        // is initialised memory. The buffer is lent, so the kernel does not write to it; the mutable borrow of self
        // keeps every other slice of the map away.
        unsafe {
            let start = self.pool.map.start.as_ptr().add(self.offset + index * self.size as usize);
            std::slice::from_raw_parts_mut(start, lease.len())
        }
    }

    /// Keeps a lease's bytes where they are until they are sent, unless too many are kept already.
    pub(crate) fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        if self.kept >= self.count / KEPT_OF {
            return Err(lease);
        }
        let index = lease.buffer() as usize;
        assert_eq!(self.ledger[index] as usize, lease.len(), "a lease is of a buffer that is lent");
        self.kept += 1;
        Ok(Bytes::lent(Kept {
            pool: Rc::clone(&self.pool),
            offset: self.offset + index * self.size as usize,
            len: lease.len(),
            buffer: index as u16,
        }))
    }

    /// Takes a lease back; the kernel sees its buffer after [`Buffers::publish`].
    pub(crate) fn take_back(&mut self, lease: Lease) {
        let buffer = u16::try_from(lease.buffer()).expect("a lease's buffer is below the count");
        let entry = &mut self.ledger[usize::from(buffer)];
        assert_eq!(*entry as usize, lease.len(), "a lease returns exactly once");
        *entry = HOME;
        self.lent -= 1;
        self.put(buffer);
    }

    /// Returns a buffer that the kernel gave out without bytes in it.
    pub(crate) fn put_back(&mut self, buffer: u16) {
        assert_eq!(self.ledger[usize::from(buffer)], HOME, "the kernel gave out a buffer that it owned");
        self.put(buffer);
    }

    /// Makes everything taken back the kernel's, in one store; what is kept no more is taken back here.
    pub(crate) fn publish(&mut self) {
        let mut left = std::mem::take(&mut *self.pool.left.borrow_mut());
        for buffer in left.drain(..) {
            self.ledger[usize::from(buffer)] = HOME;
            self.lent -= 1;
            self.kept -= 1;
            self.put(buffer);
        }
        *self.pool.left.borrow_mut() = left;
        if self.tail == self.published {
            return;
        }
        let entries = self.pool.map.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the map starts with the ring's entries and is page-aligned; its tail is the `resv` field of the
        // first entry, a u16 that is aligned and that only this thread writes, so it may be seen as an atomic.
        let tail = unsafe { &*BufRingEntry::tail(entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
        self.published = self.tail;
    }

    fn put(&mut self, buffer: u16) {
        let address = self.ring_address() + (self.offset + usize::from(buffer) * self.size as usize) as u64;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` is below `count`, so the entry is inside the map. It is beyond the published tail, so the
        // kernel does not read it. It has room: every buffer is in the ring at most once. The setters write only the
        // address, length and id, never the `resv` field that is the ring's tail.
        let entry = unsafe { &mut *self.pool.map.start.as_ptr().cast::<BufRingEntry>().add(index) };
        entry.set_addr(address);
        entry.set_len(self.size);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }
}

/// Anonymous memory, page-aligned and zeroed.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    len: usize,
}

impl Map {
    fn new(len: usize) -> io::Result<Map> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping touches no memory there is.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap does not map page zero");
        Ok(Map { start, len })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and slices of it borrow the `Buffers` that owns it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_goes_out_and_home() {
        let mut buffers = Buffers::new(4, 16).unwrap();
        assert_eq!(buffers.home(), 4);
        let lease = buffers.lend(2, 5);
        buffers.bytes(&lease).copy_from_slice(b"hello");
        assert_eq!(buffers.bytes(&lease), b"hello");
        assert_eq!(buffers.home(), 3);
        buffers.take_back(lease);
        buffers.publish();
        assert_eq!((buffers.home(), buffers.published), (4, 5));
    }

    /// N7: kept bytes come home with their last reference, in the driver or after its end.
    #[test]
    fn n7_kept_bytes_come_home_once() {
        let mut buffers = Buffers::new(8, 16).unwrap();
        let lease = |buffers: &mut Buffers, buffer| {
            let lease = buffers.lend(buffer, 5);
            buffers.bytes(&lease).copy_from_slice(b"hello");
            lease
        };
        let first = lease(&mut buffers, 3);
        let first = buffers.keep(first).unwrap();
        let second = lease(&mut buffers, 4);
        let second = buffers.keep(second).unwrap();
        let third = lease(&mut buffers, 5);
        let third = buffers.keep(third).expect_err("a quarter of the buffers may be kept");
        assert_eq!(buffers.bytes(&third), b"hello");
        buffers.take_back(third);
        assert_eq!((buffers.home(), buffers.kept()), (6, 2));

        let again = first.clone();
        drop(first);
        buffers.publish();
        assert_eq!((again.as_slice(), buffers.home()), (&b"hello"[..], 6));
        drop(again);
        buffers.publish();
        assert_eq!((buffers.home(), buffers.kept()), (7, 1));
        drop(buffers);
        assert_eq!(second.as_slice(), b"hello");
    }

    #[test]
    #[should_panic(expected = "a lease returns exactly once")]
    fn n7_a_lease_does_not_return_twice() {
        let mut buffers = Buffers::new(4, 16).unwrap();
        let lease = buffers.lend(2, 5);
        let forged = Lease::new(2, 5);
        buffers.take_back(lease);
        buffers.take_back(forged);
    }

    #[test]
    #[should_panic(expected = "a lease is of a buffer that is lent")]
    fn n7_a_buffer_of_the_kernels_is_not_shown() {
        Buffers::new(4, 16).unwrap().bytes(&Lease::new(1, 16));
    }

    #[test]
    #[should_panic(expected = "a buffer that it owned")]
    fn n7_a_buffer_is_not_lent_twice() {
        let mut buffers = Buffers::new(4, 16).unwrap();
        let _first = buffers.lend(1, 1);
        let _second = buffers.lend(1, 1);
    }
}
