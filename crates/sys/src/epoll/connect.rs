//! A connection is made: its socket has a slot from the start, and is connected when it can be written to.
//!
//! Nobody above knows the slot's tenant before that: an attempt that fails or is cancelled leaves its slot without a word.

use std::collections::HashMap;
use std::io;

use moongate_io::{ConnId, ConnectFault, Event, Remote, Ticket};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;

use super::accept::INTEREST;
use super::slots::Writing;
use super::{Epoll, Source};
use crate::socket::{self, SocketOptions, fault_of};

/// All attempts under way.
pub(super) struct Connects {
    options: SocketOptions,
    by_ticket: HashMap<Ticket, ConnId>,
    by_conn: HashMap<ConnId, Ticket>,
}

impl Connects {
    pub(super) fn new(options: SocketOptions) -> Connects {
        Connects { options, by_ticket: HashMap::new(), by_conn: HashMap::new() }
    }

    fn insert(&mut self, ticket: Ticket, conn: ConnId) {
        let before = self.by_ticket.insert(ticket, conn);
        assert!(before.is_none(), "a ticket names one attempt at a time");
        self.by_conn.insert(conn, ticket);
    }

    fn remove(&mut self, conn: ConnId) -> Ticket {
        let ticket = self.by_conn.remove(&conn).expect("an attempt ends once");
        self.by_ticket.remove(&ticket);
        ticket
    }
}

impl Epoll {
    pub(super) fn start_connecting(&mut self, ticket: Ticket, remote: &Remote) {
        match self.begin_connecting(remote) {
            Ok(conn) => self.connects.insert(ticket, conn),
            Err(error) => self.not_connected(ticket, error.raw_os_error().unwrap_or(0)),
        }
    }

    fn begin_connecting(&mut self, remote: &Remote) -> io::Result<ConnId> {
        if self.slots.used() >= self.capacity {
            return Err(Errno::NFILE.into());
        }
        self.enters += 1;
        let socket = socket::begin_connect(remote, &self.connects.options)?;
        let conn = self.slots.occupy();
        // What has happened already is told like what will.
        let source = match remote {
            Remote::Tcp(_) => Source::Tcp(conn),
            Remote::Unix(_) => Source::Unix(conn),
        };
        if let Err(error) = epoll::add(&self.epoll, &socket, source.encode(), INTEREST) {
            self.slots.free(conn);
            // ENOSPC: there are no watches left (`fs.epoll.max_user_watches`).
            return Err(if error == Errno::NOSPC { Errno::NFILE.into() } else { error.into() });
        }
        let slot = self.slots.get(conn).expect("it came just now");
        slot.socket = Some(socket);
        slot.writing = Writing::Connecting;
        Ok(conn)
    }

    /// Tells what came of an attempt whose socket can be written to, if `conn` is one.
    pub(super) fn connect_if_connecting(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn).filter(|slot| slot.writing == Writing::Connecting) else {
            return;
        };
        let socket = slot.socket.as_ref().expect("an open connection has a socket");
        let outcome = socket_error(socket).unwrap_or_else(|error| panic!("asking for SO_ERROR: {error}"));
        let ticket = self.connects.remove(conn);
        match outcome {
            Ok(()) => {
                slot.writing = Writing::Open;
                self.told.push_back(Event::Connected { ticket, outcome: Ok(conn) });
            }
            Err(error) => {
                self.leave(conn);
                self.not_connected(ticket, error.raw_os_error());
            }
        }
    }

    /// Ends an attempt, also one whose end waits to be told.
    pub(super) fn stop_connecting(&mut self, ticket: Ticket) {
        if let Some(conn) = self.connects.by_ticket.get(&ticket).copied() {
            self.connects.remove(conn);
            self.leave(conn);
            self.told.push_back(cancelled(ticket));
            return;
        }
        let ended = self.told.iter_mut().find_map(|event| match event {
            Event::Connected { ticket: ended, outcome } if *ended == ticket => Some(outcome),
            _ => None,
        });
        let Some(outcome) = ended else { return };
        if let Ok(conn) = std::mem::replace(outcome, Err(ConnectFault::Cancelled)) {
            self.leave(conn);
        }
    }

    /// Closes a socket that nobody above knows.
    fn leave(&mut self, conn: ConnId) {
        self.slots.get(conn).expect("an attempt keeps its slot").socket = None;
        self.slots.free(conn);
    }

    fn not_connected(&mut self, ticket: Ticket, errno: i32) {
        self.counters.connect_errors += 1;
        self.told.push_back(Event::Connected { ticket, outcome: Err(fault_of(errno)) });
    }
}

fn cancelled(ticket: Ticket) -> Event {
    Event::Connected { ticket, outcome: Err(ConnectFault::Cancelled) }
}
