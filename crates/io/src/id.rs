//! Names for connections and listeners.

use std::fmt;

/// A connection: the slot it lives in and which tenant of that slot it is.
///
/// The driver hands out slots from zero upwards and raises the generation when a slot is freed, so that a completion
/// which comes late never reaches a slot's next tenant, and tables above can be indexed by the slot.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

impl ConnId {
    /// The `generation`th tenant of `slot`.
    pub const fn new(slot: u32, generation: u32) -> ConnId {
        ConnId { slot, generation }
    }

    /// The index of the connection's place in every table of its shard.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which tenant of the slot this is.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// A listener: its index among those the driver was built with.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ListenerId(pub u16);
