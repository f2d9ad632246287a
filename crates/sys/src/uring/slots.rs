//! The table of connections: a few bytes for each, indexed by direct descriptor.

use std::num::NonZeroU32;

use moongate_io::ConnId;

/// A connection as the driver knows it. The kernel chooses the slot: it is the index of the direct descriptor.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Slot {
    /// Which tenant of the slot this is, or will be the next.
    pub(super) generation: u32,
    /// The send in flight, as its place among the driver's sends.
    pub(super) send: Option<NonZeroU32>,
    /// How many operations the kernel has whose terminal completion has not come.
    pub(super) operations: u8,
    pub(super) phase: Phase,
    pub(super) receiving: Receiving,
    pub(super) writing: Writing,
    /// Whether the connection stands in the queue of those that want to receive again.
    pub(super) queued: bool,
    /// Whether nobody above has been told of the connection, nor will be told of its end.
    pub(super) quiet: bool,
}

/// Where a slot's tenant is in its life.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    /// There is none.
    #[default]
    Free,
    /// It may receive and send.
    Open,
    /// It is to be closed as soon as its last operation has completed.
    Closing,
    /// Its direct descriptor is being closed.
    Leaving,
}

/// Whether a connection receives, and whether it should.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Receiving {
    /// It was never asked to.
    #[default]
    Idle,
    /// The kernel has a receive for it.
    Armed,
    /// It is to receive again as soon as there are buffers; it stands in the queue.
    Waiting,
    /// The kernel still has a receive for it, which is being cancelled.
    Pausing,
    /// As `Pausing`, but it is to receive again when that is done.
    Resuming,
    /// It could receive, but is not to.
    Paused,
    /// Nothing more will come: FIN, RST or an error came.
    Ended,
}

impl Receiving {
    /// Whether the kernel has a receive.
    pub(super) fn in_kernel(self) -> bool {
        matches!(self, Receiving::Armed | Receiving::Pausing | Receiving::Resuming)
    }
}

/// Whether the connection's FIN has been asked for or sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Writing {
    #[default]
    Open,
    /// FIN follows the send in flight.
    Ending,
    /// FIN is on its way or out, or can never be sent.
    Ended,
}

/// All slots that were ever in use; the table grows with use.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    used: u32,
}

impl Slots {
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// The kernel took `slot` for a connection: names its new tenant.
    pub(super) fn occupy(&mut self, slot: u32) -> ConnId {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        let entry = &mut self.slots[index];
        assert_eq!(entry.phase, Phase::Free, "the kernel gives out slots that are free");
        entry.phase = Phase::Open;
        self.used += 1;
        ConnId::new(slot, entry.generation)
    }

    /// The same for a tenant whom nobody above knows yet.
    pub(super) fn occupy_quietly(&mut self, slot: u32) -> ConnId {
        let conn = self.occupy(slot);
        self.slots[slot as usize].quiet = true;
        conn
    }

    /// The connection, if it is not gone (N2).
    pub(super) fn get(&mut self, conn: ConnId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.slot() as usize)?;
        (slot.generation == conn.generation() && slot.phase != Phase::Free).then_some(slot)
    }

    /// The connection, if nobody has closed it yet.
    pub(super) fn open(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.get(conn).filter(|slot| slot.phase == Phase::Open)
    }

    /// The connection is gone; its name is never given out again (until 2^32 tenants later).
    pub(super) fn free(&mut self, conn: ConnId) {
        let slot = self.get(conn).expect("who is freed was there");
        debug_assert!(slot.operations == 0 && slot.send.is_none());
        *slot = Slot { generation: conn.generation().wrapping_add(1), ..Slot::default() };
        self.used -= 1;
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
        let first = slots.occupy(3);
        slots.free(first);
        assert!(slots.get(first).is_none());
        let second = slots.occupy(3);
        assert_eq!((second.slot(), second.generation()), (3, 1));
        assert!(slots.get(first).is_none() && slots.open(second).is_some());
        assert_eq!(slots.used(), 1);
    }

    #[test]
    #[should_panic(expected = "slots that are free")]
    fn n12_a_slot_has_one_tenant() {
        let mut slots = Slots::default();
        slots.occupy(0);
        slots.occupy(0);
    }
}
