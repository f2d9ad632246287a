//! Binding: one address, one gateway, one socket per shard; and the end of listening.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::common::*;
use moongate_io::{Event, ListenerId};
use moongate_sys::{BindError, Listener, UringConfig, bind};

on_every_driver!(
    ipv6_takes_ipv6_only_and_tells_its_peers,
    n10_unlisten_takes_what_has_connected,
    a_listener_that_never_listened_can_be_closed,
    two_listeners_are_told_apart,
    n10_listeners_end_together,
);

fn here() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn refused(result: Result<(SocketAddr, Vec<Listener>), BindError>) {
    let error = result.expect_err("somebody listens there already");
    assert!(error.is_in_use(), "{error}");
    assert!(error.to_string().contains("somebody else listens on"), "{error}");
}

#[test]
fn a_port_is_ours_alone_unless_shared() {
    for (shards, local) in [(1, "127.0.0.1:0"), (3, "127.0.0.1:0"), (2, "[::1]:0")] {
        let (address, listeners) = bind(local.parse().unwrap(), shards, false, &OPTIONS).unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(listeners.len(), shards);
        assert!(listeners.iter().all(|listener| listener.address() == address));
        refused(bind(address, 1, false, &OPTIONS));
        refused(bind(address, 2, false, &OPTIONS));
        drop(listeners);
        bind(address, shards, false, &OPTIONS).unwrap_or_else(|error| panic!("free again: {error}"));
    }
}

#[test]
fn a_foreign_listener_is_noticed_also_if_it_would_share() {
    let foreign = TcpListener::bind(here()).unwrap();
    refused(bind(foreign.local_addr().unwrap(), 2, false, &OPTIONS));
    refused(bind(foreign.local_addr().unwrap(), 2, true, &OPTIONS));
    let (address, _sharing) = bind(here(), 2, true, &OPTIONS).unwrap();
    refused(bind(address, 2, false, &OPTIONS));
    bind(address, 2, true, &OPTIONS).unwrap_or_else(|error| panic!("both share: {error}"));
}

#[test]
fn of_two_that_start_at_once_one_wins_at_most() {
    let mut winners = 0;
    for _ in 0..300 {
        let address = {
            let (address, _listeners) = bind(here(), 1, false, &OPTIONS).unwrap();
            address
        };
        let start = Arc::new(Barrier::new(2));
        let racers: Vec<_> = (0..2)
            .map(|_| {
                let start = start.clone();
                thread::spawn(move || {
                    start.wait();
                    bind(address, 2, false, &OPTIONS)
                })
            })
            .collect();
        // Both results are kept until both are there, so that no winner leaves early.
        let results: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert!(won <= 1);
        winners += won;
    }
    assert!(winners > 0);
}

/// A restart does not wait for TIME_WAIT to pass.
#[test]
fn a_port_can_be_taken_over_from_the_dead() {
    let (address, listeners) = bind(here(), 1, false, &OPTIONS).unwrap();
    let client = connect(address);
    let server = TcpListener::from(listeners[0].as_fd().try_clone_to_owned().unwrap()).accept().unwrap().0;
    drop((server, listeners));
    drop(client);
    bind(address, 1, false, &OPTIONS).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_address_that_is_not_ours_is_refused() {
    let error = bind("192.0.2.1:0".parse().unwrap(), 1, false, &OPTIONS).unwrap_err();
    assert!(error.to_string().contains("does not have the address 192.0.2.1"), "{error}");
}

fn get(socket: &impl AsFd, level: i32, name: i32) -> i32 {
    let (mut value, mut len) = (0_i32, size_of::<i32>() as libc::socklen_t);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` and `len` are writable, and `len` is the length of `value`.
    let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value
}

#[test]
fn every_socket_gets_connections_that_inherit_the_options() {
    const CONNECTIONS: usize = 90;
    let (address, listeners) = bind(here(), 3, false, &OPTIONS).unwrap();
    let _clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    let mut total = 0;
    for listener in &listeners {
        let listener = TcpListener::from(listener.as_fd().try_clone_to_owned().unwrap());
        listener.set_nonblocking(true).unwrap();
        let accepted: Vec<TcpStream> =
            std::iter::from_fn(|| listener.accept().ok()).map(|(stream, _)| stream).collect();
        assert!(!accepted.is_empty(), "also the first, which had no SO_REUSEPORT when it began to listen");
        for stream in &accepted {
            assert_eq!(get(stream, libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
            assert_eq!(get(stream, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), 128 * 1024);
            assert_eq!(get(stream, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 30_000);
        }
        total += accepted.len();
    }
    assert_eq!(total, CONNECTIONS);
}

fn ipv6_takes_ipv6_only_and_tells_its_peers<D: Real>() {
    let (address, mut listeners) = bind("[::1]:0".parse().unwrap(), 1, false, &OPTIONS).unwrap();
    assert_eq!(get(&listeners[0], libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), 1);
    let mut driver = driver::<D>(&roomy(), vec![listeners.remove(0)]);
    driver.listen(ListenerId(0));
    let client = connect(address);
    assert_eq!(accept(&mut driver).1, client.local_addr().unwrap());
}

/// N10: who had connected is taken, also with fewer slots than connections; then nobody listens any more.
fn n10_unlisten_takes_what_has_connected<D: Real>() {
    const CONNECTIONS: usize = 300;
    for (slots, listens) in [(1024, true), (1024, false), (16, true)] {
        let (address, listener) = listener();
        let config = UringConfig { slots, ..roomy() };
        let mut driver = driver::<D>(&config, vec![listener]);
        driver.listen(ListenerId(0));
        if listens {
            assert!(watch(&mut driver, Duration::from_millis(5)).is_empty(), "accepts are waiting");
        }
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(address)).collect();
        driver.unlisten(ListenerId(0));
        driver.unlisten(ListenerId(0));
        let (mut names, mut gone) = (HashSet::new(), 0);
        until(&mut driver, |driver, event| {
            match event {
                Event::Accepted { conn, .. } => {
                    assert!(names.insert(conn));
                    driver.close(conn);
                }
                Event::Closed { .. } => gone += 1,
                event => panic!("{event:?}"),
            }
            gone == CONNECTIONS
        });
        // The last accepts find the queue empty, and the listener closes.
        assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(clients);
    }
}

fn a_listener_that_never_listened_can_be_closed<D: Real>() {
    let (address, listener) = listener();
    let mut driver = driver::<D>(&roomy(), vec![listener]);
    driver.unlisten(ListenerId(0));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    driver.listen(ListenerId(0));
    assert!(watch(&mut driver, Duration::from_millis(10)).is_empty());
}

fn two_listeners_are_told_apart<D: Real>() {
    let ((first, a), (second, b)) = (listener(), listener());
    let mut driver = driver::<D>(&roomy(), vec![a, b]);
    driver.listen(ListenerId(0));
    driver.listen(ListenerId(1));
    for (address, id) in [(first, 0), (second, 1), (first, 0)] {
        let _client = connect(address);
        until(&mut driver, |_, event| {
            assert!(matches!(event, Event::Accepted { listener, .. } if listener == ListenerId(id)));
            true
        });
    }
}

/// N10: several listeners end at once, with one slot between them.
fn n10_listeners_end_together<D: Real>() {
    const CONNECTIONS: usize = 20;
    let ((first, a), (second, b)) = (listener(), listener());
    let config = UringConfig { slots: 1, ..roomy() };
    let mut driver = driver::<D>(&config, vec![a, b]);
    for id in [0, 1] {
        driver.listen(ListenerId(id));
    }
    let clients: Vec<_> = (0..CONNECTIONS).flat_map(|_| [connect(first), connect(second)]).collect();
    for id in [0, 1] {
        driver.unlisten(ListenerId(id));
    }
    let mut gone = 0;
    until(&mut driver, |driver, event| {
        match event {
            Event::Accepted { conn, .. } => driver.close(conn),
            Event::Closed { .. } => gone += 1,
            event => panic!("{event:?}"),
        }
        gone == 2 * CONNECTIONS
    });
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
    for address in [first, second] {
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    drop(clients);
}
