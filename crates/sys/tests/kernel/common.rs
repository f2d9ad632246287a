//! A driver on a thread of its own, and what the tests say to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moongate_io::{Bytes, Chain, ConnId, Driver, Event, Inbound, ListenerId, Meter, Segment};
use moongate_sys::{EventBell, Listener, SocketOptions, Uring, UringConfig, bind};

/// How long any one thing may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const OPTIONS: SocketOptions =
    SocketOptions { notsent_lowat: 128 * 1024, user_timeout: Duration::from_secs(30), backlog: 4096 };

/// A configuration with which nothing runs out.
pub(crate) fn roomy() -> UringConfig {
    UringConfig {
        ring_entries: 256,
        completion_entries: 4096,
        recv_buffers: 256,
        slots: 1024,
        ..Default::default()
    }
}

/// A listener on a free port of the loopback.
pub(crate) fn listener() -> (SocketAddr, Listener) {
    let (address, mut listeners) = bind("127.0.0.1:0".parse().unwrap(), 1, false, &OPTIONS).unwrap();
    (address, listeners.remove(0))
}

/// A driver that listens, on the calling thread.
pub(crate) fn listening(config: &UringConfig) -> (Uring, SocketAddr) {
    let (address, listener) = listener();
    let mut driver = Uring::new(config, vec![listener], &EventBell::new().unwrap()).unwrap();
    driver.listen(ListenerId(0));
    (driver, address)
}

/// Bytes to send, as one segment.
pub(crate) fn chain(bytes: &[u8]) -> Chain {
    Chain::One(segment(bytes))
}

pub(crate) fn segment(bytes: &[u8]) -> Segment {
    Segment::whole(Bytes::own(bytes, &Meter::default()))
}

/// Turns the driver until `done` says so of an event, or fails after [`PATIENCE`]; events go to `done` in order.
pub(crate) fn until(driver: &mut Uring, mut done: impl FnMut(&mut Uring, Event) -> bool) {
    let end = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    loop {
        driver.wait(Some(Duration::from_millis(50)), 256, &mut events);
        let mut over = false;
        for event in events.drain(..) {
            over |= done(driver, event);
        }
        if over {
            return;
        }
        assert!(Instant::now() < end, "it takes too long; {:?}", driver.counters());
    }
}

/// Waits for the next connection.
pub(crate) fn accept(driver: &mut Uring) -> (ConnId, SocketAddr) {
    let mut accepted = None;
    until(driver, |_, event| {
        match event {
            Event::Accepted { conn, peer, .. } => assert!(accepted.replace((conn, peer)).is_none()),
            event => panic!("{event:?} instead of a connection"),
        }
        true
    });
    accepted.unwrap()
}

/// Waits until `conn` is closed, giving back whatever comes before.
pub(crate) fn closed(driver: &mut Uring, conn: ConnId) {
    until(driver, |driver, event| match event {
        Event::Received { inbound: Inbound::Bytes(lease), .. } => {
            driver.release(lease);
            false
        }
        Event::Closed { conn: who } => who == conn,
        _ => false,
    });
}

/// Descriptors that this process has open.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
