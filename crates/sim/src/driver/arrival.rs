//! How a driver comes by its connections: those that its listener accepts, and those that it makes itself.

use moongate_io::{ConnId, ConnectFault, Event, ListenerId, Remote, Ticket, Time};

use super::{Phase, Receiving, SimDriver, Slot, Tenant, Writing};
use crate::net::WireId;

/// A connection that is being made.
pub(super) struct Attempt {
    pub(super) ticket: Ticket,
    pub(super) remote: Remote,
    pub(super) at: Time,
    pub(super) outcome: Result<(), ConnectFault>,
    pub(super) cancelled: bool,
}

impl SimDriver {
    pub(super) fn accept(&mut self, events: &mut Vec<Event>) -> bool {
        if self.used() >= self.plan.slots as usize {
            return false;
        }
        let accepted = self.net.borrow_mut().accept(self.shard);
        let Some(wire) = accepted else { return false };
        let conn = self.move_in(wire);
        let peer = self.net.borrow().wires[wire].address;
        events.push(Event::Accepted { conn, listener: ListenerId(0), peer });
        true
    }

    fn move_in(&mut self, wire: WireId) -> ConnId {
        let free: Vec<usize> = (0..self.slots.len()).filter(|at| self.slots[*at].tenant.is_none()).collect();
        let index = if free.is_empty() { self.slots.len() } else { free[self.rng.below(free.len())] };
        if index == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let slot = &mut self.slots[index];
        slot.tenant = Some(Tenant {
            wire,
            receiving: Receiving::Idle,
            flight: None,
            writing: Writing::Open,
            phase: Phase::Open,
        });
        ConnId::new(index as u32, slot.generation)
    }

    /// Tells what has come of attempts, one at most.
    pub(super) fn tell_attempt(&mut self, events: &mut Vec<Event>) -> bool {
        let now = self.now;
        let Some(index) = self.attempts.iter().position(|attempt| attempt.at <= now) else { return false };
        let attempt = self.attempts.swap_remove(index);
        let outcome = match attempt.outcome {
            _ if attempt.cancelled => {
                // It may have been made meanwhile.
                if attempt.outcome.is_ok() && self.rng.chance(50) {
                    let wire = self.net.borrow_mut().meet(self.shard, &attempt.remote);
                    self.net.borrow_mut().hang_up(wire);
                }
                Err(ConnectFault::Cancelled)
            }
            Err(fault) => Err(fault),
            Ok(()) if self.used() >= self.plan.slots as usize => Err(ConnectFault::NoRoom),
            Ok(()) => {
                let wire = self.net.borrow_mut().meet(self.shard, &attempt.remote);
                Ok(self.move_in(wire))
            }
        };
        let failed = outcome.is_err_and(|fault| fault != ConnectFault::Cancelled);
        self.counters.connect_errors += u64::from(failed);
        events.push(Event::Connected { ticket: attempt.ticket, outcome });
        true
    }
}
