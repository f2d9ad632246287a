//! A driver in virtual time, made to be as inconvenient as the contract of [`Driver`] allows, and to check that its
//! caller keeps to it.
//!
//! It never sleeps: [`Driver::wait`] returns what is due at the world's time and notes what it was asked to wait for.
//! Sends take any part of what they carry, receives lend any part of what has arrived, completions come late and in any
//! order between connections, and after a close some of what was on its way still arrives. A caller that breaks the
//! contract ends the run with a panic that names the seed.

mod arrival;
mod bell;
mod buffers;
mod record;
mod step;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{
    Bytes, CHAIN_SEGMENTS_MAX, Chain, ConnId, Counters, Driver, Event, Lease, ListenerId, Remote, SendFault,
    Ticket, Time,
};

pub use bell::SimBell;

use crate::net::{Due, Net, WireId};
use crate::rng::Rng;
use arrival::Attempt;
use buffers::Buffers;

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
    buffers: Buffers,
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
            buffers: Buffers::new(plan.buffers),
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
        let lent = self.buffers.held();
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

    /// What is not lent, or not any more, cannot be looked at, kept or released.
    fn must_be_lent(&self, lease: &Lease) {
        if !self.buffers.is_lent(lease) {
            self.violated("a lease that was not lent, or was released before");
        }
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

    fn begin_closing(&mut self, conn: ConnId, reset: bool, call: &str) {
        let leases = self.rng.below(3) as u32;
        let at = self.completion_at();
        let tenant = self.tenant(conn, call);
        match &mut tenant.phase {
            Phase::Closing { .. } => {}
            phase @ Phase::Open => *phase = Phase::Closing { leases, at, reset },
        }
    }
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
        self.buffers.take_back();
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
        self.must_be_lent(lease);
        self.buffers.bytes(lease)
    }

    fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        self.must_be_lent(&lease);
        // One buffer always stays for receiving, or nothing would ever move again.
        if self.buffers.free() == 0 || self.rng.chance(30) {
            return Err(lease);
        }
        Ok(self.buffers.keep(&lease))
    }

    fn release(&mut self, lease: Lease) {
        self.must_be_lent(&lease);
        self.buffers.release(&lease);
    }

    fn counters(&self) -> Counters {
        Counters { buffers_free: self.buffers.free() as u64, slots_used: self.used() as u64, ..self.counters }
    }
}
