//! A connection is made: a plain socket that does not wait, watched until it can be written to.
//!
//! Options can only be set before `tokio-uring` has the socket, so connecting is not an operation of its ring. It ends by
//! itself or by a shutdown, like everything else here.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use moongate_io::{ConnectFault, Event, Remote, Ticket};
use rustix::net::sockopt::socket_error;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::stream::Stream;
use super::{Core, operation};
use crate::socket::{self, SocketOptions, fault_of};

/// All attempts under way.
pub(super) struct Connects {
    options: SocketOptions,
    attempts: HashMap<Ticket, Attempt>,
}

struct Attempt {
    socket: Rc<AsyncFd<OwnedFd>>,
    family: Family,
    cancelled: bool,
}

/// What a socket is to become.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Family {
    Tcp,
    Unix,
}

impl Connects {
    pub(super) fn new(options: SocketOptions) -> Connects {
        Connects { options, attempts: HashMap::new() }
    }

    /// How many slots are spoken for beyond those in use.
    pub(super) fn under_way(&self) -> u32 {
        self.attempts.len() as u32
    }

    /// Ends every attempt.
    pub(super) fn close(&mut self) {
        self.attempts.values_mut().for_each(Attempt::cancel);
    }
}

impl Attempt {
    /// Whoever waits for it hears at once: a socket without a connection "can be written to", which fails.
    fn cancel(&mut self) {
        self.cancelled = true;
        // ENOTCONN: it has failed already, which has been heard.
        let _ = shutdown(self.socket.get_ref(), Shutdown::Both);
    }
}

impl Core {
    /// To be called within the runtime, which watches the socket.
    pub(super) fn start_connecting(&mut self, ticket: Ticket, remote: &Remote) {
        match self.begin_connecting(remote) {
            Ok(attempt) => {
                self.operations.push(operation::connect(ticket, Rc::clone(&attempt.socket)));
                let before = self.connects.attempts.insert(ticket, attempt);
                assert!(before.is_none(), "a ticket names one attempt at a time");
            }
            Err(error) => self.not_connected(ticket, &error),
        }
    }

    fn begin_connecting(&self, remote: &Remote) -> io::Result<Attempt> {
        if !self.has_room() {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let socket = socket::begin_connect(remote, &self.connects.options)?;
        // SAFETY: the descriptor is the caller's own, which keeps it as it is until it goes.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE) }?;
        let family = match remote {
            Remote::Tcp(_) => Family::Tcp,
            Remote::Unix(_) => Family::Unix,
        };
        Ok(Attempt { socket: Rc::new(socket), family, cancelled: false })
    }

    /// Tells what came of an attempt.
    pub(super) fn connected(&mut self, ticket: Ticket) {
        let attempt = self.connects.attempts.remove(&ticket).expect("an attempt ends once");
        if attempt.cancelled {
            return self.told.push_back(cancelled(ticket));
        }
        match finish(attempt) {
            Ok(stream) => {
                let conn = self.slots.occupy(stream);
                self.told.push_back(Event::Connected { ticket, outcome: Ok(conn) });
            }
            Err(error) => self.not_connected(ticket, &error),
        }
    }

    /// Ends an attempt, also one whose end waits to be told.
    pub(super) fn stop_connecting(&mut self, ticket: Ticket) {
        if let Some(attempt) = self.connects.attempts.get_mut(&ticket) {
            return attempt.cancel();
        }
        let ended = self.told.iter_mut().find_map(|event| match event {
            Event::Connected { ticket: ended, outcome } if *ended == ticket => Some(outcome),
            _ => None,
        });
        let Some(outcome) = ended else { return };
        if let Ok(conn) = std::mem::replace(outcome, Err(ConnectFault::Cancelled)) {
            // Nobody above knows it, and nothing of it is under way.
            self.slots.get(conn).expect("it came just now").stream = None;
            self.slots.free(conn);
        }
    }

    fn not_connected(&mut self, ticket: Ticket, error: &io::Error) {
        self.counters.connect_errors += 1;
        let outcome = Err(fault_of(error.raw_os_error().unwrap_or(0)));
        self.told.push_back(Event::Connected { ticket, outcome });
    }
}

/// The stream of an attempt that has ended well. It waits from here on: that is the ring's affair now.
fn finish(attempt: Attempt) -> io::Result<Stream> {
    let watched = Rc::into_inner(attempt.socket).expect("the operation that watched it has ended");
    let socket = watched.into_inner();
    socket_error(&socket)??;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(match attempt.family {
        Family::Tcp => Stream::tcp(socket),
        Family::Unix => Stream::unix(socket),
    })
}

fn cancelled(ticket: Ticket) -> Event {
    Event::Connected { ticket, outcome: Err(ConnectFault::Cancelled) }
}
