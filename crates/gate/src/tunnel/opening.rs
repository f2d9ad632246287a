//! A request for an upstream: what is kept of it, and the attempts to connect, one address after the other.
//!
//! All attempts together have the route's time, and each gets an even share of what is left of it, so that one address
//! from which nothing comes back does not use up the others' chance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::vec;

use moongate_io::{ConnId, ConnectFault, Remote, Ticket, Time};
use moongate_wire::head::{Head, Target};
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::upstream::Exchange;

use super::upstreams::{client_of, ticket};
use super::{Connecting, Exchanging, Stage};
use crate::conn::Mode;
use crate::core::{Core, Want};
use crate::enter::Asked;

impl Core {
    /// A request that an upstream is to answer. The head that goes there is written now, while the client's is at hand.
    pub(crate) fn open(
        &mut self,
        id: ConnId,
        peer: SocketAddr,
        exchange: Exchange,
        head: &Head<'_>,
        rest: &[u8],
    ) -> Mode {
        let routes = Arc::clone(&self.config.policy.routes);
        let tunnel = routes.tunnel(exchange.route);
        let refuse = |core: &mut Core, reason| {
            let refusal = Refusal::from(reason).head_only(exchange.head_only());
            core.tunnels.refused(exchange.route, reason);
            core.refuse(id, peer, Asked::For(head), refusal)
        };
        if self.conns.len() + self.upstreams.connecting >= self.config.connections_max as usize {
            return refuse(self, Reason::ConnectionsFull);
        }
        let mut others = self.upstreams.candidates(exchange.route, tunnel, self.now).into_iter();
        let Some(remote) = others.next() else { return refuse(self, Reason::UpstreamUnresolved) };

        let mut request = Vec::new();
        exchange.write_request(head, &routes, peer.ip(), &mut request);
        let target = match head.target {
            Target::Path { path, .. } => path.into(),
            Target::Asterisk => "*".into(),
        };
        let connecting = self.attempt(id, remote, others, self.now, self.after(tunnel.connect_timeout), 0);
        let exchanging = Exchanging {
            peer,
            target,
            body: exchange.request_body(),
            exchange,
            request,
            early: Vec::new(),
            paused: false,
            peer_ended: false,
            stage: Stage::Connecting(connecting),
        };
        self.read_ahead(id, Box::new(exchanging), rest)
    }

    fn attempt(
        &mut self,
        client: ConnId,
        remote: Remote,
        others: vec::IntoIter<Remote>,
        began: Time,
        until: Time,
        number: u8,
    ) -> Connecting {
        let ticket = ticket(client, number);
        let share = until.since(self.now) / (others.len() as u32 + 1);
        self.wheel.set(client.slot(), self.after(share));
        self.upstreams.connecting += 1;
        self.calls.push((ticket, remote.clone()));
        Connecting { ticket: Some(ticket), number, remote, others, began, until }
    }

    /// What came of an attempt. Its client may be gone, or have gone on to the next.
    pub(crate) fn connected(&mut self, ticket: Ticket, outcome: Result<ConnId, ConnectFault>) {
        self.upstreams.connecting -= 1;
        let client = client_of(ticket);
        let mode = match self.conns.take(client) {
            Some(Mode::Exchanging(exchanging)) if exchanging.awaits(ticket) => match outcome {
                Ok(upstream) => self.ask(client, exchanging, upstream),
                Err(fault) => self.try_next(client, exchanging, reason_of(fault)),
            },
            mode => {
                self.nobody_wants(outcome);
                let Some(mode) = mode else { return };
                mode
            }
        };
        self.settle(client, mode);
    }

    /// A connection that was made when its client had just gone.
    fn nobody_wants(&mut self, outcome: Result<ConnId, ConnectFault>) {
        if let Ok(upstream) = outcome {
            self.hub.outboxes.open(upstream.slot());
            self.conns.insert(upstream, Mode::Gone);
            self.wants.push(Want::Close(upstream));
        }
    }

    /// The attempt under way has had its share of the time.
    pub(super) fn attempt_timed_out(&mut self, client: ConnId, exchanging: Box<Exchanging>) -> Mode {
        self.abandon(&exchanging);
        self.try_next(client, exchanging, Reason::UpstreamConnectTimeout)
    }

    /// Tries the next address; without one, and without time, `reason` is the answer.
    fn try_next(&mut self, client: ConnId, mut exchanging: Box<Exchanging>, reason: Reason) -> Mode {
        let Stage::Connecting(last) = &mut exchanging.stage else {
            unreachable!("only who is connecting tries again")
        };
        last.ticket = None;
        if self.counts.may_log(self.now) {
            tracing::warn!(upstream = %last.remote, reason = reason.label(), "upstream not connected");
        }
        if reason != Reason::ConnectionsFull {
            self.upstreams.rest(last.remote.clone(), self.now);
        }
        let (began, until, number) = (last.began, last.until, last.number + 1);
        let mut others = std::mem::take(&mut last.others);
        match others.next().filter(|_| until > self.now) {
            Some(remote) => {
                let next = self.attempt(client, remote, others, began, until, number);
                exchanging.stage = Stage::Connecting(next);
                Mode::Exchanging(exchanging)
            }
            None => self.fail(client, exchanging, reason.into()),
        }
    }

    /// More of the client behind its head, before anything may go on: kept, and bounded (docs/protocol.md H2).
    pub(super) fn keep_early(&mut self, client: ConnId, exchanging: &mut Exchanging, bytes: &[u8]) {
        exchanging.early.extend_from_slice(bytes);
        if exchanging.early.len() > self.config.policy.head.head_bytes_max && !exchanging.paused {
            exchanging.paused = true;
            self.counts.paused += 1;
            self.wants.push(Want::Pause(client));
        }
    }
}

impl Exchanging {
    fn awaits(&self, ticket: Ticket) -> bool {
        matches!(&self.stage, Stage::Connecting(connecting) if connecting.ticket == Some(ticket))
    }
}

/// What a client is told about a connection that could not be made.
fn reason_of(fault: ConnectFault) -> Reason {
    match fault {
        ConnectFault::NoRoom => Reason::ConnectionsFull,
        ConnectFault::TimedOut => Reason::UpstreamConnectTimeout,
        ConnectFault::Refused
        | ConnectFault::Unreachable
        | ConnectFault::NotFound
        | ConnectFault::Denied
        | ConnectFault::Cancelled => Reason::UpstreamUnreachable,
    }
}
