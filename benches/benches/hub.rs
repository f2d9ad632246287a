//! Fan-out inside one shard: a message is published, ordered, encoded, sealed into a run, put into every subscriber's
//! outbox, taken out for one send each, and the sends complete. All but the system calls.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use moongate_hub::{
    Bell, Config, Encode, Form, HashKey, Hub, Kind, Mesh, Message, Name, OutboxLimits, OutboxPolicy, Token,
};
use moongate_io::{Chain, ConnId, Meter, Time};
use moongate_wire::frame::{self, Opcode};

const PAYLOAD: [u8; 128] = [b'x'; 128];

/// Messages that wait in one go.
const WAITING: usize = 16;

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

/// One shard with some subscribers of one topic.
struct Shard {
    hub: Hub<Frames>,
    topic: Name,
    now: Time,
    /// What is in flight.
    sends: Vec<(u32, Chain)>,
}

impl Shard {
    fn new(subscribers: u32) -> Shard {
        let mut mesh = Mesh::new(vec![Arc::new(Silent)], Arc::new(Silent), 64, HashKey::new([9; 16]));
        let outbox = OutboxLimits { outbox_bytes_max: 1 << 20, policy: OutboxPolicy::Cut };
        let config = Config { topics_max: 10, topic_linger: Duration::from_secs(60), outbox };
        let port = mesh.shards.pop().expect("one shard");
        let hub = Hub::new(&config, Frames, port, Meter::default(), 1);
        let topic = hub.name("news");
        let mut shard = Shard { hub, topic, now: Time::ZERO, sends: Vec::new() };
        for slot in 0..subscribers {
            shard.hub.outboxes.open(slot);
            shard.hub.subscribe(ConnId::new(slot, 0), shard.topic.clone(), Form(0));
        }
        shard.tick();
        assert_eq!(shard.hub.take_joined().len(), subscribers as usize);
        shard
    }

    fn publish(&mut self) {
        self.hub.publish(Token(1), &self.topic, Kind::Binary, &PAYLOAD);
    }

    /// The hub's part of a tick.
    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.hub.begin(self.now);
        self.hub.exchange(64);
        self.hub.seal();
        self.hub.finish();
    }

    /// Sends all that waits, and lets it go out whole. Returns the bytes.
    fn send(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(send) = self.hub.outboxes.next_send() {
            self.sends.push(send);
        }
        for (slot, chain) in self.sends.drain(..) {
            let count = chain.len();
            bytes += count;
            self.hub.outboxes.sent(slot, chain, count, self.now);
        }
        bytes
    }
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub");
    for subscribers in [1000, 10_000] {
        let mut shard = Shard::new(subscribers);
        group.throughput(Throughput::Elements(subscribers.into()));
        group.bench_function(BenchmarkId::new("one_message", subscribers), |bencher| {
            bencher.iter(|| {
                shard.publish();
                shard.tick();
                shard.send()
            });
        });
        group.throughput(Throughput::Elements(u64::from(subscribers) * WAITING as u64));
        group.bench_function(BenchmarkId::new("16_messages_of_one_tick", subscribers), |bencher| {
            bencher.iter(|| {
                (0..WAITING).for_each(|_| shard.publish());
                shard.tick();
                shard.send()
            });
        });
        group.bench_function(BenchmarkId::new("16_messages_of_16_ticks", subscribers), |bencher| {
            bencher.iter(|| {
                for _ in 0..WAITING {
                    shard.publish();
                    shard.tick();
                }
                shard.send()
            });
        });
    }
    group.finish();
}

fn join_and_leave(criterion: &mut Criterion) {
    let mut shard = Shard::new(1000);
    let (slot, topic) = (ConnId::new(1000, 0), shard.topic.clone());
    shard.hub.outboxes.open(slot.slot());
    let mut group = criterion.benchmark_group("hub");
    group.bench_function("join_and_leave_among_1000", |bencher| {
        let name = || topic.clone();
        let there_and_back = |name| match shard.hub.subscribe(slot, name, Form(0)) {
            moongate_hub::Subscribed::Now(subscription) => shard.hub.unsubscribe(subscription),
            moongate_hub::Subscribed::Later(_) => unreachable!("others hear the topic already"),
        };
        bencher.iter_batched(name, there_and_back, BatchSize::SmallInput);
    });
    group.finish();
}

fn main() {
    moongate_benches::run(&[fan_out, join_and_leave]);
}
