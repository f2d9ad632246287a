//! The table of connections: a few bytes for each, its socket among them.

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use moongate_io::ConnId;

/// A connection as the driver knows it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// None while there is no tenant, and from the moment that one is closed.
    pub(super) socket: Option<OwnedFd>,
    /// Which tenant of the slot this is, or will be the next.
    generation: u32,
    /// The send under way, as its place among the driver's chains.
    pub(super) send: Option<NonZeroU32>,
    pub(super) receiving: Receiving,
    pub(super) readable: Readable,
    pub(super) writing: Writing,
    /// Whether the connection stands in the queue of those to read from.
    pub(super) queued: bool,
}

/// Whether a connection is to be read from.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Receiving {
    /// It was never asked for.
    #[default]
    Idle,
    /// Yes, whenever there is something.
    Armed,
    /// Not now.
    Paused,
    /// Never again: FIN, RST or an error came.
    Ended,
}

/// What is known about a socket's receive queue. The kernel tells only when something arrives (`EPOLLET`), so this is
/// kept up to date by what reads bring.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Readable {
    /// It is empty.
    #[default]
    Not,
    /// It has something. A read that does not fill its buffer has emptied it (epoll(7), "Questions and answers", 9).
    Yes,
    /// It has something, and only a read that finds nothing has emptied it. Either an end, an error or urgent data is
    /// there besides, which no further event will tell of; or it is a Unix socket's, where a read ends early at bytes that
    /// were sent with descriptors or credentials (unix(7)).
    ToTheEnd,
}

/// Whether the connection can be written to, and whether its FIN has been asked for or sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Writing {
    #[default]
    Open,
    /// There is no connection yet.
    Connecting,
    /// FIN follows the send under way.
    Ending,
    /// FIN is out, or can never be sent.
    Ended,
}

/// All slots that were ever in use; the table grows with use.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Slots without a tenant; the one freed last is taken first.
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn used(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    /// Names a new tenant.
    pub(super) fn occupy(&mut self) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        ConnId::new(slot, self.slots[slot as usize].generation)
    }

    /// The connection, if it is not gone (N2).
    pub(super) fn get(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.slots.get_mut(conn.slot() as usize).filter(|slot| slot.generation == conn.generation())
    }

    /// The connection, if nobody has closed it yet.
    pub(super) fn open(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.get(conn).filter(|slot| slot.socket.is_some())
    }

    /// The connection is gone; its name is never given out again (until 2^32 tenants later).
    pub(super) fn free(&mut self, conn: ConnId) {
        let slot = self.get(conn).expect("who is freed was there");
        debug_assert!(slot.socket.is_none() && slot.send.is_none());
        *slot = Slot { generation: conn.generation().wrapping_add(1), ..Slot::default() };
        self.free.push(conn.slot());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_sixteen_bytes() {
        assert_eq!(size_of::<Slot>(), 16);
    }

    #[test]
    fn n2_the_next_tenant_has_another_name() {
        let mut slots = Slots::default();
        let (zero, one) = (slots.occupy(), slots.occupy());
        assert_eq!((zero.slot(), one.slot(), slots.used()), (0, 1, 2));
        slots.free(zero);
        assert!(slots.get(zero).is_none() && slots.get(one).is_some());
        let next = slots.occupy();
        assert_eq!((next.slot(), next.generation()), (0, 1));
        assert!(slots.get(zero).is_none() && slots.get(next).is_some());
        assert_eq!(slots.used(), 2);
    }
}
