//! Whether this kernel can carry the driver: every feature it needs is tried, on a ring that is thrown away (N9).

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::bell::EventBell;
use crate::buffers::Buffers;
use crate::machine::kernel_release;
use crate::uring::connect::ANY_SLOT;
use crate::uring::ring;

/// The first kernel that has everything for the driver on io_uring itself.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// How long one trial may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something that the driver needs of the kernel.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Feature {
    /// A ring with SINGLE_ISSUER, DEFER_TASKRUN and SUBMIT_ALL.
    Ring,
    /// Waiting with a time-out in the same call.
    Timeout,
    /// A sparse table of direct descriptors.
    FileTable,
    /// A bound on kernel workers.
    Workers,
    /// A ring of provided buffers.
    BufferRing,
    /// Multishot receive from it.
    MultishotReceive,
    /// Cancelling all operations of a descriptor.
    Cancel,
    /// Accepting into a direct descriptor.
    DirectAccept,
    /// Moving a socket that is to connect into a direct descriptor of the kernel's choice.
    MoveIn,
    /// Closing a direct descriptor.
    DirectClose,
    /// Reading an eventfd.
    Bell,
    /// A ring without any flags.
    PlainRing,
    /// Accepting, reading and writing through it.
    PlainOperations,
    /// An epoll that watches a bell and listeners.
    Epoll,
}

impl Feature {
    /// The first kernel that has it, with all that its driver needs besides.
    fn since(self) -> (u32, u32) {
        match self {
            Feature::Epoll => (2, 6),
            Feature::PlainRing | Feature::PlainOperations => (5, 10),
            _ => KERNEL_MIN,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::Ring => "an io_uring with SINGLE_ISSUER, DEFER_TASKRUN and SUBMIT_ALL",
            Feature::Timeout => "waiting for completions with a time-out",
            Feature::FileTable => "a table of direct descriptors",
            Feature::Workers => "a bound on kernel workers",
            Feature::BufferRing => "a ring of receive buffers",
            Feature::MultishotReceive => "multishot receive",
            Feature::Cancel => "cancelling operations by descriptor",
            Feature::DirectAccept => "accepting into a direct descriptor",
            Feature::MoveIn => "moving a socket into a direct descriptor",
            Feature::DirectClose => "closing a direct descriptor",
            Feature::Bell => "reading an eventfd through the ring",
            Feature::PlainRing => "an io_uring",
            Feature::PlainOperations => "accepting, reading and writing through an io_uring",
            Feature::Epoll => "an epoll",
        })
    }
}

/// What is missing; its text says why and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    feature: Feature,
    errno: i32,
    disabled: Option<u32>,
    kernel: String,
}

impl Missing {
    pub(crate) fn new(feature: Feature, error: &io::Error) -> Missing {
        let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        Missing {
            feature,
            errno: error.raw_os_error().unwrap_or(0),
            disabled: disabled.and_then(|text| text.trim().parse().ok()),
            kernel: kernel_release(),
        }
    }

    /// What is missing.
    pub fn feature(&self) -> Feature {
        self.feature
    }

    /// What is missing and what the kernel says, without advice.
    pub fn cause(&self) -> String {
        let error = io::Error::from_raw_os_error(self.errno);
        format!("the kernel does not give us {} ({error})", self.feature)
    }

    /// Why, and what to do about it.
    fn advice(&self) -> String {
        const FILTER: &str = "a seccomp filter or security module forbids io_uring, as container runtimes do by \
            default: allow the calls io_uring_setup, io_uring_enter and io_uring_register for this container \
            (Docker: --security-opt seccomp=packaging/seccomp/moongate.json, see docs/containers.md)";
        let kernel = &self.kernel;
        let (major, minor) = self.feature.since();
        let old = version(kernel).is_some_and(|version| version < (major, minor));
        match (self.errno, self.disabled) {
            (libc::EPERM | libc::EACCES, Some(2)) => {
                "kernel.io_uring_disabled is 2: run `sysctl -w kernel.io_uring_disabled=0`".into()
            }
            (libc::EPERM | libc::EACCES, Some(1)) => "kernel.io_uring_disabled is 1: run \
                `sysctl -w kernel.io_uring_disabled=0`, or put this user into the group kernel.io_uring_group"
                .into(),
            (libc::EPERM | libc::EACCES, _) => FILTER.into(),
            (libc::ENOMEM, _) => {
                "not enough memory may be locked: raise RLIMIT_MEMLOCK (`ulimit -l unlimited`, \
                systemd: LimitMEMLOCK=infinity), or make rings and receive buffers smaller"
                    .into()
            }
            (libc::EMFILE, _) => {
                "more connections are asked for than files may be open: raise RLIMIT_NOFILE \
                (`ulimit -n`, systemd: LimitNOFILE=), or allow fewer connections"
                    .into()
            }
            _ if old => format!("this kernel is {kernel}, and {major}.{minor} or newer is needed"),
            // The switch is in every kernel from 6.6 on that has io_uring.
            (libc::ENOSYS, None) if version(kernel).is_some_and(|version| version >= (6, 6)) => {
                "this kernel seems to be built without io_uring: take one that has CONFIG_IO_URING".into()
            }
            (libc::ENOSYS, _) => FILTER.into(),
            _ => format!("this kernel, {kernel}, should have it but refuses it"),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause(), self.advice())
    }
}

impl std::error::Error for Missing {}

/// Tries everything that [`crate::Uring`] needs.
pub fn probe() -> Result<(), Missing> {
    // A ring belongs to its thread, and so does what it leaves behind.
    let trial = thread::Builder::new().name("probe".into()).spawn(try_everything);
    match trial {
        Ok(thread) => thread.join().expect("a probe reports instead of panicking"),
        Err(error) => Err(Missing::new(Feature::Ring, &error)),
    }
}

fn try_everything() -> Result<(), Missing> {
    let missing = |feature| move |error: io::Error| Missing::new(feature, &error);
    let unsupported = || io::Error::from_raw_os_error(libc::ENOSYS);

    let inner = ring::build(16, 32).map_err(missing(Feature::Ring))?;
    if !inner.params().is_feature_ext_arg() {
        return Err(Missing::new(Feature::Timeout, &unsupported()));
    }
    let submitter = inner.submitter();
    submitter.register_files_sparse(8).map_err(missing(Feature::FileTable))?;
    submitter.register_iowq_max_workers(&mut [1, 1]).map_err(missing(Feature::Workers))?;
    let buffers = Buffers::new(8, 64).map_err(missing(Feature::BufferRing))?;
    // SAFETY: the trial owns both and drops the ring first; the ring's operations have ended by then, or are polls,
    // which are cancelled without touching a buffer.
    unsafe { submitter.register_buf_ring_with_flags(buffers.ring_address(), buffers.count(), 0, 0) }
        .map_err(missing(Feature::BufferRing))?;
    let mut trial = Trial { ring: inner, _buffers: buffers, count: Box::default(), file: Box::new(0) };

    trial.receive().map_err(missing(Feature::MultishotReceive))?;
    trial.cancel().map_err(missing(Feature::Cancel))?;
    let slot = trial.accept().map_err(missing(Feature::DirectAccept))?;
    let close = opcode::Close::new(Fixed(slot)).build();
    trial.run(close).map_err(missing(Feature::DirectClose))?;
    trial.move_in().map_err(missing(Feature::MoveIn))?;
    trial.read_bell().map_err(missing(Feature::Bell))
}

struct Trial {
    // First, so that it goes before the memory it was told of.
    ring: IoUring,
    _buffers: Buffers,
    count: Box<[u8; 8]>,
    file: Box<i32>,
}

impl Trial {
    /// A multishot receive brings bytes in a provided buffer and goes on.
    fn receive(&mut self) -> io::Result<()> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(b"moon")?;
        let completion = self.run(opcode::RecvMulti::new(Fd(theirs.as_raw_fd()), 0).build())?;
        let flags = completion.flags();
        if completion.result() != 4 || !cqueue::more(flags) || cqueue::buffer_select(flags).is_none() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        drop(ours);
        let end = self.next_completion()?;
        if end.result() == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-end.result())) }
    }

    /// A receive that waits is ended by its descriptor: one completion for each.
    fn cancel(&mut self) -> io::Result<()> {
        let (_ours, theirs) = UnixStream::pair()?;
        let fd = Fd(theirs.as_raw_fd());
        // SAFETY: a receive into provided buffers points to nothing else.
        unsafe { self.push(opcode::RecvMulti::new(fd, 0).build())? };
        self.run(opcode::AsyncCancel2::new(CancelBuilder::fd(fd).all()).build()).map(drop).or_else(
            |error| {
                // The two completions come in any order.
                if error.raw_os_error() == Some(libc::ECANCELED) { Ok(()) } else { Err(error) }
            },
        )?;
        self.next_completion().map(drop)
    }

    fn accept(&mut self) -> io::Result<u32> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let _client = TcpStream::connect(listener.local_addr()?)?;
        let (name, len) = (std::ptr::null_mut(), std::ptr::null_mut());
        let accept = opcode::Accept::new(Fd(listener.as_raw_fd()), name, len)
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        self.run(accept).map(|completion| completion.result() as u32)
    }

    fn move_in(&mut self) -> io::Result<()> {
        let (_ours, theirs) = UnixStream::pair()?;
        *self.file = theirs.as_raw_fd();
        let entry = opcode::FilesUpdate::new(&raw mut *self.file, 1).offset(ANY_SLOT).build();
        self.run(entry).map(drop)
    }

    fn read_bell(&mut self) -> io::Result<()> {
        let bell = EventBell::new()?;
        moongate_io::Bell::ring(&bell);
        let read = opcode::Read::new(Fd(bell.as_raw_fd()), self.count.as_mut_ptr(), 8).build();
        self.run(read).map(drop)
    }

    /// Submits one operation and waits for a completion that is not an error.
    fn run(&mut self, entry: squeue::Entry) -> io::Result<cqueue::Entry> {
        // SAFETY: what the trials point to is theirs or this value's, which outlives the ring.
        unsafe { self.push(entry)? };
        let completion = self.next_completion()?;
        match completion.result() {
            errno if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
            _ => Ok(completion),
        }
    }

    /// # Safety
    ///
    /// As for `Ring::push`.
    unsafe fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller vouches for the memory.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))
    }

    fn next_completion(&mut self) -> io::Result<cqueue::Entry> {
        if let Some(completion) = self.ring.completion().next() {
            return Ok(completion);
        }
        let patience = Timespec::from(PATIENCE);
        self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&patience))?;
        self.ring.completion().next().ok_or_else(|| io::Error::from_raw_os_error(libc::ETIME))
    }
}

/// The first two numbers of a release such as `6.18.4-arch1`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n9_this_kernel_has_everything() {
        probe().unwrap_or_else(|missing| panic!("{missing}"));
        assert!(version(&kernel_release()) >= Some(KERNEL_MIN));
    }

    #[test]
    fn n9_what_is_missing_says_why_and_what_to_do() {
        let check = |errno, disabled, kernel: &str, expect: &str| {
            let missing = Missing { feature: Feature::Ring, errno, disabled, kernel: kernel.into() };
            let text = missing.to_string();
            assert!(text.contains(expect), "{text:?} says {expect:?}");
        };
        check(libc::EPERM, Some(2), "6.8.0", "io_uring_disabled=0");
        check(libc::EPERM, Some(1), "6.8.0", "io_uring_group");
        check(libc::EPERM, Some(0), "6.8.0", "seccomp");
        check(libc::EPERM, None, "6.1.0", "seccomp");
        check(libc::ENOSYS, None, "6.1.0", "seccomp");
        check(libc::ENOSYS, Some(0), "6.18.0", "seccomp");
        check(libc::ENOSYS, None, "6.18.0", "CONFIG_IO_URING");
        check(libc::ENOSYS, None, "4.19.0-27-amd64", "this kernel is 4.19.0-27-amd64, and 6.1 or newer");
        check(libc::EINVAL, None, "5.15.0", "6.1 or newer");
        check(libc::EINVAL, Some(0), "6.18.0", "should have it");
        check(libc::ENOMEM, Some(0), "6.18.0", "RLIMIT_MEMLOCK");
        check(libc::EMFILE, Some(0), "6.18.0", "RLIMIT_NOFILE");
    }

    #[test]
    fn versions_are_read_as_numbers() {
        let check = |release, expect| assert_eq!(version(release), expect, "{release:?}");
        check("6.18.44-fc", Some((6, 18)));
        check("6.1", Some((6, 1)));
        check("unknown", None);
    }
}
