//! Leaving without a thundering herd: for a while connections are still accepted while load balancers take note, then
//! listening stops, and everybody is sent away in random order, spread over the drain timeout.

use std::time::Duration;

use moongate_io::{ConnId, Time};
use moongate_wire::refusal::Reason;

use crate::conn::Mode;
use crate::core::{Core, Want};
use crate::counts::End;
use crate::enter::Asked;
use crate::tunnel::Ending;

/// How far leaving has come.
#[derive(Default)]
pub(crate) enum Drain {
    /// Not told to.
    #[default]
    No,
    /// Not ready any more, but still accepting until then.
    Announced { until: Time },
    /// Everybody is being sent away.
    Farewell { began: Time, span: Duration, order: Vec<ConnId>, next: usize },
    /// The last one is gone.
    Done,
}

/// How many connections one tick sends away at most.
const FAREWELL_BUDGET: usize = 512;

/// How often a shard looks whether it is time for the next ones to go.
const FAREWELL_EVERY: Duration = Duration::from_millis(10);

impl Drain {
    /// Whether readiness is gone.
    pub(crate) fn is_begun(&self) -> bool {
        !matches!(self, Drain::No)
    }

    /// Whether newcomers are refused.
    pub(crate) fn refuses(&self) -> bool {
        matches!(self, Drain::Farewell { .. } | Drain::Done)
    }
}

impl Core {
    pub(crate) fn begin_drain(&mut self) {
        if !self.drain.is_begun() {
            self.drain = Drain::Announced { until: self.after(self.config.drain_delay) };
            self.hub.announced(self.conns.len());
        }
    }

    /// Nobody is connected to any shard, so nobody needs the delay.
    pub(crate) fn leave_at_once(&mut self) {
        if let Drain::Announced { until } = &mut self.drain {
            *until = self.now;
        }
    }

    /// The tick's part in leaving; `random` draws numbers. Says when to look again.
    pub(crate) fn drain_on(&mut self, random: &mut dyn FnMut() -> u64) -> Option<Time> {
        match std::mem::take(&mut self.drain) {
            Drain::No => None,
            // Also without connections of its own: those who come must find every listener there.
            Drain::Announced { until } if until > self.now => {
                self.drain = Drain::Announced { until };
                Some(until)
            }
            Drain::Announced { .. } => {
                self.wants.push(Want::Unlisten);
                let order = shuffled(self.conns.iter().map(|(id, _)| id).collect(), random);
                // The last Close still gets its answer within the drain timeout.
                let drain_timeout = self.config.drain_timeout;
                let span = drain_timeout.saturating_sub(self.config.close_timeout).max(drain_timeout / 2);
                self.farewell(self.now, span, order, 0)
            }
            Drain::Farewell { began, span, order, next } => self.farewell(began, span, order, next),
            Drain::Done => {
                self.drain = Drain::Done;
                None
            }
        }
    }

    fn farewell(&mut self, began: Time, span: Duration, order: Vec<ConnId>, mut next: usize) -> Option<Time> {
        let passed = self.now.since(began);
        let due = if passed >= span {
            order.len()
        } else {
            (order.len() as u128 * passed.as_nanos()).div_ceil(span.as_nanos().max(1)) as usize
        };
        let upto = due.min(next + FAREWELL_BUDGET);
        while next < upto {
            self.send_away(order[next]);
            next += 1;
        }
        // What the listener had already taken comes in the next ticks, and is answered too.
        let empty = self.conns.len() == 0 && self.upstreams.connecting == 0;
        if empty && passed >= FAREWELL_EVERY {
            self.drain = Drain::Done;
            self.hub.drained();
            return None;
        }
        self.drain = Drain::Farewell { began, span, order, next };
        Some(self.after(FAREWELL_EVERY))
    }

    fn send_away(&mut self, id: ConnId) {
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match mode {
            Mode::Head(heading) => self.refuse(id, heading.peer, Asked::Unknown, Reason::Draining.into()),
            Mode::Joining(joining) => {
                self.hub.unsubscribe(joining.subscription);
                self.take_back_answer(id);
                self.refuse_joining(id, &joining, Reason::Draining)
            }
            Mode::Body(posting) => self.refuse_post(id, &posting.message, Reason::Draining.into()),
            Mode::Exchanging(exchanging) => self.give_up(id, exchanging, Reason::Draining),
            Mode::Tunnel(tunnel) => self.end_tunnel(id, tunnel, Ending::Drain),
            other => {
                self.settle(id, other);
                return self.dismiss(id, End::Drain, 1001, "the gateway is stopping; connect again");
            }
        };
        self.settle(id, mode);
    }
}

/// Fisher-Yates.
fn shuffled(mut order: Vec<ConnId>, random: &mut dyn FnMut() -> u64) -> Vec<ConnId> {
    for last in (1..order.len()).rev() {
        let other = (u128::from(random()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}
