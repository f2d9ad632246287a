//! A connection comes: whoever waits in a listener's queue is taken, one listener after the other, as long as there are
//! slots.
//!
//! A connection that no slot is free for stays in the kernel's queue, and so does one that no file can be opened for.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use moongate_io::{Event, ListenerId, Time};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::{Epoll, Source};
use crate::listener::{ACCEPTS_MAX, Listener};

/// How long accepting rests after the kernel said that it has no files or no memory left (K6).
const BACK_OFF: Duration = Duration::from_millis(100);

/// What is told of a connection: all of it, once, when it changes.
pub(super) const INTEREST: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::PRI)
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::ET);

/// All listeners of a driver.
pub(super) struct Acceptors {
    listeners: Vec<Accepting>,
    /// Those in whose queue somebody may wait, first come first served.
    ready: VecDeque<ListenerId>,
    /// Until when accepting rests.
    resting: Option<Time>,
}

/// One listener.
struct Accepting {
    socket: Option<OwnedFd>,
    state: State,
    /// Whether it is among those that are ready.
    queued: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// Nobody has asked to listen.
    Quiet,
    /// Accepting.
    Listening,
    /// Taking what is in the queue; then it is closed.
    Draining,
    /// Closed.
    Closed,
}

impl Acceptors {
    /// Makes the listeners' accepts ones that do not wait.
    pub(super) fn new(listeners: Vec<Listener>) -> io::Result<Acceptors> {
        let listeners = listeners.into_iter().map(|listener| {
            rustix::io::ioctl_fionbio(&listener.socket, true)?;
            Ok(Accepting { socket: Some(listener.socket), state: State::Quiet, queued: false })
        });
        Ok(Acceptors {
            listeners: listeners.collect::<io::Result<_>>()?,
            ready: VecDeque::new(),
            resting: None,
        })
    }

    /// Somebody has come to `listener`.
    pub(super) fn woken(&mut self, listener: ListenerId) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        if !entry.queued && matches!(entry.state, State::Listening | State::Draining) {
            entry.queued = true;
            self.ready.push_back(listener);
        }
    }

    /// Whether somebody may wait, now that there is room.
    pub(super) fn can_go_on(&self) -> bool {
        self.resting.is_none() && !self.ready.is_empty()
    }

    /// When accepting wants to go on after a rest, if it rests and has anything to do.
    pub(super) fn wants_to_wake(&self) -> Option<Time> {
        self.resting.filter(|_| !self.ready.is_empty())
    }

    /// The listener's queue is empty: who only waited for that is closed.
    fn found_empty(&mut self, listener: ListenerId) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        entry.queued = false;
        if entry.state == State::Draining {
            entry.socket = None;
            entry.state = State::Closed;
        }
    }
}

impl Epoll {
    pub(super) fn start_accepting(&mut self, listener: ListenerId) {
        let entry = &mut self.acceptors.listeners[usize::from(listener.0)];
        let (State::Quiet, Some(socket)) = (entry.state, &entry.socket) else { return };
        let interest = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.epoll, socket, Source::Listener(listener).encode(), interest)
            .unwrap_or_else(|error| panic!("watching a listener: {error}"));
        entry.state = State::Listening;
    }

    /// The listener's queue is emptied and then closed (N10).
    pub(super) fn stop_accepting(&mut self, listener: ListenerId) {
        let entry = &mut self.acceptors.listeners[usize::from(listener.0)];
        match entry.state {
            State::Quiet => {
                entry.socket = None;
                entry.state = State::Closed;
            }
            State::Listening => {
                entry.state = State::Draining;
                self.acceptors.woken(listener);
            }
            State::Draining | State::Closed => {}
        }
    }

    /// Takes who waits, until there are `enough` events.
    pub(super) fn accept_some(&mut self, enough: usize, events: &mut Vec<Event>) {
        if self.acceptors.resting.is_some_and(|until| self.clock.now < until) {
            return;
        }
        self.acceptors.resting = None;
        for _ in 0..ACCEPTS_MAX {
            if events.len() >= enough || self.slots.used() >= self.capacity {
                return;
            }
            let Some(listener) = self.acceptors.ready.pop_front() else { return };
            match self.accept(listener) {
                Ok((socket, peer)) => events.extend(self.welcome(socket, listener, peer)),
                Err(Errno::AGAIN) => {
                    self.acceptors.found_empty(listener);
                    continue;
                }
                Err(error) => self.accept_failed(error),
            }
            self.acceptors.ready.push_back(listener);
            if self.acceptors.resting.is_some() {
                return;
            }
        }
    }

    fn accept(&mut self, listener: ListenerId) -> Result<(OwnedFd, SocketAddr), Errno> {
        let entry = &self.acceptors.listeners[usize::from(listener.0)];
        let socket = entry.socket.as_ref().expect("a listener stays until its queue is empty");
        self.enters += 1;
        let (socket, peer) = acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        // Neither can be missing: the listener is of one of the two families.
        Ok((socket, SocketAddr::try_from(peer.ok_or(Errno::AFNOSUPPORT)?)?))
    }

    fn welcome(&mut self, socket: OwnedFd, listener: ListenerId, peer: SocketAddr) -> Option<Event> {
        let conn = self.slots.occupy();
        if let Err(error) = epoll::add(&self.epoll, &socket, Source::Tcp(conn).encode(), INTEREST) {
            // Only for lack of memory, or of watches (`fs.epoll.max_user_watches`).
            self.slots.free(conn);
            self.accept_failed(error);
            return None;
        }
        self.slots.get(conn).expect("it came just now").socket = Some(socket);
        Some(Event::Accepted { conn, listener, peer })
    }

    pub(super) fn accept_failed(&mut self, error: Errno) {
        match error {
            Errno::INTR => {}
            // accept(2): errors of the new connection, not of the listener.
            Errno::CONNABORTED
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::TIMEDOUT => self.counters.accept_aborted += 1,
            // Our own mistakes.
            Errno::BADF | Errno::FAULT | Errno::INVAL | Errno::NOTSOCK | Errno::AFNOSUPPORT => {
                panic!("accept: {error}")
            }
            // K6: EMFILE, ENFILE, ENOMEM, ENOBUFS: the machine is short of something; at once again would be a hot loop.
            _ => {
                self.counters.accept_errors += 1;
                self.acceptors.resting = Some(self.clock.now + BACK_OFF);
            }
        }
    }
}
