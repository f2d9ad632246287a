//! Attempts to connect leave no file behind, whatever comes of them. Alone in its process, because it counts files.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use moongate_io::{ConnectFault, Driver, Event, Remote, Ticket};
use moongate_sys::{
    Epoll, EpollConfig, EventBell, SocketOptions, TokioUring, TokioUringConfig, Uring, UringConfig,
};

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One after the other, for the same reason.
#[test]
fn attempts_leave_no_files_behind() {
    let bell = EventBell::new().unwrap();
    let (slots, recv_buffers, recv_buffer_size, cpu) = (64, 16, 2048, None);
    let outbound = SocketOptions::default();
    check(|| {
        let config = UringConfig { slots, recv_buffers, ..UringConfig::default() };
        Uring::new(&config, Vec::new(), &bell).unwrap()
    });
    check(|| {
        let outbound = outbound.clone();
        let config = EpollConfig { slots, recv_buffers, recv_buffer_size, cpu, outbound };
        Epoll::new(&config, Vec::new(), &bell).unwrap()
    });
    let tokio_uring = || {
        let config = TokioUringConfig {
            ring_entries: 64,
            completion_entries: 256,
            recv_buffers,
            recv_buffer_size,
            slots,
            cpu,
            outbound: outbound.clone(),
        };
        TokioUring::new(&config, Vec::new(), &bell).unwrap()
    };
    // The first runtime leaves a pair of sockets for signals to the process, once.
    drop(tokio_uring());
    check(tokio_uring);
}

fn check<D: Driver>(build: impl FnOnce() -> D) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let remotes = [
        Remote::from(server.local_addr().unwrap()),
        Remote::from(nobody),
        Remote::Unix("/nowhere/at/all".into()),
    ];
    let before_driver = open_files();
    let mut driver = build();
    let before = open_files();
    let mut events = Vec::new();
    for round in 0..40 {
        for (number, remote) in remotes.iter().enumerate() {
            driver.connect(Ticket(round * 10 + number as u64), remote);
        }
        if round % 4 == 1 {
            driver.wait(Some(Duration::from_millis(1)), 64, &mut events);
        }
        if round % 4 < 2 {
            (0..remotes.len()).for_each(|number| driver.cancel_connect(Ticket(round * 10 + number as u64)));
        }
        let end = Instant::now() + Duration::from_secs(20);
        let (mut told, mut open) = (0, 0);
        while told < remotes.len() || open > 0 {
            for event in events.drain(..) {
                match event {
                    Event::Connected { outcome: Ok(conn), .. } => {
                        told += 1;
                        open += 1;
                        driver.close(conn);
                    }
                    Event::Connected { outcome: Err(fault), .. } => {
                        assert_ne!(fault, ConnectFault::NoRoom);
                        told += 1;
                    }
                    Event::Closed { .. } => open -= 1,
                    event => panic!("{event:?}"),
                }
            }
            driver.wait(Some(Duration::from_millis(5)), 64, &mut events);
            assert!(Instant::now() < end, "round {round} takes too long");
        }
        assert!(events.is_empty());
    }
    assert_eq!(driver.counters().slots_used, 0);
    assert_eq!(open_files(), before);
    drop(driver);
    assert_eq!(open_files(), before_driver);
}
