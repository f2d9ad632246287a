//! The ring, its receive buffers, and everything unsafe.
//!
//! The ring is made as the gateway's is. A send is an entry with an address and a length, nothing else is kept of it here:
//! whoever asks for it keeps the bytes until it has completed.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, SubmissionQueue, cqueue, opcode, squeue};
use moongate_sys::{EventBell, Listener};

/// Entries of the submission queue, and of the completion queue, as the gateway has them.
const ENTRIES: u32 = 4096;
const COMPLETIONS: u32 = 32_768;

/// Sends submitted by one call.
pub(crate) const BATCH: usize = 512;

/// Receive buffers and the bytes of each, as the gateway has them.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 2048;
const BUFFER_GROUP: u16 = 0;

/// What a completion is of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Accept,
    Receive,
    Send,
    Shutdown,
    Close,
    Bell,
}

const OPERATIONS: [Operation; 6] = [
    Operation::Accept,
    Operation::Receive,
    Operation::Send,
    Operation::Shutdown,
    Operation::Close,
    Operation::Bell,
];

/// What has completed, for which slot, and how.
#[derive(Copy, Clone)]
pub(crate) struct Completion {
    pub(crate) operation: Operation,
    pub(crate) slot: u32,
    pub(crate) result: i32,
    /// Whether more completions of the same operation will come.
    pub(crate) more: bool,
    pub(crate) buffer: Option<u16>,
}

fn mark(operation: Operation, slot: u32, entry: squeue::Entry) -> squeue::Entry {
    entry.user_data(u64::from(slot) << 8 | operation as u64)
}

pub(crate) struct Kernel {
    // First, so that it goes before the memory that it points into.
    ring: IoUring,
    pub(crate) pool: Pool,
    listener: Listener,
    bell: EventBell,
    /// Where the kernel writes the bell's counter.
    bell_count: Box<UnsafeCell<u64>>,
    no_iowait: EnterFlags,
    pub(crate) slots: u32,
}

impl Kernel {
    /// A ring of the calling thread's own, with room for as many connections as files may be open, up to 65,536.
    pub(crate) fn new(listener: Listener, bell: EventBell) -> io::Result<Kernel> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(ENTRIES)?;
        let (_, files) = moongate_sys::machine::raise_open_files()?;
        let slots = files.min(65_536) as u32;
        ring.submitter().register_files_sparse(slots)?;
        let pool = Pool::new();
        // SAFETY: the pool's memory outlives the ring, which is dropped before it.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                pool.start.as_ptr() as u64,
                BUFFERS,
                BUFFER_GROUP,
                0,
            )
        }?;
        let no_iowait = match ring.params().is_feature_no_iowait() {
            true => EnterFlags::NO_IOWAIT,
            false => EnterFlags::empty(),
        };
        Ok(Kernel { ring, pool, listener, bell, bell_count: Box::default(), no_iowait, slots })
    }

    /// Accepts until told otherwise, which nobody does.
    pub(crate) fn accept(&mut self) {
        let fd = Fd(self.listener.as_fd().as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).allocate_file_index(true).build();
        // SAFETY: it points to no memory.
        unsafe { self.push(mark(Operation::Accept, 0, entry)) };
    }

    /// Waits for the bell once.
    pub(crate) fn read_bell(&mut self) {
        let count = self.bell_count.get().cast::<u8>();
        let entry = opcode::Read::new(Fd(self.bell.as_raw_fd()), count, size_of::<u64>() as u32).build();
        // SAFETY: the counter is boxed, lives as long as the ring, and is looked at by nobody; one read is under way.
        unsafe { self.push(mark(Operation::Bell, 0, entry)) };
    }

    /// Receives from `slot` into the pool until its end, or until the pool is empty.
    pub(crate) fn receive(&mut self, slot: u32) {
        let entry = opcode::RecvMulti::new(Fixed(slot), BUFFER_GROUP).build();
        // SAFETY: its only memory is the pool's, which outlives the ring.
        unsafe { self.push(mark(Operation::Receive, slot, entry)) };
    }

    pub(crate) fn shutdown_write(&mut self, slot: u32) {
        let entry = opcode::Shutdown::new(Fixed(slot), libc::SHUT_WR).build();
        // SAFETY: it points to no memory.
        unsafe { self.push(mark(Operation::Shutdown, slot, entry)) };
    }

    pub(crate) fn close(&mut self, slot: u32) {
        let entry = opcode::Close::new(Fixed(slot)).build();
        // SAFETY: it points to no memory.
        unsafe { self.push(mark(Operation::Close, slot, entry)) };
    }

    /// # Safety
    ///
    /// The memory that `entry` points to stays until it has completed.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller vouches for the memory.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.enter(Some(Duration::ZERO));
        }
    }

    /// The submission queue, to put sends into: one look at its head and one store of its tail for all.
    pub(crate) fn batch(&mut self) -> Batch<'_> {
        let queue = self.ring.submission();
        let room = BATCH.min(queue.capacity() - queue.len());
        Batch { queue, room }
    }

    /// Submits what was pushed, and waits at most `timeout` for one completion: not at all if that is zero.
    pub(crate) fn enter(&mut self, timeout: Option<Duration>) {
        let timespec = timeout.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG | self.no_iowait;
        let submit = self.ring.submission().len() as u32;
        let completions = u32::from(timeout != Some(Duration::ZERO));
        // SAFETY: `args` is what EXT_ARG wants, and it and the time in it live through the call.
        let result = unsafe { self.ring.submitter().enter(submit, completions, flags.bits(), Some(&args)) };
        match result.map_err(|error| error.raw_os_error()) {
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM)) => {}
            Err(errno) => panic!("io_uring_enter: {:?}", errno.map(io::Error::from_raw_os_error)),
        }
    }

    /// Moves what has completed into `completions`. True: the kernel has more that another [`Kernel::enter`] brings.
    pub(crate) fn reap(&mut self, completions: &mut Vec<Completion>) -> bool {
        completions.extend(self.ring.completion().map(|entry| Completion {
            operation: OPERATIONS[(entry.user_data() & 0xff) as usize],
            slot: (entry.user_data() >> 8) as u32,
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()),
        }));
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }
}

/// Sends that the next [`Kernel::enter`] submits.
pub(crate) struct Batch<'a> {
    queue: SubmissionQueue<'a>,
    room: usize,
}

impl Batch<'_> {
    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.room > 0
    }

    /// Sends `bytes` to `slot`.
    ///
    /// # Safety
    ///
    /// The bytes stay where they are until the send has completed.
    pub(crate) unsafe fn send(&mut self, slot: u32, bytes: &[u8]) {
        let entry = opcode::Send::new(Fixed(slot), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        // SAFETY: the caller vouches for the bytes.
        let pushed = unsafe { self.queue.push(&mark(Operation::Send, slot, entry)) };
        pushed.expect("nobody else has pushed since the room was counted");
        self.room -= 1;
    }
}

/// The receive buffers: the ring that the kernel takes them from, and they themselves, in one piece of memory.
pub(crate) struct Pool {
    start: NonNull<u8>,
    tail: u16,
    /// How many are the kernel's, or have come and were not given back.
    pub(crate) free: u16,
}

const BUFFERS_START: usize = (BUFFERS as usize * size_of::<BufRingEntry>()).next_multiple_of(4096);
const POOL: Layout = match Layout::from_size_align(BUFFERS_START + BUFFERS as usize * BUFFER_BYTES, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a power of two"),
};

impl Pool {
    fn new() -> Pool {
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(POOL) }).unwrap_or_else(|| handle_alloc_error(POOL));
        let mut pool = Pool { start, tail: 0, free: 0 };
        for buffer in 0..BUFFERS {
            pool.put(buffer);
        }
        pool.publish();
        pool
    }

    /// A buffer has come out of the ring, with or without bytes.
    pub(crate) fn take(&mut self) {
        self.free -= 1;
    }

    /// The first `len` bytes of a buffer that was taken and not put back.
    pub(crate) fn bytes(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        assert!(buffer < BUFFERS && len <= BUFFER_BYTES, "the kernel gives out what it was given");
        // SAFETY: it is inside the allocation, which is initialised. The kernel does not write to a buffer between
        // its completion and its return, and `self` is borrowed as long as the slice is.
        unsafe {
            let start = self.start.as_ptr().add(BUFFERS_START + usize::from(buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts_mut(start, len)
        }
    }

    /// Gives a buffer back; the kernel sees it after [`Pool::publish`].
    pub(crate) fn put(&mut self, buffer: u16) {
        let address =
            self.start.as_ptr() as u64 + (BUFFERS_START + usize::from(buffer) * BUFFER_BYTES) as u64;
        let index = usize::from(self.tail % BUFFERS);
        // SAFETY: the entry is inside the allocation and beyond the published tail, so the kernel does not read it.
        // The setters leave the ring's tail alone, which is the `resv` of the first entry.
        let entry = unsafe { &mut *self.start.as_ptr().cast::<BufRingEntry>().add(index) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    pub(crate) fn publish(&mut self) {
        // SAFETY: the allocation starts with the ring; its tail is an aligned u16 that only this thread writes.
        let tail = unsafe { &*BufRingEntry::tail(self.start.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and the ring that knew of it is gone.
        unsafe { dealloc(self.start.as_ptr(), POOL) };
    }
}
