//! A connection goes: it is shut down, which ends its operations, and closed when the last of them has completed (N1, N3).

use std::net::Shutdown;

use moongate_io::{ConnId, Event, Inbound};
use rustix::net::connect_unspec;

use super::Core;
use super::slots::{Held, Phase};

impl Core {
    /// Closes once what is under way has ended.
    pub(super) fn start_closing(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        slot.phase = Phase::Closing;
        if let Some(Held::Ready(Inbound::Bytes(lease))) = slot.held.take().map(|held| *held) {
            self.told.push_back(Event::Received { conn, inbound: Inbound::Bytes(lease) });
        }
        if let (true, Some(stream)) = (slot.reading || slot.sending, &slot.stream) {
            // ENOTCONN: it is gone already, and so are its operations.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.settle(conn);
    }

    /// Sends RST, which ends what is under way, then closes. connect(2) to no address: "the association is dissolved".
    pub(super) fn reset(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        let stream = slot.stream.as_ref().expect("an open connection has a stream");
        // It fails only where there is no connection any more, and on Unix sockets, which know no RST.
        let _ = connect_unspec(stream);
        self.start_closing(conn);
    }

    /// Closes the descriptor of a closing connection once nothing is under way.
    pub(super) fn settle(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else { return };
        if slot.phase != Phase::Closing || slot.reading || slot.sending {
            return;
        }
        slot.phase = Phase::Closed;
        // The operations had the only other references, and are gone.
        slot.stream = None;
        self.told.push_back(Event::Closed { conn });
    }

    /// Hands over what waits to be told, until there are `enough` events.
    pub(super) fn tell(&mut self, enough: usize, events: &mut Vec<Event>) {
        while events.len() < enough {
            let Some(event) = self.told.pop_front() else { return };
            if let Event::Closed { conn } = event {
                // Only now, so that nobody hears of the slot's next tenant before.
                self.slots.free(conn);
            }
            events.push(event);
        }
    }
}
