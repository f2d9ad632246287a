//! Twenty thousand connections come and go in every way there is; at the end nothing is left of them.
//!
//! On its own, because it counts the descriptors of the whole process.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use moongate_io::{Bytes, Chain, ConnId, Driver, Event, Inbound, ListenerId, Meter, Segment};
use moongate_sys::{
    Epoll, EpollConfig, EventBell, Listener, SocketOptions, TokioUring, TokioUringConfig, Uring, UringConfig,
    bind,
};

const CLIENTS: usize = 4;
const CONNECTIONS: usize = 20_000;
const SLOTS: u32 = 600;
const BUFFERS: u16 = 64;
const PATIENCE: Duration = Duration::from_secs(60);

/// splitmix64: the same story in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of_val(&linger) as libc::socklen_t;
    let (fd, value) = (stream.as_raw_fd(), (&raw const linger).cast());
    // SAFETY: `linger` lives through the call, which gets its true length.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, len) };
    assert_eq!(result, 0);
}

/// One client thread: connects again and again, says something or not, and leaves in a random way.
fn come_and_go(address: SocketAddr, seed: u64, connections: usize) {
    let mut dice = Dice(seed);
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may have closed or reset it meanwhile: what fails here fails.
        if dice.below(3) > 0 {
            let _ = stream.write_all(&vec![7; 1 + dice.below(9000) as usize]);
        }
        match dice.below(4) {
            0 => reset(&stream),
            1 => drop(stream.shutdown(Shutdown::Write)),
            2 => {
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut [0; 64]);
            }
            _ => {
                open.push(stream);
                if open.len() > 100 {
                    open.swap_remove(dice.below(100) as usize);
                }
            }
        }
    }
}

fn answer() -> Chain {
    let meter = Meter::default();
    let segments = (0..3).map(|_| Segment::whole(Bytes::own(*b"hello", &meter)));
    Chain::Many(segments.collect())
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One after the other, for the same reason.
#[test]
fn n7_n12_nothing_is_left_of_twenty_thousand_connections() {
    let bell = EventBell::new().unwrap();
    survive(|listeners| {
        let config =
            UringConfig { slots: SLOTS, recv_buffers: BUFFERS, ring_entries: 128, ..UringConfig::default() };
        Uring::new(&config, listeners, &bell).unwrap()
    });
    let tokio_uring = |listeners| {
        let (ring_entries, completion_entries) = (128, 4096);
        let config = TokioUringConfig {
            ring_entries,
            completion_entries,
            recv_buffers: BUFFERS,
            recv_buffer_size: 2048,
            slots: SLOTS,
            cpu: None,
            outbound: SocketOptions::default(),
        };
        TokioUring::new(&config, listeners, &bell).unwrap()
    };
    // The first runtime leaves a pair of sockets for signals to the process, once.
    drop(tokio_uring(Vec::new()));
    survive(tokio_uring);
    survive(|listeners| {
        let config = EpollConfig {
            slots: SLOTS,
            recv_buffers: BUFFERS,
            recv_buffer_size: 2048,
            cpu: None,
            outbound: SocketOptions::default(),
        };
        Epoll::new(&config, listeners, &bell).unwrap()
    });
}

fn survive<D: Driver>(build: impl FnOnce(Vec<Listener>) -> D) {
    let before = open_files();
    let options =
        SocketOptions { notsent_lowat: 1 << 17, user_timeout: Duration::from_secs(30), backlog: 4096 };
    let (address, listeners) = bind("127.0.0.1:0".parse().unwrap(), 1, false, &options).unwrap();
    let mut driver = build(listeners);
    driver.listen(ListenerId(0));
    let listening = open_files();

    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| thread::spawn(move || come_and_go(address, seed as u64, CONNECTIONS / CLIENTS)))
        .collect();
    let done = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&done);
    let watching = thread::spawn(move || {
        for client in clients {
            client.join().unwrap();
        }
        tell.store(true, Ordering::SeqCst);
    });

    let mut dice = Dice(99);
    // Whether a send is in flight, for each connection that has not been told to close.
    let mut here: HashMap<ConnId, bool> = HashMap::new();
    let (mut accepted, mut closed, mut most) = (0, 0, 0);
    let mut events = Vec::new();
    let start = Instant::now();
    while accepted < CONNECTIONS || closed < CONNECTIONS {
        driver.wait(Some(Duration::from_millis(20)), 64, &mut events);
        assert!(start.elapsed() < PATIENCE, "{accepted} came, {closed} went, {:?}", driver.counters());
        for event in events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => {
                    accepted += 1;
                    assert!(here.insert(conn, false).is_none());
                    driver.recv(conn);
                }
                Event::Received { conn, inbound } => {
                    let over = match inbound {
                        Inbound::Bytes(lease) => {
                            driver.release(lease);
                            false
                        }
                        Inbound::End | Inbound::Reset => true,
                    };
                    let Some(sending) = here.get_mut(&conn) else { continue };
                    if !*sending && dice.below(2) == 0 {
                        *sending = true;
                        driver.send(conn, answer());
                    }
                    match dice.below(8) {
                        0 => driver.pause(conn),
                        1 => driver.shutdown_write(conn),
                        _ => {}
                    }
                    driver.resume(conn);
                    if over || dice.below(10) == 0 {
                        here.remove(&conn);
                        if dice.below(3) == 0 { driver.abort(conn) } else { driver.close(conn) }
                    }
                }
                Event::Sent { conn, .. } => {
                    if let Some(sending) = here.get_mut(&conn) {
                        *sending = false;
                    }
                }
                Event::Closed { conn } => {
                    assert!(!here.contains_key(&conn), "only who was told to closes");
                    closed += 1;
                }
                Event::Bell | Event::Connected { .. } => unreachable!("nobody rings, nobody connects"),
            }
        }
        most = most.max(here.len());
        // Who has gone silent would stay for ever.
        if done.load(Ordering::SeqCst) {
            let silent: Vec<_> = here.drain().map(|(conn, _)| conn).collect();
            silent.into_iter().for_each(|conn| driver.close(conn));
        }
    }
    watching.join().unwrap();
    let counters = driver.counters();
    assert_eq!((accepted, closed), (CONNECTIONS, CONNECTIONS));
    assert_eq!(counters.slots_used, 0);
    assert_eq!(counters.buffers_free, u64::from(BUFFERS));
    assert_eq!(counters.accept_errors, 0);
    assert!(most > 50, "{most} at once");
    assert_eq!(open_files(), listening);
    drop(driver);
    assert_eq!(open_files(), before);
}
