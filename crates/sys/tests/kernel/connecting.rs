//! Connections that the driver makes, to servers of the standard library.

use std::collections::HashMap;
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::*;
use moongate_io::{ConnId, ConnectFault, Driver, Event, Inbound, ListenerId, Remote, Ticket};
use moongate_sys::UringConfig;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

on_every_driver!(
    it_speaks_over_tcp_and_over_unix_sockets,
    what_unix_sockets_keep_apart_is_read_to_its_end,
    an_abort_resets_tcp_and_closes_unix,
    why_there_is_no_connection_is_told_and_nothing_is_left,
    a_full_unix_queue_refuses,
    an_attempt_can_be_cancelled_at_any_moment,
    k6_a_full_table_has_no_room_until_somebody_leaves,
    k6_accepting_and_connecting_share_a_small_table,
    n1_a_driver_ends_with_attempts_under_way,
    many_attempts_at_once,
    n7_kept_bytes_are_sent_and_their_buffers_come_home,
);

type Outcome = Result<ConnId, ConnectFault>;

/// A driver without listeners.
fn lonely<D: Real>(config: &UringConfig) -> D {
    driver(config, Vec::new())
}

/// Waits for what comes of every attempt in `tickets`.
fn outcomes(driver: &mut impl Driver, tickets: &[u64]) -> HashMap<u64, Outcome> {
    let mut found = HashMap::new();
    until(driver, |_, event| {
        let Event::Connected { ticket, outcome } = event else { panic!("{event:?}") };
        assert!(tickets.contains(&ticket.0), "{ticket:?}");
        assert!(found.insert(ticket.0, outcome).is_none(), "an attempt is told of once");
        found.len() == tickets.len()
    });
    found
}

fn outcome(driver: &mut impl Driver, remote: impl Into<Remote>) -> Outcome {
    driver.connect(Ticket(7), &remote.into());
    outcomes(driver, &[7])[&7]
}

/// A directory that goes with its owner; another for each, because every case runs on all drivers at once.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("moongate-sys-{process}-{number}-{name}"));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener whose queue is full, so that connecting waits; it stays so while the pair lives.
fn silent() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    shrink_backlog(&listener);
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue takes everybody");
    }
    (listener, waiting)
}

/// Lets a listener's queue take no more than one or two.
fn shrink_backlog(listener: &impl AsRawFd) {
    // SAFETY: listen(2) takes no pointers; on a socket that listens it changes the length of the queue.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
}

fn echo_over(driver: &mut impl Driver, conn: ConnId, mut server: impl Read + Write) {
    driver.recv(conn);
    driver.send(conn, chain(b"to the server"));
    let mut heard = [0; 13];
    until(driver, |_, event| matches!(event, Event::Sent { outcome: Ok(13), .. }));
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"to the server");
    server.write_all(b"and back").unwrap();
    until(driver, |driver, event| {
        let Event::Received { inbound: Inbound::Bytes(mut lease), .. } = event else { panic!("{event:?}") };
        assert_eq!(driver.bytes(&mut lease), b"and back");
        driver.release(lease);
        true
    });
    driver.close(conn);
    closed(driver, conn);
    // A plain descriptor left open would keep FIN back.
    assert_eq!(server.read(&mut heard).unwrap(), 0);
}

fn it_speaks_over_tcp_and_over_unix_sockets<D: Real>() {
    let mut driver = lonely::<D>(&roomy());
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(server) = TcpListener::bind(address) else { continue };
        let conn = outcome(&mut driver, server.local_addr().unwrap()).unwrap();
        let (stream, _) = server.accept().unwrap();
        echo_over(&mut driver, conn, stream);
    }
    let directory = Directory::new("speak");
    let path = directory.socket("server");
    let server = UnixListener::bind(&path).unwrap();
    let conn = outcome(&mut driver, path.as_path()).unwrap();
    let (stream, _) = server.accept().unwrap();
    echo_over(&mut driver, conn, stream);
    assert_eq!((driver.counters().slots_used, driver.counters().connect_errors), (0, 0));
}

/// Bytes that come with a descriptor end a read early, though more is there, and no event tells of that; the descriptors
/// themselves are nobody's business here, and are closed.
fn what_unix_sockets_keep_apart_is_read_to_its_end<D: Real>() {
    let directory = Directory::new("apart");
    let path = directory.socket("server");
    let server = UnixListener::bind(&path).unwrap();
    let mut driver = lonely::<D>(&roomy());
    let conn = outcome(&mut driver, path.as_path()).unwrap();
    let (mut stream, _) = server.accept().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    send_with(&stream, b"one, ", &ours);
    send_with(&stream, b"two, ", &ours);
    stream.write_all(b"three").unwrap();
    drop(ours);
    driver.recv(conn);
    let mut heard = Vec::new();
    until(&mut driver, |driver, event| {
        let Event::Received { inbound: Inbound::Bytes(mut lease), .. } = event else { panic!("{event:?}") };
        heard.extend_from_slice(driver.bytes(&mut lease));
        driver.release(lease);
        heard.len() == b"one, two, three".len()
    });
    assert_eq!(heard, b"one, two, three");
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "a descriptor that was sent is still open");
}

/// Sends bytes with a descriptor beside them (`SCM_RIGHTS`, unix(7)).
fn send_with(stream: &UnixStream, bytes: &[u8], descriptor: &UnixStream) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut beside, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}

/// A Unix socket has no RST: an abort closes it.
fn an_abort_resets_tcp_and_closes_unix<D: Real>() {
    let mut driver = lonely::<D>(&roomy());
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = outcome(&mut driver, server.local_addr().unwrap()).unwrap();
    let (mut stream, _) = server.accept().unwrap();
    driver.recv(conn);
    driver.abort(conn);
    closed(&mut driver, conn);
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let directory = Directory::new("abort");
    let path = directory.socket("server");
    let server = UnixListener::bind(&path).unwrap();
    let conn = outcome(&mut driver, path.as_path()).unwrap();
    let (mut stream, _): (UnixStream, _) = server.accept().unwrap();
    driver.recv(conn);
    driver.abort(conn);
    closed(&mut driver, conn);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

fn why_there_is_no_connection_is_told_and_nothing_is_left<D: Real>() {
    let directory = Directory::new("faults");
    let stale = directory.socket("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let file = directory.socket("file");
    fs::write(&file, "no socket").unwrap();
    let long = directory.socket(&"x".repeat(200));
    let missing = directory.socket("missing");
    let mut driver = lonely::<D>(&roomy());
    let faults = [
        (Remote::from(nobody()), ConnectFault::Refused),
        (Remote::from(stale.as_path()), ConnectFault::Refused),
        (Remote::from(file.as_path()), ConnectFault::Refused),
        (Remote::from(missing.as_path()), ConnectFault::NotFound),
        (Remote::from(long.as_path()), ConnectFault::NotFound),
        // Not even root may connect to a broadcast address.
        (Remote::Tcp("255.255.255.255:9".parse().unwrap()), ConnectFault::Unreachable),
    ];
    for (remote, expect) in &faults {
        let found = outcome(&mut driver, remote.clone());
        let denied = matches!((found, expect), (Err(ConnectFault::Denied), ConnectFault::Unreachable));
        assert!(found == Err(*expect) || denied, "{remote}: {found:?}");
    }
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
    let counters = driver.counters();
    assert_eq!((counters.slots_used, counters.connect_errors), (0, faults.len() as u64));
}

/// A Unix listener whose queue is full would hold a kernel worker up; it refuses instead.
fn a_full_unix_queue_refuses<D: Real>() {
    let directory = Directory::new("queue");
    let path = directory.socket("server");
    let server = UnixListener::bind(&path).unwrap();
    shrink_backlog(&server);
    let mut driver = lonely::<D>(&roomy());
    let mut made = Vec::new();
    let fault = loop {
        match outcome(&mut driver, path.as_path()) {
            Ok(conn) => made.push(conn),
            Err(fault) => break fault,
        }
        assert!(made.len() < 100, "the queue takes everybody");
    };
    assert_eq!(fault, ConnectFault::Refused);
    for conn in made {
        driver.close(conn);
        closed(&mut driver, conn);
    }
}

/// Cancelled before, while and after the kernel is at it: told once, and neither slot nor file is left.
fn an_attempt_can_be_cancelled_at_any_moment<D: Real>() {
    let (silent, _waiting) = silent();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new("cancel");
    let path = directory.socket("server");
    let unix = UnixListener::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let remotes = [
        Remote::from(silent.local_addr().unwrap()),
        Remote::from(server.local_addr().unwrap()),
        Remote::from(nobody()),
        Remote::from(path.as_path()),
        Remote::from(directory.socket("missing").as_path()),
    ];
    let mut driver = lonely::<D>(&roomy());
    for (number, remote) in remotes.iter().enumerate() {
        for waits in 0..4 {
            let ticket = Ticket(number as u64 * 10 + waits);
            driver.connect(ticket, remote);
            let mut events = Vec::new();
            for _ in 0..waits {
                driver.wait(Some(Duration::from_millis(2)), 16, &mut events);
            }
            driver.cancel_connect(ticket);
            driver.cancel_connect(ticket);
            let told_before = !events.is_empty();
            if !told_before {
                until(&mut driver, |_, event| {
                    events.push(event);
                    true
                });
            }
            let [Event::Connected { ticket: told, outcome }] = events[..] else { panic!("{events:?}") };
            assert_eq!(told, ticket);
            match outcome {
                Ok(conn) => {
                    assert!(told_before, "a cancelled attempt does not succeed");
                    driver.close(conn);
                    closed(&mut driver, conn);
                }
                Err(fault) => assert!(told_before || fault == ConnectFault::Cancelled, "{remote}: {fault:?}"),
            }
            while unix.accept().is_ok() {}
        }
    }
    assert!(watch(&mut driver, Duration::from_millis(50)).is_empty());
    assert_eq!(driver.counters().slots_used, 0);
}

/// K6: where no slot is free an attempt fails, and the next succeeds once one is.
fn k6_a_full_table_has_no_room_until_somebody_leaves<D: Real>() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = Remote::from(server.local_addr().unwrap());
    let mut driver = lonely::<D>(&UringConfig { slots: 3, ..roomy() });
    for ticket in 0..5 {
        driver.connect(Ticket(ticket), &remote);
    }
    let found = outcomes(&mut driver, &[0, 1, 2, 3, 4]);
    let made: Vec<ConnId> = found.values().filter_map(|outcome| outcome.ok()).collect();
    assert_eq!(made.len(), 3);
    assert!(found.values().all(|outcome| outcome.is_ok() || *outcome == Err(ConnectFault::NoRoom)));
    driver.close(made[0]);
    closed(&mut driver, made[0]);
    let again = outcome(&mut driver, remote.clone()).unwrap();
    assert!(!made.contains(&again), "a tenant of its own");
    assert_eq!(driver.counters().slots_used, 3);
}

/// Accepts that wait have slots to take, so attempts leave them alone, and the other way round.
fn k6_accepting_and_connecting_share_a_small_table<D: Real>() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = Remote::from(server.local_addr().unwrap());
    let (address, listener) = listener();
    let config = UringConfig { slots: 24, ..roomy() };
    let mut driver = driver::<D>(&config, vec![listener]);
    driver.listen(ListenerId(0));
    assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
    let made = if D::ACCEPTS_AHEAD == 0 { 20 } else { config.slots - D::ACCEPTS_AHEAD };
    for ticket in 0..20 {
        driver.connect(Ticket(ticket), &remote);
    }
    let found = outcomes(&mut driver, &(0..20).collect::<Vec<_>>());
    assert_eq!(
        found.values().filter(|outcome| outcome.is_ok()).count() as u32,
        made,
        "the rest is for accepts"
    );
    let _clients: Vec<_> = (0..50).map(|_| connect(address)).collect();
    let mut accepted = 0;
    until(&mut driver, |_, event| {
        let Event::Accepted { .. } = event else { panic!("{event:?}") };
        accepted += 1;
        accepted == config.slots - made
    });
    let more = watch(&mut driver, Duration::from_millis(50));
    assert!(more.is_empty(), "{more:?}");
    assert_eq!(driver.counters().slots_used, u64::from(config.slots));
    assert_eq!(driver.counters().accept_errors, 0);
}

/// N1: a driver may end while attempts are under way in either step.
fn n1_a_driver_ends_with_attempts_under_way<D: Real>() {
    let (silent, _waiting) = silent();
    let remote = Remote::from(silent.local_addr().unwrap());
    for waits in 0..3 {
        let mut driver = lonely::<D>(&roomy());
        for ticket in 0..10 {
            driver.connect(Ticket(ticket), &remote);
        }
        for _ in 0..waits {
            driver.wait(Some(Duration::from_millis(1)), 16, &mut Vec::new());
        }
        drop(driver);
    }
}

/// Many at once, more than the submission queue takes, and each is told of by its own ticket.
fn many_attempts_at_once<D: Real>() {
    const COUNT: u64 = 200;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (open, shut) = (Remote::from(server.local_addr().unwrap()), Remote::from(nobody()));
    let mut driver = lonely::<D>(&UringConfig { ring_entries: 16, completion_entries: 16, ..roomy() });
    for ticket in 0..COUNT {
        driver.connect(Ticket(ticket), if ticket % 2 == 0 { &open } else { &shut });
    }
    let found = outcomes(&mut driver, &(0..COUNT).collect::<Vec<_>>());
    for (ticket, outcome) in found {
        match outcome {
            Ok(conn) => {
                assert_eq!(ticket % 2, 0);
                driver.close(conn);
            }
            Err(fault) => assert_eq!((ticket % 2, fault), (1, ConnectFault::Refused)),
        }
    }
    let mut gone = 0;
    until(&mut driver, |_, event| {
        assert!(matches!(event, Event::Closed { .. }), "{event:?}");
        gone += 1;
        gone == COUNT / 2
    });
    assert_eq!(driver.counters().slots_used, 0);
}

/// N7: bytes that are kept for sending go out from where they came in, and their buffer comes back after that.
fn n7_kept_bytes_are_sent_and_their_buffers_come_home<D: Real>() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut driver, address) = listening::<D>(&roomy());
    let mut client = connect(address);
    let (from, _) = accept(&mut driver);
    driver.connect(Ticket(1), &Remote::from(server.local_addr().unwrap()));
    let to = outcomes(&mut driver, &[1])[&1].unwrap();
    let (mut upstream, _) = server.accept().unwrap();
    driver.recv(from);
    for round in 0..50 {
        let sent = pattern(round, 1500);
        client.write_all(&sent).unwrap();
        let mut left = sent.len();
        until(&mut driver, |driver, event| {
            match event {
                Event::Received { inbound: Inbound::Bytes(lease), .. } => {
                    let bytes = driver.keep(lease).expect("few are kept");
                    driver.send(to, moongate_io::Chain::One(moongate_io::Segment::whole(bytes)));
                }
                Event::Sent { outcome, .. } => left -= outcome.unwrap(),
                event => panic!("{event:?}"),
            }
            left == 0
        });
        let mut heard = vec![0; sent.len()];
        upstream.read_exact(&mut heard).unwrap();
        assert!(heard == sent);
    }
    assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
    assert_eq!(driver.counters().buffers_free, u64::from(roomy().recv_buffers));
}
