//! The maxima of connections: how many, how long, how slow.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::world::{Plan, World, read, start};

/// A world with the given limits changed.
fn limited(change: impl FnOnce(&mut moongate_control::Limits)) -> World {
    let mut plan = Plan::default();
    change(&mut plan.config.limits);
    start(plan)
}

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn whoever_sends_nothing_or_too_slowly_is_let_go() {
    let world = limited(|limits| limits.head_timeout = Duration::from_millis(500));
    let check = |what: &str, sent: &[u8], answers: usize| {
        let begun = Instant::now();
        let mut stream = world.connect();
        stream.write_all(sent).unwrap();
        for _ in 0..answers {
            assert_eq!(read(&mut stream).status, 200, "{what}");
        }
        let mut rest = vec![];
        // The end may come as a reset where bytes of ours were not read.
        let _ = stream.read_to_end(&mut rest);
        let spent = begun.elapsed();
        assert!((Duration::from_millis(500)..Duration::from_secs(9)).contains(&spent), "{what}: {spent:?}");
    };
    check("nothing", b"", 0);
    check("half a head", b"GET /healthz HTTP/1.1\r\nHost: lo", 0);
    check("idle after an answer", REQUEST, 1);
    check("idle after two answers", &[REQUEST, REQUEST].concat(), 2);
}

#[test]
fn a_connection_lives_only_so_long() {
    let world = limited(|limits| {
        limits.connection_age_max = Duration::from_millis(300);
        limits.body_timeout = Duration::from_millis(100);
        limits.publish_timeout = Duration::from_millis(100);
        limits.list_timeout = Duration::from_millis(100);
    });
    // Busy all the time.
    let mut stream = world.connect();
    let begun = Instant::now();
    let mut answers = 0;
    while stream.write_all(REQUEST).is_ok() {
        let mut first = [0];
        // The end comes between two answers.
        if !matches!(stream.read(&mut first), Ok(1)) {
            break;
        }
        assert_eq!(read(&mut stream).status, 200);
        answers += 1;
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(answers > 1 && begun.elapsed() >= Duration::from_millis(300), "{answers} answers");

    // One that sends without end and never reads.
    let mut deaf = world.connect();
    deaf.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let begun = Instant::now();
    let flood = REQUEST.repeat(1000);
    while deaf.write_all(&flood).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "cut by the server, not by our write timeout");
}

#[test]
fn more_connections_than_allowed_wait() {
    let world = limited(|limits| limits.connections_max = 2);
    let served: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = world.connect();
            stream.write_all(REQUEST).unwrap();
            assert_eq!(read(&mut stream).status, 200);
            stream
        })
        .collect();
    let mut waiting = world.connect();
    waiting.write_all(REQUEST).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(waiting.peek(&mut [0]).is_err(), "it must wait");
    drop(served);
    waiting.set_read_timeout(Some(crate::world::PATIENCE)).unwrap();
    assert_eq!(read(&mut waiting).status, 200);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let world = start(Plan::default());
    let padding = "x".repeat(20 << 10);
    let long = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Padding: {padding}\r\n\r\n");
    assert_eq!(world.send(long.as_bytes()).status, 431);
}
