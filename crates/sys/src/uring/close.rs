//! A connection goes: its operations are cancelled and waited for, then its descriptor is closed, then its slot is free.
//!
//! Closing a direct descriptor while an operation is with the kernel would free the slot but send no FIN, because the
//! operation keeps the socket alive (N3).
//!
//! Operations are cancelled by name, not by descriptor: to find all of a descriptor the kernel looks at each that waits, on
//! whatever connection. When ten thousand left at once, everybody else waited more than a second for that.

use std::io;

use io_uring::opcode;
use io_uring::types::Fixed;
use moongate_io::{ConnId, Event};

use super::Uring;
use super::slots::{Phase, Receiving};
use super::token::{Operation, Token};

/// connect(2) to no address: "the association is dissolved", which for TCP means RST. For a Unix socket it means nothing:
/// there the error is the end of it, and the close that follows is all that happens.
static NOBODY: libc::sockaddr =
    libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };

impl Uring {
    /// Closes after cancelling what is under way.
    pub(super) fn start_closing(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        slot.phase = Phase::Closing;
        let (receiving, sending) = (slot.receiving.in_kernel(), slot.send.is_some());
        if receiving {
            self.cancel_receive(conn);
        }
        if sending {
            self.cancel_send(conn);
        }
        self.settle(conn);
    }

    /// Sends RST, then closes.
    pub(super) fn reset(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        slot.operations += 1;
        let len = size_of_val(&NOBODY) as libc::socklen_t;
        let connect = opcode::Connect::new(Fixed(conn.slot()), &raw const NOBODY, len).build();
        // SAFETY: the address is a static.
        unsafe { self.ring.push(Token::new(Operation::Disconnect, conn).mark(connect)) };
        self.start_closing(conn);
    }

    pub(super) fn cancel_receive(&mut self, conn: ConnId) {
        self.cancel(conn, Operation::Receive, Operation::CancelReceive);
    }

    fn cancel_send(&mut self, conn: ConnId) {
        self.cancel(conn, Operation::Send, Operation::CancelSend);
    }

    fn cancel(&mut self, conn: ConnId, target: Operation, cancellation: Operation) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations += 1;
        let cancel = opcode::AsyncCancel::new(Token::new(target, conn).encode()).build();
        // SAFETY: a cancellation points to no memory.
        unsafe { self.ring.push(Token::new(cancellation, conn).mark(cancel)) };
    }

    /// A receive's cancellation has been tried. An operation that is just being run cannot be found (ENOENT) or stopped
    /// (EALREADY): if it has not ended by itself, it is tried again.
    pub(super) fn receive_cancelled(&mut self, conn: ConnId, result: i32) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations -= 1;
        let unwanted = match slot.phase {
            Phase::Closing => slot.receiving.in_kernel(),
            Phase::Open => matches!(slot.receiving, Receiving::Pausing | Receiving::Resuming),
            Phase::Leaving | Phase::Free => false,
        };
        if unwanted && missed(result) {
            self.cancel_receive(conn);
        }
        self.settle(conn);
    }

    /// A send's cancellation has been tried, and is again if it missed.
    pub(super) fn send_cancelled(&mut self, conn: ConnId, result: i32) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations -= 1;
        if slot.send.is_some() && missed(result) {
            self.cancel_send(conn);
        }
        self.settle(conn);
    }

    /// An operation has ended that has nothing to tell: whether it worked shows in what the peer does.
    pub(super) fn operation_ended(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations -= 1;
        self.settle(conn);
    }

    /// Closes the descriptor of a closing connection once no operation is left.
    pub(super) fn settle(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else { return };
        if slot.phase != Phase::Closing || slot.operations > 0 {
            return;
        }
        slot.phase = Phase::Leaving;
        slot.operations += 1;
        let close = opcode::Close::new(Fixed(conn.slot())).build();
        // SAFETY: closing points to no memory.
        unsafe { self.ring.push(Token::new(Operation::Close, conn).mark(close)) };
    }

    /// The descriptor is closed and its slot the next tenant's.
    pub(super) fn closed(&mut self, conn: ConnId, result: i32, events: &mut Vec<Event>) {
        assert_eq!(result, 0, "closing a direct descriptor: {}", io::Error::from_raw_os_error(-result));
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations -= 1;
        let quiet = slot.quiet;
        self.slots.free(conn);
        if !quiet {
            events.push(Event::Closed { conn });
        }
    }
}

fn missed(result: i32) -> bool {
    matches!(-result, libc::ENOENT | libc::EALREADY)
}
