//! One timer for each connection, set again all the time: the wheel, held against ordered collections.

mod common;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use common::OURS;
use criterion::{BenchmarkId, Criterion, Throughput};
use moongate_gate::Wheel;
use moongate_io::Time;

/// How far time goes on from look to look.
const STEP: Duration = Duration::from_millis(8);

/// How long a timer is set for.
const SPAN: Duration = Duration::from_secs(20);

/// Timers that are set anew, long before they are due, from look to look.
const AGAIN: u32 = 64;

/// One timer per slot.
trait Timers {
    fn set(&mut self, slot: u32, deadline: Time);
    fn take_due(&mut self, now: Time, due: &mut Vec<u32>);
}

impl Timers for Wheel {
    fn set(&mut self, slot: u32, deadline: Time) {
        Wheel::set(self, slot, deadline);
    }

    fn take_due(&mut self, now: Time, due: &mut Vec<u32>) {
        self.advance(now, usize::MAX, due);
    }
}

/// Entries are left behind when a timer is set anew, and passed over when they come up.
struct Heap {
    heap: BinaryHeap<Reverse<(Time, u32)>>,
    deadlines: Vec<Time>,
}

impl Timers for Heap {
    fn set(&mut self, slot: u32, deadline: Time) {
        self.deadlines[slot as usize] = deadline;
        self.heap.push(Reverse((deadline, slot)));
    }

    fn take_due(&mut self, now: Time, due: &mut Vec<u32>) {
        while self.heap.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now) {
            let entry = self.heap.pop();
            let current = |entry: &(Time, u32)| self.deadlines[entry.1 as usize] == entry.0;
            due.extend(entry.map(|Reverse(entry)| entry).filter(current).map(|(_, slot)| slot));
        }
    }
}

struct Tree {
    tree: BTreeSet<(Time, u32)>,
    deadlines: Vec<Time>,
}

impl Timers for Tree {
    fn set(&mut self, slot: u32, deadline: Time) {
        let before = std::mem::replace(&mut self.deadlines[slot as usize], deadline);
        self.tree.remove(&(before, slot));
        self.tree.insert((deadline, slot));
    }

    fn take_due(&mut self, now: Time, due: &mut Vec<u32>) {
        while self.tree.first().is_some_and(|(deadline, _)| *deadline <= now) {
            due.extend(self.tree.pop_first().map(|(_, slot)| slot));
        }
    }
}

/// Connections of which some say something all the time, so that they need not be pinged yet.
struct World<T> {
    timers: T,
    now: Time,
    connections: u32,
    random: u32,
    due: Vec<u32>,
}

impl<T: Timers> World<T> {
    fn new(connections: u32, timers: T) -> World<T> {
        let mut world = World { timers, now: Time::ZERO, connections, random: 7, due: Vec::new() };
        // What stands there at first came in over a span, and has been running for one more.
        for slot in 0..connections {
            world.timers.set(slot, Time::ZERO + SPAN * slot / connections);
        }
        for _ in 0..SPAN.as_millis() / STEP.as_millis() {
            world.look();
        }
        world
    }

    fn look(&mut self) -> usize {
        self.now = self.now + STEP;
        for _ in 0..AGAIN {
            self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            self.timers.set((self.random >> 8) % self.connections, self.now + SPAN);
        }
        self.timers.take_due(self.now, &mut self.due);
        let due = self.due.len();
        for slot in self.due.drain(..) {
            self.timers.set(slot, self.now + SPAN);
        }
        due
    }
}

fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers");
    group.throughput(Throughput::Elements(AGAIN.into()));
    for connections in [1000, 100_000] {
        let mut world = World::new(connections, Wheel::new(Time::ZERO));
        group.bench_function(BenchmarkId::new(OURS, connections), |bencher| bencher.iter(|| world.look()));
        let deadlines = vec![Time::ZERO; connections as usize];
        let heap = Heap { heap: BinaryHeap::new(), deadlines: deadlines.clone() };
        let mut world = World::new(connections, heap);
        group.bench_function(BenchmarkId::new("binary_heap", connections), |bencher| {
            bencher.iter(|| world.look());
        });
        let mut world = World::new(connections, Tree { tree: BTreeSet::new(), deadlines });
        group.bench_function(BenchmarkId::new("btree", connections), |bencher| {
            bencher.iter(|| world.look());
        });
    }
    group.finish();
}

fn main() {
    common::run(&[timers]);
}
