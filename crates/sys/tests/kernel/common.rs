//! The drivers, each on a thread of its own, and what the tests say to them.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use moongate_io::{Bytes, Chain, ConnId, Driver, Event, Inbound, ListenerId, Meter, Segment};
use moongate_sys::{
    Epoll, EpollConfig, EventBell, Listener, SetupError, SocketOptions, TokioUring, TokioUringConfig, Uring,
    UringConfig, bind,
};

/// A driver that can be built here; every case of these tests that is not about one driver's own affairs is for all.
pub(crate) trait Real: Driver + Sized {
    /// Whether buffers are lent before there is anything to put into them, so that they also run out for lack of words.
    const LENDS_AHEAD: bool = false;

    /// How many accepts are armed where there is room, with a slot spoken for by each though nobody has come.
    const ACCEPTS_AHEAD: u32 = 0;

    /// A driver on the calling thread. What it has no use for in `config` it leaves alone.
    fn build(config: &UringConfig, listeners: Vec<Listener>, bell: &EventBell) -> Result<Self, SetupError>;
}

impl Real for Uring {
    const LENDS_AHEAD: bool = true;
    const ACCEPTS_AHEAD: u32 = 8;

    fn build(config: &UringConfig, listeners: Vec<Listener>, bell: &EventBell) -> Result<Uring, SetupError> {
        Uring::new(config, listeners, bell)
    }
}

impl Real for Epoll {
    fn build(config: &UringConfig, listeners: Vec<Listener>, bell: &EventBell) -> Result<Epoll, SetupError> {
        let UringConfig { recv_buffers, recv_buffer_size, slots, cpu, outbound, .. } = config.clone();
        let config = EpollConfig { recv_buffers, recv_buffer_size, slots, cpu, outbound };
        Epoll::new(&config, listeners, bell)
    }
}

impl Real for TokioUring {
    fn build(
        config: &UringConfig,
        listeners: Vec<Listener>,
        bell: &EventBell,
    ) -> Result<TokioUring, SetupError> {
        let config = config.clone();
        let config = TokioUringConfig {
            ring_entries: config.ring_entries,
            completion_entries: config.completion_entries,
            recv_buffers: config.recv_buffers,
            recv_buffer_size: config.recv_buffer_size,
            slots: config.slots,
            cpu: config.cpu,
            outbound: config.outbound,
        };
        TokioUring::new(&config, listeners, bell)
    }
}

/// Makes every case a test, once for each driver.
macro_rules! on_every_driver {
    ($($case:ident),+ $(,)?) => {
        mod on_uring {
            $(#[test] fn $case() { super::$case::<moongate_sys::Uring>(); })+
        }
        mod on_tokio_uring {
            $(#[test] fn $case() { super::$case::<moongate_sys::TokioUring>(); })+
        }
        mod on_epoll {
            $(#[test] fn $case() { super::$case::<moongate_sys::Epoll>(); })+
        }
    };
}
pub(crate) use on_every_driver;

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

/// A driver with these listeners, that nobody rings for.
pub(crate) fn driver<D: Real>(config: &UringConfig, listeners: Vec<Listener>) -> D {
    D::build(config, listeners, &EventBell::new().unwrap()).unwrap()
}

/// A driver that listens.
pub(crate) fn listening<D: Real>(config: &UringConfig) -> (D, SocketAddr) {
    let (address, listener) = listener();
    let mut driver: D = driver(config, vec![listener]);
    driver.listen(ListenerId(0));
    (driver, address)
}

/// A roomy driver with one connection, which is not received from, and its other end.
pub(crate) fn connected<D: Real>() -> (D, TcpStream, ConnId) {
    let (mut driver, address) = listening(&roomy());
    let client = connect(address);
    let (conn, _) = accept(&mut driver);
    (driver, client, conn)
}

/// Bytes to send, as one segment.
pub(crate) fn chain(bytes: &[u8]) -> Chain {
    Chain::One(segment(bytes))
}

pub(crate) fn segment(bytes: &[u8]) -> Segment {
    Segment::whole(Bytes::own(bytes, &Meter::default()))
}

/// Turns the driver until `done` says so of an event, or fails after [`PATIENCE`]; events go to `done` in order.
pub(crate) fn until<D: Driver>(driver: &mut D, mut done: impl FnMut(&mut D, Event) -> bool) {
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
pub(crate) fn accept(driver: &mut impl Driver) -> (ConnId, SocketAddr) {
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

/// What the one connection says up to its FIN.
pub(crate) fn hear_out(driver: &mut impl Driver) -> Vec<u8> {
    let mut heard = Vec::new();
    until(driver, |driver, event| match event {
        Event::Received { inbound: Inbound::Bytes(mut lease), .. } => {
            heard.extend_from_slice(driver.bytes(&mut lease));
            driver.release(lease);
            false
        }
        Event::Received { inbound: Inbound::End, .. } => true,
        event => panic!("{event:?}"),
    });
    heard
}

/// Reads until the other end says FIN, on a thread of its own.
pub(crate) fn read_on(client: &TcpStream) -> thread::JoinHandle<Vec<u8>> {
    let mut client = client.try_clone().unwrap();
    thread::spawn(move || {
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        heard
    })
}

/// Joins the thread while the driver turns, and has nothing to tell.
pub(crate) fn join_within<T>(driver: &mut impl Driver, thread: thread::JoinHandle<T>) -> T {
    let end = Instant::now() + PATIENCE;
    while !thread.is_finished() {
        assert!(Instant::now() < end);
        let events = watch(driver, Duration::from_millis(5));
        assert!(events.is_empty(), "{events:?}");
    }
    thread.join().unwrap()
}

/// Waits until `conn` is closed, giving back whatever comes before.
pub(crate) fn closed(driver: &mut impl Driver, conn: ConnId) {
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

/// Waits until the other end's kernel has acknowledged all that was written, and so holds it ready to be read.
pub(crate) fn until_it_has_arrived(stream: &TcpStream) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut on_the_way: libc::c_int = 0;
        // SAFETY: the kernel writes one int, to where one is.
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut on_the_way) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        if on_the_way == 0 {
            return;
        }
        assert!(Instant::now() < end, "{on_the_way} bytes do not arrive");
        thread::sleep(Duration::from_millis(1));
    }
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
pub(crate) fn watch(driver: &mut impl Driver, span: Duration) -> Vec<Event> {
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
