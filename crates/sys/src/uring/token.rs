//! What an operation carries through the kernel in its `user_data`: what it was, and for which tenant of which slot.

use io_uring::squeue::Entry;
use moongate_io::ConnId;

/// One past the greatest slot a token can carry.
pub(super) const SLOTS_MAX: u32 = 1 << 24;

/// What a completion is of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// An accept; the slot says which of the driver's accepts.
    Accept,
    /// Ending a listener's accepts.
    StopAccepts,
    /// Moving a socket into a slot; the connection named is the attempt's place, as in the next two.
    MoveIn,
    /// Connecting it.
    Connect,
    /// Ending that.
    CancelConnect,
    /// A receive, multishot or not.
    Receive,
    /// The one send in flight.
    Send,
    /// Sending FIN.
    Shutdown,
    /// Ending a receive.
    CancelReceive,
    /// Ending a send.
    CancelSend,
    /// Sending RST.
    Disconnect,
    /// Freeing the direct descriptor.
    Close,
    /// Reading the bell.
    Bell,
}

const OPERATIONS: [Operation; 13] = [
    Operation::Accept,
    Operation::StopAccepts,
    Operation::MoveIn,
    Operation::Connect,
    Operation::CancelConnect,
    Operation::Receive,
    Operation::Send,
    Operation::Shutdown,
    Operation::CancelReceive,
    Operation::CancelSend,
    Operation::Disconnect,
    Operation::Close,
    Operation::Bell,
];

/// An operation and the connection it belongs to (N2): 32 bits of generation, 24 of slot, 8 of operation.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub(super) operation: Operation,
    pub(super) conn: ConnId,
}

impl Token {
    pub(super) fn new(operation: Operation, conn: ConnId) -> Token {
        debug_assert!(conn.slot() < SLOTS_MAX);
        Token { operation, conn }
    }

    /// A token of something that is no connection's: `index` is what the operation needs to know.
    pub(super) fn own(operation: Operation, index: u32) -> Token {
        Token::new(operation, ConnId::new(index, 0))
    }

    pub(super) fn encode(self) -> u64 {
        u64::from(self.conn.generation()) << 32 | u64::from(self.conn.slot()) << 8 | self.operation as u64
    }

    pub(super) fn decode(user_data: u64) -> Token {
        let operation = OPERATIONS[(user_data & 0xff) as usize];
        let slot = (user_data >> 8) as u32 & (SLOTS_MAX - 1);
        Token { operation, conn: ConnId::new(slot, (user_data >> 32) as u32) }
    }

    pub(super) fn mark(self, entry: Entry) -> Entry {
        entry.user_data(self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n2_a_token_survives_the_trip() {
        for operation in OPERATIONS {
            for conn in [ConnId::new(0, 0), ConnId::new(SLOTS_MAX - 1, u32::MAX), ConnId::new(513, 70_000)] {
                let token = Token::new(operation, conn);
                assert_eq!(Token::decode(token.encode()), token);
            }
        }
    }
}
