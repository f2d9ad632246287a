//! How requests for upstreams and tunnels end, other than by themselves.
//!
//! Whoever goes takes the other along. A client that is still to be answered is told why; one that has been told
//! something already gets RST behind it, so that it cannot take what it has for the whole.

use std::time::Duration;

use moongate_io::ConnId;
use moongate_wire::refusal::{Reason, Refusal};

use super::{Connecting, Ending, Exchanging, Stage, Tunnel};
use crate::conn::Mode;
use crate::core::{Core, Want};
use crate::enter::Asked;
use crate::leave::ended_too;

impl Core {
    /// Answers the client with a refusal, and lets the upstream go.
    pub(super) fn fail(&mut self, client: ConnId, exchanging: Box<Exchanging>, refusal: Refusal) -> Mode {
        if let Stage::Answering { .. } = exchanging.stage {
            return self.break_exchange(client, &exchanging);
        }
        self.tunnels.refused(exchanging.exchange.route, refusal.reason);
        self.abandon(&exchanging);
        if exchanging.paused {
            self.wants.push(Want::Resume(client));
        }
        let refusal = refusal.head_only(exchanging.exchange.head_only());
        let mode = self.refuse(client, exchanging.peer, Asked::Path(&exchanging.target), refusal);
        ended_too(mode, exchanging.peer_ended)
    }

    /// The same for reasons of our own: time, memory, leaving.
    pub(crate) fn give_up(&mut self, client: ConnId, exchanging: Box<Exchanging>, reason: Reason) -> Mode {
        self.fail(client, exchanging, reason.into())
    }

    /// Ends an answer that is not complete and never will be.
    pub(crate) fn break_exchange(&mut self, client: ConnId, exchanging: &Exchanging) -> Mode {
        self.abandon(exchanging);
        self.break_off(client)
    }

    /// Lets go of the upstream, or of the attempt to connect to one.
    pub(crate) fn abandon(&mut self, exchanging: &Exchanging) {
        let Some(upstream) = exchanging.upstream() else {
            if let Stage::Connecting(Connecting { ticket: Some(ticket), .. }) = &exchanging.stage {
                self.wants.push(Want::CancelConnect(*ticket));
            }
            return;
        };
        // In the upstream's own turn it is not there, and whoever took it ends it.
        if let Some(mode) = self.conns.take(upstream) {
            let mode =
                if let Mode::Upstream { .. } = mode { self.abort_quietly(upstream, mode) } else { mode };
            self.settle(upstream, mode);
        }
    }

    /// The last bytes go out, then RST.
    fn break_off(&mut self, id: ConnId) -> Mode {
        self.hub.outboxes.seal(id.slot());
        if self.hub.outboxes.is_idle(id.slot()) {
            return self.abort_quietly(id, Mode::Breaking);
        }
        self.wheel.set(id.slot(), self.after(self.config.close_timeout));
        Mode::Breaking
    }

    /// One of a pair is gone or must go at once; the other follows. RST for RST: nobody may take what has come for the
    /// whole (docs/protocol.md H12).
    pub(crate) fn part(&mut self, id: ConnId, mode: &Mode) {
        match mode {
            Mode::Exchanging(exchanging) => self.abandon(exchanging),
            Mode::Upstream { client } => self.lose_upstream(*client, id),
            Mode::Tunnel(Tunnel { other, .. }) => {
                let Some(mode) = self.conns.take(*other) else { return };
                let mode = match mode {
                    Mode::Tunnel(end) => {
                        if end.paused {
                            self.wants.push(Want::Resume(*other));
                        }
                        self.break_off(*other)
                    }
                    other => other,
                };
                self.settle(*other, mode);
            }
            _ => {}
        }
    }

    /// The connection to the upstream is gone before the answer was complete.
    fn lose_upstream(&mut self, client: ConnId, upstream: ConnId) {
        let Some(mode) = self.conns.take(client) else { return };
        let mode = match mode {
            Mode::Exchanging(exchanging) if exchanging.upstream() == Some(upstream) => {
                self.fail(client, exchanging, Reason::UpstreamClosed.into())
            }
            other => other,
        };
        self.settle(client, mode);
    }

    /// An upstream that takes no more of a request may have answered it before, so its own end has the last word. One that
    /// was to switch, and did not take all of the head, cannot have.
    pub(crate) fn may_still_answer(&self, client: ConnId) -> bool {
        let Some(Mode::Exchanging(exchanging)) = self.conns.get(client) else { return false };
        !exchanging.exchange.is_upgrade()
    }

    /// Cuts off one end of a tunnel, or the connection to an upstream, and with it the other end.
    pub(crate) fn cut_off(&mut self, id: ConnId) {
        let Some(mode) = self.conns.take(id) else { return };
        let mode = self.abort_now(id, mode);
        self.settle(id, mode);
    }

    /// The upstream's FIN; returns what becomes of it.
    pub(crate) fn upstream_ended(&mut self, upstream: ConnId, client: ConnId) -> Mode {
        let Some(mode) = self.conns.take(client) else { return self.abort_quietly(upstream, Mode::Gone) };
        let (mode, next) = match mode {
            Mode::Exchanging(exchanging) => match exchanging.stage {
                Stage::Answering { .. } => self.answer_ended(client, &exchanging, upstream),
                Stage::Connecting(_) | Stage::Asking { .. } => {
                    let mode = self.fail(client, exchanging, Reason::UpstreamClosed.into());
                    (mode, self.close_quietly(upstream, Mode::Gone))
                }
            },
            other => (other, self.close_quietly(upstream, Mode::Gone)),
        };
        self.settle(client, mode);
        next
    }

    /// The client's FIN in an exchange. It may have closed its sending half only, so it is answered; but a body that was
    /// cut short is no request.
    pub(crate) fn asker_ended(&mut self, client: ConnId, mut exchanging: Box<Exchanging>) -> Mode {
        exchanging.peer_ended = true;
        if exchanging.exchange.is_upgrade() || exchanging.body.may_end() {
            return Mode::Exchanging(exchanging);
        }
        // Bytes that wait for the connection may be the rest of it.
        if let Stage::Connecting(_) = exchanging.stage
            && !exchanging.early.is_empty()
        {
            return Mode::Exchanging(exchanging);
        }
        self.fail(client, exchanging, Reason::BodyIncomplete.into())
    }

    /// What an exchange's timer means depends on how far it has come.
    pub(crate) fn exchange_timed_out(&mut self, client: ConnId, exchanging: Box<Exchanging>) -> Mode {
        match exchanging.stage {
            Stage::Connecting(_) => self.attempt_timed_out(client, exchanging),
            Stage::Asking { .. } => self.answer_timed_out(client, exchanging),
            Stage::Answering { .. } => self.break_exchange(client, &exchanging),
        }
    }

    /// An upstream has no time of its own but its client's; this only makes sure that there is one.
    pub(crate) fn look_after_upstream(&mut self, upstream: ConnId, client: ConnId) -> Mode {
        match self.conns.get(client) {
            Some(Mode::Exchanging(exchanging)) if exchanging.upstream() == Some(upstream) => {
                self.wheel.set(upstream.slot(), self.after(self.config.close_timeout));
                Mode::Upstream { client }
            }
            _ => self.abort_quietly(upstream, Mode::Gone),
        }
    }

    /// A tunnel's timer fired at one end. Bytes at either end count for both, and nothing for its lifetime
    /// (docs/protocol.md H17).
    pub(crate) fn look_after_tunnel(&mut self, id: ConnId, tunnel: Tunnel) -> Mode {
        let other = match self.conns.get(tunnel.other) {
            Some(Mode::Tunnel(other)) => other.moved_millis,
            _ => tunnel.moved_millis,
        };
        let now = self.now_millis();
        let since = |millis: u32| Duration::from_millis(now.wrapping_sub(millis).into());
        let limits = self.config.policy.routes.tunnel(tunnel.route);
        let left = limits.lifetime.map(|most| most.saturating_sub(since(tunnel.began_millis)));
        if left == Some(Duration::ZERO) {
            return self.end_tunnel(id, tunnel, Ending::Lifetime);
        }
        let idle = since(tunnel.moved_millis).min(since(other));
        let silent = limits.idle_timeout.saturating_sub(idle);
        if silent.is_zero() {
            return self.end_tunnel(id, tunnel, Ending::Idle);
        }
        self.wheel.set(id.slot(), self.after(left.map_or(silent, |left| left.min(silent))));
        Mode::Tunnel(tunnel)
    }

    /// Ends a tunnel for reasons of our own: what waits goes out, then FIN, at both ends.
    pub(crate) fn end_tunnel(&mut self, id: ConnId, tunnel: Tunnel, why: Ending) -> Mode {
        self.tunnels.ended(tunnel.route, why);
        if let Some(mode) = self.conns.take(tunnel.other) {
            let mode = match mode {
                Mode::Tunnel(other) => self.end_end(tunnel.other, &other),
                mode => mode,
            };
            self.settle(tunnel.other, mode);
        }
        self.end_end(id, &tunnel)
    }

    fn end_end(&mut self, id: ConnId, tunnel: &Tunnel) -> Mode {
        if tunnel.paused {
            self.wants.push(Want::Resume(id));
        }
        self.flush_and_end(id, tunnel.ended)
    }
}
