//! A connection is spoken to: one send in flight, one segment or several, and the FIN after the last.
//!
//! A chain is the driver's until its send has completed, whatever becomes of the connection meanwhile (N1). A short
//! send is told as it is; the layer above sends the rest (N6).

use std::io;
use std::num::NonZeroU32;
use std::ptr;

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};
use moongate_io::{Chain, ConnId, Event, SendFault};

use super::Uring;
use super::slots::{Phase, Writing};
use super::token::{Operation, Token};

/// The sends in flight; idle connections have nothing here.
#[derive(Default)]
pub(super) struct Sends {
    entries: Vec<Option<InFlight>>,
    free: Vec<NonZeroU32>,
}

struct InFlight {
    chain: Chain,
    /// For a chain of several segments.
    header: Option<Box<Header>>,
}

/// What the kernel reads for a `SendMsg`: at one address until the completion.
struct Header {
    message: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

impl Sends {
    pub(super) fn insert(&mut self, chain: Chain) -> NonZeroU32 {
        let header = match &chain {
            Chain::One(_) => None,
            Chain::Many(_) => Some(Header::new(&chain)),
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            NonZeroU32::new(self.entries.len() as u32).expect("there is one at least")
        });
        self.entries[place.get() as usize - 1] = Some(InFlight { chain, header });
        place
    }

    fn remove(&mut self, place: NonZeroU32) -> Chain {
        self.free.push(place);
        self.entries[place.get() as usize - 1].take().expect("a send in flight has its chain").chain
    }

    /// The submission of the send at `place`.
    fn entry(&mut self, place: NonZeroU32, conn: ConnId) -> squeue::Entry {
        let in_flight =
            self.entries[place.get() as usize - 1].as_mut().expect("a send in flight has its chain");
        let (fixed, flags) = (Fixed(conn.slot()), libc::MSG_NOSIGNAL);
        let entry = match (&in_flight.chain, &mut in_flight.header) {
            (_, Some(header)) => {
                header.message.msg_iov = header.vectors.as_mut_ptr();
                opcode::SendMsg::new(fixed, &raw const header.message).flags(flags as u32).build()
            }
            (Chain::Many(_), None) => unreachable!("several segments have a header"),
            (Chain::One(segment), None) => {
                let bytes = segment.as_slice();
                opcode::Send::new(fixed, bytes.as_ptr(), bytes.len() as u32).flags(flags).build()
            }
        };
        Token::new(Operation::Send, conn).mark(entry)
    }
}

impl Header {
    fn new(chain: &Chain) -> Box<Header> {
        let vectors: Vec<_> = chain
            .segments()
            .iter()
            .map(|segment| {
                let bytes = segment.as_slice();
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
            })
            .collect();
        let message = libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: ptr::null_mut(),
            msg_iovlen: vectors.len(),
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Box::new(Header { message, vectors })
    }
}

impl Uring {
    pub(super) fn start_sending(&mut self, conn: ConnId, chain: Chain) {
        let slot = self.slots.open(conn).expect("only an open connection is sent to");
        assert!(slot.send.is_none(), "a connection has one send in flight at most");
        debug_assert!(!chain.is_empty());
        slot.send = Some(self.sends.insert(chain));
        self.submit_send(conn);
    }

    fn submit_send(&mut self, conn: ConnId) {
        let slot = self.slots.get(conn).expect("who sends has a slot");
        let place = slot.send.expect("who sends has a chain");
        slot.operations += 1;
        let entry = self.sends.entry(place, conn);
        // SAFETY: the entry points to the chain's bytes, which are shared and immutable, and to the boxed header; both
        // are kept at their place, unmoved, until `sent` takes them out after the terminal completion.
        unsafe { self.ring.push(entry) };
    }

    /// The send in flight has completed.
    pub(super) fn sent(&mut self, conn: ConnId, result: i32, events: &mut Vec<Event>) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.operations -= 1;
        let open = slot.phase == Phase::Open;
        let outcome = match -result {
            bytes if bytes < 0 => Ok(result as usize),
            libc::EINTR | libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM if open => {
                return self.submit_send(conn);
            }
            // Our own mistakes.
            errno @ (libc::EBADF
            | libc::EFAULT
            | libc::EINVAL
            | libc::ENOTSOCK
            | libc::EOPNOTSUPP
            | libc::EMSGSIZE) => {
                panic!("send: {}", io::Error::from_raw_os_error(errno))
            }
            _ if !open => Err(SendFault::Cancelled),
            libc::ETIMEDOUT => Err(SendFault::TimedOut),
            // EPIPE, ECONNRESET, EHOSTUNREACH and whatever else the network has.
            _ => Err(SendFault::Gone),
        };
        let place = slot.send.take().expect("a completed send was in flight");
        let chain = self.sends.remove(place);
        let whole = match outcome {
            Ok(count) => count == chain.len(),
            Err(_) => false,
        };
        self.counters.sends_short += u64::from(outcome.is_ok() && !whole);
        events.push(Event::Sent { conn, chain, outcome });
        if whole {
            self.fin_if_ending(conn);
        }
        self.settle(conn);
    }

    /// FIN at once if nothing is in flight, else after the send that completes whole.
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
        if slot.writing != Writing::Ending {
            return;
        }
        slot.writing = Writing::Ended;
        slot.operations += 1;
        let shutdown = opcode::Shutdown::new(Fixed(conn.slot()), libc::SHUT_WR).build();
        // SAFETY: a shutdown points to no memory.
        unsafe { self.ring.push(Token::new(Operation::Shutdown, conn).mark(shutdown)) };
    }
}
