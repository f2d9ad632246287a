//! The receive buffers of one ring: a provided buffer ring shared with the kernel, and the ledger of what is lent.
//!
//! The kernel takes buffers from the ring's head as bytes arrive; each comes up as a lease and returns to the ring's
//! tail. Returned buffers become the kernel's with one release store of the tail, once per wait.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use moongate_io::Lease;

/// How long a lease is while its buffer is not lent.
const HOME: u32 = 0;

/// Fixed-size buffers, each either the kernel's to fill or lent out as exactly one [`Lease`] (N7).
#[derive(Debug)]
pub(crate) struct Buffers {
    map: Map,
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
}

impl Buffers {
    /// `count` buffers, a power of two up to 32,768, of `size` bytes each, all home and published.
    pub(crate) fn new(count: u16, size: u32) -> io::Result<Buffers> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && size > 0, "checked by the configuration");
        let ring = usize::from(count) * size_of::<BufRingEntry>();
        let offset = ring.next_multiple_of(4096);
        let map = Map::new(offset + usize::from(count) * size as usize)?;
        let ledger = vec![HOME; usize::from(count)].into_boxed_slice();
        let mut buffers = Buffers { map, offset, count, size, tail: 0, published: 0, ledger, lent: 0 };
        for buffer in 0..count {
            buffers.put(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Where the ring is, for its registration; page-aligned.
    pub(crate) fn ring_address(&self) -> u64 {
        self.map.start.as_ptr() as u64
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// How many are not lent.
    pub(crate) fn home(&self) -> u16 {
        self.count - self.lent
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
            let start = self.map.start.as_ptr().add(self.offset + index * self.size as usize);
            std::slice::from_raw_parts_mut(start, lease.len())
        }
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

    /// Makes everything taken back the kernel's, in one store.
    pub(crate) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        let entries = self.map.start.as_ptr().cast::<BufRingEntry>();
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
        let entry = unsafe { &mut *self.map.start.as_ptr().cast::<BufRingEntry>().add(index) };
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
