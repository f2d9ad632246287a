//! The end of a connection, in stages: the last bytes go out, then our FIN, then whatever the peer still sends is
//! discarded until its own, then the driver closes. Closing at once would let a RST eat what the peer has not read yet
//! (RFC 9112 §9.6, RFC 6455 §7.1.1).

use moongate_io::{Chain, ConnId, SendFault};
use moongate_wire::{event, frame};

use crate::conn::{Mode, Place, Speaking};
use crate::core::{Core, Want};
use crate::counts::End;

/// How many bytes a peer may still send that was answered already; then it is cut off.
const LINGER_BYTES_MAX: u32 = 1 << 20;

impl Core {
    /// Lets what waits go out and nothing more, then ends.
    pub(crate) fn flush_and_end(&mut self, id: ConnId, peer_ended: bool) -> Mode {
        self.hub.outboxes.seal(id.slot());
        self.wheel.set(id.slot(), self.after(self.config.close_timeout));
        if self.hub.outboxes.is_idle(id.slot()) {
            return self.finish(id, peer_ended);
        }
        Mode::Flushing { peer_ended }
    }

    /// A send took `count` bytes, or none.
    pub(crate) fn sent(&mut self, id: ConnId, chain: Chain, outcome: Result<usize, SendFault>) {
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match outcome {
            _ if matches!(mode, Mode::Gone) => {
                self.hub.outboxes.failed(id.slot());
                mode
            }
            Ok(count) => {
                self.counts.bytes_out += count as u64;
                self.hub.outboxes.sent(id.slot(), chain, count);
                match mode {
                    // What went out makes room to go on; a topic's window opens when its home says so.
                    Mode::Speaking(speaking) if !matches!(speaking.place, Place::Topic { .. }) => {
                        return self.widen(id, speaking, 0);
                    }
                    mode => self.went(id, mode),
                }
            }
            Err(fault) => {
                self.hub.outboxes.failed(id.slot());
                self.unsendable(id, mode, fault)
            }
        };
        self.settle(id, mode);
    }

    fn went(&mut self, id: ConnId, mode: Mode) -> Mode {
        match mode {
            Mode::Flushing { peer_ended } if self.hub.outboxes.is_idle(id.slot()) => {
                self.finish(id, peer_ended)
            }
            Mode::Tunnel(tunnel) => self.tunnel_went(id, tunnel),
            Mode::Exchanging(exchanging) => self.answer_went(id, exchanging),
            Mode::Upstream { client } => {
                self.request_went(id, client);
                mode
            }
            Mode::Breaking if self.hub.outboxes.is_idle(id.slot()) => self.abort_now(id, mode),
            other => other,
        }
    }

    fn unsendable(&mut self, id: ConnId, mode: Mode, fault: SendFault) -> Mode {
        if let Mode::Upstream { client } = mode
            && self.may_still_answer(client)
        {
            self.hub.outboxes.seal(id.slot());
            return mode;
        }
        if let Mode::Speaking(_) | Mode::Streaming(_) | Mode::Joining(_) = mode {
            self.counts.ended(match fault {
                SendFault::TimedOut => End::TimedOut,
                SendFault::Gone | SendFault::Cancelled => End::Vanished,
            });
        }
        self.close_now(id, mode)
    }

    /// All has gone out: our FIN follows.
    fn finish(&mut self, id: ConnId, peer_ended: bool) -> Mode {
        if peer_ended {
            return self.close_now(id, Mode::Flushing { peer_ended });
        }
        self.wants.push(Want::Finish(id));
        self.wheel.set(id.slot(), self.after(self.config.close_timeout));
        Mode::Lingering { discarded: 0 }
    }

    /// Bytes from a peer that was answered already: they are no request (docs/protocol.md B30).
    pub(crate) fn discard(&mut self, id: ConnId, discarded: u32, count: usize) -> Mode {
        let discarded = discarded.saturating_add(count as u32);
        if discarded > LINGER_BYTES_MAX {
            return self.abort_now(id, Mode::Lingering { discarded });
        }
        Mode::Lingering { discarded }
    }

    /// The peer's FIN.
    pub(crate) fn peer_ended(&mut self, id: ConnId) {
        let Some(mut mode) = self.conns.take(id) else { return };
        let mode = match mode {
            // What it said before is still to be looked at: then it has ended.
            Mode::Speaking(Speaking { stalled: Some(ref mut stalled), .. }) => {
                stalled.peer_ended = true;
                mode
            }
            Mode::Flushing { .. } => Mode::Flushing { peer_ended: true },
            Mode::Ordering(mut ordering) => {
                ordering.peer_ended = true;
                Mode::Ordering(ordering)
            }
            Mode::Body(posting) => {
                let reason = moongate_wire::refusal::Reason::BodyIncomplete;
                ended_too(self.refuse_post(id, &posting.message, reason.into()), true)
            }
            // It has said what it came to say, and that is heard as soon as the 101 is out (B29).
            Mode::Joining(mut joining) if !joining.early.is_empty() => {
                joining.peer_ended = true;
                Mode::Joining(joining)
            }
            Mode::Speaking(_) | Mode::Streaming(_) => {
                // A FIN without Close is what RFC 6455 §7.1.5 calls 1006; event streams have no other end. It may have
                // closed its sending half only: what waits for it goes out.
                self.counts.ended(End::Vanished);
                self.leave_modes_topic(id, &mode);
                self.flush_and_end(id, true)
            }
            Mode::Joining(_) => {
                self.counts.ended(End::Vanished);
                self.close_now(id, mode)
            }
            Mode::Exchanging(exchanging) => self.asker_ended(id, exchanging),
            Mode::Upstream { client } => self.upstream_ended(id, client),
            Mode::Tunnel(tunnel) => self.tunnel_ended(id, tunnel),
            Mode::Breaking => mode,
            other => self.close_now(id, other),
        };
        self.settle(id, mode);
    }

    /// The connection is gone.
    pub(crate) fn reset(&mut self, id: ConnId) {
        let Some(mode) = self.conns.take(id) else { return };
        if let Mode::Speaking(_) | Mode::Streaming(_) | Mode::Joining(_) = mode {
            self.counts.ended(End::Vanished);
        }
        let mode = self.close_now(id, mode);
        self.settle(id, mode);
    }

    /// Sends a subscriber or a half-finished request away: with a Close if it speaks WebSocket.
    pub(crate) fn dismiss(&mut self, id: ConnId, end: End, code: u16, reason: &str) {
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match mode {
            Mode::Speaking(speaking) => {
                self.counts.ended(end);
                self.end_speaking(id, speaking, |out| frame::encode_close(code, reason, out))
            }
            Mode::Streaming(_) => {
                self.counts.ended(end);
                self.push(id, |_, out| event::end(reason, out));
                self.leave_modes_topic(id, &mode);
                self.flush_and_end(id, false)
            }
            other => other,
        };
        self.settle(id, mode);
    }

    /// A subscriber whose outbox is full under the policy `cut`: the message begun is finished, the rest forgotten.
    pub(crate) fn cut(&mut self, slot: u32) {
        let Some((id, mode)) = self.conns.at(slot) else { return };
        if mode.subscriptions().next().is_none() {
            return;
        }
        if let Mode::Joining(_) = mode {
            // Nothing of it has gone out, not even the 101.
            return self.end(id, End::Overload);
        }
        self.hub.outboxes.cut(slot);
        self.dismiss(id, End::Slow, 1013, "fell too far behind; connect again to go on with what is new");
    }

    /// Ends a connection without another word.
    pub(crate) fn end(&mut self, id: ConnId, end: End) {
        let Some(mode) = self.conns.take(id) else { return };
        self.counts.ended(end);
        let mode = self.abort_now(id, mode);
        self.settle(id, mode);
    }

    pub(crate) fn close_now(&mut self, id: ConnId, mode: Mode) -> Mode {
        self.part(id, &mode);
        self.close_quietly(id, mode)
    }

    pub(crate) fn abort_now(&mut self, id: ConnId, mode: Mode) -> Mode {
        self.part(id, &mode);
        self.abort_quietly(id, mode)
    }

    /// Closes, and whoever is at the other end of a tunnel is looked after by the caller.
    pub(crate) fn close_quietly(&mut self, id: ConnId, mode: Mode) -> Mode {
        self.forget(id, &mode);
        self.wants.push(Want::Close(id));
        Mode::Gone
    }

    /// Sends RST, likewise.
    pub(crate) fn abort_quietly(&mut self, id: ConnId, mode: Mode) -> Mode {
        self.forget(id, &mode);
        self.wants.push(Want::Abort(id));
        Mode::Gone
    }

    fn forget(&mut self, id: ConnId, mode: &Mode) {
        self.hub.outboxes.seal(id.slot());
        self.hub.outboxes.clear(id.slot());
        self.wheel.clear(id.slot());
        for subscription in mode.subscriptions() {
            self.leave_topic(subscription);
        }
    }

    /// Leaves its topics, and reads again if that was paused: the peer's FIN must be seen.
    pub(crate) fn leave_modes_topic(&mut self, id: ConnId, mode: &Mode) {
        for subscription in mode.subscriptions() {
            self.leave_topic(subscription);
        }
        if mode.is_paused() {
            self.wants.push(Want::Resume(id));
        }
    }

    /// The driver's last word: the slot is free.
    pub(crate) fn closed(&mut self, id: ConnId) {
        if self.conns.get(id).is_some() {
            self.hub.outboxes.failed(id.slot());
            self.wheel.clear(id.slot());
            self.conns.remove(id);
        }
    }
}

/// Carries it over to what follows that the peer has sent its FIN.
pub(crate) fn ended_too(mode: Mode, ended: bool) -> Mode {
    match mode {
        Mode::Flushing { peer_ended } => Mode::Flushing { peer_ended: peer_ended || ended },
        other => other,
    }
}
