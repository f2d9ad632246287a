//! A connection speaks: multishot receives from the buffer ring, pausing, and what happens when buffers run out.
//!
//! A receive that ended without having to is armed again, but only once its buffers are back (N4). While buffers are
//! scarce everyone who wants one stands in one queue, first in first out, and gets a single-shot receive, which takes
//! one buffer and no more: so a connection with much to say cannot keep the others from their turn.

use std::collections::VecDeque;
use std::io;

use io_uring::types::Fixed;
use io_uring::{cqueue, opcode, squeue};
use moongate_io::{ConnId, Event, Inbound};

use super::slots::{Phase, Receiving};
use super::token::{Operation, Token};
use super::{BUFFER_GROUP, Uring};
use crate::buffers::Buffers;

/// The buffers, and who waits for one.
pub(super) struct Receivers {
    pub(super) buffers: Buffers,
    waiting: VecDeque<ConnId>,
    /// Whether buffers have run out since the queue was last empty.
    scarce: bool,
}

impl Receivers {
    pub(super) fn new(buffers: Buffers) -> Receivers {
        Receivers { buffers, waiting: VecDeque::new(), scarce: false }
    }

    /// Whether somebody waits though there are buffers: for the next wait, because whoever was armed in this one may
    /// have taken them, or may have nothing to say.
    pub(super) fn can_go_on(&self) -> bool {
        !self.waiting.is_empty() && self.buffers.home() > 0
    }
}

/// A receive that goes on until it is cancelled or cannot.
fn multishot(conn: ConnId) -> squeue::Entry {
    opcode::RecvMulti::new(Fixed(conn.slot()), BUFFER_GROUP).build()
}

/// A receive that ends after one buffer.
fn single(conn: ConnId) -> squeue::Entry {
    opcode::Recv::new(Fixed(conn.slot()), std::ptr::null_mut(), 0)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}

impl Uring {
    pub(super) fn start_receiving(&mut self, conn: ConnId) {
        if self.slots.open(conn).is_some_and(|slot| slot.receiving == Receiving::Idle) {
            self.want_bytes(conn);
        }
    }

    /// Cancels the receive. What it has taken by then still comes, and its own end last.
    pub(super) fn pause_receiving(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        match slot.receiving {
            Receiving::Armed => {
                slot.receiving = Receiving::Pausing;
                self.cancel_receive(conn);
            }
            Receiving::Resuming => slot.receiving = Receiving::Pausing,
            Receiving::Idle | Receiving::Waiting => slot.receiving = Receiving::Paused,
            Receiving::Pausing | Receiving::Paused | Receiving::Ended => {}
        }
    }

    /// Arms a new receive once the old one has ended, never beside it: bytes stay in order.
    pub(super) fn resume_receiving(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        match slot.receiving {
            Receiving::Pausing => slot.receiving = Receiving::Resuming,
            Receiving::Paused => self.want_bytes(conn),
            Receiving::Idle
            | Receiving::Armed
            | Receiving::Waiting
            | Receiving::Resuming
            | Receiving::Ended => {}
        }
    }

    /// A receive brought bytes, or ended, or both.
    pub(super) fn received(&mut self, conn: ConnId, result: i32, flags: u32, events: &mut Vec<Event>) {
        let terminal = !cqueue::more(flags);
        let buffer = cqueue::buffer_select(flags);
        let Some(slot) = self.slots.get(conn) else {
            // N2, N7: a stranger's completion is nobody's, but its buffer is ours.
            return buffer.into_iter().for_each(|buffer| self.receivers.buffers.put_back(buffer));
        };
        if let (Some(buffer), ..=0) = (buffer, result) {
            self.receivers.buffers.put_back(buffer);
        }
        slot.operations -= u8::from(terminal);
        let open = slot.phase == Phase::Open;

        let ended = match -result {
            bytes if bytes < 0 => {
                let buffer = buffer.expect("received bytes are in a buffer");
                let lease = self.receivers.buffers.lend(buffer, result as u32);
                events.push(Event::Received { conn, inbound: Inbound::Bytes(lease) });
                None
            }
            0 => Some(Inbound::End),
            libc::ENOBUFS => {
                self.counters.buffers_exhausted += 1;
                self.receivers.scarce = true;
                None
            }
            libc::EINTR | libc::EAGAIN | libc::ENOMEM => None,
            libc::ECANCELED if !open || slot.receiving != Receiving::Armed => None,
            // Our own mistakes.
            errno @ (libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP) => {
                panic!("receive: {}", io::Error::from_raw_os_error(errno))
            }
            // ECONNRESET, ETIMEDOUT, EHOSTUNREACH and whatever else the network has: it will not come back.
            _ => Some(Inbound::Reset),
        };
        match ended {
            Some(inbound) => self.inbound_ended(conn, inbound, events),
            None if terminal => self.receive_ended(conn),
            None => {}
        }
        if terminal {
            self.settle(conn);
        }
    }

    /// Nothing more will come from the peer.
    fn inbound_ended(&mut self, conn: ConnId, inbound: Inbound, events: &mut Vec<Event>) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.receiving = Receiving::Ended;
        if slot.phase == Phase::Open {
            events.push(Event::Received { conn, inbound });
        }
    }

    /// The kernel's receive has ended, but there may be more to come.
    fn receive_ended(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else { return };
        match slot.receiving {
            _ if slot.phase != Phase::Open => slot.receiving = Receiving::Ended,
            Receiving::Armed | Receiving::Resuming => self.queue(conn),
            Receiving::Pausing => slot.receiving = Receiving::Paused,
            state => unreachable!("a receive ended that was {state:?}"),
        }
    }

    /// Arms a receive at once, or in turn if buffers are scarce.
    fn want_bytes(&mut self, conn: ConnId) {
        if self.receivers.scarce { self.queue(conn) } else { self.arm(conn, multishot(conn)) }
    }

    fn queue(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        slot.receiving = Receiving::Waiting;
        if !slot.queued {
            slot.queued = true;
            self.receivers.waiting.push_back(conn);
        }
    }

    /// Gives the buffers back in one batch, then arms who waited for them, as many as there are buffers.
    pub(super) fn receive_again(&mut self) {
        self.receivers.buffers.publish();
        for _ in 0..self.receivers.buffers.home() {
            let Some(conn) = self.receivers.waiting.pop_front() else {
                self.receivers.scarce = false;
                return;
            };
            let Some(slot) = self.slots.open(conn) else { continue };
            slot.queued = false;
            if slot.receiving != Receiving::Waiting {
                continue;
            }
            let entry = if self.receivers.scarce { single(conn) } else { multishot(conn) };
            self.arm(conn, entry);
        }
    }

    fn arm(&mut self, conn: ConnId, entry: squeue::Entry) {
        let Some(slot) = self.slots.open(conn) else { return };
        slot.receiving = Receiving::Armed;
        slot.operations += 1;
        // SAFETY: the only memory of a receive is the buffer ring's, which lives as long as the driver, which does not
        // go before its last operation; a buffer is looked at only while the ledger says that it is lent.
        unsafe { self.ring.push(Token::new(Operation::Receive, conn).mark(entry)) };
    }
}
