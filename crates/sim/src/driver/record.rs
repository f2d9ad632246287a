//! What a driver has told, for the trace of its world.

use moongate_io::{ConnId, Event, Inbound};

use super::SimDriver;

impl SimDriver {
    pub(super) fn trace(&mut self, events: &[Event]) {
        let mut net = self.net.borrow_mut();
        net.trace.tell_numbers(&[self.shard as u64, self.now.as_nanos(), events.len() as u64]);
        for event in events {
            let numbers = |kind: u64, conn: &ConnId, count: usize| {
                [kind, u64::from(conn.slot()), u64::from(conn.generation()), count as u64]
            };
            let numbers = match event {
                Event::Accepted { conn, .. } => numbers(1, conn, 0),
                Event::Received { conn, inbound: Inbound::Bytes(lease) } => numbers(2, conn, lease.len()),
                Event::Received { conn, inbound: Inbound::End } => numbers(3, conn, 0),
                Event::Received { conn, inbound: Inbound::Reset } => numbers(4, conn, 0),
                Event::Sent { conn, outcome: Ok(count), .. } => numbers(5, conn, *count),
                Event::Sent { conn, outcome: Err(fault), .. } => numbers(6, conn, *fault as usize),
                Event::Closed { conn } => numbers(7, conn, 0),
                Event::Bell => [8, 0, 0, 0],
                Event::Connected { ticket, outcome: Ok(conn) } => numbers(9, conn, ticket.0 as usize),
                Event::Connected { ticket, outcome: Err(fault) } => [10, ticket.0, *fault as u64, 0],
            };
            net.trace.tell_numbers(&numbers);
        }
    }
}
