//! Fan-out inside one shard: all but the system calls. Time per delivery, which is one message to one subscriber.

mod common;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use common::OURS;
use criterion::{BenchmarkId, Criterion, Throughput};
use moongate_benches::shard::{PAYLOAD, Shard};
use moongate_hub::HistoryLimits;
use moongate_wire::frame::{self, Opcode};

/// How many subscribers, and how many messages of one tick.
const CASES: [(u32, usize); 10] = [
    (10, 1),
    (10, 16),
    (10, 64),
    (100, 1),
    (100, 16),
    (100, 64),
    (1000, 1),
    (1000, 16),
    (1000, 64),
    (10_000, 1),
];

/// What a topic keeps unless it is set otherwise.
const HISTORY: HistoryLimits =
    HistoryLimits { messages_max: 64, bytes_max: 256 * 1024, ttl: Duration::from_secs(300) };

/// What many servers do: a queue of messages for every subscriber, emptied into one send.
#[derive(Default)]
struct Queues {
    queues: Vec<VecDeque<Arc<[u8]>>>,
    sends: Vec<Vec<Arc<[u8]>>>,
}

impl Queues {
    fn new(subscribers: u32) -> Queues {
        Queues { queues: (0..subscribers).map(|_| VecDeque::new()).collect(), sends: Vec::new() }
    }

    fn publish(&mut self) {
        let mut frame = Vec::new();
        frame::encode(Opcode::Binary, &PAYLOAD, &mut frame);
        let frame: Arc<[u8]> = frame.into();
        for queue in &mut self.queues {
            queue.push_back(Arc::clone(&frame));
        }
    }

    fn send(&mut self) -> usize {
        self.sends.extend(self.queues.iter_mut().map(|queue| queue.drain(..).collect::<Vec<_>>()));
        self.sends.drain(..).map(|send| send.iter().map(|frame| frame.len()).sum::<usize>()).sum()
    }
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for (subscribers, messages) in CASES {
        group.throughput(Throughput::Elements(u64::from(subscribers) * messages as u64));
        let case = format!("{messages}_to_{subscribers}");
        let mut shard = Shard::new(subscribers);
        group.bench_function(BenchmarkId::new(OURS, &case), |bencher| {
            bencher.iter(|| {
                (0..messages).for_each(|_| shard.publish());
                shard.tick();
                shard.send()
            });
        });
        let mut shard = Shard::with_history(subscribers, HISTORY);
        group.bench_function(BenchmarkId::new("with_history", &case), |bencher| {
            bencher.iter(|| {
                (0..messages).for_each(|_| shard.publish());
                shard.tick();
                shard.send()
            });
        });
        let mut queues = Queues::new(subscribers);
        group.bench_function(BenchmarkId::new("arc_queues", &case), |bencher| {
            bencher.iter(|| {
                (0..messages).for_each(|_| queues.publish());
                queues.send()
            });
        });
    }
    // As when a send is in flight for 16 ticks.
    let mut shard = Shard::new(1000);
    group.throughput(Throughput::Elements(16_000));
    group.bench_function(BenchmarkId::new(OURS, "16_of_16_ticks_to_1000"), |bencher| {
        bencher.iter(|| {
            for _ in 0..16 {
                shard.publish();
                shard.tick();
            }
            shard.send()
        });
    });
    group.finish();
}

fn outboxes(criterion: &mut Criterion) {
    let mut shard = Shard::new(1000);
    let mut group = criterion.benchmark_group("hub");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("answers_out_of_1000_outboxes", |bencher| {
        bencher.iter(|| {
            shard.answer_all();
            shard.send()
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("join_and_leave_among_1000", |bencher| bencher.iter(|| shard.join_and_leave()));
    group.finish();
}

fn main() {
    common::run(&[fan_out, outboxes]);
}
