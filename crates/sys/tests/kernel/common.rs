//! A driver on a thread of its own, and what the tests say to it.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
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

/// Sets a socket option of type int.
pub(crate) fn set(socket: &impl AsFd, level: i32, name: i32, value: i32) {
    let len = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` lives through the call, which gets its true length.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Closes with RST.
pub(crate) fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of_val(&linger) as libc::socklen_t;
    let value = (&raw const linger).cast();
    // SAFETY: `linger` lives through the call, which gets its true length.
    let result =
        unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A client that does not wait for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Turns the driver for `span`, collecting what happens.
pub(crate) fn watch(driver: &mut Uring, span: Duration) -> Vec<Event> {
    let end = Instant::now() + span;
    let mut events = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        driver.wait(Some(left), 256, &mut events);
    }
    events
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251 + seed * 13) as u8).collect()
}
