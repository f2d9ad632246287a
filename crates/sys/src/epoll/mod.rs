//! The driver on epoll, for where io_uring is forbidden: sockets that do not wait, and one epoll that tells when they
//! could go on. It has no unsafe code.
//!
//! A connection's life runs through the files in this order: [`accept`] takes it into a slot or
//! [`connect`] makes it, [`receive`] leases its
//! bytes, [`send`] carries its chains, [`close`] ends it. Everything is watched edge-triggered and once for its life, so
//! nothing but reads and writes has to be said to the kernel; what it told is kept in the [`slots`].

mod accept;
mod close;
mod connect;
mod receive;
mod send;
mod slots;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use moongate_io::{Bytes, Chain, ConnId, Counters, Driver, Event, Lease, ListenerId, Remote, Ticket, Time};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;

use crate::bell::EventBell;
use crate::chains::Chains;
use crate::clock::Clock;
use crate::listener::Listener;
use crate::machine::{self, RandomPool};
use crate::pool::Pool;
use crate::probe::{Feature, Missing};
use crate::socket::SocketOptions;
use crate::uring::SetupError;
use accept::Acceptors;
use connect::Connects;
use receive::Receivers;
use slots::Slots;

/// Slots have 24 bits in what epoll hands back.
const SLOTS_MAX: u32 = 1 << 24;

/// How many sockets one look at the epoll tells of.
const BATCH: usize = 1024;

/// How long to rest when the kernel has no memory for what it was asked.
const REST: Duration = Duration::from_millis(1);

/// What an epoll driver is built from.
#[derive(Clone, Debug)]
pub struct EpollConfig {
    /// How many receive buffers there are, from 1 to 32,768.
    pub recv_buffers: u16,
    /// The size of each in bytes, at least 1.
    pub recv_buffer_size: u32,
    /// How many connections there can be at once; each is an open file.
    pub slots: u32,
    /// The CPU to keep the calling thread on, if any.
    pub cpu: Option<usize>,
    /// Options of sockets that connect.
    pub outbound: SocketOptions,
}

/// The driver on epoll.
pub struct Epoll {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    slots: Slots,
    acceptors: Acceptors,
    connects: Connects,
    receivers: Receivers,
    chains: Chains,
    /// Connections whose sends are to be tried at the next wait.
    sending: Vec<ConnId>,
    /// What has happened and was not told yet.
    told: VecDeque<Event>,
    /// Whether the kernel had no memory for something since the last wait.
    short_of_memory: bool,
    // Kept open: the epoll watches it.
    _bell: EventBell,
    capacity: u32,
    random: RandomPool,
    clock: Clock,
    enters: u64,
    counters: Counters,
}

/// Set beside a slot whose socket is a Unix socket.
const UNIX: u32 = 1 << 25;

/// What epoll tells of, in the 64 bits that it hands back: 32 of generation, 32 that name a slot or something else.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Source {
    /// A connection over TCP.
    Tcp(ConnId),
    /// A connection over a Unix socket, where reads end early: see [`Readable::ToTheEnd`](slots::Readable).
    Unix(ConnId),
    Listener(ListenerId),
    Bell,
}

impl Source {
    fn encode(self) -> epoll::EventData {
        let (high, low) = match self {
            Source::Tcp(conn) => (conn.generation(), conn.slot()),
            Source::Unix(conn) => (conn.generation(), UNIX | conn.slot()),
            Source::Listener(listener) => (0, SLOTS_MAX | u32::from(listener.0)),
            Source::Bell => (0, u32::MAX),
        };
        epoll::EventData::new_u64(u64::from(high) << 32 | u64::from(low))
    }

    fn decode(data: epoll::EventData) -> Source {
        let (high, low) = ((data.u64() >> 32) as u32, data.u64() as u32);
        match low {
            u32::MAX => Source::Bell,
            slot if slot < SLOTS_MAX => Source::Tcp(ConnId::new(slot, high)),
            slot if slot & UNIX != 0 => Source::Unix(ConnId::new(slot & !UNIX, high)),
            listener => Source::Listener(ListenerId(listener as u16)),
        }
    }
}

impl Epoll {
    /// A driver that will accept from `listeners` (named by their index) once told to [`Driver::listen`], and hears
    /// `bell`.
    pub fn new(
        config: &EpollConfig,
        listeners: Vec<Listener>,
        bell: &EventBell,
    ) -> Result<Epoll, SetupError> {
        check(config)?;
        if let Some(cpu) = config.cpu {
            machine::pin(cpu).map_err(|error| SetupError::Pin { cpu, error })?;
        }
        let missing = |error| Missing::new(Feature::Epoll, &error);
        let epoll = open(bell).map_err(missing)?;
        let acceptors = Acceptors::new(listeners).map_err(missing)?;
        Ok(Epoll {
            epoll,
            ready: Vec::with_capacity(BATCH),
            slots: Slots::default(),
            acceptors,
            connects: Connects::new(config.outbound.clone()),
            receivers: Receivers::new(Pool::new(config.recv_buffers, config.recv_buffer_size)),
            chains: Chains::default(),
            sending: Vec::new(),
            told: VecDeque::new(),
            short_of_memory: false,
            _bell: bell.clone(),
            capacity: config.slots,
            random: RandomPool::default(),
            clock: Clock::new(),
            enters: 0,
            counters: Counters::default(),
        })
    }

    /// How long to sleep at most, for the caller's affairs and the driver's own.
    fn may_sleep(&self, timeout: Option<Duration>) -> Option<Duration> {
        let has_room = self.slots.used() < self.capacity;
        if !self.told.is_empty() || has_room && self.acceptors.can_go_on() {
            return Some(Duration::ZERO);
        }
        let rested = self.short_of_memory.then_some(REST);
        if rested.is_none() && (self.receivers.can_go_on() || !self.sending.is_empty()) {
            return Some(Duration::ZERO);
        }
        let accepting = self.acceptors.wants_to_wake().filter(|_| has_room);
        let accepting = accepting.map(|moment| moment.since(self.clock.now));
        [timeout, rested, accepting].into_iter().flatten().min()
    }

    /// Sleeps until something has changed, and takes note of it.
    fn look(&mut self, timeout: Option<Duration>) {
        // A time too long for the type is as good as for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        self.enters += 1;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), timeout.as_ref()) {
            // A signal: the caller may have to see to it.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait: {error}"),
        }
        for event in &ready {
            let flags = event.flags;
            match Source::decode(event.data) {
                Source::Bell => self.told.push_back(Event::Bell),
                Source::Listener(listener) => self.acceptors.woken(listener),
                Source::Tcp(conn) => self.changed(conn, flags, false),
                Source::Unix(conn) => self.changed(conn, flags, true),
            }
        }
        self.ready = ready;
    }

    fn changed(&mut self, conn: ConnId, flags: EventFlags, unix: bool) {
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            self.connect_if_connecting(conn);
        }
        // A send that failed says why; a read after it may find no more than an end.
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            self.try_to_send(conn);
        }
        let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR | EventFlags::PRI;
        if flags.intersects(EventFlags::IN | ends) {
            self.became_readable(conn, unix || flags.intersects(ends));
        }
    }
}

impl Driver for Epoll {
    fn now(&self) -> Time {
        self.clock.now
    }

    fn wall(&self) -> Duration {
        self.clock.wall
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn slots(&self) -> u32 {
        self.capacity
    }

    fn listen(&mut self, listener: ListenerId) {
        self.start_accepting(listener);
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
        self.clock.wait_begins();
        self.receivers.pool.reclaim();
        self.send_all();
        self.look(self.may_sleep(timeout));
        self.short_of_memory = false;
        self.clock.wait_ends();

        let enough = events.len() + budget;
        self.tell(enough, events);
        self.accept_some(enough, events);
        self.read_some(enough, events);
    }

    fn bytes<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8] {
        self.receivers.pool.bytes(lease)
    }

    fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        self.receivers.pool.keep(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.receivers.pool.take_back(lease);
    }

    fn counters(&self) -> Counters {
        Counters {
            enters: self.enters,
            busy_nanos: self.clock.busy_nanos,
            buffers_free: self.receivers.pool.home() as u64,
            slots_used: u64::from(self.slots.used()),
            ..self.counters
        }
    }
}

/// Whether there can be one here: there can, unless no file may be opened or something forbids even this.
pub(crate) fn probe() -> Result<(), Missing> {
    let opened = EventBell::new().and_then(|bell| open(&bell));
    opened.map(drop).map_err(|error| Missing::new(Feature::Epoll, &error))
}

/// An epoll that tells of the bell.
fn open(bell: &EventBell) -> io::Result<OwnedFd> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    // Edge-triggered, so that every ring is told and nobody has to read what adds up.
    epoll::add(&epoll, bell, Source::Bell.encode(), EventFlags::IN | EventFlags::ET)?;
    Ok(epoll)
}

fn check(config: &EpollConfig) -> Result<(), SetupError> {
    let refuse = |name, value, allowed| Err(SetupError::Config { name, value, allowed });
    if config.recv_buffers == 0 || config.recv_buffers > 1 << 15 {
        return refuse("recv_buffers", config.recv_buffers.into(), "from 1 to 32768");
    }
    if config.recv_buffer_size == 0 {
        return refuse("recv_buffer_size", 0, "at least 1");
    }
    if config.slots == 0 || config.slots >= SLOTS_MAX {
        return refuse("slots", config.slots.into(), "from 1 to 16777215");
    }
    Ok(())
}
