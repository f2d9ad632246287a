//! The table of connections: where each is in its life, and what it has under way.

use std::rc::Rc;

use moongate_io::{ConnId, Inbound};

use super::stream::Stream;

/// A connection as the driver knows it.
#[derive(Default)]
pub(super) struct Slot {
    /// Shared with the operations under way, so that the descriptor stays open as long as those.
    pub(super) stream: Option<Rc<Stream>>,
    /// What has been read and could not be told yet.
    pub(super) held: Option<Box<Held>>,
    /// Which tenant of the slot this is, or will be the next.
    generation: u32,
    pub(super) phase: Phase,
    pub(super) receiving: Receiving,
    pub(super) writing: Writing,
    /// Whether a read is under way.
    pub(super) reading: bool,
    /// Whether a write is under way.
    pub(super) sending: bool,
    /// Whether the last read filled a whole buffer, so that the next one probably can too.
    pub(super) much: bool,
    /// Whether a read was told, instead of the write under way, that the peer has acknowledged nothing for too long.
    pub(super) timed_out: bool,
    /// Whether a read has found the connection dead: what it brought is told behind the write under way, which knows why.
    pub(super) dead: bool,
}

/// What a read brought.
pub(super) enum Held {
    /// Bytes in the scout's own little buffer, to be copied into one that can be lent.
    Scouted(Vec<u8>),
    /// Something that can be told.
    Ready(Inbound),
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
    /// It is closed, and that is about to be told.
    Closed,
}

/// Whether a connection is to be read from.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Receiving {
    /// It was never asked for.
    #[default]
    Idle,
    /// Yes, all the time.
    Armed,
    /// Not now. A read may be under way; what it brings is held.
    Paused,
    /// Never again: FIN, RST or an error was told.
    Ended,
}

/// Whether the connection's FIN has been asked for or sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Writing {
    #[default]
    Open,
    /// FIN follows the write under way.
    Ending,
    /// FIN is out, or can never be sent.
    Ended,
}

/// All slots that were ever in use; the table grows with use.
#[derive(Default)]
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
    pub(super) fn occupy(&mut self, stream: Stream) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.stream = Some(Rc::new(stream));
        entry.phase = Phase::Open;
        ConnId::new(slot, entry.generation)
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

    /// Everybody whom nobody has closed yet.
    pub(super) fn all_open(&self) -> Vec<ConnId> {
        let open = self.slots.iter().enumerate().filter(|(_, slot)| slot.phase == Phase::Open);
        open.map(|(index, slot)| ConnId::new(index as u32, slot.generation)).collect()
    }

    /// The connection is gone; its name is never given out again (until 2^32 tenants later).
    pub(super) fn free(&mut self, conn: ConnId) {
        let slot = self.get(conn).expect("who is freed was there");
        debug_assert!(slot.stream.is_none() && slot.held.is_none() && !slot.reading && !slot.sending);
        *slot = Slot { generation: conn.generation().wrapping_add(1), ..Slot::default() };
        self.free.push(conn.slot());
    }
}
