//! What the kernel cannot be brought to say in a test is said for it; the rest is in `tests/`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use moongate_io::{Bytes, Inbound, Segment, SendFault};

use super::slots::Receiving;
use super::*;
use crate::listener::{ACCEPTS_MAX, bind};

const OPTIONS: SocketOptions =
    SocketOptions { notsent_lowat: 1 << 17, user_timeout: Duration::from_secs(30), backlog: 64 };

/// A driver whose listener has connections waiting, and these.
fn driver(clients: usize) -> (Uring, Vec<TcpStream>) {
    let (address, listeners) = bind("127.0.0.1:0".parse().unwrap(), 1, false, &OPTIONS).unwrap();
    let config =
        UringConfig { ring_entries: 64, completion_entries: 256, slots: 64, ..UringConfig::default() };
    let mut driver = Uring::new(&config, listeners, &EventBell::new().unwrap()).unwrap();
    driver.listen(ListenerId(0));
    let clients = (0..clients).map(|_| TcpStream::connect(address).unwrap()).collect();
    (driver, clients)
}

/// Everything that happens within `span`.
fn watch(driver: &mut Uring, span: Duration) -> Vec<Event> {
    let end = Instant::now() + span;
    let mut events = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        driver.wait(Some(left), 256, &mut events);
    }
    events
}

/// The next `count` events, and whatever comes with them.
fn next(driver: &mut Uring, count: usize) -> Vec<Event> {
    let end = Instant::now() + Duration::from_secs(20);
    let mut events = Vec::new();
    while events.len() < count {
        driver.wait(Some(Duration::from_millis(50)), 256, &mut events);
        assert!(Instant::now() < end, "{events:?} is not enough");
    }
    events
}

/// Takes one connection.
fn connected() -> (Uring, TcpStream, ConnId) {
    let (mut driver, mut clients) = driver(1);
    let events = next(&mut driver, 1);
    let [Event::Accepted { conn, .. }] = events[..] else { panic!("{events:?}") };
    (driver, clients.remove(0), conn)
}

/// An accept that the driver believes to be with the kernel.
fn taken(driver: &mut Uring) -> u32 {
    let accept = driver.acceptors.idle.pop_front().expect("accepts stand in line");
    let _not_submitted = driver.acceptors.arm(accept);
    accept
}

/// Lets the driver believe that it receives.
fn believe_armed(driver: &mut Uring, conn: ConnId) {
    let slot = driver.slots.get(conn).expect("it is there");
    slot.receiving = Receiving::Armed;
    slot.operations += 1;
}

/// K6: the machine has no files left; accepting rests, wakes up by itself and goes on.
#[test]
fn k6_accepting_rests_when_files_run_out() {
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS] {
        let (mut driver, _clients) = driver(3);
        let accept = taken(&mut driver);
        let mut events = Vec::new();
        driver.complete(Token::own(Operation::Accept, accept), -errno, 0, &mut events);
        assert_eq!(driver.counters().accept_errors, 1);

        let start = Instant::now();
        let enters = driver.counters().enters;
        driver.wait(Some(Duration::from_millis(20)), 16, &mut events);
        assert!(events.is_empty(), "connections wait, and are left waiting");
        while events.is_empty() {
            driver.wait(None, 1, &mut events);
        }
        assert!(start.elapsed() >= Duration::from_millis(70), "{:?}", start.elapsed());
        assert!(driver.counters().enters - enters < 10, "no hot loop");
        events.extend(next(&mut driver, 2));
        assert_eq!(events.len(), 3);
    }
}

/// K6: the same by the kernel itself, which has fewer slots than the driver was told.
#[test]
fn k6_a_table_smaller_than_believed_backs_off() {
    let (mut driver, _clients) = driver(10);
    driver.ring.submitter().unregister_files().unwrap();
    driver.ring.submitter().register_files_sparse(4).unwrap();
    let events = watch(&mut driver, Duration::from_millis(250));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count(), 4);
    let counters = driver.counters();
    assert!(
        (1..=3 * u64::from(ACCEPTS_MAX)).contains(&counters.accept_errors) && counters.enters < 50,
        "{counters:?}"
    );
}

/// What concerns one connection is not the listener's end.
#[test]
fn an_aborted_connection_is_counted_and_accepting_goes_on() {
    let (mut driver, _clients) = driver(1);
    let accept = taken(&mut driver);
    let mut events = Vec::new();
    driver.complete(Token::own(Operation::Accept, accept), -libc::ECONNABORTED, 0, &mut events);
    let counters = driver.counters();
    assert_eq!((counters.accept_aborted, counters.accept_errors), (1, 0));
    assert_eq!(next(&mut driver, 1).len(), 1);
}

/// N2, N7: a completion for a tenant who is gone tells nobody, and its buffer goes back.
#[test]
fn n2_a_late_completion_reaches_nobody() {
    let (mut driver, _client, conn) = connected();
    let gone = ConnId::new(conn.slot(), conn.generation().wrapping_sub(1));
    let mut events = Vec::new();
    let buffer_zero = 1; // IORING_CQE_F_BUFFER, with the number above it
    for (operation, result, flags) in [
        (Operation::Receive, 5, buffer_zero),
        (Operation::Receive, 0, 0),
        (Operation::Send, 5, 0),
        (Operation::Send, -libc::EPIPE, 0),
        (Operation::CancelReceive, -libc::ENOENT, 0),
        (Operation::CancelSend, -libc::ENOENT, 0),
        (Operation::Shutdown, 0, 0),
        (Operation::Close, 0, 0),
    ] {
        driver.complete(Token::new(operation, gone), result, flags, &mut events);
    }
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(driver.slots.get(conn).map(|slot| slot.operations), Some(0));
    assert_eq!(driver.slots.used(), 1);
    assert_eq!(driver.receivers.buffers.home(), driver.receivers.buffers.count());
}

/// N4: what ends a receive for good is told once, and nothing is armed again.
#[test]
fn n4_errors_end_a_receive_and_do_not_loop() {
    for errno in [
        libc::ECONNRESET,
        libc::ETIMEDOUT,
        libc::EPIPE,
        libc::EHOSTUNREACH,
        libc::ENOTCONN,
        libc::ECONNABORTED,
        libc::ECANCELED,
    ] {
        let (mut driver, _client, conn) = connected();
        believe_armed(&mut driver, conn);
        let mut events = Vec::new();
        driver.complete(Token::new(Operation::Receive, conn), -errno, 0, &mut events);
        assert!(matches!(events[..], [Event::Received { inbound: Inbound::Reset, .. }]), "{events:?}");
        let pushed = driver.ring.outstanding();
        driver.recv(conn);
        driver.resume(conn);
        assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
        // Accepts may have been armed, but no receive.
        assert_eq!(driver.slots.get(conn).map(|slot| slot.operations), Some(0), "{pushed}");
    }
}

/// N6: what is only an interruption is tried again, and the bytes are neither lost nor doubled.
#[test]
fn n6_interruptions_are_retried_inside() {
    for errno in [libc::EINTR, libc::EAGAIN] {
        let (mut driver, mut client, conn) = connected();
        believe_armed(&mut driver, conn);
        let mut events = Vec::new();
        driver.complete(Token::new(Operation::Receive, conn), -errno, 0, &mut events);
        client.write_all(b"hello").unwrap();
        events.extend(next(&mut driver, 1));
        let Some(Event::Received { inbound: Inbound::Bytes(lease), .. }) = events.pop() else { panic!() };
        assert!(events.is_empty() && lease.len() == 5);
        driver.release(lease);

        let slot = driver.slots.get(conn).unwrap();
        slot.operations += 1;
        slot.send = Some(driver.sends.insert(Chain::One(Segment::whole(Bytes::fixed(b"hi")))));
        driver.complete(Token::new(Operation::Send, conn), -errno, 0, &mut events);
        assert!(events.is_empty());
        events.extend(next(&mut driver, 1));
        assert!(matches!(events[..], [Event::Sent { outcome: Ok(2), .. }]), "{events:?}");
        let mut heard = [0; 2];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hi");
    }
}

#[test]
fn n6_why_a_send_failed_is_told() {
    let check = |errno: i32, expect| {
        let (mut driver, _client, conn) = connected();
        let slot = driver.slots.get(conn).unwrap();
        slot.operations += 1;
        slot.send = Some(driver.sends.insert(Chain::One(Segment::whole(Bytes::fixed(b"hi")))));
        let mut events = Vec::new();
        driver.complete(Token::new(Operation::Send, conn), -errno, 0, &mut events);
        let [Event::Sent { outcome, .. }] = events[..] else { panic!("{events:?}") };
        assert_eq!(outcome, Err(expect), "errno {errno}");
    };
    check(libc::EPIPE, SendFault::Gone);
    check(libc::ECONNRESET, SendFault::Gone);
    check(libc::EHOSTUNREACH, SendFault::Gone);
    check(libc::ETIMEDOUT, SendFault::TimedOut);
}

/// A cancellation that came when its receive was just being run is tried again.
#[test]
fn n3_a_cancellation_that_missed_is_repeated() {
    for errno in [libc::ENOENT, libc::EALREADY] {
        let (mut driver, _client, conn) = connected();
        driver.recv(conn);
        assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
        // As if the pause's cancellation had missed.
        let slot = driver.slots.get(conn).unwrap();
        slot.receiving = Receiving::Pausing;
        slot.operations += 1;
        driver.complete(Token::new(Operation::CancelReceive, conn), -errno, 0, &mut Vec::new());
        assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
        let slot = driver.slots.get(conn).unwrap();
        assert_eq!((slot.receiving, slot.operations), (Receiving::Paused, 0));
    }
}
