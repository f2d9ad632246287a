//! The driver as a small echo server, with clients of the standard library.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use crate::common::*;
use moongate_io::{ConnId, Driver, Event, Inbound};
use moongate_sys::{Uring, UringConfig};

/// What the echo server knows of a connection.
#[derive(Default)]
struct Echo {
    waiting: Vec<u8>,
    in_flight: bool,
    ended: bool,
}

impl Echo {
    fn go_on(&mut self, driver: &mut Uring, conn: ConnId) {
        if !self.in_flight && !self.waiting.is_empty() {
            self.in_flight = true;
            driver.send(conn, chain(&std::mem::take(&mut self.waiting)));
        } else if !self.in_flight && self.ended {
            driver.shutdown_write(conn);
            driver.close(conn);
        }
    }
}

/// Serves until `clients` have come and gone.
fn serve(driver: &mut Uring, clients: usize) {
    let mut echoes: HashMap<ConnId, Echo> = HashMap::new();
    let mut gone = 0;
    until(driver, |driver, event| {
        match event {
            Event::Accepted { conn, .. } => {
                assert!(echoes.insert(conn, Echo::default()).is_none());
                driver.recv(conn);
            }
            Event::Received { conn, inbound } => {
                let echo = echoes.get_mut(&conn).unwrap();
                match inbound {
                    Inbound::Bytes(mut lease) => {
                        echo.waiting.extend_from_slice(driver.bytes(&mut lease));
                        driver.release(lease);
                    }
                    Inbound::End | Inbound::Reset => echo.ended = true,
                }
                echo.go_on(driver, conn);
            }
            Event::Sent { conn, chain, outcome } => {
                let echo = echoes.get_mut(&conn).unwrap();
                echo.in_flight = false;
                let sent = outcome.unwrap_or(chain.len());
                let rest: Vec<u8> = chain
                    .segments()
                    .iter()
                    .flat_map(|segment| segment.as_slice())
                    .copied()
                    .skip(sent)
                    .collect();
                echo.waiting.splice(..0, rest);
                echo.go_on(driver, conn);
            }
            Event::Closed { conn } => {
                echoes.remove(&conn).unwrap();
                gone += 1;
            }
            Event::Bell => unreachable!("nobody rings"),
        }
        gone == clients
    });
    assert_eq!(driver.counters().slots_used, 0);
}

/// Sends `bytes` in pieces, reads as many, and expects the same.
fn converse(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let expected = bytes.len();
    let reading = thread::spawn(move || {
        let mut answer = Vec::with_capacity(expected);
        reader.read_to_end(&mut answer).unwrap();
        answer
    });
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(reading.join().unwrap() == bytes, "what comes back is what was said");
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251 + seed) as u8).collect()
}

fn check(config: &UringConfig, clients: usize, len: usize) -> moongate_io::Counters {
    let (mut driver, address) = listening(config);
    let talking: Vec<_> =
        (0..clients).map(|seed| thread::spawn(move || converse(address, &pattern(seed, len)))).collect();
    serve(&mut driver, clients);
    for client in talking {
        client.join().unwrap();
    }
    let counters = driver.counters();
    assert_eq!(counters.buffers_free, u64::from(config.recv_buffers));
    counters
}

#[test]
fn what_is_said_comes_back() {
    check(&roomy(), 1, 5);
    check(&roomy(), 20, 300_000);
}
