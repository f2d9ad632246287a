//! A driver in virtual time, made to be as inconvenient as the contract of [`Driver`] allows, and to check that its
//! caller keeps to it.
//!
//! It never sleeps: [`Driver::wait`] returns what is due at the world's time and notes what it was asked to wait for.
//! Sends take any part of what they carry, receives lend any part of what has arrived, completions come late and in any
//! order between connections, and after a close some of what was on its way still arrives. A caller that breaks the
//! contract ends the run with a panic that names the seed.

mod bell;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{
    Bytes, CHAIN_SEGMENTS_MAX, Chain, ConnId, ConnectFault, Counters, Driver, Event, Inbound, Lease,
    ListenerId, Loan, Remote, SendFault, Ticket, Time,
};

pub use bell::SimBell;

use crate::net::{Due, End, Net, WireId};
use crate::rng::Rng;

/// How inconvenient a driver is.
#[derive(Copy, Clone, Debug)]
pub struct DriverPlan {
    /// How many connections it has room for.
    pub slots: u32,
    /// How many receive buffers there are.
    pub buffers: usize,
    /// The size of each.
    pub buffer_size: usize,
    /// Of a hundred sends, how many take only a part though there is room.
    pub short_sends: usize,
    /// Of a hundred receives, how many lend only a part of what has arrived.
    pub split_reads: usize,
    /// Of a hundred completions, how many come late.
    pub late: usize,
}

/// What the last [`Driver::wait`] was about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Waited {
    /// When the caller wanted to wake at the latest; the past if it did not want to sleep.
    pub until: Option<Time>,
    /// Whether a kernel would have put the caller to sleep.
    pub slept: bool,
    /// How many events it got.
    pub events: usize,
}

/// The driver of one shard.
pub struct SimDriver {
    seed: u64,
    shard: usize,
    plan: DriverPlan,
    net: Rc<RefCell<Net>>,
    rng: Rng,
    bell: Arc<SimBell>,
    now: Time,
    slots: Vec<Slot>,
    attempts: Vec<Attempt>,
    buffers: Vec<Buffer>,
    /// Buffers whose bytes are kept no more.
    left: Rc<RefCell<Vec<usize>>>,
    waited: Option<Waited>,
    counters: Counters,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    tenant: Option<Tenant>,
}

struct Tenant {
    wire: WireId,
    receiving: Receiving,
    flight: Option<Flight>,
    writing: Writing,
    phase: Phase,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Receiving {
    Idle,
    Armed,
    /// So many leases still come, then none until it is resumed.
    Pausing(u32),
    Paused,
    Ended,
}

struct Flight {
    chain: Chain,
    since: Time,
    state: FlightState,
}

#[derive(Copy, Clone)]
enum FlightState {
    /// There was no room yet.
    Waiting,
    /// The completion comes then.
    Done { outcome: Result<usize, SendFault>, at: Time },
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Writing {
    Open,
    Ending,
    Ended,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// So many leases may still come; closed not before then.
    Closing {
        leases: u32,
        at: Time,
        reset: bool,
    },
}

/// A connection that is being made.
struct Attempt {
    ticket: Ticket,
    remote: Remote,
    at: Time,
    outcome: Result<(), ConnectFault>,
    cancelled: bool,
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

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    lent: bool,
}

impl SimDriver {
    /// A driver for `shard` in the network `net`, woken by `bell`.
    pub fn new(
        seed: u64,
        shard: usize,
        plan: DriverPlan,
        net: Rc<RefCell<Net>>,
        bell: Arc<SimBell>,
        rng: Rng,
    ) -> SimDriver {
        let now = net.borrow().now;
        SimDriver {
            seed,
            shard,
            plan,
            net,
            rng,
            bell,
            now,
            slots: Vec::new(),
            attempts: Vec::new(),
            left: Rc::default(),
            buffers: (0..plan.buffers).map(|_| Buffer::default()).collect(),
            waited: None,
            counters: Counters::default(),
        }
    }

    /// What the last wait was about; none before the first.
    pub fn waited(&self) -> Option<Waited> {
        self.waited
    }

    /// Whether everything has come home: leases, chains and slots.
    pub fn check_home(&self) -> Result<(), String> {
        let lent = self.buffers.iter().filter(|buffer| buffer.lent).count() - self.left.borrow().len();
        if !self.attempts.is_empty() {
            return Err(format!("shard {}: {} attempts are under way", self.shard, self.attempts.len()));
        }
        if lent > 0 {
            return Err(format!("shard {}: {lent} leases were never released", self.shard));
        }
        let tenants = self.slots.iter().filter(|slot| slot.tenant.is_some()).count();
        if tenants > 0 {
            return Err(format!("shard {}: {tenants} connections were never closed", self.shard));
        }
        Ok(())
    }

    fn violated(&self, what: &str) -> ! {
        panic!("seed {}: shard {} broke the driver's contract: {what}", self.seed, self.shard)
    }

    /// The tenant that `conn` names; naming one after its last event is a violation.
    fn tenant(&mut self, conn: ConnId, call: &str) -> &mut Tenant {
        let known = self
            .slots
            .get(conn.slot() as usize)
            .is_some_and(|slot| slot.generation == conn.generation() && slot.tenant.is_some());
        if !known {
            self.violated(&format!("{call} names {conn:?}, which is closed"));
        }
        self.slots[conn.slot() as usize].tenant.as_mut().expect("it was just looked at")
    }

    fn used(&self) -> usize {
        self.slots.iter().filter(|slot| slot.tenant.is_some()).count()
    }

    /// A moment a completion comes at: mostly at once.
    fn completion_at(&mut self) -> Time {
        if !self.rng.chance(self.plan.late) {
            return self.now;
        }
        let at = self.now + self.rng.millis(0, 5);
        self.net.borrow_mut().schedule(at, Due::Wake);
        at
    }

    fn accept(&mut self, events: &mut Vec<Event>) -> bool {
        if self.used() >= self.plan.slots as usize {
            return false;
        }
        let accepted = self.net.borrow_mut().accept(self.shard);
        let Some(wire) = accepted else { return false };
        let conn = self.move_in(wire);
        let peer = self.net.borrow().wires[wire].address;
        events.push(Event::Accepted { conn, listener: ListenerId(0), peer });
        true
    }

    fn move_in(&mut self, wire: WireId) -> ConnId {
        let free: Vec<usize> = (0..self.slots.len()).filter(|at| self.slots[*at].tenant.is_none()).collect();
        let index = if free.is_empty() { self.slots.len() } else { free[self.rng.below(free.len())] };
        if index == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let slot = &mut self.slots[index];
        slot.tenant = Some(Tenant {
            wire,
            receiving: Receiving::Idle,
            flight: None,
            writing: Writing::Open,
            phase: Phase::Open,
        });
        ConnId::new(index as u32, slot.generation)
    }

    /// Tells what has come of attempts, one at most.
    fn tell_attempt(&mut self, events: &mut Vec<Event>) -> bool {
        let now = self.now;
        let Some(index) = self.attempts.iter().position(|attempt| attempt.at <= now) else { return false };
        let attempt = self.attempts.swap_remove(index);
        let outcome = match attempt.outcome {
            _ if attempt.cancelled => {
                // It may have been made meanwhile.
                if attempt.outcome.is_ok() && self.rng.chance(50) {
                    let wire = self.net.borrow_mut().meet(self.shard, &attempt.remote);
                    self.net.borrow_mut().hang_up(wire);
                }
                Err(ConnectFault::Cancelled)
            }
            Err(fault) => Err(fault),
            Ok(()) if self.used() >= self.plan.slots as usize => Err(ConnectFault::NoRoom),
            Ok(()) => {
                let wire = self.net.borrow_mut().meet(self.shard, &attempt.remote);
                Ok(self.move_in(wire))
            }
        };
        let failed = outcome.is_err_and(|fault| fault != ConnectFault::Cancelled);
        self.counters.connect_errors += u64::from(failed);
        events.push(Event::Connected { ticket: attempt.ticket, outcome });
        true
    }

    /// Takes back the buffers whose bytes are kept no more.
    fn take_back(&mut self) {
        for number in self.left.borrow_mut().drain(..) {
            self.buffers[number] = Buffer::default();
        }
    }

    /// What is next to be told about a slot's tenant.
    fn step(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        if self.slots[index].tenant.is_none() {
            return false;
        }
        // Either may come first, but a connection's last event comes last.
        let receives_first = self.rng.chance(50);
        (receives_first && self.receive(index, events))
            || self.complete(index, events)
            || (!receives_first && self.receive(index, events))
            || self.leave(index, events)
    }

    fn receive(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let Some(tenant) = &mut self.slots[index].tenant else { return false };
        let may = match (tenant.phase, tenant.receiving) {
            (Phase::Closing { leases, .. }, Receiving::Armed | Receiving::Pausing(_)) => leases > 0,
            (Phase::Open, Receiving::Armed) => true,
            (Phase::Open, Receiving::Pausing(left)) => left > 0,
            _ => false,
        };
        if !may {
            return false;
        }
        let open = tenant.phase == Phase::Open;
        let wire = tenant.wire;
        let (arrived, end) = {
            let net = self.net.borrow();
            (net.wires[wire].up.arrived.len(), net.wires[wire].up.end)
        };
        if arrived > 0 {
            return self.lend(index, wire, arrived, events);
        }
        let Some(end) = end.filter(|_| open) else { return false };
        let Some(tenant) = &mut self.slots[index].tenant else { return false };
        tenant.receiving = Receiving::Ended;
        let conn = ConnId::new(index as u32, self.slots[index].generation);
        let inbound = match end {
            End::Fin => Inbound::End,
            End::Reset => Inbound::Reset,
        };
        events.push(Event::Received { conn, inbound });
        true
    }

    fn lend(&mut self, index: usize, wire: WireId, arrived: usize, events: &mut Vec<Event>) -> bool {
        let Some(number) = self.buffers.iter().position(|buffer| !buffer.lent) else {
            self.counters.buffers_exhausted += 1;
            return false;
        };
        let most = arrived.min(self.plan.buffer_size);
        let count = if self.rng.chance(self.plan.split_reads) { self.rng.between(1, most) } else { most };
        let bytes = self.net.borrow_mut().wires[wire].up.read(count, self.now);
        let len = bytes.len() as u32;
        self.buffers[number] = Buffer { bytes, lent: true };
        let slot = &mut self.slots[index];
        if let Some(tenant) = &mut slot.tenant {
            match (&mut tenant.phase, &mut tenant.receiving) {
                (Phase::Closing { leases, .. }, _) => *leases -= 1,
                (Phase::Open, Receiving::Pausing(left)) => *left -= 1,
                _ => {}
            }
        }
        let conn = ConnId::new(index as u32, slot.generation);
        let inbound = Inbound::Bytes(Lease::new(number as u32, len));
        events.push(Event::Received { conn, inbound });
        true
    }

    /// Moves the send in flight on, and tells its completion once that is due.
    fn complete(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let waiting = match self.slots[index].tenant.as_ref().and_then(|tenant| tenant.flight.as_ref()) {
            None => return false,
            Some(flight) => matches!(flight.state, FlightState::Waiting),
        };
        if waiting {
            self.take_bytes(index);
        }
        let slot = &mut self.slots[index];
        let Some(tenant) = &mut slot.tenant else { return false };
        let Some(FlightState::Done { outcome, at }) = tenant.flight.as_ref().map(|flight| flight.state)
        else {
            return false;
        };
        if at > self.now {
            return false;
        }
        let Some(Flight { chain, .. }) = tenant.flight.take() else { return false };
        let whole = outcome == Ok(chain.len());
        self.counters.sends_short += u64::from(outcome.is_ok() && !whole);
        if whole && tenant.writing == Writing::Ending {
            tenant.writing = Writing::Ended;
            self.net.borrow_mut().finish(tenant.wire);
        }
        let conn = ConnId::new(index as u32, slot.generation);
        events.push(Event::Sent { conn, chain, outcome });
        true
    }

    /// The kernel takes some of what a send carries, or says why it will take none.
    fn take_bytes(&mut self, index: usize) {
        let Some(tenant) = &self.slots[index].tenant else { return };
        let Some(flight) = &tenant.flight else { return };
        let (wire, since, len) = (tenant.wire, flight.since, flight.chain.len());
        let closing = tenant.phase != Phase::Open;
        let (room, dead, progress) = {
            let net = self.net.borrow();
            let entry = &net.wires[wire];
            (entry.room(), entry.is_dead(), entry.progress_at())
        };
        let patience = since.max(progress) + self.net.borrow().user_timeout;
        let outcome = if dead {
            Err(SendFault::Gone)
        } else if closing {
            Err(SendFault::Cancelled)
        } else if room > 0 {
            let most = len.min(room);
            let short = self.rng.chance(self.plan.short_sends);
            Ok(if short { self.rng.between(1, most) } else { most })
        } else if patience <= self.now {
            Err(SendFault::TimedOut)
        } else {
            self.net.borrow_mut().schedule(patience, Due::Wake);
            return;
        };
        let at = self.completion_at();
        let Some(flight) = self.slots[index].tenant.as_mut().and_then(|tenant| tenant.flight.as_mut()) else {
            return;
        };
        flight.state = FlightState::Done { outcome, at };
        if let Ok(count) = outcome {
            let bytes = first_bytes(&flight.chain, count);
            self.net.borrow_mut().carry(wire, bytes);
        }
    }

    /// Closes a closing connection once nothing is outstanding on it.
    fn leave(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let slot = &mut self.slots[index];
        let Some(tenant) = &slot.tenant else { return false };
        let Phase::Closing { at, reset, .. } = tenant.phase else { return false };
        if at > self.now || tenant.flight.is_some() {
            return false;
        }
        let mut net = self.net.borrow_mut();
        if reset {
            net.cut_off(tenant.wire)
        } else {
            net.hang_up(tenant.wire)
        }
        events.push(Event::Closed { conn: ConnId::new(index as u32, slot.generation) });
        slot.tenant = None;
        slot.generation += 1;
        true
    }

    fn begin_closing(&mut self, conn: ConnId, reset: bool, call: &str) {
        let leases = self.rng.below(3) as u32;
        let at = self.completion_at();
        let tenant = self.tenant(conn, call);
        match &mut tenant.phase {
            Phase::Closing { .. } => {}
            phase @ Phase::Open => *phase = Phase::Closing { leases, at, reset },
        }
    }

    fn trace(&mut self, events: &[Event]) {
        let mut net = self.net.borrow_mut();
        net.trace.tell_numbers(&[self.shard as u64, self.now.as_nanos(), events.len() as u64]);
        for event in events {
            let numbers = |kind: u64, conn: &ConnId, count: usize| {
                [kind, u64::from(conn.slot()), u64::from(conn.generation()), count as u64]
            };
            let numbers = match event {
                Event::Accepted { conn, .. } => numbers(1, conn, 0),
                Event::Received { conn, inbound: Inbound::Bytes(lease) } => numbers(2, conn, lease.len()),
                Event::Received { conn, inbound: Inbound::End } => numbers(3, conn, 0),
                Event::Received { conn, inbound: Inbound::Reset } => numbers(4, conn, 0),
                Event::Sent { conn, outcome: Ok(count), .. } => numbers(5, conn, *count),
                Event::Sent { conn, outcome: Err(fault), .. } => numbers(6, conn, *fault as usize),
                Event::Closed { conn } => numbers(7, conn, 0),
                Event::Bell => [8, 0, 0, 0],
                Event::Connected { ticket, outcome: Ok(conn) } => numbers(9, conn, ticket.0 as usize),
                Event::Connected { ticket, outcome: Err(fault) } => [10, ticket.0, *fault as u64, 0],
            };
            net.trace.tell_numbers(&numbers);
        }
    }
}

/// The first `count` bytes of a chain.
fn first_bytes(chain: &Chain, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    for segment in chain.segments() {
        let part = segment.as_slice();
        bytes.extend_from_slice(&part[..part.len().min(count - bytes.len())]);
    }
    bytes
}

impl Driver for SimDriver {
    fn now(&self) -> Time {
        self.now
    }

    fn wall(&self) -> Duration {
        Duration::from_secs(1_800_000_000) + self.now.since(Time::ZERO)
    }

    fn random(&mut self) -> u64 {
        self.rng.draw()
    }

    fn slots(&self) -> u32 {
        self.plan.slots
    }

    fn listen(&mut self, listener: ListenerId) {
        if listener != ListenerId(0) {
            self.violated("there is one listener only");
        }
        self.net.borrow_mut().set_listening(self.shard, true);
    }

    fn unlisten(&mut self, listener: ListenerId) {
        if listener != ListenerId(0) {
            self.violated("there is one listener only");
        }
        self.net.borrow_mut().set_listening(self.shard, false);
    }

    fn connect(&mut self, ticket: Ticket, remote: &Remote) {
        if self.attempts.iter().any(|attempt| attempt.ticket == ticket) {
            self.violated(&format!("{ticket:?} names two attempts"));
        }
        let (at, outcome) = self.net.borrow_mut().dial(remote);
        self.net.borrow_mut().schedule(at, Due::Wake);
        self.attempts.push(Attempt { ticket, remote: remote.clone(), at, outcome, cancelled: false });
    }

    fn cancel_connect(&mut self, ticket: Ticket) {
        let at = self.completion_at();
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.ticket == ticket) {
            attempt.cancelled = true;
            attempt.at = attempt.at.min(at);
        }
    }

    fn recv(&mut self, conn: ConnId) {
        let tenant = self.tenant(conn, "recv");
        if tenant.receiving == Receiving::Idle {
            tenant.receiving = Receiving::Armed;
        }
    }

    fn pause(&mut self, conn: ConnId) {
        let leases = self.rng.below(3) as u32;
        let tenant = self.tenant(conn, "pause");
        match tenant.receiving {
            Receiving::Armed => tenant.receiving = Receiving::Pausing(leases),
            Receiving::Idle => tenant.receiving = Receiving::Paused,
            Receiving::Pausing(_) | Receiving::Paused | Receiving::Ended => {}
        }
    }

    fn resume(&mut self, conn: ConnId) {
        let tenant = self.tenant(conn, "resume");
        match tenant.receiving {
            Receiving::Pausing(_) | Receiving::Paused => tenant.receiving = Receiving::Armed,
            Receiving::Idle | Receiving::Armed | Receiving::Ended => {}
        }
    }

    fn send(&mut self, conn: ConnId, chain: Chain) {
        let now = self.now;
        let tenant = self.tenant(conn, "send");
        let wrong = if tenant.phase != Phase::Open {
            Some("a send after close")
        } else if tenant.writing != Writing::Open {
            Some("a send after shutdown_write")
        } else if tenant.flight.is_some() {
            Some("a second send in flight")
        } else if chain.is_empty() {
            Some("an empty chain")
        } else if chain.segments().len() > CHAIN_SEGMENTS_MAX {
            Some("a chain of too many segments")
        } else {
            None
        };
        if let Some(what) = wrong {
            self.violated(&format!("{what} on {conn:?}"));
        }
        tenant.flight = Some(Flight { chain, since: now, state: FlightState::Waiting });
    }

    fn shutdown_write(&mut self, conn: ConnId) {
        let tenant = self.tenant(conn, "shutdown_write");
        if tenant.phase != Phase::Open || tenant.writing != Writing::Open {
            return;
        }
        tenant.writing = Writing::Ending;
        if tenant.flight.is_none() {
            tenant.writing = Writing::Ended;
            let wire = tenant.wire;
            self.net.borrow_mut().finish(wire);
        }
    }

    fn abort(&mut self, conn: ConnId) {
        self.begin_closing(conn, true, "abort");
    }

    fn close(&mut self, conn: ConnId) {
        self.begin_closing(conn, false, "close");
    }

    fn wait(&mut self, timeout: Option<Duration>, budget: usize, events: &mut Vec<Event>) {
        self.counters.enters += 1;
        self.counters.busy_nanos += self.rng.between(1_000, 200_000) as u64;
        let until = timeout.map(|timeout| self.now + timeout);
        self.now = self.net.borrow().now;
        self.take_back();
        let enough = events.len() + budget;

        if self.bell.heard() {
            events.push(Event::Bell);
        }
        while events.len() < enough && self.accept(events) && self.rng.chance(90) {}
        while events.len() < enough && self.tell_attempt(events) {}
        // Everybody once, so that whoever has something makes progress; then some again, so that not everything that
        // is due is told at once.
        for round in 0..self.rng.between(1, 4) {
            let mut order: Vec<usize> = (0..self.slots.len()).collect();
            self.rng.shuffle(&mut order);
            for index in order {
                if events.len() < enough && (round == 0 || self.rng.chance(70)) {
                    self.step(index, events);
                }
            }
        }
        for slot in &mut self.slots {
            if let Some(tenant) = &mut slot.tenant
                && let Receiving::Pausing(_) = tenant.receiving
            {
                tenant.receiving = Receiving::Paused;
            }
        }
        let slept =
            timeout != Some(Duration::ZERO) && events.is_empty() && until.is_none_or(|at| at > self.now);
        self.waited = Some(Waited { until, slept, events: events.len() });
        self.trace(events);
    }

    fn bytes<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8] {
        let number = lease.buffer() as usize;
        if !self.buffers.get(number).is_some_and(|buffer| buffer.lent) {
            self.violated("a lease that was not lent");
        }
        &mut self.buffers[number].bytes
    }

    fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        let number = lease.buffer() as usize;
        if !self.buffers.get(number).is_some_and(|buffer| buffer.lent) {
            self.violated("a lease that was not lent");
        }
        // One buffer always stays for receiving, or nothing would ever move again.
        let lent = self.buffers.iter().filter(|buffer| buffer.lent).count();
        if lent == self.buffers.len() || self.rng.chance(30) {
            return Err(lease);
        }
        let bytes = std::mem::take(&mut self.buffers[number].bytes);
        Ok(Bytes::lent(Kept { bytes, number, left: Rc::clone(&self.left) }))
    }

    fn release(&mut self, lease: Lease) {
        let number = lease.buffer() as usize;
        if !self.buffers.get(number).is_some_and(|buffer| buffer.lent) {
            self.violated("a lease released twice");
        }
        self.buffers[number] = Buffer::default();
    }

    fn counters(&self) -> Counters {
        Counters {
            buffers_free: self.buffers.iter().filter(|buffer| !buffer.lent).count() as u64,
            slots_used: self.used() as u64,
            ..self.counters
        }
    }
}
