//! A connection is spoken to: one write under way, one segment or several, and the FIN after the last.

use std::io;
use std::net::Shutdown;

use moongate_io::{Chain, ConnId, Event, SendFault};

use super::Core;
use super::operation;
use super::slots::{Phase, Writing};

impl Core {
    pub(super) fn start_sending(&mut self, conn: ConnId, chain: Chain) {
        let slot = self.slots.open(conn).expect("only an open connection is sent to");
        assert!(!slot.sending, "a connection has one send in flight at most");
        debug_assert!(!chain.is_empty());
        self.write(conn, chain);
    }

    fn write(&mut self, conn: ConnId, chain: Chain) {
        let slot = self.slots.open(conn).expect("only an open connection is sent to");
        slot.sending = true;
        let stream = slot.stream.clone().expect("an open connection has a stream");
        self.operations.push(operation::write(conn, stream, chain));
    }

    /// The write under way has completed.
    pub(super) fn written(&mut self, conn: ConnId, outcome: io::Result<usize>, chain: Chain) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.sending = false;
        let (open, timed_out, dead) = (slot.phase == Phase::Open, slot.timed_out, slot.dead);
        let outcome = match outcome {
            Ok(count) if count > 0 => Ok(count),
            Ok(_) => Err(SendFault::Gone),
            Err(error) => match error.raw_os_error().unwrap_or(0) {
                libc::EINTR | libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM if open => {
                    return self.write(conn, chain);
                }
                // Our own mistakes.
                libc::EBADF | libc::EFAULT | libc::ENOTSOCK => panic!("send: {error}"),
                _ if !open => Err(SendFault::Cancelled),
                libc::ETIMEDOUT => Err(SendFault::TimedOut),
                _ if timed_out => Err(SendFault::TimedOut),
                // EPIPE, ECONNRESET, EHOSTUNREACH and whatever else the network has.
                _ => Err(SendFault::Gone),
            },
        };
        let whole = outcome == Ok(chain.len());
        self.counters.sends_short += u64::from(outcome.is_ok() && !whole);
        self.told.push_back(Event::Sent { conn, chain, outcome });
        if whole {
            self.fin_if_ending(conn);
        }
        if dead {
            self.go_on_receiving(conn);
        }
        self.settle(conn);
    }

    /// FIN at once if nothing is under way, else after the write that completes whole.
    pub(super) fn end_writing(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        if slot.writing == Writing::Open {
            slot.writing = Writing::Ending;
            if !slot.sending {
                self.fin_if_ending(conn);
            }
        }
    }

    fn fin_if_ending(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        let (Writing::Ending, Some(stream)) = (slot.writing, &slot.stream) else { return };
        // ENOTCONN: the peer has reset it, which a read or a write tells.
        let _ = stream.shutdown(Shutdown::Write);
        slot.writing = Writing::Ended;
    }
}
