//! The driver on `tokio-uring`, for kernels 5.10 to 6.0: a ring for each shard, without what newer kernels add.
//!
//! `tokio-uring` is asynchronous and the waist is not, so [`Driver::wait`] is where the two meet: it runs the runtime until
//! something has happened. Between waits operations are only collected. Each is a future in one set, which brings back
//! what it owned when it completes; no tasks, no channels.
//!
//! The runtime hands operations to the kernel only when it has nothing else to do, and hears what came of them one step
//! later. So that a wait neither leaves behind what the shard wants to be sent nor ends before it has heard, it ends with a
//! *fence*: an operation that does nothing, behind all others. When it is back, they have been with the kernel, and what the
//! kernel could do at once has been heard.
//!
//! A connection's life runs through the files in this order: [`accept`] takes it into a slot or
//! [`connect`] makes it, [`receive`] leases its
//! bytes, [`send`] carries its chains, [`close`] waits for its last operation. Under them lie the [`operation`]s and the
//! [`slots`].

mod accept;
mod close;
mod connect;
mod operation;
mod probe;
mod receive;
mod send;
mod slots;
mod stream;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use io_uring::IoUring;
use moongate_io::{Bytes, Chain, ConnId, Counters, Driver, Event, Lease, ListenerId, Remote, Ticket, Time};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{interval_at, sleep};
use tokio_uring::Runtime;

use crate::bell::EventBell;
use crate::clock::Clock;
use crate::farewell::Farewell;
use crate::listener::Listener;
use crate::machine::{self, RandomPool};
use crate::pool::Pool;
use crate::probe::{Feature, Missing};
use crate::socket::SocketOptions;
use crate::uring::SetupError;
use accept::Acceptors;
use connect::Connects;
use operation::{Done, Operation};
use receive::Receivers;
use slots::Slots;

pub(crate) use probe::probe;

/// As many slots as the other drivers can have.
const SLOTS_MAX: u32 = 1 << 24;

/// How many more fences a wait has at most while somebody's words are being read piece by piece, so that they are heard
/// together: what a publisher has said in a row then goes out in one send to each subscriber, not in one for every buffer.
const FENCES_MAX: u32 = 32;

/// When operations are handed to the kernel again that it had no memory for; the runtime says nothing of that.
const AGAIN: Duration = Duration::from_millis(10);

/// How long the driver sleeps at a time at its end, while operations complete.
const NAP: Duration = Duration::from_millis(1);

/// What a driver on `tokio-uring` is built from.
#[derive(Clone, Debug)]
pub struct TokioUringConfig {
    /// Entries of the submission queue, from 1 to 32,768.
    pub ring_entries: u32,
    /// Entries of the completion queue, from `ring_entries` to 65,536; more wait in the kernel.
    pub completion_entries: u32,
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

/// The driver on `tokio-uring`. It belongs to the thread that built it.
pub struct TokioUring {
    // Before the runtime, which keeps what operations own until the kernel lets go of it.
    core: Core,
    runtime: Runtime,
}

/// Everything but the runtime, which runs it.
struct Core {
    operations: FuturesUnordered<Operation>,
    /// Whether something was begun since the last wait that this one has to see to.
    begun: bool,
    /// Whether a fence is under way.
    fenced: bool,
    slots: Slots,
    acceptors: Acceptors,
    connects: Connects,
    receivers: Receivers,
    /// What has happened and was not told yet.
    told: VecDeque<Event>,
    bell: AsyncFd<EventBell>,
    capacity: u32,
    random: RandomPool,
    clock: Clock,
    enters: u64,
    counters: Counters,
}

impl TokioUring {
    /// A driver that will accept from `listeners` (named by their index) once told to [`Driver::listen`], and hears
    /// `bell`.
    pub fn new(
        config: &TokioUringConfig,
        listeners: Vec<Listener>,
        bell: &EventBell,
    ) -> Result<TokioUring, SetupError> {
        check(config)?;
        if let Some(cpu) = config.cpu {
            machine::pin(cpu).map_err(|error| SetupError::Pin { cpu, error })?;
        }
        let missing = |error| Missing::new(Feature::PlainRing, &error);
        let runtime = runtime(config).map_err(missing)?;
        let watch = async {
            // SAFETY: a bell keeps its descriptor open and always is the same one.
            let bell = unsafe { AsyncFd::register_with_interest(bell.clone(), Interest::READABLE) }?;
            Ok::<_, io::Error>((bell, Acceptors::new(listeners)?))
        };
        let (bell, acceptors) = runtime.block_on(watch).map_err(missing)?;
        let core = Core {
            operations: FuturesUnordered::new(),
            begun: false,
            fenced: false,
            slots: Slots::default(),
            acceptors,
            connects: Connects::new(config.outbound.clone()),
            receivers: Receivers::new(Pool::new(config.recv_buffers, config.recv_buffer_size)),
            told: VecDeque::new(),
            bell,
            capacity: config.slots,
            random: RandomPool::default(),
            clock: Clock::new(),
            enters: 0,
            counters: Counters::default(),
        };
        Ok(TokioUring { core, runtime })
    }

    /// Runs the runtime until something has happened or `timeout` is over, and no fence is under way.
    fn run(&mut self, timeout: Option<Duration>) {
        let TokioUring { core, runtime } = self;
        let hurry = timeout == Some(Duration::ZERO);
        core.begin(hurry);
        runtime.block_on(async {
            let mut timeout = pin!(OptionFuture::from(timeout.filter(|_| !hurry).map(sleep)));
            let mut over = hurry;
            let mut again = None;
            let mut fences = 0;
            let rest = core.acceptors.wants_to_wake();
            poll_fn(|cx| {
                loop {
                    core.look(cx);
                    // Who begins to rest has a wish that `timeout` does not know of.
                    over = over || core.acceptors.wants_to_wake() != rest;
                    over = over || matches!(timeout.as_mut().poll(cx), Poll::Ready(Some(())));
                    if core.fenced {
                        // Whenever this calls, the runtime goes to sleep anew, and tries again before that.
                        let again = again
                            .get_or_insert_with(|| interval_at(tokio::time::Instant::now() + AGAIN, AGAIN));
                        while again.poll_tick(cx).is_ready() {}
                        return Poll::Pending;
                    }
                    if !over && core.told.is_empty() {
                        return Poll::Pending;
                    }
                    if fences >= FENCES_MAX || !core.receivers.is_filling() {
                        return Poll::Ready(());
                    }
                    fences += 1;
                    core.fence();
                }
            })
            .await;
        });
    }
}

/// A runtime with a ring of its own.
fn runtime(config: &TokioUringConfig) -> io::Result<Runtime> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(config.completion_entries).dontfork();
    // Since Linux 5.19 the kernel can do without interrupting a thread that computes to tell it of what has happened. Tried
    // on another ring, because a runtime that cannot have its own leaves files open.
    let trial: io::Result<IoUring> = IoUring::builder().setup_coop_taskrun().build(1);
    if trial.is_ok() {
        ring.setup_coop_taskrun();
    }
    Runtime::new(tokio_uring::builder().entries(config.ring_entries).uring_builder(&ring))
}

impl Core {
    /// Whether one more slot can be taken: those that operations will fill are spoken for.
    fn has_room(&self) -> bool {
        self.slots.used() + self.acceptors.under_way() + self.connects.under_way() < self.capacity
    }

    /// How long to sleep at most, for the caller's affairs and the driver's own.
    fn may_sleep(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.told.is_empty() {
            return Some(Duration::ZERO);
        }
        let accepting = self.acceptors.wants_to_wake().filter(|_| self.has_room());
        let accepting = accepting.map(|moment| moment.since(self.clock.now));
        [timeout, accepting].into_iter().flatten().min()
    }

    /// Begins what was asked for since the last wait, reads behind writes: so they bring what has been said until those are
    /// done. A fence follows if there is anything to see to, or if it is a wait that must not sleep.
    fn begin(&mut self, hurry: bool) {
        self.operations.extend(self.receivers.reads.drain(..));
        if std::mem::take(&mut self.begun) || hurry {
            self.fence();
        }
    }

    /// Puts a fence behind all that was begun.
    fn fence(&mut self) {
        self.fenced = true;
        self.operations.push(operation::fence());
    }

    /// Whether nothing is under way nor about to be.
    fn is_idle(&self) -> bool {
        self.operations.is_empty() && self.receivers.reads.is_empty()
    }

    /// Takes note of what has happened, and begins what follows from it.
    fn look(&mut self, cx: &mut Context<'_>) {
        self.enters += 1;
        // Edge-triggered: every ring is told, and nobody has to read what adds up.
        while let Poll::Ready(rung) = self.bell.poll_read_ready(cx) {
            rung.expect("the runtime watches as long as it lives").clear_ready();
            self.told.push_back(Event::Bell);
        }
        self.acceptors.hear(cx);
        self.accept_again();
        while let Poll::Ready(Some(done)) = self.operations.poll_next_unpin(cx) {
            self.complete(done);
        }
    }

    fn complete(&mut self, done: Done) {
        match done {
            Done::Accepted { listener, outcome } => {
                self.accepted(listener, outcome);
                self.accept_again();
            }
            Done::Connected { ticket } => self.connected(ticket),
            Done::Scouted { conn, outcome, scout } => self.scouted(conn, outcome, scout),
            Done::Filled { conn, outcome, taken } => self.filled(conn, outcome, taken),
            Done::Written { conn, outcome, chain } => self.written(conn, outcome, chain),
            Done::Fenced => self.fenced = false,
        }
    }
}

impl Driver for TokioUring {
    fn now(&self) -> Time {
        self.core.clock.now
    }

    fn wall(&self) -> Duration {
        self.core.clock.wall
    }

    fn random(&mut self) -> u64 {
        self.core.random.next()
    }

    fn slots(&self) -> u32 {
        self.core.capacity
    }

    fn listen(&mut self, listener: ListenerId) {
        self.core.acceptors.listen(listener);
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.core.acceptors.unlisten(listener);
    }

    fn connect(&mut self, ticket: Ticket, remote: &Remote) {
        let TokioUring { core, runtime } = self;
        // Within the runtime, which watches the socket; this goes to the kernel with nothing else.
        runtime.block_on(async { core.start_connecting(ticket, remote) });
    }

    fn cancel_connect(&mut self, ticket: Ticket) {
        self.core.stop_connecting(ticket);
    }

    fn recv(&mut self, conn: ConnId) {
        self.core.start_receiving(conn);
    }

    fn pause(&mut self, conn: ConnId) {
        self.core.pause_receiving(conn);
    }

    fn resume(&mut self, conn: ConnId) {
        self.core.resume_receiving(conn);
    }

    fn send(&mut self, conn: ConnId, chain: Chain) {
        self.core.start_sending(conn, chain);
    }

    fn shutdown_write(&mut self, conn: ConnId) {
        self.core.end_writing(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.core.reset(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.core.start_closing(conn);
    }

    fn wait(&mut self, timeout: Option<Duration>, budget: usize, events: &mut Vec<Event>) {
        self.core.clock.wait_begins();
        self.core.receivers.pool.reclaim();
        self.core.acceptors.begin();
        self.core.receive_again();
        self.run(self.core.may_sleep(timeout));
        self.core.clock.wait_ends();
        self.core.tell(events.len() + budget, events);
    }

    fn bytes<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8] {
        self.core.receivers.pool.bytes(lease)
    }

    fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        self.core.receivers.pool.keep(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.core.receivers.pool.take_back(lease);
    }

    fn counters(&self) -> Counters {
        Counters {
            enters: self.core.enters,
            busy_nanos: self.core.clock.busy_nanos,
            buffers_free: self.core.receivers.pool.home() as u64,
            slots_used: u64::from(self.core.slots.used()),
            ..self.core.counters
        }
    }
}

impl Drop for TokioUring {
    /// Shuts everything down and lets every operation run to its end.
    fn drop(&mut self) {
        self.core.acceptors.close();
        self.core.connects.close();
        for conn in self.core.slots.all_open() {
            self.core.start_closing(conn);
        }
        let mut farewell = Farewell::new();
        loop {
            // As long as there is anything to tell, a wait does not sleep.
            for event in self.core.told.drain(..) {
                if let Event::Received { inbound: moongate_io::Inbound::Bytes(lease), .. } = event {
                    self.core.receivers.pool.take_back(lease);
                }
            }
            if self.core.is_idle() {
                return;
            }
            farewell.wait_for(self.core.operations.len());
            self.run(Some(NAP));
        }
    }
}

fn check(config: &TokioUringConfig) -> Result<(), SetupError> {
    let refuse = |name, value, allowed| Err(SetupError::Config { name, value, allowed });
    if config.ring_entries == 0 || config.ring_entries > 1 << 15 {
        return refuse("ring_entries", config.ring_entries.into(), "from 1 to 32768");
    }
    if config.completion_entries < config.ring_entries || config.completion_entries > 1 << 16 {
        return refuse("completion_entries", config.completion_entries.into(), "from ring_entries to 65536");
    }
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
