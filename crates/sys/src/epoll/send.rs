//! A connection is spoken to: one send under way, one segment or several in one call, and the FIN after the last.
//!
//! What is to be sent goes out when the shard waits, all of it together. A socket that takes nothing keeps its chain here
//! until the kernel says that there is room again (N6).

use std::io::IoSlice;
use std::num::NonZeroU32;

use moongate_io::{CHAIN_SEGMENTS_MAX, Chain, ConnId, Event, SendFault};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, send, sendmsg, shutdown};

use super::Epoll;
use super::slots::Writing;

impl Epoll {
    pub(super) fn start_sending(&mut self, conn: ConnId, chain: Chain) {
        let slot = self.slots.open(conn).expect("only an open connection is sent to");
        assert!(slot.send.is_none(), "a connection has one send in flight at most");
        debug_assert!(!chain.is_empty());
        slot.send = Some(self.chains.insert(chain));
        self.sending.push(conn);
    }

    /// Tries everything that was handed over since the last wait.
    pub(super) fn send_all(&mut self) {
        let mut sending = std::mem::take(&mut self.sending);
        for conn in sending.drain(..) {
            self.try_to_send(conn);
        }
        // Those that are to be tried again for lack of memory.
        sending.append(&mut self.sending);
        self.sending = sending;
    }

    /// Tells what comes of the send under way, if there is one; nothing if the socket takes nothing now.
    pub(super) fn try_to_send(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        let (Some(place), Some(socket)) = (slot.send, &slot.socket) else { return };
        self.enters += 1;
        let outcome = match transmit(socket, self.chains.get(place)) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN) => return,
            Err(Errno::INTR) => return self.sending.push(conn),
            Err(Errno::NOMEM | Errno::NOBUFS) => {
                self.short_of_memory = true;
                return self.sending.push(conn);
            }
            // Our own mistakes.
            Err(
                error @ (Errno::BADF
                | Errno::FAULT
                | Errno::INVAL
                | Errno::NOTSOCK
                | Errno::OPNOTSUPP
                | Errno::MSGSIZE),
            ) => panic!("send: {error}"),
            Err(Errno::TIMEDOUT) => Err(SendFault::TimedOut),
            // EPIPE, ECONNRESET, EHOSTUNREACH and whatever else the network has.
            Err(_) => Err(SendFault::Gone),
        };
        self.sent(conn, place, outcome);
    }

    fn sent(&mut self, conn: ConnId, place: NonZeroU32, outcome: Result<usize, SendFault>) {
        let chain = self.chains.remove(place);
        let whole = outcome == Ok(chain.len());
        self.counters.sends_short += u64::from(outcome.is_ok() && !whole);
        self.told.push_back(Event::Sent { conn, chain, outcome });
        if let Some(slot) = self.slots.open(conn) {
            slot.send = None;
        }
        if whole {
            self.fin_if_ending(conn);
        }
    }

    /// FIN at once if nothing is under way, else after the send that completes whole.
    pub(super) fn end_writing(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        if slot.writing == Writing::Open {
            slot.writing = Writing::Ending;
            if slot.send.is_none() {
                self.fin_if_ending(conn);
            }
        }
    }

    fn fin_if_ending(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        let (Writing::Ending, Some(socket)) = (slot.writing, &slot.socket) else { return };
        // ENOTCONN: the peer has reset it, which a read or a send tells.
        let _ = shutdown(socket, Shutdown::Write);
        slot.writing = Writing::Ended;
    }
}

fn transmit(socket: impl AsFd, chain: &Chain) -> Result<usize, Errno> {
    let segments = match chain {
        Chain::One(segment) => return send(socket, segment.as_slice(), SendFlags::NOSIGNAL),
        Chain::Many(segments) => segments,
    };
    let mut slices = [IoSlice::new(&[]); CHAIN_SEGMENTS_MAX];
    for (slice, segment) in slices.iter_mut().zip(segments) {
        *slice = IoSlice::new(segment.as_slice());
    }
    let slices = &slices[..segments.len()];
    sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}
