//! The `io_uring` driver: one ring, one table of direct descriptors, one buffer ring, one thread.
//!
//! A connection's life runs through the files in this order: [`accept`] takes it into a slot or [`connect`] makes it in
//! one, [`receive`] leases its bytes, [`send`] carries its chains, [`close`] waits for its last operation and frees the slot. Under them lie the
//! [`ring`] itself, the [`slots`], and the [`token`] that ties a completion to its connection.

mod accept;
mod close;
pub(crate) mod connect;
mod receive;
pub(crate) mod ring;
mod send;
mod slots;
#[cfg(test)]
mod tests;
mod token;

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use moongate_io::{Bytes, Chain, ConnId, Counters, Driver, Event, Lease, ListenerId, Remote, Ticket, Time};

use crate::bell::EventBell;
use crate::buffers::Buffers;
use crate::farewell::Farewell;
use crate::listener::Listener;
use crate::machine::{self, RandomPool};
use crate::probe::{Feature, Missing};
use crate::socket::SocketOptions;
use accept::Acceptors;
use connect::Connects;
use receive::Receivers;
use ring::Ring;
use send::Sends;
use slots::Slots;
use token::{Operation, SLOTS_MAX, Token};

/// The buffer group that all connections receive from.
const BUFFER_GROUP: u16 = 0;

/// How many completions are taken from the queue at a time.
const BATCH: usize = 128;

/// How many kernel workers may carry operations that cannot be done without one, which is only `shutdown`: without a
/// bound, a mass disconnect would start a thread for each.
const WORKERS_MAX: u32 = 4;

/// What a ring is built from.
#[derive(Clone, Debug)]
pub struct UringConfig {
    /// Entries of the submission queue; more wait in user space.
    pub ring_entries: u32,
    /// Entries of the completion queue, at least `ring_entries`; more wait in the kernel.
    pub completion_entries: u32,
    /// How many receive buffers there are: a power of two up to 32,768.
    pub recv_buffers: u16,
    /// The size of each in bytes, at least 1.
    pub recv_buffer_size: u32,
    /// How many connections there can be at once; bounded by the soft `RLIMIT_NOFILE`.
    pub slots: u32,
    /// The CPU to keep the calling thread on, if any.
    pub cpu: Option<usize>,
    /// Options of sockets that connect.
    pub outbound: SocketOptions,
}

impl Default for UringConfig {
    fn default() -> UringConfig {
        UringConfig {
            ring_entries: 4096,
            completion_entries: 32_768,
            recv_buffers: 1024,
            recv_buffer_size: 2048,
            slots: 4096,
            cpu: None,
            outbound: SocketOptions::default(),
        }
    }
}

/// Why a driver could not be built.
#[derive(Debug)]
pub enum SetupError {
    /// A number in the configuration is out of its range.
    Config {
        /// Which.
        name: &'static str,
        /// What was asked for.
        value: u64,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// The thread could not be pinned.
    Pin {
        /// Where to.
        cpu: usize,
        /// Why.
        error: io::Error,
    },
    /// The kernel lacks something or refuses it.
    Missing(Missing),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Config { name, value, allowed } => {
                write!(f, "{name} is {value}, but must be {allowed}")
            }
            SetupError::Pin { cpu, error } => write!(f, "cannot keep a shard on CPU {cpu}: {error}"),
            SetupError::Missing(missing) => missing.fmt(f),
        }
    }
}

impl std::error::Error for SetupError {}

impl From<Missing> for SetupError {
    fn from(missing: Missing) -> SetupError {
        SetupError::Missing(missing)
    }
}

/// The driver on `io_uring`. It belongs to the thread that built it.
pub struct Uring {
    // Before all that the kernel may still point into, so that it goes first.
    ring: Ring,
    slots: Slots,
    acceptors: Acceptors,
    connects: Connects,
    receivers: Receivers,
    sends: Sends,
    bell: BellReader,
    capacity: u32,
    batch: Vec<cqueue::Entry>,
    random: RandomPool,
    now: Time,
    wall: Duration,
    counters: Counters,
}

/// The driver's end of the bell: one read is always with the kernel.
struct BellReader {
    bell: EventBell,
    /// Where the kernel writes the counter.
    count: Box<UnsafeCell<u64>>,
}

impl Uring {
    /// A ring of the calling thread's own that will accept from `listeners` (named by their index) once told to
    /// [`Driver::listen`], and hears `bell`.
    pub fn new(
        config: &UringConfig,
        listeners: Vec<Listener>,
        bell: &EventBell,
    ) -> Result<Uring, SetupError> {
        check(config)?;
        if let Some(cpu) = config.cpu {
            machine::pin(cpu).map_err(|error| SetupError::Pin { cpu, error })?;
        }
        let inner = ring::build(config.ring_entries, config.completion_entries)
            .map_err(|error| Missing::new(Feature::Ring, &error))?;
        inner
            .submitter()
            .register_files_sparse(config.slots)
            .map_err(|error| Missing::new(Feature::FileTable, &error))?;
        inner
            .submitter()
            .register_iowq_max_workers(&mut [WORKERS_MAX, WORKERS_MAX])
            .map_err(|error| Missing::new(Feature::Workers, &error))?;
        let buffers = Buffers::new(config.recv_buffers, config.recv_buffer_size)
            .map_err(|error| Missing::new(Feature::BufferRing, &error))?;
        // SAFETY: the buffers are dropped after the ring, and the ring does not go before its last operation.
        unsafe {
            inner.submitter().register_buf_ring_with_flags(
                buffers.ring_address(),
                buffers.count(),
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(|error| Missing::new(Feature::BufferRing, &error))?;

        let mut driver = Uring {
            ring: Ring::new(inner),
            slots: Slots::default(),
            acceptors: Acceptors::new(listeners, config.slots),
            connects: Connects::new(config.outbound.clone()),
            receivers: Receivers::new(buffers),
            sends: Sends::default(),
            bell: BellReader { bell: bell.clone(), count: Box::default() },
            capacity: config.slots,
            batch: Vec::with_capacity(BATCH),
            random: RandomPool::default(),
            now: Time::ZERO,
            wall: Duration::ZERO,
            counters: Counters::default(),
        };
        driver.look_at_the_clock();
        driver.read_bell();
        Ok(driver)
    }

    /// How long to sleep at most, for the caller's affairs and the driver's own.
    fn may_sleep(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.receivers.can_go_on() || self.connects.has_failed() {
            return Some(Duration::ZERO);
        }
        let Some(moment) = self.acceptors.wants_to_wake() else { return timeout };
        let left = moment.since(self.now);
        Some(timeout.map_or(left, |timeout| timeout.min(left)))
    }

    fn look_at_the_clock(&mut self) {
        self.now = machine::monotonic();
        self.wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    }

    fn read_bell(&mut self) {
        let fd = Fd(self.bell.bell.as_raw_fd());
        let count = self.bell.count.get().cast::<u8>();
        let entry = opcode::Read::new(fd, count, size_of::<u64>() as u32).build();
        // SAFETY: the counter is in a box that lives as long as the driver, which does not go before its last
        // operation; only one read of it is with the kernel at a time, and nobody else looks at it.
        unsafe { self.ring.push(Token::own(Operation::Bell, 0).mark(entry)) };
    }

    /// One completion: at most one event.
    fn complete(&mut self, token: Token, result: i32, flags: u32, events: &mut Vec<Event>) {
        let conn = token.conn;
        match token.operation {
            Operation::Accept => self.accepted(conn.slot(), result, events),
            Operation::StopAccepts => self.accepts_cancelled(conn.slot(), result),
            Operation::MoveIn => self.moved_in(conn, result, events),
            Operation::Connect => self.connect_ended(conn, result, events),
            Operation::CancelConnect => self.attempt_cancelled(conn, result),
            Operation::Receive => self.received(conn, result, flags, events),
            Operation::Send => self.sent(conn, result, events),
            Operation::Shutdown | Operation::Disconnect => self.operation_ended(conn),
            Operation::CancelReceive => self.receive_cancelled(conn, result),
            Operation::CancelSend => self.send_cancelled(conn, result),
            Operation::Close => self.closed(conn, result, events),
            Operation::Bell => self.rung(result, events),
        }
    }

    fn rung(&mut self, result: i32, events: &mut Vec<Event>) {
        match -result {
            n if n < 0 => events.push(Event::Bell),
            libc::EINTR | libc::EAGAIN => {}
            // The driver is on its way out.
            libc::ECANCELED => return,
            errno => panic!("reading the bell: {}", io::Error::from_raw_os_error(errno)),
        }
        self.read_bell();
    }
}

impl Driver for Uring {
    fn now(&self) -> Time {
        self.now
    }

    fn wall(&self) -> Duration {
        self.wall
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn slots(&self) -> u32 {
        self.capacity
    }

    fn listen(&mut self, listener: ListenerId) {
        self.acceptors.listen(listener);
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.stop_accepting(listener);
    }

    fn connect(&mut self, ticket: Ticket, remote: &Remote) {
        self.start_connecting(ticket, remote);
    }

    fn cancel_connect(&mut self, ticket: Ticket) {
        self.stop_connecting(ticket);
    }

    fn recv(&mut self, conn: ConnId) {
        self.start_receiving(conn);
    }

    fn pause(&mut self, conn: ConnId) {
        self.pause_receiving(conn);
    }

    fn resume(&mut self, conn: ConnId) {
        self.resume_receiving(conn);
    }

    fn send(&mut self, conn: ConnId, chain: Chain) {
        self.start_sending(conn, chain);
    }

    fn shutdown_write(&mut self, conn: ConnId) {
        self.end_writing(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.reset(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.start_closing(conn);
    }

    fn wait(&mut self, timeout: Option<Duration>, budget: usize, events: &mut Vec<Event>) {
        let busy = machine::monotonic().since(self.now);
        self.counters.busy_nanos += busy.as_nanos() as u64;
        self.receive_again();
        self.accept_again();
        // Bytes beyond the free buffers would only make them scarce.
        let ready = budget.min(usize::from(self.receivers.buffers.home()));
        self.ring.wait(self.may_sleep(timeout), ready);
        self.look_at_the_clock();

        let enough = events.len() + budget;
        self.tell_failed(budget, events);
        let mut batch = std::mem::take(&mut self.batch);
        while events.len() < enough {
            // A completion makes one event at most, so none is taken that could not be told.
            self.ring.take(&mut batch, BATCH.min(enough - events.len()));
            if batch.is_empty() {
                break;
            }
            for entry in batch.drain(..) {
                self.complete(Token::decode(entry.user_data()), entry.result(), entry.flags(), events);
            }
        }
        self.batch = batch;
    }

    fn bytes<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8] {
        self.receivers.buffers.bytes(lease)
    }

    fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        self.receivers.buffers.keep(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.receivers.buffers.take_back(lease);
    }

    fn counters(&self) -> Counters {
        Counters {
            completion_overflows: self.ring.overflows,
            submissions_deferred: self.ring.deferred,
            enters: self.ring.enters,
            buffers_free: u64::from(self.receivers.buffers.home()),
            slots_used: u64::from(self.slots.used()),
            ..self.counters
        }
    }
}

impl Drop for Uring {
    /// Ends every operation and waits for it, since the kernel still points into this driver's memory (N1); then
    /// closes all connections at once.
    fn drop(&mut self) {
        let mut farewell = Farewell::new();
        let mut batch = Vec::new();
        let mut lost = Vec::new();
        loop {
            let everything = CancelBuilder::any().all();
            let cancel = opcode::AsyncCancel2::new(everything).build();
            // SAFETY: a cancellation points to no memory.
            unsafe { self.ring.push(Token::own(Operation::StopAccepts, 0).mark(cancel)) };
            self.ring.wait(Some(Duration::from_millis(1)), usize::MAX);
            self.ring.take(&mut batch, usize::MAX);
            lost.extend(batch.drain(..).filter_map(|entry| {
                let buffer = cqueue::buffer_select(entry.flags())?;
                (entry.result() > 0).then(|| self.receivers.buffers.lend(buffer, entry.result() as u32))
            }));
            if self.ring.outstanding() == 0 {
                break;
            }
            farewell.wait_for(self.ring.outstanding() as usize);
        }
        for lease in lost {
            self.receivers.buffers.take_back(lease);
        }
        // Best effort: the ring's end closes them too, but later.
        let _ = self.ring.submitter().unregister_files();
        if !std::thread::panicking() {
            self.receivers.buffers.publish();
            let Receivers { buffers, .. } = &self.receivers;
            let accounted = buffers.home() + buffers.kept();
            debug_assert_eq!(accounted, buffers.count(), "every lease is released before the driver ends");
        }
    }
}

fn check(config: &UringConfig) -> Result<(), SetupError> {
    let refuse = |name, value, allowed| Err(SetupError::Config { name, value, allowed });
    if !config.recv_buffers.is_power_of_two() || config.recv_buffers > 1 << 15 {
        return refuse("recv_buffers", config.recv_buffers.into(), "a power of two up to 32768");
    }
    if config.recv_buffer_size == 0 {
        return refuse("recv_buffer_size", 0, "at least 1");
    }
    if config.slots == 0 || config.slots >= SLOTS_MAX {
        return refuse("slots", config.slots.into(), "from 1 to 16777215");
    }
    if config.ring_entries == 0 || config.ring_entries > 1 << 15 {
        return refuse("ring_entries", config.ring_entries.into(), "from 1 to 32768");
    }
    if config.completion_entries < config.ring_entries || config.completion_entries > 1 << 16 {
        return refuse("completion_entries", config.completion_entries.into(), "from ring_entries to 65536");
    }
    Ok(())
}
