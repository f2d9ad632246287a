//! The lane against a `VecDeque`, and between two real threads.
#![cfg(not(moongate_loom))]

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use moongate_lane::{Parking, lane};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Push,
    Pop,
    Room,
    Len,
    IsEmpty,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Push),
        3 => Just(Step::Pop),
        1 => Just(Step::Room),
        1 => Just(Step::Len),
        1 => Just(Step::IsEmpty),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    #[test]
    fn does_what_a_bounded_deque_does(capacity in 1_usize..20, steps in steps()) {
        let alive = Arc::new(());
        let (mut producer, mut consumer) = lane(capacity);
        let mut oracle = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push => {
                    let pushed = producer.push((number, alive.clone())).map_err(|(refused, _)| refused);
                    if oracle.len() < capacity {
                        prop_assert_eq!(pushed, Ok(()));
                        oracle.push_back(number);
                    } else {
                        prop_assert_eq!(pushed, Err(number));
                    }
                }
                Step::Pop => prop_assert_eq!(consumer.pop().map(|(popped, _)| popped), oracle.pop_front()),
                Step::Room => prop_assert_eq!(producer.room(), capacity - oracle.len()),
                Step::Len => prop_assert_eq!(consumer.len(), oracle.len()),
                Step::IsEmpty => prop_assert_eq!(consumer.is_empty(), oracle.is_empty()),
            }
            prop_assert_eq!(Arc::strong_count(&alive), 1 + oracle.len());
        }
        drop((producer, consumer));
        prop_assert_eq!(Arc::strong_count(&alive), 1, "leftovers are dropped exactly once");
    }
}

#[test]
#[should_panic(expected = "at least one")]
fn a_lane_of_nothing_is_refused() {
    lane::<u8>(0);
}

#[test]
fn two_threads_keep_order_at_any_capacity() {
    for capacity in [1, 2, 3, 64, 1000] {
        let (mut producer, mut consumer) = lane(capacity);
        const ITEMS: u64 = 100_000;
        let producing = thread::spawn(move || {
            for item in 0..ITEMS {
                let mut item = Box::new(item);
                while let Err(refused) = producer.push(item) {
                    item = refused;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..ITEMS {
            let item = loop {
                match consumer.pop() {
                    Some(item) => break item,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*item, expected, "capacity {capacity}");
        }
        producing.join().expect("the producer finishes");
        assert_eq!(consumer.pop(), None);
    }
}

#[test]
fn a_sleeping_consumer_is_always_woken() {
    let (mut producer, mut consumer) = lane(4);
    let parking = Arc::new(Parking::new());
    const ITEMS: u32 = 20_000;
    let consuming = thread::spawn({
        let parking = parking.clone();
        move || {
            let mut expected = 0;
            while expected < ITEMS {
                parking.park();
                if consumer.is_empty() {
                    // A thread's park token stays until it is taken, as a bell must. The lane is never left without
                    // an answer for long: a wake-up that is lost shows as this time running out.
                    let asleep = std::time::Instant::now();
                    thread::park_timeout(Duration::from_secs(10));
                    assert!(asleep.elapsed() < Duration::from_secs(10), "woken for item {expected}");
                }
                parking.unpark();
                while let Some(item) = consumer.pop() {
                    assert_eq!(item, expected);
                    expected += 1;
                }
            }
        }
    });
    for item in 0..ITEMS {
        while producer.push(item).is_err() {
            thread::yield_now();
        }
        if parking.must_wake() {
            consuming.thread().unpark();
        }
    }
    consuming.join().expect("the consumer hears every item");
}
