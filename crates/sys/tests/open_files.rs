//! K6: no more files may be open. On its own, because the limit is the whole process's.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use moongate_io::{Driver, Event, ListenerId};
use moongate_sys::{
    Epoll, EpollConfig, EventBell, Listener, SocketOptions, TokioUring, TokioUringConfig, bind,
};

const CLIENTS: usize = 20;
/// How many files may be opened at most once the clients have connected.
const SPARE: u64 = 5;

/// Sets the soft limit of open files, and says what it was.
fn limit_files(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let before = limit.rlim_cur;
    limit.rlim_cur = soft;
    // SAFETY: `limit` is readable.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    before
}

/// The lowest number that the next open file could have.
fn next_file() -> u64 {
    File::open("/dev/null").unwrap().as_raw_fd() as u64
}

/// Turns the driver for `span`; says how many came.
fn accepted(driver: &mut impl Driver, span: Duration) -> usize {
    let end = Instant::now() + span;
    let mut events = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        driver.wait(Some(left), 64, &mut events);
    }
    assert!(events.iter().all(|event| matches!(event, Event::Accepted { .. })), "{events:?}");
    events.len()
}

/// Who finds no file waits in the kernel's queue and is taken when there is one; meanwhile accepting rests and wakes by
/// itself.
fn check<D: Driver>(build: impl FnOnce(Vec<Listener>) -> D) {
    let options =
        SocketOptions { notsent_lowat: 1 << 17, user_timeout: Duration::from_secs(30), backlog: 64 };
    let (address, listeners) = bind("127.0.0.1:0".parse().unwrap(), 1, false, &options).unwrap();
    let mut driver = build(listeners);
    driver.listen(ListenerId(0));
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();

    let before = limit_files(next_file() + SPARE);
    let enters = driver.counters().enters;
    let few = accepted(&mut driver, Duration::from_millis(250));
    let counters = driver.counters();
    limit_files(before);
    assert!((1..CLIENTS).contains(&few), "{few} came");
    assert!(counters.accept_errors >= 2, "it tries every 100 ms: {counters:?}");
    assert!(counters.enters - enters < 60, "no hot loop: {counters:?}");

    let rest = accepted(&mut driver, Duration::from_millis(250));
    assert_eq!(few + rest, clients.len());
}

/// One after the other, for the same reason.
#[test]
fn k6_accepting_rests_when_files_run_out() {
    let bell = EventBell::new().unwrap();
    let (slots, recv_buffers, recv_buffer_size, cpu) = (64, 8, 64, None);
    check(|listeners| {
        let outbound = SocketOptions::default();
        let config = EpollConfig { recv_buffers, recv_buffer_size, slots, cpu, outbound };
        Epoll::new(&config, listeners, &bell).unwrap()
    });
    check(|listeners| {
        let (ring_entries, completion_entries) = (64, 256);
        let config = TokioUringConfig {
            ring_entries,
            completion_entries,
            recv_buffers,
            recv_buffer_size,
            slots,
            cpu,
            outbound: SocketOptions::default(),
        };
        TokioUring::new(&config, listeners, &bell).unwrap()
    });
}
