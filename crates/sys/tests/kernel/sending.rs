//! Sends: whole, short, of many segments, and to a peer that does not read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use crate::common::*;
use moongate_io::{CHAIN_SEGMENTS_MAX, Chain, ConnId, Driver, Event, ListenerId, Segment, SendFault};

on_every_driver!(
    n6_short_sends_are_resumed_in_order,
    segments_of_every_number_go_out_in_order,
    n1_a_send_that_is_stuck_comes_back_when_closed,
    fin_follows_the_send_in_flight,
    n6_a_send_to_nobody_is_gone,
);

/// What is left of `chain` after `count` bytes.
fn rest(chain: Chain, mut count: usize) -> Option<Chain> {
    let mut segments = match chain {
        Chain::One(segment) => vec![segment],
        Chain::Many(segments) => segments,
    };
    segments.retain_mut(|segment| {
        let part = count.min(segment.len());
        segment.advance(part);
        count -= part;
        !segment.is_empty()
    });
    match segments.len() {
        0 => None,
        1 => segments.pop().map(Chain::One),
        _ => Some(Chain::Many(segments)),
    }
}

/// Sends all of `chain`, however short the single sends are; says how many it took.
fn send_all(driver: &mut impl Driver, conn: ConnId, chain: Chain) -> usize {
    let mut sends = 1;
    driver.send(conn, chain);
    until(driver, |driver, event| {
        let Event::Sent { chain, outcome, .. } = event else { panic!("{event:?}") };
        match rest(chain, outcome.unwrap()) {
            Some(chain) => {
                sends += 1;
                driver.send(conn, chain);
                false
            }
            None => true,
        }
    });
    sends
}

/// A driver whose connections have so small a send buffer that most sends are short.
fn short_of_breath<D: Real>() -> (D, SocketAddr) {
    let (address, listener) = listener();
    set(&listener, libc::SOL_SOCKET, libc::SO_SNDBUF, 4608);
    // Segments as on a real network: the loopback's of 64 KiB would wait for delayed acknowledgements.
    set(&listener, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 1000);
    let mut driver: D = driver(&roomy(), vec![listener]);
    driver.listen(ListenerId(0));
    (driver, address)
}

fn n6_short_sends_are_resumed_in_order<D: Real>() {
    let (mut driver, address) = short_of_breath::<D>();
    let client = connect(address);
    let (conn, _) = accept(&mut driver);

    let bytes = pattern(1, 12_000_000);
    let reading = read_on(&client);
    let many = bytes.chunks(bytes.len().div_ceil(CHAIN_SEGMENTS_MAX)).map(segment).collect();
    let sends = send_all(&mut driver, conn, Chain::Many(many));
    assert!(sends > 100, "{sends} sends were enough");
    assert_eq!(driver.counters().sends_short as usize, sends - 1);
    driver.shutdown_write(conn);
    // FIN must not wait for the close.
    assert!(join_within(&mut driver, reading) == bytes);
    driver.close(conn);
    closed(&mut driver, conn);
}

fn segments_of_every_number_go_out_in_order<D: Real>() {
    let (mut driver, mut client, conn) = connected::<D>();
    for count in [1, 2, 3, CHAIN_SEGMENTS_MAX] {
        let segments: Vec<Segment> = (0..count).map(|at| segment(format!("<{at}>").as_bytes())).collect();
        let expected: String = (0..count).map(|at| format!("<{at}>")).collect();
        let chain = if count == 1 { Chain::One(segments[0].clone()) } else { Chain::Many(segments) };
        send_all(&mut driver, conn, chain);
        let mut heard = vec![0; expected.len()];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), expected);
    }
}

/// N1: the chain stays the driver's until the send has ended, and closing ends it.
fn n1_a_send_that_is_stuck_comes_back_when_closed<D: Real>() {
    for abort in [false, true] {
        let (mut driver, client, conn) = connected::<D>();
        driver.recv(conn);
        // Nobody reads: sooner or later a send gets stuck.
        let block = chain(&pattern(0, 1 << 20));
        let mut sent = 1;
        driver.send(conn, block);
        loop {
            let mut quiet = true;
            for event in watch(&mut driver, Duration::from_millis(100)) {
                let Event::Sent { chain, outcome: Ok(_), .. } = event else { panic!("{event:?}") };
                driver.send(conn, Chain::One(Segment::clone(&chain.segments()[0])));
                sent += 1;
                quiet = false;
            }
            if quiet {
                break;
            }
            assert!(sent < 1000, "the kernel takes everything");
        }
        if abort {
            driver.abort(conn)
        } else {
            driver.close(conn)
        }
        let mut story = Vec::new();
        until(&mut driver, |_, event| match event {
            Event::Sent { outcome, .. } => {
                story.push(Some(outcome));
                false
            }
            Event::Closed { conn: who } => {
                assert_eq!(who, conn);
                story.push(None);
                true
            }
            event => panic!("{event:?}"),
        });
        assert_eq!(story, [Some(Err(SendFault::Cancelled)), None], "abort: {abort}");
        drop(client);
    }
}

/// The FIN waits for the send in flight, also if asked for too early, and for the rest of it if it is short.
fn fin_follows_the_send_in_flight<D: Real>() {
    let (mut driver, address) = short_of_breath::<D>();
    let client = connect(address);
    let (conn, _) = accept(&mut driver);
    let bytes = pattern(3, 2_000_000);
    driver.send(conn, chain(&bytes));
    driver.shutdown_write(conn);
    driver.shutdown_write(conn);
    let reading = read_on(&client);
    let mut left = None;
    until(&mut driver, |_, event| {
        let Event::Sent { chain, outcome, .. } = event else { panic!("{event:?}") };
        left = rest(chain, outcome.unwrap());
        true
    });
    // Were it not short, nothing would be proved about the rest.
    send_all(&mut driver, conn, left.expect("the first send is short"));
    driver.recv(conn);
    assert!(join_within(&mut driver, reading) == bytes);
    // The other direction still works.
    (&client).write_all(b"still here").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_out(&mut driver), b"still here");
}

fn n6_a_send_to_nobody_is_gone<D: Real>() {
    let (mut driver, client, conn) = connected::<D>();
    reset(client);
    // The first send may still be taken before the reset is seen.
    let mut attempts = 0;
    driver.send(conn, chain(b"hello"));
    until(&mut driver, |driver, event| match event {
        Event::Sent { outcome: Ok(_), .. } => {
            attempts += 1;
            assert!(attempts < 100);
            driver.send(conn, chain(b"hello"));
            false
        }
        Event::Sent { outcome, .. } => {
            assert_eq!(outcome, Err(SendFault::Gone));
            true
        }
        event => panic!("{event:?}"),
    });
    driver.close(conn);
    closed(&mut driver, conn);
}
