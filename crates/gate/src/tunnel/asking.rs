//! The request goes to an upstream, and the head of its answer comes back.
//!
//! Whatever the answer is, not one byte that a client sent behind its head has gone before it, unless it is the body of
//! an ordinary request (docs/protocol.md H1, H2). Heads are read where they came in; only an incomplete one is copied.

use std::sync::Arc;

use moongate_io::{Bytes, ConnId};
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::upstream::{AnswerScanner, BodyRelay, Verdict};

use super::{Exchanging, Stage};
use crate::conn::Mode;
use crate::core::{Core, Want};

/// What the heads of an upstream came to, as far as they are complete.
enum Heard<'b> {
    /// An interim answer or none: more must come. What there is of a head.
    Part(&'b [u8]),
    /// 101, and the first bytes behind it.
    Switched(&'b [u8]),
    /// An ordinary answer, and what has come of its body.
    Answer(BodyRelay, &'b [u8]),
}

impl Core {
    /// A connection is there: the head goes out on it, and of an ordinary request what has come of the body.
    pub(super) fn ask(&mut self, client: ConnId, mut exchanging: Box<Exchanging>, upstream: ConnId) -> Mode {
        let route = exchanging.exchange.route;
        if let Stage::Connecting(connecting) = &exchanging.stage {
            self.tunnels.connected(route, self.now.since(connecting.began));
        }
        self.hub.outboxes.open(upstream.slot());
        self.conns.insert(upstream, Mode::Upstream { client });
        self.wants.push(Want::Receive(upstream));
        self.await_answer(client, upstream, route);
        let request = std::mem::take(&mut exchanging.request);
        self.hub.outboxes.push(upstream.slot(), Bytes::own(request, &self.meter));
        exchanging.stage = Stage::Asking { upstream, scanner: AnswerScanner::default(), head: Vec::new() };
        if exchanging.exchange.is_upgrade() {
            return Mode::Exchanging(exchanging);
        }
        let early = std::mem::take(&mut exchanging.early);
        if exchanging.paused {
            exchanging.paused = false;
            self.wants.push(Want::Resume(client));
        }
        self.read_ahead(client, exchanging, &early)
    }

    /// The route's time for an answer begins again.
    fn await_answer(&mut self, client: ConnId, upstream: ConnId, route: u16) {
        let until = self.after(self.config.policy.routes.tunnel(route).answer_timeout);
        self.wheel.set(client.slot(), until);
        self.wheel.set(upstream.slot(), until);
    }

    /// The client goes on behind its head: with the body of its request, or too early with its new protocol.
    pub(crate) fn read_ahead(
        &mut self,
        client: ConnId,
        mut exchanging: Box<Exchanging>,
        bytes: &[u8],
    ) -> Mode {
        let upstream = match &exchanging.stage {
            _ if bytes.is_empty() => return Mode::Exchanging(exchanging),
            Stage::Asking { upstream, .. } | Stage::Answering { upstream, .. }
                if !exchanging.exchange.is_upgrade() =>
            {
                *upstream
            }
            // An answer that is no switch makes what came early nobody's (docs/protocol.md B30).
            Stage::Answering { .. } => return Mode::Exchanging(exchanging),
            Stage::Connecting(_) | Stage::Asking { .. } => {
                self.keep_early(client, &mut exchanging, bytes);
                return Mode::Exchanging(exchanging);
            }
        };
        let mut out = std::mem::take(&mut self.scratch);
        let relayed = exchanging.body.relay(bytes, &mut out);
        self.push_to(upstream, &mut out);
        self.scratch = out;
        if let Err(refusal) = relayed {
            return self.fail(client, exchanging, refusal);
        }
        if exchanging.peer_ended && !exchanging.body.may_end() {
            return self.fail(client, exchanging, Reason::BodyIncomplete.into());
        }
        if let Stage::Asking { .. } = exchanging.stage {
            self.await_answer(client, upstream, exchanging.exchange.route);
        }
        if !exchanging.paused && self.is_pressed(upstream) {
            exchanging.paused = true;
            self.counts.paused += 1;
            self.wants.push(Want::Pause(client));
        }
        Mode::Exchanging(exchanging)
    }

    /// An upstream says something; returns what becomes of it.
    pub(crate) fn upstream_said(&mut self, upstream: ConnId, client: ConnId, bytes: &mut [u8]) -> Mode {
        let Some(mode) = self.conns.take(client) else { return self.abort_now(upstream, Mode::Gone) };
        let (mode, next) = match mode {
            Mode::Exchanging(exchanging) => match exchanging.stage {
                Stage::Answering { .. } => self.pass_answer(client, exchanging, upstream, bytes),
                Stage::Asking { .. } | Stage::Connecting(_) => {
                    self.read_answer(client, exchanging, upstream, bytes)
                }
            },
            other => (other, self.abort_now(upstream, Mode::Gone)),
        };
        self.settle(client, mode);
        next
    }

    /// More of the upstream's heads. Returns what becomes of client and upstream.
    fn read_answer(
        &mut self,
        client: ConnId,
        mut exchanging: Box<Exchanging>,
        upstream: ConnId,
        bytes: &mut [u8],
    ) -> (Mode, Mode) {
        let mut kept = match &mut exchanging.stage {
            Stage::Asking { head, .. } => std::mem::take(head),
            Stage::Connecting(_) | Stage::Answering { .. } => Vec::new(),
        };
        let all = if kept.is_empty() {
            bytes
        } else {
            kept.extend_from_slice(bytes);
            &mut kept
        };
        let mut out = std::mem::take(&mut self.scratch);
        let heard = self.read_heads(&mut exchanging, all, &mut out);
        if heard.is_ok() {
            self.push_to(client, &mut out);
        }
        out.clear();
        self.scratch = out;
        match heard {
            Ok(Heard::Part(part)) => {
                if let Stage::Asking { head, .. } = &mut exchanging.stage {
                    *head = part.to_vec();
                }
                (Mode::Exchanging(exchanging), Mode::Upstream { client })
            }
            Ok(Heard::Switched(rest)) => self.begin_tunnel(client, *exchanging, upstream, rest),
            Ok(Heard::Answer(body, rest)) => {
                exchanging.early = Vec::new();
                exchanging.stage = Stage::Answering { upstream, body, paused: false };
                self.pass_answer(client, exchanging, upstream, rest)
            }
            Err(refusal) => {
                let mode = self.fail(client, exchanging, refusal);
                (mode, self.abort_now(upstream, Mode::Gone))
            }
        }
    }

    /// Reads complete heads up to one that is not interim. What the client is to be sent for them goes into `out`.
    fn read_heads<'b>(
        &self,
        exchanging: &mut Exchanging,
        bytes: &'b mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Heard<'b>, Refusal> {
        let Stage::Asking { scanner, .. } = &mut exchanging.stage else {
            unreachable!("an upstream that was not asked says nothing")
        };
        let routes = Arc::clone(&self.config.policy.routes);
        let mut rest = bytes;
        loop {
            if rest.is_empty() {
                return Ok(Heard::Part(rest));
            }
            let Some(end) = scanner.scan(rest, &self.config.policy.head)? else {
                return Ok(Heard::Part(rest));
            };
            let (head, more) = rest.split_at_mut(end);
            match exchanging.exchange.read_answer(head, &routes, &self.date, out)? {
                Verdict::Interim => *scanner = AnswerScanner::default(),
                Verdict::Switched => return Ok(Heard::Switched(more)),
                Verdict::Answer(body) => return Ok(Heard::Answer(body, more)),
            }
            rest = more;
        }
    }

    /// No answer has come in time.
    pub(crate) fn answer_timed_out(&mut self, client: ConnId, exchanging: Box<Exchanging>) -> Mode {
        self.fail(client, exchanging, Reason::UpstreamAnswerTimeout.into())
    }

    /// Pushes what stands in `out`, and empties it.
    pub(super) fn push_to(&mut self, id: ConnId, out: &mut Vec<u8>) {
        if !out.is_empty() {
            self.hub.outboxes.push(id.slot(), Bytes::own(&out[..], &self.meter));
            out.clear();
        }
    }

    /// Whether so much waits for `id` that who sends it is not to be read from.
    pub(super) fn is_pressed(&self, id: ConnId) -> bool {
        self.hub.outboxes.weight(id.slot()) > self.config.tunnel_buffer_bytes_max
    }

    /// Whether so little waits for `id` that who sends it may be read from again.
    pub(super) fn is_relieved(&self, id: ConnId) -> bool {
        self.hub.outboxes.weight(id.slot()) <= self.config.tunnel_buffer_bytes_max / 2
    }
}
