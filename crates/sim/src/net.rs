//! The network between clients and drivers: wires that delay, never reorder within themselves, fill up and break.
//!
//! A wire has two streams, one for each direction. What is put into a stream arrives as parcels, each no earlier than
//! the one before it. The stream towards a client has a window: what the client has not read takes up room there, as a
//! slow reader's kernel would. A wire to an upstream is the same thing with another beginning: a driver has called, and
//! the end that is called the client's here is the upstream's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use moongate_io::{ConnectFault, Remote, Time};

use crate::rng::Rng;
use crate::trace::Trace;

/// A wire: its index in the order in which clients connected.
pub type WireId = usize;

/// What the world's clock stops for.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Due {
    /// A connection reaches its listener.
    Arrival(WireId),
    /// Something reaches the server.
    Up(WireId),
    /// Something reaches the client.
    Down(WireId),
    /// A client wants to act.
    Act(WireId),
    /// The network breaks this wire.
    Break(WireId),
    /// The server's kernel has waited for this wire's acknowledgements for long enough.
    GiveUp(WireId),
    /// A completion is due in some driver.
    Wake,
}

/// How a stream ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// In order, behind the last byte.
    Fin,
    /// Broken off: what was not read is lost.
    Reset,
}

enum Parcel {
    Bytes(Vec<u8>),
    End(End),
}

/// One direction of a wire.
#[derive(Default)]
pub struct Stream {
    flight: VecDeque<(Time, Parcel)>,
    flight_bytes: usize,
    /// When the last parcel arrives: the next one not before it.
    last: Time,
    /// When it was put in.
    put_at: Time,
    /// What has arrived and is not read.
    pub arrived: VecDeque<u8>,
    /// How it has ended, once that has arrived.
    pub end: Option<End>,
    /// Nothing more is put in.
    shut: bool,
    /// When the reader last took something.
    read_at: Time,
}

impl Stream {
    /// Reads up to `count` bytes.
    pub fn read(&mut self, count: usize, now: Time) -> Vec<u8> {
        self.read_at = now;
        self.arrived.drain(..count.min(self.arrived.len())).collect()
    }

    fn unread(&self) -> usize {
        self.flight_bytes + self.arrived.len()
    }

    /// Takes what is due out of flight.
    fn land(&mut self, now: Time) {
        while self.flight.front().is_some_and(|(at, _)| *at <= now) {
            match self.flight.pop_front() {
                Some((_, Parcel::Bytes(bytes))) if self.end.is_none() => {
                    self.flight_bytes -= bytes.len();
                    self.arrived.extend(bytes);
                }
                Some((_, Parcel::End(end))) if self.end != Some(End::Reset) => {
                    self.end = Some(end);
                    if end == End::Reset {
                        self.break_off();
                    }
                }
                _ => {}
            }
        }
    }

    fn break_off(&mut self) {
        self.end = Some(End::Reset);
        self.shut = true;
        self.arrived.clear();
        self.flight.clear();
        self.flight_bytes = 0;
    }
}

/// What a client's socket is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// There.
    Open,
    /// Closed for good: whatever reaches it is answered with RST.
    Closed,
    /// Without power: it reads, sends and acknowledges nothing.
    Vanished,
}

/// What the server's side of a wire is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Server {
    /// Connected or about to be, not yet accepted.
    Waiting,
    /// Some driver's.
    Open,
    /// Closed: whatever reaches it is answered with RST.
    Closed,
}

/// What meets a driver that connects.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Somebody takes the call.
    Accepts,
    /// The machine says that nobody listens.
    Refuses,
    /// Nothing comes back at all.
    Silent,
    /// There is no such place.
    Missing,
}

/// Somewhere to connect to.
#[derive(Copy, Clone, Debug)]
pub struct Endpoint {
    /// What happens there.
    pub manner: Manner,
    /// How much its kernel takes that it has not read.
    pub window: usize,
    /// How long anything takes to it and back, in milliseconds.
    pub delay: (usize, usize),
}

/// After how long a driver's kernel gives up on somebody silent.
const CONNECT_PATIENCE: Duration = Duration::from_secs(127);

/// A connection between a client and a shard's driver.
pub struct Wire {
    /// The shard whose listener it reaches.
    pub shard: usize,
    /// The client's address.
    pub address: SocketAddr,
    /// Client to server.
    pub up: Stream,
    /// Server to client.
    pub down: Stream,
    /// The client's side.
    pub peer: Peer,
    /// The server's side.
    pub server: Server,
    /// Whether the network itself broke it.
    pub broken: bool,
    window: usize,
    delay: (usize, usize),
}

impl Wire {
    /// How many bytes more the server's kernel takes.
    pub fn room(&self) -> usize {
        self.window.saturating_sub(self.down.unread())
    }

    /// Whether nothing the server sends can arrive.
    pub fn is_dead(&self) -> bool {
        self.up.end == Some(End::Reset)
    }

    /// When the client last took something.
    pub fn progress_at(&self) -> Time {
        self.down.read_at
    }
}

/// The network of one world.
pub struct Net {
    /// What the clock says.
    pub now: Time,
    /// All wires there ever were.
    pub wires: Vec<Wire>,
    /// Everything that happened, as a hash.
    pub trace: Trace,
    /// How long the server's kernel waits for acknowledgements (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
    due: BinaryHeap<Reverse<(Time, u64, Due)>>,
    count: u64,
    /// For each shard: whether it listens, and who waits to be accepted.
    listeners: Vec<(bool, VecDeque<WireId>)>,
    endpoints: Vec<(Remote, Endpoint)>,
    /// Wires to upstreams that nobody has taken yet.
    calls: Vec<(WireId, Remote)>,
    rng: Rng,
}

impl Net {
    /// A network for so many shards.
    pub fn new(shards: usize, user_timeout: Duration, rng: Rng) -> Net {
        Net {
            // A driver's clock does not begin at zero either.
            now: Time::from_nanos(1_000_000_000),
            wires: Vec::new(),
            trace: Trace::default(),
            user_timeout,
            due: BinaryHeap::new(),
            count: 0,
            listeners: (0..shards).map(|_| (false, VecDeque::new())).collect(),
            endpoints: Vec::new(),
            calls: Vec::new(),
            rng,
        }
    }

    /// Lets the clock stop at `at` for `due`.
    pub fn schedule(&mut self, at: Time, due: Due) {
        self.count += 1;
        self.due.push(Reverse((at, self.count, due)));
    }

    /// When the clock stops next.
    pub fn next_due(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// What the clock has stopped for.
    pub fn pop_due(&mut self) -> Option<Due> {
        let Reverse((at, _, due)) = *self.due.peek()?;
        if at > self.now {
            return None;
        }
        self.due.pop();
        Some(due)
    }

    // A client's calls.

    /// Connects to a shard's listener over a wire with this window and delay in milliseconds.
    pub fn connect(&mut self, shard: usize, window: usize, delay: (usize, usize)) -> WireId {
        let id = self.lay(shard, Server::Waiting, window, delay);
        let at = self.now + self.rng.millis(delay.0, delay.1);
        self.wires[id].up.last = at;
        self.schedule(at, Due::Arrival(id));
        id
    }

    fn lay(&mut self, shard: usize, server: Server, window: usize, delay: (usize, usize)) -> WireId {
        let id = self.wires.len();
        let address = SocketAddr::from(([10, 0, (id >> 8) as u8, id as u8], 40_000));
        self.wires.push(Wire {
            shard,
            address,
            up: Stream::default(),
            down: Stream::default(),
            peer: Peer::Open,
            server,
            broken: false,
            window: window.max(1),
            delay,
        });
        id
    }

    // An upstream's calls.

    /// From now on this is what happens at `remote`. Without that a Unix socket is missing and a port refuses.
    pub fn serve(&mut self, remote: Remote, endpoint: Endpoint) {
        self.endpoints.retain(|(other, _)| *other != remote);
        self.endpoints.push((remote, endpoint));
    }

    /// Wires that drivers have made since the last time, and where to. Whoever takes one is its client from then on.
    pub fn take_calls(&mut self) -> Vec<(WireId, Remote)> {
        std::mem::take(&mut self.calls)
    }

    /// The client sends.
    pub fn say(&mut self, wire: WireId, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.post(wire, true, Parcel::Bytes(bytes.to_vec()));
        }
    }

    /// The client says that it sends no more, but goes on reading.
    pub fn half_close(&mut self, wire: WireId) {
        self.post(wire, true, Parcel::End(End::Fin));
    }

    /// The client closes. With something unread that is a RST, as everywhere.
    pub fn close(&mut self, wire: WireId) {
        let entry = &mut self.wires[wire];
        if entry.peer != Peer::Open {
            return;
        }
        entry.peer = Peer::Closed;
        if entry.down.arrived.is_empty() { self.half_close(wire) } else { self.reset(wire) }
    }

    /// The client resets.
    pub fn reset(&mut self, wire: WireId) {
        self.wires[wire].peer = Peer::Closed;
        self.post(wire, true, Parcel::End(End::Reset));
    }

    /// The client's machine loses power.
    pub fn vanish(&mut self, wire: WireId) {
        let entry = &mut self.wires[wire];
        entry.peer = Peer::Vanished;
        entry.up.shut = true;
        if entry.down.unread() > 0 {
            self.schedule(self.now + self.user_timeout, Due::GiveUp(wire));
        }
    }

    // A driver's calls.

    /// Whether a shard's listener takes connections.
    pub fn set_listening(&mut self, shard: usize, listening: bool) {
        self.listeners[shard].0 = listening;
    }

    /// The next connection that waits to be accepted.
    pub fn accept(&mut self, shard: usize) -> Option<WireId> {
        let wire = self.listeners[shard].1.pop_front()?;
        self.wires[wire].server = Server::Open;
        Some(wire)
    }

    /// When an attempt to connect to `remote` that begins now is over, and what comes of it.
    pub fn dial(&mut self, remote: &Remote) -> (Time, Result<(), ConnectFault>) {
        let found = self.endpoints.iter().find(|(other, _)| other == remote);
        let delay = found.map_or((0, 2), |(_, endpoint)| endpoint.delay);
        let soon = self.now + self.rng.millis(delay.0, delay.1);
        match (found.map(|(_, endpoint)| endpoint.manner), remote) {
            (Some(Manner::Accepts), _) => (soon, Ok(())),
            (Some(Manner::Silent), _) => (self.now + CONNECT_PATIENCE, Err(ConnectFault::TimedOut)),
            (Some(Manner::Missing), _) | (None, Remote::Unix(_)) => (soon, Err(ConnectFault::NotFound)),
            (Some(Manner::Refuses), _) | (None, Remote::Tcp(_)) => (soon, Err(ConnectFault::Refused)),
        }
    }

    /// A shard's driver is connected to `remote`, which has been found to accept.
    pub fn meet(&mut self, shard: usize, remote: &Remote) -> WireId {
        let found = self.endpoints.iter().find(|(other, _)| other == remote);
        let (window, delay) = found.map_or((1, (0, 2)), |(_, endpoint)| (endpoint.window, endpoint.delay));
        let wire = self.lay(shard, Server::Open, window, delay);
        self.calls.push((wire, remote.clone()));
        wire
    }

    /// The server's kernel takes bytes for the client.
    pub fn carry(&mut self, wire: WireId, bytes: Vec<u8>) {
        if self.wires[wire].peer == Peer::Vanished {
            self.schedule(self.now + self.user_timeout, Due::GiveUp(wire));
        }
        self.post(wire, false, Parcel::Bytes(bytes));
    }

    /// The server's FIN.
    pub fn finish(&mut self, wire: WireId) {
        self.post(wire, false, Parcel::End(End::Fin));
    }

    /// The server closes. With something unread that is a RST.
    pub fn hang_up(&mut self, wire: WireId) {
        let entry = &mut self.wires[wire];
        entry.server = Server::Closed;
        let end = if entry.up.arrived.is_empty() { End::Fin } else { End::Reset };
        self.post(wire, false, Parcel::End(end));
    }

    /// The server resets.
    pub fn cut_off(&mut self, wire: WireId) {
        self.wires[wire].server = Server::Closed;
        self.post(wire, false, Parcel::End(End::Reset));
    }

    fn post(&mut self, wire: WireId, up: bool, parcel: Parcel) {
        let entry = &mut self.wires[wire];
        let delay = self.rng.millis(entry.delay.0, entry.delay.1);
        let stream = if up { &mut entry.up } else { &mut entry.down };
        if stream.shut {
            return;
        }
        match &parcel {
            Parcel::Bytes(bytes) => stream.flight_bytes += bytes.len(),
            Parcel::End(End::Fin) => {}
            Parcel::End(End::Reset) => stream.shut = true,
        }
        let fin = matches!(parcel, Parcel::End(End::Fin));
        if fin && stream.flight.back().is_some_and(|(_, last)| matches!(last, Parcel::End(_))) {
            return;
        }
        // What is put in at the same moment often travels together.
        let together = stream.put_at == self.now && self.rng.chance(50);
        let at = if together { stream.last } else { stream.last.max(self.now + delay) };
        stream.put_at = self.now;
        stream.last = at;
        stream.flight.push_back((at, parcel));
        self.schedule(at, if up { Due::Up(wire) } else { Due::Down(wire) });
    }

    // What happens by itself.

    /// A connection reaches its listener, or nobody.
    pub fn arrive(&mut self, wire: WireId) {
        let shard = self.wires[wire].shard;
        if self.listeners[shard].0 {
            self.listeners[shard].1.push_back(wire);
        } else {
            self.cut_off(wire);
        }
    }

    /// Something reaches the server.
    pub fn land_up(&mut self, wire: WireId) {
        let now = self.now;
        let entry = &mut self.wires[wire];
        let before = entry.up.arrived.len();
        entry.up.land(now);
        if entry.server == Server::Closed && entry.up.arrived.len() > before && entry.up.end.is_none() {
            self.cut_off(wire);
        }
    }

    /// Something reaches the client. True if there is something for it to read or to notice.
    pub fn land_down(&mut self, wire: WireId) -> bool {
        let now = self.now;
        let entry = &mut self.wires[wire];
        match entry.peer {
            Peer::Open => {
                entry.down.land(now);
                true
            }
            Peer::Closed => {
                let came = entry.down.unread() > 0;
                entry.down.break_off();
                if came && entry.up.end != Some(End::Reset) {
                    entry.up.shut = false;
                    self.post(wire, true, Parcel::End(End::Reset));
                }
                false
            }
            Peer::Vanished => false,
        }
    }

    /// The network resets the wire towards both ends, as a middlebox that lost its memory does.
    pub fn break_wire(&mut self, wire: WireId) {
        let entry = &mut self.wires[wire];
        if entry.peer == Peer::Vanished || entry.server == Server::Closed || entry.up.end.is_some() {
            return;
        }
        entry.broken = true;
        entry.up.break_off();
        entry.down.break_off();
    }

    /// Nothing was acknowledged for too long: the server's kernel ends the connection.
    pub fn give_up(&mut self, wire: WireId) {
        self.wires[wire].up.break_off();
    }
}
