//! Small stories in every order that threads can tell them. Run by
//! `RUSTFLAGS="--cfg moongate_loom" CARGO_TARGET_DIR=target/loom cargo test -p moongate-lane --release --test loom`.
#![cfg(moongate_loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use moongate_lane::{Parking, lane};

/// Checks every interleaving of `story` in which threads are interrupted at most three times: the bugs of such code need
/// one or two, and without a bound the longer stories take minutes.
fn check(story: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(story);
}

/// Pushes `items` items through a lane between two threads, each at its own pace.
fn check_order(capacity: usize, items: usize) {
    check(move || {
        let (mut producer, mut consumer) = lane(capacity);
        let producing = thread::spawn(move || {
            for item in 0..items {
                let mut item = Box::new(item);
                while let Err(refused) = producer.push(item) {
                    item = refused;
                    thread::yield_now();
                }
            }
        });
        for expected in 0..items {
            let item = loop {
                match consumer.pop() {
                    Some(item) => break item,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*item, expected);
        }
        assert!(consumer.is_empty());
        producing.join().unwrap();
    });
}

#[test]
fn order_is_kept_at_capacity_1() {
    check_order(1, 3);
}

#[test]
fn order_is_kept_at_capacity_2() {
    check_order(2, 4);
}

#[test]
fn order_is_kept_at_a_capacity_below_the_rings_length() {
    check_order(3, 4);
}

#[test]
fn room_and_len_never_promise_too_much() {
    check(|| {
        let (mut producer, mut consumer) = lane(2);
        let producing = thread::spawn(move || {
            let mut pushed = 0;
            for _ in 0..2 {
                for _ in 0..producer.room() {
                    producer.push(pushed).expect("there was room");
                    pushed += 1;
                }
            }
            pushed
        });
        let mut popped = 0;
        for _ in 0..2 {
            for _ in 0..consumer.len() {
                assert_eq!(consumer.pop(), Some(popped), "there was an item");
                popped += 1;
            }
        }
        let pushed = producing.join().unwrap();
        assert_eq!(consumer.len(), pushed - popped);
    });
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn leftovers_are_dropped_exactly_once_whichever_end_goes_last() {
    check(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = lane(2);
        let producing = thread::spawn({
            let dropped = dropped.clone();
            move || {
                for _ in 0..3 {
                    // A refused item is dropped here.
                    let _ = producer.push(Counted(dropped.clone()));
                }
            }
        });
        drop(consumer.pop());
        drop(consumer);
        producing.join().unwrap();
        assert_eq!(dropped.load(Relaxed), 3);
    });
}

/// A bell that stays rung until it is heard.
struct Bell {
    rung: loom::sync::Mutex<bool>,
    heard: loom::sync::Condvar,
}

impl Bell {
    fn new() -> Arc<Bell> {
        Arc::new(Bell { rung: loom::sync::Mutex::new(false), heard: loom::sync::Condvar::new() })
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// `producers` lanes of one item each; the consumer sleeps whenever it finds nothing. A wake-up that is lost is a
/// deadlock, which loom reports.
fn check_wake(producers: usize) {
    check(move || {
        let parking = Arc::new(Parking::new());
        let bell = Bell::new();
        let mut consumers = Vec::new();
        let mut producing = Vec::new();
        for _ in 0..producers {
            let (mut producer, consumer) = lane(1);
            consumers.push(consumer);
            let (parking, bell) = (parking.clone(), bell.clone());
            producing.push(thread::spawn(move || {
                producer.push(()).expect("the lane is empty");
                if parking.must_wake() {
                    bell.ring();
                }
            }));
        }
        let mut heard = 0;
        while heard < producers {
            parking.park();
            if consumers.iter_mut().all(|consumer| consumer.is_empty()) {
                bell.sleep();
            }
            parking.unpark();
            heard += consumers.iter_mut().filter_map(|consumer| consumer.pop()).count();
        }
        for thread in producing {
            thread.join().unwrap();
        }
    });
}

#[test]
fn no_wake_up_is_lost() {
    check_wake(1);
}

#[test]
fn no_wake_up_is_lost_between_two_producers() {
    check_wake(2);
}

#[test]
fn one_producer_rings_per_park() {
    check(|| {
        let parking = Arc::new(Parking::new());
        parking.park();
        let asking = thread::spawn({
            let parking = parking.clone();
            move || parking.must_wake()
        });
        let here = parking.must_wake();
        let there = asking.join().unwrap();
        assert!(here ^ there, "one of the two is told to ring");
    });
}
