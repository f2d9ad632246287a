//! What is next to be told about a connection: bytes that came, a send that is done, its end.

use moongate_io::{Chain, ConnId, Event, Inbound, SendFault};

use super::{Flight, FlightState, Phase, Receiving, SimDriver, Writing};
use crate::net::{Due, End, WireId};

impl SimDriver {
    /// What is next to be told about a slot's tenant.
    pub(super) fn step(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        if self.slots[index].tenant.is_none() {
            return false;
        }
        // Either may come first, but a connection's last event comes last.
        let receives_first = self.rng.chance(50);
        (receives_first && self.receive(index, events))
            || self.complete(index, events)
            || (!receives_first && self.receive(index, events))
            || self.leave(index, events)
    }

    fn receive(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let Some(tenant) = &mut self.slots[index].tenant else { return false };
        let may = match (tenant.phase, tenant.receiving) {
            (Phase::Closing { leases, .. }, Receiving::Armed | Receiving::Pausing(_)) => leases > 0,
            (Phase::Open, Receiving::Armed) => true,
            (Phase::Open, Receiving::Pausing(left)) => left > 0,
            _ => false,
        };
        if !may {
            return false;
        }
        let open = tenant.phase == Phase::Open;
        let wire = tenant.wire;
        let (arrived, end) = {
            let net = self.net.borrow();
            (net.wires[wire].up.arrived.len(), net.wires[wire].up.end)
        };
        if arrived > 0 {
            return self.lend(index, wire, arrived, events);
        }
        let Some(end) = end.filter(|_| open) else { return false };
        let Some(tenant) = &mut self.slots[index].tenant else { return false };
        tenant.receiving = Receiving::Ended;
        let conn = ConnId::new(index as u32, self.slots[index].generation);
        let inbound = match end {
            End::Fin => Inbound::End,
            End::Reset => Inbound::Reset,
        };
        events.push(Event::Received { conn, inbound });
        true
    }

    fn lend(&mut self, index: usize, wire: WireId, arrived: usize, events: &mut Vec<Event>) -> bool {
        let Some(number) = self.buffers.next_free() else {
            self.counters.buffers_exhausted += 1;
            return false;
        };
        let most = arrived.min(self.plan.buffer_size);
        let count = if self.rng.chance(self.plan.split_reads) { self.rng.between(1, most) } else { most };
        let bytes = self.net.borrow_mut().wires[wire].up.read(count, self.now);
        let lease = self.buffers.lend(number, bytes);
        let slot = &mut self.slots[index];
        if let Some(tenant) = &mut slot.tenant {
            match (&mut tenant.phase, &mut tenant.receiving) {
                (Phase::Closing { leases, .. }, _) => *leases -= 1,
                (Phase::Open, Receiving::Pausing(left)) => *left -= 1,
                _ => {}
            }
        }
        let conn = ConnId::new(index as u32, slot.generation);
        events.push(Event::Received { conn, inbound: Inbound::Bytes(lease) });
        true
    }

    /// Moves the send in flight on, and tells its completion once that is due.
    fn complete(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let waiting = match self.slots[index].tenant.as_ref().and_then(|tenant| tenant.flight.as_ref()) {
            None => return false,
            Some(flight) => matches!(flight.state, FlightState::Waiting),
        };
        if waiting {
            self.take_bytes(index);
        }
        let slot = &mut self.slots[index];
        let Some(tenant) = &mut slot.tenant else { return false };
        let Some(FlightState::Done { outcome, at }) = tenant.flight.as_ref().map(|flight| flight.state)
        else {
            return false;
        };
        if at > self.now {
            return false;
        }
        let Some(Flight { chain, .. }) = tenant.flight.take() else { return false };
        let whole = outcome == Ok(chain.len());
        self.counters.sends_short += u64::from(outcome.is_ok() && !whole);
        if whole && tenant.writing == Writing::Ending {
            tenant.writing = Writing::Ended;
            self.net.borrow_mut().finish(tenant.wire);
        }
        let conn = ConnId::new(index as u32, slot.generation);
        events.push(Event::Sent { conn, chain, outcome });
        true
    }

    /// The kernel takes some of what a send carries, or says why it will take none.
    fn take_bytes(&mut self, index: usize) {
        let Some(tenant) = &self.slots[index].tenant else { return };
        let Some(flight) = &tenant.flight else { return };
        let (wire, since, len) = (tenant.wire, flight.since, flight.chain.len());
        let closing = tenant.phase != Phase::Open;
        let (room, dead, progress) = {
            let net = self.net.borrow();
            let entry = &net.wires[wire];
            (entry.room(), entry.is_dead(), entry.progress_at())
        };
        let patience = since.max(progress) + self.net.borrow().user_timeout;
        let outcome = if dead {
            Err(SendFault::Gone)
        } else if closing {
            Err(SendFault::Cancelled)
        } else if room > 0 {
            let most = len.min(room);
            let short = self.rng.chance(self.plan.short_sends);
            Ok(if short { self.rng.between(1, most) } else { most })
        } else if patience <= self.now {
            Err(SendFault::TimedOut)
        } else {
            self.net.borrow_mut().schedule(patience, Due::Wake);
            return;
        };
        let at = self.completion_at();
        let Some(flight) = self.slots[index].tenant.as_mut().and_then(|tenant| tenant.flight.as_mut()) else {
            return;
        };
        flight.state = FlightState::Done { outcome, at };
        if let Ok(count) = outcome {
            let bytes = first_bytes(&flight.chain, count);
            self.net.borrow_mut().carry(wire, bytes);
        }
    }

    /// Closes a closing connection once nothing is outstanding on it.
    fn leave(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let slot = &mut self.slots[index];
        let Some(tenant) = &slot.tenant else { return false };
        let Phase::Closing { at, reset, .. } = tenant.phase else { return false };
        if at > self.now || tenant.flight.is_some() {
            return false;
        }
        let mut net = self.net.borrow_mut();
        if reset {
            net.cut_off(tenant.wire)
        } else {
            net.hang_up(tenant.wire)
        }
        events.push(Event::Closed { conn: ConnId::new(index as u32, slot.generation) });
        slot.tenant = None;
        slot.generation += 1;
        true
    }
}

/// The first `count` bytes of a chain.
fn first_bytes(chain: &Chain, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    for segment in chain.segments() {
        let part = segment.as_slice();
        bytes.extend_from_slice(&part[..part.len().min(count - bytes.len())]);
    }
    bytes
}
