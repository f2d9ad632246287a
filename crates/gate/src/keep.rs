//! What a shard does unasked: timers that fire, and memory that runs short.

use std::time::Duration;

use moongate_io::{ConnId, Time};
use moongate_wire::refusal::Reason;

use crate::conn::{Mode, Speaking};
use crate::core::Core;
use crate::counts::End;
use crate::enter::Asked;

/// How long sending one connection away is given to free memory, before the next one goes.
const EVICT_EVERY: Duration = Duration::from_millis(1);

impl Core {
    /// A connection's timer fired. Every mode but the last has one, and what it means depends on the mode alone.
    pub(crate) fn timer_fired(&mut self, slot: u32) {
        let Some((id, _)) = self.conns.at(slot) else { return };
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match mode {
            Mode::Head(heading) => self.refuse(id, heading.peer, Asked::Unknown, Reason::HeadTimeout.into()),
            Mode::Joining(joining) => {
                self.hub.unsubscribe(joining.subscription);
                self.take_back_answer(id);
                self.refuse_joining(id, &joining, Reason::Busy)
            }
            Mode::Body(posting) => self.refuse_post(id, &posting.message, Reason::BodyTimeout.into()),
            Mode::Ordering(ordering) => self.refuse_post(id, &ordering.message, Reason::NotOrdered.into()),
            Mode::Speaking(speaking) => self.look_after(id, speaking),
            Mode::Streaming(subscription) => {
                if self.hub.outboxes.is_idle(slot) {
                    self.push_fixed(id, self.heartbeat.clone());
                }
                self.wheel.set(slot, self.after(self.config.ping_interval));
                Mode::Streaming(subscription)
            }
            Mode::Exchanging(exchanging) => self.exchange_timed_out(id, exchanging),
            Mode::Upstream { client } => self.look_after_upstream(id, client),
            Mode::Tunnel(tunnel) => self.look_after_tunnel(id, tunnel),
            Mode::Flushing { .. } | Mode::Lingering { .. } | Mode::Breaking => {
                self.counts.close_timeouts += 1;
                self.abort_now(id, mode)
            }
            Mode::Gone | Mode::Vacant => mode,
        };
        self.settle(id, mode);
    }

    /// A WebSocket that was silent for an interval is asked; one that does not answer is gone.
    fn look_after(&mut self, id: ConnId, mut speaking: Speaking) -> Mode {
        let silent = u64::from(self.now_millis().wrapping_sub(speaking.heard_millis));
        let left = self.config.ping_interval.saturating_sub(Duration::from_millis(silent));
        let span = if speaking.paused {
            // We do not listen, so nothing can be expected of it.
            self.config.ping_interval
        } else if speaking.awaits_pong {
            self.counts.ended(End::Silent);
            return self.abort_now(id, Mode::Speaking(speaking));
        } else if left > Duration::ZERO {
            left
        } else {
            speaking.awaits_pong = true;
            self.push_fixed(id, self.ping.clone());
            self.config.pong_timeout
        };
        self.wheel.set(id.slot(), self.after(span));
        Mode::Speaking(speaking)
    }

    /// Bytes the shard answers for: what has not fully arrived or waits for its place, what is kept for who comes back, and
    /// live runs and answers, each counted once.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.conns.held()
            + self.inflation.held()
            + self.hub.deferred_bytes()
            + self.hub.history_bytes()
            + self.meter.get()
    }

    /// Whether memory is short even without what is kept for who comes back, which goes first.
    pub(crate) fn memory_is_full(&mut self) -> bool {
        let excess = self.memory_bytes().saturating_sub(self.config.memory_bytes_max);
        if excess > 0 && self.hub.history_bytes() > 0 {
            self.hub.shed_history(excess);
        }
        self.memory_bytes() > self.config.memory_bytes_max
    }

    /// Sends away whoever holds most, one at a time, while memory is short. Says when to look again.
    pub(crate) fn relieve_memory(&mut self) -> Option<Time> {
        if !self.memory_is_full() {
            return None;
        }
        if self.now >= self.evict_at {
            // What it held comes back when its send completes: the next one may not have to go.
            self.evict_at = self.after(EVICT_EVERY);
            self.evict_largest();
        }
        Some(self.evict_at)
    }

    fn evict_largest(&mut self) {
        let outboxes = &self.hub.outboxes;
        let holds = |(id, mode): (ConnId, &Mode)| Some((mode.held_with(outboxes.bytes(id.slot()))?, id));
        let largest = self.conns.iter().filter_map(holds).max().filter(|(bytes, _)| *bytes > 0);
        let Some((_, id)) = largest else { return };
        self.counts.memory_evictions += 1;
        match self.conns.get(id) {
            Some(Mode::Speaking(_) | Mode::Streaming(_)) => {
                self.hub.outboxes.cut(id.slot());
                self.dismiss(id, End::Overload, 1013, "the gateway is short of memory; connect again later");
            }
            Some(Mode::Head(_) | Mode::Body(_) | Mode::Joining(_) | Mode::Exchanging(_)) => {
                self.refuse_largest(id);
            }
            Some(Mode::Tunnel(_) | Mode::Upstream { .. }) => self.cut_off(id),
            _ => self.end(id, End::Overload),
        }
    }

    /// Answers a request that has not fully arrived (docs/protocol.md B25).
    fn refuse_largest(&mut self, id: ConnId) {
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match mode {
            Mode::Head(heading) => self.refuse(id, heading.peer, Asked::Unknown, Reason::MemoryFull.into()),
            Mode::Body(posting) => self.refuse_post(id, &posting.message, Reason::MemoryFull.into()),
            Mode::Joining(joining) => {
                self.hub.unsubscribe(joining.subscription);
                self.take_back_answer(id);
                self.refuse_joining(id, &joining, Reason::MemoryFull)
            }
            Mode::Exchanging(exchanging) => self.give_up(id, exchanging, Reason::MemoryFull),
            other => other,
        };
        self.settle(id, mode);
    }
}
