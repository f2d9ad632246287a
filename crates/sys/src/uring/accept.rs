//! A connection comes: single-shot accepts into direct descriptors, each with its own place for the peer's address.
//!
//! There are never more accepts with the kernel than free slots, because an accept that finds the table full takes
//! the connection and drops it. Accepts that have no slot to hope for stand in a queue until one is freed.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, DestinationSlot, Fd};
use io_uring::{opcode, squeue};
use moongate_io::{Event, ListenerId, Time};

use super::Uring;
use super::token::{Operation, Token};
use crate::listener::{ACCEPTS_MAX, Listener};

/// How long accepting rests after the kernel said that it has no files or no memory left (K6).
const BACK_OFF: Duration = Duration::from_millis(100);

/// All listeners of a driver, and all their accepts, numbered through.
pub(super) struct Acceptors {
    listeners: Vec<Accepting>,
    /// How many accepts each listener has: [`ACCEPTS_MAX`], or its share of a table smaller than that. A wait arms each once.
    accepts: u32,
    /// One for each accept; the kernel writes here while the accept is armed.
    peers: Box<[UnsafeCell<Peer>]>,
    /// Accepts that are not with the kernel but want to be, first come first served.
    pub(super) idle: VecDeque<u32>,
    /// How many are with the kernel.
    armed: u32,
    /// For each accept, whether it was armed only to look into the queue of a listener that ends.
    last_look: Box<[bool]>,
    /// Until when accepting rests.
    resting: Option<Time>,
}

/// One listener.
struct Accepting {
    socket: Option<OwnedFd>,
    state: State,
    /// How many of its accepts are with the kernel.
    armed: u32,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// Nobody has asked to listen.
    Quiet,
    /// Accepting.
    Listening,
    /// Taking what is in the queue; so many accepts have not found it empty yet.
    Draining(u32),
    /// Closed.
    Closed,
}

impl Acceptors {
    pub(super) fn new(listeners: Vec<Listener>, slots: u32) -> Acceptors {
        let count = listeners.len() as u32;
        let accepts = slots.checked_div(count).unwrap_or(0).clamp(1, ACCEPTS_MAX);
        let listeners = listeners
            .into_iter()
            .map(|listener| Accepting { socket: Some(listener.socket), state: State::Quiet, armed: 0 })
            .collect();
        let peers = (0..count * accepts).map(|_| UnsafeCell::default()).collect();
        let last_look = vec![false; (count * accepts) as usize].into_boxed_slice();
        Acceptors { listeners, accepts, peers, idle: VecDeque::new(), armed: 0, last_look, resting: None }
    }

    /// Puts the listener's accepts in line; the next wait arms them.
    pub(super) fn listen(&mut self, listener: ListenerId) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        if entry.state == State::Quiet {
            entry.state = State::Listening;
            let first = u32::from(listener.0) * self.accepts;
            self.idle.extend(first..first + self.accepts);
        }
    }

    /// When accepting wants to go on after a rest, if it rests and has anything to do.
    pub(super) fn wants_to_wake(&self) -> Option<Time> {
        self.resting.filter(|_| !self.idle.is_empty())
    }

    /// How many accepts are with the kernel, each of which may take a slot.
    pub(super) fn armed(&self) -> u32 {
        self.armed
    }

    fn listener_of(&self, accept: u32) -> ListenerId {
        ListenerId((accept / self.accepts) as u16)
    }

    /// One more accept of a draining listener found nothing: the last one closes it.
    fn found_empty(&mut self, listener: ListenerId) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        entry.state = match entry.state {
            State::Draining(1) => {
                entry.socket = None;
                State::Closed
            }
            State::Draining(left) => State::Draining(left - 1),
            state => unreachable!("only a draining listener finds its queue empty, not one {state:?}"),
        };
    }

    /// Counts an accept as the kernel's, and makes its submission.
    pub(super) fn arm(&mut self, accept: u32) -> squeue::Entry {
        let listener = &mut self.listeners[(accept / self.accepts) as usize];
        let socket = listener.socket.as_ref().expect("a listener stays until its last accept has ended");
        listener.armed += 1;
        self.armed += 1;
        self.last_look[accept as usize] = matches!(listener.state, State::Draining(_));
        let peer = self.peers[accept as usize].get();
        // SAFETY: `peer` is valid, and no accept of this number is with the kernel, so nobody else writes to it.
        // Only places inside it are named, no reference is made.
        let (name, len) = unsafe {
            (*peer).len = PEER_LEN;
            (&raw mut (*peer).name, &raw mut (*peer).len)
        };
        let entry = opcode::Accept::new(Fd(socket.as_raw_fd()), name.cast(), len)
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        Token::own(Operation::Accept, accept).mark(entry)
    }

    /// An accept has come back from the kernel; says of which listener, and whether it was a last look.
    fn disarm(&mut self, accept: u32) -> (ListenerId, bool) {
        let listener = self.listener_of(accept);
        self.listeners[usize::from(listener.0)].armed -= 1;
        self.armed -= 1;
        (listener, self.last_look[accept as usize])
    }
}

impl Uring {
    /// Arms the accepts in line, as far as there are slots for what they bring.
    pub(super) fn accept_again(&mut self) {
        if self.acceptors.resting.is_some_and(|until| self.now < until) {
            return;
        }
        self.acceptors.resting = None;
        let mut looking = false;
        while self.slots.used() + self.connects.moving() + self.acceptors.armed < self.capacity {
            let Some(accept) = self.acceptors.idle.pop_front() else { break };
            let entry = self.acceptors.arm(accept);
            // SAFETY: the address it points to is in a boxed slice that lives as long as the driver, which does not go
            // before its last operation; it is not looked at before the accept has ended.
            unsafe { self.ring.push(entry) };
            looking |= self.acceptors.last_look[accept as usize];
        }
        // A last look is cancelled right behind: it takes what is there, or finds that nothing is.
        if looking {
            self.cancel_last_looks();
        }
    }

    fn cancel_last_looks(&mut self) {
        for listener in 0..self.acceptors.listeners.len() {
            if matches!(self.acceptors.listeners[listener].state, State::Draining(_)) {
                self.cancel_accepts(ListenerId(listener as u16));
            }
        }
    }

    /// An accept ended.
    pub(super) fn accepted(&mut self, accept: u32, result: i32, events: &mut Vec<Event>) {
        let (listener, last_look) = self.acceptors.disarm(accept);
        match -result {
            slot if slot <= 0 => {
                let conn = self.slots.occupy(result as u32);
                // SAFETY: the accept has ended, so the kernel does not write here any more.
                let peer = unsafe { &*self.acceptors.peers[accept as usize].get() }.address();
                events.push(Event::Accepted { conn, listener, peer });
            }
            // Cancelled while it waited; when a last look does, nothing is there to be taken. Without either the
            // driver itself is at its end.
            libc::ECANCELED if last_look => return self.acceptors.found_empty(listener),
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => {}
            // accept(2): errors of the new connection, not of the listener.
            libc::ECONNABORTED
            | libc::EPERM
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENONET
            | libc::ETIMEDOUT => self.counters.accept_aborted += 1,
            // Our own mistakes.
            errno @ (libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK) => {
                panic!("accept: {}", io::Error::from_raw_os_error(errno))
            }
            // K6: EMFILE, ENFILE, ENOMEM, ENOBUFS: the machine is short of something; at once again would be a hot loop.
            _ => {
                self.counters.accept_errors += 1;
                self.acceptors.resting = Some(self.now + BACK_OFF);
            }
        }
        self.acceptors.idle.push_back(accept);
    }

    /// The listener's queue is emptied and then closed: the accepts that wait are cancelled, and each goes on without
    /// waiting until it has found the queue empty (N10).
    pub(super) fn stop_accepting(&mut self, listener: ListenerId) {
        let accepts = self.acceptors.accepts;
        let entry = &mut self.acceptors.listeners[usize::from(listener.0)];
        match entry.state {
            State::Quiet => {
                entry.socket = None;
                entry.state = State::Closed;
            }
            State::Listening => {
                entry.state = State::Draining(accepts);
                self.cancel_accepts(listener);
            }
            State::Draining(_) | State::Closed => {}
        }
    }

    fn cancel_accepts(&mut self, listener: ListenerId) {
        let entry = &self.acceptors.listeners[usize::from(listener.0)];
        let (Some(socket), true) = (&entry.socket, entry.armed > 0) else { return };
        let fd = Fd(socket.as_raw_fd());
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::fd(fd).all()).build();
        // SAFETY: a cancellation points to no memory.
        unsafe { self.ring.push(Token::own(Operation::StopAccepts, listener.0.into()).mark(cancel)) };
    }

    /// The accepts of a listener that ends have been cancelled; those that could not be found just then are again.
    pub(super) fn accepts_cancelled(&mut self, listener: u32, result: i32) {
        if matches!(-result, libc::ENOENT | libc::EALREADY) {
            self.cancel_accepts(ListenerId(listener as u16));
        }
    }
}

/// Where the kernel writes a peer's address: a `sockaddr_in` or a `sockaddr_in6`, and its length.
#[repr(C, align(4))]
#[derive(Default)]
struct Peer {
    name: [u8; size_of::<libc::sockaddr_in6>()],
    len: libc::socklen_t,
}

const PEER_LEN: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;

impl Peer {
    /// Reads ip(7) and ipv6(7): family, port, then for IPv4 the address, for IPv6 flow, address and scope.
    fn address(&self) -> SocketAddr {
        let word = |at: usize| [self.name[at], self.name[at + 1], self.name[at + 2], self.name[at + 3]];
        let port = u16::from_be_bytes([self.name[2], self.name[3]]);
        match i32::from(u16::from_ne_bytes([self.name[0], self.name[1]])) {
            libc::AF_INET => SocketAddr::new(IpAddr::V4(Ipv4Addr::from(word(4))), port),
            libc::AF_INET6 => {
                let mut octets = [0; 16];
                octets.copy_from_slice(&self.name[8..24]);
                let scope = u32::from_ne_bytes(word(24));
                SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope))
            }
            // Neither can be: the listener is of one of the two families.
            family => panic!("a peer of address family {family}"),
        }
    }
}
