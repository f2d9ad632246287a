//! The shard: a driver, a core, and the tick that moves them.

use std::time::Duration;

use moongate_hub::{Command, ShardPort};
use moongate_io::{Driver, Event, Inbound, Lease, ListenerId, Time};

use crate::Config;
use crate::conn::Mode;
use crate::core::{Core, Want};

/// How many events one tick takes from the driver.
const EVENTS_BUDGET: usize = 1024;
/// How many asks of other shards one tick answers.
const ASKS_BUDGET: usize = 1024;
/// How many timers fire in one tick.
const TIMERS_BUDGET: usize = 512;
/// How many sends one tick hands to the driver, so that no batch holds the shard for long.
const SENDS_BUDGET: usize = 512;

/// One thread's share of the gateway: its connections, its topics, and the ring that carries both.
pub struct Shard<D: Driver> {
    pub(crate) driver: D,
    pub(crate) core: Core,
    listeners: u16,
    events: Vec<Event>,
    due: Vec<u32>,
    /// When there is something to do though nothing happens; the past if at once.
    next: Option<Time>,
    stopped: bool,
}

impl<D: Driver> Shard<D> {
    /// A shard that accepts on the driver's first `listeners` listeners.
    pub fn new(mut driver: D, listeners: u16, config: Config, port: ShardPort) -> Shard<D> {
        for listener in 0..listeners {
            driver.listen(ListenerId(listener));
        }
        let epoch_base = driver.random();
        let mut core = Core::new(config, port, driver.now(), epoch_base);
        core.hub.outboxes.reserve(driver.slots());
        core.wheel.reserve(driver.slots());
        Shard {
            driver,
            core,
            listeners,
            events: Vec::with_capacity(EVENTS_BUDGET),
            due: Vec::new(),
            next: None,
            stopped: false,
        }
    }

    /// Ticks until the control thread says stop.
    pub fn run(&mut self) {
        while !self.stopped {
            self.tick();
        }
    }

    /// Whether the control thread has said stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// How many connections there are, closing ones included.
    pub fn connections(&self) -> usize {
        self.core.conns.len()
    }

    /// Bytes of memory the shard answers for now: see [`Config::memory_bytes_max`].
    pub fn memory_bytes(&self) -> u64 {
        self.core.memory_bytes()
    }

    /// The driver, for what drives the driver.
    pub fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// One turn: wait, completions with their effects, lanes, timers, flush.
    pub fn tick(&mut self) {
        self.wait();
        self.complete();
        self.core.inflate_on();
        self.obey();
        if self.core.hub.exchange(ASKS_BUDGET) {
            self.core.busy = true;
        }
        self.hear_hub();
        self.fire_timers();
        let drain = self.drain_on();
        let memory = self.core.relieve_memory();
        self.obey();
        self.core.hub.seal();
        self.hear_hub();
        self.obey();
        self.flush();
        self.plan([drain, memory]);
    }

    fn wait(&mut self) {
        let timeout = self.next.map(|next| next.since(self.driver.now()));
        let may_sleep = timeout != Some(Duration::ZERO) && self.core.hub.park();
        let timeout = if may_sleep { timeout } else { Some(Duration::ZERO) };
        self.driver.wait(timeout, EVENTS_BUDGET, &mut self.events);
        if may_sleep {
            self.core.hub.unpark();
        }
        self.core.begin(self.driver.now(), self.driver.wall());
    }

    fn complete(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.core.busy |= events.len() >= EVENTS_BUDGET;
        for event in events.drain(..) {
            self.happened(event);
            self.obey();
        }
        self.events = events;
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Accepted { conn, peer, .. } => self.core.accepted(conn, peer),
            Event::Received { conn, inbound: Inbound::Bytes(lease) } => self.received(conn, lease),
            Event::Received { conn, inbound: Inbound::End } => self.core.peer_ended(conn),
            Event::Received { conn, inbound: Inbound::Reset } => self.core.reset(conn),
            Event::Sent { conn, chain, outcome } => self.core.sent(conn, chain, outcome),
            Event::Closed { conn } => self.core.closed(conn),
            Event::Connected { ticket, outcome } => self.core.connected(ticket, outcome),
            Event::Bell => {}
        }
    }

    fn received(&mut self, conn: moongate_io::ConnId, mut lease: Lease) {
        let core = &mut self.core;
        core.counts.bytes_in += lease.len() as u64;
        if let Some(mode) = core.conns.take(conn) {
            let mode = match mode {
                Mode::Tunnel(tunnel) => return self.carry(conn, tunnel, lease),
                mode => mode,
            };
            let bytes = self.driver.bytes(&mut lease);
            let count = bytes.len();
            let mode = match mode {
                Mode::Head(heading) => core.read_head(conn, heading, bytes),
                Mode::Joining(joining) => core.read_early(conn, joining, bytes),
                Mode::Body(posting) => core.read_body(conn, posting, bytes),
                Mode::Speaking(speaking) => core.read_frames(conn, speaking, bytes),
                Mode::Lingering { discarded } => core.discard(conn, discarded, count),
                Mode::Exchanging(exchanging) => core.read_ahead(conn, exchanging, bytes),
                Mode::Upstream { client } => core.upstream_said(conn, client, bytes),
                // Nobody speaks on an event stream, and what follows a request that is answered is not read.
                ignored @ (Mode::Ordering(_)
                | Mode::Streaming(_)
                | Mode::Tunnel(_)
                | Mode::Breaking
                | Mode::Flushing { .. }
                | Mode::Gone
                | Mode::Vacant) => ignored,
            };
            core.settle(conn, mode);
        }
        self.driver.release(lease);
    }

    /// Does what connections asked for in their turn.
    fn obey(&mut self) {
        for (ticket, remote) in self.core.calls.drain(..) {
            self.driver.connect(ticket, &remote);
        }
        for want in self.core.wants.drain(..) {
            match want {
                Want::Receive(conn) => self.driver.recv(conn),
                Want::Pause(conn) => self.driver.pause(conn),
                Want::Resume(conn) => self.driver.resume(conn),
                Want::Finish(conn) => self.driver.shutdown_write(conn),
                Want::Abort(conn) => self.driver.abort(conn),
                Want::Close(conn) => self.driver.close(conn),
                Want::CancelConnect(ticket) => self.driver.cancel_connect(ticket),
                Want::Unlisten => (0..self.listeners).for_each(|id| self.driver.unlisten(ListenerId(id))),
            }
        }
    }

    /// Acts on what came of asks and tells.
    fn hear_hub(&mut self) {
        let core = &mut self.core;
        for joined in core.hub.take_joined() {
            core.joined(&joined);
        }
        for (conn, subscription, why) in core.hub.take_refused() {
            core.not_joined(conn, subscription, why);
        }
        for ordered in core.hub.take_ordered().chunk_by(|one, next| one.token.who == next.token.who) {
            core.ordered(ordered);
        }
        for (token, bytes, why) in core.hub.take_rejected() {
            core.rejected(token, bytes, why);
        }
        for slot in core.hub.take_overflowed() {
            core.cut(slot);
        }
        while let Some(command) = core.hub.next_command() {
            match command {
                Command::Snapshot => {
                    let snapshot = core.snapshot(&self.driver.counters());
                    core.hub.report(snapshot);
                }
                Command::Drain => core.begin_drain(),
                Command::Leave => core.leave_at_once(),
                Command::Upstreams(found) => core.upstreams.resolved(found),
                Command::Stop => self.stopped = true,
            }
        }
    }

    fn fire_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.core.busy |= self.core.wheel.advance(self.core.now, TIMERS_BUDGET, &mut due);
        for slot in due.drain(..) {
            // One that fired before may have set this one anew: the two ends of a tunnel end together.
            if !self.core.wheel.is_set(slot) {
                self.core.timer_fired(slot);
            }
        }
        self.due = due;
    }

    fn drain_on(&mut self) -> Option<Time> {
        let Shard { driver, core, .. } = self;
        core.drain_on(&mut || driver.random())
    }

    /// Hands waiting outboxes to the driver, first come first served, one send each.
    fn flush(&mut self) {
        for _ in 0..SENDS_BUDGET {
            let Some((slot, chain)) = self.core.hub.outboxes.next_send() else { return };
            match self.core.conns.at(slot) {
                Some((conn, mode)) if !matches!(mode, Mode::Gone) => self.driver.send(conn, chain),
                _ => self.core.hub.outboxes.failed(slot),
            }
        }
        self.core.busy |= self.core.hub.outboxes.is_dirty();
    }

    /// When to look again: at once if something was left undone, else at the earliest of all wishes.
    fn plan(&mut self, wishes: [Option<Time>; 2]) {
        let hub = self.core.hub.finish();
        self.core.counts.ticked(self.driver.counters().busy_nanos);
        self.next = if self.core.busy || self.core.hub.is_unsealed() {
            Some(self.core.now)
        } else {
            debug_assert!(self.core.inflation.is_idle(), "a message waits to be inflated, and nobody will");
            wishes.into_iter().chain([hub, self.core.wheel.next()]).flatten().min()
        };
    }
}
