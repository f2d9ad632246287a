//! The bell, rung from other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use moongate_io::{Bell, Event};
use moongate_sys::EventBell;

const RINGS: usize = 10_000;

on_every_driver!(
    n11_no_wake_up_is_lost,
    n11_rings_from_many_threads_coalesce,
    a_bell_rung_before_the_wait_is_heard,
);

/// N11: one ring, one wake-up, ten thousand times; a lost one would be waited for until the test fails.
fn n11_no_wake_up_is_lost<D: Real>() {
    let bell = EventBell::new().unwrap();
    let mut driver = D::build(&roomy(), Vec::new(), &bell).unwrap();
    let (heard, hearing) = mpsc::channel();
    let ringer = thread::spawn(move || {
        for _ in 0..RINGS {
            bell.ring();
            hearing.recv_timeout(PATIENCE).unwrap();
        }
    });
    let mut events = Vec::new();
    for round in 0..RINGS {
        let start = Instant::now();
        while events.is_empty() {
            driver.wait(Some(PATIENCE), 16, &mut events);
            assert!(start.elapsed() < PATIENCE, "the {round}th ring was not heard");
        }
        assert!(matches!(events.drain(..).as_slice(), [Event::Bell]));
        heard.send(()).unwrap();
    }
    ringer.join().unwrap();
}

/// N11: what is done before a ring is seen after a bell, however many rings fall together.
fn n11_rings_from_many_threads_coalesce<D: Real>() {
    const RINGERS: usize = 4;
    let bell = EventBell::new().unwrap();
    let mut driver = D::build(&roomy(), Vec::new(), &bell).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let ringers: Vec<_> = (0..RINGERS)
        .map(|_| {
            let (bell, done) = (bell.clone(), done.clone());
            thread::spawn(move || {
                for _ in 0..RINGS {
                    done.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                }
            })
        })
        .collect();
    let mut bells = 0;
    until(&mut driver, |_, event| {
        assert!(matches!(event, Event::Bell));
        bells += 1;
        done.load(Ordering::SeqCst) == RINGERS * RINGS
    });
    for ringer in ringers {
        ringer.join().unwrap();
    }
    assert!(bells <= RINGERS * RINGS);
    // At most the last rings are left, as one bell.
    assert!(watch(&mut driver, Duration::from_millis(20)).len() <= 1);
}

fn a_bell_rung_before_the_wait_is_heard<D: Real>() {
    let bell = EventBell::new().unwrap();
    bell.ring();
    bell.ring();
    let mut driver = D::build(&roomy(), Vec::new(), &bell).unwrap();
    bell.ring();
    until(&mut driver, |_, event| matches!(event, Event::Bell));
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty(), "three rings are one bell");
}
