//! How connections end: by the peer, by us, softly and hard.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::common::*;
use moongate_io::{Event, Inbound};

on_every_driver!(
    the_peers_address_is_known,
    a_half_closed_peer_is_heard_to_the_end_and_answered,
    a_peer_that_resets_is_told_once,
    n3_closing_under_an_armed_receive_sends_fin_and_frees_the_slot,
    closing_at_once_after_accepting_sends_fin,
    an_abort_resets_the_peer,
    n7_leases_outlive_their_connection,
    n1_a_driver_ends_with_operations_under_way,
    a_peer_that_is_gone_before_it_is_accepted_is_still_named,
    what_follows_urgent_data_is_heard,
);

fn the_peers_address_is_known<D: Real>() {
    let (mut driver, address) = listening::<D>(&roomy());
    let clients: Vec<_> = (0..50).map(|_| connect(address)).collect();
    let mut peers = Vec::new();
    until(&mut driver, |_, event| {
        let Event::Accepted { peer, .. } = event else { panic!("{event:?}") };
        peers.push(peer);
        peers.len() == clients.len()
    });
    let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    peers.sort();
    expected.sort();
    assert_eq!(peers, expected);
}

fn a_half_closed_peer_is_heard_to_the_end_and_answered<D: Real>() {
    let (mut driver, mut client, conn) = connected::<D>();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    driver.recv(conn);
    assert_eq!(hear_out(&mut driver), b"last words");
    driver.send(conn, chain(b"farewell"));
    driver.shutdown_write(conn);
    until(&mut driver, |_, event| matches!(event, Event::Sent { outcome: Ok(8), .. }));
    driver.close(conn);
    closed(&mut driver, conn);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "farewell");
}

fn a_peer_that_resets_is_told_once<D: Real>() {
    let (mut driver, client, conn) = connected::<D>();
    driver.recv(conn);
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
    reset(client);
    until(&mut driver, |_, event| {
        assert!(matches!(event, Event::Received { inbound: Inbound::Reset, .. }), "{event:?}");
        true
    });
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty());
    driver.recv(conn);
    driver.resume(conn);
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty(), "it is over");
    driver.close(conn);
    driver.close(conn);
    closed(&mut driver, conn);
    driver.close(conn);
    assert!(watch(&mut driver, Duration::from_millis(20)).is_empty(), "a name that is gone is nobody's");
}

/// N3: the receive is cancelled and its end waited for, or no FIN would go out; N2, N12: the next tenant is another.
fn n3_closing_under_an_armed_receive_sends_fin_and_frees_the_slot<D: Real>() {
    let (mut driver, address) = listening::<D>(&roomy());
    for round in 0..20 {
        let mut client = connect(address);
        let (conn, _) = accept(&mut driver);
        driver.recv(conn);
        assert!(watch(&mut driver, Duration::from_millis(2)).is_empty());
        assert_eq!(driver.counters().slots_used, 1);
        driver.close(conn);
        until(&mut driver, |_, event| {
            assert!(matches!(event, Event::Closed { conn: who } if who == conn), "round {round}: {event:?}");
            true
        });
        assert_eq!(driver.counters().slots_used, 0);
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "FIN, not silence and not RST");

        let mut next = connect(address);
        let (tenant, _) = accept(&mut driver);
        assert_ne!(tenant, conn);
        driver.recv(tenant);
        next.write_all(b"mine").unwrap();
        // Whoever still uses the old name reaches nobody.
        driver.pause(conn);
        driver.close(conn);
        driver.abort(conn);
        until(&mut driver, |driver, event| {
            let Event::Received { conn: who, inbound: Inbound::Bytes(mut lease) } = event else {
                panic!("{event:?}")
            };
            assert_eq!((who, &*driver.bytes(&mut lease)), (tenant, &b"mine"[..]));
            driver.release(lease);
            true
        });
        driver.close(tenant);
        closed(&mut driver, tenant);
    }
}

fn closing_at_once_after_accepting_sends_fin<D: Real>() {
    let (mut driver, mut client, conn) = connected::<D>();
    driver.close(conn);
    closed(&mut driver, conn);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

fn an_abort_resets_the_peer<D: Real>() {
    for (receiving, pending) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut driver, mut client, conn) = connected::<D>();
        if receiving {
            driver.recv(conn);
            assert!(watch(&mut driver, Duration::from_millis(5)).is_empty());
        }
        if pending {
            driver.send(conn, chain(b"this is discarded or not, but followed by RST"));
        }
        driver.abort(conn);
        driver.close(conn);
        let mut story = Vec::new();
        until(&mut driver, |_, event| {
            let over = matches!(event, Event::Closed { .. });
            story.push(event);
            over
        });
        assert_eq!(story.len(), 1 + usize::from(pending), "{story:?}");
        let error = loop {
            match client.read(&mut [0; 64]) {
                Ok(0) => panic!("FIN instead of RST"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(driver.counters().slots_used, 0);
    }
}

/// Leases that are out when their connection is closed still come home (N7).
fn n7_leases_outlive_their_connection<D: Real>() {
    let (mut driver, mut client, conn) = connected::<D>();
    driver.recv(conn);
    client.write_all(b"keep this").unwrap();
    let mut kept = None;
    until(&mut driver, |_, event| {
        let Event::Received { inbound: Inbound::Bytes(lease), .. } = event else { panic!("{event:?}") };
        kept = Some(lease);
        true
    });
    driver.close(conn);
    closed(&mut driver, conn);
    let mut lease = kept.unwrap();
    assert_eq!(driver.bytes(&mut lease), b"keep this");
    let counters = driver.counters();
    assert_eq!(counters.buffers_free, u64::from(roomy().recv_buffers) - 1);
    driver.release(lease);
    assert_eq!(driver.counters().buffers_free, u64::from(roomy().recv_buffers));
}

/// A driver that ends closes what it holds, though receives and a send are with the kernel (N1).
fn n1_a_driver_ends_with_operations_under_way<D: Real>() {
    let (mut driver, address) = listening::<D>(&roomy());
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(connect(address));
        let (conn, _) = accept(&mut driver);
        driver.recv(conn);
    }
    clients[0].write_all(b"never read").unwrap();
    drop(driver);
    for client in &mut clients {
        // RST where something was not read.
        assert!(client.read(&mut [0; 8]).unwrap_or(0) == 0);
    }
    assert_eq!(std::net::TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Who has reset before being accepted is still known by address, and told as reset.
fn a_peer_that_is_gone_before_it_is_accepted_is_still_named<D: Real>() {
    let (mut driver, address) = listening::<D>(&roomy());
    let mut expected = Vec::new();
    for _ in 0..50 {
        let client = connect(address);
        expected.push(client.local_addr().unwrap());
        reset(client);
    }
    let (mut peers, mut gone) = (Vec::new(), 0);
    until(&mut driver, |driver, event| {
        match event {
            Event::Accepted { conn, peer, .. } => {
                peers.push(peer);
                driver.recv(conn);
            }
            Event::Received { conn, inbound } => {
                assert!(matches!(inbound, Inbound::Reset), "{inbound:?}");
                driver.close(conn);
            }
            Event::Closed { .. } => gone += 1,
            event => panic!("{event:?}"),
        }
        gone == expected.len()
    });
    peers.sort();
    expected.sort();
    assert_eq!(peers, expected);
}

/// RFC 9293 §3.8.5: urgent data ends a read early, and must not hide what is behind it.
fn what_follows_urgent_data_is_heard<D: Real>() {
    let (mut driver, mut client, conn) = connected::<D>();
    driver.recv(conn);
    let mut expected = Vec::new();
    for round in 0..100 {
        let before = pattern(round, 1 + round * 7);
        client.write_all(&before).unwrap();
        // SAFETY: the byte lives through the call, which gets its true length.
        let sent = unsafe { libc::send(client.as_raw_fd(), (&raw const round).cast(), 1, libc::MSG_OOB) };
        assert_eq!(sent, 1);
        client.write_all(b"behind").unwrap();
        expected.extend_from_slice(&before);
        expected.extend_from_slice(b"behind");
        let mut heard = 0;
        let wanted = before.len() + 6;
        until(&mut driver, |driver, event| {
            let Event::Received { inbound: Inbound::Bytes(mut lease), .. } = event else {
                panic!("{event:?}")
            };
            let bytes = driver.bytes(&mut lease);
            assert_eq!(bytes, &expected[expected.len() - wanted + heard..][..bytes.len()]);
            heard += bytes.len();
            driver.release(lease);
            heard == wanted
        });
    }
    driver.close(conn);
    closed(&mut driver, conn);
}
