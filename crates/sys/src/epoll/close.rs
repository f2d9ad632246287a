//! A connection goes: its socket is closed at once, and its slot is free when that has been told.

use std::time::Duration;

use moongate_io::{ConnId, Event, SendFault};
use rustix::net::sockopt::set_socket_linger;

use super::Epoll;

impl Epoll {
    /// Closes. Nothing of it is with the kernel, so there is nothing to wait for (N3).
    pub(super) fn start_closing(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        // Takes it out of the epoll as well: no other descriptor leads to this socket.
        slot.socket = None;
        if let Some(place) = slot.send.take() {
            let chain = self.chains.remove(place);
            self.told.push_back(Event::Sent { conn, chain, outcome: Err(SendFault::Cancelled) });
        }
        self.told.push_back(Event::Closed { conn });
    }

    /// Closes with RST: that is what lingering for no time at all means (socket(7)).
    pub(super) fn reset(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.open(conn) else { return };
        let socket = slot.socket.as_ref().expect("an open connection has a socket");
        set_socket_linger(socket, Some(Duration::ZERO))
            .unwrap_or_else(|error| panic!("setting SO_LINGER: {error}"));
        self.start_closing(conn);
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
