//! A connection speaks: one read is always under way, into a little buffer of the connection's own, the *scout*.
//!
//! What the scout brings is copied into a buffer that can be lent; if there is more, a second read goes behind it into the
//! same buffer, which it fills at once, for the kernel has been asked. So no buffer of the pool is ever lent to a
//! connection that says nothing, and nobody can take them all by falling silent.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use moongate_io::{ConnId, Event, Inbound};

use super::Core;
use super::accept::tcp_info;
use super::operation;
use super::slots::{Held, Phase, Receiving};
use super::stream::Stream;
use crate::pool::{Pool, Taken};

/// How many bytes a scout brings at most: most of what clients say is shorter.
const SCOUT_BYTES_MAX: usize = 256;

/// The state of a connection that is over (`TCP_CLOSE` in the kernel's `include/net/tcp_states.h`).
const TCP_CLOSE: u8 = 7;

/// The buffers, and who waits for one.
pub(super) struct Receivers {
    pub(super) pool: Pool,
    /// Connections that hold what their scouts brought, first come first served.
    waiting: VecDeque<ConnId>,
    /// Reads under way that fill a buffer: there was something for them when they began.
    filling: u32,
}

impl Receivers {
    pub(super) fn new(pool: Pool) -> Receivers {
        Receivers { pool, waiting: VecDeque::new(), filling: 0 }
    }

    fn scout_size(&self) -> usize {
        SCOUT_BYTES_MAX.min(self.pool.size())
    }

    /// Whether a read is under way that is about to bring something.
    pub(super) fn is_filling(&self) -> bool {
        self.filling > 0
    }
}

impl Core {
    pub(super) fn start_receiving(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        if slot.receiving == Receiving::Idle {
            slot.receiving = Receiving::Armed;
            self.go_on_receiving(conn);
        }
    }

    /// The read under way cannot be taken back: what it brings is held.
    pub(super) fn pause_receiving(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        if matches!(slot.receiving, Receiving::Idle | Receiving::Armed) {
            slot.receiving = Receiving::Paused;
        }
    }

    pub(super) fn resume_receiving(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        if slot.receiving == Receiving::Paused {
            slot.receiving = Receiving::Armed;
            self.go_on_receiving(conn);
        }
    }

    /// Whoever waited for a buffer gets one, as many as there are.
    pub(super) fn receive_again(&mut self) {
        for _ in 0..self.receivers.waiting.len() {
            if self.receivers.pool.home() == 0 {
                return;
            }
            let Some(conn) = self.receivers.waiting.pop_front() else { return };
            self.go_on_receiving(conn);
        }
    }

    /// Tells what is held, or reads, unless a read is under way.
    pub(super) fn go_on_receiving(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        // An error is told to one operation only: why the write under way fails is told first, and this behind it.
        let waits = slot.dead && slot.sending;
        if slot.receiving != Receiving::Armed || slot.reading || waits {
            return;
        }
        match slot.held.take().map(|held| *held) {
            Some(Held::Ready(inbound)) => self.tell_inbound(conn, inbound),
            Some(Held::Scouted(scout)) => self.bring_home(conn, scout),
            None => self.read(conn, None),
        }
    }

    /// Tells, and reads on unless that was the end.
    fn tell_inbound(&mut self, conn: ConnId, inbound: Inbound) {
        let Some(slot) = self.slots.open(conn) else { return };
        let over = matches!(inbound, Inbound::End | Inbound::Reset);
        if over {
            slot.receiving = Receiving::Ended;
        }
        self.told.push_back(Event::Received { conn, inbound });
        if !over {
            self.read(conn, None);
        }
    }

    /// Sends the scout, or fills a buffer if the last one came back full and there is more.
    fn read(&mut self, conn: ConnId, scout: Option<Vec<u8>>) {
        let Some(slot) = self.slots.open(conn) else { return };
        let Some(stream) = slot.stream.clone() else { return };
        slot.reading = true;
        let size = self.receivers.pool.size();
        let much = std::mem::take(&mut slot.much) && self.receivers.pool.home() > 0;
        let operation = if much && has_more(&stream) {
            self.receivers.filling += 1;
            operation::fill(conn, stream, self.receivers.pool.take(), size)
        } else {
            let scout = scout.unwrap_or_else(|| Vec::with_capacity(self.receivers.scout_size()));
            operation::scout(conn, stream, scout)
        };
        self.operations.push(operation);
    }

    /// Copies what a scout brought into a buffer, and lends it unless there is more to go into it.
    fn bring_home(&mut self, conn: ConnId, scout: Vec<u8>) {
        let Some(slot) = self.slots.open(conn) else { return };
        let pool = &mut self.receivers.pool;
        let size = pool.size();
        if pool.home() == 0 {
            self.counters.buffers_exhausted += 1;
            slot.held = Some(Box::new(Held::Scouted(scout)));
            self.receivers.waiting.push_back(conn);
            return;
        }
        let mut taken = pool.take();
        taken.bytes.extend_from_slice(&scout);
        let full = scout.len() == scout.capacity() && scout.len() < size;
        match slot.stream.clone() {
            Some(stream) if full && has_more(&stream) => {
                slot.reading = true;
                self.receivers.filling += 1;
                self.operations.push(operation::fill(conn, stream, taken, size));
            }
            _ => self.lend(conn, taken, Some(scout)),
        }
    }

    fn lend(&mut self, conn: ConnId, taken: Taken, scout: Option<Vec<u8>>) {
        let Some(lease) = self.receivers.pool.lend_taken(taken) else { return };
        self.told.push_back(Event::Received { conn, inbound: Inbound::Bytes(lease) });
        self.read(conn, scout);
    }

    /// A scout is back.
    pub(super) fn scouted(&mut self, conn: ConnId, outcome: io::Result<usize>, scout: Vec<u8>) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.reading = false;
        if slot.phase != Phase::Open {
            return self.settle(conn);
        }
        slot.held = match outcome {
            Ok(0) => {
                // The write was told of an error, and this only that nothing will come: there is no peer any more.
                slot.dead = slot.sending && slot.stream.as_ref().is_some_and(is_closed);
                let inbound = if slot.dead { Inbound::Reset } else { Inbound::End };
                Some(Box::new(Held::Ready(inbound)))
            }
            Ok(_) if slot.receiving == Receiving::Armed => return self.bring_home(conn, scout),
            Ok(_) => Some(Box::new(Held::Scouted(scout))),
            Err(error) => {
                slot.timed_out = is_timeout(&error);
                slot.dead = slot.timed_out;
                broken(&error).map(|inbound| Box::new(Held::Ready(inbound)))
            }
        };
        self.go_on_receiving(conn);
    }

    /// A buffer is filled, or as full as it gets.
    pub(super) fn filled(&mut self, conn: ConnId, outcome: io::Result<usize>, taken: Taken) {
        self.receivers.filling -= 1;
        let size = self.receivers.pool.size();
        let much = taken.bytes.len() == size;
        // What a scout had brought before is in it, whatever has become of this read.
        let lease = self.receivers.pool.lend_taken(taken);
        let Some(slot) = self.slots.get(conn).filter(|slot| slot.phase == Phase::Open) else {
            lease.into_iter().for_each(|lease| self.receivers.pool.take_back(lease));
            return self.read_ended(conn);
        };
        slot.reading = false;
        slot.much = much;
        let inbound = match (lease, outcome) {
            (Some(lease), _) => Some(Inbound::Bytes(lease)),
            (None, Ok(_)) => Some(Inbound::End),
            (None, Err(error)) => {
                slot.timed_out = is_timeout(&error);
                slot.dead = slot.timed_out;
                broken(&error)
            }
        };
        slot.held = inbound.map(|inbound| Box::new(Held::Ready(inbound)));
        self.go_on_receiving(conn);
    }

    fn read_ended(&mut self, conn: ConnId) {
        if let Some(slot) = self.slots.get(conn) {
            slot.reading = false;
            self.settle(conn);
        }
    }
}

/// What an error of a read means; none if it is only an interruption.
fn broken(error: &io::Error) -> Option<Inbound> {
    match error.raw_os_error().unwrap_or(0) {
        libc::EINTR | libc::EAGAIN | libc::ENOMEM | libc::ENOBUFS => None,
        // Our own mistakes.
        libc::EBADF | libc::EFAULT | libc::ENOTSOCK => panic!("receive: {error}"),
        // ECONNRESET, ETIMEDOUT, EHOSTUNREACH and whatever else the network has: it will not come back.
        _ => Some(Inbound::Reset),
    }
}

/// Whether there is no connection any more, as against one whose peer has said FIN.
fn is_closed(stream: &Rc<Stream>) -> bool {
    // A Unix socket tells its write all by itself.
    matches!(**stream, Stream::Tcp(_)) && tcp_info(stream).tcpi_state == TCP_CLOSE
}

fn is_timeout(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETIMEDOUT)
}

/// Whether a read would bring something at once (`FIONREAD`, tcp(7)).
fn has_more(stream: &Rc<Stream>) -> bool {
    rustix::io::ioctl_fionread(stream).is_ok_and(|count| count > 0)
}
