//! The mesh: two lanes for every ordered pair of participants, one for asks and one for tells.
//!
//! Participants are the shards, numbered from 0, and the control thread, which comes after the last of them. **Tells
//! are always consumed, and handling one never posts anything. An ask is taken only while every earlier tell has found
//! room in its lane.** So asks wait on tells, tells wait on nothing, and no cycle of full lanes can form, whatever the
//! lanes' capacity.
//!
//! Posting marks the receiver; [`ShardPort::wake`] then rings, once per tick, the bells of those who sleep.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use moongate_io::{Bell, ConnId, Run};
use moongate_lane::{Consumer, Parking, Producer, lane};

use crate::{ChannelId, Form, HashKey, Kind, Name, Replayed, Snapshot, Start, SubscriptionId};

/// Whom an answer is for: a connection of the asking shard, or a request of the control thread.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    /// Who it is for.
    pub who: u64,
    /// Which of its requests is answered. What is said in a row with the same token is answered once.
    pub request: u32,
}

impl Token {
    /// For somebody whose requests need not be told apart.
    pub const fn new(who: u64) -> Token {
        Token { who, request: 0 }
    }
}

/// A request to a topic's home, or of the control thread to any shard.
#[derive(Debug)]
pub enum Ask {
    /// Order this message. Answered by [`Tell::Ordered`] or [`Tell::Rejected`].
    Publish(Publish),
    /// Send what `name` says in `form` to `channel` of the asking shard. Answered by [`Tell::Subscribed`] or
    /// [`Tell::Refused`].
    Subscribe {
        /// The topic.
        name: Name,
        /// How its messages are to be written.
        form: Form,
        /// Where the asking shard wants them.
        channel: ChannelId,
    },
    /// Answer a subscriber of `channel` that wants to begin earlier than now. Comes after the [`Ask::Subscribe`] of that
    /// channel. Answered by [`Tell::Replayed`], or by [`Tell::Refused`] if that was refused.
    Replay {
        /// The topic.
        name: Name,
        /// In which form.
        form: Form,
        /// Where the asking shard wants its messages.
        channel: ChannelId,
        /// Whose answer it is.
        subscription: SubscriptionId,
        /// Where it wants to begin.
        start: Start,
    },
    /// Nobody on the asking shard listens to `name` in `form` any more. Not answered.
    Unsubscribe {
        /// The topic.
        name: Name,
        /// In which form.
        form: Form,
    },
    /// The asking shard has handed out so much of what it was sent, and its subscribers keep up. Not answered.
    Confirm {
        /// The topic.
        name: Name,
        /// In which form.
        form: Form,
        /// Where it was sent to.
        channel: ChannelId,
        /// How many encoded bytes.
        bytes: u32,
    },
    /// List topics from this cursor on (0 to start). Answered by [`Tell::Topics`].
    Topics(u64),
    /// Answered by [`Tell::Snapshot`].
    Snapshot,
    /// Say not to be ready any more; after the drain delay stop listening and send every connection away. Answered by
    /// [`Tell::Announced`] at once and by [`Tell::Drained`] when the last one is gone.
    Drain,
    /// Do not wait for the drain delay to be over: nobody is connected to any shard. Not answered.
    Leave,
    /// The addresses of an upstream's name have changed. Not answered.
    Upstreams(UpstreamAddresses),
    /// Leave the loop: every shard has drained. Not answered.
    Stop,
}

/// Where the servers behind a name of the table of routes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamAddresses {
    /// The name's number in the table.
    pub name: u16,
    /// In the order to be tried; none if the name does not resolve.
    pub addresses: Arc<[SocketAddr]>,
}

/// A message on its way to its topic's home.
#[derive(Debug)]
pub struct Publish {
    /// The topic.
    pub name: Name,
    /// What the payload is.
    pub kind: Kind,
    /// What is said.
    pub payload: Box<[u8]>,
    /// Who wants to know when it is ordered.
    pub token: Token,
    /// What to do while subscribers are behind.
    pub patience: Patience,
    /// The connection of the asking shard that does not get it.
    pub excluded: Option<ConnId>,
}

/// What a publisher does while subscribers of its topic are behind.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Patience {
    /// It waits: it is not read from meanwhile, so that no more comes than its window holds.
    Waits,
    /// It is turned away with [`Rejection::Busy`] once much waits already: others like it may follow.
    Leaves,
}

/// An answer, or news of a topic. Handling one never posts another.
#[derive(Debug)]
pub enum Tell {
    /// The message has its place.
    Ordered(Ordered),
    /// The message was not taken.
    Rejected {
        /// Whose it was.
        token: Token,
        /// The length of its payload, in bytes.
        bytes: u32,
        /// Why not.
        why: Rejection,
    },
    /// From now on `channel` hears everything.
    Subscribed {
        /// Which channel of the receiver.
        channel: ChannelId,
        /// The topic's epoch.
        epoch: u64,
        /// The offset of the last message before what it hears.
        offset: u64,
    },
    /// What a subscriber that came back has missed. `channel` has heard all before it, and will hear all after it.
    Replayed {
        /// Which channel of the receiver.
        channel: ChannelId,
        /// Whose it is.
        subscription: SubscriptionId,
        /// What it has missed.
        replayed: Box<Replayed>,
    },
    /// `channel` will hear nothing.
    Refused {
        /// Which channel of the receiver.
        channel: ChannelId,
        /// Why not.
        why: Rejection,
    },
    /// What the topic said in one tick.
    Run {
        /// Which channel of the receiver it is for.
        channel: ChannelId,
        /// The messages, encoded.
        run: Arc<Run>,
    },
    /// A part of the list of topics.
    Topics(Box<TopicsPage>),
    /// What the shard counted.
    Snapshot(Box<Snapshot>),
    /// The shard has begun to drain.
    Announced {
        /// How many connections it has.
        connections: usize,
    },
    /// The shard has no connections left and takes no more.
    Drained,
}

/// The place a message was given.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ordered {
    /// Whose message it was.
    pub token: Token,
    /// The topic's epoch.
    pub epoch: u64,
    /// The message's offset in it, from 1.
    pub offset: u64,
    /// The length of its payload, in bytes: so much of the publisher's window is free again.
    pub bytes: u32,
}

/// Why a home did not take a message or a subscription.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// It keeps as many topics as it may.
    TopicsFull,
    /// Subscribers of the topic are behind, and as much as may wait for them to catch up does.
    Busy,
}

/// A part of one shard's list of topics.
#[derive(Debug, Default)]
pub struct TopicsPage {
    /// Topics the shard hears or orders; one it does both for may appear twice.
    pub topics: Vec<TopicInfo>,
    /// Where the next page starts; none after the last.
    pub next: Option<u64>,
}

/// One shard's view of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicInfo {
    /// The topic.
    pub name: Name,
    /// How many subscribers it has on this shard.
    pub subscribers: u64,
    /// Epoch and last offset, if this shard is its home.
    pub home: Option<(u64, u64)>,
}

/// The lane to the other participant is full: try again when it has read.
#[derive(Debug)]
pub struct Full(pub Ask);

/// Every participant's ends of all lanes.
pub struct Mesh {
    /// The shards', in order.
    pub shards: Vec<ShardPort>,
    /// The control thread's.
    pub control: ControlPort,
}

/// A participant's place to sleep: a bell, and whether it must be rung.
struct Seat {
    parking: Parking,
    bell: Arc<dyn Bell>,
}

impl Mesh {
    /// Connects one shard per bell in `shards` and the control thread, with lanes of `capacity` entries each.
    pub fn new(shards: Vec<Arc<dyn Bell>>, control: Arc<dyn Bell>, capacity: usize, key: HashKey) -> Mesh {
        let count = shards.len();
        let seats: Arc<[Seat]> =
            shards.into_iter().chain([control]).map(|bell| Seat { parking: Parking::new(), bell }).collect();
        let mut ports: Vec<Port> = (0..=count).map(|me| Port::new(me, Arc::clone(&seats), key)).collect();
        for from in 0..=count {
            for to in 0..=count {
                // Nobody speaks to itself through a lane.
                let capacity = if from == to { 1 } else { capacity };
                let (producer, consumer) = lane(capacity);
                ports[from].asks_out.push(producer);
                ports[to].asks_in.push(consumer);
                let (producer, consumer) = lane(capacity);
                ports[from].tells_out.push(producer);
                ports[to].tells_in.push(consumer);
            }
        }
        let control = ControlPort { port: ports.pop().expect("the control thread's port comes last") };
        Mesh { shards: ports.into_iter().map(ShardPort::new).collect(), control }
    }
}

struct Port {
    me: usize,
    key: HashKey,
    seats: Arc<[Seat]>,
    asks_out: Vec<Producer<Ask>>,
    asks_in: Vec<Consumer<Ask>>,
    tells_out: Vec<Producer<Tell>>,
    tells_in: Vec<Consumer<Tell>>,
}

impl Port {
    fn new(me: usize, seats: Arc<[Seat]>, key: HashKey) -> Port {
        Port { me, key, seats, asks_out: vec![], asks_in: vec![], tells_out: vec![], tells_in: vec![] }
    }

    fn ring(&self, who: usize) {
        let seat = &self.seats[who];
        if seat.parking.must_wake() {
            seat.bell.ring();
        }
    }

    fn nothing_came(&mut self) -> bool {
        self.tells_in.iter_mut().all(Consumer::is_empty) && self.asks_in.iter_mut().all(Consumer::is_empty)
    }
}

/// A shard's ends of all lanes, and what waits for room in them.
pub struct ShardPort {
    port: Port,
    /// Asks that found their lane full, and those of this shard to itself. Bounded by its publishers' windows and
    /// its connections.
    asks_waiting: Vec<VecDeque<Ask>>,
    /// Tells that found their lane full. Bounded because no ask is taken while there are any.
    tells_waiting: Vec<VecDeque<Tell>>,
    tells_waiting_count: usize,
    to_wake: Vec<bool>,
    turn: usize,
}

impl ShardPort {
    fn new(port: Port) -> ShardPort {
        let participants = port.seats.len();
        ShardPort {
            port,
            asks_waiting: (0..participants).map(|_| VecDeque::new()).collect(),
            tells_waiting: (0..participants).map(|_| VecDeque::new()).collect(),
            tells_waiting_count: 0,
            to_wake: vec![false; participants],
            turn: 0,
        }
    }

    /// This shard's number.
    pub fn me(&self) -> usize {
        self.port.me
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.port.seats.len() - 1
    }

    /// The name `text` with its hash.
    pub fn name(&self, text: &str) -> Name {
        self.port.key.name(text)
    }

    /// Posts an ask to a shard, behind those that wait for room; to itself it comes back by [`ShardPort::next_ask`].
    pub(crate) fn ask(&mut self, to: usize, ask: Ask) {
        if to == self.port.me || !self.asks_waiting[to].is_empty() {
            self.asks_waiting[to].push_back(ask);
        } else if let Err(ask) = self.port.asks_out[to].push(ask) {
            self.asks_waiting[to].push_back(ask);
        } else {
            self.to_wake[to] = true;
        }
    }

    /// Whether this shard has posted asks to itself that were not taken yet.
    pub(crate) fn asks_itself(&self) -> bool {
        !self.asks_waiting[self.port.me].is_empty()
    }

    /// Posts a tell, behind those that wait for room.
    pub(crate) fn tell(&mut self, to: usize, tell: Tell) {
        debug_assert_ne!(to, self.port.me, "a shard tells itself nothing");
        if self.tells_waiting[to].is_empty() {
            match self.port.tells_out[to].push(tell) {
                Ok(()) => self.to_wake[to] = true,
                Err(tell) => self.keep(to, tell),
            }
        } else {
            self.keep(to, tell);
        }
    }

    fn keep(&mut self, to: usize, tell: Tell) {
        self.tells_waiting[to].push_back(tell);
        self.tells_waiting_count += 1;
    }

    /// Whether every earlier tell is in its lane: only then may an ask be handled.
    pub(crate) fn has_room(&self) -> bool {
        self.tells_waiting_count == 0
    }

    /// Moves what waits for room into lanes that have some.
    pub(crate) fn push_waiting(&mut self) {
        for to in 0..self.to_wake.len() {
            while let Some(tell) = self.tells_waiting[to].pop_front() {
                if let Err(tell) = self.port.tells_out[to].push(tell) {
                    self.tells_waiting[to].push_front(tell);
                    break;
                }
                self.tells_waiting_count -= 1;
                self.to_wake[to] = true;
            }
            if to == self.port.me {
                continue;
            }
            while let Some(ask) = self.asks_waiting[to].pop_front() {
                if let Err(ask) = self.port.asks_out[to].push(ask) {
                    self.asks_waiting[to].push_front(ask);
                    break;
                }
                self.to_wake[to] = true;
            }
        }
    }

    /// The next tell of the participant `from`.
    pub(crate) fn next_tell(&mut self, from: usize) -> Option<Tell> {
        self.port.tells_in[from].pop()
    }

    /// The next ask and who asks, everybody in turn; the caller has checked [`ShardPort::has_room`].
    pub(crate) fn next_ask(&mut self) -> Option<(usize, Ask)> {
        let participants = self.to_wake.len();
        for step in 1..=participants {
            let from = (self.turn + step) % participants;
            let ask = if from == self.port.me {
                self.asks_waiting[from].pop_front()
            } else {
                self.port.asks_in[from].pop()
            };
            if let Some(ask) = ask {
                self.turn = from;
                return Some((from, ask));
            }
        }
        None
    }

    /// Rings the bells of those who were sent something and sleep.
    pub(crate) fn wake(&mut self) {
        for to in 0..self.to_wake.len() {
            if std::mem::take(&mut self.to_wake[to]) {
                self.port.ring(to);
            }
        }
    }

    /// Announces that this shard is about to sleep. False if something has come meanwhile: then it must not.
    pub(crate) fn park(&mut self) -> bool {
        self.port.seats[self.port.me].parking.park();
        if self.port.nothing_came() && !self.asks_itself() {
            return true;
        }
        self.unpark();
        false
    }

    /// Awake again.
    pub(crate) fn unpark(&self) {
        self.port.seats[self.port.me].parking.unpark();
    }

    /// Whether something waits for room in a lane, so that the shard must look again soon.
    pub(crate) fn is_blocked(&self) -> bool {
        self.waiting() > 0
    }

    /// How many asks and tells wait for room in a lane.
    pub(crate) fn waiting(&self) -> usize {
        let asks = self.asks_waiting.iter().enumerate().filter(|(to, _)| *to != self.port.me);
        self.tells_waiting_count + asks.map(|(_, waiting)| waiting.len()).sum::<usize>()
    }

    /// How many asks and tells lie unread in this shard's lanes.
    pub(crate) fn unread(&mut self) -> usize {
        let asks: usize = self.port.asks_in.iter_mut().map(Consumer::len).sum();
        asks + self.port.tells_in.iter_mut().map(Consumer::len).sum::<usize>()
    }
}

/// The control thread's ends of all lanes.
pub struct ControlPort {
    port: Port,
}

impl ControlPort {
    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.port.me
    }

    /// The name `text` with its hash.
    pub fn name(&self, text: &str) -> Name {
        self.port.key.name(text)
    }

    /// Posts an ask to a shard and wakes it.
    pub fn ask(&mut self, shard: usize, ask: Ask) -> Result<(), Full> {
        assert!(shard < self.shards(), "shard {shard} of {}", self.shards());
        self.port.asks_out[shard].push(ask).map_err(Full)?;
        self.port.ring(shard);
        Ok(())
    }

    /// The next tell, and which shard it is from.
    pub fn next_tell(&mut self) -> Option<(usize, Tell)> {
        (0..self.shards()).find_map(|from| Some((from, self.port.tells_in[from].pop()?)))
    }

    /// Announces that the control thread is about to wait for its bell. False if a tell has come meanwhile: then it
    /// must read that first.
    pub fn park(&mut self) -> bool {
        self.port.seats[self.port.me].parking.park();
        if self.port.nothing_came() {
            return true;
        }
        self.unpark();
        false
    }

    /// Awake again.
    pub fn unpark(&self) {
        self.port.seats[self.port.me].parking.unpark();
    }
}
