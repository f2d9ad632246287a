//! A connection goes: its operations are cancelled and waited for, then its descriptor is closed, then its slot is free.
//!
//! Closing a direct descriptor while an operation is with the kernel would free the slot but send no FIN, because the
//! operation keeps the socket alive (N3).

use std::io;

use io_uring::opcode;
use io_uring::types::{CancelBuilder, Fixed};
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
        if slot.receiving.in_kernel() || slot.send.is_some() {
            self.cancel_all(conn);
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

    fn cancel_all(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations += 1;
        let target = CancelBuilder::fd(Fixed(conn.slot())).all();
        let cancel = opcode::AsyncCancel2::new(target).build();
        // SAFETY: a cancellation points to no memory.
        unsafe { self.ring.push(Token::new(Operation::Cancel, conn).mark(cancel)) };
    }

    /// A cancellation has been tried. An operation that is just being run cannot be found (ENOENT) or stopped
    /// (EALREADY): if it has not ended by itself, it is tried again.
    pub(super) fn cancelled(&mut self, conn: ConnId, result: i32) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations -= 1;
        let missed = matches!(-result, libc::ENOENT | libc::EALREADY);
        let (receiving, sending) = (slot.receiving, slot.send.is_some());
        match slot.phase {
            Phase::Closing if missed && (receiving.in_kernel() || sending) => self.cancel_all(conn),
            Phase::Open if missed && matches!(receiving, Receiving::Pausing | Receiving::Resuming) => {
                self.cancel_receive(conn);
            }
            _ => {}
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
