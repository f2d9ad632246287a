//! A tunnel: bytes both ways, none altered, added, lost or out of order (docs/protocol.md H11).
//!
//! What comes in at one end stands in the other's outbox, in the buffer it came in where that is worth it, and goes out
//! with the tick's other sends. When too much stands there, the end it comes from is not read from (H13).

use moongate_io::{Bytes, ConnId, Driver, Lease};

use super::{Exchanging, Fin, Side, Tunnel};
use crate::conn::Mode;
use crate::core::{Core, Want};
use crate::shard::Shard;

/// From how many bytes on a lease is kept rather than copied: a copy of less costs less than a buffer that is missing.
const KEEP_BYTES_MIN: usize = 512;

impl Core {
    /// Both sides have switched. What the upstream said behind its head goes to the client (H10), and now what the client
    /// said behind its own goes to the upstream. Returns what becomes of client and upstream.
    pub(super) fn begin_tunnel(
        &mut self,
        client: ConnId,
        mut exchanging: Exchanging,
        upstream: ConnId,
        rest: &[u8],
    ) -> (Mode, Mode) {
        let route = exchanging.exchange.route;
        self.tunnels.opened(route);
        self.tunnels.moved(route, Side::Upstream, rest.len());
        self.tunnels.moved(route, Side::Client, exchanging.early.len());
        if !rest.is_empty() {
            self.hub.outboxes.push(client.slot(), Bytes::own(rest, &self.meter));
        }
        self.push_to(upstream, &mut exchanging.early);
        let limits = self.config.policy.routes.tunnel(route);
        let until =
            self.after(limits.lifetime.map_or(limits.idle_timeout, |most| most.min(limits.idle_timeout)));
        self.wheel.set(client.slot(), until);
        self.wheel.set(upstream.slot(), until);
        let now_millis = self.now_millis();
        // Paused for what came early, it is read again once that has gone out.
        let ours = Tunnel {
            other: upstream,
            route,
            side: Side::Client,
            paused: exchanging.paused,
            ended: exchanging.peer_ended,
            fin: Fin::No,
            began_millis: now_millis,
            moved_millis: now_millis,
        };
        // A client that had ended before goes on being told, as long as the upstream speaks.
        let fin = if ours.ended { self.pass_fin(upstream) } else { Fin::No };
        let theirs = Tunnel {
            other: client,
            route,
            side: Side::Upstream,
            paused: false,
            ended: false,
            fin,
            began_millis: now_millis,
            moved_millis: now_millis,
        };
        (Mode::Tunnel(ours), Mode::Tunnel(theirs))
    }

    /// How bytes at this end go to the other: kept in their buffer, if they are many and the other end keeps up.
    fn is_worth_keeping(&self, tunnel: &Tunnel, lease: &Lease) -> bool {
        let waiting = self.hub.outboxes.weight(tunnel.other.slot());
        lease.len() >= KEEP_BYTES_MIN && waiting <= self.config.tunnel_buffer_bytes_max / 2
    }

    fn carry(&mut self, id: ConnId, mut tunnel: Tunnel, bytes: Bytes) -> Mode {
        tunnel.moved_millis = self.now_millis();
        self.tunnels.moved(tunnel.route, tunnel.side, bytes.len());
        self.hub.outboxes.push(tunnel.other.slot(), bytes);
        if !tunnel.paused && self.is_pressed(tunnel.other) {
            tunnel.paused = true;
            self.counts.paused += 1;
            self.wants.push(Want::Pause(id));
        }
        Mode::Tunnel(tunnel)
    }

    /// Some of what waited for this end has gone out.
    pub(crate) fn tunnel_went(&mut self, id: ConnId, mut tunnel: Tunnel) -> Mode {
        tunnel.moved_millis = self.now_millis();
        if tunnel.fin == Fin::Due && self.hub.outboxes.is_idle(id.slot()) {
            tunnel.fin = self.pass_fin(id);
            return self.end_if_over(id, tunnel);
        }
        let other = tunnel.other;
        let waits = matches!(self.conns.get(other), Some(Mode::Tunnel(source)) if source.paused);
        if waits && self.is_relieved(id) {
            self.change(other, |source| source.paused = false);
            self.wants.push(Want::Resume(other));
        }
        Mode::Tunnel(tunnel)
    }

    /// This end has sent its FIN: the other gets one behind what waits for it, and may go on speaking (H12).
    pub(crate) fn tunnel_ended(&mut self, id: ConnId, mut tunnel: Tunnel) -> Mode {
        tunnel.ended = true;
        let fin = self.pass_fin(tunnel.other);
        self.change(tunnel.other, |other| other.fin = fin);
        self.end_if_over(id, tunnel)
    }

    /// FIN for `id`, at once or behind what waits for it.
    fn pass_fin(&mut self, id: ConnId) -> Fin {
        if !self.hub.outboxes.is_idle(id.slot()) {
            return Fin::Due;
        }
        self.wants.push(Want::Finish(id));
        Fin::Sent
    }

    /// Once each end has sent its FIN and got the other's, nothing can come any more.
    fn end_if_over(&mut self, id: ConnId, tunnel: Tunnel) -> Mode {
        let is_over = |end: &Tunnel| end.ended && end.fin == Fin::Sent;
        let other = tunnel.other;
        let over =
            is_over(&tunnel) && matches!(self.conns.get(other), Some(Mode::Tunnel(other)) if is_over(other));
        if !over {
            return Mode::Tunnel(tunnel);
        }
        if let Some(mode) = self.conns.take(other) {
            let mode = self.close_quietly(other, mode);
            self.settle(other, mode);
        }
        self.close_quietly(id, Mode::Tunnel(tunnel))
    }

    /// Changes the other end of a tunnel, which is there as long as this one is.
    pub(super) fn change(&mut self, id: ConnId, change: impl FnOnce(&mut Tunnel)) {
        let Some(mut mode) = self.conns.take(id) else { return };
        if let Mode::Tunnel(tunnel) = &mut mode {
            change(tunnel);
        }
        self.settle(id, mode);
    }
}

impl<D: Driver> Shard<D> {
    /// Bytes came in at one end of a tunnel.
    pub(crate) fn carry(&mut self, id: ConnId, tunnel: Tunnel, lease: Lease) {
        let kept = match self.core.is_worth_keeping(&tunnel, &lease) {
            true => self.driver.keep(lease),
            false => Err(lease),
        };
        let bytes = kept.unwrap_or_else(|mut lease| {
            let bytes = Bytes::own(&*self.driver.bytes(&mut lease), &self.core.meter);
            self.driver.release(lease);
            bytes
        });
        let mode = self.core.carry(id, tunnel, bytes);
        self.core.settle(id, mode);
    }
}
