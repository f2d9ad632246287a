//! A shard with a driver that does what a test says, and writes down what it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{Ask, Bell, ControlPort, HashKey, Mesh, OutboxLimits, OutboxPolicy};
use moongate_io::{
    Bytes, Chain, ConnId, ConnectFault, Counters, Driver, Event, Inbound, Lease, ListenerId, Loan, Remote,
    SendFault, Ticket, Time,
};
use moongate_wire::decide::Policy;
use moongate_wire::route::Routes;

use crate::{Config, Shard};

/// A request to switch, and the answer of an upstream that does.
pub(crate) const UPGRADE: &str =
    "GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: acme/2\r\n\r\n";
pub(crate) const SWITCHED: &str = "HTTP/1.1 101 Over\r\nConnection: upgrade\r\nUpgrade: acme/2\r\n\r\n";

/// What the driver was asked for, besides sending and receiving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Connect(Ticket, Remote),
    Cancel(Ticket),
    Pause(ConnId),
    Resume(ConnId),
    Finish(ConnId),
    Abort(ConnId),
    Close(ConnId),
}

#[derive(Default)]
pub(crate) struct Script {
    now: Time,
    events: Vec<Event>,
    calls: Vec<Call>,
    leases: BTreeMap<u32, Vec<u8>>,
    numbers: u32,
    sending: BTreeMap<ConnId, Chain>,
    heard: BTreeMap<ConnId, Vec<u8>>,
    stalled: BTreeSet<ConnId>,
    open: BTreeSet<ConnId>,
    closing: BTreeSet<ConnId>,
    attempts: BTreeSet<Ticket>,
    keeps: bool,
    kept: u64,
}

struct Kept(Vec<u8>);

impl Loan for Kept {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl Script {
    fn note(&mut self, conn: ConnId, call: Call) {
        assert!(self.open.contains(&conn), "{call:?}, which is closed");
        self.calls.push(call);
    }

    fn leave(&mut self, conn: ConnId, call: Call) {
        assert!(self.open.contains(&conn), "{call:?}, which is closed");
        if !self.closing.insert(conn) {
            return;
        }
        self.calls.push(call);
        if let Some(chain) = self.sending.remove(&conn) {
            self.events.push(Event::Sent { conn, chain, outcome: Err(SendFault::Cancelled) });
        }
        self.events.push(Event::Closed { conn });
    }
}

impl Driver for Script {
    fn now(&self) -> Time {
        self.now
    }

    fn wall(&self) -> Duration {
        Duration::ZERO
    }

    fn random(&mut self) -> u64 {
        4
    }

    fn slots(&self) -> u32 {
        64
    }

    fn listen(&mut self, _: ListenerId) {}

    fn unlisten(&mut self, _: ListenerId) {}

    fn connect(&mut self, ticket: Ticket, remote: &Remote) {
        assert!(self.attempts.insert(ticket), "a ticket names one attempt");
        self.calls.push(Call::Connect(ticket, remote.clone()));
    }

    fn cancel_connect(&mut self, ticket: Ticket) {
        self.calls.push(Call::Cancel(ticket));
        if self.attempts.remove(&ticket) {
            self.events.push(Event::Connected { ticket, outcome: Err(ConnectFault::Cancelled) });
        }
    }

    fn recv(&mut self, _: ConnId) {}

    fn pause(&mut self, conn: ConnId) {
        self.note(conn, Call::Pause(conn));
    }

    fn resume(&mut self, conn: ConnId) {
        self.note(conn, Call::Resume(conn));
    }

    fn send(&mut self, conn: ConnId, chain: Chain) {
        assert!(self.open.contains(&conn) && !self.closing.contains(&conn) && !chain.is_empty());
        assert!(self.sending.insert(conn, chain).is_none(), "one send in flight");
    }

    fn shutdown_write(&mut self, conn: ConnId) {
        assert!(!self.sending.contains_key(&conn), "FIN follows what was sent");
        self.note(conn, Call::Finish(conn));
    }

    fn abort(&mut self, conn: ConnId) {
        self.leave(conn, Call::Abort(conn));
    }

    fn close(&mut self, conn: ConnId) {
        self.leave(conn, Call::Close(conn));
    }

    fn wait(&mut self, _: Option<Duration>, _: usize, events: &mut Vec<Event>) {
        let ready: Vec<ConnId> =
            self.sending.keys().copied().filter(|conn| !self.stalled.contains(conn)).collect();
        for event in self.events.drain(..) {
            if let Event::Closed { conn } = event {
                self.open.remove(&conn);
            }
            events.push(event);
        }
        for conn in ready {
            let chain = self.sending.remove(&conn).expect("it was just seen");
            let heard = self.heard.entry(conn).or_default();
            chain.segments().iter().for_each(|segment| heard.extend_from_slice(segment.as_slice()));
            let outcome = Ok(chain.len());
            events.push(Event::Sent { conn, chain, outcome });
        }
    }

    fn bytes<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8] {
        self.leases.get_mut(&lease.buffer()).expect("a lease that is out")
    }

    fn keep(&mut self, lease: Lease) -> Result<Bytes, Lease> {
        if !self.keeps {
            return Err(lease);
        }
        self.kept += 1;
        Ok(Bytes::lent(Kept(self.leases.remove(&lease.buffer()).expect("a lease that is out"))))
    }

    fn release(&mut self, lease: Lease) {
        self.leases.remove(&lease.buffer()).expect("a lease that is out");
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// The shard and who is around it.
pub(crate) struct Stage {
    shard: Shard<Script>,
    control: ControlPort,
}

pub(crate) const IDLE: Duration = Duration::from_secs(60);
pub(crate) const BUFFER: u32 = 10_000;
pub(crate) const CLOSE: Duration = Duration::from_secs(5);

impl Stage {
    /// A shard that serves `routes`.
    pub(crate) fn new(routes: &str) -> Stage {
        Stage::with(routes, |_| {})
    }

    pub(crate) fn with(routes: &str, change: impl FnOnce(&mut Config)) -> Stage {
        let routes = Routes::parse(routes).expect("a table");
        let mut config = Config {
            policy: Policy { routes: Arc::new(routes), ..Policy::default() },
            upstreams: Vec::new(),
            tunnel_buffer_bytes_max: BUFFER,
            page: b"",
            script: b"",
            connections_max: 50,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            order_timeout: Duration::from_secs(5),
            publish_window_bytes: 1 << 18,
            subscription_topics_max: 10,
            requests_in_flight_max: 10,
            wamp_realm: "realm1".into(),
            memory_bytes_max: 1 << 20,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(10),
            close_timeout: CLOSE,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            hub: moongate_hub::Config {
                topics_max: 10,
                topic_linger: Duration::from_secs(60),
                history: moongate_hub::HistoryLimits::OFF,
                outbox: OutboxLimits {
                    outbox_bytes_max: 1 << 16,
                    policy: OutboxPolicy::Cut,
                    slow_reader_timeout: Duration::from_millis(200),
                },
            },
        };
        change(&mut config);
        let mut mesh = Mesh::new(vec![Arc::new(Silent)], Arc::new(Silent), 16, HashKey::new([7; 16]));
        let driver = Script { now: Time::from_nanos(1_000_000_000), keeps: true, ..Script::default() };
        Stage { shard: Shard::new(driver, 1, config, mesh.shards.remove(0)), control: mesh.control }
    }

    fn script(&mut self) -> &mut Script {
        self.shard.driver_mut()
    }

    /// Lets everything happen that is due.
    pub(crate) fn tick(&mut self) {
        for _ in 0..6 {
            self.shard.tick();
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.script().now + span;
        while self.script().now < end {
            let step = self.script().now + Duration::from_millis(100);
            self.script().now = step.min(end);
            self.shard.tick();
        }
        self.tick();
    }

    pub(crate) fn client(&mut self) -> ConnId {
        let conn = self.new_conn();
        let peer = ([192, 0, 2, 7], 5000).into();
        self.happen(Event::Accepted { conn, listener: ListenerId(0), peer });
        conn
    }

    fn new_conn(&mut self) -> ConnId {
        let script = self.script();
        script.numbers += 1;
        let conn = ConnId::new(script.numbers, 0);
        script.open.insert(conn);
        conn
    }

    /// The connection that will be next.
    pub(crate) fn next_conn(&mut self) -> ConnId {
        ConnId::new(self.script().numbers + 1, 0)
    }

    fn happen(&mut self, event: Event) {
        self.script().events.push(event);
        self.tick();
    }

    pub(crate) fn says(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) {
        let event = self.inbound(conn, bytes.as_ref());
        self.happen(event);
    }

    /// Everything at once, in one tick: bytes, and how it ends behind them.
    pub(crate) fn says_and(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>, end: Inbound) {
        let event = self.inbound(conn, bytes.as_ref());
        self.script().events.push(event);
        self.happen(Event::Received { conn, inbound: end });
    }

    fn inbound(&mut self, conn: ConnId, bytes: &[u8]) -> Event {
        let script = self.script();
        script.numbers += 1;
        let number = script.numbers;
        script.leases.insert(number, bytes.to_vec());
        let lease = Lease::new(number, bytes.len() as u32);
        Event::Received { conn, inbound: Inbound::Bytes(lease) }
    }

    pub(crate) fn ends(&mut self, conn: ConnId) {
        self.happen(Event::Received { conn, inbound: Inbound::End });
    }

    pub(crate) fn resets(&mut self, conn: ConnId) {
        self.happen(Event::Received { conn, inbound: Inbound::Reset });
    }

    /// From now on nothing that is sent to `conn` goes out.
    pub(crate) fn stall(&mut self, conn: ConnId) {
        self.script().stalled.insert(conn);
    }

    pub(crate) fn go_on(&mut self, conn: ConnId) {
        self.script().stalled.remove(&conn);
        self.tick();
    }

    /// No lease is kept from now on.
    pub(crate) fn keep_nothing(&mut self) {
        self.script().keeps = false;
    }

    pub(crate) fn kept(&mut self) -> u64 {
        self.script().kept
    }

    /// What `conn` was sent since the last time.
    pub(crate) fn heard(&mut self, conn: ConnId) -> String {
        String::from_utf8(self.heard_bytes(conn)).expect("tests speak ASCII")
    }

    /// The same, whatever it is.
    pub(crate) fn heard_bytes(&mut self, conn: ConnId) -> Vec<u8> {
        self.script().heard.remove(&conn).unwrap_or_default()
    }

    /// What the driver was asked for since the last time.
    pub(crate) fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.script().calls)
    }

    /// The attempt that was just begun.
    pub(crate) fn attempt(&mut self) -> (Ticket, Remote) {
        match self.calls().as_slice() {
            [.., Call::Connect(ticket, remote)] => (*ticket, remote.clone()),
            calls => panic!("no attempt: {calls:?}"),
        }
    }

    pub(crate) fn connects(&mut self, ticket: Ticket) -> ConnId {
        assert!(self.script().attempts.remove(&ticket));
        let conn = self.new_conn();
        self.happen(Event::Connected { ticket, outcome: Ok(conn) });
        conn
    }

    /// The client is gone in the very moment in which its connection is made.
    pub(crate) fn connects_too_late(&mut self, client: ConnId, ticket: Ticket) -> ConnId {
        assert!(self.script().attempts.remove(&ticket));
        let conn = self.new_conn();
        self.script().events.push(Event::Received { conn: client, inbound: Inbound::Reset });
        self.happen(Event::Connected { ticket, outcome: Ok(conn) });
        conn
    }

    /// What is being sent to `conn` fails.
    pub(crate) fn refuses_bytes(&mut self, conn: ConnId) {
        let chain = self.script().sending.remove(&conn).expect("a send in flight");
        self.happen(Event::Sent { conn, chain, outcome: Err(SendFault::Gone) });
    }

    pub(crate) fn faults(&mut self, ticket: Ticket, fault: ConnectFault) {
        assert!(self.script().attempts.remove(&ticket));
        self.happen(Event::Connected { ticket, outcome: Err(fault) });
    }

    /// A client whose request has gone to an upstream, and that upstream; what it heard is forgotten.
    pub(crate) fn asked(&mut self, request: &str) -> (ConnId, ConnId) {
        let client = self.client();
        self.says(client, request);
        let (ticket, _) = self.attempt();
        let upstream = self.connects(ticket);
        self.heard(upstream);
        self.calls();
        (client, upstream)
    }

    /// A tunnel, through which nothing has gone.
    pub(crate) fn tunnel(&mut self) -> (ConnId, ConnId) {
        let (client, upstream) = self.asked(UPGRADE);
        self.says(upstream, SWITCHED);
        assert!(self.heard(client).starts_with("HTTP/1.1 101 "));
        assert_eq!((self.heard(upstream), self.calls()), (String::new(), Vec::new()));
        (client, upstream)
    }

    /// What the gateway says of itself, a sample by its name and labels.
    pub(crate) fn sample(&mut self, name: &str, labels: &[&str]) -> f64 {
        assert!(self.control.ask(0, Ask::Snapshot).is_ok());
        self.tick();
        let shot = loop {
            match self.control.next_tell() {
                Some((_, moongate_hub::Tell::Snapshot(shot))) => break shot,
                Some(_) => {}
                None => panic!("a snapshot was asked for"),
            }
        };
        let mut samples = shot.samples.iter().filter(|sample| {
            sample.name == name && labels.iter().all(|label| sample.labels.iter().any(|(_, is)| is == label))
        });
        let value = samples.next().map_or(0.0, |sample| sample.value);
        assert!(samples.next().is_none(), "{name} {labels:?} is one sample");
        value
    }

    pub(crate) fn drain(&mut self) {
        assert!(self.control.ask(0, Ask::Drain).is_ok());
        self.tick();
    }

    /// Nobody is left, and nothing is held.
    pub(crate) fn assert_empty(&mut self) {
        self.tick();
        let (connections, bytes) = (self.shard.connections(), self.shard.memory_bytes());
        assert_eq!((connections, bytes), (0, 0), "connections and bytes are left: {:?}", self.calls());
        assert!(self.script().leases.is_empty(), "leases are out");
        assert!(self.shard.core.hub.encoder().subscribing.is_empty(), "subscribes wait");
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.shard.memory_bytes()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shard.connections()
    }
}
