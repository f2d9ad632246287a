//! An ordinary answer of an upstream goes to the client, re-framed, and both connections end with it
//! (docs/protocol.md H3, H15).

use moongate_io::ConnId;

use super::{Exchanging, Stage};
use crate::conn::Mode;
use crate::core::{Core, Want};

impl Core {
    /// More of the body. Returns what becomes of client and upstream.
    pub(super) fn pass_answer(
        &mut self,
        client: ConnId,
        mut exchanging: Box<Exchanging>,
        upstream: ConnId,
        bytes: &[u8],
    ) -> (Mode, Mode) {
        let Stage::Answering { body, .. } = &mut exchanging.stage else {
            unreachable!("only an answer that has begun goes on")
        };
        let mut out = std::mem::take(&mut self.scratch);
        let relayed = body.relay(bytes, &mut out);
        self.push_to(client, &mut out);
        self.scratch = out;
        match relayed {
            Ok((_, true)) => {
                let mode = self.answered(client, &exchanging);
                (mode, self.close_now(upstream, Mode::Gone))
            }
            Ok((_, false)) => (self.go_on_answering(client, exchanging), Mode::Upstream { client }),
            // Its head has gone out: only an end without an end says that this is not the whole of it (RFC 9112 §8).
            Err(_) => {
                let mode = self.break_exchange(client, &exchanging);
                (mode, self.abort_now(upstream, Mode::Gone))
            }
        }
    }

    fn go_on_answering(&mut self, client: ConnId, mut exchanging: Box<Exchanging>) -> Mode {
        let pressed = self.is_pressed(client);
        let until = self.after(self.config.policy.routes.tunnel(exchanging.exchange.route).idle_timeout);
        if let Stage::Answering { upstream, paused, .. } = &mut exchanging.stage {
            self.wheel.set(client.slot(), until);
            self.wheel.set(upstream.slot(), until);
            if pressed && !*paused {
                *paused = true;
                self.counts.paused += 1;
                self.wants.push(Want::Pause(*upstream));
            }
        }
        Mode::Exchanging(exchanging)
    }

    /// The answer is complete: the client's FIN is all that is waited for.
    fn answered(&mut self, client: ConnId, exchanging: &Exchanging) -> Mode {
        self.counts.proxied += 1;
        if exchanging.paused {
            self.wants.push(Want::Resume(client));
        }
        self.flush_and_end(client, exchanging.peer_ended)
    }

    /// The upstream has sent its FIN; the client's mode is returned, and the upstream's.
    pub(super) fn answer_ended(
        &mut self,
        client: ConnId,
        exchanging: &Exchanging,
        upstream: ConnId,
    ) -> (Mode, Mode) {
        let Stage::Answering { body, .. } = &exchanging.stage else {
            unreachable!("only an answer that has begun ends")
        };
        if body.may_end() {
            let mode = self.answered(client, exchanging);
            return (mode, self.close_now(upstream, Mode::Gone));
        }
        let mode = self.break_exchange(client, exchanging);
        (mode, self.close_now(upstream, Mode::Gone))
    }

    /// Some of the answer has gone out: the upstream may say more.
    pub(crate) fn answer_went(&mut self, client: ConnId, mut exchanging: Box<Exchanging>) -> Mode {
        let relieved = self.is_relieved(client);
        if let Stage::Answering { upstream, paused, .. } = &mut exchanging.stage
            && *paused
            && relieved
        {
            *paused = false;
            self.wants.push(Want::Resume(*upstream));
        }
        Mode::Exchanging(exchanging)
    }

    /// Some of the request has gone out: its client may go on.
    pub(crate) fn request_went(&mut self, upstream: ConnId, client: ConnId) {
        if !self.is_relieved(upstream) {
            return;
        }
        let Some(mut mode) = self.conns.take(client) else { return };
        if let Mode::Exchanging(exchanging) = &mut mode
            && exchanging.paused
            && !exchanging.exchange.is_upgrade()
        {
            exchanging.paused = false;
            self.wants.push(Want::Resume(client));
        }
        self.settle(client, mode);
    }
}
