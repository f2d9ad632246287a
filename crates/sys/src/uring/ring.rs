//! The two queues shared with the kernel, and the one call that moves both along.
//!
//! What does not fit into the submission queue waits in user space, in order (N8). A completion queue that overflowed
//! is kept by the kernel and flushed by the next call (N5). Every entry pushed has one terminal completion.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

/// How long to rest when the kernel has no memory for submissions and no completion is there either.
const REST: Duration = Duration::from_millis(1);

/// How much deferred work the kernel does in one call, roughly.
const WORK_PER_CALL: usize = 16;

pub(super) struct Ring {
    inner: IoUring,
    backlog: VecDeque<squeue::Entry>,
    outstanding: u64,
    overflowing: bool,
    no_iowait: EnterFlags,
    /// Calls into the kernel.
    pub(super) enters: u64,
    /// Entries that had to wait in user space.
    pub(super) deferred: u64,
    /// Times the completion queue overflowed.
    pub(super) overflows: u64,
}

/// A ring as the driver needs it; it belongs to the calling thread. Sizes are rounded up to powers of two.
pub(crate) fn build(entries: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .dontfork()
        .build(entries)
}

impl Ring {
    pub(super) fn new(inner: IoUring) -> Ring {
        // A shard asleep in its ring is not waiting for a disk; without this, monitoring says it is.
        let no_iowait = match inner.params().is_feature_no_iowait() {
            true => EnterFlags::NO_IOWAIT,
            false => EnterFlags::empty(),
        };
        Ring {
            inner,
            backlog: VecDeque::new(),
            outstanding: 0,
            overflowing: false,
            no_iowait,
            enters: 0,
            deferred: 0,
            overflows: 0,
        }
    }

    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.inner.submitter()
    }

    /// How many entries have been pushed whose terminal completion has not been taken.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Queues `entry` for the next [`Ring::wait`].
    ///
    /// # Safety
    ///
    /// Whatever memory `entry` points to stays valid, unmoved and untouched until its terminal completion (N1).
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.outstanding += 1;
        // SAFETY: the caller vouches for the memory.
        if self.backlog.is_empty() && unsafe { self.inner.submission().push(&entry) }.is_ok() {
            return;
        }
        self.deferred += 1;
        self.backlog.push_back(entry);
    }

    /// Submits everything pushed, and sleeps until a completion or `timeout`; not at all if a completion is there.
    /// What is ready then is brought along, up to `budget` completions.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, budget: usize) {
        while !self.top_up() {
            if !self.enter(Some(Duration::ZERO)) {
                break;
            }
        }
        let overflowing = self.inner.submission().cq_overflow();
        self.overflows += u64::from(overflowing && !self.overflowing);
        self.overflowing = overflowing;
        let ready = overflowing || !self.backlog.is_empty() || !self.inner.completion().is_empty();
        let timeout = if ready { Some(Duration::ZERO) } else { timeout };
        if !self.enter(timeout) && self.inner.completion().is_empty() {
            std::thread::sleep(timeout.map_or(REST, |timeout| timeout.min(REST)));
        }
        self.gather(budget);
    }

    /// Newer kernels run no more than twenty pieces of deferred work in a call. What is ready belongs into one tick,
    /// because a tick's messages are merged.
    fn gather(&mut self, budget: usize) {
        let wanted = budget.min(self.inner.completion().capacity() / 2);
        for _ in 0..wanted.div_ceil(WORK_PER_CALL) {
            let more = self.inner.submission().taskrun() && self.inner.completion().len() < wanted;
            if !more || !self.enter(Some(Duration::ZERO)) {
                return;
            }
        }
    }

    /// Moves completions into `batch` as far as there are any, and says how many.
    pub(super) fn take(&mut self, batch: &mut Vec<cqueue::Entry>, budget: usize) {
        batch.extend(self.inner.completion().take(budget));
        let terminal = batch.iter().filter(|entry| !cqueue::more(entry.flags())).count();
        self.outstanding -= terminal as u64;
    }

    /// Whether the whole backlog has moved into the submission queue.
    fn top_up(&mut self) -> bool {
        let mut queue = self.inner.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: whoever pushed the entry vouched for the memory until its completion.
            if unsafe { queue.push(entry) }.is_err() {
                return false;
            }
            self.backlog.pop_front();
        }
        true
    }

    /// One `io_uring_enter`: submits, runs deferred work, flushes an overflow, waits for one completion at most
    /// `timeout`. False if the kernel could take nothing for lack of memory.
    fn enter(&mut self, timeout: Option<Duration>) -> bool {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        loop {
            let timespec = left.map(Timespec::from);
            let mut args = SubmitArgs::new();
            if let Some(timespec) = &timespec {
                args = args.timespec(timespec);
            }
            let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG | self.no_iowait;
            let submit = self.inner.submission().len() as u32;
            let completions = u32::from(left != Some(Duration::ZERO));
            self.enters += 1;
            // SAFETY: `args` is what EXT_ARG wants, and it and the time in it live through the call.
            let result =
                unsafe { self.inner.submitter().enter(submit, completions, flags.bits(), Some(&args)) };
            let Err(error) = result else { return true };
            match error.raw_os_error() {
                Some(libc::ETIME) => return true,
                Some(libc::EINTR) => {
                    left = until.map(|until| until.saturating_duration_since(Instant::now()));
                }
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => return false,
                // EBADR: the kernel had no memory to remember a completion, so buffers and chains are lost to us.
                _ => panic!("io_uring_enter: {error}"),
            }
        }
    }
}
