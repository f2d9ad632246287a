//! A connection comes: when a listener calls, as many accepts are begun as connections wait in its queue.
//!
//! So every accept completes at once. One that waits could not be taken back when its listener is to stop, and whether an
//! accept waits on a listener that is set not to differs from kernel to kernel.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use moongate_io::{Event, ListenerId, Time};
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_uring::net::{TcpListener, TcpStream};

use super::Core;
use super::operation;
use super::stream::Stream;
use crate::listener::{ACCEPTS_MAX, Listener};

/// How long accepting rests after the kernel said that it has no files or no memory left (K6).
const BACK_OFF: Duration = Duration::from_millis(100);

/// All listeners of a driver.
pub(super) struct Acceptors {
    listeners: Vec<Accepting>,
    /// Whose turn it is.
    turn: usize,
    /// How many accepts are under way.
    under_way: u32,
    /// How many have brought somebody in this wait.
    brought: u32,
    /// Until when accepting rests.
    resting: Option<Time>,
}

/// One listener.
struct Accepting {
    open: Option<Open>,
    state: State,
    /// Whether somebody may wait in its queue.
    ready: bool,
    /// How many of its accepts are under way.
    under_way: u32,
    /// How many more connections wait than accepts are under way.
    waiting: u32,
}

/// A listener's socket, in the two hands it needs.
struct Open {
    socket: Rc<TcpListener>,
    /// Calls when somebody comes.
    caller: AsyncFd<OwnedFd>,
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
    /// To be called within the runtime, which watches the listeners.
    pub(super) fn new(listeners: Vec<Listener>) -> io::Result<Acceptors> {
        let listeners = listeners.into_iter().map(|listener| {
            let own = listener.socket.try_clone()?;
            // SAFETY: the descriptor is the caller's own, which keeps it as it is until it goes.
            let caller = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }?;
            let socket = Rc::new(TcpListener::from_std(StdListener::from(listener.socket)));
            Ok(Accepting {
                open: Some(Open { socket, caller }),
                state: State::Quiet,
                ready: false,
                under_way: 0,
                waiting: 0,
            })
        });
        let listeners = listeners.collect::<io::Result<_>>()?;
        Ok(Acceptors { listeners, turn: 0, under_way: 0, brought: 0, resting: None })
    }

    pub(super) fn listen(&mut self, listener: ListenerId) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        if entry.state == State::Quiet {
            entry.state = State::Listening;
        }
    }

    /// The listener's queue is emptied and then closed (N10).
    pub(super) fn unlisten(&mut self, listener: ListenerId) {
        let entry = &mut self.listeners[usize::from(listener.0)];
        match entry.state {
            State::Quiet => {
                entry.open = None;
                entry.state = State::Closed;
            }
            State::Listening => {
                entry.state = State::Draining;
                entry.ready = true;
            }
            State::Draining | State::Closed => {}
        }
    }

    /// Takes note of who calls.
    pub(super) fn hear(&mut self, cx: &mut Context<'_>) {
        for entry in &mut self.listeners {
            let Some(open) = &entry.open else { continue };
            while let Poll::Ready(called) = open.caller.poll_read_ready(cx) {
                called.expect("the runtime watches as long as it lives").clear_ready();
                entry.ready = true;
            }
        }
    }

    /// When accepting wants to go on after a rest, if it rests and has anything to do.
    pub(super) fn wants_to_wake(&self) -> Option<Time> {
        self.resting.filter(|_| self.listeners.iter().any(|entry| entry.ready))
    }

    /// A wait begins: others may come.
    pub(super) fn begin(&mut self) {
        self.brought = 0;
    }

    /// Whether one more may come in this wait.
    fn may_go_on(&self) -> bool {
        self.under_way + self.brought < ACCEPTS_MAX
    }

    /// How many accepts are under way.
    pub(super) fn under_way(&self) -> u32 {
        self.under_way
    }

    /// The next listener in turn that somebody waits for, if there is any.
    fn next(&mut self) -> Option<ListenerId> {
        for _ in 0..self.listeners.len() {
            let index = self.turn % self.listeners.len();
            self.turn = index + 1;
            let entry = &mut self.listeners[index];
            entry.count();
            if entry.waiting > 0 {
                return Some(ListenerId(index as u16));
            }
        }
        None
    }

    /// Closes every listener, and ends accepts that wait in spite of all.
    pub(super) fn close(&mut self) {
        for entry in &mut self.listeners {
            if let (Some(open), true) = (entry.open.take(), entry.under_way > 0) {
                let _ = shutdown(open.caller.get_ref(), Shutdown::Both);
            }
            entry.state = State::Closed;
        }
    }
}

impl Accepting {
    /// Asks how many wait, if somebody may; closes a draining listener for which nobody does.
    fn count(&mut self) {
        let listens = matches!(self.state, State::Listening | State::Draining);
        if !listens || !self.ready || self.under_way + self.waiting > 0 {
            return;
        }
        let open = self.open.as_ref().expect("a listener stays until its queue is empty");
        self.waiting = queue_len(open.caller.get_ref()).min(ACCEPTS_MAX);
        self.ready = self.waiting > 0;
        if self.state == State::Draining && !self.ready {
            self.open = None;
            self.state = State::Closed;
        }
    }
}

/// How many connections wait to be accepted. For a socket that listens, `tcpi_unacked` is the length of its accept queue
/// (`tcp_get_info` in the kernel's `net/ipv4/tcp.c`).
fn queue_len(listener: impl AsFd) -> u32 {
    tcp_info(listener).tcpi_unacked
}

/// What the kernel says about a TCP socket (`TCP_INFO`, tcp(7)).
pub(super) fn tcp_info(socket: impl AsFd) -> libc::tcp_info {
    // SAFETY: all zeroes is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&info) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `info` and `len` are writable, and `len` is the length of `info`.
    let result = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
    };
    assert_eq!(result, 0, "asking for TCP_INFO: {}", io::Error::last_os_error());
    info
}

impl Core {
    /// Begins an accept for everybody who waits, as far as there are slots for what they bring and one wait takes them.
    pub(super) fn accept_again(&mut self) {
        if self.acceptors.resting.is_some_and(|until| self.clock.now < until) {
            return;
        }
        self.acceptors.resting = None;
        while self.has_room() && self.acceptors.may_go_on() {
            let Some(listener) = self.acceptors.next() else { return };
            let entry = &mut self.acceptors.listeners[usize::from(listener.0)];
            let open = entry.open.as_ref().expect("a listener stays until its queue is empty");
            entry.waiting -= 1;
            entry.under_way += 1;
            self.acceptors.under_way += 1;
            self.operations.push(operation::accept(listener, Rc::clone(&open.socket)));
        }
    }

    pub(super) fn accepted(&mut self, listener: ListenerId, outcome: io::Result<(TcpStream, SocketAddr)>) {
        let entry = &mut self.acceptors.listeners[usize::from(listener.0)];
        entry.under_way -= 1;
        self.acceptors.under_way -= 1;
        match outcome {
            Ok((stream, peer)) => {
                let conn = self.slots.occupy(Stream::Tcp(stream));
                self.acceptors.brought += 1;
                self.told.push_back(Event::Accepted { conn, listener, peer });
            }
            Err(error) => self.accept_failed(&error),
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        match error.raw_os_error().unwrap_or(0) {
            libc::EINTR | libc::EAGAIN | libc::ECANCELED => {}
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
            libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK => panic!("accept: {error}"),
            // K6: EMFILE, ENFILE, ENOMEM, ENOBUFS: the machine is short of something; at once again would be a hot loop.
            _ => {
                self.counters.accept_errors += 1;
                self.acceptors.resting = Some(self.clock.now + BACK_OFF);
            }
        }
    }
}
