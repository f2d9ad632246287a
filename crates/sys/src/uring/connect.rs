//! A connection is made: a plain socket with its options, moved into a slot that the kernel chooses, then connected.
//!
//! Options can only be set on a plain descriptor, and a connection must have a direct one. So an attempt has two steps
//! with the kernel. The slot has a tenant from the first of them on, whom nobody above knows before it is connected: an
//! attempt that fails or is cancelled leaves its slot without a word. Unix sockets are connected before they move in,
//! because that never waits.

use std::cell::UnsafeCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::opcode;
use io_uring::types::Fixed;
use moongate_io::{ConnId, ConnectFault, Event, Remote, Ticket};

use super::Uring;
use super::token::{Operation, Token};
use crate::socket::{self, Address, SocketOptions, fault_of};

/// The `offset` that asks for any free slot (`IORING_FILE_INDEX_ALLOC`).
pub(crate) const ANY_SLOT: i32 = -1;

/// All attempts under way.
pub(super) struct Connects {
    options: SocketOptions,
    attempts: Vec<Place>,
    free: Vec<u32>,
    by_ticket: HashMap<Ticket, u32>,
    /// What came to nothing at once; the next wait tells.
    failed: VecDeque<(Ticket, ConnectFault)>,
    /// How many sockets are on their way into a slot.
    moving: u32,
}

/// A place for an attempt, and which one has it now or will have it next.
#[derive(Default)]
struct Place {
    generation: u32,
    attempt: Option<Box<Attempt>>,
}

struct Attempt {
    ticket: Ticket,
    cancelled: bool,
    /// Where to; none for a socket that is connected already.
    address: Option<Address>,
    step: Step,
    /// The plain descriptor; the kernel writes the slot over it.
    file: UnsafeCell<RawFd>,
}

enum Step {
    /// The socket is moving into a slot.
    Moving { _socket: OwnedFd },
    /// It is connecting there.
    Connecting { conn: ConnId },
}

impl Connects {
    pub(super) fn new(options: SocketOptions) -> Connects {
        Connects {
            options,
            attempts: Vec::new(),
            free: Vec::new(),
            by_ticket: HashMap::new(),
            failed: VecDeque::new(),
            moving: 0,
        }
    }

    /// How many slots are spoken for beyond those in use.
    pub(super) fn moving(&self) -> u32 {
        self.moving
    }

    /// Whether the next wait has something to tell.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// A socket for `remote`, and where it is still to be connected to.
    fn open(&self, remote: &Remote) -> io::Result<(OwnedFd, Option<Address>)> {
        match remote {
            Remote::Tcp(address) => Ok((self.tcp(*address)?, Some(Address::tcp(*address)))),
            Remote::Unix(path) => Ok((socket::connected_unix(path)?, None)),
        }
    }

    fn tcp(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        socket::tcp(address, &self.options)
    }

    /// The attempt that a completion is of, unless it is over (N2).
    fn get(&mut self, token: ConnId) -> Option<&mut Attempt> {
        let place = self.attempts.get_mut(token.slot() as usize)?;
        if place.generation == token.generation() { place.attempt.as_deref_mut() } else { None }
    }

    fn insert(&mut self, attempt: Attempt) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.attempts.push(Place::default());
            self.attempts.len() as u32 - 1
        });
        let before = self.by_ticket.insert(attempt.ticket, index);
        assert!(before.is_none(), "a ticket names one attempt at a time");
        let place = &mut self.attempts[index as usize];
        place.attempt = Some(Box::new(attempt));
        ConnId::new(index, place.generation)
    }

    fn remove(&mut self, token: ConnId) -> Attempt {
        let place = &mut self.attempts[token.slot() as usize];
        let attempt = place.attempt.take().expect("an attempt ends once");
        place.generation = place.generation.wrapping_add(1);
        self.free.push(token.slot());
        self.by_ticket.remove(&attempt.ticket);
        *attempt
    }

    fn name_of(&self, ticket: Ticket) -> Option<ConnId> {
        let index = *self.by_ticket.get(&ticket)?;
        Some(ConnId::new(index, self.attempts[index as usize].generation))
    }
}

impl Uring {
    pub(super) fn start_connecting(&mut self, ticket: Ticket, remote: &Remote) {
        let opened = if self.has_room() { self.connects.open(remote) } else { Err(no_room()) };
        match opened {
            Ok((socket, address)) => self.move_in(ticket, socket, address),
            Err(error) => {
                self.counters.connect_errors += 1;
                let fault = fault_of(error.raw_os_error().unwrap_or(0));
                self.connects.failed.push_back((ticket, fault));
            }
        }
    }

    /// Whether one more slot can be taken: those that accepts are armed for are spoken for.
    fn has_room(&self) -> bool {
        self.slots.used() + self.connects.moving + self.acceptors.armed() < self.capacity
    }

    fn move_in(&mut self, ticket: Ticket, socket: OwnedFd, address: Option<Address>) {
        let file = UnsafeCell::new(socket.as_raw_fd());
        let step = Step::Moving { _socket: socket };
        let token = self.connects.insert(Attempt { ticket, cancelled: false, address, step, file });
        self.connects.moving += 1;
        let attempt = self.connects.get(token).expect("it was just put there");
        let entry = opcode::FilesUpdate::new(attempt.file.get(), 1).offset(ANY_SLOT).build();
        // SAFETY: the descriptor's number is in a boxed attempt that is neither moved out nor looked at before this
        // operation has completed, and the driver does not go before that.
        unsafe { self.ring.push(Token::new(Operation::MoveIn, token).mark(entry)) };
    }

    /// A socket has a slot now, or could not get one.
    pub(super) fn moved_in(&mut self, token: ConnId, result: i32, events: &mut Vec<Event>) {
        if self.connects.get(token).is_none() {
            return;
        }
        self.connects.moving -= 1;
        match -result {
            moved if moved < 0 => {}
            libc::ENFILE | libc::ENOMEM | libc::ECANCELED => {
                let attempt = self.connects.remove(token);
                return self.not_connected(&attempt, -result, events);
            }
            errno => panic!("moving a socket into a slot: {}", io::Error::from_raw_os_error(errno)),
        }
        let Some(attempt) = self.connects.get(token) else { return };
        // SAFETY: the operation has completed, so the kernel does not write here any more.
        let slot = unsafe { *attempt.file.get() };
        let conn = self.slots.occupy_quietly(u32::try_from(slot).expect("the kernel wrote the slot"));
        // The plain descriptor is closed with the step that is over.
        attempt.step = Step::Connecting { conn };
        if attempt.cancelled || attempt.address.is_none() {
            return self.connected(token, 0, events);
        }
        self.submit_connect(token, conn);
    }

    fn submit_connect(&mut self, token: ConnId, conn: ConnId) {
        let Some(Attempt { address: Some(address), .. }) = self.connects.get(token) else { return };
        let entry = opcode::Connect::new(Fixed(conn.slot()), address.as_ptr(), address.len()).build();
        let slot = self.slots.get(conn).expect("an attempt keeps its slot");
        slot.operations += 1;
        // SAFETY: the address is in a boxed attempt that is not moved out before this operation has completed, and the
        // driver does not go before that; nobody writes to it.
        unsafe { self.ring.push(Token::new(Operation::Connect, token).mark(entry)) };
    }

    /// The kernel's answer to an attempt.
    pub(super) fn connect_ended(&mut self, token: ConnId, result: i32, events: &mut Vec<Event>) {
        let Some(Attempt { step: Step::Connecting { conn }, .. }) = self.connects.get(token) else { return };
        let conn = *conn;
        self.slots.get(conn).expect("an attempt keeps its slot").operations -= 1;
        self.connected(token, result, events);
    }

    /// Tells what came of an attempt. Whoever is not connected, or not wanted any more, leaves its slot.
    fn connected(&mut self, token: ConnId, result: i32, events: &mut Vec<Event>) {
        let attempt = self.connects.remove(token);
        let Step::Connecting { conn } = attempt.step else { unreachable!("it has a slot") };
        if result == 0 && !attempt.cancelled {
            self.slots.get(conn).expect("an attempt keeps its slot").quiet = false;
            return events.push(Event::Connected { ticket: attempt.ticket, outcome: Ok(conn) });
        }
        self.start_closing(conn);
        self.not_connected(&attempt, -result, events);
    }

    fn not_connected(&mut self, attempt: &Attempt, errno: i32, events: &mut Vec<Event>) {
        let fault = if attempt.cancelled { ConnectFault::Cancelled } else { fault_of(errno) };
        self.counters.connect_errors += u64::from(fault != ConnectFault::Cancelled);
        events.push(Event::Connected { ticket: attempt.ticket, outcome: Err(fault) });
    }

    /// Tells what came to nothing at once, `budget` of it at most.
    pub(super) fn tell_failed(&mut self, budget: usize, events: &mut Vec<Event>) {
        let count = budget.min(self.connects.failed.len());
        let failed = self.connects.failed.drain(..count);
        events.extend(failed.map(|(ticket, fault)| Event::Connected { ticket, outcome: Err(fault) }));
    }

    /// What has a slot already is cancelled there; what is still moving ends as soon as it has one.
    pub(super) fn stop_connecting(&mut self, ticket: Ticket) {
        for (other, fault) in &mut self.connects.failed {
            if *other == ticket {
                *fault = ConnectFault::Cancelled;
            }
        }
        let Some(token) = self.connects.name_of(ticket) else { return };
        let Some(attempt) = self.connects.get(token) else { return };
        attempt.cancelled = true;
        if let Step::Connecting { .. } = attempt.step {
            self.cancel_attempt(token);
        }
    }

    fn cancel_attempt(&mut self, token: ConnId) {
        let target = Token::new(Operation::Connect, token).encode();
        let cancel = opcode::AsyncCancel::new(target).build();
        // SAFETY: a cancellation points to no memory.
        unsafe { self.ring.push(Token::new(Operation::CancelConnect, token).mark(cancel)) };
    }

    /// A cancellation has been tried. One that missed, because the attempt was just being looked at, is tried again.
    pub(super) fn attempt_cancelled(&mut self, token: ConnId, result: i32) {
        if matches!(-result, libc::ENOENT | libc::EALREADY) && self.connects.get(token).is_some() {
            self.cancel_attempt(token);
        }
    }
}

fn no_room() -> io::Error {
    io::Error::from_raw_os_error(libc::ENFILE)
}
