//! The table of connections and its end.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::common::*;
use moongate_io::{Event, Inbound, ListenerId};
use moongate_sys::{Epoll, EventBell, SetupError, TokioUring, Uring, UringConfig, machine};

on_every_driver!(
    k6_a_full_table_stops_accepting_and_goes_on_when_slots_are_free,
    a_small_table_is_shared_between_listeners,
    many_who_come_at_once_do_not_all_come_in_one_wait,
    drivers_live_on_threads_of_their_own,
);

/// Clients that do not fit wait in the kernel's queue, none is dropped, and each is served once there is room.
fn k6_a_full_table_stops_accepting_and_goes_on_when_slots_are_free<D: Real>() {
    for slots in [1, 2, 8] {
        const CLIENTS: usize = 40;
        let config = UringConfig { slots, ..roomy() };
        let (mut driver, address) = listening::<D>(&config);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(address)).collect();
        // Nobody leaves: as many come as there are slots, and no more.
        let mut present = Vec::new();
        until(&mut driver, |_, event| {
            let Event::Accepted { conn, .. } = event else { panic!("{event:?}") };
            assert!(conn.slot() < slots);
            present.push(conn);
            present.len() == slots as usize
        });
        let more = watch(&mut driver, Duration::from_millis(50));
        assert!(more.is_empty(), "{more:?}");
        // Everybody who is answered leaves, and makes room.
        for conn in &present {
            driver.send(*conn, chain(b"hi"));
        }
        let (mut here, mut served) = (present.len(), 0);
        until(&mut driver, |driver, event| {
            match event {
                Event::Accepted { conn, .. } => {
                    here += 1;
                    assert!(here <= slots as usize);
                    driver.send(conn, chain(b"hi"));
                }
                Event::Sent { conn, outcome, .. } => {
                    assert_eq!(outcome, Ok(2));
                    driver.close(conn);
                }
                Event::Closed { .. } => {
                    here -= 1;
                    served += 1;
                }
                event => panic!("{event:?}"),
            }
            served == CLIENTS
        });
        for client in &mut clients {
            let mut heard = String::new();
            client.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "hi");
        }
        assert_eq!(driver.counters().accept_errors, 0);
    }
}

/// Two listeners with one slot between them both get their turn.
fn a_small_table_is_shared_between_listeners<D: Real>() {
    let ((first, a), (second, b)) = (listener(), listener());
    let config = UringConfig { slots: 1, ..roomy() };
    let mut driver = driver::<D>(&config, vec![a, b]);
    driver.listen(ListenerId(0));
    driver.listen(ListenerId(1));
    let _clients: Vec<_> = (0..3).flat_map(|_| [connect(first), connect(second)]).collect();
    let mut taken = [0; 2];
    until(&mut driver, |driver, event| {
        if let Event::Accepted { conn, listener, .. } = event {
            taken[usize::from(listener.0)] += 1;
            driver.close(conn);
        }
        taken == [3, 3]
    });
}

/// However many come at once, each wait takes a few of them, and who is there already is heard between them.
fn many_who_come_at_once_do_not_all_come_in_one_wait<D: Real>() {
    const CLIENTS: usize = 200;
    const MOST: usize = 8;
    let (mut driver, address) = listening::<D>(&roomy());
    let mut present = connect(address);
    let (conn, _) = accept(&mut driver);
    driver.recv(conn);
    let _clients: Vec<_> = (0..CLIENTS).map(|_| connect(address)).collect();
    present.write_all(b"!").unwrap();
    until_it_has_arrived(&present);
    let (mut came, mut heard_behind, mut events) = (0, None, Vec::new());
    let end = Instant::now() + PATIENCE;
    while came < CLIENTS {
        driver.wait(Some(Duration::from_millis(50)), 256, &mut events);
        let before = came;
        for event in events.drain(..) {
            match event {
                Event::Accepted { .. } => came += 1,
                Event::Received { inbound: Inbound::Bytes(lease), .. } => {
                    heard_behind = Some(came);
                    driver.release(lease);
                }
                event => panic!("{event:?}"),
            }
        }
        assert!(came - before <= MOST, "{} in one wait", came - before);
        assert!(Instant::now() < end, "{came} have come; {:?}", driver.counters());
    }
    assert!(heard_behind.is_some_and(|count| count < CLIENTS / 2), "heard behind {heard_behind:?}");
}

#[test]
fn what_cannot_be_built_says_why() {
    fn check<D: Real>(config: UringConfig, expect: &str) -> SetupError {
        let error = D::build(&config, Vec::new(), &EventBell::new().unwrap()).err().expect(expect);
        assert!(error.to_string().contains(expect), "{error}");
        error
    }
    fn check_all<D: Real>() {
        check::<D>(UringConfig { recv_buffers: 0, ..roomy() }, "recv_buffers is 0, but must be");
        check::<D>(UringConfig { recv_buffer_size: 0, ..roomy() }, "recv_buffer_size is 0");
        check::<D>(UringConfig { slots: 0, ..roomy() }, "slots is 0");
        check::<D>(UringConfig { slots: 1 << 24, ..roomy() }, "slots is 16777216");
        check::<D>(UringConfig { cpu: Some(8000), ..roomy() }, "cannot keep a shard on CPU 8000");
    }
    check_all::<Uring>();
    check_all::<TokioUring>();
    check_all::<Epoll>();
    let three = UringConfig { recv_buffers: 3, ..roomy() };
    check::<Uring>(three, "recv_buffers is 3, but must be a power of two");
    fn check_rings<D: Real>() {
        check::<D>(UringConfig { ring_entries: 0, ..roomy() }, "ring_entries is 0");
        check::<D>(UringConfig { completion_entries: 1, ..roomy() }, "completion_entries is 1");
    }
    check_rings::<Uring>();
    check_rings::<TokioUring>();
    let error = check::<Uring>(UringConfig { slots: (1 << 24) - 1, ..roomy() }, "RLIMIT_NOFILE");
    assert!(matches!(error, SetupError::Missing(_)));
}

/// The driver can be built on any thread, one for each, all at once, pinned or not.
fn drivers_live_on_threads_of_their_own<D: Real>() {
    let cpus = machine::allowed_cpus().unwrap();
    let threads: Vec<_> = (0..4_u8)
        .map(|seed| {
            let (all, cpu) = (cpus.clone(), (seed % 2 == 0).then(|| cpus[usize::from(seed) % cpus.len()]));
            std::thread::spawn(move || {
                let (mut driver, address) = listening::<D>(&UringConfig { cpu, ..roomy() });
                let expected = cpu.map_or(all, |cpu| vec![cpu]);
                assert_eq!(machine::allowed_cpus().unwrap(), expected);
                let mut client = connect(address);
                let (conn, _) = accept(&mut driver);
                driver.recv(conn);
                client.write_all(&[seed]).unwrap();
                until(&mut driver, |driver, event| {
                    let Event::Received { inbound: Inbound::Bytes(mut lease), .. } = event else {
                        panic!("{event:?}")
                    };
                    assert_eq!(driver.bytes(&mut lease), [seed]);
                    driver.release(lease);
                    true
                });
                driver.random()
            })
        })
        .collect();
    let numbers: HashSet<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(numbers.len(), 4);
}
