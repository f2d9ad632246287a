//! One shard's hub with some subscribers of one topic: all of a fan-out but the system calls.

use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{
    Bell, Config, Encode, Form, HashKey, HistoryLimits, Hub, Kind, Mesh, Message, Name, OutboxLimits,
    OutboxPolicy, Patience, Start, Subscribed, Token,
};
use moongate_io::{Bytes, Chain, ConnId, Meter, Time};
use moongate_wire::frame::{self, Opcode};

/// What is published.
pub const PAYLOAD: [u8; 128] = [b'x'; 128];

/// What waits for one connection alone in [`Shard::answer_all`].
const ANSWER: &[u8] = b"\x8a\x00";

/// A message is published, ordered, encoded, sealed into a run, put into every subscriber's outbox, taken out for one
/// send each, and the sends complete.
pub struct Shard {
    hub: Hub<Frames>,
    topic: Name,
    now: Time,
    subscribers: u32,
    /// What is in flight.
    sends: Vec<(u32, Chain)>,
}

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// Writes messages as the frames of a WebSocket.
struct Frames;

impl Encode for Frames {
    fn encode(&mut self, _: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        frame::encode(Opcode::Binary, message.payload, out);
    }
}

impl Shard {
    /// With `subscribers` of one topic.
    ///
    /// # Panics
    ///
    /// If one of them cannot join.
    pub fn new(subscribers: u32) -> Shard {
        Shard::with_history(subscribers, HistoryLimits::OFF)
    }

    /// The same, whose topic keeps messages.
    ///
    /// # Panics
    ///
    /// If one of them cannot join.
    pub fn with_history(subscribers: u32, history: HistoryLimits) -> Shard {
        let mut mesh = Mesh::new(vec![Arc::new(Silent)], Arc::new(Silent), 64, HashKey::new([9; 16]));
        let outbox = OutboxLimits {
            outbox_bytes_max: 1 << 20,
            policy: OutboxPolicy::Cut,
            slow_reader_timeout: Duration::from_millis(200),
        };
        let config = Config { topics_max: 10, topic_linger: Duration::from_secs(60), history, outbox };
        let port = mesh.shards.pop().expect("one shard");
        let hub = Hub::new(&config, Frames, port, Meter::default(), 1);
        let topic = hub.name("news");
        let mut shard = Shard { hub, topic, now: Time::ZERO, subscribers, sends: Vec::new() };
        for slot in 0..subscribers {
            shard.hub.outboxes.open(slot);
            shard.hub.subscribe(ConnId::new(slot, 0), shard.topic.clone(), Form(0), Start::Now);
        }
        shard.tick();
        assert_eq!(shard.hub.take_joined().len(), subscribers as usize);
        shard
    }

    /// Publishes one message; it is ordered at once.
    pub fn publish(&mut self) {
        self.hub.publish(Token::new(1), &self.topic, Kind::Binary, &PAYLOAD, Patience::Waits, None);
    }

    /// The hub's part of a tick.
    pub fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.hub.begin(self.now);
        self.hub.exchange(64);
        self.hub.seal();
        self.hub.finish();
    }

    /// Sends all that waits, and lets it go out whole. Returns the bytes.
    pub fn send(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(send) = self.hub.outboxes.next_send() {
            self.sends.push(send);
        }
        for (slot, chain) in self.sends.drain(..) {
            let count = chain.len();
            bytes += count;
            self.hub.outboxes.sent(slot, chain, count);
        }
        bytes
    }

    /// Gives every connection two bytes of its own, without the topic.
    pub fn answer_all(&mut self) {
        for slot in 0..self.subscribers {
            self.hub.outboxes.push(slot, Bytes::fixed(ANSWER));
        }
    }

    /// One more connection joins the topic, and leaves.
    ///
    /// # Panics
    ///
    /// If nobody hears the topic yet.
    pub fn join_and_leave(&mut self) {
        self.hub.outboxes.open(self.subscribers);
        match self.hub.subscribe(ConnId::new(self.subscribers, 0), self.topic.clone(), Form(0), Start::Now) {
            Subscribed::Now(joined) => self.hub.unsubscribe(joined.subscription),
            Subscribed::Later(_) => unreachable!("others hear the topic already"),
        }
    }
}
