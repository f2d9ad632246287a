//! The lane between two shards, held against the standard library's channels and crossbeam's queues, all of which allow
//! several producers, and pay for it.

mod common;

use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use common::OURS;
use criterion::{Criterion, Throughput};
use crossbeam_queue::{ArrayQueue, SegQueue};
use moongate_lane::lane;

/// As large as what shards say to each other: a cache line.
type Item = [u64; 8];

const CAPACITY: usize = 1024;

/// Items of one tick.
const BATCH: u64 = 64;

/// Items that cross from thread to thread in one measurement.
const CROSSING: u64 = 100_000;

/// Sixty-four in, sixty-four out, on one thread: the instructions alone.
fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane_one_thread");
    group.throughput(Throughput::Elements(BATCH));
    let (mut producer, mut consumer) = lane::<Item>(CAPACITY);
    group.bench_function(OURS, |bencher| {
        bencher.iter(|| pass(|item| producer.push(item).is_ok(), || consumer.pop()));
    });
    let (sender, receiver) = sync_channel::<Item>(CAPACITY);
    group.bench_function("std_sync_channel", |bencher| {
        bencher.iter(|| pass(|item| sender.try_send(item).is_ok(), || receiver.try_recv().ok()));
    });
    let (sender, receiver) = channel::<Item>();
    group.bench_function("std_channel", |bencher| {
        bencher.iter(|| pass(|item| sender.send(item).is_ok(), || receiver.try_recv().ok()));
    });
    let queue = ArrayQueue::<Item>::new(CAPACITY);
    group.bench_function("array_queue", |bencher| {
        bencher.iter(|| pass(|item| queue.push(item).is_ok(), || queue.pop()));
    });
    let queue = SegQueue::<Item>::new();
    group.bench_function("seg_queue", |bencher| {
        bencher.iter(|| pass(always(|item| queue.push(item)), || queue.pop()));
    });
    group.finish();
}

fn pass(mut push: impl FnMut(Item) -> bool, mut pop: impl FnMut() -> Option<Item>) -> u64 {
    for number in 0..BATCH {
        assert!(push([number; 8]), "there is room");
    }
    std::iter::from_fn(|| pop().map(|item| item[7])).sum()
}

/// For queues that are never full.
fn always(mut push: impl FnMut(Item)) -> impl FnMut(Item) -> bool {
    move |item| {
        push(item);
        true
    }
}

/// From one thread to another, as fast as they can.
fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane_two_threads");
    group.throughput(Throughput::Elements(CROSSING));
    group.bench_function(OURS, |bencher| {
        bencher.iter(|| {
            let (mut producer, mut consumer) = lane::<Item>(CAPACITY);
            cross(move |item| producer.push(item).is_ok(), || consumer.pop())
        });
    });
    group.bench_function("std_sync_channel", |bencher| {
        bencher.iter(|| {
            let (sender, receiver) = sync_channel::<Item>(CAPACITY);
            cross(move |item| sender.try_send(item).is_ok(), || receiver.try_recv().ok())
        });
    });
    group.bench_function("std_channel", |bencher| {
        bencher.iter(|| {
            let (sender, receiver) = channel::<Item>();
            cross(move |item| sender.send(item).is_ok(), || receiver.try_recv().ok())
        });
    });
    group.bench_function("array_queue", |bencher| {
        bencher.iter(|| {
            let queue = Arc::new(ArrayQueue::<Item>::new(CAPACITY));
            let end = Arc::clone(&queue);
            cross(move |item| end.push(item).is_ok(), || queue.pop())
        });
    });
    group.bench_function("seg_queue", |bencher| {
        bencher.iter(|| {
            let queue = Arc::new(SegQueue::<Item>::new());
            let end = Arc::clone(&queue);
            cross(always(move |item| end.push(item)), || queue.pop())
        });
    });
    group.finish();
}

/// Both ends try again when the other is behind; the sum shows that all came.
fn cross(mut push: impl FnMut(Item) -> bool + Send, mut pop: impl FnMut() -> Option<Item>) {
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..CROSSING {
                while !push([number; 8]) {
                    thread::yield_now();
                }
            }
        });
        let mut sum = 0;
        for _ in 0..CROSSING {
            sum += loop {
                match pop() {
                    Some(item) => break item[7],
                    None => thread::yield_now(),
                }
            };
        }
        assert_eq!(sum, CROSSING * (CROSSING - 1) / 2);
    });
}

fn main() {
    common::run(&[one_thread, two_threads]);
}
