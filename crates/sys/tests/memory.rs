//! What a connection that says nothing costs in the driver's own memory. On its own, because it counts every allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moongate_io::{Bytes, Chain, Driver, Event, Inbound, ListenerId, Segment};
use moongate_sys::{
    Epoll, EpollConfig, EventBell, Listener, SocketOptions, TokioUring, TokioUringConfig, Uring, UringConfig,
    bind, machine,
};

const CONNECTIONS: usize = 4096;
const SLOTS: u32 = 5000;
const BUFFERS: u16 = 64;
const BUFFER_SIZE: u32 = 2048;

/// Counts the bytes that are allocated now.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it hands everything to the system's allocator, and counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Turns the driver until `wanted` connections have come, or were heard and answered: those are idle then.
fn turn(driver: &mut impl Driver, wanted: usize, events: &mut Vec<Event>) {
    let mut done = 0;
    while done < wanted {
        driver.wait(Some(Duration::from_secs(20)), 64, events);
        assert!(!events.is_empty(), "{done} of {wanted}");
        for event in events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => {
                    done += 1;
                    driver.recv(conn);
                }
                Event::Received { conn, inbound: Inbound::Bytes(lease) } => {
                    driver.release(lease);
                    driver.send(conn, Chain::One(Segment::whole(Bytes::fixed(b"pong"))));
                }
                Event::Sent { outcome: Ok(4), .. } => done += 1,
                event => panic!("{event:?}"),
            }
        }
    }
}

/// Bytes per connection that was heard, answered and is silent now.
fn cost<D: Driver>(build: impl FnOnce(Vec<Listener>) -> D) -> usize {
    let options =
        SocketOptions { notsent_lowat: 1 << 17, user_timeout: Duration::from_secs(30), backlog: 4096 };
    let (address, listeners) = bind("127.0.0.1:0".parse().unwrap(), 1, false, &options).unwrap();
    let mut driver = build(listeners);
    driver.listen(ListenerId(0));
    let mut clients = Vec::with_capacity(CONNECTIONS);
    let mut events = Vec::with_capacity(1024);
    // Buffers, queues and the like are there from the first one on.
    let come = |driver: &mut D, clients: &mut Vec<TcpStream>, events: &mut Vec<Event>| {
        clients.push(TcpStream::connect(address).unwrap());
        turn(driver, 1, events);
        clients.last_mut().unwrap().write_all(b"ping").unwrap();
        turn(driver, 1, events);
        clients.last_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    };
    come(&mut driver, &mut clients, &mut events);
    let before = LIVE.load(Ordering::Relaxed);
    for _ in 1..CONNECTIONS {
        come(&mut driver, &mut clients, &mut events);
    }
    (LIVE.load(Ordering::Relaxed) - before) / (CONNECTIONS - 1)
}

/// The tables double as they grow, so that 4,096 connections fill them.
#[test]
fn an_idle_connection_costs_little() {
    // Both ends are in this process.
    machine::raise_open_files().unwrap();
    let bell = EventBell::new().unwrap();
    let uring = cost(|listeners| {
        let config = UringConfig {
            slots: SLOTS,
            recv_buffers: BUFFERS,
            recv_buffer_size: BUFFER_SIZE,
            ..Default::default()
        };
        Uring::new(&config, listeners, &bell).unwrap()
    });
    let epoll = cost(|listeners| {
        let config = EpollConfig {
            slots: SLOTS,
            recv_buffers: BUFFERS,
            recv_buffer_size: BUFFER_SIZE,
            cpu: None,
            outbound: SocketOptions::default(),
        };
        Epoll::new(&config, listeners, &bell).unwrap()
    });
    let tokio_uring = cost(|listeners| {
        let config = TokioUringConfig {
            ring_entries: 4096,
            completion_entries: 32_768,
            recv_buffers: BUFFERS,
            recv_buffer_size: BUFFER_SIZE,
            slots: SLOTS,
            cpu: None,
            outbound: SocketOptions::default(),
        };
        TokioUring::new(&config, listeners, &bell).unwrap()
    });
    println!("bytes for an idle connection: uring {uring}, tokio-uring {tokio_uring}, epoll {epoll}");
    assert!(tokio_uring < 1024, "tokio-uring {tokio_uring}");
    assert!(uring <= 16 && epoll <= 16, "uring {uring}, epoll {epoll}");
}
