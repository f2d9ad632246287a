//! Pausing and resuming: nothing lost, nothing out of order.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use crate::common::*;
use moongate_io::{Event, Inbound};
use moongate_sys::UringConfig;

on_every_driver!(
    pausing_loses_nothing,
    resuming_before_the_pause_is_done_loses_nothing,
    n4_pausing_with_too_few_buffers_loses_nothing,
    a_paused_connection_is_silent,
    a_connection_can_be_closed_while_it_pauses,
);

const LEN: usize = 40_000_000;

/// What is done after a lease.
#[derive(Copy, Clone, Debug)]
enum Habit {
    /// Pause, and resume when it has become quiet.
    Rest,
    /// Pause and resume before the pause can have been done.
    Waver,
    /// Pause, resume, pause, and resume when it has become quiet.
    WaverAndRest,
}

fn check<D: Real>(config: &UringConfig, habit: Habit) {
    let (mut driver, address) = listening::<D>(config);
    let client = connect(address);
    let (conn, _) = accept(&mut driver);
    let bytes = pattern(7, LEN);
    let expected = bytes.clone();
    let sending = thread::spawn(move || {
        (&client).write_all(&bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    driver.recv(conn);
    let (mut heard, mut leases, mut pauses, mut paused, mut over) = (0, 0, 0, false, false);
    let mut events = Vec::new();
    let end = std::time::Instant::now() + 2 * PATIENCE;
    while !over {
        driver.wait(Some(Duration::from_millis(if paused { 1 } else { 50 })), 64, &mut events);
        if events.is_empty() && paused {
            driver.resume(conn);
            paused = false;
        }
        for event in events.drain(..) {
            match event {
                Event::Received { inbound: Inbound::Bytes(mut lease), .. } => {
                    let came = &*driver.bytes(&mut lease);
                    assert!(came == &expected[heard..heard + came.len()], "in order after {heard} bytes");
                    heard += came.len();
                    driver.release(lease);
                    leases += 1;
                    if leases % 97 == 0 && !paused {
                        pauses += 1;
                        driver.pause(conn);
                        match habit {
                            Habit::Rest => paused = true,
                            Habit::Waver => driver.resume(conn),
                            Habit::WaverAndRest => {
                                driver.resume(conn);
                                driver.pause(conn);
                                paused = true;
                            }
                        }
                    }
                }
                Event::Received { inbound: Inbound::End, .. } => over = true,
                event => panic!("{event:?}"),
            }
        }
        assert!(std::time::Instant::now() < end, "{habit:?}: {heard} bytes, {pauses} pauses");
    }
    assert_eq!(heard, LEN, "{habit:?}");
    assert!(pauses > 50, "{habit:?}: {pauses} pauses");
    drop(sending.join().unwrap());
    driver.close(conn);
    closed(&mut driver, conn);
}

fn pausing_loses_nothing<D: Real>() {
    check::<D>(&roomy(), Habit::Rest);
}

fn resuming_before_the_pause_is_done_loses_nothing<D: Real>() {
    check::<D>(&roomy(), Habit::Waver);
    check::<D>(&roomy(), Habit::WaverAndRest);
}

fn n4_pausing_with_too_few_buffers_loses_nothing<D: Real>() {
    let few = UringConfig { recv_buffers: 4, ..roomy() };
    check::<D>(&few, Habit::Rest);
    check::<D>(&few, Habit::Waver);
    check::<D>(&few, Habit::WaverAndRest);
}

/// A pause really stops: after the few receives on their way nothing comes, until resumed.
fn a_paused_connection_is_silent<D: Real>() {
    let (mut driver, mut client, conn) = connected::<D>();
    driver.recv(conn);
    assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
    driver.pause(conn);
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
    client.write_all(b"are you there?").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(watch(&mut driver, Duration::from_millis(50)).is_empty());
    driver.resume(conn);
    assert_eq!(hear_out(&mut driver), b"are you there?");
    driver.close(conn);
    closed(&mut driver, conn);
}

fn a_connection_can_be_closed_while_it_pauses<D: Real>() {
    for waits in [false, true] {
        let (mut driver, _client, conn) = connected::<D>();
        driver.recv(conn);
        assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
        driver.pause(conn);
        if waits {
            assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
        }
        driver.close(conn);
        closed(&mut driver, conn);
        assert_eq!(driver.counters().slots_used, 0);
    }
}
