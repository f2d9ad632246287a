//! A connection speaks: who has something is read from in turn, one buffer at a time, while there are buffers.
//!
//! Pausing and resuming need no call into the kernel: what has arrived stays in its queue.

use std::collections::VecDeque;

use moongate_io::{ConnId, Event, Inbound};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::Epoll;
use super::slots::{Readable, Receiving};
use crate::pool::Pool;

/// How often one wait reads from the same connection at most: the rest comes with the next tick, after the others' sends
/// and timers.
const TURNS_MAX: usize = 16;

/// The buffers, and who wants to fill one.
pub(super) struct Receivers {
    pub(super) pool: Pool,
    /// Those that are to be read from and have something, first come first served.
    queue: VecDeque<ConnId>,
}

impl Receivers {
    pub(super) fn new(pool: Pool) -> Receivers {
        Receivers { pool, queue: VecDeque::new() }
    }

    /// Whether somebody can be read from.
    pub(super) fn can_go_on(&self) -> bool {
        !self.queue.is_empty() && self.pool.home() > 0
    }
}

impl Epoll {
    pub(super) fn start_receiving(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        if slot.receiving == Receiving::Idle {
            slot.receiving = Receiving::Armed;
            self.queue_if_readable(conn);
        }
    }

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
            self.queue_if_readable(conn);
        }
    }

    /// Something has arrived; if `to_the_end`, only a read that finds nothing shows that it is all read.
    pub(super) fn became_readable(&mut self, conn: ConnId, to_the_end: bool) {
        let Some(slot) = self.slots.open(conn) else { return };
        if to_the_end {
            slot.readable = Readable::ToTheEnd;
        } else if slot.readable == Readable::Not {
            slot.readable = Readable::Yes;
        }
        self.queue_if_readable(conn);
    }

    fn queue_if_readable(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        if slot.receiving == Receiving::Armed && slot.readable != Readable::Not && !slot.queued {
            slot.queued = true;
            self.receivers.queue.push_back(conn);
        }
    }

    /// Reads in turns until there are `enough` events, all buffers are lent, or nobody has anything left.
    pub(super) fn read_some(&mut self, enough: usize, events: &mut Vec<Event>) {
        for _ in 0..TURNS_MAX {
            for _ in 0..self.receivers.queue.len() {
                if events.len() >= enough {
                    return;
                }
                if self.receivers.pool.home() == 0 {
                    self.counters.buffers_exhausted += 1;
                    return;
                }
                let Some(conn) = self.receivers.queue.pop_front() else { return };
                let Some(slot) = self.slots.open(conn) else { continue };
                slot.queued = false;
                if slot.receiving == Receiving::Armed {
                    self.read(conn, events);
                    self.queue_if_readable(conn);
                }
            }
        }
    }

    fn read(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let Some(slot) = self.slots.open(conn) else { return };
        let socket = slot.socket.as_ref().expect("an open connection has a socket");
        let pool = &mut self.receivers.pool;
        self.enters += 1;
        let read = pool.lend(|buffer| recv(socket, buffer, RecvFlags::empty()).map(|(len, _)| len));
        let inbound = match read {
            Ok(Some(lease)) => {
                if slot.readable == Readable::Yes && lease.len() < pool.size() {
                    slot.readable = Readable::Not;
                }
                Inbound::Bytes(lease)
            }
            Ok(None) => Inbound::End,
            Err(Errno::AGAIN) => {
                slot.readable = Readable::Not;
                return;
            }
            Err(Errno::INTR) => return,
            Err(Errno::NOMEM | Errno::NOBUFS) => {
                self.short_of_memory = true;
                return;
            }
            // Our own mistakes.
            Err(error @ (Errno::BADF | Errno::FAULT | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)) => {
                panic!("receive: {error}")
            }
            // ECONNRESET, ETIMEDOUT, EHOSTUNREACH and whatever else the network has: it will not come back.
            Err(_) => Inbound::Reset,
        };
        if matches!(inbound, Inbound::End | Inbound::Reset) {
            slot.receiving = Receiving::Ended;
        }
        events.push(Event::Received { conn, inbound });
    }
}
