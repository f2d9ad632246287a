//! Compressed messages: one inflater for the whole shard, and a budget for each tick.
//!
//! No context is carried from one message to the next, so the inflater serves whoever comes. A message that does not
//! come to its end within the tick's budget waits with its connection, and those that come after it wait behind it: the
//! inflater is in the middle of it. So a hundred bombs at once are one after the other, and in between the tick goes
//! round (docs/protocol.md G10, G11, K8).

use std::collections::VecDeque;

use moongate_hub::Kind;
use moongate_io::ConnId;
use moongate_wire::deflate::{Inflater, Progress};
use moongate_wire::frame::{Fault, code};
use moongate_wire::utf8::is_utf8;

use crate::conn::{Mode, Speaking};
use crate::core::Core;
use crate::counts::End;
use crate::speak::{Ended, Unwelcome};

/// How much is inflated in one tick: bytes made, with bytes read charged for as the inflater does.
const INFLATE_BUDGET: usize = 512 * 1024;

const NOT_TEXT: Unwelcome =
    Unwelcome { end: End::NotText, code: code::INVALID_DATA, reason: "text that is not UTF-8" };

/// The shard's inflater and who waits for it.
pub(crate) struct Inflation {
    /// Made for the first compressed message. Absent while a message of it is being acted on.
    inflater: Option<Box<Inflater>>,
    budget: usize,
    /// Who waits, first come first served; also some who have gone since.
    queue: VecDeque<ConnId>,
    /// Whose message the inflater is in the middle of: the queue's first, if anyone's.
    begun: Option<ConnId>,
    pub(crate) counts: InflateCounts,
}

/// What inflating came to.
#[derive(Copy, Clone, Default)]
pub(crate) struct InflateCounts {
    pub(crate) messages: u64,
    /// Of those messages, before and after.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Messages that waited for another tick.
    pub(crate) waited: u64,
    pub(crate) broken: u64,
    pub(crate) too_big: u64,
    pub(crate) not_text: u64,
}

impl Default for Inflation {
    fn default() -> Inflation {
        Inflation {
            inflater: None,
            budget: INFLATE_BUDGET,
            queue: VecDeque::new(),
            begun: None,
            counts: InflateCounts::default(),
        }
    }
}

impl Inflation {
    /// Begins a tick.
    pub(crate) fn begin(&mut self) {
        self.budget = INFLATE_BUDGET;
    }

    /// Bytes of memory held for a message that is being inflated. What the inflater keeps between messages is the
    /// shard's own: sending nobody away would free it.
    pub(crate) fn held(&self) -> u64 {
        let begun = self.inflater.as_ref().filter(|_| self.begun.is_some());
        begun.map_or(0, |inflater| inflater.held() as u64)
    }

    /// Whether nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// The first who waits does so no more.
    fn leave_queue(&mut self) {
        let first = self.queue.pop_front();
        self.begun.take_if(|begun| Some(*begun) == first);
    }

    /// Inflates `id`'s message as far as the budget goes. The inflater, with the message in it, if that was to its end;
    /// it has to be given back.
    fn go_on(&mut self, id: ConnId, payload: &[u8], max: usize) -> Result<Option<Box<Inflater>>, Unwelcome> {
        let mut inflater = self.inflater.take().unwrap_or_default();
        if self.begun != Some(id) {
            inflater.begin();
            self.begun = Some(id);
        }
        match inflater.go_on(payload, max, &mut self.budget) {
            Ok(Progress::Begun) => {
                self.inflater = Some(inflater);
                Ok(None)
            }
            Ok(Progress::Whole) => {
                self.begun = None;
                self.counts.messages += 1;
                self.counts.bytes_in += payload.len() as u64;
                self.counts.bytes_out += inflater.message().len() as u64;
                Ok(Some(inflater))
            }
            Err(fault) => {
                self.begun = None;
                self.inflater = Some(inflater);
                Err(self.refused(fault))
            }
        }
    }

    fn refused(&mut self, fault: Fault) -> Unwelcome {
        let end = if fault.code == code::TOO_BIG {
            self.counts.too_big += 1;
            End::TooBig
        } else {
            self.counts.broken += 1;
            End::NotDeflate
        };
        Unwelcome { end, code: fault.code, reason: fault.reason }
    }
}

impl Core {
    /// Inflates a message and acts on it, if its turn is now and the budget suffices; true if it did.
    pub(crate) fn inflate_now(
        &mut self,
        id: ConnId,
        speaking: &mut Speaking,
        (kind, payload): (Kind, &[u8]),
        echoes: &mut Vec<u8>,
    ) -> Result<bool, Ended> {
        if self.inflation.queue.is_empty() && self.inflate(id, speaking, (kind, payload), echoes)? {
            return Ok(true);
        }
        self.inflation.counts.waited += 1;
        self.inflation.queue.push_back(id);
        // Its turn may be over for this tick: frames are also read after it, when a window opens or a 101 goes out.
        self.busy = true;
        Ok(false)
    }

    fn inflate(
        &mut self,
        id: ConnId,
        speaking: &mut Speaking,
        (kind, payload): (Kind, &[u8]),
        echoes: &mut Vec<u8>,
    ) -> Result<bool, Ended> {
        let max = self.config.policy.message_bytes_max;
        let Some(inflater) = self.inflation.go_on(id, payload, max).map_err(Ended::Unwelcome)? else {
            return Ok(false);
        };
        let message = inflater.message();
        // F4: text is text once it is inflated.
        let said = if kind == Kind::Text && !is_utf8(message) {
            self.inflation.counts.not_text += 1;
            Err(NOT_TEXT)
        } else {
            self.said(id, speaking, kind, message, echoes)
        };
        self.inflation.inflater = Some(inflater);
        said.map(|()| true).map_err(Ended::Unwelcome)
    }

    /// The tick's share of inflating for those who wait.
    pub(crate) fn inflate_on(&mut self) {
        while self.inflation.budget > 0 {
            let Some(id) = self.inflation.queue.front().copied() else { break };
            if !self.conns.get(id).is_some_and(waits_to_inflate) {
                // It went, or was sent away, while it waited.
                self.inflation.leave_queue();
                continue;
            }
            let Some(mode) = self.conns.take(id) else { continue };
            let (mode, peer_ended) = self.inflate_stalled(id, mode);
            self.settle(id, mode);
            if peer_ended {
                self.peer_ended(id);
            }
        }
        if !self.inflation.queue.is_empty() {
            self.busy = true;
        } else if let Some(inflater) = &mut self.inflation.inflater {
            inflater.rest();
        }
    }

    /// Goes on with the message of the first who waits; once it is whole, with the frames that came after it, unless those
    /// have to wait for the window. Says whether the peer has ended and all that came before that was looked at.
    fn inflate_stalled(&mut self, id: ConnId, mode: Mode) -> (Mode, bool) {
        let Mode::Speaking(mut speaking) = mode else { return (mode, false) };
        let Some(mut stalled) = speaking.stalled.take() else { return (Mode::Speaking(speaking), false) };
        let mut echoes = std::mem::take(&mut self.scratch);
        let inflated = match &stalled.message {
            Some((kind, payload)) => self.inflate(id, &mut speaking, (*kind, payload), &mut echoes),
            None => Ok(true),
        };
        self.push_echoes(id, &mut echoes);
        self.scratch = echoes;
        let mode = match inflated {
            Ok(false) => {
                speaking.stalled = Some(stalled);
                return (Mode::Speaking(speaking), false);
            }
            Ok(true) => {
                self.inflation.leave_queue();
                if !stalled.rest.is_empty() && self.must_wait(id, &speaking) {
                    stalled.message = None;
                    speaking.stalled = Some(stalled);
                    return (Mode::Speaking(speaking), false);
                }
                self.read_frames(id, speaking, &mut stalled.rest)
            }
            Err(ended) => {
                self.inflation.leave_queue();
                self.end_conversation(id, speaking, ended)
            }
        };
        (self.read_again(id, mode), stalled.peer_ended)
    }
}

fn waits_to_inflate(mode: &Mode) -> bool {
    let Mode::Speaking(Speaking { stalled: Some(stalled), .. }) = mode else { return false };
    stalled.message.is_some()
}

#[cfg(test)]
mod tests {
    use moongate_wire::deflate::{Deflater, WINDOW_BITS_MAX};
    use moongate_wire::frame::{Opcode, encode_masked_compressed};

    use crate::stage::Stage;

    const JOIN: &str = "GET /topics/t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

    /// A frame of a client with a message of so many bytes, compressed.
    fn compressed(bytes: usize) -> Vec<u8> {
        let (mut payload, mut frame) = (Vec::new(), Vec::new());
        assert!(Deflater::default().deflate(&vec![0; bytes], WINDOW_BITS_MAX, &mut payload));
        encode_masked_compressed(Opcode::Binary, true, [0; 4], &payload, &mut frame);
        frame
    }

    /// K3, G10: two publishers wait for the inflater, and then for a listener who takes nothing. Of what each has sent, one
    /// message takes up the window; those behind it stay as they came.
    #[test]
    fn what_comes_behind_an_inflated_message_waits_for_the_window() {
        let mut stage = Stage::with("/topics/* topics", |config| {
            config.policy.may_publish = true;
            config.policy.message_bytes_max = 1 << 20;
            config.memory_bytes_max = 1 << 24;
            config.publish_window_bytes = 1000;
        });
        let plain = JOIN.replace("Sec-WebSocket-Extensions: permessage-deflate\r\n", "");
        let [listener, one, two] = [&plain, JOIN, JOIN].map(|head| {
            let client = stage.client();
            stage.says(client, head);
            client
        });
        stage.stall(listener);
        // It is behind now, so what follows has no place yet.
        stage.says(one, compressed(50_000));
        for client in [one, two] {
            let frames = [vec![compressed(600_000)], vec![compressed(2000); 5]].concat().concat();
            stage.says(client, frames);
        }
        let inflated = |stage: &mut Stage| stage.sample("moongate_compression_messages_total", &["inflate"]);
        assert_eq!(inflated(&mut stage), 3.0);
        assert_eq!(stage.sample("moongate_deferred_bytes", &[]), 1_200_000.0);
        assert!(stage.sample("moongate_inflate_waited_total", &[]) >= 2.0);
        stage.go_on(listener);
        assert_eq!(inflated(&mut stage), 13.0);
        assert_eq!(stage.sample("moongate_deferred_bytes", &[]), 0.0);
    }
}
