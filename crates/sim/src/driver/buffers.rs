//! The receive buffers of a driver: lent to its caller, which keeps some for sending.

use std::cell::RefCell;
use std::rc::Rc;

use moongate_io::{Bytes, Lease, Loan};

/// All of them.
pub(super) struct Buffers {
    buffers: Vec<Buffer>,
    /// Those whose bytes are kept no more.
    left: Rc<RefCell<Vec<usize>>>,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    lent: bool,
}

/// Received bytes that are kept for sending.
struct Kept {
    bytes: Vec<u8>,
    number: usize,
    left: Rc<RefCell<Vec<usize>>>,
}

impl Loan for Kept {
    fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.left.borrow_mut().push(self.number);
    }
}

impl Buffers {
    pub(super) fn new(count: usize) -> Buffers {
        Buffers { buffers: (0..count).map(|_| Buffer::default()).collect(), left: Rc::default() }
    }

    /// How many can be lent.
    pub(super) fn free(&self) -> usize {
        self.buffers.iter().filter(|buffer| !buffer.lent).count()
    }

    /// How many the caller holds, beside those whose bytes are kept no more.
    pub(super) fn held(&self) -> usize {
        self.buffers.len() - self.free() - self.left.borrow().len()
    }

    /// Takes back those whose bytes are kept no more.
    pub(super) fn take_back(&mut self) {
        for number in self.left.borrow_mut().drain(..) {
            self.buffers[number] = Buffer::default();
        }
    }

    /// The number of one that can be lent.
    pub(super) fn next_free(&self) -> Option<usize> {
        self.buffers.iter().position(|buffer| !buffer.lent)
    }

    /// Lends the buffer `number` with `bytes` in it.
    pub(super) fn lend(&mut self, number: usize, bytes: Vec<u8>) -> Lease {
        let lease = Lease::new(number as u32, bytes.len() as u32);
        self.buffers[number] = Buffer { bytes, lent: true };
        lease
    }

    pub(super) fn is_lent(&self, lease: &Lease) -> bool {
        self.buffers.get(lease.buffer() as usize).is_some_and(|buffer| buffer.lent)
    }

    /// The bytes of one that is lent.
    pub(super) fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        &mut self.buffers[lease.buffer() as usize].bytes
    }

    /// The bytes of one that is lent, to be kept.
    pub(super) fn keep(&mut self, lease: &Lease) -> Bytes {
        let number = lease.buffer() as usize;
        let bytes = std::mem::take(&mut self.buffers[number].bytes);
        Bytes::lent(Kept { bytes, number, left: Rc::clone(&self.left) })
    }

    pub(super) fn release(&mut self, lease: &Lease) {
        self.buffers[lease.buffer() as usize] = Buffer::default();
    }
}
