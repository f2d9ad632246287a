//! The driver as a small echo server, with clients of the standard library.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use moongate_io::{ConnId, Driver, Event, Inbound};
use moongate_sys::{Uring, UringConfig};

on_every_driver!(
    what_is_said_comes_back,
    n4_eight_buffers_serve_a_hundred_connections,
    n4_one_buffer_serves_twenty_connections,
    n4_whoever_waits_for_a_buffer_does_not_wait_for_a_time_out,
    a_wait_brings_all_that_is_ready,
    n4_a_firehose_does_not_starve_the_others,
    a_wait_keeps_to_its_budget_and_forgets_nothing,
    time_stands_still_between_waits_and_waits_end,
);

/// What the echo server knows of a connection.
#[derive(Default)]
struct Echo {
    waiting: Vec<u8>,
    in_flight: bool,
    ended: bool,
}

impl Echo {
    fn go_on(&mut self, driver: &mut impl Driver, conn: ConnId) {
        if !self.in_flight && !self.waiting.is_empty() {
            self.in_flight = true;
            driver.send(conn, chain(&std::mem::take(&mut self.waiting)));
        } else if !self.in_flight && self.ended {
            driver.shutdown_write(conn);
            driver.close(conn);
        }
    }
}

/// Serves until `clients` have come and gone.
fn serve(driver: &mut impl Driver, clients: usize) {
    let mut echoes: HashMap<ConnId, Echo> = HashMap::new();
    let mut gone = 0;
    until(driver, |driver, event| {
        match event {
            Event::Accepted { conn, .. } => {
                assert!(echoes.insert(conn, Echo::default()).is_none());
                driver.recv(conn);
            }
            Event::Received { conn, inbound } => {
                let echo = echoes.get_mut(&conn).unwrap();
                match inbound {
                    Inbound::Bytes(mut lease) => {
                        echo.waiting.extend_from_slice(driver.bytes(&mut lease));
                        driver.release(lease);
                    }
                    Inbound::End | Inbound::Reset => echo.ended = true,
                }
                echo.go_on(driver, conn);
            }
            Event::Sent { conn, chain, outcome } => {
                let echo = echoes.get_mut(&conn).unwrap();
                echo.in_flight = false;
                let sent = outcome.unwrap_or(chain.len());
                let rest: Vec<u8> = chain
                    .segments()
                    .iter()
                    .flat_map(|segment| segment.as_slice())
                    .copied()
                    .skip(sent)
                    .collect();
                echo.waiting.splice(..0, rest);
                echo.go_on(driver, conn);
            }
            Event::Closed { conn } => {
                echoes.remove(&conn).unwrap();
                gone += 1;
            }
            Event::Bell | Event::Connected { .. } => unreachable!("nobody rings, nobody connects"),
        }
        gone == clients
    });
    assert_eq!(driver.counters().slots_used, 0);
}

/// Sends `bytes` in pieces, reads as many, and expects the same.
fn converse(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let expected = bytes.len();
    let reading = thread::spawn(move || {
        let mut answer = Vec::with_capacity(expected);
        reader.read_to_end(&mut answer).unwrap();
        answer
    });
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(reading.join().unwrap() == bytes, "what comes back is what was said");
}

fn check<D: Real>(config: &UringConfig, clients: usize, len: usize) -> moongate_io::Counters {
    let (mut driver, address) = listening::<D>(config);
    let talking: Vec<_> =
        (0..clients).map(|seed| thread::spawn(move || converse(address, &pattern(seed, len)))).collect();
    serve(&mut driver, clients);
    for client in talking {
        client.join().unwrap();
    }
    let counters = driver.counters();
    assert_eq!(counters.buffers_free, u64::from(config.recv_buffers));
    counters
}

fn what_is_said_comes_back<D: Real>() {
    check::<D>(&roomy(), 1, 5);
    let counters = check::<D>(&roomy(), 20, 300_000);
    assert_eq!((counters.completion_overflows, counters.accept_errors), (0, 0));
}

fn n4_eight_buffers_serve_a_hundred_connections<D: Real>() {
    let config = UringConfig { recv_buffers: 8, recv_buffer_size: 512, ..roomy() };
    let counters = check::<D>(&config, 100, 20_000);
    assert!(counters.buffers_exhausted > 0, "{counters:?}");
}

fn n4_one_buffer_serves_twenty_connections<D: Real>() {
    let config = UringConfig { recv_buffers: 1, recv_buffer_size: 512, ..roomy() };
    check::<D>(&config, 20, 10_000);
}

#[test]
fn n5_a_tiny_completion_queue_loses_nothing() {
    let config = UringConfig { ring_entries: 16, completion_entries: 16, ..roomy() };
    check::<Uring>(&config, 100, 20_000);
}

#[test]
fn n8_a_tiny_submission_queue_drops_nothing() {
    let config = UringConfig { ring_entries: 2, ..roomy() };
    let counters = check::<Uring>(&config, 100, 20_000);
    assert!(counters.submissions_deferred > 0, "{counters:?}");
}

/// Who found no buffer is armed again as soon as there is one, though the others have nothing to say.
fn n4_whoever_waits_for_a_buffer_does_not_wait_for_a_time_out<D: Real>() {
    let config = UringConfig { recv_buffers: 1, ..roomy() };
    let (mut driver, address) = listening::<D>(&config);
    let mut holder = connect(address);
    let (conn, _) = accept(&mut driver);
    driver.recv(conn);
    holder.write_all(b"mine").unwrap();
    let mut held = None;
    until(&mut driver, |_, event| {
        let Event::Received { inbound: Inbound::Bytes(lease), .. } = event else { panic!("{event:?}") };
        held = Some(lease);
        true
    });
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(connect(address));
        let (conn, _) = accept(&mut driver);
        driver.recv(conn);
    }
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
    assert_eq!(driver.counters().buffers_exhausted > 0, D::LENDS_AHEAD);
    let mut last = others.pop().unwrap();
    last.write_all(b"my turn").unwrap();
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
    assert!(driver.counters().buffers_exhausted > 0);

    driver.release(held.unwrap());
    let (start, mut events) = (Instant::now(), Vec::new());
    while events.is_empty() {
        driver.wait(Some(PATIENCE), 16, &mut events);
        assert!(start.elapsed() < PATIENCE / 2, "it woke up only because time was over");
    }
    let Some(Event::Received { inbound: Inbound::Bytes(lease), .. }) = events.pop() else { panic!() };
    assert_eq!(lease.len(), 7);
    driver.release(lease);
}

/// What is ready comes in one wait, so that one tick can merge it.
fn a_wait_brings_all_that_is_ready<D: Real>() {
    const CLIENTS: usize = 400;
    let config = UringConfig { recv_buffers: 512, ..roomy() };
    let (mut driver, address) = listening::<D>(&config);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(address));
        let (conn, _) = accept(&mut driver);
        driver.recv(conn);
    }
    assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    let (mut waits, mut heard) = (0, 0);
    let mut events = Vec::new();
    while heard < CLIENTS {
        driver.wait(Some(PATIENCE), CLIENTS, &mut events);
        waits += 1;
        for event in events.drain(..) {
            let Event::Received { inbound: Inbound::Bytes(lease), .. } = event else { panic!("{event:?}") };
            driver.release(lease);
            heard += 1;
        }
    }
    // One, unless the loopback was late; without gathering it would be one for every twenty.
    assert!(waits < CLIENTS / 40, "{waits} waits");
}

/// A sender without end must not keep the others from the few buffers there are.
fn n4_a_firehose_does_not_starve_the_others<D: Real>() {
    let config = UringConfig { recv_buffers: 4, recv_buffer_size: 256, ..roomy() };
    let (mut driver, address) = listening::<D>(&config);
    let mut hose = connect(address);
    let (source, _) = accept(&mut driver);
    driver.recv(source);
    let spraying = thread::spawn(move || while hose.write_all(&[0; 65_536]).is_ok() {});
    let mut others: Vec<_> = (0..20).map(|_| connect(address)).collect();
    let mut heard = HashSet::new();
    for round in 1..=5 {
        for other in &mut others {
            other.write_all(b"me too").unwrap();
        }
        heard.clear();
        let mut sprayed = 0_u64;
        until(&mut driver, |driver, event| {
            match event {
                Event::Accepted { conn, .. } => driver.recv(conn),
                Event::Received { conn, inbound: Inbound::Bytes(lease) } => {
                    if conn == source {
                        sprayed += lease.len() as u64;
                    } else {
                        heard.insert(conn);
                    }
                    driver.release(lease);
                }
                event => panic!("{event:?}"),
            }
            heard.len() == others.len()
        });
        // A few turns of the hose; with receives that take all they can get it was 45 MB and more.
        assert!(round == 1 || sprayed < 8 << 20, "round {round}: {sprayed} bytes came first");
    }
    assert!(driver.counters().buffers_exhausted > 0);
    driver.abort(source);
    closed(&mut driver, source);
    spraying.join().unwrap();
}

/// Thousands of completions at once for a queue of sixteen: as many sends and receives end as were begun.
#[test]
fn n5_a_burst_overflows_and_is_counted_in_and_out() {
    const CLIENTS: usize = 300;
    let config = UringConfig { ring_entries: 16, completion_entries: 16, ..roomy() };
    let (mut driver, address) = listening::<Uring>(&config);
    let mut clients = Vec::new();
    let mut conns = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(address));
        conns.push(accept(&mut driver).0);
    }
    for conn in &conns {
        driver.recv(*conn);
    }
    for round in 0..10 {
        for client in &mut clients {
            client.write_all(&[round]).unwrap();
        }
        for conn in &conns {
            driver.send(*conn, chain(&[round]));
        }
        let (mut sent, mut received) = (0, 0);
        until(&mut driver, |driver, event| {
            match event {
                Event::Sent { outcome, .. } => {
                    assert_eq!(outcome, Ok(1));
                    sent += 1;
                }
                Event::Received { inbound: Inbound::Bytes(mut lease), .. } => {
                    assert_eq!(driver.bytes(&mut lease), [round]);
                    driver.release(lease);
                    received += 1;
                }
                event => panic!("{event:?}"),
            }
            (sent, received) == (CLIENTS, CLIENTS)
        });
        for client in &mut clients {
            let mut byte = [0xff];
            client.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
    }
    let counters = driver.counters();
    assert!(counters.completion_overflows > 0 && counters.submissions_deferred > 0, "{counters:?}");
    assert!(watch(&mut driver, Duration::from_millis(50)).is_empty(), "nothing comes twice");
}

fn a_wait_keeps_to_its_budget_and_forgets_nothing<D: Real>() {
    let (mut driver, address) = listening::<D>(&roomy());
    let _clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
    let mut events = Vec::new();
    let end = Instant::now() + PATIENCE;
    while events.len() < 10 {
        let before = events.len();
        driver.wait(Some(Duration::from_millis(50)), 3, &mut events);
        assert!(events.len() - before <= 3);
        assert!(Instant::now() < end);
    }
    driver.wait(Some(Duration::ZERO), 0, &mut events);
    assert_eq!(events.len(), 10);
}

fn time_stands_still_between_waits_and_waits_end<D: Real>() {
    let (mut driver, _) = listening::<D>(&roomy());
    let before = (driver.now(), driver.wall());
    thread::sleep(Duration::from_millis(5));
    assert_eq!((driver.now(), driver.wall()), before);
    let mut events = Vec::new();
    // The first waits may return for the driver's own affairs.
    let end = Instant::now() + Duration::from_millis(30);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        driver.wait(Some(left), 16, &mut events);
    }
    let passed = driver.now().since(before.0);
    assert!(passed >= Duration::from_millis(35) && passed < PATIENCE, "{passed:?}");
    assert!(driver.counters().busy_nanos >= 5_000_000);
    assert!(events.is_empty());
}
